"""The same work in PyTorch: timm's ViT (vit.py's where there is no timm) with Adapter+ r = 8 after every block, frozen
backbone, AdamW. bf16 is autocast. usage: torch_peer.py ti|b THREADS f32|bf16 BATCH VARIANT, VARIANT fused or plain
(attention), perhaps with ",compiled"; then tasks on standard input
"""

import importlib.util
import os
import sys
import warnings

size, threads, precision, batch, variant = (
    sys.argv[1],
    int(sys.argv[2]),
    sys.argv[3],
    int(sys.argv[4]),
    sys.argv[5].split(","),
)
if precision == "f32" and importlib.util.find_spec("torch").origin.startswith("/usr/lib/python3/dist-packages"):
    os.environ["OMP_WAIT_POLICY"] = (
        "PASSIVE"  # Debian's multiplies with the machine's BLAS, whose threads get no processor while OpenMP's spin
    )

import torch
import torch.nn as nn
import torch.nn.functional as F

import turns
import vit

try:
    import timm
except ImportError:
    timm = None

warnings.filterwarnings("ignore")
torch.set_num_threads(threads)
torch.manual_seed(0)
if timm:
    timm.layers.set_fused_attn("fused" in variant)
    model = timm.create_model(
        {"ti": "vit_tiny_patch16_224", "b": "vit_base_patch16_224"}[size], num_classes=100, drop_path_rate=0.1
    )
else:
    model = vit.ViT({"ti": 192, "b": 768}[size], 100, "fused" in variant, 0.1)


class Adapter(nn.Module):
    def __init__(self, block, width, rank=8):
        super().__init__()
        self.block, self.down, self.up = block, nn.Linear(width, rank), nn.Linear(rank, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x, *args, **kwargs):
        x = self.block(x, *args, **kwargs)
        return x + self.up(F.gelu(self.down(x))) * self.scale


for p in model.parameters():
    p.requires_grad_(False)
for p in model.head.parameters():
    p.requires_grad_(True)
for i, block in enumerate(model.blocks):
    model.blocks[i] = Adapter(block, model.embed_dim)
optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, weight_decay=1e-4)
images, labels = torch.randn(batch, 3, 224, 224), torch.randint(0, 100, (batch,))
run = torch.compile(model) if "compiled" in variant else model


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def train():
    if not model.training:
        model.train()
    with autocast():
        loss = F.cross_entropy(run(images).float(), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def infer():
    if model.training:
        model.eval()
    with torch.no_grad(), autocast():
        run(images)


turns.answer(f"PyTorch {torch.__version__.split('+')[0]}", {"infer": infer, "train": train})
