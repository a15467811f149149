#!/bin/sh
# Measures Inlay beside its peers: bench/compare.py. Where there is no Python at all, the C programs alone, each of
# which prints a line of JSON.
# PYTHON: the Python that has the peers. DEBIAN_PYTHON: the one that has a second PyTorch, /usr/bin/python3; empty:
# none. QUICK=1: ViT-Ti/16 with two threads only.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
python=${PYTHON:-python3}
if command -v "$python" >/dev/null; then
    exec "$python" -B bench/compare.py "$build"
fi
echo "no '$python' (set PYTHON): Inlay alone, without a page" >&2
sizes='ti b'
counts='1 2'
if [ "${QUICK:-0}" = 1 ]; then
    sizes=ti
    counts=2
fi
for threads in $counts; do
    for precision in f32 bf16 int8; do
        "$build/bench_gemm" "$threads" $precision
    done
done
for size in $sizes; do
    folder=build/bench/$size
    batch=32
    [ "$size" = ti ] || batch=8
    [ -f "$folder/config.json" ] || "$build/make_vit" "$size" "$folder"
    for threads in $counts; do
        for precision in f32 bf16 int8; do
            echo "$size, batch $batch, $threads threads, $precision"
            "$build/inlay" bench --backbone "$folder" --threads "$threads" --precision $precision \
                --batch-size "$batch" --json --quiet
        done
    done
done
