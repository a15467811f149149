"""Measures Inlay beside its peers in one run: matrix products, training steps, inference, cold start. Writes
build/bench/results.json and the page that is made of it, docs/performance.md (a run that was ended leaves results.json:
report.py makes the page of that). Contestants take turns, five each; the best counts. Nothing but the standard library
is needed; what a peer needs is looked for in the Python that runs this, and a peer that is not there is named and left
out. A second PyTorch is looked for in DEBIAN_PYTHON (/usr/bin/python3 where it is not set; empty: none). usage:
compare.py BUILD; QUICK=1: ViT-Ti/16 with two threads only, page in build/bench
"""

import datetime
import importlib.metadata
import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import time

import report

TURNS = 5
FEWEST = 3  # turns of a contest that takes longer than
LONG = 30.0  # seconds
# of a processor: more work than that of others disturbs; a turn beside it is taken again, once, unless it takes
# longer than
OTHERS = 0.15
AGAIN = 5.0  # seconds
PATIENCE = 5.0  # seconds for which the turns of a contest may wait, in all, for others to be done
ANSWER = 180.0  # seconds after which a peer is given up; torch.compile needs a minute
TRAILING = 1.15  # a variant of a peer that is so many times slower than the best after two rounds is not measured again
HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.join(os.path.dirname(HERE), "build", "bench")
TICKS = os.sysconf("SC_CLK_TCK")
PRODUCTS = [
    ("bench_gemm", "Inlay", ("f32", "bf16", "int8")),
    ("gemm_openblas", "OpenBLAS", ("f32",)),
    ("gemm_onednn", "oneDNN", ("f32", "bf16", "int8")),
]
DEBIAN_PYTHON = os.environ.get("DEBIAN_PYTHON", "/usr/bin/python3")
ERRORS = os.path.join(WORK, "errors.log")


# ---- contestants ----


class Absent(Exception):
    """A contestant that cannot be measured here; the message says why."""


def last_line(path):
    with open(path, errors="replace") as f:
        lines = [line.strip() for line in f if line.strip()]
    return lines[-1] if lines else "it ended without a word"


def start(command, threads):
    """A process whose standard output is a pipe and whose errors can be read when it has failed."""
    with open(ERRORS, "w") as errors:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
            )
        except OSError as error:
            raise Absent(f"{command[0]}: {error.strerror}") from error


def run(command, threads=1):
    """The line of JSON that a program prints."""
    process = start(command, threads)
    text = process.communicate()[0]
    if process.returncode == 2:
        raise Absent("it does not know this precision")
    if process.returncode:
        raise Absent(last_line(ERRORS))
    return json.loads(text)


class Program:
    """One process a turn, which does all tasks."""

    name = family = "Inlay"
    variant = ""

    def __init__(self, command, threads, tasks):
        self.command, self.threads, self.tasks = command, threads, tasks

    def cpu(self):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def turn(self, tasks):
        return run(self.command, self.threads)

    def close(self):
        pass


class Inlay(Program):
    """`inlay bench`."""

    def turn(self, tasks):
        found = run(self.command, self.threads)["results"][0]
        infer, train = found["inference"], found["training"]
        return {
            "infer": infer["images_per_second"],
            "train": train["images_per_second"],
            "latency_ms": 1e3 * found["latency_seconds"],
            "infer_peak": infer["peak_memory_bytes"],
            "peak": train["peak_memory_bytes"],
            "operations": train["operations_for_each_image"],
        }


class Talker:
    """A peer: one process that stays and is asked for a turn at a time (peers/turns.py)."""

    def __init__(self, family, variant, command, threads, batch, tasks):
        self.family, self.variant, self.batch, self.tasks = family, variant, batch, tasks
        self.process = start(command, threads)

    def greet(self):
        self.name = self.read()["contestant"]

    def read(self):
        if not select.select([self.process.stdout], [], [], ANSWER)[0]:
            self.process.kill()
            raise Absent(f"no answer within {ANSWER:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Absent(last_line(ERRORS))
        return json.loads(line)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def turn(self, tasks):
        result = {}
        for task in tasks:
            self.process.stdin.write(task + "\n")
            self.process.stdin.flush()
            answer = self.read()
            result[task] = self.batch / answer["seconds"]
            result["infer_peak" if task == "infer" else "peak"] = answer["peak"]
        return result

    def close(self):
        self.process.kill()
        self.process.communicate()


# ---- contests ----


def busy():
    """Seconds of processor time that anything has used since the machine was started, and that its host withheld."""
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def watched(contestant, tasks):
    """A turn, and the share of a processor that others used meanwhile."""
    begun, before, own = time.perf_counter(), busy(), contestant.cpu()
    result = contestant.turn(tasks)
    seconds = time.perf_counter() - begun
    return result, max(0.0, (busy() - before - (contestant.cpu() - own)) / seconds)


def wait_for_calm(patience):
    """Waits until others leave the processors alone; what is left of the patience comes back."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < patience:
        before, since = busy(), time.perf_counter()
        time.sleep(0.2)
        if busy() - before <= OTHERS * (time.perf_counter() - since):
            break
    return patience - (time.perf_counter() - begun)


def record(entry, tasks, result, others):
    for task in tasks:
        entry[task].append(round(result[task], 3))
    entry["others"].append(round(others, 3))
    if "infer_peak" in result:
        entry.setdefault("infer_peak", result["infer_peak"])  # of the first turn, in which nothing was trained before
    if "peak" in result:
        entry["peak"] = result["peak"]
    if "operations" in result and "train" in tasks and entry["train"][-1] == max(entry["train"]):
        entry["operations"] = result["operations"]  # of the best turn
    if "latency_ms" in result:
        entry["latency_ms"] = min(entry.get("latency_ms", result["latency_ms"]), result["latency_ms"])


def trailing(entries, task):
    """Entries that another variant of the same peer has beaten by too much."""
    best = {}
    for e in entries:
        best[e["family"]] = max([best.get(e["family"], 0.0)] + e[task])
    return [e for e in entries if e[task] and max(e[task]) * TRAILING < best[e["family"]]]


def contest(contestants, skipped):
    """Turns of all contestants; what they reach, in images a second, a list of turns for each task."""
    entries = [
        {"name": c.name, "family": c.family, "variant": c.variant, "infer": [], "train": [], "others": []}
        for c in contestants
    ]
    begun, patience, wanted = time.perf_counter(), PATIENCE, [list(c.tasks) for c in contestants]
    for turn in range(TURNS):
        if turn >= FEWEST and time.perf_counter() - begun > LONG:
            break
        for c, entry, tasks in zip(contestants, entries, wanted):
            others = 2 * OTHERS if tasks else 0.0
            try:
                for _ in range(2):
                    since = time.perf_counter()
                    if others > OTHERS:
                        patience = wait_for_calm(patience)
                        result, others = watched(c, tasks)
                        record(entry, tasks, result, others)
                    if time.perf_counter() - since > AGAIN:
                        break
            except Absent as error:
                skipped[f"{c.name} {c.variant}".strip()] = str(error)
                tasks.clear()
        for task in ("infer", "train") if turn == 1 else ():
            for e in trailing(entries, task):
                mine = wanted[entries.index(e)]
                if task in mine:
                    mine.remove(task)
    return [e for e in entries if e["infer"] or e["train"]]


def open_all(makers, skipped):
    """Starts contestants side by side; those that cannot be measured are noted."""
    opened, ready = [], []
    for what, make in makers:
        try:
            opened.append((what, make()))
        except Absent as error:
            skipped[what] = str(error)
    for what, contestant in opened:
        try:
            if isinstance(contestant, Talker):
                contestant.greet()
            ready.append(contestant)
        except Absent as error:
            skipped[what] = str(error)
    return ready


# ---- what is measured ----


class Bench:
    def __init__(self, build, quick):
        self.build, self.quick = build, quick
        self.threads = [2] if quick else [1, 2]
        self.skipped = {}
        self.modules = self.find_modules("torch", "timm", "onnx", "onnxruntime", "openvino", "nncf", "numpy")
        self.torches = self.find_torches()

    def find_modules(self, *names):
        """Versions of what the peers need, without importing it."""
        found = {}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                pass
        return found

    def find_torches(self):
        """PyTorch of the Python that runs this, and Debian's if it is another: versions and what runs them."""
        found = {self.modules["torch"].split("+")[0]: [sys.executable]} if "torch" in self.modules else {}
        if DEBIAN_PYTHON:
            command = [DEBIAN_PYTHON, "-Es"]  # it sees its own modules alone
            version = report.first_line(
                *command, "-c", "import importlib.metadata; print(importlib.metadata.version('torch'))"
            ).split("+")[0]
            if version:
                found.setdefault(version, command)
            else:
                self.skip(
                    "PyTorch of Debian",
                    f"{DEBIAN_PYTHON} has no module torch (package python3-torch; DEBIAN_PYTHON=... selects another "
                    "Python)",
                )
        return found

    def program(self, name):
        path = os.path.join(self.build, name)
        if not os.path.exists(path):
            raise Absent(
                {
                    "gemm_openblas": "OpenBLAS was not found when Inlay was built (Debian: libopenblas-dev)",
                    "gemm_onednn": "oneDNN 2 was not found when Inlay was built (Debian: libdnnl-dev)",
                }.get(name, f"{path} is missing")
            )
        return path

    def skip(self, what, why):
        if self.skipped.setdefault(what, why) == why:
            print(f"  without {what}: {why}", flush=True)

    def products(self, precision, threads):
        """Contestants of a matrix product in turn; of each shape the best turn."""
        contestants, entries, others, patience = [], [], [], PATIENCE
        for program, name, precisions in PRODUCTS:
            try:
                if precision in precisions:
                    contestants.append(Program([self.program(program), str(threads), precision], threads, []))
                    entries.append(run(contestants[-1].command, threads))
            except Absent as error:
                del contestants[len(entries) :]
                self.skip(f"products of {name}" + (f", {precision}" if name == "Inlay" else ""), str(error))
        for _ in range(TURNS - 1):
            for contestant, entry in zip(contestants, entries):
                patience = wait_for_calm(patience)
                again, load = watched(contestant, [])
                others.append(round(load, 3))
                entry["peak"] = max(entry["peak"], again["peak"])
                for old, new in zip(entry["shapes"], again["shapes"]):
                    old["gflops"], old["gradient"] = max(old["gflops"], new["gflops"]), max(
                        old["gradient"], new["gradient"]
                    )
        return {
            "precision": precision,
            "threads": threads,
            "peak": max([e["peak"] for e in entries], default=0),
            "entries": entries,
            "others": others,
        }

    def variants(self, version, size, threads, precision, batch):
        if int(version.split(".")[0]) < 2:
            return ["plain"]
        compiled = (size, threads, precision, batch) == ("ti", 2, "bf16", 32)  # compiling takes a minute
        return ["fused", "plain"] + (["fused,compiled"] if compiled else [])

    def makers(self, size, batch, threads, precision):
        model, peer = os.path.join(WORK, f"{size}-{batch}"), lambda python, file, *rest: [
            *python,
            os.path.join(HERE, "peers", file),
            *rest,
        ]
        plain, tasks = [str(threads), precision, str(batch)], ["infer"] if batch == 1 else ["infer", "train"]
        yield "Inlay", lambda: self.inlay(size, threads, precision, batch, tasks)
        for version, python in self.torches.items() if precision != "int8" else ():
            for variant in self.variants(version, size, threads, precision, batch):
                yield f"PyTorch {version} {variant}", lambda p=python, v=variant: Talker(
                    "PyTorch", v, peer(p, "torch_peer.py", size, *plain, v), threads, batch, tasks
                )
        engines = [
            ("ONNX Runtime", "onnxruntime_peer.py", "onnxruntime", ("f32", "int8")),
            ("OpenVINO", "openvino_peer.py", "openvino", ("f32", "bf16", "int8")),
        ]
        for family, file, module, precisions in engines:
            if (
                precision in precisions
                and module in self.modules
                and os.path.exists(
                    f"{model}.int8.xml" if (family, precision) == ("OpenVINO", "int8") else f"{model}.onnx"
                )
            ):
                yield family, lambda a=(
                    family,
                    "",
                    peer([sys.executable], file, model, *plain),
                    threads,
                    batch,
                    ["infer"],
                ): Talker(*a)

    def inlay(self, size, threads, precision, batch, tasks):
        return Inlay(
            [
                self.program("inlay"),
                "bench",
                "--backbone",
                os.path.join(WORK, size),
                "--threads",
                str(threads),
                "--precision",
                precision,
                "--batch-size",
                str(batch),
                "--runs",
                "2",
                "--profile",
                "--json",
                "--quiet",
            ],
            threads,
            tasks,
        )

    def models(self):
        todo = [("ti", 32), ("ti", 1)] + ([] if self.quick else [("b", 8)])
        for size, batch in todo:
            self.prepare(size, batch)
        for size, batch in todo:
            for threads in self.threads:
                for precision in ("f32", "bf16", "int8"):
                    yield size, batch, threads, precision

    def prepare(self, size, batch):
        folder, model = os.path.join(WORK, size), os.path.join(WORK, f"{size}-{batch}")
        if not os.path.exists(os.path.join(folder, "config.json")):
            subprocess.run([self.program("make_vit"), size, folder], check=True)
        if {"torch", "timm", "onnx"} <= set(self.modules) and not os.path.exists(model + ".int8.xml"):
            print(f"  writing {model}.onnx and its int8 forms", flush=True)
            with open(ERRORS, "w") as errors:
                done = subprocess.run(
                    [sys.executable, os.path.join(HERE, "peers", "export_onnx.py"), size, str(batch), model],
                    stdout=errors,
                    stderr=errors,
                )
            if done.returncode:
                self.skip("inference engines", last_line(ERRORS))

    def cold(self, size):
        """From the start of `inlay predict` to its end, for one image, checkpoint and adapter in the page cache."""
        folder, inlay = os.path.join(WORK, "cold"), self.program("inlay")
        images, adapter, backbone = os.path.join(folder, "images"), os.path.join(folder, size), os.path.join(WORK, size)
        for c in ("a", "b"):
            os.makedirs(os.path.join(images, c), exist_ok=True)
            for i in range(4):
                with open(os.path.join(images, c, f"{i}.ppm"), "wb") as f:
                    f.write(
                        b"P6 256 256 255\n"
                        + bytes((7 * x * (i + 1) + ord(c) + x // 768) % 256 for x in range(256 * 256 * 3))
                    )
        picture = os.path.join(images, "a", "0.ppm")
        if not os.path.exists(os.path.join(adapter, "adapter.json")):
            trained = subprocess.run(
                [
                    inlay,
                    "train",
                    "--backbone",
                    backbone,
                    "--data",
                    images,
                    "--output",
                    adapter,
                    "--epochs",
                    "1",
                    "--batch-size",
                    "2",
                    "--quiet",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            if trained.returncode:
                raise Absent(trained.stderr.strip().split("\n")[0])
        seconds, peak = [], 0
        wait_for_calm(PATIENCE)
        for _ in range(11):
            begun = time.perf_counter()
            pid = os.posix_spawn(
                inlay,
                [inlay, "predict", "--backbone", backbone, "--adapter", adapter, picture],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
            )
            _, status, usage = os.wait4(pid, 0)
            if status:
                raise Absent("inlay predict failed")
            seconds.append(time.perf_counter() - begun)
            peak = usage.ru_maxrss * 1024
        return {"model": size, "best": min(seconds[1:]), "median": statistics.median(seconds[1:]), "peak": peak}

    def all(self):
        """Yields the results after each part, so that a run that is ended leaves what it has."""
        limits = {
            "turns": TURNS,
            "fewest": FEWEST,
            "long": LONG,
            "others": OTHERS,
            "again": AGAIN,
            "trailing": TRAILING,
        }
        results = {
            "limits": limits,
            "machine": report.machine(self.build, self.modules, self.torches),
            "date": datetime.date.today().isoformat(),
            "quick": self.quick,
            "kernels": [],
            "models": [],
            "cold": [],
            "skipped": self.skipped,
        }
        for module, peer in (
            ("torch", "PyTorch"),
            ("timm", "inference engines"),
            ("onnxruntime", "ONNX Runtime"),
            ("openvino", "OpenVINO"),
            ("nncf", "OpenVINO int8"),
        ):
            if module not in self.modules:
                self.skip(peer, f"{sys.executable} has no module {module} (PYTHON=... selects another)")
        for precision in ("f32", "bf16", "int8"):
            for threads in self.threads:
                print(f"products, {precision}, {threads} threads", flush=True)
                results["kernels"].append(self.products(precision, threads))
                yield results
        for size, batch, threads, precision in self.models():
            title, skipped = f"{report.MODELS[size].name}, batch {batch}, {precision}, {threads} threads", {}
            print(title, flush=True)
            contestants = open_all(self.makers(size, batch, threads, precision), skipped)
            try:
                entries = contest(contestants, skipped)
            finally:
                for c in contestants:
                    c.close()
            for what, why in skipped.items():
                self.skip(f"{what}, {title}", why)
            results["models"].append(
                {"model": size, "batch": batch, "threads": threads, "precision": precision, "entries": entries}
            )
            for e in entries:
                print("  " + report.line(e), flush=True)
            yield results
        for size in ("ti",) if self.quick else ("ti", "b"):
            print(f"{report.MODELS[size].name}, cold start", flush=True)
            try:
                results["cold"].append(self.cold(size))
            except Absent as error:
                self.skip("cold start", str(error))
        yield results


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # contestants are ended as well
    quick = os.environ.get("QUICK", "0") == "1"
    os.makedirs(WORK, exist_ok=True)
    for results in Bench(os.path.abspath(sys.argv[1]), quick).all():
        with open(os.path.join(WORK, "results.json"), "w") as f:
            json.dump(results, f, indent=1)
    page = os.path.join(WORK if quick else os.path.join(os.path.dirname(HERE), "docs"), "performance.md")
    report.write(results, page)
    print(f"written: {page}")


if __name__ == "__main__":
    main()
