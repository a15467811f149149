#!/bin/sh
# The main job, shown to someone who has nothing: the project's own small ViT (pre-trained by inlay on pictures of
# clothes) learns to read handwritten digits from 20 examples of each. Prints Adapter+ beside the linear probe and full
# fine-tuning.
#
#   make demo                                   the embedded backbone and the digits of Debian's python3-sklearn
#   make demo BACKBONE=DIR DATA=DIR             another checkpoint and image folder (train, val, test)
set -eu
cd "$(dirname "$0")/.."
inlay=build/release/inlay
work=${DEMO_OUTPUT:-build/demo}
backbone=${BACKBONE:-demo/backbone}
data=${DATA:-}
assets=../shared/assets

# Handwritten digits, 8x8 grey (E. Alpaydin, C. Kaynak, UCI 1998), from the Debian package's archive: nothing is
# installed.
fetch_digits() {
    [ -f "$work/digits.complete" ] && return
    rm -rf "$work/digits"
    mkdir -p "$work/deb"
    if ! ls "$work"/deb/python3-sklearn_*.deb >/dev/null 2>&1; then
        (cd "$work/deb" && apt-get download python3-sklearn >/dev/null 2>&1) || {
            echo "demo: 'apt-get download python3-sklearn' failed; the digits come from that package" \
                "('apt-get update' may be needed)" >&2
            exit 1
        }
    fi
    for split in train test; do
        for digit in 0 1 2 3 4 5 6 7 8 9; do mkdir -p "$work/digits/$split/$digit"; done
    done
    dpkg-deb --fsys-tarfile "$work"/deb/python3-sklearn_*.deb |
        tar xO ./usr/lib/python3/dist-packages/sklearn/datasets/data/digits.csv.gz | gzip -dc |
        awk -F, -v folder="$work/digits" '
            { label = $65 + 0; split_ = ++seen[label] <= 20 ? "train" : "test"
              file = sprintf("%s/%s/%d/%04d.pgm", folder, split_, label, NR - 1)
              printf "P2\n8 8\n255\n" > file
              for (i = 1; i <= 64; i++) printf "%d%s", $i * 255 / 16, i % 8 ? " " : "\n" > file
              close(file) }'
    touch "$work/digits.complete"
}

field() { sed -n "s/^ *\"$2\": \([0-9.e+-]*\),*\$/\1/p" "$1/results.json" | head -n 1; }

tune() { # name, method and its options
    name=$1
    shift
    echo "--- $name"
    $inlay train --backbone "$backbone" --data "$data" --output "$work/$name" --overwrite --eval-split test \
        --crop-mode squash "$@"
    printf '%-14s %9s %12s %10s %8s %10s\n' "$name" \
        "$(awk -v x="$(field "$work/$name" top1)" 'BEGIN { printf "%.1f %%", 100 * x }')" \
        "$(field "$work/$name" trained_parameters)" \
        "$(awk -v x="$(field "$work/$name" adapter_bytes)" 'BEGIN { printf "%.0f kB", x / 1000 }')" \
        "$(awk -v x="$(field "$work/$name" seconds)" 'BEGIN { printf "%.1f s", x }')" \
        "$(awk -v x="$(field "$work/$name" peak_memory_bytes)" 'BEGIN { printf "%.0f MB", x / 1e6 }')" >>"$work/table"
}

mkdir -p "$work"
rm -f "$work/table"
if [ -z "${BACKBONE:-}" ]; then # under the name that it has in titles
    backbone=$work/vit_fashion_mnist
    ln -sfn "$PWD/demo/backbone" "$backbone"
fi
if [ -z "$data" ]; then
    fetch_digits
    data=$work/digits
fi
$inlay inspect "$backbone"
if [ -n "${BACKBONE:-}" ]; then
    tune linear --method linear --epochs 20 --batch-size 32
    tune adapter_plus --method adapter_plus --rank 8 --epochs 5 --batch-size 32 --warmup-epochs 1
else
    tune linear --method linear --epochs 200 --eval-every 50 --batch-size 20 --warmup-epochs 5 --lr 1e-2 --quiet
    tune adapter_plus --method adapter_plus --rank 8 --epochs 60 --eval-every 5 --batch-size 20 --warmup-epochs 5 \
        --lr 5e-3 --quiet
    tune full --method full --epochs 25 --eval-every 5 --batch-size 20 --warmup-epochs 5 --lr 5e-4 --quiet
fi
echo "--- new images"
find "$data/test" -type f | sort | awk 'NR % 200 == 7' | head -n 5 |
    xargs $inlay predict --backbone "$backbone" --adapter "$work/adapter_plus" --top-k 2
echo
printf '%-14s %9s %12s %10s %8s %10s\n' method "top-1" "trained" "file" "time" "memory"
cat "$work/table"
if [ -z "${BACKBONE:-}" ] && [ -f "$assets/backbones/vit_tiny_patch16_224/model.safetensors" ]; then
    echo
    echo "--- ViT-Ti/16 on 100 images of ImageNet"
    $inlay eval --backbone "$assets/backbones/vit_tiny_patch16_224" \
        --data "$assets/data/imagenet_sample/labels.csv" --quiet
fi
