#!/usr/bin/env python3
"""Draws preprocessing configurations and writes, for each, what transformers or timm makes of an image: a JSON object
a line.

    python3 tools/draw_preprocessing.py 2000 7 > draws.jsonl
    INLAY_DRAWS=draws.jsonl build/release/test_input      # compares; prints what Inlay refused
    python3 tools/draw_preprocessing.py --keep > tests/data/preprocessing.jsonl

--keep writes the members that are kept as test data: a few draws, and those that are hard or must be refused. Keys of a
line:
  library     "hf" or "timm"
  config      preprocessor_config.json, or the pretrained_cfg of config.json
  size        side of the model's input
  source      width and height of the image, the pattern of make_image_fixtures.py
  hash        of the pixels in 8 bits; "" where the library refuses, or where Inlay must
  values      the normalised pixels of the first, middle and last place, three channels each
  may_refuse  whether Inlay may say that it is not supported
Needs numpy, Pillow, torch, timm and transformers."""

import importlib
import json
import random
import sys
import warnings

warnings.filterwarnings("ignore")
import numpy as np
from PIL import Image

from make_image_fixtures import fnv, pattern

TYPES = ("vit", "deit", "beit", "clip", "bit", "siglip")
NAMES = {"vit": "ViT", "deit": "DeiT", "beit": "Beit", "clip": "CLIP", "bit": "Bit", "siglip": "Siglip"}


def values_of(pixels):
    """Of [3, height, width]: first, middle and last place."""
    height, width = pixels.shape[1:]
    return [
        float(pixels[c, y, x])
        for y, x in ((0, 0), (height // 2, width // 2), (height - 1, width - 1))
        for c in range(3)
    ]


def by_transformers(config, image):
    kind = config.get("image_processor_type") or config.get("feature_extractor_type") or "ViTImageProcessor"
    name = next(t for t in TYPES if kind.startswith(NAMES[t]))
    module = importlib.import_module(f"transformers.models.{name}.image_processing_pil_{name}")
    options = {k: v for k, v in config.items() if not k.endswith("_type")}
    make = getattr(module, NAMES[name] + "ImageProcessorPil")
    full = np.asarray(make(**options)(image, return_tensors="np")["pixel_values"][0])
    plain = np.asarray(
        make(**{**options, "do_rescale": False, "do_normalize": False})(image, return_tensors="np")["pixel_values"][0]
    )
    return plain, full


def by_timm(config, image):
    from timm.data import create_transform, resolve_data_config
    from timm.models import PretrainedCfg

    data = resolve_data_config(pretrained_cfg=PretrainedCfg(**config).to_dict())
    plain = np.asarray(create_transform(**data, is_training=False, use_prefetcher=True)(image))
    return plain, create_transform(**data, is_training=False)(image).numpy()


def line(library, config, size, source, may_refuse=False, refused=False):
    made = {
        "library": library,
        "config": config,
        "size": size,
        "source": source,
        "hash": "",
        "values": [],
        "may_refuse": may_refuse,
    }
    try:
        plain, full = (by_transformers if library == "hf" else by_timm)(config, Image.fromarray(pattern(*source)))
    except Exception:
        return made
    if plain.shape != (3, size, size) or not np.isfinite(full).all() or refused:
        return made
    assert np.array_equal(plain, plain.astype(np.uint8))
    made["hash"] = fnv(np.ascontiguousarray(np.transpose(plain.astype(np.uint8), (1, 2, 0))).tobytes())
    made["values"] = values_of(full)
    return made


def sometimes(r, share, value):
    return {} if r.random() > share else value


def draw_size(r, side):
    if r.random() < 0.3:
        return side
    return r.choice(({"height": side, "width": side}, {"shortest_edge": side}, [side, side]))


def draw_hf(r):
    kind, size = r.choice(TYPES), 8 * r.randint(2, 8)
    config = sometimes(
        r,
        0.9,
        {
            r.choice(("image_processor_type", "feature_extractor_type")): NAMES[kind]
            + r.choice(("ImageProcessor", "FeatureExtractor", "ImageProcessorFast"))
        },
    )
    crops = r.random() < 0.6
    resized = r.choice((size, size + r.randint(0, 20), size * 8 // 7, size - r.randint(0, 8))) if crops else size
    config |= {"size": draw_size(r, resized)}
    if r.random() < 0.9 or crops:
        config |= {"do_center_crop": crops}
    if crops or r.random() < 0.5:
        config |= {"crop_size": r.choice((size, {"height": size, "width": size}))}
    config |= sometimes(r, 0.8, {"resample": r.randint(0, 5)})
    config |= sometimes(r, 0.3, {"do_rescale": r.random() < 0.5})
    config |= sometimes(r, 0.3, {"rescale_factor": r.choice((1 / 255, 1 / 127.5, 0.01, 1 / 256))})
    config |= sometimes(r, 0.3, {"do_normalize": r.random() < 0.5})
    config |= sometimes(r, 0.7, {"image_mean": [round(r.uniform(0, 1), 4) for _ in range(3)]})
    config |= sometimes(r, 0.7, {"image_std": [round(r.uniform(0.05, 1), 4) for _ in range(3)]})
    config |= sometimes(r, 0.2, {"do_convert_rgb": r.choice((True, None))})
    config |= sometimes(r, 0.1, {"default_to_square": r.random() < 0.5})
    return "hf", config, size


def draw_timm(r):
    size = 8 * r.randint(2, 8)
    config = {
        "input_size": [3, size, size],
        "num_classes": 5,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "pool_size": None,
    }
    config |= sometimes(r, 0.8, {"crop_mode": r.choice(("center", "squash", "border"))})
    config |= sometimes(
        r, 0.8, {"crop_pct": r.choice((0.9, 0.95, 1.0, 0.875, 0.8, 1.15, round(r.uniform(0.4, 1.5), 3)))}
    )
    config |= sometimes(
        r, 0.8, {"interpolation": r.choice(("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"))}
    )
    config |= sometimes(r, 0.8, {"mean": [round(r.uniform(0, 1), 4) for _ in range(3)]})
    config |= sometimes(r, 0.8, {"std": [round(r.uniform(0.05, 1), 4) for _ in range(3)]})
    config |= sometimes(r, 0.3, {"test_crop_pct": 1.0, "test_input_size": [3, 288, 288], "fixed_input_size": True})
    return "timm", config, size


def draw(r):
    library, config, size = r.choice((draw_hf, draw_timm))(r)
    shortest = r.choice((r.randint(8, 40), r.randint(40, 200)))
    source = (shortest, shortest + r.randint(0, 150))
    return line(library, config, size, source if r.random() < 0.5 else source[::-1], may_refuse=library == "hf")


def hard():
    """Those at which something is off by one, or which no member of the draws has."""
    vit = {"image_processor_type": "ViTImageProcessor"}
    for resized, crop in ((36, 32), (35, 32), (37, 32), (39, 32), (43, 40), (30, 40), (31, 40), (29, 40), (73, 64)):
        for form in ({"height": resized, "width": resized}, {"shortest_edge": resized}):
            for source in ((61, 97), (97, 61), (50, 50)):
                yield line(
                    "hf", vit | {"size": form, "do_center_crop": True, "crop_size": crop, "resample": 3}, crop, source
                )
    for crop_pct in (0.8, 0.9, 0.95, 1.1, 0.87, 1.0):
        for mode in ("squash", "border", "center"):
            for source in ((97, 61), (33, 90)):
                yield line(
                    "timm",
                    {
                        "input_size": [3, 40, 40],
                        "crop_mode": mode,
                        "crop_pct": crop_pct,
                        "mean": [0.3, 0.5, 0.7],
                        "std": [0.5, 0.2, 1.0],
                    },
                    40,
                    source,
                )
    yield line("timm", {"input_size": [3, 32, 32]}, 32, (97, 61))
    yield line("timm", {"input_size": [3, 32, 32], "crop_pct": 0}, 32, (97, 61))
    plain = vit | {"size": 32}
    for more in (
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0]},
        {"image_mean": 0.4, "image_std": 0.2},
        {"do_center_crop": None},
        {"do_normalize": None},
        {"do_rescale": None},
        {},
    ):
        yield line("hf", plain | more, 32, (97, 61))
    yield line("hf", {"feature_extractor_type": "DeiTFeatureExtractor", "size": 36, "crop_size": 32}, 32, (97, 61))
    yield line(
        "hf",
        {"image_processor_type": "DeiTImageProcessorFast", "size": 36, "crop_size": 32, "do_center_crop": False},
        36,
        (97, 61),
    )
    yield line("hf", {"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 32}, 32, (97, 61))
    yield line(
        "hf",
        {"image_processor_type": "CLIPImageProcessor", "size": {"height": 32, "width": 32}, "do_center_crop": None},
        32,
        (97, 61),
    )
    yield line(
        "hf",
        {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": 37},
            "crop_size": {"height": 32, "width": 32},
        },
        32,
        (61, 97),
    )
    for more in (
        {"do_resize": False},
        {"do_resize": None},
        {"do_pad": True},
        {"rescale_offset": True},
        {"crop_pct": 0.9},
        {"resample": 6},
        {"resample": "bicubic"},
        {"size": {"shortest_edge": 32, "longest_edge": 64}},
        {"size": {"longest_edge": 32}},
        {"size": {"shortest_edge": 32}},
        {"size": {"height": 32}},
        {"size": 0},
        {"size": -32},
        {"size": "32"},
        {"size": {"max_height": 32, "max_width": 32}},
        {"size": 40},
        {"do_center_crop": True, "crop_size": 40},
        {"do_center_crop": True, "crop_size": {"shortest_edge": 32}},
        {"do_normalize": 1},
        {"do_rescale": "yes"},
        {"rescale_factor": 0},
        {"rescale_factor": "x"},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": [0.5, 0.5, "x"]},
        {"image_std": [0.5, 0, 0.5]},
        {"image_std": 1e-45},
        {"image_std": [-0.5, 0.5, 0.5]},
        {"image_mean": 1e300},
        {"image_mean": 1e38, "image_std": 1e-3},
        {"do_center_crop": True, "size": {"height": 36, "width": 48}, "crop_size": 32},
        {"image_processor_type": "ConvNextImageProcessor"},
        {"image_processor_type": "DINOv3ViTImageProcessorFast"},
        {"do_flip_channel_order": True},
    ):
        yield line("hf", plain | more, 32, (97, 61), refused=True)
    base = {"input_size": [3, 32, 32]}
    for more in (
        {"crop_mode": "stretch"},
        {"crop_mode": 3},
        {"crop_pct": -1},
        {"crop_pct": "x"},
        {"crop_pct": 9},
        {"interpolation": "sinc"},
        {"interpolation": 3},
        {"mean": "x"},
        {"mean": [0.5] * 2},
        {"std": [0, 0, 0]},
        {"std": 1e-45},
        {"mean": [1e300, 0, 0]},
        {"label_offset": 1},
        {"input_size": [3, 32]},
        {"input_size": 32},
        {"input_size": [3, -32, 32]},
    ):
        yield line("timm", base | more, 32, (97, 61), refused=True)


def main():
    if sys.argv[1] == "--keep":
        r = random.Random(1)
        lines = list(hard()) + [draw(r) for _ in range(120)]
    else:
        r = random.Random(int(sys.argv[2]))
        lines = (draw(r) for _ in range(int(sys.argv[1])))
    for item in lines:
        print(json.dumps(item, separators=(",", ":")))


if __name__ == "__main__":
    main()
