#!/bin/sh
# Runs the tests of a build folder and counts test cases. Usage: run-tests.sh <build folder> [ctest options].
# The last line is "N passed, N failed", with ", N skipped" when there are any; the status is 0 when none failed.
# A cmocka or TAP test case counts as one, a program that reports no cases (a shell check) as one, and one that dies or
# times out as one failed more.
set -eu

if [ $# -lt 1 ] || [ ! -f "$1/CTestTestfile.cmake" ]; then
    echo "usage: $0 <build folder> [ctest options]" >&2
    exit 2
fi
build=$1
shift
jobs=${CTEST_PARALLEL_LEVEL:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
outputs=$build/Testing/Temporary/LastTest.log # what each program wrote
summary=$build/Testing/Temporary/summary.log  # how each program ended
rm -f "$outputs" "$summary"

# hostile sizes are meant to be refused by the program, not by the sanitizer
ASAN_OPTIONS=allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
TSAN_OPTIONS=allocator_may_return_null=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}
export ASAN_OPTIONS TSAN_OPTIONS
unset CMOCKA_MESSAGE_OUTPUT CMOCKA_TEST_FILTER CMOCKA_XML_FILE || true

status=0
ctest --test-dir "$build" --output-on-failure --no-tests=error --parallel "$jobs" --output-log "$summary" "$@" ||
    status=$?
if [ ! -f "$outputs" ] || [ ! -f "$summary" ]; then
    echo "0 passed, 1 failed"
    exit 1
fi

awk -v status="$status" '
# the summary: " 3/20 Test  #7: test_file ....   Passed    0.02 sec", or "***Failed", "***Skipped", "***Not Run", ...
FNR == NR {
    if (/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /) {
        line = $0
        sub(/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /, "", line)
        split(line, word, " ")
        end[word[1]] = /\*\*\*(Skipped|Not Run \(Disabled\))/ ? "skipped" : / \.* +Passed / ? "passed" : "failed"
    }
    next
}
function close_block() {
    if (name != "" && cases == 0) {
        passed += end[name] == "passed"
        skipped += end[name] == "skipped"
        failed += end[name] == "failed"
    } else if (name != "" && end[name] == "failed" && bad_cases == 0)
        failed++ # no case failed, but the program died, leaked or ran out of time
    name = ""
}
# the outputs: one block a program, with "3/20 Testing: test_file" before it; cmocka repeats the names of failed and
# skipped cases after "n test(s)"
/^[0-9]+\/[0-9]+ Testing: / {
    close_block()
    name = $3
    cases = bad_cases = listing = 0
}
/^\[==========\]/ { listing = 0 }
/^\[  (FAILED |SKIPPED|PASSED )  ?\] [0-9]+ test\(s\)/ { listing = 1 }
/^\[ +OK \] / { passed++; cases++ }
/^\[  FAILED  \] / && !listing { failed++; cases++; bad_cases++ }
/^\[  SKIPPED \] / && !listing { skipped++; cases++ }
/^ok [0-9]+/ { if (/# *[Ss][Kk][Ii][Pp]/) skipped++; else passed++; cases++ }
/^not ok [0-9]+/ { failed++; cases++; bad_cases++ }
END {
    close_block()
    if (status != 0 && failed == 0)
        failed = 1
    printf "%d passed, %d failed", passed, failed
    if (skipped)
        printf ", %d skipped", skipped
    printf "\n"
    exit failed != 0
}' "$summary" "$outputs"
