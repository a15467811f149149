#!/bin/sh
# How demo/backbone was made: a ViT of 1.2 million parameters, from random weights, on the 60,000 pictures of clothes of
# Debian's dataset-fashion-mnist.
set -eu
cd "$(dirname "$0")/.."
inlay=build/release/inlay
data=/usr/share/datasets/fashion-mnist
work=${PRETRAIN_OUTPUT:-build/pretrain}
names=tshirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,boot

# split, how its files are called
unpack() {
    [ -d "$work/data/$1" ] || $inlay unpack --images "$data/$2-images-idx3-ubyte.gz" \
        --labels "$data/$2-labels-idx1-ubyte.gz" --names $names --output "$work/data/$1"
}

unpack train train
unpack test t10k
$inlay pretrain --data "$work/data" --output "$work/run" --width 128 --depth 6 --heads 4 --patch 4 --image-size 28 \
    --epochs 5 --batch-size 128 --lr 1e-3 --warmup-epochs 1 --no-repeat-first --weight-decay 0.05 \
    --label-smoothing 0.1 --augment --augment-scale 0.5 --backbone-drop-path 0.05 --eval-split test --seed 18 --resume
mkdir -p demo/backbone
cp "$work/run/model.safetensors" "$work/run/config.json" demo/backbone/
