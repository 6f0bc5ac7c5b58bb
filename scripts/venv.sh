#!/usr/bin/env bash
# Makes .venv-NAME with exactly the packages of requirements/NAME.txt and, where those have what builds it, this project, editable. NAME: providers
# (Airflow with the providers whose operators run dbt elsewhere, for tests/operators/test_producer_factories.py), distributed (Airflow on Celery, for
# make test-distributed), cosmos (Airflow with a released astronomer-cosmos, for make test-cosmos), airflow31 and airflow32 (for make test-airflow31 and test-airflow32) or, without this
# project, checkov (for make test-deploy), packaging (for make test-packaging) and docs (for make docs).
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
uv=$(command -v uv || echo .tools/bin/uv)
export UV_PYTHON_DOWNLOADS=never
venv=.venv-$name
mkdir -p .work
exec 9>".work/$name.lock"
flock 9 # of two test runs, one makes it
[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python .venv/bin/python "$venv"
"$uv" pip sync --quiet --python "$venv/bin/python" --require-hashes "requirements/$name.txt"
grep -q '^hatchling==' "requirements/$name.txt" || exit 0
"$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
