#!/usr/bin/env python3
"""make_hf_oracles.py [DIR]: tiny models of every model_type of Hugging Face that Inlay reads, and what transformers
computes from them.

Writes DIR/<class>/ (tests/data/oracle/hf when none is given): config.json, preprocessor_config.json and
model.safetensors as transformers saves them, and expected.safetensors with `pixels` (bytes), and `logits` or, where the
model has no classification head, `features`: what the model's own pooled output is, or the class token where it has
none. Computing is in float64 on drawn float32 weights.
Needs torch, transformers and safetensors."""

import json
import os
import sys
import warnings
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "oracle", "hf")
BATCH, CLASSES = 2, 3
PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}
DINO = {**{k: v for k, v in PLAIN.items() if k != "intermediate_size"}, "mlp_ratio": 2}
HEADED = {"num_labels": CLASSES}
TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 50,
    "max_position_embeddings": 8,
}
DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_attention_heads": 2,
    "decoder_num_hidden_layers": 1,
    "decoder_intermediate_size": 8,
}


def first(output):
    return output.last_hidden_state[:, 0]


def mean(output):
    return output.last_hidden_state.mean(1)


def pooled(output):
    return output.pooler_output


# folder, class of the model, class and arguments of its configuration, how features come from its output (None: it has
# logits)
MODELS = [
    ("ViTModel", "ViTModel", "ViTConfig", PLAIN, first),
    ("ViTOblong", "ViTForImageClassification", "ViTConfig", {**PLAIN, **HEADED, "image_size": [16, 64]}, None),
    (
        "ViTRemainder",
        "ViTForImageClassification",
        "ViTConfig",
        {**PLAIN, **HEADED, "image_size": [35, 30], "hidden_act": "relu"},
        None,
    ),
    ("DeiTForImageClassification", "DeiTForImageClassification", "DeiTConfig", {**PLAIN, **HEADED}, None),
    (
        "DeiTForImageClassificationWithTeacher",
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {**PLAIN, **HEADED},
        None,
    ),
    ("DeiTModel", "DeiTModel", "DeiTConfig", PLAIN, first),
    ("ViTMAEForPreTraining", "ViTMAEForPreTraining", "ViTMAEConfig", {**PLAIN, **DECODER, "mask_ratio": 0.0}, first),
    ("ViTMSNForImageClassification", "ViTMSNForImageClassification", "ViTMSNConfig", {**PLAIN, **HEADED}, None),
    ("IJepaForImageClassification", "IJepaForImageClassification", "IJepaConfig", {**PLAIN, **HEADED}, None),
    ("IJepaModel", "IJepaModel", "IJepaConfig", PLAIN, mean),
    ("Dinov2Model", "Dinov2Model", "Dinov2Config", DINO, pooled),
    ("Dinov2ForImageClassification", "Dinov2ForImageClassification", "Dinov2Config", {**DINO, **HEADED}, None),
    ("Dinov2WithRegistersModel", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINO, pooled),
    (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        {**DINO, **HEADED},
        None,
    ),
    ("Dinov2Resampled", "Dinov2Model", "Dinov2Config", {**DINO, "image_size": 56}, pooled),
    (
        "Dinov2WithRegistersResampled",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**DINO, "image_size": 56},
        pooled,
    ),
    ("CLIPVisionModel", "CLIPVisionModel", "CLIPVisionConfig", PLAIN, pooled),
    (
        "CLIPVisionModelWithProjection",
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        {**PLAIN, "projection_dim": 8},
        pooled,
    ),
    ("CLIPModel", "CLIPModel", "CLIPConfig", {"vision_config": PLAIN, "text_config": TEXT}, pooled),
    (
        "CLIPForImageClassification",
        "CLIPForImageClassification",
        "CLIPConfig",
        {"vision_config": PLAIN, "text_config": TEXT, **HEADED},
        None,
    ),
    ("MetaClip2VisionModel", "MetaClip2VisionModel", "MetaClip2VisionConfig", PLAIN, pooled),
    ("SiglipVisionModel", "SiglipVisionModel", "SiglipVisionConfig", PLAIN, pooled),
    ("SiglipModel", "SiglipModel", "SiglipConfig", {"vision_config": PLAIN, "text_config": TEXT}, pooled),
    (
        "SiglipForImageClassification",
        "SiglipForImageClassification",
        "SiglipConfig",
        {"vision_config": PLAIN, "text_config": TEXT, **HEADED},
        None,
    ),
]


def draw(model):
    """Weights with which every part of the model shows in its output."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(torch.randn_like(p) * 0.3)
            elif p.ndim in (2, 4):
                strong = any(part in name for part in ("query", "q_proj", "fc1"))
                p.copy_(torch.randn_like(p) * (2.0 if strong else 0.9) / p[0].numel() ** 0.5)
            else:
                p.copy_(torch.randn_like(p))
    return model.eval()


def encoder(model):
    """The part of a larger model that has features: an image tower, or the encoder under a decoder."""
    for name in ("vision_model", "vit"):
        if hasattr(model, name) and not hasattr(model, "classifier"):
            return getattr(model, name)
    return model


def make(out, folder, model_class, config_class, arguments, features):
    torch.manual_seed(zlib.crc32(folder.encode()))
    config = getattr(transformers, config_class)(**arguments)
    model = draw(getattr(transformers, model_class)(config))
    path = os.path.join(out, folder)
    model.save_pretrained(path)
    size = PLAIN["image_size"] if folder.endswith("Resampled") else arguments.get("image_size", PLAIN["image_size"])
    height, width = size if isinstance(size, list) else (size, size)
    with open(os.path.join(path, "preprocessor_config.json"), "w") as f:
        json.dump(
            {
                "image_processor_type": "ViTImageProcessor",
                "size": {"height": height, "width": width},
                "resample": 2,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
            f,
            indent=1,
        )
        f.write("\n")
    pixels = torch.randint(0, 256, (BATCH, height, width, 3), dtype=torch.uint8)
    inputs = (pixels.permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.5
    with torch.no_grad():
        output = (encoder(model) if features else model).double()(inputs)
    wanted = {"features": features(output)} if features else {"logits": output.logits}
    single = {k: v.float().contiguous() for k, v in wanted.items()}
    save_file({"pixels": pixels, **single}, os.path.join(path, "expected.safetensors"))
    print("%-45s %s" % (folder, config.model_type))


def main():
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for model in MODELS:
        make(sys.argv[1] if len(sys.argv) > 1 else OUT, *model)


if __name__ == "__main__":
    main()
