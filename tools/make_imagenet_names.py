#!/usr/bin/env python3
"""Writes src/backbones/imagenet_names.def: one short English name for each class of ImageNet-1k, in the order of the
classes.

The classes are WordNet synsets, their order is that of the ILSVRC 2012 challenge; both come with timm
(timm/data/_info), which is read here. Of a synset's names the first is taken; where two classes have the same first
name, all of its names; where these are the same too, the synset's number stands behind.

    python3 tools/make_imagenet_names.py > src/backbones/imagenet_names.def
"""

import collections
import os

import timm

COLUMNS = 120

info = os.path.join(os.path.dirname(timm.__file__), "data", "_info")
with open(os.path.join(info, "imagenet_synsets.txt"), encoding="utf-8") as file:
    synsets = file.read().split()
with open(os.path.join(info, "imagenet_synset_to_lemma.txt"), encoding="utf-8") as file:
    lemmas = dict(line.rstrip("\n").split("\t", 1) for line in file)


def again(names):
    """Which names are there more than once."""
    counts = collections.Counter(name.lower() for name in names)
    return [counts[name.lower()] > 1 for name in names]


full = [lemmas[synset] for synset in synsets]
names = [name.split(",")[0] for name in full]
names = [whole if twice else name for name, whole, twice in zip(names, full, again(names))]
names = [f"{name} ({synset})" if twice else name for name, synset, twice in zip(names, synsets, again(names))]
assert len(set(names)) == 1000

print("/* Names of ImageNet-1k's classes: WordNet's first for each synset, in the challenge's order.")
print(f" * Made by tools/make_imagenet_names.py from what timm {timm.__version__} lists. */")
line = ""
for name in names:
    item = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '",'
    if line and len(line) + 1 + len(item) > COLUMNS:
        print(line)
        line = ""
    line += (" " if line else "") + item
print(line)
