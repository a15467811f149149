#!/bin/sh
# Runs clang-tidy over every C file of src/, as many at a time as there are processors.
# Usage: run-tidy.sh <build folder with a compile database>
# Prints what it finds; the last line is "N passed, N failed", a file counting as one.
set -eu

if [ $# -ne 1 ] || [ ! -f "$1/compile_commands.json" ]; then
    echo "usage: $0 <build folder with a compile database>" >&2
    exit 2
fi
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
bad=$(mktemp)
trap 'rm -f "$bad"' EXIT

# clang-tidy guesses how to compile what the database does not know
# overlays and tiles are for processors; the portable kernels, whose files they compile again, are looked at
files=$(find src -name '*.c' ! -path 'src/kernels/overlays/*' ! -path 'src/kernels/tiles/*' | sort)
for file in $files; do
    if ! grep -qF "\"file\": \"$PWD/$file\"" "$build/compile_commands.json"; then
        echo "$file is not in $build/compile_commands.json"
        echo "$file" >>"$bad"
    fi
done
# shellcheck disable=SC2016 # the inner shell's variables
printf '%s\n' "$files" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 1 sh -c '
    said=$(clang-tidy --quiet -p "$1" "$3" 2>&1) && exit
    printf "%s\n" "$said"
    echo "$3" >>"$2"' tidy "$build" "$bad"
count=$(printf '%s\n' "$files" | wc -l)
failed=$(sort -u "$bad" | wc -l)
echo "$((count - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
