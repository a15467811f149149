"""Training under dropout and stochastic depth, for oracle_training.py: blocks in the order of the authors' code
(visinf/adapter_plus), with the masks that Inlay draws (philox.py).

Stochastic depth drops a branch d = drop_path(m(x)) before an adapter of the positions `intermediate` and `houlsby`
sees it: x + d + A(d). A has a dropout behind its activation and a drop path of its own. Dropout of the backbone stands
behind the embeddings, behind the activation of each feed-forward part and behind its second layer. Each of these draws
has a number, counted in the order in which a step comes to it; one with rate 0 has none."""

import torch
import torch.nn.functional as F

import philox

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class Draws:
    """Of one step of a row, over all its passes."""

    def __init__(self, row, when, depth, average):
        self.path_rate, self.rate = row.get("backbone_drop_path", 0.0), row.get("backbone_dropout", 0.0)
        self.when, self.depth, self.average, self.sites = when, depth, average, 0

    def next_site(self):
        self.sites += 1
        return self.sites - 1

    def dropout(self, x, rate, rows):
        """Only the first `rows` tokens of a sample are drawn for: in the last block nobody reads the others."""
        if rate == 0:
            return x
        n, cols, site = len(x), x.shape[-1], self.next_site()
        kept = philox.kept(self.when["seed"], site, self.when["step"], n * rows * cols, rate)
        mask = torch.ones_like(x)
        mask[:, :rows] = torch.tensor(kept, dtype=x.dtype).reshape(n, rows, cols) / (1 - rate)
        return x * mask

    def drop_path(self, x, rate):
        if rate == 0:
            return x
        site = self.next_site()
        dropped = [philox.dropped(self.when["seed"], site, self.when["step"], i, rate) for i in range(len(x))]
        return x * (~torch.tensor(dropped)).to(x.dtype).view(-1, 1, 1) / (1 - rate)

    def adapter(self, p, slot, x, o, rows):
        if slot + ".norm.weight" in p:
            x = F.layer_norm(x, x.shape[-1:], p[slot + ".norm.weight"], p[slot + ".norm.bias"], 1e-6)
        h = ACTIVATIONS[o["activation"]](F.linear(x, p[slot + ".down.weight"], p[slot + ".down.bias"]))
        y = F.linear(self.dropout(h, o.get("dropout", 0.0), rows), p[slot + ".up.weight"], p[slot + ".up.bias"])
        factor = o["scale"] if o["scaling"] == "fixed" else 1
        return self.drop_path(y, o.get("drop_path", 0.0)) * p.get(slot + ".scaling", factor)

    def block(self, block, i, p, o):
        """A function for make_oracles.tuned."""
        depth_rate = self.path_rate * i / (self.depth - 1)

        def forward(x):
            rows = 1 if i + 1 == self.depth and not self.average else x.shape[1]

            def attention(x):
                return self.drop_path(block.ls1(block.attn(block.norm1(x))), depth_rate)

            def hidden(x):
                return self.dropout(block.mlp.act(block.mlp.fc1(block.norm2(x))), self.rate, rows)

            def branch(h):
                return self.drop_path(block.ls2(self.dropout(block.mlp.fc2(h), self.rate, rows)), depth_rate)

            def a(x, name="adapter"):
                return self.adapter(p, f"blocks.{i}.{name}", x, o, rows)

            def ffn(x):
                return branch(hidden(x))

            if i == 0:
                x = self.dropout(x, self.rate, x.shape[1])
            position = o["position"]
            if position == "bias":
                x = x + attention(x)
                h = hidden(x)
                alpha = F.linear(h, p[f"blocks.{i}.alpha.weight"], p[f"blocks.{i}.alpha.bias"])
                return x + branch(h) + alpha * p[f"blocks.{i}.vector"].T
            if position == "houlsby":
                d = attention(x)
                x = x + d + a(d, "adapter_attn")
            else:
                x = x + attention(x)
            if position == "pre":
                x = x + a(x)
            elif position == "pre_post":
                x = x + a(x, "adapter_attn")
            d = ffn(x)
            if position in ("intermediate", "houlsby"):
                return x + d + a(d)
            y = x + d
            return y if position in ("pre", "none") else y + a(x if position == "parallel" else y)

        return forward


def table():
    """Rows as in oracle_training.step_table, with the backbone's rates."""
    plain = {
        "rank": 4,
        "activation": "gelu",
        "layernorm": False,
        "bias": True,
        "scaling": "none",
        "scale": 1.0,
        "init": "houlsby",
        "dropout": 0.2,
        "drop_path": 0.3,
    }
    adamix = {
        "kind": "adapter",
        "experts": 3,
        "share": "none",
        "consistency": 1.0,
        "rank": 4,
        "position": "intermediate",
        "activation": "gelu",
        "dropout": 0.2,
    }
    mosa = {
        "style": "adaptformer",
        "experts": 3,
        "split": "both",
        "mask": "all",
        "consistency": 1.0,
        "second_loss": 0.0,
        "deep_regulariser": False,
        "rank": 4,
        "dropout": 0.1,
        "decay_masked": False,
    }

    def row(name, method, o, rates, backbone="vit"):
        return {
            "name": "draws/" + name,
            "method": method,
            "options": o,
            "backbone": backbone,
            "inputs": "steps.safetensors",
            "seed": 2**33 + 5,
            "steps": 10,
            "epochs": 5,
            "lr": 1e-2,
            "weight_decay": 0.5,
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "move_untouched": False,
            **rates,
        }

    depth = {"backbone_drop_path": 0.6}
    for position in ("post", "pre", "parallel", "intermediate", "houlsby", "pfeiffer", "pre_post"):
        scaling = {"post": "channel", "pre": "learned", "parallel": "fixed"}.get(position, "none")
        inner = {"position": position, "layernorm": position == "pfeiffer", "scaling": scaling}
        yield row("depth_" + position, "bottleneck", {**plain, **inner}, depth)
    yield row("depth_layerscale", "bottleneck", {**plain, "position": "intermediate"}, depth, "variants/layerscale")
    yield row("depth_adamix", "adamix", adamix, depth)
    yield row("depth_mosa_pfeiffer", "mosa", {**mosa, "style": "pfeiffer"}, depth)
    bias = {"share_alpha": False, "norms": "none"}
    yield row("depth_adapter_bias", "adapter_bias", bias, depth)
    dropout, both = {"backbone_dropout": 0.1}, {"backbone_drop_path": 0.5, "backbone_dropout": 0.2}
    lora = {"kind": "lora", "experts": 3, "share": "none", "consistency": 1.0, "rank": 4, "alpha": 6.0, "dropout": 0.0}
    yield row("dropout_post", "bottleneck", {**plain, "position": "post", "scaling": "channel"}, both)
    yield row("dropout_houlsby", "bottleneck", {**plain, "position": "houlsby"}, both, "variants/layerscale")
    yield row("dropout_avg", "bottleneck", {**plain, "position": "pre"}, both, "variants/avg")
    yield row("dropout_adamix", "adamix", adamix, dropout)
    yield row("dropout_adamix_lora", "adamix", {**lora, "targets": "q,v,fc1,fc2"}, dropout)
    yield row("dropout_mosa", "mosa", mosa, dropout)
    yield row("dropout_adapter_bias", "adapter_bias", bias, both)
