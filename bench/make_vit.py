"""Writes a ViT with random weights as timm would publish it. usage: make_vit.py ti|b FOLDER"""
import json
import os
import sys

import timm
import torch
from safetensors.torch import save_file

name = {"ti": "vit_tiny_patch16_224", "b": "vit_base_patch16_224"}[sys.argv[1]]
torch.manual_seed(0)
model = timm.create_model(name, num_classes=100)
os.makedirs(sys.argv[2], exist_ok=True)
save_file(model.state_dict(), os.path.join(sys.argv[2], "model.safetensors"), metadata={"format": "pt"})
with open(os.path.join(sys.argv[2], "config.json"), "w") as f:
    json.dump({"architecture": name, "num_classes": 100, "num_features": model.embed_dim, "global_pool": "token",
               "pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}}, f)
