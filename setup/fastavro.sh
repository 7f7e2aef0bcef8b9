#!/bin/sh
# Fetches Python's fastavro into target/fastavro, once for each content of fastavro.txt and
# each Python. The tests read Avro with it.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
folder=${CARGO_TARGET_DIR:-$setup/../target}/fastavro
wanted=$(python3 --version && cat "$setup/fastavro.txt")

if [ "$(cat "$folder/.fetched" 2>/dev/null)" != "$wanted" ]; then
    echo "setup: fetching fastavro" >&2
    rm -rf "$folder"
    # Older releases of pip know no such option, and overlook the variable.
    export PIP_ROOT_USER_ACTION=ignore
    python3 -m pip install -q --no-cache-dir --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes \
        --target "$folder" -r "$setup/fastavro.txt"
    echo "$wanted" >"$folder/.fetched"
fi
