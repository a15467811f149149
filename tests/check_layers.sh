#!/bin/sh
# A folder of src/ includes only itself and those before it in this list. A private header, X_impl.h, is included in its
# own folder only, by sources and other private headers, and by tests and fuzz targets that look inside.
set -eu
cd "$(dirname "$0")/.."

layers='base kernels graph tasks formats backbones adapters data infer train compose run api cli'
bad=0

complain() {
    echo "$1" >&2
    bad=1
}

for folder in src/*/; do
    folder=${folder#src/}
    case " $layers " in
    *" ${folder%/} "*) ;;
    *) complain "src/$folder is not in the list of layers" ;;
    esac
done

allowed=
for layer in $layers; do
    allowed="$allowed $layer"
    [ -d "src/$layer" ] || continue
    lines=$(find "src/$layer" -name '*.[ch]' \
        -exec grep -Hn '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} + || true)
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        header=${line#*\"}
        header=${header%%\"*}
        case " $allowed inlay " in
        *" ${header%%/*} "*) ;;
        *) complain "${line%%:*}: src/$layer must not include \"$header\"" ;;
        esac
    done <<LINES
$lines
LINES
done

private=$(grep -rHnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*_impl\.h"' \
    src include bench examples tools || true)
while IFS= read -r line; do
    [ -n "$line" ] || continue
    file=${line%%:*}
    header=${line#*\"}
    header=${header%%\"*}
    case $file in
    src/"${header%/*}"/*_impl.h | src/"${header%/*}"/*.c) ;;
    *) complain "$file must not include \"$header\", which is private to src/${header%/*}" ;;
    esac
done <<LINES
$private
LINES
other=$(find src -name '*_internal.h' -o -name '*_private.h' -o -name '*_parts.h')
[ -z "$other" ] || complain "private headers are called X_impl.h: $other"
exit $bad
