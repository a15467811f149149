"""The training steps among the oracles: methods that draw something in each pass (AdaMix, MoSA, Adaptable Adapters),
AdapterBias, and any under dropout and stochastic depth (oracle_draws.py).

A step of AdaMix or MoSA is two passes of a plain adapter, each with the experts that it draws; the draws are Inlay's
own (philox.py).
make_oracles.py calls make(); tests/data/oracle/README.md describes the files."""

import math
import re

import torch
import torch.nn.functional as F

import oracle_draws
import philox

STYLES = {
    "adaptformer": {"position": "parallel", "activation": "gelu", "layernorm": True, "scaling": "fixed", "scale": 0.1},
    "pfeiffer": {"position": "intermediate", "activation": "relu", "layernorm": True, "scaling": "none"},
    "houlsby": {"position": "pre_post", "activation": "silu", "layernorm": False, "scaling": "none"},
}
SLOTS = {"houlsby": ["adapter_attn", "adapter"], "pre_post": ["adapter_attn", "adapter"]}
LORA_SLOTS = {
    "q": ("attn.q", 1, 1),
    "k": ("attn.k", 1, 1),
    "v": ("attn.v", 1, 1),
    "proj": ("attn.proj", 1, 1),
    "fc1": ("mlp.fc1", 1, 4),
    "fc2": ("mlp.fc2", 4, 1),
}


# ---- what a method has: sides with experts, in the order in which they draw ----


def plain_options(method, o):
    """Of the adapter that a pass with its experts drawn is."""
    if method == "mosa":
        return STYLES[o["style"]]
    if method == "adaptable":
        return {"position": o["position"], "version": o["version"]}
    if method == "bottleneck":
        return o
    return {"position": o["position"], "activation": o["activation"], "layernorm": False, "scaling": "none"}


def sides(method, o, depth, width):
    """(site of its draws, stem, number of experts, {part: shape}) for each side. In AdaMix's code queries, keys and
    values are parts of one merged product, which draws once for all of them."""
    site = 0
    for i in range(depth):
        if method == "adamix" and o["kind"] == "lora":
            product = None
            for target in [t for t in LORA_SLOTS if t in o["targets"].split(",")]:
                slot, fan_in, fan_out = LORA_SLOTS[target]
                if product != ("qkv" if target in "qkv" else target):
                    draw, site, product = site, site + 2, "qkv" if target in "qkv" else target
                down, up = (1 if o["share"] == side else o["experts"] for side in ("down", "up"))
                yield draw, f"blocks.{i}.{slot}.lora_A", down, {"weight": (o["rank"], fan_in * width)}
                yield draw + 1, f"blocks.{i}.{slot}.lora_B", up, {"weight": (fan_out * width, o["rank"])}
            continue
        for slot in SLOTS.get(plain_options(method, o)["position"], ["adapter"]):
            for side, shape in [("down", (o["rank"], width)), ("up", (width, o["rank"]))]:
                split = o["share"] != side if method == "adamix" else o["split"] in (side, "both")
                parts = {"weight": shape, "bias": shape[:1]}
                yield site, f"blocks.{i}.{slot}.{side}", o["experts"] if split else 1, parts
                site += 1


def drawn(p, table, seed, step, which):
    """The plain adapter that pass number `which` sees."""
    q = dict(p)
    for site, stem, count, parts in table:
        expert = philox.expert(seed, site, step, which, count)
        for part in parts if count > 1 else []:
            q[f"{stem}.{part}"] = p[f"{stem}.{expert}.{part}"]
    return q


def masks(method, o, table, seed):
    """What each expert of MoSA trains of its weight: 0 or 1 for every entry."""
    out = {}
    for site, stem, count, parts in table if method == "mosa" else []:
        rows, cols = parts["weight"]
        if count == 1:
            continue
        if o["mask"] == "all":
            part = torch.tensor(philox.partition(seed, site, 0, rows * cols, count)).reshape(rows, cols)
        elif o["mask"] == "row":
            part = torch.tensor([philox.partition(seed, site, r, cols, count) for r in range(rows)])
        else:
            part = torch.tensor([philox.partition(seed, site, c, rows, count) for c in range(cols)]).T
        out.update({f"{stem}.{e}.weight": (part == e).to(torch.uint8).contiguous() for e in range(count)})
    return out


# ---- values: random, large enough that every gradient matters ----


def parameters(m, name, method, o, state):
    depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
    rng, p = m.generator("training " + name), {}
    if method == "bottleneck":
        return m.parameters("training " + name, method, o, state, depth)

    def add(key, shape, scale, centre=0.0):
        p[key] = m.draw(rng, shape, scale, centre)

    if method in ("adamix", "mosa"):
        lora = o.get("kind") == "lora"
        for _, stem, count, parts in sides(method, o, depth, m.WIDTH):
            slot, side = stem.rsplit(".", 1)
            if method == "mosa" and side == "down" and STYLES[o["style"]]["layernorm"]:
                add(slot + ".norm.weight", [m.WIDTH], 0.2, 1)
                add(slot + ".norm.bias", [m.WIDTH], 0.2)
            # far enough apart that the two passes disagree clearly, with the style's factor 0.1 too
            scale = 0.15 if lora else 0.12 if side == "down" else 3.0 if o.get("style") == "adaptformer" else 0.4
            for e in range(count):
                for part, shape in parts.items():
                    add(
                        f"{stem}.{e}.{part}" if count > 1 else f"{stem}.{part}",
                        shape,
                        scale if part == "weight" else 0.25,
                    )
    elif method == "adaptable":
        chosen = range(depth) if o["switches"] or o["layers"] == "all" else [int(i) for i in o["layers"].split(",")]
        for i in chosen:
            for slot in SLOTS.get(o["position"], ["adapter"]):
                q = f"blocks.{i}.{slot}."
                add(q + "down.weight", [o["rank"], m.WIDTH], 0.08)
                add(q + "down.bias", [o["rank"]], 0.25)
                add(q + "numerator", [6], 0.1)
                p[q + "numerator"] += torch.tensor([0, 0.5, 0.3, 0, 0, 0])  # not far from GELU
                add(q + "denominator", [4], 0.3)
                add(q + "up.weight", [m.WIDTH, o["rank"]], 0.25)
                add(q + "up.bias", [m.WIDTH], 0.25)
                if o["switches"]:
                    add(q + "switch", [2], 0.3, 0.5)
    else:
        for i in range(depth):
            if not o["share_alpha"] or i == 0:
                stem = "alpha" if o["share_alpha"] else f"blocks.{i}.alpha"
                add(stem + ".weight", [1, state["blocks.0.mlp.fc1.bias"].numel()], 0.1)
                add(stem + ".bias", [1], 0.3)
            add(f"blocks.{i}.vector", [m.WIDTH, 1], 0.4)
        parts = {"none": [], "ffn": ["norm2"], "all": ["norm"], "behind": ["norm1", "^norm", "^fc_norm"]}[o["norms"]]
        trained = [k for k in state if any(re.search(part, k) for part in parts)]
        p.update({k: state[k] + m.draw(rng, state[k].shape, 0.1) for k in trained})
    add("head.weight", [m.CLASSES, m.WIDTH], 0.2)
    add("head.bias", [m.CLASSES], 0.2)
    return p


# ---- forward passes ----


def rational(x, a, b, version):
    powers = torch.stack([x**i for i in range(6)])
    terms = [b[j] * powers[j + 1] for j in range(4)]
    q = 1 + (sum(t.abs() for t in terms) if version == "A" else sum(terms).abs())
    return sum(a[i] * powers[i] for i in range(6)) / q


def temperature(o, when):
    """Falls from `temperature` exponentially; `min_temperature` from the middle of the run on."""
    high, low = o["temperature"], o["min_temperature"]
    return (
        low if high <= low else max(low, high * math.exp(math.log(low / high) / (when["epochs"] / 2) * when["epoch"]))
    )


def adaptable(o, when):
    """A function for make_oracles.bottleneck_block; its switches are numbered as it meets them."""
    seen = []

    def function(p, slot, x, _):
        if slot + ".down.weight" not in p:
            return torch.zeros_like(x)
        h = F.linear(x, p[slot + ".down.weight"], p[slot + ".down.bias"])
        h = rational(h, p[slot + ".numerator"], p[slot + ".denominator"], o["version"])
        y = F.linear(h, p[slot + ".up.weight"], p[slot + ".up.bias"])
        if slot + ".switch" not in p:
            return y
        noise = [
            [philox.gumbel(when["seed"], len(seen), when["step"], 2 * i + k) for k in range(2)] for i in range(len(x))
        ]
        seen.append(slot)
        logits = p[slot + ".switch"] + torch.tensor(noise, dtype=x.dtype)
        return y * torch.softmax(logits / temperature(o, when), -1)[:, 1].view(-1, 1, 1)

    return function


def bias_block(block, i, p, o):
    def forward(x):
        x = x + block.ls1(block.attn(block.norm1(x)))
        g = block.mlp.act(block.mlp.fc1(block.norm2(x)))
        stem = "alpha" if o["share_alpha"] else f"blocks.{i}.alpha"
        alpha = F.linear(g, p[stem + ".weight"], p[stem + ".bias"])
        return x + block.ls2(block.mlp.fc2(g)) + alpha * p[f"blocks.{i}.vector"].T

    return forward


def passes(m, case, p, pixels, when, dtype):
    """[(logits, the blocks' outputs)], one for each pass of the step."""
    method, o, results = case["method"], case["options"], []
    model_args = m.load_json(case["backbone"], "config.json")["model_args"]
    depth = model_args["depth"]
    draws = oracle_draws.Draws(case, when, depth, model_args.get("global_pool") == "avg")
    for which in range(2 if method in ("adamix", "mosa") else 1):
        seen, kind, q, forward = [], "bottleneck", p, m.bottleneck_block
        if method in ("adamix", "mosa"):
            q = drawn(p, list(sides(method, o, depth, m.WIDTH)), when["seed"], when["step"], which)
        if method == "adaptable":
            function = adaptable(o, when)
            forward = lambda block, i, p, o: m.bottleneck_block(block, i, p, o, function)
        elif method == "adapter_bias":
            forward = bias_block
        elif o.get("kind") == "lora":
            kind = "lora"
        options = o if kind == "lora" or method == "adapter_bias" else plain_options(method, o)
        if draws.path_rate or draws.rate:
            position = "none" if kind == "lora" else "bias" if method == "adapter_bias" else options["position"]
            forward, options = draws.block, {**options, "dropout": o.get("dropout", 0.0), "position": position}
        results.append((m.tuned(case["backbone"], kind, options, q, dtype, forward, seen)(pixels), seen))
    return results


def divergence(a, target):
    """KL(target || a) of logits, mean over the batch; the target is constant."""
    return F.kl_div(F.log_softmax(a, -1), F.softmax(target, -1).detach(), reduction="batchmean")


def step_loss(m, case, results, labels):
    o, smoothing = case["options"], case.get("label_smoothing", 0.0)
    loss = m.loss_of(results[0][0], labels, smoothing)
    if len(results) == 1:
        return loss
    (a, blocks_a), (b, blocks_b) = results
    loss = (
        loss
        + o.get("second_loss", 0.0) * m.loss_of(b, labels, smoothing)
        + o["consistency"] * 0.5 * (divergence(a, b) + divergence(b, a))
    )
    if o.get("deep_regulariser"):
        pairs = list(zip(blocks_a, blocks_b))[: min(6, len(blocks_a) - 1)]
        loss = loss + o["consistency"] * 0.01 / len(blocks_a) * sum(F.mse_loss(x, y) for x, y in pairs)
    return loss


# ---- the cases ----


def case_table():
    adamix = {
        "kind": "adapter",
        "experts": 4,
        "share": "up",
        "consistency": 1.0,
        "rank": 4,
        "position": "intermediate",
        "activation": "gelu",
        "dropout": 0.0,
    }
    lora = {**adamix, "kind": "lora", "alpha": 6.0, "targets": "q,v"}
    mosa = {
        "style": "adaptformer",
        "experts": 4,
        "split": "up",
        "mask": "all",
        "consistency": 1.0,
        "second_loss": 0.0,
        "deep_regulariser": False,
        "rank": 4,
        "dropout": 0.0,
    }
    switched = {
        "switches": True,
        "layers": "all",
        "rank": 4,
        "position": "post",
        "version": "B",
        "temperature": 0.5,
        "min_temperature": 0.5,
        "dropout": 0.0,
    }
    bias = {"share_alpha": False, "norms": "none"}
    full = {"second_loss": 0.5, "deep_regulariser": True}
    wide = 2**40 + 11  # both words of the seed matter

    def case(name, method, o, seed, step, backbone="vit", smoothing=0.0, epoch=0, epochs=0):
        return {
            "name": name,
            "method": method,
            "options": o,
            "backbone": backbone,
            "label_smoothing": smoothing,
            "when": {"seed": seed, "step": step, "epoch": epoch, "epochs": epochs},
        }

    yield case("adamix_share_up", "adamix", adamix, 18, 0)
    yield case(
        "adamix_share_down",
        "adamix",
        {**adamix, "share": "down", "position": "houlsby", "activation": "silu", "consistency": 0.5},
        wide,
        3,
    )
    yield case(
        "adamix_share_none",
        "adamix",
        {**adamix, "share": "none", "experts": 3, "position": "post"},
        7,
        12,
        smoothing=0.1,
    )
    yield case("adamix_lora_share_up", "adamix", lora, 18, 1)
    yield case(
        "adamix_lora_share_none",
        "adamix",
        {**lora, "share": "none", "experts": 2, "rank": 3, "targets": "q,k,v,proj,fc1,fc2"},
        wide,
        2,
    )
    yield case("mosa_adaptformer_up", "mosa", mosa, 18, 5)
    yield case(
        "mosa_adaptformer_both", "mosa", {**mosa, **full, "split": "both", "experts": 3}, wide, 9, "variants/avg"
    )
    yield case("mosa_pfeiffer_down", "mosa", {**mosa, **full, "style": "pfeiffer", "split": "down"}, 4, 2)
    yield case(
        "mosa_houlsby_both",
        "mosa",
        {**mosa, **full, "style": "houlsby", "split": "both", "consistency": 2.0},
        5,
        1,
        smoothing=0.1,
    )
    # steps at whose noise no gradient of a few coefficients is what is left of a sum that cancels: bf16 could not be
    # judged by it
    yield case("adaptable_a", "adaptable", {**switched, "version": "A"}, 18, 5)
    cooling = {**switched, "position": "pre_post", "temperature": 2.0, "min_temperature": 0.1}
    yield case("adaptable_b_cooling", "adaptable", cooling, wide, 5, epoch=3, epochs=10)
    yield case("adaptable_layers", "adaptable", {**switched, "switches": False, "layers": "0,2"}, 0, 0)
    yield case("adapter_bias", "adapter_bias", bias, 0, 0)
    yield case("adapter_bias_ffn", "adapter_bias", {**bias, "norms": "ffn"}, 0, 0, "variants/layerscale")
    yield case("adapter_bias_behind", "adapter_bias", {**bias, "norms": "behind"}, 0, 0)
    yield case("adapter_bias_behind_avg", "adapter_bias", {**bias, "norms": "behind"}, 0, 0, "variants/avg")
    yield case("adapter_bias_shared_all", "adapter_bias", {"share_alpha": True, "norms": "all"}, 0, 0)


def evaluate(m, case, values, base, dtype=torch.float64):
    """Logits of each pass, loss, gradients (0 where a step has none)."""
    p = {k: v.to(dtype).requires_grad_() for k, v in values.items()}
    results = passes(m, case, p, base["pixels"], case["when"], dtype)
    loss = step_loss(m, case, results, base["labels"])
    grads = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
    return (
        [z.detach() for z, _ in results],
        loss.detach(),
        {k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(p.items(), grads)},
    )


def make_cases(m):
    base, rows = m.load_file(m.path("base.safetensors")), []
    for case in case_table():
        values = parameters(
            m, case["name"], case["method"], case["options"], m.load_file(m.path(case["backbone"], "model.safetensors"))
        )
        logits, loss, grads = evaluate(m, case, values, base)
        file = f"training/{case['name']}.safetensors"
        m.save(
            file,
            {
                **{f"logits.{i}": z for i, z in enumerate(logits)},
                "loss": loss.reshape(1),
                **{"param." + k: v for k, v in values.items()},
                **{"grad." + k: v for k, v in grads.items()},
            },
        )
        rows.append(
            {
                **case,
                "training": True,
                "file": file,
                "param_count": sum(v.numel() for k, v in values.items() if not k.startswith("head.")),
                "loss": loss.item(),
            }
        )
    m.save_json("training.json", rows)


# ---- ten steps ----


def step_table():
    mosa = {
        "style": "pfeiffer",
        "experts": 3,
        "split": "both",
        "mask": "all",
        "consistency": 1.0,
        "second_loss": 0.0,
        "deep_regulariser": False,
        "rank": 4,
        "dropout": 0.0,
        "decay_masked": False,
    }
    switched = {
        "switches": True,
        "layers": "all",
        "rank": 4,
        "position": "post",
        "version": "B",
        "temperature": 1.0,
        "min_temperature": 0.1,
        "switch_lr": 0.05,
        "rational_lr": 0.03,
        "dropout": 0.0,
    }

    def row(name, method, o, move_untouched=False):
        return {
            "name": name,
            "method": method,
            "options": o,
            "backbone": "vit",
            "inputs": "steps.safetensors",
            "seed": 2**33 + 5,
            "steps": 10,
            "epochs": 5,
            "lr": 1e-2,
            "weight_decay": 0.5,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "move_untouched": move_untouched,
        }

    yield row("steps_mosa", "mosa", mosa)
    yield row("steps_mosa_decay_masked", "mosa", {**mosa, "mask": "row", "decay_masked": True})
    yield row("steps_mosa_move_untouched", "mosa", {**mosa, "mask": "column", "style": "adaptformer"}, True)
    yield row("steps_adaptable", "adaptable", switched)
    adamix = {
        "kind": "adapter",
        "experts": 4,
        "share": "none",
        "consistency": 2.0,
        "rank": 4,
        "position": "post",
        "activation": "gelu",
        "dropout": 0.0,
    }
    yield row("steps_adamix_move_untouched", "adamix", adamix, True)
    lora = {"kind": "lora", "experts": 4, "share": "none", "consistency": 1.0, "rank": 4, "alpha": 6.0, "dropout": 0.0}
    yield row("steps_adamix_lora", "adamix", {**lora, "targets": "q,k,v,fc1"})


def own_rate(row, name):
    """Of the parameters whose learning rate is not the run's, at its peak."""
    end = name.rsplit(".", 1)[1]
    return (
        row["options"]["switch_lr"]
        if end == "switch"
        else row["options"]["rational_lr"] if end in ("numerator", "denominator") else row["lr"]
    )


def when_of(row, step):
    """Two steps are an epoch."""
    return {"seed": row["seed"], "step": step, "epoch": step // 2, "epochs": row["epochs"]}


def run_steps(m, row, values, open_entries, inputs, lr, dtype, forward=passes):
    p = {k: v.to(dtype).requires_grad_() for k, v in values.items()}
    groups = [
        {
            "params": [v],
            "weight_decay": row["weight_decay"] if v.ndim >= 2 else 0.0,
            "factor": own_rate(row, k) / row["lr"],
        }
        for k, v in p.items()
    ]
    optimiser, losses = torch.optim.AdamW(groups, lr=0.0, betas=row["betas"], eps=row["eps"]), []
    for step in range(row["steps"]):
        for g in optimiser.param_groups:
            g["lr"] = lr[step].item() * g["factor"]
        results = forward(m, row, p, inputs["pixels"][step % 4], when_of(row, step), dtype)
        loss = step_loss(m, row, results, inputs["labels"][step % 4])
        optimiser.zero_grad(set_to_none=True)  # the optimiser leaves out, and does not count, what has no gradient
        loss.backward()
        for k, v in p.items():
            if v.grad is None and v in optimiser.state and row["move_untouched"]:  # zero, once it has had a first one
                v.grad = torch.zeros_like(v)
            if v.grad is not None and k in open_entries:
                v.grad *= open_entries[k]
        before = {k: p[k].detach().clone() for k in open_entries}
        optimiser.step()
        for k, mask in open_entries.items() if not row["options"].get("decay_masked") else []:
            p[k].data = torch.where(mask.bool(), p[k].data, before[k])
        losses.append(loss.item())
    counts = {k: int(optimiser.state[v]["step"].item()) if v in optimiser.state else 0 for k, v in p.items()}
    return torch.tensor(losses, dtype=torch.float64), {k: v.detach() for k, v in p.items()}, counts


def make_steps(m):
    inputs = m.load_file(m.path("steps.safetensors"))
    for row in [*step_table(), *oracle_draws.table()]:
        values = parameters(
            m, row["name"], row["method"], row["options"], m.load_file(m.path(row["backbone"], "model.safetensors"))
        )
        table = list(sides(row["method"], row["options"], m.DEPTH, m.WIDTH)) if row["method"] == "mosa" else []
        open_entries = masks(row["method"], row["options"], table, row["seed"])
        lr = torch.tensor(
            [m.rate(s, row["lr"], row["lr"] / 100, row["lr"] / 1000, 4, 10) for s in range(10)], dtype=torch.float32
        )
        losses, final, counts = run_steps(m, row, values, open_entries, inputs, lr, torch.float64)
        m.save(
            row["name"] + ".safetensors",
            {
                "lr": lr,
                "losses": losses,
                **{"param." + k: v for k, v in values.items()},
                **{"final." + k: v for k, v in final.items()},
                **{"mask." + k: v for k, v in open_entries.items()},
            },
        )
        m.save_json(
            row["name"] + ".json", {**row, "computed_in": "float64", "updates": counts, "losses": losses.tolist()}
        )


def make(m):
    make_cases(m)
    make_steps(m)
