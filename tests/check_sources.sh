#!/bin/sh
# What no source file may hold: unsafe string functions, output and exits in the library, marks of unfinished work, too
# many lines.
set -eu
cd "$(dirname "$0")/.."

bad=0

# refuse <what> <extended pattern> <file>...: complains about every matching line
refuse() {
    what=$1
    pattern=$2
    shift 2
    if found=$(grep -HnE "$pattern" "$@"); then
        echo "$what:" >&2
        echo "$found" >&2
        bad=1
    fi
}

not_word='(^|[^A-Za-z0-9_])'
sources=$(find src include tests bench fuzz -name '*.[ch]' -o -name '*.def' | sort)
product=$(find src include bench fuzz -name '*.[ch]' | sort)
command=$(find src/cli -name '*.c' | sort)
# the library, but for the one place that ends the process when there is no memory left for a name
library=$(find src include -name '*.[ch]' ! -path 'src/cli/*' ! -path src/base/arena.c | sort)

# shellcheck disable=SC2086 # lists of words: no file of the project has a space in its name
{
    refuse 'unsafe function' "$not_word(strcpy|strcat|v?sprintf|strtok|gets)[[:space:]]*\\(" $product
    refuse 'the library neither prints nor exits' \
        "$not_word(printf|vprintf|puts|putchar|perror|exit|_exit|_Exit|abort)[[:space:]]*\\(" $library
    refuse 'the library writes only to streams that it is given' "$not_word(stdout|stderr)([^A-Za-z0-9_]|\$)" $library
    refuse 'kernels run through compute_run' "$not_word(pool_run)[[:space:]]*\\(" src/kernels/isa/*.[ch]
    # shellcheck disable=SC2046
    refuse 'jansson is reached through base/json.h' '<jansson' $(find src -name '*.[ch]' ! -name json.h)
    refuse 'a name is printed through text_line' "$not_word(f?printf)[[:space:]]*\\(.*'%s'" $command
    refuse 'unfinished work' "$not_word(TO""DO|FIX""ME|XX""X)([^A-Za-z0-9_]|\$)" $sources
    refuse 'unfinished work' "^[[:space:]]*#[[:space:]]*if[[:space:]]+0([^-+*/.0-9A-Za-z_]|\$)" $sources
}
if [ "$(grep -cE 'abort\(\)|stderr' src/base/arena.c)" -ne 2 ]; then
    echo 'src/base/arena.c: only must() may print and abort' >&2
    bad=1
fi
for file in $sources; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt 800 ]; then
        echo "$file has $lines lines, at most 800 are allowed" >&2
        bad=1
    fi
done
exit $bad
