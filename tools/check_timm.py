"""check_timm.py INLAY [NAME...]: reads one block of every vision transformer of timm with Inlay and compares logits.

For each name of the table that make_timm_table.py writes, or for those given: a model of depth 1 with drawn weights,
saved as timm saves for the hub, so that config.json has little more than the name; then `inlay predict --logits` on a
computed image against timm's logits for it. Prints a row for each name, and 'WRONG' where logits differ by more than
1e-4. Needs torch and timm."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models._hub import save_for_hf

LIMIT = 1e-4
TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "backbones", "vit_timm.def")


def table_names():
    with open(TABLE) as f:
        return re.findall(r"^(?:TIMM|REFUSED)\((\w+)", f.read(), re.MULTILINE)


def draw(model):
    """Weights with which every part of the model shows in the logits."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.3)
            elif p.ndim in (2, 4):
                p.copy_(torch.randn_like(p) * (2.0 if "qkv" in name or "fc1" in name else 0.9) / p[0].numel() ** 0.5)
            else:
                p.copy_(torch.randn_like(p))
    return model.eval()


def picture():
    y, x = np.mgrid[0:260, 0:300]
    channels = x * 255 / 299, y * 255 / 259, 127 + 100 * np.sin(x / 9) * np.cos(y / 13)
    return Image.fromarray(np.stack(channels, -1).astype("uint8"))


def expect(model, folder):
    save_for_hf(model, folder, safe_serialization=True)
    image = picture()
    image.save(os.path.join(folder, "image.png"))
    pixels = create_transform(**resolve_model_data_config(model), is_training=False)(image)
    with torch.no_grad():
        return model(pixels[None])[0].numpy()


def answer(inlay, folder):
    image = os.path.join(folder, "image.png")
    run = subprocess.run(
        [inlay, "predict", "--backbone", folder, image, "--json", "--logits", "--precision", "f32", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        return None, run.stderr.strip().split("\n")[-1].split(": ", 2)[-1]
    return np.array(json.loads(run.stdout)["results"][0]["logits"]), None


def check(inlay, name):
    """One of 'read', 'refused', 'WRONG', 'not made' (a deprecated name of weights that are gone), and what was seen."""
    torch.manual_seed(0)
    try:
        model = timm.create_model(name, depth=1, num_classes=10)
    except (TypeError, RuntimeError) as e:
        return "not made", str(e).split("\n")[0]
    folder = tempfile.mkdtemp(prefix="check-timm-")
    try:
        expected = expect(draw(model), folder)
        del model
        found, reason = answer(inlay, folder)
    finally:
        shutil.rmtree(folder)
    if found is None:
        return "refused", reason
    difference = float(np.abs(found - expected).max())
    return ("read" if difference <= LIMIT else "WRONG"), "largest difference %.1e" % difference


def main():
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    inlay, counts = sys.argv[1], {}
    for name in sys.argv[2:] or table_names():
        result = check(inlay, name)
        counts[result[0]] = counts.get(result[0], 0) + 1
        print("%-45s %-8s %s" % (name, *result), flush=True)
    print(", ".join("%d %s" % (n, what) for what, n in sorted(counts.items())))
    sys.exit(bool(counts.get("WRONG")))


if __name__ == "__main__":
    main()
