#!/bin/sh
# The programs of examples/ are built against what an installation holds, by pkg-config and by find_package, and run:
# an adapter is trained with a stop in the middle and goes on, images are classified, two threads share a backbone.
# Usage: check_examples.sh LIBRARY
set -eu
cd "$(dirname "$0")/.."
build=$(dirname "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
backbone=$PWD/tests/data/oracle/vit

cmake --install "$build" --prefix "$folder/prefix" >"$folder/install.log"
config=$(find "$folder/prefix" -name inlayConfig.cmake)
library=$(dirname "$(find "$folder/prefix" -name libinlay.so)")
[ -n "$config" ]
[ -f "$library/pkgconfig/inlay.pc" ]
export LD_LIBRARY_PATH="$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PKG_CONFIG_PATH="$library/pkgconfig"
sanitizer=$(sed -n 's/^CMAKE_C_FLAGS_DEBUG:.*\(-fsanitize=[a-z,]*\).*/\1/p' "$build/CMakeCache.txt")
[ "$(sed -n 's/^CMAKE_BUILD_TYPE:[A-Z]*=//p' "$build/CMakeCache.txt")" = Debug ] || sanitizer=

picture() { # file, a number that decides it
    awk -v n="$2" 'BEGIN {
        printf "P2\n12 12\n255\n"
        for (i = 0; i < 144; i++) printf "%d ", (i * (n + 1) + n * 67) % 256
    }' >"$1"
}
for split in train val; do
    for class in 0 1 2; do
        mkdir -p "$folder/data/$split/class$class"
        for i in 1 2 3 4; do picture "$folder/data/$split/class$class/$i.pgm" "$class"; done
    done
done
image=$folder/data/val/class1/1.pgm

# shellcheck disable=SC2046,SC2086 # lists of words
for name in train_and_classify many_adapters; do
    [ "$(wc -l <"examples/$name.c")" -lt 100 ]
    ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror $sanitizer \
        "examples/$name.c" -o "$folder/$name" \
        $(pkg-config --define-prefix --cflags --libs inlay) -pthread
done
"$folder/train_and_classify" "$backbone" "$folder/data" "$folder/run" "$image" 4 >"$folder/answer.txt"
grep -q '% class' "$folder/answer.txt"
cp -r "$folder/run" "$folder/other"
"$folder/many_adapters" "$backbone" "$image" "$folder/run" "$folder/other" >"$folder/many.txt"
[ "$(grep -c ': class' "$folder/many.txt")" -eq 2 ]

# a run that is stopped goes on and ends with the same bits
timeout -s INT 0.3 \
    "$folder/train_and_classify" "$backbone" "$folder/data" "$folder/stopped" "$image" 4 >/dev/null 2>&1 || true
"$folder/train_and_classify" "$backbone" "$folder/data" "$folder/stopped" "$image" 4 >"$folder/again.txt"
cmp "$folder/run/adapter.safetensors" "$folder/stopped/adapter.safetensors"
cmp "$folder/answer.txt" "$folder/again.txt"

# what is wrong is said in one line, with a status
if "$folder/train_and_classify" /nowhere "$folder/data" "$folder/none" "$image" 1 2>"$folder/error.txt"; then exit 1; fi
grep -q /nowhere "$folder/error.txt"

command -v c++ >/dev/null 2>&1 || exit 0
mkdir "$folder/cpp"
cat >"$folder/cpp/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.20)
project(example CXX)
find_package(inlay REQUIRED)
add_executable(example $PWD/examples/train_and_classify.cpp)
target_compile_features(example PRIVATE cxx_std_11)
target_link_libraries(example PRIVATE inlay::inlay)
END
cmake -S "$folder/cpp" -B "$folder/cpp/build" -DCMAKE_PREFIX_PATH="$folder/prefix" \
    -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror $sanitizer" >"$folder/cpp.log"
cmake --build "$folder/cpp/build" >>"$folder/cpp.log"
"$folder/cpp/build/example" "$backbone" "$folder/data" "$folder/run" "$image" 4 >"$folder/cpp.txt" 2>"$folder/cpp.err"
cmp "$folder/answer.txt" "$folder/cpp.txt"
