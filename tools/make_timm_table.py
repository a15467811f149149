"""make_timm_table.py > src/backbones/vit_timm.def: what timm's names of vision transformers stand for.

config.json of a timm checkpoint names the architecture; heads, activation, epsilon and pooling are in the code of timm
alone. Every registered name whose model is a VisionTransformer gets a row, deprecated names included. What Inlay has no
computation for is a reason to refuse. 'KEPT': a checkpoint that Inlay writes may keep the name, because timm makes a
plain ViT by it whose parts all follow from model_args; else 'READ'. Needs timm; no weights are made.
"""

import importlib
import warnings

import timm
import timm.layers
import torch
from timm.layers import PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models._registry import _model_entrypoints, _model_to_module
from timm.models.vision_transformer import VisionTransformer

ACTIVATIONS = {"GELU": "GELU", "GELUTanh": "GELU_TANH", "QuickGELU": "QUICK_GELU", "SiLU": "SILU", "ReLU": "RELU"}
POOLS = {"token": "TOKEN", "avg": "AVERAGE", "map": "MAP"}
NORMS = ("Identity", "LayerNorm")


def candidates():
    """Names of the modules that build a VisionTransformer."""
    for name in sorted(_model_entrypoints):
        module = importlib.import_module("timm.models." + _model_to_module[name])
        with open(module.__file__) as f:
            if "VisionTransformer" in f.read():
                yield name


def create(name):
    """The model without memory for weights; a deprecated name stands for another one."""
    for attempt in (name, name.removesuffix("_sam")):
        try:
            with torch.device("meta"):
                return timm.create_model(attempt, num_classes=10)
        except RuntimeError:
            continue
    return None


def kind(module):
    return type(module).__name__


def refusal(m):
    """What of the model Inlay does not compute; None: nothing."""
    block = m.blocks[0]
    if type(m.patch_embed) is not PatchEmbed:
        return "patch embedding %s" % kind(m.patch_embed)
    if kind(block) != "Block":
        return "blocks of kind %s" % kind(block)
    if kind(block.attn) != "Attention":
        return "attention of kind %s" % kind(block.attn)
    if kind(block.mlp) != "Mlp":
        return "feed-forward part of kind %s" % kind(block.mlp)
    norms = [block.norm1, block.norm2, m.norm_pre, m.norm, m.fc_norm, block.attn.q_norm, block.attn.k_norm]
    for norm in norms:
        if kind(norm) not in NORMS:
            return "normalisation %s" % kind(norm)
    for part in (m.patch_embed.norm, block.attn.norm, block.mlp.norm):
        if kind(part) != "Identity":
            return "normalisation inside of patch embedding, attention or feed-forward part"
    if m.global_pool not in POOLS:
        return "pooling %s" % m.global_pool
    if m.pos_embed is None:
        return "no position embeddings"
    assert block.attn.num_heads * block.attn.head_dim == m.embed_dim and block.attn.gate is None
    assert len({norm.eps for norm in norms if kind(norm) == "LayerNorm"}) == 1
    if m.attn_pool is not None:
        assert m.attn_pool.num_heads == block.attn.num_heads and m.attn_pool.norm.eps == block.norm1.eps
        assert kind(m.attn_pool.mlp.act) == kind(block.mlp.act)
    return None


def parts(m):
    """Tensors that a file must have, which some models have and others do not."""
    block = m.blocks[0]
    has = {
        "CLASS": m.has_class_token,
        "DISTILLATION": hasattr(m, "dist_token"),
        "REGISTERS": m.num_reg_tokens > 0,
        "PRE_NORM": kind(m.norm_pre) != "Identity",
        "QKV_BIAS": block.attn.qkv.bias is not None,
        "QK_NORM": kind(block.attn.q_norm) != "Identity",
        "LAYER_SCALE": kind(block.ls1) != "Identity",
        "FINAL_NORM": kind(m.norm) != "Identity" or kind(m.fc_norm) != "Identity",
        "PREFIX_POOLED": m.pool_include_prefix,
    }
    return " | ".join("PART_" + part for part, there in has.items() if there) or "0"


def keeping(name, m):
    """Deprecated names stand for others; the classes of a few models have code of their own."""
    own = type(m) in (VisionTransformer, VisionTransformerDistilled) and m.global_pool in ("token", "avg")
    norm = m.norm if kind(m.norm) != "Identity" else m.fc_norm
    listed = name in timm.list_models(module="vision_transformer") + timm.list_models(module="deit")
    return "KEPT" if own and listed and type(norm) is timm.layers.LayerNorm else "READ"


def row(name, m):
    reason = refusal(m)
    if reason:
        return 'REFUSED(%s, "%s")' % (name, reason)
    (size,) = set(m.patch_embed.img_size)
    (patch,) = set(m.patch_embed.patch_size)
    block = m.blocks[0]
    numbers = name, m.embed_dim, block.attn.num_heads, patch, size
    rest = ACTIVATIONS[kind(block.mlp.act)], block.norm1.eps, POOLS[m.global_pool], keeping(name, m), parts(m)
    return "TIMM(%s, %d, %d, %d, %d, %s, %.0e, %s, %s,\n     %s)" % (*numbers, *rest)


def main():
    warnings.filterwarnings("ignore")
    print("/* Vision transformers by the names of timm %s, written by tools/make_timm_table.py." % timm.__version__)
    print(
        " * TIMM(name, width, heads, patch, image size, activation, epsilon, pooling, "
        "whether written checkpoints keep it,"
    )
    print(" *      tensors that a file has),")
    print(" * REFUSED(name, what it has that is not supported) */")
    for name in candidates():
        m = create(name)
        if isinstance(m, VisionTransformer):
            print(row(name, m))


if __name__ == "__main__":
    main()
