"""The same work in PyTorch: timm's ViT with Adapter+ r = 8 after every block, frozen backbone, AdamW. usage: torch_peer.py ti|b THREADS f32|bf16 BATCH [fused|plain]"""
import resource
import sys
import time
import warnings

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F

warnings.filterwarnings("ignore")
size, threads, precision, batch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
fused = len(sys.argv) < 6 or sys.argv[5] == "fused"
torch.set_num_threads(threads)
torch.manual_seed(0)
timm.layers.set_fused_attn(fused)
model = timm.create_model({"ti": "vit_tiny_patch16_224", "b": "vit_base_patch16_224"}[size], num_classes=100, drop_path_rate=0.1)


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


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def step():
    with autocast():
        loss = F.cross_entropy(model(images).float(), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def best(work, runs=5):
    work()
    shortest = 1e9
    for _ in range(runs):
        begun = time.time()
        work()
        shortest = min(shortest, time.time() - begun)
    return batch / shortest


def infer():
    with torch.no_grad(), autocast():
        model(images)


model.train()
train_speed = best(step)
model.eval()
infer_speed = best(infer)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(f"torch {torch.__version__} {'fused' if fused else 'plain'} {precision} thr {threads} B {batch}: train {train_speed:.1f} infer {infer_speed:.1f} img/s peakRSS {memory:.2f} GB")
