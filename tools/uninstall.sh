#!/bin/sh
# Removes what `make install` wrote. Usage: uninstall.sh <install_manifest.txt>; DESTDIR as it was for the installation.
set -eu

manifest=$1
if [ ! -f "$manifest" ]; then
    echo "$manifest does not exist: nothing was installed from here" >&2
    exit 1
fi
while IFS= read -r file || [ -n "$file" ]; do
    rm -fv "${DESTDIR:-}$file"
    case $file in # the header's folder is the project's own
    */include/inlay/*) rmdir "${DESTDIR:-}${file%/*}" 2>/dev/null || true ;;
    esac
done <"$manifest"
