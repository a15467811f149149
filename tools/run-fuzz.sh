#!/bin/sh
# Fuzzes every target for a while, or those that are named, as many at a time as there are processors.
# Usage: run-fuzz.sh <build folder> <seconds> [target...]
# FUZZ_SEED: the draw of inputs (0: another one each time). Corpora grow in <build folder>/corpus/<target>; an input
# that brings a target down stays in <build folder>/found/<target>-* (add it to fuzz/seeds/<target>/, where the tests
# run it). Prints a line a target: runs, runs a second, edges, size of the corpus, finds; the last line is "N passed, N
# failed", a target counting as one.
set -u

if [ $# -lt 2 ] || [ ! -d "$1" ]; then
    echo "usage: $0 <build folder> <seconds> [target...]" >&2
    exit 2
fi
build=$(cd "$1" && pwd) seconds=$2
shift 2
cd "$(dirname "$0")/.." || exit 2
# shellcheck disable=SC2046 # a list of words
[ $# -gt 0 ] || set -- $(find "$build" -maxdepth 1 -name 'fuzz_*' -type f -perm -u+x | sed 's/.*\/fuzz_//' | sort)
if [ $# -eq 0 ]; then
    echo "no fuzz targets in '$build'" >&2
    exit 2
fi
jobs=${FUZZ_JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
lines=$build/found/lines
mkdir -p "$build/found"
rm -rf "$lines"
mkdir "$lines"

# A folder of what a target begins with: its seeds, and for a codec the tests' images of that format.
seeds_of() {
    begin=$build/begin/$1
    rm -rf "$begin"
    mkdir -p "$begin"
    [ ! -d "fuzz/seeds/$1" ] || cp "fuzz/seeds/$1"/* "$begin"
    # shellcheck disable=SC2013 # one word a line
    for ending in $(sed -n "s/^CODEC(${1#image_}, \"[^\"]*\", \"\([^\"]*\)\")/\1/p" src/formats/image_codecs.def); do
        find tests/data/images -name "*.$ending" -size -32k -exec cp {} "$begin" \;
    done
}

# Fuzzes a target; what is to be printed of it goes into a file of `lines`.
fuzz() {
    target=$1
    seeds_of "$target"
    mkdir -p "$build/corpus/$target"
    case $target in image_*) more="-max_len=32768" ;; *) more="-max_len=4096 -dict=fuzz/json.dict" ;; esac
    log=$build/found/$target.log
    # shellcheck disable=SC2086 # a list of words
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 "$build/fuzz_$target" -seed="${FUZZ_SEED:-0}" \
        -max_total_time="$seconds" $more -timeout=20 -rss_limit_mb=4096 \
        -print_final_stats=1 -artifact_prefix="$build/found/$target-" "$build/corpus/$target" "$begin" >"$log" 2>&1
    status=$?
    number() { sed -n "s/^stat::$1: *//p" "$log"; }
    {
        printf '%-20s %12s %8s %8s %8s %6s\n' "$target" \
            "$(number number_of_executed_units)" "$(number average_exec_per_sec)" \
            "$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 | sed 's/cov: //')" \
            "$(find "$build/corpus/$target" -type f | wc -l)" \
            "$(find "$build/found" -name "$target-*" | wc -l)"
        [ $status -eq 0 ] || grep -a -m 3 -E 'ERROR|runtime error|fuzz_.*:[0-9]+:|SUMMARY' "$log" | sed 's/^/    /'
    } >"$lines/$target"
    cat "$lines/$target"
    [ $status -eq 0 ] || : >"$lines/$target.failed"
}

printf '%-20s %12s %8s %8s %8s %6s\n' target runs runs/s edges corpus finds
lane=0
while [ $lane -lt "$jobs" ]; do
    (
        number=0
        for target in "$@"; do
            [ $((number % jobs)) -ne $lane ] || fuzz "$target"
            number=$((number + 1))
        done
    ) &
    lane=$((lane + 1))
done
wait
passed=$(find "$lines" -type f | wc -l)
bad=$(find "$lines" -name '*.failed' | wc -l)
passed=$((passed - 2 * bad)) # a failed target has two files
echo "$passed passed, $(($# - passed)) failed"
[ "$passed" -eq $# ]
