#!/usr/bin/env bash
# Makes .venv-providers: Airflow with the providers whose operators run dbt elsewhere, for tests/operators/test_producer_factories.py.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .tools/bin/uv)
export UV_PYTHON_DOWNLOADS=never
venv=.venv-providers
mkdir -p .work
exec 9>.work/providers.lock
flock 9 # of two test runs, one makes it
[ -x $venv/bin/python ] || "$uv" venv --quiet --python .venv/bin/python $venv
"$uv" pip sync --quiet --python $venv/bin/python --require-hashes requirements/providers.txt
"$uv" pip install --quiet --python $venv/bin/python --no-deps --no-build-isolation --editable .
