#!/bin/sh
# setup/maven.sh NAME [OPTION...]: fetches what setup/NAME.xml depends on into
# target/NAME/libs, once for each content of that file. Options are those of Maven.
# Maven's own cache stays in there and is removed: nothing lands in the home folder.
set -eu

setup=$(cd "$(dirname "$0")" && pwd)
name=$1
shift
folder=${CARGO_TARGET_DIR:-$setup/../target}/$name

if cmp -s "$setup/$name.xml" "$folder/fetched.xml"; then
    exit 0
fi
echo "setup: fetching $name" >&2
rm -rf "$folder"
mkdir -p "$folder"
# Without MAVEN_OPTS the JVM leaves a folder in /tmp.
export MAVEN_OPTS=-XX:-UsePerfData
if ! mvn -q -B -f "$setup/$name.xml" -Dmaven.repo.local="$folder/cache" \
    dependency:copy-dependencies -DoutputDirectory="$folder/libs" -DincludeScope=runtime "$@" >"$folder/log" 2>&1; then
    cat "$folder/log" >&2
    exit 1
fi
rm -rf "$folder/cache" "$folder/log"
cp "$setup/$name.xml" "$folder/fetched.xml"
