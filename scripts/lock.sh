#!/usr/bin/env bash
# Pins the development environment and uv itself, for every Python that is supported, with hashes and without the registry's address.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .tools/bin/uv)
options=(--quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --upgrade)
"$uv" pip compile pyproject.toml --group dev "${options[@]}" -o requirements/dev.txt
echo uv | "$uv" pip compile - "${options[@]}" -o requirements/uv.txt
