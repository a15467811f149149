"""Twelve training steps under the optimisers and schedules of the methods' authors, among the oracles.

SGD, Adam and AdamW are torch.optim's, clipping is torch.nn.utils.clip_grad_norm_, the linear schedule that of
transformers, SSF's that of timm. transformers 5 has no AdamW of its own any more, and BERT's is TensorFlow's: both are
written out here, as are the cosine of MoSA and the per-step one of AdaptFormer. make_oracles.py calls make();
tests/data/oracle/README.md describes the files."""

import math

import torch
from timm.scheduler import CosineLRScheduler
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_linear_schedule_with_warmup

import oracle_training as training

STEPS, PER_EPOCH = 12, 2


class Moments(torch.optim.Optimizer):
    """AdamW as transformers had it (corrected, eps in front of the correction, decay behind the step), and BERT's
    (not corrected, decay of the value in front of the step)."""

    def __init__(self, groups, lr, betas, eps, bert):
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.bert = bert

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (b1, b2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
            for p in [p for p in group["params"] if p.grad is not None]:
                state = self.state[p]
                if not state:
                    state.update(step=torch.tensor(0), m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                state["m"] = b1 * state["m"] + (1 - b1) * p.grad
                state["v"] = b2 * state["v"] + (1 - b2) * p.grad**2
                update, n = state["m"] / (state["v"].sqrt() + group["eps"]), state["step"].item()
                if self.bert:
                    p -= lr * (update + decay * p)
                else:
                    p -= lr * math.sqrt(1 - b2**n) / (1 - b1**n) * update
                    p -= lr * decay * p


def cosine(step, warmup, length):
    return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (length - warmup)))


def lambdas(function):
    """Learning rates of all steps, from a schedule that torch or transformers makes for an optimiser."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, out = function(optimiser), []
    for _ in range(STEPS):
        out.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return out


def rates(row):
    """Of each step, as the authors' scheduler has them."""
    peak, s = row["lr"], row["schedule"]
    epochs, warmup = STEPS // PER_EPOCH, s["warmup_epochs"]
    if s["of"] == "transformers":
        steps = math.ceil(s["warmup_share"] * STEPS) if s["warmup_share"] else warmup * PER_EPOCH
        return [peak * f for f in lambdas(lambda o: get_linear_schedule_with_warmup(o, steps, STEPS))]
    if s["of"] == "timm":
        optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
        scheduler = CosineLRScheduler(optimiser, epochs, s["min_lr"], warmup_t=warmup, warmup_lr_init=s["warmup_lr"])
        out = []
        for epoch in range(epochs):
            scheduler.step(epoch)
            out += [optimiser.param_groups[0]["lr"]] * PER_EPOCH
        return out
    if s["schedule_unit"] == "step":
        return [peak * f for f in lambdas(lambda o: LambdaLR(o, lambda i: cosine(i / PER_EPOCH, warmup, epochs)))]
    return [peak * cosine(step // PER_EPOCH, warmup, epochs) for step in range(STEPS)]


def decays(row, name, value):
    return row["decay_on"] == "all" or (value.ndim >= 2 if row["decay_on"] == "matrices" else "bias" not in name)


def make_optimiser(row, p):
    groups = [
        {"params": [v], "factor": own_rate(row, k), "weight_decay": row["weight_decay"] * decays(row, k, v)}
        for k, v in p.items()
    ]
    if row["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=row["momentum"])
    if row["adam_rule"] != "torch":
        return Moments(groups, 0.0, row["betas"], row["adam_eps"], row["adam_rule"] == "bert")
    kind = torch.optim.AdamW if row["weight_decay"] else torch.optim.Adam
    return kind(groups, lr=0.0, betas=row["betas"], eps=row["adam_eps"])


def own_rate(row, name):
    return training.own_rate(row, name) / row["lr"] if row["method"] == "adaptable" else 1.0


def run_steps(m, row, values, open_entries, inputs, lr, dtype):
    p = {k: v.to(dtype).requires_grad_() for k, v in values.items()}
    optimiser, losses, norms = make_optimiser(row, p), [], []
    for step in range(STEPS):
        for g in optimiser.param_groups:
            g["lr"] = lr[step].item() * g["factor"]
        when = {"seed": row["seed"], "step": step, "epoch": step // PER_EPOCH, "epochs": STEPS // PER_EPOCH}
        loss = training.step_loss(
            m, row, training.passes(m, row, p, inputs["pixels"][step % 4], when, dtype), inputs["labels"][step % 4]
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for k, mask in open_entries.items():
            if p[k].grad is not None:
                p[k].grad *= mask
        if row["clip_grad_norm"]:
            norms.append(torch.nn.utils.clip_grad_norm_(p.values(), row["clip_grad_norm"]).item())
        before = {k: p[k].detach().clone() for k in open_entries}
        optimiser.step()
        for k, mask in open_entries.items():  # decay stays within the mask as well
            p[k].data = torch.where(mask.bool(), p[k].data, before[k])
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64), {k: v.detach() for k, v in p.items()}, norms


def step_table():
    mosa = {
        "style": "adaptformer",
        "experts": 3,
        "split": "up",
        "mask": "all",
        "consistency": 1.0,
        "second_loss": 0.0,
        "deep_regulariser": False,
        "rank": 4,
        "dropout": 0.0,
    }
    adamix = {
        "kind": "adapter",
        "experts": 3,
        "share": "none",
        "consistency": 1.0,
        "rank": 4,
        "position": "intermediate",
        "activation": "gelu",
        "dropout": 0.0,
    }
    switched = {
        "switches": True,
        "layers": "all",
        "rank": 4,
        "position": "post",
        "version": "B",
        "temperature": 1.0,
        "min_temperature": 1.0,
        "switch_lr": 0.05,
        "rational_lr": 0.01,
        "dropout": 0.0,
    }
    bias = {"share_alpha": False, "norms": "ffn"}

    def row(name, method, o, lr, schedule, **changes):
        common = {
            "optimizer": "adamw",
            "adam_rule": "torch",
            "weight_decay": 0.0,
            "decay_on": "matrices",
            "momentum": 0.9,
            "betas": [0.9, 0.999],
            "adam_eps": 1e-8,
            "clip_grad_norm": 0.0,
        }
        plan = {
            "schedule": "cosine",
            "schedule_unit": "epoch",
            "warmup_epochs": 2,
            "warmup_share": 0.0,
            "warmup_lr": 0.0,
            "min_lr": 0.0,
            "peak_in_warmup": False,
            "decay_from_start": False,
            "of": "authors",
        }
        return {
            "name": "optimizers_" + name,
            "method": method,
            "options": o,
            "backbone": "vit",
            "seed": 2**33 + 5,
            "lr": lr,
            **common,
            **changes,
            "schedule": {**plan, **schedule},
        }

    linear = {"schedule": "linear", "schedule_unit": "step", "of": "transformers"}
    yield row(
        "mosa", "mosa", mosa, 1e-3, {}, adam_rule="transformers", weight_decay=0.01, decay_on="weights", adam_eps=1e-6
    )
    # the same with numbers under which each difference from torch's AdamW is seen within twelve steps
    yield row(
        "transformers",
        "mosa",
        {**mosa, "split": "both"},
        1e-2,
        {},
        adam_rule="transformers",
        weight_decay=0.5,
        decay_on="weights",
        adam_eps=1e-3,
    )
    yield row("adaptable", "adaptable", switched, 1e-3, {**linear, "warmup_epochs": 0}, clip_grad_norm=1.0)
    yield row(
        "adamix",
        "adamix",
        adamix,
        1e-3,
        {**linear, "warmup_epochs": 0, "warmup_share": 0.3},
        adam_rule="transformers",
        weight_decay=0.1,
        clip_grad_norm=1.0,
    )
    yield row(
        "bert",
        "adapter_bias",
        bias,
        1e-3,
        {**linear, "warmup_epochs": 1},
        adam_rule="bert",
        weight_decay=0.5,
        adam_eps=1e-3,
        clip_grad_norm=1.0,
    )
    timm = {"warmup_lr": 1e-5, "min_lr": 1e-4, "decay_from_start": True, "of": "timm"}
    yield row("ssf", "adapter_bias", bias, 5e-3, timm, weight_decay=0.05)
    yield row(
        "sgd", "adamix", adamix, 0.05, {"schedule_unit": "step"}, optimizer="sgd", weight_decay=0.01, decay_on="all"
    )
    yield row(
        "sgd_masked",
        "mosa",
        {**mosa, "split": "both"},
        0.05,
        {},
        optimizer="sgd",
        weight_decay=0.1,
        momentum=0.8,
        clip_grad_norm=0.5,
    )


def make(m):
    inputs = m.load_file(m.path("steps.safetensors"))
    for row in step_table():
        values = training.parameters(
            m, row["name"], row["method"], row["options"], m.load_file(m.path(row["backbone"], "model.safetensors"))
        )
        table = list(training.sides(row["method"], row["options"], m.DEPTH, m.WIDTH)) if row["method"] == "mosa" else []
        open_entries = training.masks(row["method"], row["options"], table, row["seed"])
        lr = torch.tensor(rates(row), dtype=torch.float32)
        losses, final, norms = run_steps(m, row, values, open_entries, inputs, lr, torch.float64)
        assert not norms or max(norms) > 1.5 * row["clip_grad_norm"], "no step is clipped"
        before, after = {"param." + k: v for k, v in values.items()}, {"final." + k: v for k, v in final.items()}
        m.save(row["name"] + ".safetensors", {"lr": lr, "losses": losses, **before, **after})
        m.save_json(row["name"] + ".json", {**row, "computed_in": "float64", "losses": losses.tolist(), "norms": norms})
