#!/usr/bin/env bash
# Makes .venv with exactly the packages of requirements/dev.txt and this project in it. Installs uv into .tools if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "Python 3.10 or newer is needed; '$python' is $("$python" --version 2>&1 || echo absent). Set PYTHON=/path/to/python3." >&2
    exit 1
fi

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    uv=.tools/bin/uv
    if [ ! -x "$uv" ]; then
        echo "Installing uv into .tools"
        if ! "$python" -m venv .tools 2>/dev/null; then
            rm -rf .tools
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then # Debian keeps venv in a package of its own
                apt-get update -qq && apt-get install -y -qq python3-venv
                "$python" -m venv .tools
            else
                echo "'$python -m venv' does not work here. Install it (Debian: apt-get install python3-venv) or uv, then try again." >&2
                exit 1
            fi
        fi
        .tools/bin/pip install --quiet --require-hashes -r requirements/uv.txt
    fi
fi

export UV_PYTHON_DOWNLOADS=never
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
"$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements/dev.txt
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
touch .venv/.ready
echo "Environment ready: .venv ($(.venv/bin/python --version))"
