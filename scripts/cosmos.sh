#!/usr/bin/env bash
# Makes .venv-cosmos: Airflow with a released astronomer-cosmos, for tests/cosmos.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .tools/bin/uv)
export UV_PYTHON_DOWNLOADS=never
venv=.venv-cosmos
mkdir -p .work
exec 9>.work/cosmos.lock
flock 9 # of two test runs, one makes it
[ -x $venv/bin/python ] || "$uv" venv --quiet --python .venv/bin/python $venv
"$uv" pip sync --quiet --python $venv/bin/python --require-hashes requirements/cosmos.txt
"$uv" pip install --quiet --python $venv/bin/python --no-deps --no-build-isolation --editable .
