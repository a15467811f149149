"""Renders the results of compare.py as a page. What stands on the page below LOG is kept: it is written by hand. usage:
report.py RESULTS.json PAGE.md"""

import itertools
import json
import math
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections import namedtuple

LOG = "## Each optimisation, before and after"
PEERS = ["PyTorch", "ONNX Runtime", "OpenVINO"]
FLAGS = re.compile(r"avx|fma|f16c|sse4|amx|bf16|vnni|asimd|sve|fphp")


class Model(namedtuple("Model", "name width")):
    """A ViT of 12 blocks with patches of 16 x 16 on 224 x 224 pixels, and 100 classes."""

    def flops(self):
        """Of a plain forward pass, an image."""
        tokens, w = 197, self.width
        return 2 * (196 * 768 * w + 12 * (12 * tokens * w * w + 2 * tokens * tokens * w) + 100 * w)


MODELS = {"ti": Model("ViT-Ti/16", 192), "b": Model("ViT-B/16", 768)}


# ---- the machine ----


def read(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(build, modules, torches):
    cpu = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", read("/proc/cpuinfo"), re.M))
    caches = []
    for i in range(4):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{i}/"
        if read(folder + "type") not in ("", "Instruction"):
            caches.append(f"L{read(folder + 'level')} {read(folder + 'size')}")
    memory = int(re.search(r"MemTotal: *(\d+)", read("/proc/meminfo")).group(1))
    compiler = re.search(r"^CMAKE_C_COMPILER:\w+=(.*)$", read(os.path.join(build, "CMakeCache.txt")), re.M)
    return {
        "processor": f"{cpu.get('model name', platform.machine())} "
        f"(family {cpu.get('cpu family', '?')}, model {cpu.get('model', '?')})",
        "processors": f"{os.cpu_count()}; caches of the first: {', '.join(caches)}" if caches else str(os.cpu_count()),
        "instruction sets": " ".join(
            sorted(f for f in cpu.get("flags", cpu.get("Features", "")).split() if FLAGS.search(f))
        ),
        "memory": f"{memory / 1e6:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "compiler": first_line(compiler.group(1), "--version") if compiler else "?",
        "Inlay": first_line("git", "describe", "--always", "--dirty") or "not a clone",
        "Python and packages": f"Python {platform.python_version()}"
        + "".join(f", {name} {version}" for name, version in sorted(modules.items())),
        "PyTorch": ", ".join(f"{version} of {command[0]}" for version, command in torches.items()) or "none",
        "package python3-torch": first_line("dpkg-query", "-W", "-f", "${Version}", "python3-torch") or "none",
    }


# ---- tables ----


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]


def number(x):
    return f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:.0f}"


def line(e):
    """One contestant, for the terminal."""
    parts = [f"{task} {number(max(e[task]))} img/s" for task in ("infer", "train") if e[task]]
    return (
        f"{e['name']} {e['variant']}".strip()
        + ": "
        + ", ".join(parts)
        + f", {max(e.get('peak', 0), e['infer_peak']) / 1e9:.2f} GB"
    )


def variant(e):
    """Which PyTorch: its version, and how it was used."""
    return f"{e['name'].split()[-1]}, {e['variant'].replace(',', ', ')}"


def share(value, limit):
    return f" ({100 * value / limit:.0f} %)" if limit else ""


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours and theirs else "-"


def mean_ratio(pairs):
    logs = [math.log(a / b) for a, b in pairs if a and b]
    return f"{math.exp(sum(logs) / len(logs)):.2f}" if logs else "-"


class Page:
    def __init__(self, results):
        self.r = results
        self.peaks = {(k["precision"], k["threads"]): k["peak"] for k in results["kernels"]}

    def limit(self, contest, passes):
        """Images a second at the registers' peak; passes: forward passes that an image costs."""
        return (
            self.peaks.get((contest["precision"], contest["threads"]), 0)
            * 1e9
            / (passes * MODELS[contest["model"]].flops())
        )

    def best(self, contest, family, task):
        """The entry of a family that did the task fastest."""
        found = [e for e in contest["entries"] if e["family"] == family and e[task]]
        return max(found, key=lambda e: max(e[task]), default=None)

    def row(self, contest):
        return [
            f"{MODELS[contest['model']].name}, batch {contest['batch']}",
            contest["precision"],
            str(contest["threads"]),
        ]

    def products(self, precision):
        contests = [k for k in self.r["kernels"] if k["precision"] == precision and k["entries"]]
        if not contests:
            return []
        head, rows, ratios = ["m x n x k"], [], ["mean of the ratios"]
        for k in contests:
            count = f"{k['threads']} thread{'s' * (k['threads'] > 1)}"
            names = [e["contestant"] for e in k["entries"]]
            head += [f"{name}, {count}" for name in names] + [
                f"Inlay / {name}" for name in names if name != "Inlay" and "Inlay" in names
            ]
            for i, name in enumerate(names):
                ratios.append("")
            for e in k["entries"]:
                if e["contestant"] != "Inlay" and "Inlay" in names:
                    ours = k["entries"][names.index("Inlay")]
                    ratios.append(mean_ratio([(a["gflops"], b["gflops"]) for a, b in zip(ours["shapes"], e["shapes"])]))
        for i, s in enumerate(contests[0]["entries"][0]["shapes"]):
            row = [f"{s['m']} x {s['n']} x {s['k']}"]
            for k in contests:
                speeds = {e["contestant"]: e["shapes"][i]["gflops"] for e in k["entries"]}
                row += [number(x) + share(x, k["peak"]) for x in speeds.values()]
                row += [
                    ratio(speeds["Inlay"], x) for name, x in speeds.items() if name != "Inlay" and "Inlay" in speeds
                ]
            rows.append(row)
        peaks = ", ".join(
            f"{k['peak']:.0f} GFLOP/s with {k['threads']} thread{'s' * (k['threads'] > 1)}"
            for k in contests
            if k["peak"]
        )
        return ["", f"### {precision}", "", f"Peak on registers: {peaks or 'not measured'}.", ""] + table(
            head, rows + ([ratios] if any(ratios[1:]) else [])
        )

    def gradients(self):
        """Inlay's data gradients as shares of the peak: lowest and highest of the shapes."""
        rows = []
        for k in self.r["kernels"]:
            for e in k["entries"]:
                if e["contestant"] == "Inlay":
                    speeds = [s["gradient"] for s in e["shapes"]]
                    if not any(speeds):  # int8 weights have none
                        continue
                    rows.append(
                        [
                            k["precision"],
                            str(k["threads"]),
                            number(min(speeds)) + share(min(speeds), k["peak"]),
                            number(max(speeds)) + share(max(speeds), k["peak"]),
                        ]
                    )
        return ["", "### Data gradients (Inlay)", ""] + table(
            ["precision", "threads", "slowest shape, GFLOP/s", "fastest"], rows
        )

    def bf16_of(self, contest):
        """The same contest in bf16, the fastest that PyTorch has."""
        same = [
            c
            for c in self.r["models"]
            if c["precision"] == "bf16" and all(c[key] == contest[key] for key in ("model", "batch", "threads"))
        ]
        return same[0] if same else None

    def operations(self):
        """Where Inlay's training step goes, for each image."""
        for c in self.r["models"]:
            ours = self.best(c, "Inlay", "train")
            if not ours or "operations" not in ours or c["threads"] != max(m["threads"] for m in self.r["models"]):
                continue
            total = sum(o["forward_seconds"] + o["backward_seconds"] for o in ours["operations"])
            rows = []
            for o in sorted(ours["operations"], key=lambda o: -o["forward_seconds"] - o["backward_seconds"]):
                if o["forward_seconds"] + o["backward_seconds"] < 0.01 * total:
                    break
                cells = []
                for way in ("forward", "backward"):
                    seconds, work = o[f"{way}_seconds"], o[f"{way}_operations"]
                    cells.append(
                        f"{1e3 * seconds:.3f}" + (f" ({work / seconds / 1e9:.0f})" if work and seconds else "")
                        if seconds
                        else "-"
                    )
                rows.append(
                    [o["operation"], f"{o['rows']} x {o['cols']} x {o['depth']}"]
                    + cells
                    + [f"{100 * (o['forward_seconds'] + o['backward_seconds']) / total:.1f} %"]
                )
            yield from [
                "",
                f"{MODELS[c['model']].name}, batch {c['batch']}, {c['precision']}, {c['threads']} threads:",
                "",
            ]
            yield from table(
                ["operation", "result and depth", "forward, ms (GFLOP/s)", "backward, ms (GFLOP/s)", "of the step"],
                rows,
            )

    def training(self):
        rows = []
        for c in self.r["models"]:
            peer = self.bf16_of(c) if c["precision"] == "int8" else c
            ours, theirs = self.best(c, "Inlay", "train"), self.best(peer, "PyTorch", "train") if peer else None
            if not ours and not theirs:
                continue
            cells = [
                number(max(e["train"])) + share(max(e["train"]), self.limit(of, 2)) if e else "-"
                for e, of in ((ours, c), (theirs, peer))
            ]
            memory = [f"{e['peak'] / 1e9:.2f}" if e else "-" for e in (ours, theirs)]
            rows.append(
                self.row(c)
                + cells
                + [
                    variant(theirs) + (", bf16" if peer is not c else "") if theirs else "-",
                    ratio(max(ours["train"]), max(theirs["train"])) if ours and theirs else "-",
                    " / ".join(memory),
                ]
            )
        return table(
            [
                "model",
                "precision",
                "threads",
                "Inlay, img/s",
                "PyTorch, img/s",
                "its version and variant",
                "Inlay / PyTorch",
                "peak memory, GB",
            ],
            rows,
        )

    def inference(self):
        rows = []
        for c in self.r["models"]:
            found = {family: self.best(c, family, "infer") for family in ["Inlay"] + PEERS}
            speeds = {family: max(e["infer"]) for family, e in found.items() if e}
            if speeds:
                peers = [speed for family, speed in speeds.items() if family != "Inlay"]
                rows.append(
                    self.row(c)
                    + [
                        number(speeds[f]) + share(speeds[f], self.limit(c, 1)) if f in speeds else "-"
                        for f in ["Inlay"] + PEERS
                    ]
                    + [ratio(speeds.get("Inlay"), max(peers, default=0))]
                )
        return table(["model", "precision", "threads", "Inlay, img/s"] + PEERS + ["Inlay / fastest peer"], rows)

    def memory(self):
        rows = []
        for c in self.r["models"]:
            found = [self.best(c, family, "infer") for family in ["Inlay"] + PEERS]
            rows.append(self.row(c) + [f"{e['infer_peak'] / 1e6:.0f}" if e else "-" for e in found])
        return table(["model", "precision", "threads", "Inlay, MB"] + PEERS, rows)

    def latency(self):
        rows = []
        for c in self.r["models"]:
            ours = self.best(c, "Inlay", "infer")
            if c["batch"] == 1:
                found = [self.best(c, family, "infer") for family in ["Inlay"] + PEERS]
                rows.append(self.row(c)[:3] + [f"{1e3 / max(e['infer']):.1f}" if e else "-" for e in found])
            elif c["model"] == "b" and ours:
                rows.append(
                    [
                        f"{MODELS[c['model']].name}, batch 1",
                        c["precision"],
                        str(c["threads"]),
                        f"{ours['latency_ms']:.1f}",
                    ]
                    + ["not measured"] * len(PEERS)
                )
        return table(["model", "precision", "threads", "Inlay, ms"] + PEERS, rows)

    def variants(self):
        rows = []
        for c in self.r["models"]:
            for e in c["entries"]:
                if e["family"] == "PyTorch":
                    rows.append(
                        self.row(c)
                        + [variant(e)]
                        + [f"{number(max(e[t]))} ({len(e[t])})" if e[t] else "-" for t in ("train", "infer")]
                        + [f"{max(e.get('peak', 0), e['infer_peak']) / 1e9:.2f}"]
                    )
        return table(
            [
                "model",
                "precision",
                "threads",
                "version and variant",
                "training, img/s (turns)",
                "inference, img/s (turns)",
                "peak memory, GB",
            ],
            rows,
        )

    def cold(self):
        rows = [
            [MODELS[c["model"]].name, f"{1e3 * c['best']:.0f}", f"{1e3 * c['median']:.0f}", f"{c['peak'] / 1e6:.0f}"]
            for c in self.r["cold"]
        ]
        return table(["model", "best of ten, ms", "median, ms", "peak memory, MB"], rows)

    def rules(self):
        limits = self.r["limits"]
        loads = [x for c in self.r["models"] for e in c["entries"] for x in e["others"]] + [
            x for k in self.r["kernels"] for x in k["others"]
        ]
        many = sum(x > limits["others"] for x in loads)
        return [
            f"Contestants take turns (A B C A B C ...), {limits['turns']} each, or {limits['fewest']} where those take",
            f"longer than {limits['long']:.0f} s; the best turn counts. A turn is one step, or as many as fit in half",
            "a second; the first step of a process is not counted. Inlay is a new process each turn, the peers'",
            "processes stay and are asked again. A PyTorch or variant of it that was",
            f"{100 * (limits['trailing'] - 1):.0f} % slower than the best one after two rounds is not measured again.",
            f"A turn waits a little for other work to end; where that takes more than {100 * limits['others']:.0f} %",
            f"of a processor during a turn of a model that takes less than {limits['again']:.0f} s, the turn is taken",
            f"again, and both count. In this run {many} of {len(loads)} turns had so much beside them.",
        ]

    def lines(self):
        yield from [
            "# Performance",
            "",
            f"Measured by `make bench` on {self.r['date']}, everything in one run on one machine. `QUICK=1` measures",
            "ViT-Ti/16 with two threads only; `PYTHON=...` selects the Python in which the peers are looked for,",
            "`DEBIAN_PYTHON=...` that of a second PyTorch. All numbers of a run: `build/bench/results.json`.",
            "",
        ]
        yield from table(["", ""], [[name, text] for name, text in self.r["machine"].items()])
        yield from [""] + self.rules()
        if self.r["skipped"]:
            yield from ["", "Not measured here:", ""] + [f"- {what}: {why}" for what, why in self.r["skipped"].items()]
        yield from [
            "",
            "## Matrix products",
            "",
            "y [m, n] = x [m, k] W^T with the shapes of a block's qkv, proj, fc1 and fc2 in ViT-Ti/16 and ViT-B/16,",
            "for 8 images and for one. GFLOP/s, and the share of what the same number of threads reach on registers",
            "alone. Inlay and oneDNN have their weights packed beforehand; OpenBLAS is given them as they are. bf16:",
            "operands and result bf16, sums f32. int8 of oneDNN: unsigned by signed, f32 result.",
        ]
        for precision in ("f32", "bf16", "int8"):
            yield from self.products(precision)
        yield from self.gradients()
        yield from [
            "",
            "## Training",
            "",
            "Adapter+ r = 8 after every block, frozen backbone, AdamW, drop path 0.1, 224 x 224 pixels. Of all",
            "PyTorches the fastest variant, its bf16 beside int8. The share is that of the images a second at which",
            "the registers' peak would be reached if an image cost two plain forward passes (forward, and the",
            "gradient of the activations).",
            "",
        ]
        yield from self.training()
        yield from [
            "",
            "## Inference",
            "",
            "Inlay and PyTorch run the model with its adapters; ONNX Runtime and OpenVINO the plain ViT. int8:",
            "dynamic quantisation of ONNX Runtime, NNCF's of OpenVINO (the rest bf16). The share is that of the",
            "images a second at the registers' peak if an image cost one plain forward pass.",
            "",
        ]
        yield from self.inference()
        yield from ["", "### One image", "", "Milliseconds of a forward pass in a running process.", ""]
        yield from self.latency()
        yield from [
            "",
            "### Peak memory of inference",
            "",
            "Of the whole process, before anything was trained in it.",
            "",
        ]
        yield from self.memory()
        yield from [
            "",
            "### Cold start",
            "",
            "From the start of `inlay predict` with an adapter to its end, one image, files in the page cache, as",
            "many threads as processors.",
            "",
        ]
        yield from self.cold()
        yield from [
            "",
            "## Where a training step goes",
            "",
            "What each operation takes for one image (`inlay bench --profile`), those above 1 %. Adapters are the",
            "bottleneck; a product's epilogue counts to it.",
        ]
        yield from self.operations()
        yield from [
            "",
            "## Variants of PyTorch",
            "",
            "fused: scaled_dot_product_attention; plain: softmax written out; compiled: torch.compile. A PyTorch",
            "before 2 has plain alone. Debian's PyTorch has no timm and runs the same layers from",
            "`bench/peers/vit.py`, in f32 with OMP_WAIT_POLICY=PASSIVE: spinning OpenMP threads take the processors",
            "from its BLAS.",
            "",
        ]
        yield from self.variants()


def wrapped(lines):
    """Prose in lines of at most 120 columns; headings and tables stay as they are."""
    wrapper = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
    for prose, group in itertools.groupby(lines, lambda text: text != "" and text[0] not in "#|-"):
        for text in [" ".join(group)] if prose else group:
            yield from wrapper.wrap(text) if prose or text.startswith("- ") else [text]


def write(results, path):
    old = read(path)
    log = old[old.index(LOG) :] if LOG in old else LOG + "\n"
    with open(path, "w") as f:
        f.write("\n".join(wrapped(Page(results).lines())) + "\n\n" + log.strip() + "\n")


if __name__ == "__main__":
    with open(sys.argv[1]) as f:
        write(json.load(f), sys.argv[2])
