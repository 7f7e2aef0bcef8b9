#!/bin/sh
# Fetches Apache Kafka into target/kafka, once for each content of kafka.xml.
# Maven's own cache stays in there and is removed: nothing lands in the home folder.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
kafka=${CARGO_TARGET_DIR:-$setup/../target}/kafka

if cmp -s "$setup/kafka.xml" "$kafka/fetched.xml"; then
    exit 0
fi
echo "setup: fetching Apache Kafka" >&2
rm -rf "$kafka"
mkdir -p "$kafka"
# Without MAVEN_OPTS the JVM leaves a folder in /tmp.
export MAVEN_OPTS=-XX:-UsePerfData
if ! mvn -q -B -f "$setup/kafka.xml" -Dmaven.repo.local="$kafka/cache" \
    dependency:copy-dependencies -DoutputDirectory="$kafka/libs" -DincludeScope=runtime >"$kafka/log" 2>&1; then
    cat "$kafka/log" >&2
    exit 1
fi
rm -rf "$kafka/cache" "$kafka/log"
cp "$setup/kafka.xml" "$kafka/fetched.xml"
