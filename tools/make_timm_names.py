#!/usr/bin/env python3
"""Writes src/compose/timm_names.def: the architectures of timm that are plain ViTs, with the epsilon of their LayerNorms.

A checkpoint that Inlay writes keeps its architecture's name when it is one of these; all else that the name implies is written into model_args.

    python3 tools/make_timm_names.py > src/compose/timm_names.def
"""
import timm
import torch
from timm.layers import LayerNorm, Mlp, PatchEmbed
from timm.models import vision_transformer as vit
from timm.models.deit import VisionTransformerDistilled


def plain(name):
    """(epsilon, distilled) of a plain ViT, else None."""
    with torch.device("meta"):
        try:
            model = timm.create_model(name)
        except Exception:
            return None
    if type(model) not in (vit.VisionTransformer, VisionTransformerDistilled) or model.global_pool not in ("token", "avg"):
        return None
    block, norm = model.blocks[0], model.norm if isinstance(model.norm, torch.nn.LayerNorm) else model.fc_norm
    if type(block) is not vit.Block:
        return None
    kinds = ((block.mlp, Mlp), (block.attn, vit.Attention), (model.patch_embed, PatchEmbed), (norm, LayerNorm))
    if any(type(part) is not kind for part, kind in kinds) or not isinstance(model.patch_embed.norm, torch.nn.Identity):
        return None
    if not isinstance(block.attn.norm, torch.nn.Identity) or not isinstance(block.mlp.norm, torch.nn.Identity):
        return None
    return norm.eps, type(model) is VisionTransformerDistilled


print(f"/* Architectures of timm {timm.__version__} that are plain ViTs: name, epsilon, with a distillation token.")
print(" * Made by tools/make_timm_names.py. */")
for name in sorted(timm.list_models(module="vision_transformer") + timm.list_models(module="deit")):
    found = plain(name)
    if found:
        print(f'TIMM_NAME("{name}", {found[0]!r}, {str(found[1]).lower()})')
