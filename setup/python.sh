#!/bin/sh
# Fetches a Python package that the tests read with into target/NAME, once for each content of
# NAME.txt and each Python.
set -eu

name=$1
setup=$(cd "$(dirname "$0")" && pwd)
folder=${CARGO_TARGET_DIR:-$setup/../target}/$name
wanted=$(python3 --version && cat "$setup/$name.txt")

if [ "$(cat "$folder/.fetched" 2>/dev/null)" != "$wanted" ]; then
    echo "setup: fetching $name" >&2
    rm -rf "$folder"
    # Older releases of pip know no such option, and overlook the variable.
    export PIP_ROOT_USER_ACTION=ignore
    python3 -m pip install -q --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes \
        --target "$folder" -r "$setup/$name.txt"
    echo "$wanted" >"$folder/.fetched"
fi
