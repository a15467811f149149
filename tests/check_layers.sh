#!/bin/sh
# A folder of src/ includes only itself and those before it in this list.
set -eu
cd "$(dirname "$0")/.."

layers='base kernels graph formats backbones adapters data infer train compose run api cli'
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
exit $bad
