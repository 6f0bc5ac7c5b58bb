#!/usr/bin/env bash
# Makes the environments of `make bench`: .work/bench/own (this project, editable) and .work/bench/cosmos (astronomer-cosmos), each with the same
# Airflow, dbt and PostgreSQL drivers, of requirements/bench.txt and requirements/bench-cosmos.txt. One that is there already and fits is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
uv=$(command -v uv || echo .tools/bin/uv)
[ $# -gt 0 ] || set -- own cosmos

for name in "$@"; do
    requirements=requirements/bench.txt
    [ "$name" = own ] || requirements="requirements/bench-$name.txt"
    folder=".work/bench/$name"
    stamp=$(cat "$requirements" pyproject.toml scripts/bench_venvs.sh | sha256sum)
    [ "$(cat "$folder/.ready" 2>/dev/null)" != "$stamp" ] || continue
    echo "Making $folder"
    "$uv" venv --quiet --clear --python .venv/bin/python "$folder"
    "$uv" pip sync --quiet --compile-bytecode --python "$folder/bin/python" --require-hashes "$requirements"
    if [ "$name" = own ]; then
        "$uv" pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation --editable .
    fi
    echo "$stamp" >"$folder/.ready"
done
