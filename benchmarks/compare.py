#!/usr/bin/env python3
"""recursive_gluon beside its peers: one command, one session, one table for each model.

Every measurement is a process of its own, with the interpreter of its own virtual environment; rounds go over
all peers and back, so that a slow minute of the machine meets all of them. First, the losses of 20 training steps
must agree to one in ten thousand. Round one tries each number of threads, later ones keep each peer's best (and what
came within a tenth of it, or met no quiet machine yet). The machine's rate of matrix products is measured in every
round too. The work, the timing and the set-up of the environments are in peers/README.md; peers whose environment is
missing are named and skipped.

    python benchmarks/compare.py --json results.json            # all models, batches 1, 10 and 25
    python benchmarks/compare.py --json results.json --resume   # goes on after a run that was killed
    python benchmarks/compare.py --check                        # the losses only
    python benchmarks/compare.py --models treelstm --batches 25 --peers recursive_gluon torch-level-manual
"""
import argparse
import datetime
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import floor

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
OURS, IMPERATIVE = "recursive_gluon", "mxnet-naive"
QUIET = 4  # percent of the machine that others may use, as in peers/common.py
STEPS, TOLERANCE = 20, 1e-4  # of the check of losses
LATENCY = ("lat_ms_p50", "lat_ms_p95")
CLOSE = 0.9  # a number of threads that reaches this part of the best is measured in later rounds too

# name: (environments that will do, script, flags, numbers of threads or None for --threads, batches or None for all)
CHOICES = {
    OURS: ((), "peer_rg.py", [], None, None),
    "torch-level-manual": (("th", "dgl"), "peer_torch_level.py", ["--variant", "manual"], None, None),
    "torch-level-carry": (("th", "dgl"), "peer_torch_level.py", ["--variant", "carry"], None, None),
    "dynet-gates": (("dy",), "peer_dynet.py", [], [1], None),  # DyNet has one thread
    "dynet-noautobatch": (("dy",), "peer_dynet.py", ["--autobatch", "0"], [1], [1]),
    "jax": (("jax",), "peer_jax.py", ["--warm-passes", "1"], None, None),
    "dgl": (("dgl",), "peer_dgl.py", [], None, None),
    IMPERATIVE: ((), "peer_mxnet.py", [], None, None),
    # on request
    "recursive_gluon-mxnet": ((), "peer_rg.py", ["--executor", "mxnet"], None, None),
    "recursive_gluon-stock": ((), "peer_rg.py", ["--trainer", "stock"], None, None),
    "mxnet-hybrid": ((), "peer_mxnet.py", ["--hybridize"], None, None),
    "mxnet-hybrid-static": ((), "peer_mxnet.py", ["--hybridize", "--static"], None, None),
    "mxnet-level": ((), "peer_mxnet_level.py", [], None, None),
    "torch-naive": (("th", "dgl"), "peer_torch_naive.py", [], None, None),
    "tf-while": (("tf",), "peer_tf.py", ["--style", "while"], None, None),
}
DEFAULT = list(CHOICES)[:8]


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", default=DEFAULT, choices=list(CHOICES), metavar="PEER",
                        help=f"some of: {', '.join(CHOICES)} (default: the first {len(DEFAULT)})")
    parser.add_argument("--venvs", type=Path, default=os.environ.get("PEER_VENVS") or PEERS / "venvs",
                        help="folder of the peers' virtual environments (default: $PEER_VENVS, or peers/venvs here)")
    parser.add_argument("--models", nargs="+", default=["treelstm", "treernn", "rntn"],
                        choices=["treelstm", "treernn", "rntn"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 10, 25])
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument("--trees", default="sst", help="sst, balancedN, linearN or file:PATH")
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1], help="tried in the first round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="measured in each process, in five windows")
    parser.add_argument("--patience", type=float, default=20,
                        help="seconds in which a process looks for quiet windows")
    check = parser.add_mutually_exclusive_group()
    check.add_argument("--check", dest="only_check", action="store_true", help="compare losses, time nothing")
    check.add_argument("--no-check", dest="check", action="store_false", help="do not compare losses first")
    parser.add_argument("--json", type=Path, help="write every measurement there, one JSON object a line")
    parser.add_argument("--resume", action="store_true", help="take from --json what is there, measure the rest")
    args = parser.parse_args(argv)
    if args.repeats < 1 or args.seconds <= 0:
        parser.error("--repeats and --seconds must be above 0")
    if args.resume and not args.json:
        parser.error("--resume needs --json")
    args.venvs = Path(args.venvs).resolve()
    return args


def interpreter(name, venvs):
    """The peer's Python, or None; MXNet's peers run with the one that runs this."""
    homes = CHOICES[name][0]
    if not homes:
        return sys.executable
    paths = (venvs / home / "bin" / "python" for home in homes)
    return next((str(path) for path in paths if path.exists()), None)


def run(name, python, threads, options, timeout=600):
    """One process of a peer: its JSON line, or {'error': ...}."""
    command = [python, CHOICES[name][1], "--threads", str(threads), *CHOICES[name][2], *map(str, options)]
    try:
        done = subprocess.run(command, cwd=PEERS, env=floor.environment(threads), capture_output=True, text=True,
                              timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {timeout} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        errors = (line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line))
        return {"error": next(errors, said[-1])}
    return json.loads(lines[-1])


def present(args):
    """The peers that can run: {name: python}. Says how to set up the others."""
    found = {}
    for name in args.peers:
        python = interpreter(name, args.venvs)
        if python is None:
            print(f"skipped {name}: no environment {' or '.join(CHOICES[name][0])} in --venvs; "
                  f"benchmarks/peers/README.md says how to set it up", file=sys.stderr)
        else:
            found[name] = python
    return found


def agreeing(pythons, model, args, notes):
    """The peers that run, all of them with the same losses; those that fail are named. Other losses end it all."""
    results = notes.checked(model)
    for name, python in pythons.items():
        if name not in results:
            log(f"{STEPS} losses: {model}, {name}")
            results[name] = run(name, python, 1, ["--model", model, "--trees", args.trees, "--check", STEPS])
            notes.write(dict(results[name], check=model, name=name))
    failed = {name: results[name].get("error") for name in pythons if "losses" not in results[name]}
    for name, error in failed.items():
        print(f"left out {name}, {model}: {error}", file=sys.stderr)
    good = {name: python for name, python in pythons.items() if name not in failed}
    base = IMPERATIVE if IMPERATIVE in good else next(iter(good), None)
    worst = {name: max(abs(a - b) / abs(b) for a, b in zip(results[name]["losses"], results[base]["losses"]))
             for name in good}
    different = [name for name, error in worst.items() if not error <= TOLERANCE]
    print(f"{model}: the losses of {STEPS} training steps, relative to {base}: "
          + ", ".join(f"{name} {error:.0e}" for name, error in worst.items()))
    if different:
        sys.exit(f"{model}: the losses of {', '.join(different)} differ from those of {base} by more than {TOLERANCE}")
    return good


def log(text):
    print(f"[{datetime.datetime.now():%H:%M:%S}] {text}", file=sys.stderr, flush=True)


class Notes:
    """The file of measurements, and how far the run has come."""

    def __init__(self, path, resume, about):
        self.checks, self.found, self.total, self.count = {}, {}, 0, 0
        self.started, self.ran = time.monotonic(), 0
        if resume and path.exists():
            for line in map(json.loads, path.read_text().splitlines()):
                if "about" in line and line["about"] != about:
                    sys.exit(f"{path} holds measurements of something else ({line['about']}, now {about}); "
                             f"give another file")
                if "error" in line or "about" in line:
                    continue
                if "check" in line:
                    self.checks.setdefault(line["check"], {})[line["name"]] = line
                else:
                    self.found[tuple(line["key"])] = line
        elif path and path.exists() and path.stat().st_size:
            sys.exit(f"{path} exists: --resume goes on with it, or give another file")
        self.sink = open(path, "a") if path else None
        if not (resume and (self.found or self.checks)):
            self.write({"about": about})

    def write(self, line):
        if self.sink is not None:
            self.sink.write(json.dumps(line) + "\n")
            self.sink.flush()

    def checked(self, model):
        return dict(self.checks.get(model, {}))

    def measure(self, key, work):
        """The result for the key: from the file, or of work()."""
        self.count += 1
        if key in self.found:
            return self.found[key]
        result = work()
        self.ran += 1
        self.write(dict(result, key=key))
        left = (time.monotonic() - self.started) / self.ran * max(0, self.total - self.count) / 60
        said = result.get("trees_per_s", result.get("error", ""))
        log(f"{self.count}/{self.total}, {left:.0f} min left: {' '.join(map(str, key))}: {said}")
        return result


class Series:
    """The measurements of one peer in one setting of the work, by number of threads."""

    def __init__(self, name, python, work, threads):
        self.name, self.python, self.work = name, python, work
        self.results = {n: [] for n in threads}
        self.errors = []

    def measure(self, number, args, notes):
        model, batch, mode = self.work
        options = ["--model", model, "--batch", batch, "--mode", mode, "--trees", args.trees,
                   "--seconds", args.seconds, "--patience", args.patience, "--json"]
        for threads in list(self.results) if number == 0 else self.open():
            key = (self.name, model, batch, mode, f"t{threads}", f"round {number + 1}")
            result = notes.measure(key, lambda: run(self.name, self.python, threads, options))  # noqa: B023
            if "trees_per_s" in result:
                self.results[threads].append(result)
            else:
                self.errors.append(result.get("error"))

    def rates(self):
        return {n: statistics.median(r["trees_per_s"] for r in rs) for n, rs in self.results.items() if rs}

    def open(self):
        """The numbers of threads about as good as the best, and those never measured on a quiet machine."""
        rates = self.rates()
        best = max(rates.values(), default=0)
        return [n for n, rate in rates.items() if rate >= CLOSE * best
                or min(r.get("other_cpu_pct", 0) for r in self.results[n]) > QUIET]

    def summary(self):
        """The best number of threads and what it gave; None where nothing was measured."""
        rates = self.rates()
        if not rates:
            return None
        threads = max(rates, key=rates.get)
        results = self.results[threads]
        low, high = [r["trees_per_s"] for r in results], [r["trees_per_s"] for r in results]
        if len(results) == 1:
            low, high = [results[0]["lo"]], [results[0]["hi"]]
        return {
            "threads": threads, "rate": rates[threads], "spread": 100 * (max(high) - min(low)) / rates[threads],
            "busy": max(r.get("other_cpu_pct", 0) for r in results) > QUIET,
            "latency": [statistics.median(r[k] for r in results) for k in LATENCY if k in results[0]],
            "version": results[0].get("version", ""),
        }


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def is_peer(name):
    return not name.startswith(OURS)


def best_peer(rows):
    peers = {name: row["rate"] for name, row in rows.items() if row and is_peer(name)}
    return max(peers, key=peers.get) if peers else None


def table(model, cells, names):
    """Markdown for one model: a row for each peer, a column for each mode and batch."""
    columns = list(cells)
    lines = [f"\n{model}: trees/s\n", "| | " + " | ".join(f"{mode} {batch}" for batch, mode in columns) + " |",
             "|---" * (1 + len(columns)) + "|"]

    def line(head, show):
        lines.append(f"| {head} | " + " | ".join(show(cells[column]) for column in columns) + " |")

    def cell(name):
        def show(rows):
            row = rows.get(name)
            if row is None:
                return "failed" if name in rows else ""
            one = " ¹" if row["threads"] == 1 else ""
            return f"{number(row['rate'])}{'*' if row['busy'] else ''} ±{row['spread'] / 2:.0f} %{one}"
        return show

    def ratio(other):
        def show(rows):
            ours, name = rows.get(OURS), other(rows)
            return f"{ours['rate'] / rows[name]['rate']:.2f}" if ours and name and rows.get(name) else ""
        return show

    for name in names:
        if any(name in rows for rows in cells.values()):
            line(f"**{name}**" if name == OURS else name, cell(name))
    line("best peer", lambda rows: best_peer(rows) or "")
    line(f"{OURS} / best peer", ratio(best_peer))
    if OURS in names and IMPERATIVE in names:
        line(f"{OURS} / {IMPERATIVE}", ratio(lambda rows: IMPERATIVE))
    return "\n".join(lines)


def latency(cells, names):
    """Milliseconds of one tree at batch 1, median and 95 in a hundred."""
    lines = []
    for name in names:
        shown = [f"{mode} {row['latency'][0]:.2f}/{row['latency'][1]:.2f}" for (batch, mode), rows in cells.items()
                 if batch == 1 for row in [rows.get(name)] if row and row["latency"]]
        if shown:
            lines.append(f"  {name:20} " + "   ".join(shown))
    return "\n".join(["batch 1, ms a tree, p50/p95:", *lines]) if lines else ""


def against_the_best(settings):
    """Our rate over that of the best peer in each setting, and the geometric mean over those with batches."""
    lines, ratios = [f"\n{OURS} / best peer\n"], {}
    for (model, batch, mode), rows in settings.items():
        best = best_peer(rows)
        if best and rows.get(OURS):
            ratio = ratios[model, batch, mode] = rows[OURS]["rate"] / rows[best]["rate"]
            lines.append(f"  {model:9} batch {batch:3} {mode:6} {ratio:5.2f}  ({best})")
    batched = [ratio for (_, batch, _), ratio in ratios.items() if batch > 1]
    if len(batched) > 1:
        batches = " and ".join(str(b) for b in sorted({batch for _, batch, _ in ratios if batch > 1}))
        lines.append(f"  geometric mean over batches {batches}: {statistics.geometric_mean(batched):.2f}")
    return "\n".join(lines)


def to_the_floor(settings, found):
    """The part of the machine's rate of matrix products that each reaches."""
    if not found:
        return ""
    library, shape, threads, rate = floor.best(found)
    lines = [f"\nmatrix products: {rate:.0f} GFLOP/s ({library}, {shape}, {threads} threads), the best of:",
             floor.table(found)]
    for (model, batch, mode), rows in settings.items():
        if (model, batch) != ("treelstm", max(b for _, b, _ in settings)):
            continue
        flops = found[0]["mflop_per_tree"][model][mode] * 1e6
        top = rate * 1e9 / flops
        reached = {name: row["rate"] / top for name, row in rows.items() if row}
        best_first = sorted(reached.items(), key=lambda r: -r[1])
        lines.append(f"{model}, batch {batch}, {mode}: {flops / 1e6:.1f} MFLOP a tree, at most {top:,.0f} trees/s; "
                     "reached: " + ", ".join(f"{name} {part:.0%}" for name, part in best_first))
    return "\n".join(lines)


def machine():
    """One line on what this runs on."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            cpu = next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = []
    for package in ("mxnet", "mxnet-cu112", "numpy"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (f"{cpu}, {cores} cores, {platform.system()} {platform.release()}, "
            f"Python {platform.python_version()}, {', '.join(versions)}")


def sources():
    """A name for the sources of recursive_gluon: a resumed run must measure the same."""
    package = HERE.parent / "recursive_gluon"
    found = sorted(p for p in package.rglob("*") if p.suffix in (".py", ".cpp", ".h", ".def"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in found)).hexdigest()[:12]


def where(settings, threads):
    """Where our time goes, in every setting that is less than 1.5 times the best peer, and for the arithmetic floor."""
    wanted = {("treelstm", 25)} & {(model, batch) for model, batch, _ in settings}
    for (model, batch, _), rows in settings.items():
        best = best_peer(rows)
        if best and rows.get(OURS) and rows[OURS]["rate"] < 1.5 * rows[best]["rate"]:
            wanted.add((model, batch))
    lines = []
    for model, batch in sorted(wanted):
        options = ["--model", model, "--batch", str(batch), "--threads", str(threads)]
        command = [sys.executable, HERE / "where.py", *options]
        done = subprocess.run(command, env=floor.environment(threads), capture_output=True, text=True)
        lines.append(done.stdout or f"where.py failed: {done.stderr.strip().splitlines()[-1:]}")
    return "\n" + "\n".join(lines)


def main(argv=None):
    args = arguments(argv)
    pythons = present(args)
    if not pythons:
        sys.exit("no peer can run here")
    cores = os.cpu_count() or 1
    tried = [n for n in dict.fromkeys(args.threads) if n <= cores] or [1]
    about = {"machine": machine(), "sources": sources(), "trees": args.trees, "seconds": args.seconds}
    notes = Notes(args.json, args.resume, about)
    every = []
    for model in args.models:
        good = agreeing(pythons, model, args, notes) if args.check or args.only_check else pythons
        if args.only_check:
            if len(good) < len(pythons):
                sys.exit(1)
            continue
        for batch, mode in itertools.product(args.batches, args.modes):
            every.append([Series(name, python, (model, batch, mode), CHOICES[name][3] or tried)
                          for name, python in good.items() if batch in (CHOICES[name][4] or [batch])])
    if args.only_check:
        return
    per_round = sum(len(series) for series in every) + len(tried)
    notes.total = sum(len(s.results) for series in every for s in series) + len(tried) + (args.repeats - 1) * per_round
    found = []
    for turn in range(args.repeats):
        for threads in tried:
            key = ("matrix products", "", 0, "", f"t{threads}", f"round {turn + 1}")
            found.append(notes.measure(key, lambda: floor.measure(args.venvs, threads, args.trees)))  # noqa: B023
        for series in every:
            # Every other round runs backwards, so that no peer always follows the same one.
            for one in series if turn % 2 == 0 else reversed(series):
                one.measure(turn, args, notes)
    settings = {series[0].work: {s.name: s.summary() for s in series} for series in every if series}
    versions = {s.name: (s.summary() or {}).get("version") for series in every for s in series}
    print(f"\n{about['machine']}, {datetime.date.today()}")
    print(", ".join(f"{name} {version}" for name, version in versions.items() if version))
    print(f"{args.trees} trees; median of {args.repeats} runs of {args.seconds:g} s, ± half of highest - lowest;\n"
          f"each at its best number of threads, {' or '.join(map(str, tried))} (¹ = one thread); * = others used more\n"
          f"than {QUIET} % of the machine")
    for model in args.models:
        cells = {(batch, mode): settings[model, batch, mode] for mode in args.modes for batch in args.batches
                 if (model, batch, mode) in settings}
        if cells:
            print(table(model, cells, list(pythons)))
            if 1 in args.batches:
                print("\n" + latency(cells, list(pythons)))
    print(against_the_best(settings))
    print(to_the_floor(settings, found))
    if OURS in pythons:
        print(where(settings, max(tried)))
    errors = {(s.name, *s.work): s.errors[0] for series in every for s in series if s.errors}
    for key, error in errors.items():
        print(f"failed: {' '.join(map(str, key))}: {error}")
    missing = [name for name in args.peers if name not in pythons]
    if missing:
        print(f"not set up here: {', '.join(missing)}")


if __name__ == "__main__":
    main()
