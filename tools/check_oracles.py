"""Verifies tests/data/oracle by other routes than those that made it: make_oracles.py --check.

  layouts     the same model read by transformers, by timm from .npz, and from shards gives the same weights and logits
  methods     a ViT written out in plain torch, with adapters as edges between named places, gives the same logits,
              losses and gradients; PEFT does for LoRA; scales and shifts folded into the weights do for SSF
  training    the same ViT with the adapters that each pass draws, and the loss's gradient by formula where a target
              counts as constant
  steps       AdamW written out gives the same losses and parameters
  draws       without rates the blocks under dropout and stochastic depth are the plain ones
  files       a second run of the generator gives the same tensors

Also prints how far PyTorch in float32 is from the float64 results: what a float32 engine cannot be expected to beat."""

import math
import os
import tempfile

import numpy as np
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

failures = []


def verify(what, error, limit):
    ok = bool(error <= limit)
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {error:.2e} (limit {limit:.0e})")
    if not ok:
        failures.append(what)


def apart(a, b):
    """Largest difference, relative to the largest value. Gradients that are zero in exact arithmetic (a bias on all
    keys) are noise around 1e-17: hence the floor."""
    a, b = (v.double() if isinstance(v, torch.Tensor) else torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item() if a.shape == b.shape else math.inf


def apart_in_all(got, want):
    return max(apart(got[k], want[k]) for k in want) if got.keys() == want.keys() else math.inf


def double(tensors):
    return {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}


def under(tensors, prefix):
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


# ---- a ViT written out; adapters are edges (from, to): what is at `to` grows by a function of what is at `from` ----

EDGES = {
    "pre_post": [("middle", "middle", "adapter_attn"), ("output", "output", "adapter")],
    "post": [("output", "output", "adapter")],
    "pfeiffer": [("output", "output", "adapter")],
    "pre": [("middle", "middle", "adapter")],
    "parallel": [("middle", "output", "adapter")],
    "intermediate": [("ffn", "ffn", "adapter")],
    "houlsby": [("attention", "attention", "adapter_attn"), ("ffn", "ffn", "adapter")],
}


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def layernorm(x, weight, bias):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight + bias


def plain_adapter(p, slot, x, o):
    if slot + ".norm.weight" in p:
        x = layernorm(x, p[slot + ".norm.weight"], p[slot + ".norm.bias"])
    x = x @ p[slot + ".down.weight"].T + p.get(slot + ".down.bias", 0)
    if slot + ".numerator" in p:
        top, low = p[slot + ".numerator"], p[slot + ".denominator"]
        terms = torch.stack([b * x ** (j + 1) for j, b in enumerate(low)])
        x = sum(a * x**j for j, a in enumerate(top)) / (
            1 + (terms.abs().sum(0) if o["version"] == "A" else terms.sum(0).abs())
        )
    else:
        x = {
            "gelu": gelu,
            "relu": lambda v: v.clamp_min(0),
            "silu": lambda v: v * torch.sigmoid(v),
            "none": lambda v: v,
        }[o["activation"]](x)
    x = x @ p[slot + ".up.weight"].T + p.get(slot + ".up.bias", 0)
    return x * p.get(slot + ".scaling", o["scale"] if o.get("scaling") == "fixed" else 1.0) * p.get(slot + ".gate", 1.0)


def plain_vit(weights, pixels, heads, p, method="linear", o=None, blocks=None):
    t = {**weights, **p}
    dtype = t["cls_token"].dtype
    x = (pixels.to(dtype) / 255 - 0.5) / 0.5
    n, height, width, _ = x.shape
    d, size = t["cls_token"].shape[-1], t["patch_embed.proj.weight"].shape[-1]
    x = (
        x.reshape(n, height // size, size, width // size, size, 3)
        .permute(0, 1, 3, 5, 2, 4)
        .reshape(n, -1, 3 * size * size)
    )

    def change(site, v):
        return v * p[site + ".ssf_scale"] + p[site + ".ssf_shift"] if site + ".ssf_scale" in p else v

    def linear(name, v):
        out = v @ t[name + ".weight"].flatten(1).T + t[name + ".bias"]
        parts = [name[:-3] + c for c in "qkv"] if name.endswith("qkv") else [name]
        if method == "lora":
            step = out.shape[-1] // len(parts)
            for i, part in enumerate(parts):
                if part + ".lora_A.weight" in p:
                    delta = p[part + ".lora_B.weight"] @ p[part + ".lora_A.weight"] * (o["alpha"] / o["rank"])
                    out = out + F.pad(v @ delta.T, (i * step, (len(parts) - 1 - i) * step))
        return change(name, out)

    def norm(name, v):
        return change(name, layernorm(v, t[name + ".weight"], t[name + ".bias"]))

    x = linear("patch_embed.proj", x)
    x = torch.cat([t["cls_token"].expand(n, 1, d), x], 1) + t["pos_embed"]
    depth = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))
    for i in range(depth):
        b = f"blocks.{i}."

        def edges(place, v, seen, b=b):
            seen[place] = v
            for source, target, slot in EDGES[o["position"]] if method == "bottleneck" else []:
                if target == place and b + slot + ".down.weight" in p:
                    v = v + plain_adapter(p, b + slot, seen[source], o)
            seen[place] = v
            return v

        if f"prompts.{i}.weight" in p:
            x = torch.cat(
                [x[:, :1], p[f"prompts.{i}.weight"].expand(n, -1, -1), x[:, 1 + (o["prompts"] if i else 0) :]], 1
            )
        seen, hd = {}, d // heads
        q, k, v = (
            c.reshape(n, -1, heads, hd).transpose(1, 2)
            for c in linear(b + "attn.qkv", norm(b + "norm1", x)).split(d, -1)
        )
        score = q @ k.transpose(-2, -1) / math.sqrt(hd)
        score = (score - score.amax(-1, keepdim=True)).exp()
        y = (score / score.sum(-1, keepdim=True) @ v).transpose(1, 2).reshape(n, -1, d)
        x = edges(
            "middle", x + edges("attention", linear(b + "attn.proj", y) * t.get(b + "ls1.gamma", 1.0), seen), seen
        )
        hidden = gelu(linear(b + "mlp.fc1", norm(b + "norm2", x)))
        y = edges("ffn", linear(b + "mlp.fc2", hidden) * t.get(b + "ls2.gamma", 1.0), seen)
        if b + "vector" in p:
            alpha = "alpha" if "alpha.weight" in p else b + "alpha"
            y = y + (hidden @ p[alpha + ".weight"].T + p[alpha + ".bias"]) * p[b + "vector"].flatten()
        x = edges("output", x + y, seen)
        if blocks is not None:
            blocks.append(x)
    x = norm("fc_norm", x[:, 1:].mean(1)) if "fc_norm.weight" in t else norm("norm", x)[:, 0]
    return x @ t["head.weight"].T + t["head.bias"]


def cross_entropy(logits, labels):
    return (torch.logsumexp(logits, -1) - logits[torch.arange(len(labels)), labels.long()]).mean()


def logits_loss_grads(model, p, labels):
    logits = model()
    loss = cross_entropy(logits, labels)
    return (
        logits.detach(),
        loss.detach(),
        {k: g.detach() for k, g in zip(p, torch.autograd.grad(loss, list(p.values())))},
    )


# ---- what is verified ----


def check_layouts(m):
    state, base = load_file(m.path("vit/model.safetensors")), load_file(m.path("base.safetensors"))
    x = m.normalised(base["pixels"])
    with torch.no_grad():
        for folder in ("vit_hf", "vit_hf5"):
            model, info = transformers.ViTForImageClassification.from_pretrained(
                m.path(folder, ""), output_loading_info=True, attn_implementation="eager"
            )
            verify(
                folder + " unmatched tensors",
                sum(len(info[k]) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")),
                0,
            )
            verify(folder + " weights", apart_in_all(model.state_dict(), m.to_hf(state)), 0)
            verify(folder + " logits", apart(model.double().eval()(x).logits, base["logits"]), 1e-6)
        old, new = ("".join(load_file(m.path(f, "model.safetensors"))) for f in ("vit_hf", "vit_hf5"))
        verify("vit_hf has old names, vit_hf5 new ones", int("vit.layers" in old or "encoder.layer" in new), 0)
        jax = m.build(m.MAIN)
        jax.load_pretrained(m.path("vit_jax.npz"))
        verify("vit_jax.npz weights", apart_in_all(jax.state_dict(), state), 0)
        verify("vit_jax.npz logits", apart(jax.double()(x), base["logits"]), 1e-6)
    index = m.load_json("vit_sharded", "model.safetensors.index.json")
    shards = {f: load_file(m.path("vit_sharded", f)) for f in set(index["weight_map"].values())}
    verify("vit_sharded has two shards", abs(len(shards) - 2), 0)
    verify("vit_sharded weights", apart_in_all({k: shards[f][k] for k, f in index["weight_map"].items()}, state), 0)


def check_base(m):
    base, state = load_file(m.path("base.safetensors")), double(load_file(m.path("vit/model.safetensors")))
    p = {k: v.requires_grad_() for k, v in state.items()}
    logits, loss, grads = logits_loss_grads(lambda: plain_vit(state, base["pixels"], m.HEADS, p), p, base["labels"])
    verify("base logits", apart(logits, base["logits"]), 1e-6)
    verify("base loss", apart(loss.reshape(1), base["loss"]), 1e-6)
    smooth = 0.9 * loss - 0.1 * torch.log_softmax(logits, -1).mean()
    verify("base loss with label smoothing", apart(smooth.reshape(1), base["loss_smoothed"]), 1e-6)
    want = {k: v for k, v in under(base, "grad.").items() if k in grads}
    verify("base gradients", apart_in_all(grads, want), 1e-6)
    verify(
        "attention is far from uniform (0) and from one-hot",
        0.0 if attention_spread(m, state, base["pixels"]) else 1.0,
        0,
    )


def attention_spread(m, state, pixels):
    model, seen = m.build(m.MAIN).double(), []
    model.load_state_dict({k: v.detach() for k, v in state.items()})
    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(lambda mod, a, out: seen.append(a[0].amax(-1).mean().item()))
    with torch.no_grad():
        model(m.normalised(pixels))
    print("     mean of each row's largest attention weight, by block:", " ".join(f"{v:.2f}" for v in seen))
    return len(seen) == m.DEPTH and all(0.2 < v < 0.9 for v in seen)


def check_cases(m):
    base, noise = load_file(m.path("base.safetensors")), []
    for case in m.load_json("cases.json"):
        data = load_file(m.path(case["file"]))
        weights, want = load_file(m.path(case["backbone"], "model.safetensors")), under(data, "grad.")
        frozen, values = double(weights), under(data, "param.")
        p = {k: v.double().requires_grad_() for k, v in values.items()}
        o = case["options"]
        logits, loss, grads = logits_loss_grads(
            lambda: plain_vit(frozen, base["pixels"], m.HEADS, p, case["method"], o), p, base["labels"]
        )
        error = max(apart(logits, data["logits"]), apart(loss.reshape(1), data["loss"]), apart_in_all(grads, want))
        verify(f"{case['name']} logits, loss, gradients", error, 1e-6)
        count = sum(v.numel() for k, v in values.items() if not k.startswith("head."))
        verify(f"{case['name']} parameter count", abs(count - case["param_count"]), 0)
        verify(
            f"{case['name']} smallest gradient tensor is felt (negated)",
            -min(v.abs().max().item() for v in want.values()),
            -1e-4,
        )
        q = {k: v.clone().requires_grad_() for k, v in values.items()}
        model = m.tuned(case["backbone"], case["method"], o, q, torch.float32)
        got = logits_loss_grads(lambda: model(base["pixels"]), q, base["labels"])
        noise.append((apart(got[0], data["logits"]), apart_in_all(got[2], want)))
        if case["method"] == "lora":
            check_peft(m, case, data, base)
        if case["method"] == "ssf":
            check_fold(m, data, base)
    print(
        f"     PyTorch in float32 against these: logits within {max(a for a, _ in noise):.1e}, "
        f"gradients within {max(b for _, b in noise):.1e} of the tensor's largest value"
    )


def check_peft(m, case, data, base):
    names = {
        "q": "attention.q_proj",
        "k": "attention.k_proj",
        "v": "attention.v_proj",
        "proj": "attention.o_proj",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    }
    o, modules = case["options"], {("mlp." if t.startswith("fc") else "attn.") + t: n for t, n in names.items()}
    model = transformers.ViTForImageClassification.from_pretrained(m.path("vit_hf", ""), attn_implementation="eager")
    targets = [names[t].split(".")[1] for t in o["targets"].split(",")]
    config = peft.LoraConfig(r=o["rank"], lora_alpha=o["alpha"], lora_dropout=0.0, target_modules=targets)
    model = peft.get_peft_model(model, config).double().eval()
    here, want = dict(model.named_parameters()), {}
    for name, value in under(data, "param.").items():
        theirs = "base_model.model.classifier." + name[5:]
        if not name.startswith("head."):
            _, i, rest = name.split(".", 2)
            slot, which, _ = rest.rsplit(".", 2)
            theirs = f"base_model.model.vit.layers.{i}.{modules[slot]}.{which}.default.weight"
        here[theirs].data.copy_(value)
        want[theirs] = data["grad." + name]
    trained = {k for k, v in here.items() if v.requires_grad} | {k for k in want if "classifier" in k}
    verify(f"{case['name']} PEFT trains other tensors", len(trained ^ want.keys()), 0)
    p = {k: here[k].requires_grad_() for k in want}
    logits, loss, grads = logits_loss_grads(lambda: model(m.normalised(base["pixels"])).logits, p, base["labels"])
    error = max(apart(logits, data["logits"]), apart(loss.reshape(1), data["loss"]), apart_in_all(grads, want))
    verify(f"{case['name']} by PEFT", error, 1e-6)


def check_fold(m, data, base):
    state = double(load_file(m.path("vit/model.safetensors")))
    p = double(under(data, "param."))
    for site, _ in m.ssf_sites(m.DEPTH):
        scale, w = p[site + ".ssf_scale"], state[site + ".weight"]
        state[site + ".weight"] = w * scale.view(-1, *[1] * (w.ndim - 1))
        state[site + ".bias"] = state[site + ".bias"] * scale + p[site + ".ssf_shift"]
    model = m.build(m.MAIN).double()
    model.load_state_dict({**state, "head.weight": p["head.weight"], "head.bias": p["head.bias"]})
    with torch.no_grad():
        verify("ssf folded into the weights", apart(model(m.normalised(base["pixels"])), data["logits"]), 1e-6)


def check_variants(m):
    for row in m.load_json("variants.json"):
        data = load_file(m.path(row["expected"]))
        if "pos_embed" in data:
            weights = double(load_file(m.path("vit/model.safetensors")))
            weights["pos_embed"] = data["pos_embed"].double()
            verify(
                row["name"] + " logits", apart(plain_vit(weights, data["pixels"], m.HEADS, {}), data["logits"]), 1e-6
            )
            grid = weights["pos_embed"][0, 1:].reshape(row["height"] // 8, row["width"] // 8, -1)
            old = load_file(m.path("vit/model.safetensors"))["pos_embed"].double()[0, 1:].reshape(4, 4, -1)
            mine = torch.einsum("yi,xj,ijc->yxc", cubic(4, grid.shape[0]), cubic(4, grid.shape[1]), old)
            verify(row["name"] + " position embeddings", apart(grid, mine), 1e-6)
            continue
        args = m.load_json(row["checkpoint"], "config.json")["model_args"]
        verify(
            row["name"] + " model_args that differ", int(any(args.get(k) != v for k, v in row["model_args"].items())), 0
        )
        weights = load_file(m.path(row["checkpoint"], "model.safetensors"))
        weights = {k: v.double().requires_grad_() for k, v in weights.items()}
        logits = plain_variant(row["name"], weights, data["pixels"], m.HEADS)
        loss = cross_entropy(logits, data["labels"])
        want = {k: v for k, v in under(data, "grad.").items() if k != "tokens"}
        grads = dict(zip(want, torch.autograd.grad(loss, [weights[k] for k in want])))
        error = max(
            apart(logits.detach(), data["logits"]),
            apart(loss.detach().reshape(1), data["loss"]),
            apart_in_all(grads, want),
        )
        verify(row["name"] + " logits, loss, gradients", error, 1e-6)


# ---- training steps ----


def training_loss(m, frozen, row, p, pixels, labels, when):
    """As oracle_training makes it, but for the adapters' and the divergence's formulas. Also returns the passes'
    logits."""
    t, o, method, results = m.oracle_training, row["options"], row["method"], []
    kind = "lora" if o.get("kind") == "lora" else "linear" if method == "adapter_bias" else "bottleneck"
    for which in range(2 if method in ("adamix", "mosa") else 1):
        q, options = dict(p), o if kind != "bottleneck" else t.plain_options(method, o)
        if method in ("adamix", "mosa"):
            depth, width = (
                1 + max(int(k.split(".")[1]) for k in frozen if k.startswith("blocks.")),
                frozen["cls_token"].shape[-1],
            )
            q = t.drawn(p, list(t.sides(method, o, depth, width)), when["seed"], when["step"], which)
        switches = sorted(
            (k for k in p if k.endswith(".switch")), key=lambda k: (k.split(".")[1], ".adapter." in k)
        )  # in the order of the graph
        for site, name in enumerate(switches):
            noise = [
                t.philox.gumbel(when["seed"], site, when["step"], 2 * i + 1)
                - t.philox.gumbel(when["seed"], site, when["step"], 2 * i)
                for i in range(len(pixels))
            ]
            gate = torch.sigmoid(
                (p[name][1] - p[name][0] + torch.tensor(noise, dtype=p[name].dtype)) / t.temperature(o, when)
            )
            q[name[:-7] + ".gate"] = gate.view(-1, 1, 1)
        blocks = []
        results.append((plain_vit(frozen, pixels, m.HEADS, q, kind, options, blocks), blocks))
    z, smoothing = results[0][0], row.get("label_smoothing", 0.0)

    def entropy(a):
        return (1 - smoothing) * cross_entropy(a, labels) - smoothing * torch.log_softmax(a, -1).mean()

    loss = entropy(z)
    if len(results) == 2:
        b = results[1][0]
        gap = (torch.softmax(z, -1) - torch.softmax(b, -1)).detach()
        value = (gap * (torch.log_softmax(z, -1) - torch.log_softmax(b, -1)).detach()).sum(-1).mean() / 2
        towards = (gap * (z - z.detach() - b + b.detach())).sum(
            -1
        ).mean() / 2  # zero, with the gradients of both divergences
        loss = loss + o.get("second_loss", 0.0) * entropy(b) + o["consistency"] * (value + towards)
        if o.get("deep_regulariser"):
            near = [(x - y).square().mean() for x, y in zip(results[0][1][:-1], results[1][1][:-1])][:6]
            loss = loss + o["consistency"] * 0.01 * sum(near) / len(results[0][1])
    return loss, [r[0] for r in results]


def check_training(m):
    base, noise = load_file(m.path("base.safetensors")), []
    for row in m.load_json("training.json"):
        data, frozen = load_file(m.path(row["file"])), double(load_file(m.path(row["backbone"], "model.safetensors")))
        values, want = under(data, "param."), under(data, "grad.")
        p = {k: v.double().requires_grad_() for k, v in values.items()}
        loss, logits = training_loss(m, frozen, row, p, base["pixels"], base["labels"], row["when"])
        grads = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
        grads = {k: torch.zeros_like(p[k]) if g is None else g for k, g in zip(p, grads)}
        error = max(
            apart(loss.detach().reshape(1), data["loss"]),
            apart_in_all(grads, want),
            *(apart(z.detach(), data[f"logits.{i}"]) for i, z in enumerate(logits)),
        )
        verify(f"{row['name']} logits, loss, gradients", error, 1e-6)
        if len(logits) == 2:
            verify(f"{row['name']} passes differ (negated)", -apart(logits[0].detach(), logits[1].detach()), -0.05)
        got = m.oracle_training.evaluate(m, row, values, base, torch.float32)
        noise.append((max(apart(z, data[f"logits.{i}"]) for i, z in enumerate(got[0])), apart_in_all(got[2], want)))
    print(
        f"     PyTorch in float32 against these: logits within {max(a for a, _ in noise):.1e}, "
        f"gradients within {max(b for _, b in noise):.1e} of the tensor's largest value"
    )


def check_training_steps(m):
    t, inputs, frozen = (
        m.oracle_training,
        load_file(m.path("steps.safetensors")),
        double(load_file(m.path("vit/model.safetensors"))),
    )
    for name in [row["name"] for row in t.step_table()]:
        row, data = m.load_json(name + ".json"), load_file(m.path(name + ".safetensors"))
        p, losses, count = double(under(data, "param.")), [], {}
        mean, square = ({k: torch.zeros_like(v) for k, v in p.items()} for _ in range(2))
        (b1, b2), eps, masks = row["betas"], row["eps"], under(data, "mask.")
        for s in range(row["steps"]):
            p = {k: v.detach().requires_grad_() for k, v in p.items()}
            loss, _ = training_loss(
                m, frozen, row, p, inputs["pixels"][s % 4], inputs["labels"][s % 4], t.when_of(row, s)
            )
            losses.append(loss.item())
            for k, g in zip(p, torch.autograd.grad(loss, list(p.values()), allow_unused=True)):
                if g is None and not (row["move_untouched"] and k in count):
                    continue
                open_, lr = masks.get(k, torch.ones(1)).double(), data["lr"][s].double() * (
                    t.own_rate(row, k) / row["lr"]
                )
                g, n = (torch.zeros_like(p[k]) if g is None else g) * open_, count.get(k, 0) + 1
                count[k], mean[k], square[k] = n, b1 * mean[k] + (1 - b1) * g, b2 * square[k] + (1 - b2) * g * g
                decay = (row["weight_decay"] if g.ndim >= 2 else 0) * (
                    1 if row["options"].get("decay_masked") else open_
                )
                p[k] = (1 - lr * decay) * p[k].detach() - lr * (mean[k] / (1 - b1**n)) / (
                    (square[k] / (1 - b2**n)).sqrt() + eps
                )
        final = under(data, "final.")
        verify(name + " losses", apart(losses, data["losses"]), 1e-6)
        verify(name + " final parameters", apart_in_all({k: v.detach() for k, v in p.items()}, final), 1e-6)
        verify(name + " steps of each parameter", sum(count.get(k, 0) != v for k, v in row["updates"].items()), 0)
        parts = {}
        for k, v in masks.items():
            parts.setdefault(k.rsplit(".", 2)[0], []).append(v)
        verify(
            name + " masks that do not make a partition",
            sum(not bool((sum(v.int() for v in of) == 1).all()) for of in parts.values()),
            0,
        )
        single, end, _ = t.run_steps(m, row, under(data, "param."), masks, inputs, data["lr"], torch.float32)
        print(
            f"     {name}: PyTorch in float32 against these: losses within {apart(single, data['losses']):.1e}, "
            f"parameters within {apart_in_all(end, final):.1e}"
        )


def check_draws(m):
    """Rows under dropout and stochastic depth: without rates their blocks are the plain ones, with rates the masks keep
    the expected share, and PyTorch in float32 follows the whole run."""
    t, inputs = m.oracle_training, load_file(m.path("steps.safetensors"))
    for row in t.oracle_draws.table():
        about, data = m.load_json(row["name"] + ".json"), load_file(m.path(row["name"] + ".safetensors"))
        verify(row["name"] + " settings that differ", sum(about.get(k) != v for k, v in row.items()), 0)
        p, when = double(under(data, "param.")), t.when_of(row, 0)
        still = {
            **row,
            "backbone_drop_path": 0.0,
            "backbone_dropout": 0.0,
            "options": {**row["options"], **{k: 0.0 for k in ("dropout", "drop_path") if k in row["options"]}},
        }
        plain = t.passes(m, still, p, inputs["pixels"][0], when, torch.float64)
        barely = t.passes(m, {**still, "backbone_drop_path": 1e-12}, p, inputs["pixels"][0], when, torch.float64)
        verify(row["name"] + " logits without draws", max(apart(a, b) for (a, _), (b, _) in zip(barely, plain)), 1e-9)
        first = t.step_loss(m, row, t.passes(m, row, p, inputs["pixels"][0], when, torch.float64), inputs["labels"][0])
        verify(row["name"] + " first loss", abs(first.item() - data["losses"][0].item()), 1e-6)
        values, masks = under(data, "param."), under(data, "mask.")
        single, end, _ = t.run_steps(m, row, values, masks, inputs, data["lr"], torch.float32)
        print(
            f"     {row['name']}: PyTorch in float32 against these: losses within "
            f"{apart(single, data['losses']):.1e}, parameters within {apart_in_all(end, under(data, 'final.')):.1e}"
        )
    for rate in (0.1, 0.5):
        share = sum(t.philox.kept(18, 3, 0, 100000, rate)) / 100000
        verify(f"kept share at rate {rate}, away from the expected one", abs(share - (1 - rate)), 0.005)


def cubic(size, out):
    """Weights [out, size] of bicubic resampling with a = -0.5 whose support grows when shrinking, as Pillow and torch
    with antialias do."""

    def kernel(x):
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    ratio = size / out
    wide = max(ratio, 1)
    w = torch.tensor(
        [[kernel((j + 0.5 - (i + 0.5) * ratio) / wide) for j in range(size)] for i in range(out)], dtype=torch.float64
    )
    return w / w.sum(1, keepdim=True)


def plain_variant(name, t, pixels, heads):
    """The variants written out once more, from their descriptions in variants.json."""
    n, d = len(pixels), t["cls_token"].shape[-1]
    x = ((pixels.double() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    x = F.unfold(x, 8, stride=8).transpose(1, 2) @ t["patch_embed.proj.weight"].flatten(1).T + t.get(
        "patch_embed.proj.bias", 0.0
    )
    prefix = torch.cat([t[k] for k in ("cls_token", "dist_token", "reg_token") if k in t], 1).expand(n, -1, -1)
    count = prefix.shape[1]
    x = (
        torch.cat([prefix, x + t["pos_embed"]], 1)
        if name == "reg_no_embed"
        else torch.cat([prefix, x], 1) + t["pos_embed"]
    )

    def norm(slot, v):
        return layernorm(v, t[slot + ".weight"], t[slot + ".bias"]) if slot + ".weight" in t else v

    x = norm("norm_pre", x)
    for i in range(2):
        b = f"blocks.{i}."
        y = F.linear(norm(b + "norm1", x), t[b + "attn.qkv.weight"], t[b + "attn.qkv.bias"])
        q, k, v = (c.reshape(n, -1, heads, d // heads).transpose(1, 2) for c in y.split(d, -1))
        score = torch.softmax(
            norm(b + "attn.q_norm", q) @ norm(b + "attn.k_norm", k).transpose(-2, -1) / math.sqrt(d // heads), -1
        )
        y = F.linear((score @ v).transpose(1, 2).reshape(n, -1, d), t[b + "attn.proj.weight"], t[b + "attn.proj.bias"])
        x = x + y * t.get(b + "ls1.gamma", 1.0)
        y = gelu(F.linear(norm(b + "norm2", x), t[b + "mlp.fc1.weight"], t[b + "mlp.fc1.bias"]))
        x = x + F.linear(y, t[b + "mlp.fc2.weight"], t[b + "mlp.fc2.bias"]) * t.get(b + "ls2.gamma", 1.0)
    x = norm("norm", x)
    if name == "dist":
        return sum(F.linear(x[:, i], t[h + ".weight"], t[h + ".bias"]) for i, h in enumerate(["head", "head_dist"])) / 2
    x = norm("fc_norm", x[:, count:].mean(1)) if name == "avg" else x[:, 0]
    return F.linear(x, t["head.weight"], t["head.bias"])


def check_steps(m):
    frozen = double(load_file(m.path("vit/model.safetensors")))
    for file, _, _, _ in m.STEPS:
        about, data = m.load_json(file + ".json"), load_file(m.path(file + ".safetensors"))
        p, losses = double(under(data, "param.")), []
        mean, square = ({k: torch.zeros_like(v) for k, v in p.items()} for _ in range(2))
        (b1, b2), eps = about["betas"], about["eps"]
        for s in range(10):
            p = {k: v.detach().requires_grad_() for k, v in p.items()}
            batch = data["pixels"][s % 4], data["labels"][s % 4]
            model = lambda: plain_vit(frozen, batch[0], m.HEADS, p, "bottleneck", about["options"])
            _, loss, grads = logits_loss_grads(model, p, batch[1])
            losses.append(loss.item())
            lr = data["lr"][s].double()
            with torch.no_grad():
                for k, g in grads.items():
                    mean[k], square[k] = b1 * mean[k] + (1 - b1) * g, b2 * square[k] + (1 - b2) * g * g
                    keep = 1 - lr * (about["weight_decay"] if g.ndim >= 2 else 0)
                    p[k] = keep * p[k] - lr * (mean[k] / (1 - b1 ** (s + 1))) / (
                        (square[k] / (1 - b2 ** (s + 1))).sqrt() + eps
                    )
        final = under(data, "final.")
        verify(file + " losses", apart(losses, data["losses"]), 1e-6)
        verify(file + " final parameters", apart_in_all({k: v.detach() for k, v in p.items()}, final), 1e-6)
        single, end = m.run_steps(
            under(data, "param."),
            data["pixels"],
            data["labels"],
            data["lr"],
            about["weight_decay"],
            about["options"],
            torch.float32,
        )
        print(
            f"     {file}: PyTorch in float32 against these: losses within {apart(single, data['losses']):.1e}, "
            f"parameters within {apart_in_all(end, final):.1e}"
        )


def triangles(out, count):
    """What each of `out` points of a line takes of `count`: a triangle around its place, held inside the line."""
    at = ((np.arange(out) + 0.5) * count / out - 0.5).clip(0, count - 1)
    return torch.from_numpy((1 - np.abs(at[:, None] - np.arange(count))).clip(0))


def plain_operation(name, read):
    """Result and gradients of an operation whose loss is MSELoss, by matrices."""
    t = double(read)
    if name == "embedding":
        rows = F.one_hot(t["ids"].long(), len(t["table"])).double()
        result = torch.einsum("brn,nc->brc", rows, t["table"])
        slope = 2 * (result - t["target"]) / result.numel()
        return {"result": result, "grad.table": torch.einsum("brn,brc->nc", rows, slope)}
    if name.startswith("upsample"):
        size, out = {
            "upsample": ((3, 4), (7, 9)),
            "upsample_whole": ((2, 3), (8, 12)),
            "upsample_less": ((5, 6), (2, 4)),
        }[name]
        matrix = torch.kron(triangles(out[0], size[0]), triangles(out[1], size[1]))
        result = matrix @ t["x"]
        return {"result": result, "grad.x": matrix.T @ (2 * (result - t["target"]) / result.numel())}
    stride, padding = {"conv1d": (1, 1), "conv1d_strided": (2, 1), "conv1d_apart": (4, 0)}[name]
    count, rows = t["target"].shape[1], t["x"].shape[1]
    place = torch.zeros(count, 3, rows, dtype=torch.float64)
    for i in range(count):
        for k in range(3):
            if 0 <= i * stride - padding + k < rows:
                place[i, k, i * stride - padding + k] = 1
    result = torch.einsum("tkr,brc,ock->bto", place, t["x"], t["weight"]) + t["bias"]
    slope = 2 * (result - t["target"]) / result.numel()
    return {
        "result": result,
        "grad.x": torch.einsum("tkr,bto,ock->brc", place, slope, t["weight"]),
        "grad.weight": torch.einsum("tkr,brc,bto->ock", place, t["x"], slope),
        "grad.bias": slope.sum((0, 1)),
    }


def plain_loss(name, read):
    t = double(read)
    x = t["x"]
    if name == "distance":
        return {"loss": ((x - t["target"]) ** 2).mean(), "grad.x": 2 * (x - t["target"]) / x.numel()}
    if name == "binary":
        p = 1 / (1 + torch.exp(-x))
        loss = -(t["target"] * p.log() + (1 - t["target"]) * (1 - p).log()).mean()
        return {"loss": loss, "grad.x": (p - t["target"]) / x.numel()}
    counts = (t["labels"] >= 0).double()[..., None]
    smoothing = 0.1 if name == "rows_smoothed" else 0
    target = (1 - smoothing) * F.one_hot(t["labels"].long().clip(0), 4) + smoothing / 4
    log_p = x - torch.logsumexp(x, -1, keepdim=True)
    return {
        "loss": -(counts * target * log_p).sum() / counts.sum(),
        "grad.x": counts * (log_p.exp() - target) / counts.sum(),
    }


def check_operations(m):
    tensors = load_file(m.path("operations.safetensors"))
    for name in sorted({k.split(".")[0] for k in tensors}):
        t = under(tensors, name + ".")
        plain = plain_operation(name, t) if "result" in t else plain_loss(name, t)
        if "result" in t:
            plain["loss"] = ((plain["result"] - t["target"]) ** 2).mean()
        plain["loss"] = plain["loss"].reshape(1)
        verify("operation " + name, apart_in_all({k: t[k] for k in plain}, plain), 1e-6)


def check_schedule(m):
    s = m.load_json("schedule.json")
    up = np.linspace(s["start"], s["lr"], s["warmup"])
    down = (
        s["end"]
        + (s["lr"] - s["end"])
        * np.cos(np.pi * np.arange(s["epochs"] - s["warmup"]) / (2 * (s["epochs"] - s["warmup"]))) ** 2
    )
    f = np.concatenate([up, down])
    verify("schedule", apart(s["plain"], f), 1e-12)
    verify("schedule with the first epoch twice", apart(s["repeat_first"], np.concatenate([f[:1], f[:-1]])), 1e-12)


def check_real(m, assets):
    model, data_config, digest = m.real_model(assets)
    about, logits = m.load_json("vit_tiny_logits.json"), load_file(m.path("vit_tiny_logits.safetensors"))["logits"]
    rows, x, crops = m.real_images(assets, data_config)
    verify("real checkpoint's digest", int(digest != about["sha256"]), 0)
    verify(
        "real images",
        int([(r["path"], c) for r, c in zip(rows, crops)] != [(i["path"], i["crop_sha256"]) for i in about["images"]]),
        0,
    )
    with torch.no_grad():
        verify("real logits in float64", apart(model.double()(x.double()), logits), 1e-5)
    print(f"     top-1 of the eight images: {sum(i['label'] == i['top1'] for i in about['images'])} right")


def check_files(m, assets):
    """Makes everything again elsewhere. Another processor may round the last bit otherwise: tensors may differ by that
    much."""
    here, same, count = m.OUT, 0, 0
    with tempfile.TemporaryDirectory() as again:
        m.OUT = again
        for make in (m.make_main, m.make_base, m.make_variants, m.make_cases, m.make_steps, m.make_schedule):
            make()
        m.oracle_training.make(m)
        if assets:
            m.make_real(assets)
        m.OUT = here
        for folder, _, names in os.walk(again):
            for name in names:
                new = os.path.join(folder, name)
                old = os.path.join(here, os.path.relpath(new, again))
                with open(new, "rb") as a, open(old, "rb") as b:
                    equal = a.read() == b.read()
                same, count = same + equal, count + 1
                if not equal and name.endswith(".safetensors"):
                    verify("again " + name, apart_in_all(load_file(new), load_file(old)), 1e-6)
                elif not equal:
                    print("     differs from a second run:", os.path.relpath(new, again))
    total = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(here) for name in names)
    print(f"     {same} of {count} files are the same bytes in a second run")
    verify("bytes in all", total, 4e6)


def run(m, assets):
    check_layouts(m)
    check_base(m)
    check_variants(m)
    check_cases(m)
    check_training(m)
    check_steps(m)
    check_training_steps(m)
    check_draws(m)
    check_schedule(m)
    check_operations(m)
    if assets:
        check_real(m, assets)
    check_files(m, assets)
    print("failed: " + ", ".join(failures) if failures else "all verified")
    return 1 if failures else 0
