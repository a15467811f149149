#!/bin/sh
# Speed and memory beside PyTorch, in one run. Needs a Python with torch, timm and safetensors for the peer: PYTHON=/path/to/python make bench.
# Without it only Inlay is measured, and the output says so. QUICK=1: ViT-Ti/16 with 2 threads only.
set -eu
cd "$(dirname "$0")/.."
bench=build/release/bench_model
work=${BENCH_OUTPUT:-build/bench}
python=${PYTHON:-python3}
mkdir -p "$work"

echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, $(date -u +%Y-%m-%d)"
if ! "$python" -c 'import torch, timm, safetensors' 2>/dev/null; then
    echo "no peer: '$python' lacks torch, timm or safetensors (set PYTHON)"
    python=
    [ -f "$work/ti/model.safetensors" ] || { echo "no checkpoint to measure without it" >&2; exit 1; }
fi
for size in ti b; do
    [ "$size" = b ] && [ "${QUICK:-0}" = 1 ] && continue
    [ -f "$work/$size/model.safetensors" ] || "$python" bench/make_vit.py $size "$work/$size" || exit 1
    batch=32
    [ $size = b ] && batch=8
    for threads in 1 2; do
        [ $threads = 1 ] && [ "${QUICK:-0}" = 1 ] && continue
        for precision in f32 bf16; do
            echo "== ViT-$size/16"
            "$bench" "$work/$size" $threads $precision $batch
            if [ -n "$python" ]; then
                "$python" bench/torch_peer.py $size $threads $precision $batch fused
                "$python" bench/torch_peer.py $size $threads $precision $batch plain
            fi
        done
    done
done
