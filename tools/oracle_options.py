"""The oracles of what options change: layers and ranks, weights of the backbone that are trained beside an adapter,
forms of LoRA and VPT, MoSA's low-rank form (MoSL), its divided biases, its learned factor and its one sparse adapter.

make_oracles.py calls make(); tests/data/oracle/README.md describes the files. Formulas are written out once more here,
on timm's modules; draws and masks are Inlay's own (philox.py)."""

import torch
import torch.nn.functional as F

import oracle_training as training
import philox

TARGETS = {
    "q": ("attn.q", 1, 1),
    "k": ("attn.k", 1, 1),
    "v": ("attn.v", 1, 1),
    "proj": ("attn.proj", 1, 1),
    "fc1": ("mlp.fc1", 1, 4),
    "fc2": ("mlp.fc2", 4, 1),
}
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh, "none": lambda v: v}
OTHER_SITES = 2**31


# ---- values ----


def numbers(text, depth):
    """The layers that "all" or "0,2" names."""
    return list(range(depth)) if text == "all" else [int(i) for i in text.split(",")]


def rank_of(o, layer):
    """Of `ranks`, a list of single layers; else of `rank`."""
    given = dict(pair.split(":") for pair in o.get("ranks", "").split(",") if pair)
    return int(given.get(str(layer), o["rank"]))


def own_bottleneck(m, add, o, i):
    for slot in ["adapter_attn", "adapter"] if o["position"] == "houlsby" else ["adapter"]:
        q, r = f"blocks.{i}.{slot}.", rank_of(o, i)
        add(q + "down.weight", [r, m.WIDTH], 0.12)
        add(q + "down.bias", [r], 0.25)
        add(q + "up.weight", [m.WIDTH, r], 0.25)
        add(q + "up.bias", [m.WIDTH], 0.25)
        if o.get("output_layernorm"):
            add(q + "output_norm.weight", [m.WIDTH], 0.2, 1)
            add(q + "output_norm.bias", [m.WIDTH], 0.2)


def own_lora(m, add, o, i):
    for target in o["targets"].split(","):
        slot, fan_in, fan_out = TARGETS[target]
        add(f"blocks.{i}.{slot}.lora_A.weight", [rank_of(o, i), fan_in * m.WIDTH], 0.15)
        add(f"blocks.{i}.{slot}.lora_B.weight", [fan_out * m.WIDTH, rank_of(o, i)], 0.15)


def own_vpt(m, add, o, i):
    if not o.get("shared") or i == numbers(o["layers"], m.DEPTH)[0]:
        add(f"prompts.{i}.weight", [o["prompts"], m.WIDTH], 0.5)


def own_ssf(m, add, o, i):
    for place, count in m.ssf_sites(m.DEPTH):
        if layer_of(m, place + ".") == i:
            add(place + ".ssf_scale", [count], 0.2, 1)
            add(place + ".ssf_shift", [count], 0.2)


OWN = {"bottleneck": own_bottleneck, "lora": own_lora, "vpt": own_vpt, "ssf": own_ssf}


def layer_of(m, key):
    """The block of a tensor; of what is in front of the blocks the first, of what is behind them the last."""
    return int(key.split(".")[1]) if key.startswith("blocks.") else m.DEPTH - 1 if key.startswith("norm.") else 0


def parameters(m, name, method, o, state):
    rng, p = m.generator("options " + name), {}

    def add(key, shape, scale, centre=0.0):
        p[key] = m.draw(rng, shape, scale, centre)

    for i in numbers(o.get("layers", "all"), m.DEPTH):
        OWN[method](m, add, o, i)
    part = {"none": None, "norm": "norm", "bias": "bias", "all": ""}[o.get("unfreeze", "none")]
    p.update(
        {
            k: v + m.draw(rng, v.shape, 0.05)
            for k, v in state.items()
            if part is not None
            and part in k
            and not k.startswith("head")
            and layer_of(m, k) in numbers(o.get("layers", "all"), m.DEPTH)
        }
    )
    add("head.weight", [m.CLASSES, m.WIDTH], 0.2)
    add("head.bias", [m.CLASSES], 0.2)
    return p


# ---- models ----


def plain_model(m, checkpoint, dtype):
    args = m.load_json(checkpoint, "config.json")["model_args"]
    model = m.build({k: v for k, v in args.items() if k != "num_classes"})
    model.load_state_dict(m.load_file(m.path(checkpoint, "model.safetensors")), strict=True)
    return model.to(dtype).requires_grad_(False)


def hook_bottleneck(m, model, p, o):
    def function(q, slot, x, options):
        if slot + ".down.weight" not in q:
            return torch.zeros_like(x)
        y = m.bottleneck(q, slot, x, options)
        norm = slot + ".output_norm."
        return F.layer_norm(y, y.shape[-1:], q[norm + "weight"], q[norm + "bias"], m.EPS) if norm + "weight" in q else y

    for i, block in enumerate(model.blocks):
        block.forward = m.bottleneck_block(block, i, p, o, function)


def hook_lora(m, model, p, o):
    def change(slot, x):
        a = slot + ".lora_A.weight"
        if a not in p:
            return 0
        factor = o["scale"] if o.get("scale") else o["alpha"] / p[a].shape[0]
        between = ACTIVATIONS[o.get("activation", "none")](F.linear(x, p[a]))
        return F.linear(between, p[slot + ".lora_B.weight"]) * factor

    for i, block in enumerate(model.blocks):

        def on_qkv(_, a, out, i=i):
            parts = [third + change(f"blocks.{i}.attn.{t}", a[0]) for t, third in zip("qkv", out.chunk(3, -1))]
            return torch.cat(parts, -1)

        block.attn.qkv.register_forward_hook(on_qkv)
        for slot in ("attn.proj", "mlp.fc1", "mlp.fc2"):
            block.get_submodule(slot).register_forward_hook(
                lambda _, a, out, s=f"blocks.{i}.{slot}": out + change(s, a[0])
            )


def hook_vpt(m, model, p, o):
    layers = numbers(o["layers"], m.DEPTH)
    for i in layers:

        def put(_, a, i=i):
            x, skip = a[0], o["prompts"] if i != layers[0] else 0
            rows = p[f"prompts.{layers[0] if o.get('shared') else i}.weight"].expand(x.shape[0], -1, -1)
            return (torch.cat([x[:, :1], rows, x[:, 1 + skip :]], 1),)

        model.blocks[i].register_forward_pre_hook(put)


def hook_ssf(m, model, p, _):
    for place, _count in m.ssf_sites(m.DEPTH):

        def scale(_m, _a, out, place=place):
            channels = (1, -1, 1, 1) if out.ndim == 4 else (-1,)
            return out * p[place + ".ssf_scale"].view(channels) + p[place + ".ssf_shift"].view(channels)

        if place + ".ssf_scale" in p:
            model.get_submodule(place).register_forward_hook(scale)


HOOKS = {"bottleneck": hook_bottleneck, "lora": hook_lora, "vpt": hook_vpt, "ssf": hook_ssf}


def run(m, checkpoint, method, o, p, pixels, dtype, seen=None):
    """Logits; `seen` gets the blocks' outputs. A tensor of `p` that the backbone has as well takes its place."""
    model = plain_model(m, checkpoint, dtype)
    HOOKS[method](m, model, p, o)
    for block in model.blocks if seen is not None else []:
        block.register_forward_hook(lambda _m, _a, out: seen.append(out))
    own = {k: v for k, v in p.items() if k in model.state_dict()}
    return torch.func.functional_call(model, own, (m.normalised(pixels, dtype),))


# ---- methods that draw nothing ----


def case_table():
    plain = {
        "position": "post",
        "rank": 4,
        "activation": "gelu",
        "layernorm": False,
        "bias": True,
        "scaling": "none",
        "scale": 1.0,
    }
    lora = {"rank": 4, "alpha": 6.0, "targets": "q,v"}
    yield "layers_ranks", "bottleneck", {**plain, "layers": "0,2", "ranks": "2:6"}
    yield "houlsby_norms", "bottleneck", {**plain, "position": "houlsby", "unfreeze": "norm"}
    yield "bottleneck_last_block", "bottleneck", {**plain, "layers": "2", "unfreeze": "all"}
    yield "output_layernorm", "bottleneck", {
        **plain,
        "position": "parallel",
        "activation": "relu",
        "scaling": "fixed",
        "scale": 0.5,
        "output_layernorm": True,
    }
    yield "lora_layers_ranks", "lora", {**lora, "layers": "1,2", "ranks": "1:2", "targets": "k,proj,fc1"}
    yield "lora_scaled_gelu", "lora", {**lora, "scale": 0.7, "activation": "gelu", "unfreeze": "bias"}
    yield "vpt_layers", "vpt", {"prompts": 3, "layers": "1,2", "dropout": 0.0}
    yield "vpt_shared", "vpt", {"prompts": 3, "layers": "all", "shared": True, "dropout": 0.0, "unfreeze": "norm"}
    yield "ssf_layers", "ssf", {"layers": "0,2"}


def make_cases(m):
    base, rows = m.load_file(m.path("base.safetensors")), []
    for name, method, o in case_table():
        values = parameters(m, name, method, o, m.load_file(m.path("vit/model.safetensors")))
        p = {k: v.double().requires_grad_() for k, v in values.items()}
        logits = run(m, "vit", method, o, p, base["pixels"], torch.float64)
        loss = m.loss_of(logits, base["labels"])
        grads = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
        m.save(
            f"options/{name}.safetensors",
            {
                "logits": logits,
                "loss": loss.reshape(1),
                **{"param." + k: v for k, v in values.items()},
                **{"grad." + k: v for k, v in grads.items()},
            },
        )
        rows.append(
            {
                "name": name,
                "method": method,
                "options": o,
                "backbone": "vit",
                "file": f"options/{name}.safetensors",
                "param_count": sum(v.numel() for k, v in values.items() if not k.startswith("head.")),
                "loss": loss.item(),
            }
        )
    m.save_json("options.json", rows)


# ---- methods with experts ----


def low_rank(o):
    return o.get("style") == "lora"


def sides(m, o):
    """(stem, number of experts, {part: shape}); its index is the site of its draws and masks."""
    split = {side: o.get("split") in (side, "both") for side in ("down", "up")}
    for i in range(m.DEPTH):
        for target in [t for t in TARGETS if low_rank(o) and t in o["targets"].split(",")]:
            slot, fan_in, fan_out = TARGETS[target]
            a, b = (o["rank"], fan_in * m.WIDTH), (fan_out * m.WIDTH, o["rank"])
            for letter, side, shape in [("A", "down", a), ("B", "up", b)]:
                yield f"blocks.{i}.{slot}.lora_{letter}", o["experts"] if split[side] else 1, {"weight": shape}
        for side, shape in [("down", (o["rank"], m.WIDTH)), ("up", (m.WIDTH, o["rank"]))] if not low_rank(o) else []:
            yield f"blocks.{i}.adapter.{side}", o["experts"] if split[side] else 1, {"weight": shape, "bias": shape[:1]}


def plain_options(method, o):
    """Of the adapter that a pass with its experts drawn is."""
    if low_rank(o):
        return {"scale": 1.0, "targets": o["targets"]}
    style = (
        training.STYLES[o["style"]]
        if method == "mosa"
        else {"position": "intermediate", "activation": "gelu", "layernorm": False, "scaling": "none"}
    )
    return {**style, "scaling": o["scaling"]} if o.get("scaling", "style") != "style" else style


def expert_parameters(m, name, method, o):
    """In the order in which Inlay makes them."""
    rng, p = m.generator("options " + name), {}
    norm = not low_rank(o) and plain_options(method, o)["layernorm"]

    def add(key, shape, scale, centre=0.0):
        p[key] = m.draw(rng, shape, scale, centre)

    for stem, count, parts in sides(m, o):
        slot, side = stem.rsplit(".", 1)
        if norm and side == "down":
            add(slot + ".norm.weight", [m.WIDTH], 0.2, 1)
            add(slot + ".norm.bias", [m.WIDTH], 0.2)
        scale = 0.2 if low_rank(o) else 0.12 if side == "down" else 0.6
        for part, shape in parts.items():
            for e in range(count):
                add(f"{stem}.{e}.{part}" if count > 1 else f"{stem}.{part}", shape, scale if part == "weight" else 0.25)
        if side == "up" and o.get("scaling") == "learned":
            add(slot + ".scaling", [1], 0.1, 0.6)
    add("head.weight", [m.CLASSES, m.WIDTH], 0.2)
    add("head.bias", [m.CLASSES], 0.2)
    return p


def masks(m, method, o, values, seed):
    """What is trained of a tensor: 0 or 1 for every entry."""
    out, count = {}, o["experts"]
    if method != "mosa":
        return out
    if o["split"] == "none":
        for number, (key, v) in enumerate(values.items()):
            if not key.startswith("head."):
                part = torch.tensor(philox.partition(seed, OTHER_SITES + number, 0, v.numel(), count))
                out[key] = (part == 0).to(torch.uint8).reshape(v.shape)
        return out
    table = list(sides(m, o))
    out = training.masks(method, o, table, seed)
    for number, (stem, experts, parts) in enumerate(table):
        if experts > 1 and o.get("split_biases"):
            part = torch.tensor(philox.partition(seed, OTHER_SITES + number, 0, parts["bias"][0], experts))
            out.update({f"{stem}.{e}.bias": (part == e).to(torch.uint8) for e in range(experts)})
    return out


def passes(m, case, p, pixels, when, dtype):
    """[(logits, the blocks' outputs)], one for each pass of the step."""
    o, results = case["options"], []
    for which in range(1 if o.get("split") == "none" else 2):
        seen, q = [], training.drawn(p, list(sides(m, o)), when["seed"], when["step"], which)
        kind = "lora" if low_rank(o) else "bottleneck"
        logits = run(m, "vit", kind, plain_options(case["method"], o), q, pixels, dtype, seen)
        results.append((logits, seen))
    return results


MOSA = {
    "style": "adaptformer",
    "experts": 4,
    "split": "up",
    "mask": "all",
    "consistency": 1.0,
    "second_loss": 0.0,
    "deep_regulariser": False,
    "rank": 4,
    "dropout": 0.0,
    "decay_masked": False,
}
MOSL = {**MOSA, "style": "lora", "targets": "q,v"}


def expert_table():
    seed = 2**40 + 13

    def case(name, method, o, step):
        return {
            "name": name,
            "method": method,
            "options": o,
            "backbone": "vit",
            "label_smoothing": 0.0,
            "when": {"seed": seed, "step": step, "epoch": 0, "epochs": 0},
        }

    yield case("mosl_up", "mosa", MOSL, 3)
    yield case(
        "mosl_both",
        "mosa",
        {
            **MOSL,
            "split": "both",
            "experts": 3,
            "targets": "q,k,v,proj,fc1,fc2",
            "second_loss": 0.5,
            "deep_regulariser": True,
        },
        4,
    )
    yield case("mosa_learned", "mosa", {**MOSA, "split": "both", "scaling": "learned", "scale": 0.6}, 5)
    yield case("mosa_none", "mosa", {**MOSA, "split": "none", "style": "pfeiffer"}, 6)
    yield case(
        "adamix_share_both",
        "adamix",
        {
            "kind": "adapter",
            "experts": 4,
            "share": "both",
            "consistency": 1.0,
            "rank": 4,
            "position": "intermediate",
            "activation": "gelu",
            "dropout": 0.0,
        },
        0,
    )


def make_expert_cases(m):
    base, rows = m.load_file(m.path("base.safetensors")), []
    for case in expert_table():
        values = expert_parameters(m, case["name"], case["method"], case["options"])
        p = {k: v.double().requires_grad_() for k, v in values.items()}
        results = passes(m, case, p, base["pixels"], case["when"], torch.float64)
        loss = training.step_loss(m, case, results, base["labels"])
        grads = torch.autograd.grad(loss, list(p.values()), allow_unused=True)
        file = f"options/{case['name']}.safetensors"
        grads = {k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(values.items(), grads)}
        m.save(
            file,
            {
                **{f"logits.{i}": z.detach() for i, (z, _) in enumerate(results)},
                "loss": loss.detach().reshape(1),
                **{"param." + k: v for k, v in values.items()},
                **{"grad." + k: g for k, g in grads.items()},
            },
        )
        rows.append(
            {
                **case,
                "training": True,
                "file": file,
                "loss": loss.item(),
                "param_count": sum(v.numel() for k, v in values.items() if not k.startswith("head.")),
            }
        )
    m.save_json("options_training.json", rows)


def step_table():
    def row(name, o):
        return {
            "name": name,
            "method": "mosa",
            "options": o,
            "backbone": "vit",
            "inputs": "steps.safetensors",
            "seed": 2**34 + 7,
            "steps": 10,
            "epochs": 5,
            "lr": 1e-2,
            "weight_decay": 0.5,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "move_untouched": False,
        }

    yield row("steps_mosl", {**MOSL, "split": "both", "experts": 3})
    yield row("steps_mosl_row", {**MOSL, "mask": "row", "decay_masked": True, "targets": "k,fc2"})
    yield row(
        "steps_mosa_biases",
        {**MOSA, "split": "both", "experts": 3, "split_biases": True, "scaling": "learned", "scale": 0.6},
    )
    yield row("steps_mosa_sparse", {**MOSA, "split": "none", "style": "pfeiffer"})


def make_steps(m):
    inputs = m.load_file(m.path("steps.safetensors"))
    for row in step_table():
        values = expert_parameters(m, row["name"], row["method"], row["options"])
        open_entries = masks(m, row["method"], row["options"], values, row["seed"])
        rates = [m.rate(s, row["lr"], row["lr"] / 100, row["lr"] / 1000, 4, 10) for s in range(10)]
        lr = torch.tensor(rates, dtype=torch.float32)
        losses, final, counts = training.run_steps(m, row, values, open_entries, inputs, lr, torch.float64, passes)
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
    make_expert_cases(m)
    make_steps(m)
