#!/usr/bin/env python3
"""The methods beside each other: accuracy on several sets and seeds, and AdapterDrop's accuracy against the number of
dropped layers.

    bench/methods.py run --backbone DIR --data DIR [--output build/methods]
        trains and evaluates what is not there yet (stopped, it goes on)
    bench/methods.py time --backbone DIR [--output build/methods]
        time of a training step and of inference, on a machine that does nothing else
    bench/methods.py report [--output build/methods]
        docs/results/methods.md and its plots, from what is there

DIR of --data holds a folder for each of SETS. `report` needs matplotlib (python3-matplotlib).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

SETS = ("cifar10", "brain_mri")
TITLES = {"cifar10": "CIFAR-10", "brain_mri": "brain MRI"}
SEEDS = (1, 2, 3)
EPOCHS, WARMUP, SIZE, DEPTH = 10, 2, 96, 12
BATCH = 32  # of the timings
DROPPED = (0, 1, 3, 5, 7, 9, 11)  # layers, of the curves
TASKS, TASK_BATCH = (1, 2, 4, 8, 16), 16
RECIPE = [
    "--epochs",
    str(EPOCHS),
    "--warmup-epochs",
    str(WARMUP),
    "--image-size",
    str(SIZE),
    "--train-on",
    "train+val",
    "--crop-mode",
    "squash",
]

# name: method or preset, its options
METHODS = {
    "linear": ("linear", []),
    "adapter_plus": ("adapter_plus", []),
    "adamix": ("adamix", []),
    "mosa": ("mosa", []),
    "adaptable": ("adaptable", []),
    "adapter_bias": ("adapter_bias", []),
    "adapter_plus, robust": ("adapter_plus", ["--drop-layers", "random"]),
}
# Second phases: what a run with the same set and seed left is given to an option. FUSED: the other adapters of a
# fusion, trained once on each set.
FUSED_SETS = ("caltech101", "dtd10")
FOCUS, FUSION, LORA = "adaptable, focus", "fusion", "adamix, lora"


def folder(output, dataset, name, seed):
    return os.path.join(output, dataset, name.replace(", ", "-").replace(" ", "-"), str(seed))


def inlay(options, *arguments):
    command = [
        options.inlay,
        *arguments,
        "--backbone",
        options.backbone,
        "--threads",
        str(options.threads),
        "--workers",
        "1",
        "--quiet",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return done.stdout


def train(options, dataset, name, seed, method, extra):
    to = folder(options.output, dataset, name, seed)
    if os.path.exists(os.path.join(to, "results.json")):
        return to
    print(f"{dataset}, seed {seed}: {name}", flush=True)
    os.makedirs(to, exist_ok=True)
    inlay(
        options,
        "train",
        "--data",
        os.path.join(options.data, dataset),
        "--method",
        method,
        "--seed",
        str(seed),
        "--output",
        to,
        "--resume",
        *RECIPE,
        *extra,
    )
    return to


def skip_curve(options, dataset, name, seed):
    """Accuracy of one adapter with its lowest layers left out, kept beside it."""
    path = folder(options.output, dataset, name, seed)
    file = os.path.join(path, "skipped.json")
    if os.path.exists(file):
        return
    print(f"{dataset}, seed {seed}: {name}, layers left out", flush=True)
    curve = [
        json.loads(
            inlay(
                options,
                "eval",
                "--adapter",
                path,
                "--data",
                os.path.join(options.data, dataset),
                "--skip-layers",
                str(n),
                "--json",
            )
        )["top1"]
        for n in DROPPED
    ]
    write(file, json.dumps(curve))


def run_curves(options, dataset):
    for name in ("adapter_plus", "adapter_plus, robust"):
        skip_curve(options, dataset, name, SEEDS[0])
    for n in DROPPED[1:]:
        train(options, dataset, f"adapter_plus, {n} dropped", SEEDS[0], "adapter_plus", ["--drop-layers", str(n)])


def run(options):
    sets = options.sets.split(",")
    for seed in SEEDS:
        for dataset in sets:
            for name, (method, extra) in METHODS.items():
                train(options, dataset, name, seed, method, extra)
            train(
                options,
                dataset,
                FOCUS,
                seed,
                "adaptable",
                ["--focus", folder(options.output, dataset, "adaptable", seed)],
            )
            if seed == SEEDS[0]:
                run_curves(options, dataset)
    for seed in SEEDS:
        others = [train(options, dataset, "adapter_plus", seed, "adapter_plus", []) for dataset in FUSED_SETS]
        for dataset in sets:
            given = ",".join([folder(options.output, dataset, "adapter_plus", seed), *others])
            train(options, dataset, FUSION, seed, "fusion", ["--adapters", given])
    for seed in SEEDS:
        for dataset in sets:
            train(options, dataset, LORA, seed, "adamix", ["--kind", "lora"])


def read(path, name):
    try:
        with open(os.path.join(path, name)) as f:
            return json.load(f)
    except FileNotFoundError:
        return None


def collect(options):
    """{set: {name: {seed: figures}}}, and the curves of AdapterDrop: {set: {kind: [top1 for n]}}."""
    table, curves = {}, {}
    for dataset in SETS:
        table[dataset], curves[dataset] = {}, {}
        for name in [*METHODS, FOCUS, LORA, FUSION]:
            for seed in SEEDS:
                path = folder(options.output, dataset, name, seed)
                results, adapter = read(path, "results.json"), read(path, "adapter.json")
                if results:
                    table[dataset].setdefault(name, {})[seed] = {
                        "top1": results["eval"]["top1"],
                        "count": results["eval"]["count"],
                        "trained": results["trained_parameters"],
                        "stored": adapter["parameters"]["adapter"],
                        "bytes": results["adapter_bytes"],
                    }
        for name in ("adapter_plus", "adapter_plus, robust"):
            curve = read(folder(options.output, dataset, name, SEEDS[0]), "skipped.json")
            if curve:
                curves[dataset]["standard" if name == "adapter_plus" else "robust"] = curve
        special = [
            read(
                folder(options.output, dataset, f"adapter_plus, {n} dropped" if n else "adapter_plus", SEEDS[0]),
                "results.json",
            )
            for n in DROPPED
        ]
        if all(special):
            curves[dataset]["specialised"] = [r["eval"]["top1"] for r in special]
    return table, curves


def time_all(options):
    """Speed of each method (inlay bench), and AdapterDrop's for each number of layers and tasks (bench_drop)."""
    speeds, drops = {}, []
    for name, (method, extra) in METHODS.items():
        if "--drop-layers" in extra:
            continue
        print(f"timing {name}", flush=True)
        command = [
            options.inlay,
            "bench",
            "--backbone",
            options.backbone,
            "--method",
            method,
            *extra,
            "--batch-size",
            str(BATCH),
            "--precision",
            "auto",
            "--threads",
            str(options.threads),
            "--json",
            "--quiet",
        ]
        speeds[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print("timing dropped layers", flush=True)
    bench = os.path.join(os.path.dirname(options.inlay), "bench_drop")
    command = [
        bench,
        options.backbone,
        str(options.threads),
        speeds["linear"]["results"][0]["precision"],
        str(TASK_BATCH),
        str(TASKS[-1]),
        "5",
    ]
    for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        drops.append(json.loads(line))
    write(os.path.join(options.output, "timing.json"), json.dumps({"speeds": speeds, "drops": drops}))


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as f:
        f.write(text)
    os.replace(path + ".new", path)


# ---- the page ----


def accuracy(runs):
    values = [100 * r["top1"] for r in runs.values()]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}" + (
        "" if len(values) == len(SEEDS) else f" ({len(values)} seed{'s' * (len(values) > 1)})"
    )


def table_of(rows, align=None):
    align = align or ["---"] + ["---:"] * (len(rows[0]) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], align, *rows[1:]])


def methods_table(table, timing):
    speeds = timing["speeds"] if timing else {}
    rows = [
        [
            "method",
            *[f"{TITLES[d]}, %" for d in SETS],
            "trained",
            "stored",
            "file, kB",
            "training, img/s",
            "inference, img/s",
        ]
    ]
    for name in [*METHODS, FOCUS, LORA, FUSION]:
        runs = [table[d].get(name) for d in SETS]
        if not any(runs):
            continue
        one = next(iter(next(r for r in runs if r).values()))
        speed = speeds.get(name)
        result = speed["results"][0] if speed else None
        rows.append(
            [
                f"`{name}`",
                *[accuracy(r) if r else "" for r in runs],
                f"{one['trained']:,}",
                f"{one['stored']:,}",
                f"{one['bytes'] / 1e3:.0f}",
                f"{result['training']['images_per_second']:.1f}" if result else "",
                f"{result['inference']['images_per_second']:.1f}" if result else "",
            ]
        )
    return table_of(rows)


def curve_table(curves):
    kinds = [(d, k) for d in SETS for k in ("standard", "specialised", "robust") if k in curves[d]]
    rows = [["n", *[f"{TITLES[d]}, {k}" for d, k in kinds]]]
    for i, n in enumerate(DROPPED):
        rows.append([str(n), *[f"{100 * curves[d][k][i]:.1f}" for d, k in kinds]])
    return table_of(rows, ["---:"] * len(rows[0]))


def plot_curves(curves, linear, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "inlay"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SETS), figsize=(9, 3.4), constrained_layout=True)
    for axis, dataset in zip(axes, SETS):
        for kind, style in (("standard", "o:"), ("specialised", "s-"), ("robust", "^--")):
            if kind in curves[dataset]:
                axis.plot(DROPPED, [100 * x for x in curves[dataset][kind]], style, label=kind, markersize=4)
        if linear[dataset]:
            axis.axhline(linear[dataset], color="grey", linewidth=0.8, label="linear probe")
        axis.set(
            title=TITLES[dataset], xlabel="layers without adapters, from below", ylabel="top-1, %", xticks=range(DEPTH)
        )
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def saved_table(drops):
    """Time saved against running every task alone on all layers; in brackets what the counted operations say."""
    alone = next(d for d in drops if d["kind"] == "infer" and d["tasks"] == 1 and d["dropped"] == 0)
    rows = [["n"] + [head for t in TASKS if t > 1 for head in (f"T = {t}, ideal", "measured", "counted")]]
    for n in range(DEPTH):
        row = [str(n)]
        for t in TASKS:
            if t == 1:
                continue
            one = next(d for d in drops if d["kind"] == "infer" and d["tasks"] == t and d["dropped"] == n)
            row += [
                f"{100 * n * (1 - 1 / t) / DEPTH:.1f}",
                f"{100 * (1 - one['seconds'] / (t * alone['seconds'])):.1f}",
                f"{100 * (1 - one['flops'] / (t * alone['flops'])):.1f}",
            ]
        rows.append(row)
    return table_of(rows, ["---:"] * len(rows[0]))


def single_table(drops):
    def of(kind, n):
        return next(d for d in drops if d["kind"] == kind and d["tasks"] == 1 and d["dropped"] == n)

    rows = [["n", "training step, ms", "of n = 0, %", "counted, %", "inference, ms", "of n = 0, %"]]
    for n in range(DEPTH):
        step, infer = of("train", n), of("infer", n)
        rows.append(
            [
                str(n),
                f"{1e3 * step['seconds']:.0f}",
                f"{100 * step['seconds'] / of('train', 0)['seconds']:.0f}",
                f"{100 * step['flops'] / of('train', 0)['flops']:.0f}",
                f"{1e3 * infer['seconds']:.0f}",
                f"{100 * infer['seconds'] / of('infer', 0)['seconds']:.0f}",
            ]
        )
    return table_of(rows, ["---:"] * len(rows[0]))


def report(options):
    table, curves = collect(options)
    timing = read(options.output, "timing.json")
    here = os.path.dirname(os.path.abspath(__file__))
    target = os.path.join(here, "..", "docs", "results")
    os.makedirs(target, exist_ok=True)
    linear = {
        d: statistics.mean(100 * r["top1"] for r in table[d]["linear"].values()) if "linear" in table[d] else None
        for d in SETS
    }
    plot_curves(curves, linear, os.path.join(target, "adapterdrop.svg"))
    with open(os.path.join(here, "methods_page.md")) as f:
        page = f.read()
    parts = {
        "machine": machine(timing),
        "recipe": " ".join(RECIPE),
        "methods": methods_table(table, timing),
        "curves": curve_table(curves),
        "batch": str(BATCH),
        "task_batch": str(TASK_BATCH),
        "epochs": str(EPOCHS),
        "size": str(SIZE),
        "seeds": ", ".join(map(str, SEEDS)),
        "saved": saved_table(timing["drops"]) if timing else "",
        "single": single_table(timing["drops"]) if timing else "",
    }
    for key, text in parts.items():
        page = page.replace("{{" + key + "}}", text)
    write(os.path.join(target, "methods.md"), page)


def machine(timing):
    if not timing:
        return "not timed"
    speed = timing["speeds"]["linear"]
    result = speed["results"][0]
    return (
        f"{speed['processor']}, {speed['processors']} processors, kernels `{speed['kernels']}`, {result['precision']}, "
        f"{result['threads']} threads"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "time", "report"))
    parser.add_argument("--backbone")
    parser.add_argument("--data")
    parser.add_argument("--output", default="build/methods")
    parser.add_argument("--sets", default=",".join(SETS), help="run these only, say each in a process of its own")
    parser.add_argument("--inlay", default="build/release/inlay")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.action == "run":
        if not options.backbone or not options.data:
            parser.error("run needs --backbone and --data")
        run(options)
    elif options.action == "time":
        if not options.backbone:
            parser.error("time needs --backbone")
        time_all(options)
    else:
        report(options)


if __name__ == "__main__":
    main()
