#!/usr/bin/env python3
"""Makes tests/data/oracle: tiny ViT checkpoints in every layout that is read, and what PyTorch computes from them.

  make_oracles.py [--out DIR] [--assets DIR]   writes the files; without --assets, those of the real checkpoint stay as
                                               they are
  make_oracles.py --check [--assets DIR]       reloads the files and verifies them by other routes than those that made
                                               them

Models are timm's, computing is in float64 on float32 weights, results are stored as float32 (README.md beside the
files says more). Needs torch, timm, transformers, safetensors, Pillow and numpy; --check also peft."""

import argparse
import csv
import hashlib
import json
import math
import os
import sys
import warnings
import zlib

import oracle_operations
import oracle_optimizers
import oracle_options
import oracle_training

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import timm
import torch
import torch.nn.functional as F
import transformers
from huggingface_hub import save_torch_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models._hub import save_config_for_hf
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "oracle")
WIDTH, DEPTH, HEADS, CLASSES, BATCH, SIZE, EPS = 32, 3, 2, 5, 3, 32, 1e-6
RANK = 4
MAIN = {"img_size": SIZE, "patch_size": 8, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": 4}

# name, arguments that differ from MAIN, what it is for
VARIANTS = [
    (
        "avg",
        {"global_pool": "avg"},
        "mean over the patch tokens (not the class token), then fc_norm, then the head; no final norm before",
    ),
    ("layerscale", {"init_values": 0.1}, "each branch times ls1.gamma or ls2.gamma before its residual"),
    (
        "qk_norm",
        {"qk_norm": True},
        "LayerNorm over each head's queries and keys (weights shared by the heads), before the scaling",
    ),
    ("reg", {"reg_tokens": 2}, "class token, two register tokens, patches; position embeddings for all of them"),
    ("reg_no_embed", {"reg_tokens": 2, "no_embed_class": True}, "as reg, but position embeddings for the patches only"),
    (
        "dist",
        {},
        "VisionTransformerDistilled: class token, distillation token, patches; logits are the mean of head(token 0) "
        "and head_dist(token 1), in evaluation and (unless distilled_training is set, which it is not here) in "
        "training; the loss is taken of that mean",
    ),
    (
        "norm_pre",
        {"pre_norm": True},
        "LayerNorm between position embeddings and the first block; timm then makes the patch embedding "
        "without a bias",
    ),
]
RESAMPLED = [(48, 48), (48, 32), (24, 24)]


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(rng, shape, scale, centre=0.0):
    return torch.from_numpy((centre + scale * rng.standard_normal(tuple(shape))).astype(np.float32))


def path(*parts):
    p = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def save(file, tensors):
    """Everything that was computed in float64 becomes float32."""
    single = {k: (v.float() if v.dtype == torch.float64 else v).detach().contiguous() for k, v in tensors.items()}
    save_file(single, path(file), {"format": "pt"})


def save_json(file, value):
    with open(path(file), "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def load_json(*parts):
    with open(path(*parts)) as f:
        return json.load(f)


def images(name, count, height=SIZE, width=SIZE):
    """Smooth colours with a little noise, u8 [count, height, width, 3]."""
    rng = generator(name)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 5, 5)))
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return (
        (smooth + torch.from_numpy(rng.normal(0, 12, (count, height, width, 3)))).round().clamp(0, 255).to(torch.uint8)
    )


def normalised(pixels, dtype=torch.float64):
    return ((pixels.to(dtype) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous()


# ---- checkpoints ----


def build(args, distilled=False):
    return (VisionTransformerDistilled if distilled else VisionTransformer)(**args, num_classes=CLASSES).eval()


def random_weights(model, name):
    rng, state = generator("weights " + name), {}
    for key, value in model.state_dict().items():
        norm = "norm" in key
        if key.endswith("gamma"):
            state[key] = draw(rng, value.shape, 0.2, 0.6)
        elif norm and key.endswith("weight"):
            state[key] = draw(rng, value.shape, 0.2, 1)
        elif "token" in key or key == "pos_embed":
            state[key] = draw(rng, value.shape, 0.3)
        else:  # queries and keys are larger, so that attention is far from uniform
            state[key] = draw(rng, value.shape, 0.25 if key.endswith("qkv.weight") else 0.15)
    model.load_state_dict(state, strict=True)
    return state


def save_timm_config(folder, model, args, architecture):
    model.pretrained_cfg = {
        "architecture": architecture,
        "input_size": (3, SIZE, SIZE),
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "num_classes": CLASSES,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    save_config_for_hf(model, path(folder, "config.json"), model_args=args)


def to_hf(state):
    """timm's names and shapes to those of transformers 5 in memory."""
    names = {"cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings"}
    parts = [
        ("patch_embed.proj.", "vit.embeddings.patch_embeddings.projection."),
        ("blocks.", "vit.layers."),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".attn.proj.", ".attention.o_proj."),
        ("head.", "classifier."),
    ]
    out = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for letter, third in zip("qkv", value.chunk(3)):
                out[key.replace("blocks.", "vit.layers.").replace(".attn.qkv.", f".attention.{letter}_proj.")] = (
                    third.contiguous()
                )
            continue
        name = names.get(key, key)
        for old, new in parts:
            name = name.replace(old, new)
        out["vit.layernorm." + name[5:] if name.startswith("norm.") else name] = value
    return out


def hf_config():
    return transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=SIZE,
        patch_size=8,
        layer_norm_eps=EPS,
        num_labels=CLASSES,
        attn_implementation="eager",
    )


def to_jax(state):
    heads = WIDTH // HEADS
    t = {k: v.numpy() for k, v in state.items()}
    out = {
        "cls": t["cls_token"],
        "embedding/kernel": t["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": t["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": t["pos_embed"],
        "Transformer/encoder_norm/scale": t["norm.weight"],
        "Transformer/encoder_norm/bias": t["norm.bias"],
        "head/kernel": t["head.weight"].T,
        "head/bias": t["head.bias"],
    }
    for i in range(DEPTH):
        b, j = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        a = j + "MultiHeadDotProductAttention_1/"
        for n, layer in enumerate(["query", "key", "value"]):
            out[a + layer + "/kernel"] = (
                t[b + "attn.qkv.weight"].reshape(3, WIDTH, WIDTH)[n].T.reshape(WIDTH, HEADS, heads)
            )
            out[a + layer + "/bias"] = t[b + "attn.qkv.bias"].reshape(3, HEADS, heads)[n]
        out[a + "out/kernel"], out[a + "out/bias"] = (
            t[b + "attn.proj.weight"].T.reshape(HEADS, heads, WIDTH),
            t[b + "attn.proj.bias"],
        )
        for ours, theirs in [("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")]:
            out[j + theirs + "/scale"], out[j + theirs + "/bias"] = t[b + ours + ".weight"], t[b + ours + ".bias"]
        for n in range(2):
            dense, fc = j + f"MlpBlock_3/Dense_{n}/", b + f"mlp.fc{n + 1}."
            out[dense + "kernel"], out[dense + "bias"] = t[fc + "weight"].T, t[fc + "bias"]
    return {k: np.ascontiguousarray(v) for k, v in out.items()}


def make_main():
    model = build(MAIN)
    state = random_weights(model, "main")
    for folder in ("vit", "vit_sharded"):
        save_timm_config(folder, model, MAIN, "vit_custom")
    save("vit/model.safetensors", state)
    save_torch_state_dict(
        state, path("vit_sharded", ""), max_shard_size=sum(v.numel() for v in state.values()) * 4 * 6 // 10
    )
    hf = transformers.ViTForImageClassification(hf_config())
    hf.load_state_dict(to_hf(state), strict=True)
    for folder, old_names in (("vit_hf", True), ("vit_hf5", False)):
        hf.save_pretrained(path(folder, ""), save_original_format=old_names)
        transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(path(folder, ""))
    np.savez(path("vit_jax.npz"), **to_jax(state))


# ---- a model, its activations, its loss ----


def loss_of(logits, labels, smoothing=0.0):
    return F.cross_entropy(logits, labels.long(), label_smoothing=smoothing)


def observed(model, x):
    """Logits and the activations that the files name, by hooks on timm's modules."""
    seen, hooks = {}, []
    hooks.append(model.blocks[0].register_forward_pre_hook(lambda m, a: seen.__setitem__("tokens", a[0])))
    for i, block in enumerate(model.blocks):
        hooks.append(block.register_forward_hook(lambda m, a, out, i=i: seen.__setitem__(f"blocks.{i}.output", out)))
    if not isinstance(model.norm, torch.nn.Identity):
        hooks.append(model.norm.register_forward_hook(lambda m, a, out: seen.__setitem__("norm", out)))
    seen["logits"] = model(x)
    for h in hooks:
        h.remove()
    return seen


def make_base():
    model = build(MAIN)
    model.load_state_dict(load_file(path("vit/model.safetensors")))
    model.double()
    pixels, labels = images("pixels", BATCH), torch.tensor([3, 0, 4], dtype=torch.int32)
    seen = observed(model, normalised(pixels))
    loss, smooth = loss_of(seen["logits"], labels), loss_of(seen["logits"], labels, 0.1)
    out = {"pixels": pixels, "labels": labels, **seen, "loss": loss.reshape(1), "loss_smoothed": smooth.reshape(1)}
    (out["grad_smoothed.logits"],) = torch.autograd.grad(smooth, [seen["logits"]], retain_graph=True)
    (out["grad.logits"],) = torch.autograd.grad(loss, [seen["logits"]], retain_graph=True)
    names, values = zip(*model.named_parameters())
    out.update({"grad." + n: g for n, g in zip(names, torch.autograd.grad(loss, values))})
    save("base.safetensors", out)


def make_variants():
    rows = []
    labels = torch.tensor([1, 4, 2], dtype=torch.int32)
    for name, changes, what in VARIANTS:
        args = {**MAIN, "depth": 2, "mlp_ratio": 2, **changes}
        model = build(args, name == "dist")
        save(f"variants/{name}/model.safetensors", random_weights(model, name))
        save_timm_config(f"variants/{name}", model, args, "deit_custom_distilled" if name == "dist" else "vit_custom")
        model.double()
        pixels = images(name, BATCH)
        seen = observed(model, normalised(pixels))
        loss = loss_of(seen["logits"], labels)
        # Matrices are left out: their gradients are products of what is here, tested elsewhere.
        names, values = zip(*((n, p) for n, p in model.named_parameters() if p.ndim != 2 and p.numel() <= 1024))
        grads = torch.autograd.grad(loss, (*values, seen["tokens"]))
        save(
            f"variants/{name}.safetensors",
            {
                "pixels": pixels,
                "labels": labels,
                **seen,
                "loss": loss.reshape(1),
                **{"grad." + n: g for n, g in zip((*names, "tokens"), grads)},
            },
        )
        rows.append(
            {
                "name": name,
                "checkpoint": f"variants/{name}",
                "expected": f"variants/{name}.safetensors",
                "height": SIZE,
                "width": SIZE,
                "model_args": args,
                "what": what,
            }
        )
    state = load_file(path("vit/model.safetensors"))
    for height, width in RESAMPLED:
        name = f"resample_{height}x{width}"
        args = {**MAIN, "img_size": (height, width)}
        model = build(args)
        model.load_state_dict(checkpoint_filter_fn(state, model), strict=True)
        position = model.pos_embed.detach().clone()
        pixels = images(name, BATCH, height, width)
        with torch.no_grad():
            seen = observed(model.double(), normalised(pixels))
        save(
            f"variants/{name}.safetensors",
            {"pixels": pixels, "pos_embed": position, "tokens": seen["tokens"], "logits": seen["logits"]},
        )
        rows.append(
            {
                "name": name,
                "checkpoint": "vit",
                "expected": f"variants/{name}.safetensors",
                "height": height,
                "width": width,
                "model_args": args,
                "what": "position embeddings resampled by timm (bicubic with antialias, in float32) from a 4x4 grid to "
                f"{height // 8} rows of {width // 8}; the class token's row is kept",
            }
        )
    save_json("variants.json", rows)


# ---- methods: timm's modules with the formulas hooked in ----


def bottleneck(p, prefix, x, o):
    if o["layernorm"]:
        x = F.layer_norm(x, x.shape[-1:], p[prefix + ".norm.weight"], p[prefix + ".norm.bias"], EPS)
    x = F.linear(x, p[prefix + ".down.weight"], p.get(prefix + ".down.bias"))
    x = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "none": lambda v: v}[o["activation"]](x)
    x = F.linear(x, p[prefix + ".up.weight"], p.get(prefix + ".up.bias"))
    return x * (
        p[prefix + ".scaling"]
        if o["scaling"] in ("learned", "channel")
        else o["scale"] if o["scaling"] == "fixed" else 1
    )


def bottleneck_block(block, i, p, o, function=bottleneck):
    def attention(x):
        return block.ls1(block.attn(block.norm1(x)))

    def ffn(x):
        return block.ls2(block.mlp(block.norm2(x)))

    def adapter(x, name="adapter"):
        return function(p, f"blocks.{i}.{name}", x, o)

    def post(x):
        x = x + attention(x)
        x = x + ffn(x)
        return x + adapter(x)

    def pre(x):
        x = x + attention(x)
        x = x + adapter(x)
        return x + ffn(x)

    def parallel(x):
        y = x + attention(x)
        return y + ffn(y) + adapter(y)

    def intermediate(x):
        x = x + attention(x)
        s = ffn(x)
        return x + s + adapter(s)

    def houlsby(x):
        s = attention(x)
        x = x + s + adapter(s, "adapter_attn")
        s = ffn(x)
        return x + s + adapter(s)

    def pfeiffer(x):
        y = x + attention(x)
        s = ffn(y)
        return y + s + adapter(y + s)

    def pre_post(x):
        x = x + attention(x)
        x = x + adapter(x, "adapter_attn")
        x = x + ffn(x)
        return x + adapter(x)

    forward = {
        "post": post,
        "pre": pre,
        "parallel": parallel,
        "intermediate": intermediate,
        "houlsby": houlsby,
        "pfeiffer": pfeiffer,
        "pre_post": pre_post,
    }
    return forward[o["position"]]


def low_rank(p, slot, x, o):
    return F.linear(F.linear(x, p[slot + ".lora_A.weight"]), p[slot + ".lora_B.weight"]) * (o["alpha"] / o["rank"])


def hook_lora(model, p, o):
    targets = o["targets"].split(",")
    for i, block in enumerate(model.blocks):

        def on_qkv(m, a, out, i=i):
            parts = [
                low_rank(p, f"blocks.{i}.attn.{t}", a[0], o) if t in targets else torch.zeros_like(a[0]) for t in "qkv"
            ]
            return out + torch.cat(parts, -1)

        block.attn.qkv.register_forward_hook(on_qkv)
        for target, slot in [("proj", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")]:
            if target in targets:
                block.get_submodule(slot).register_forward_hook(
                    lambda m, a, out, s=f"blocks.{i}.{slot}": out + low_rank(p, s, a[0], o)
                )


def hook_vpt(model, p, o):
    def insert(i, skip):
        def hook(m, a):
            x = a[0]
            return (torch.cat([x[:, :1], p[f"prompts.{i}.weight"].expand(x.shape[0], -1, -1), x[:, 1 + skip :]], 1),)

        return hook

    for i, block in enumerate(model.blocks if o["deep"] else model.blocks[:1]):
        block.register_forward_pre_hook(insert(i, o["prompts"] if i else 0))


def ssf_sites(depth):
    yield "patch_embed.proj", WIDTH
    for i in range(depth):
        for site, times in [
            ("norm1", 1),
            ("attn.qkv", 3),
            ("attn.proj", 1),
            ("norm2", 1),
            ("mlp.fc1", 4),
            ("mlp.fc2", 1),
        ]:
            yield f"blocks.{i}.{site}", times * WIDTH
    yield "norm", WIDTH


def hook_ssf(model, p):
    for site, _ in ssf_sites(len(model.blocks)):

        def hook(m, a, out, site=site):
            channels = (1, -1, 1, 1) if out.ndim == 4 else (-1,)
            return out * p[site + ".ssf_scale"].view(channels) + p[site + ".ssf_shift"].view(channels)

        model.get_submodule(site).register_forward_hook(hook)


def parameters(name, method, o, state, depth):
    """Random values, large enough that every gradient matters; never those of a fresh adapter."""
    rng, p = generator("case " + name), {}
    if method == "bottleneck":
        for i in range(depth):
            for slot in (["adapter_attn"] if o["position"] in ("houlsby", "pre_post") else []) + ["adapter"]:
                q = f"blocks.{i}.{slot}."
                if o["layernorm"]:
                    p[q + "norm.weight"], p[q + "norm.bias"] = draw(rng, [WIDTH], 0.2, 1), draw(rng, [WIDTH], 0.2)
                p[q + "down.weight"] = draw(
                    rng, [o["rank"], WIDTH], 0.12
                )  # small enough that no unit of GELU is saturated
                if o["bias"]:
                    p[q + "down.bias"] = draw(rng, [o["rank"]], 0.25)
                p[q + "up.weight"] = draw(rng, [WIDTH, o["rank"]], 0.25)
                if o["bias"]:
                    p[q + "up.bias"] = draw(rng, [WIDTH], 0.25)
                if o["scaling"] in ("learned", "channel"):
                    p[q + "scaling"] = draw(rng, [WIDTH if o["scaling"] == "channel" else 1], 0.3, 1)
    elif method == "lora":
        slots = {
            "q": ("attn.q", 1, 1),
            "k": ("attn.k", 1, 1),
            "v": ("attn.v", 1, 1),
            "proj": ("attn.proj", 1, 1),
            "fc1": ("mlp.fc1", 1, 4),
            "fc2": ("mlp.fc2", 4, 1),
        }
        for i in range(depth):
            for target in o["targets"].split(","):
                slot, fan_in, fan_out = slots[target]
                p[f"blocks.{i}.{slot}.lora_A.weight"] = draw(rng, [o["rank"], fan_in * WIDTH], 0.15)
                p[f"blocks.{i}.{slot}.lora_B.weight"] = draw(rng, [fan_out * WIDTH, o["rank"]], 0.15)
    elif method == "vpt":
        for i in range(depth if o["deep"] else 1):
            p[f"prompts.{i}.weight"] = draw(rng, [o["prompts"], WIDTH], 0.5)
    elif method == "ssf":
        for site, count in ssf_sites(depth):
            p[site + ".ssf_scale"], p[site + ".ssf_shift"] = draw(rng, [count], 0.2, 1), draw(rng, [count], 0.2)
    elif method in ("bitfit", "layernorm"):
        part = {"bitfit": "bias", "layernorm": "norm"}[method]
        p = {k: v + draw(rng, v.shape, 0.1) for k, v in state.items() if part in k and not k.startswith("head")}
    p["head.weight"], p["head.bias"] = draw(rng, [CLASSES, WIDTH], 0.2), draw(rng, [CLASSES], 0.2)
    return p


def tuned(checkpoint, method, o, p, dtype=torch.float64, block_forward=bottleneck_block, seen=None):
    """pixels -> logits of timm's model with the method's parameters `p` (by name, read at each call). Of method
    "bottleneck", or where it is given, `block_forward` makes the blocks' forward functions. `seen` is a list to which
    every block adds its output."""
    config = load_json(checkpoint, "config.json")
    model = build({k: v for k, v in config["model_args"].items() if k != "num_classes"})
    model.load_state_dict(load_file(path(checkpoint, "model.safetensors")), strict=True)
    model.to(dtype).requires_grad_(False)
    if method == "bottleneck" or block_forward is not bottleneck_block:
        for i, block in enumerate(model.blocks):
            block.forward = block_forward(block, i, p, o)
    if method == "lora":
        hook_lora(model, p, o)
    elif method == "vpt":
        hook_vpt(model, p, o)
    elif method == "ssf":
        hook_ssf(model, p)
    for block in model.blocks if seen is not None else []:
        block.register_forward_hook(lambda m, a, out: seen.append(out))
    own = set(model.state_dict())
    return lambda pixels: torch.func.functional_call(
        model, {k: v for k, v in p.items() if k in own}, (normalised(pixels, dtype),)
    )


def case_table():
    plain = {
        "position": "post",
        "rank": RANK,
        "activation": "gelu",
        "layernorm": False,
        "bias": True,
        "scaling": "channel",
        "scale": 1.0,
        "init": "houlsby",
        "dropout": 0.0,
        "drop_path": 0.0,
    }

    def adapter(name, checkpoint="vit", **changes):
        return name, "bottleneck", {**plain, **changes}, checkpoint

    for position in ("post", "pre", "parallel", "intermediate", "houlsby", "pfeiffer"):
        yield adapter(position, position=position, layernorm=position == "pfeiffer")
    for scaling in ("none", "fixed", "learned"):
        yield adapter("post_scaling_" + scaling, scaling=scaling, scale=0.7 if scaling == "fixed" else 1.0)
    yield adapter("post_linear", activation="none")
    yield adapter("post_relu", activation="relu")
    yield adapter("post_layernorm", layernorm=True)
    yield adapter("post_no_bias", bias=False)
    yield adapter("post_relu_no_bias", activation="relu", bias=False)
    yield adapter("adaptformer", position="parallel", activation="relu", scaling="fixed", scale=0.1)
    yield adapter("post_layerscale", "variants/layerscale")
    yield adapter("post_avg", "variants/avg")
    yield "lora_qv", "lora", {"rank": RANK, "alpha": 6.0, "dropout": 0.0, "targets": "q,v"}, "vit"
    yield "lora_all", "lora", {"rank": RANK, "alpha": 6.0, "dropout": 0.0, "targets": "q,k,v,proj,fc1,fc2"}, "vit"
    yield "vpt_shallow", "vpt", {"prompts": 3, "deep": False, "dropout": 0.0}, "vit"
    yield "vpt_deep", "vpt", {"prompts": 3, "deep": True, "dropout": 0.0}, "vit"
    for method in ("bitfit", "ssf", "linear", "layernorm"):
        yield method, method, {}, "vit"


def make_cases():
    base, rows = load_file(path("base.safetensors")), []
    for name, method, o, checkpoint in case_table():
        state = load_file(path(checkpoint, "model.safetensors"))
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        values = parameters(name, method, o, state, depth)
        p = {k: v.double().requires_grad_() for k, v in values.items()}
        logits = tuned(checkpoint, method, o, p)(base["pixels"])
        loss = loss_of(logits, base["labels"])
        grads = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
        save(
            f"methods/{name}.safetensors",
            {
                "logits": logits,
                "loss": loss.reshape(1),
                **{"param." + k: v for k, v in values.items()},
                **{"grad." + k: v for k, v in grads.items()},
            },
        )
        count = {
            head: sum(v.numel() for k, v in values.items() if k.startswith("head.") == head) for head in (False, True)
        }
        rows.append(
            {
                "name": name,
                "method": method,
                "options": o,
                "backbone": checkpoint,
                "file": f"methods/{name}.safetensors",
                "param_count": count[False],
                "head_param_count": count[True],
                "loss": loss.item(),
            }
        )
    save_json("cases.json", rows)


# ---- optimiser and schedule ----


def rate(epoch, lr, start, end, warmup, epochs):
    """Linear warm-up, then cosine (visinf/adapter_plus, modeling/lr_scheduler.py)."""
    if epoch < warmup:
        return start + epoch * (lr - start) / (warmup - 1)
    return end + 0.5 * (lr - end) * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def make_schedule():
    s = {"epochs": 100, "warmup": 10, "lr": 1e-3, "start": 1e-5, "end": 1e-6}
    f = [rate(e, s["lr"], s["start"], s["end"], s["warmup"], s["epochs"]) for e in range(100)]
    save_json("schedule.json", {**s, "plain": f, "repeat_first": [f[max(0, e - 1)] for e in range(100)]})


# file, seed name, peak learning rate, weight decay
# The recipe's decay is too weak to be seen in ten steps, so a second run decays strongly.
STEPS = [("steps", "steps", 1e-3, 1e-4), ("steps_decay", "steps", 1e-2, 0.5)]
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


def run_steps(values, pixels, labels, lr, decay, o, dtype):
    p = {k: v.to(dtype).requires_grad_() for k, v in values.items()}
    model = tuned("vit", "bottleneck", o, p, dtype)
    groups = [
        {"params": [v for v in p.values() if v.ndim >= 2], "weight_decay": decay},
        {"params": [v for v in p.values() if v.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser, losses = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=ADAM_EPS), []
    for step in range(10):
        for g in optimiser.param_groups:
            g["lr"] = lr[step].item()
        loss = loss_of(model(pixels[step % 4]), labels[step % 4])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), {k: v.detach() for k, v in p.items()}


def make_steps():
    for file, seed, peak, decay in STEPS:
        o = next(o for name, _, o, _ in case_table() if name == "post")
        values = parameters(seed, "bottleneck", o, {}, DEPTH)
        pixels = images(seed, 4 * BATCH).reshape(4, BATCH, SIZE, SIZE, 3)
        labels = torch.from_numpy(generator("labels " + seed).integers(0, CLASSES, (4, BATCH)).astype(np.int32))
        lr = torch.tensor([rate(s, peak, peak / 100, peak / 1000, 4, 10) for s in range(10)], dtype=torch.float32)
        losses, final = run_steps(values, pixels, labels, lr, decay, o, torch.float64)
        save(
            file + ".safetensors",
            {
                "pixels": pixels,
                "labels": labels,
                "lr": lr,
                "losses": losses,
                **{"param." + k: v for k, v in values.items()},
                **{"final." + k: v for k, v in final.items()},
            },
        )
        save_json(
            file + ".json",
            {
                "method": "bottleneck",
                "options": o,
                "backbone": "vit",
                "steps": 10,
                "batches": "step s reads batch s % 4",
                "computed_in": "float64",
                "weight_decay": decay,
                "decayed": "tensors of 2 dimensions or more",
                "betas": BETAS,
                "eps": ADAM_EPS,
                "losses": losses.tolist(),
            },
        )


# ---- the real checkpoint ----


def real_model(assets):
    folder = os.path.join(assets, "backbones", "vit_tiny_patch16_224")
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    model = timm.create_model(config["architecture"], pretrained=False, num_classes=config["num_classes"]).eval()
    model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")), strict=True)
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    return model, timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"]), digest


def real_images(assets, data_config):
    transform = timm.data.create_transform(**data_config, is_training=False)
    root = os.path.join(assets, "data", "imagenet_sample")
    with open(os.path.join(root, "labels.csv")) as f:
        rows = list(csv.DictReader(f))[:8]
    tensors, crops = [], []
    for row in rows:
        image = Image.open(os.path.join(root, row["path"])).convert("RGB")
        tensors.append(transform(image))
        crops.append(
            hashlib.sha256(np.asarray(transform.transforms[1](transform.transforms[0](image))).tobytes()).hexdigest()
        )
    return rows, torch.stack(tensors), crops


def make_real(assets):
    model, data_config, digest = real_model(assets)
    rows, x, crops = real_images(assets, data_config)
    with torch.no_grad():
        logits = model(x)
    save("vit_tiny_logits.safetensors", {"logits": logits})
    save_json(
        "vit_tiny_logits.json",
        {
            "model": "vit_tiny_patch16_224",
            "sha256": digest,
            "computed_in": "float32",
            "data_set": "imagenet_sample",
            "transform": "shorter side to 248 (Pillow bicubic), centre crop 224, (x / 255 - 0.5) / 0.5",
            "images": [
                {"path": r["path"], "label": int(r["label"]), "top1": t, "crop_sha256": c}
                for r, t, c in zip(rows, logits.argmax(1).tolist(), crops)
            ],
        },
    )


def main():
    global OUT
    ap = argparse.ArgumentParser(description="Makes or checks the oracles of the tests.")
    ap.add_argument("--out", default=OUT)
    ap.add_argument("--assets", help="folder with backbones/vit_tiny_patch16_224 and data/imagenet_sample")
    ap.add_argument("--check", action="store_true", help="verify what is there instead of writing it")
    a = ap.parse_args()
    OUT = os.path.abspath(a.out)
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers about its own names
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    timm.layers.set_fused_attn(False)
    torch.set_num_threads(1)
    if a.check:
        import check_oracles

        return check_oracles.run(sys.modules[__name__], a.assets)
    for make in (make_main, make_base, make_variants, make_cases, make_steps, make_schedule):
        make()
    oracle_training.make(sys.modules[__name__])
    oracle_options.make(sys.modules[__name__])
    oracle_optimizers.make(sys.modules[__name__])
    oracle_operations.make(sys.modules[__name__])
    if a.assets:
        make_real(a.assets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
