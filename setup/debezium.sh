#!/bin/sh
# Fetches Debezium Server (781 MB) into target/debezium, once for each content of
# debezium.xml. Only the benches need it. It runs on Java 21 or later.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
debezium=${CARGO_TARGET_DIR:-$setup/../target}/debezium

"$setup/maven.sh" debezium -DexcludeTransitive=true
# The archive goes only when all of it is unpacked.
if [ -d "$debezium/libs" ]; then
    tar -xzf "$debezium"/libs/debezium-server-dist-*.tar.gz -C "$debezium"
    mv "$debezium"/libs/avro-*.jar "$debezium/debezium-server/lib/"
    rm -rf "$debezium/libs"
fi
