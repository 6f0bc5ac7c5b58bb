#!/usr/bin/env bash
# Pins the development environment, those of tests/dbt, tests/cosmos, tests/distributed, of the producers' providers, of Airflow 3.1 and 3.2 and of what checks
# terraform, builds packages and the documentation, and uv itself, for every Python that is supported, with hashes and without the registry's address.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .tools/bin/uv)
options=(--quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade)
"$uv" pip compile pyproject.toml --group dev "${options[@]}" -o requirements/dev.txt
"$uv" pip compile pyproject.toml --group providers "${options[@]}" -o requirements/providers.txt
"$uv" pip compile pyproject.toml --group distributed --constraint requirements/dev.txt "${options[@]}" -o requirements/distributed.txt
"$uv" pip compile pyproject.toml --group cosmos "${options[@]}" -o requirements/cosmos.txt
echo uv | "$uv" pip compile - "${options[@]}" -o requirements/uv.txt
echo checkov | "$uv" pip compile - "${options[@]}" -o requirements/checkov.txt
printf '%s\n' build twine | "$uv" pip compile - "${options[@]}" -o requirements/packaging.txt
printf '%s\n' sphinx myst-parser furo check-jsonschema | "$uv" pip compile - "${options[@]}" -o requirements/docs.txt
# Airflow 3.2.2's api-server does not start with pydantic 2.14 ("needs a discriminator field").
for minor in 1 2; do
    printf '%s\n' "apache-airflow==3.$minor.*" 'pydantic<2.14' 'dbt-core~=1.11.0' 'dbt-duckdb~=1.11.0' 'editables>=0.5' 'hatchling>=1.27' 'pytest>=8.4' 'pytest-timeout>=2.4' 's3fs>=2025.7' |
        "$uv" pip compile pyproject.toml - "${options[@]}" -o "requirements/airflow3$minor.txt"
done

# One environment per line of dbt-core with the adapters of that line, and what installs this project into it. DuckDB 2 came after them all.
for line in 1.8 1.9 1.10 1.11; do
    printf '%s\n' "dbt-core~=$line.0" "dbt-duckdb~=$line.0" "dbt-postgres~=$line.0" 'duckdb<2' 'editables>=0.5' 'hatchling>=1.27' |
        "$uv" pip compile pyproject.toml - "${options[@]}" -o "requirements/dbt-$line.txt"
done
# `make bench`: the same Airflow and dbt twice, with this project and with astronomer-cosmos.
both=('apache-airflow==3.3.2' asyncpg 'dbt-core~=1.11.0' 'dbt-postgres~=1.11.0' psycopg2-binary)
printf '%s\n' "${both[@]}" 'editables>=0.5' 'hatchling>=1.27' 'moto[server]>=5.2' requests 's3fs>=2025.7' |
    "$uv" pip compile pyproject.toml - "${options[@]}" -o requirements/bench.txt
printf '%s\n' "${both[@]}" astronomer-cosmos | "$uv" pip compile - "${options[@]}" -o requirements/bench-cosmos.txt
# dbt Fusion: the newest preview that has a wheel.
printf '%s\n' 'dbt==2.0.0rc196' | "$uv" pip compile - "${options[@]}" --only-binary :all: -o requirements/dbt-fusion.txt
