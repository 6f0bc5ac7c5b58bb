#!/usr/bin/env bash
# Makes .work/dbt/VERSION for each VERSION (1.8 1.9 1.10 1.11 fusion; default: all), with exactly the packages of requirements/dbt-VERSION.txt.
# One of dbt-core has this project in it, editable; fusion has the library of DuckDB that it loads in its lib/. One that is there already and
# fits its requirements is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
export UV_PYTHON_DOWNLOADS=never
uv=$(command -v uv || echo .tools/bin/uv)
python=.venv/bin/python
[ $# -gt 0 ] || set -- 1.8 1.9 1.10 1.11 fusion

duckdb_library() { # FOLDER: the one that npm's package of DuckDB ships
    command -v npm >/dev/null || scripts/system.sh npm
    local packages="$1/npm"
    mkdir -p "$packages" "$1/lib"
    cp requirements/dbt-fusion/{package.json,package-lock.json,.npmrc} "$packages/"
    (cd "$packages" && npm ci --silent --ignore-scripts --no-audit --no-fund)
    ln -sf "$PWD/$packages/node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so" "$1/lib/libduckdb.so"
}

for version in "$@"; do
    requirements="requirements/dbt-$version.txt"
    folder=".work/dbt/$version"
    if [ ! -f "$requirements" ]; then
        echo "There is no $requirements; the versions are: $(cd requirements && echo dbt-*.txt | sed 's/dbt-//g; s/\.txt//g')" >&2
        exit 1
    fi
    stamp=$(cat "$requirements" requirements/dbt-fusion/package-lock.json pyproject.toml scripts/dbt_venvs.sh | sha256sum)
    [ "$(cat "$folder/.ready" 2>/dev/null)" != "$stamp" ] || continue
    echo "Making $folder"
    "$uv" venv --quiet --clear --python "$python" "$folder"
    "$uv" pip sync --quiet --compile-bytecode --python "$folder/bin/python" --require-hashes "$requirements"
    if [ "$version" = fusion ]; then
        duckdb_library "$folder"
    else
        "$uv" pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation --editable .
    fi
    echo "$stamp" >"$folder/.ready"
done
