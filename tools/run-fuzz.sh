#!/bin/sh
# Fuzzes every target for a while, or those that are named. Usage: run-fuzz.sh <build folder> <seconds> [target...]
# Corpora grow in <build folder>/corpus/<target>; an input that brings a target down stays in <build folder>/found/<target>-* (add it to fuzz/seeds/<target>/,
# where the tests run it). Prints a line a target: runs, edges, size of the corpus, finds; the last line is "N passed, N failed", a target counting as one.
set -u

if [ $# -lt 2 ] || [ ! -d "$1" ]; then
    echo "usage: $0 <build folder> <seconds> [target...]" >&2
    exit 2
fi
build=$1 seconds=$2
shift 2
cd "$(dirname "$0")/.." || exit 2
[ $# -gt 0 ] || set -- $(ls fuzz/fuzz_*.c | sed 's/.*fuzz_\(.*\)\.c/\1/')
mkdir -p "$build/found"
passed=0 failed=0
printf '%-20s %12s %8s %8s %6s\n' target runs edges corpus finds
for target in "$@"; do
    mkdir -p "$build/corpus/$target"
    seeds=fuzz/seeds/$target
    [ -d "$seeds" ] || seeds=tests/data/images
    log=$build/found/$target.log
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1 "$build/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=4096 \
        -dict=fuzz/json.dict -print_final_stats=1 -artifact_prefix="$build/found/$target-" "$build/corpus/$target" "$seeds" >"$log" 2>&1
    status=$?
    finds=$(find "$build/found" -name "$target-*" | wc -l)
    printf '%-20s %12s %8s %8s %6s\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | sed 's/cov: //')" "$(find "$build/corpus/$target" -type f | wc -l)" "$finds"
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        grep -m 3 -E 'ERROR|runtime error|fuzz_.*:[0-9]+:|SUMMARY' "$log" | sed 's/^/    /'
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
