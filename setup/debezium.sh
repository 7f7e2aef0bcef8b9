#!/bin/sh
# Fetches Debezium Server (781 MB) into target/debezium, once for each content of
# debezium.xml. Only the benches need it. It runs on Java 21 or later.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
debezium=${CARGO_TARGET_DIR:-$setup/../target}/debezium

if cmp -s "$setup/debezium.xml" "$debezium/fetched.xml"; then
    exit 0
fi
echo "setup: fetching Debezium Server" >&2
rm -rf "$debezium"
mkdir -p "$debezium"
# Without MAVEN_OPTS the JVM leaves a folder in /tmp.
export MAVEN_OPTS=-XX:-UsePerfData
if ! mvn -q -B -f "$setup/debezium.xml" -Dmaven.repo.local="$debezium/cache" \
    dependency:copy-dependencies -DoutputDirectory="$debezium/dist" -DincludeScope=runtime \
    -DexcludeTransitive=true >"$debezium/log" 2>&1; then
    cat "$debezium/log" >&2
    exit 1
fi
tar -xzf "$debezium"/dist/debezium-server-dist-*.tar.gz -C "$debezium"
rm -rf "$debezium/cache" "$debezium/dist" "$debezium/log"
cp "$setup/debezium.xml" "$debezium/fetched.xml"
