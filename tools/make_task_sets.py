"""make_task_sets.py IMAGES OUT: two data sets with other targets than one class.

IMAGES/{train,test} hold class folders.

OUT/share/{train,test}.csv: the share of a picture's pixels that are more blue than red and green, a number (regress).
OUT/pairs/{train,test}.csv with OUT/pairs/*.png: pictures composed two by two on a 2 x 2 grid of 112 pixels each, the
other two places grey, with the names of both classes (multilabel).
Needs numpy and Pillow."""

import csv
import pathlib
import random
import sys

import numpy as np
from PIL import Image


def pictures(folder):
    return sorted(p for p in folder.glob("*/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))


def blue_share(path):
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    return float(np.mean((pixels[..., 2] > pixels[..., 0]) & (pixels[..., 2] > pixels[..., 1])))


def write_list(path, column, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["path", column])
        writer.writerows(rows)


def compose(first, second, draw):
    canvas = Image.new("RGB", (224, 224), (124, 116, 104))
    places = draw.sample([(0, 0), (112, 0), (0, 112), (112, 112)], 2)
    for path, place in zip((first, second), places):
        canvas.paste(Image.open(path).convert("RGB").resize((112, 112), Image.BICUBIC), place)
    return canvas


def main():
    images, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    for split in ("train", "test"):
        found = pictures(images / split)
        write_list(out / "share" / f"{split}.csv", "target", [(p, f"{blue_share(p):.5f}") for p in found])
        draw = random.Random(f"pairs {split}")
        rows = []
        (out / "pairs").mkdir(parents=True, exist_ok=True)
        for i, first in enumerate(found):
            second = draw.choice(found)
            while second.parent == first.parent:
                second = draw.choice(found)
            name = f"{split}{i:05d}.png"
            compose(first, second, draw).save(out / "pairs" / name)
            rows.append((name, ";".join(sorted((first.parent.name, second.parent.name)))))
        write_list(out / "pairs" / f"{split}.csv", "labels", rows)


if __name__ == "__main__":
    main()
