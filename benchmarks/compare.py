#!/usr/bin/env python3
"""recursive_gluon beside its peers: one command, one session, one table.

Every measurement is a process of its own, with the interpreter of its own virtual environment; rounds go over
all peers, so that a slow minute of the machine meets all of them. First, the losses of 4 steps must agree.
Round one tries each number of threads, later ones keep each peer's best (and what met no quiet machine yet).
The work, the timing and the set-up of the environments are in peers/README.md; peers whose environment is
missing are named and skipped.

    python benchmarks/compare.py
    python benchmarks/compare.py --models treelstm treernn rntn --batches 1 25 --repeats 5
    python benchmarks/compare.py --peers recursive_gluon mxnet-naive dgl --modes train --json results.json
"""
import argparse
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
OURS, IMPERATIVE = "recursive_gluon", "mxnet-naive"
QUIET = 4  # percent of the machine that others may use, as in peers/common.py

# name: (environments that will do, script, flags, numbers of threads; None stands for --threads)
CHOICES = {
    OURS: ((), "peer_rg.py", [], None),
    IMPERATIVE: ((), "peer_mxnet.py", [], None),
    "mxnet-hybrid": ((), "peer_mxnet.py", ["--hybridize"], None),
    "mxnet-hybrid-static": ((), "peer_mxnet.py", ["--hybridize", "--static"], None),
    "mxnet-level": ((), "peer_mxnet_level.py", [], None),
    "torch-naive": (("th", "dgl"), "peer_torch_naive.py", [], None),
    "torch-level-manual": (("th", "dgl"), "peer_torch_level.py", ["--variant", "manual"], None),
    "dgl": (("dgl",), "peer_dgl.py", [], None),
    "dynet-gates": (("dy",), "peer_dynet.py", [], [1]),  # DyNet has one thread
    "jax": (("jax",), "peer_jax.py", ["--warm-passes", "1"], None),
    "tf-while": (("tf",), "peer_tf.py", ["--style", "while"], None),
}


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", default=list(CHOICES), choices=list(CHOICES), metavar="PEER",
                        help="some of: " + ", ".join(CHOICES))
    parser.add_argument("--venvs", type=Path, default=PEERS / "venvs",
                        help="folder of the peers' virtual environments (default: %(default)s)")
    parser.add_argument("--models", nargs="+", default=["treelstm"], choices=["treelstm", "treernn", "rntn"])
    parser.add_argument("--batches", nargs="+", type=int, default=[25])
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument("--trees", default="sst", help="sst, balancedN, linearN or file:PATH")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="tried in the first round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="measured in each process, in five windows")
    parser.add_argument("--patience", type=float, default=20,
                        help="seconds in which a process looks for quiet windows")
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not compare losses first")
    parser.add_argument("--json", type=Path, help="write every measurement there, one JSON object a line")
    args = parser.parse_args(argv)
    if args.repeats < 1 or args.seconds <= 0:
        parser.error("--repeats and --seconds must be above 0")
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
    _, script, flags, _ = CHOICES[name]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_"))}
    env.update(OMP_NUM_THREADS=str(threads), PYTHONWARNINGS="ignore")
    command = [python, script, "--threads", str(threads), *flags, *map(str, options)]
    try:
        done = subprocess.run(command, cwd=PEERS, env=env, capture_output=True, text=True, timeout=timeout)
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
            homes = " or ".join(str(args.venvs / home) for home in CHOICES[name][0])
            print(f"skipped {name}: no environment {homes}; benchmarks/peers/README.md says how to set it up",
                  file=sys.stderr)
        else:
            found[name] = python
    return found


def agreeing(pythons, model, args):
    """Peers whose losses of 4 steps are those of imperative Gluon; the others are named and left out."""
    options = ["--model", model, "--trees", args.trees, "--check", 4]
    results = {}
    for name, python in pythons.items():
        log(f"check {model} {name}")
        results[name] = run(name, python, 1, options)
    base = results.get(IMPERATIVE) or next(iter(results.values()))
    good = {}
    for name, result in results.items():
        same = "losses" in result and "losses" in base and all(
            abs(a - b) <= 1e-3 * abs(b) for a, b in zip(result["losses"], base["losses"]))
        if same:
            good[name] = pythons[name]
        else:
            seen = result.get("error", result.get("losses"))
            print(f"left out {name}, {model}: expected the losses {base.get('losses')}, got {seen}",
                  file=sys.stderr)
    return good


def log(text):
    print(f"[{datetime.datetime.now():%H:%M:%S}] {text}", file=sys.stderr, flush=True)


class Series:
    """The measurements of one peer in one setting of the work, by number of threads."""

    def __init__(self, name, python, work, threads):
        self.name, self.python, self.work = name, python, work
        self.results = {n: [] for n in threads}
        self.errors = []

    def measure(self, round_number, args, sink):
        model, batch, mode = self.work
        options = ["--model", model, "--batch", batch, "--mode", mode, "--trees", args.trees,
                   "--seconds", args.seconds, "--patience", args.patience, "--json"]
        for threads in list(self.results) if round_number == 0 else self.open():
            result = run(self.name, self.python, threads, options)
            log(f"{model} batch {batch} {mode}, round {round_number + 1}: {self.name}, {threads} threads: "
                + str(result.get("trees_per_s", result.get("error"))))
            if "trees_per_s" in result:
                self.results[threads].append(result)
            else:
                self.errors.append(result.get("error"))
            if sink is not None:
                line = dict(result, name=self.name, asked_threads=threads, round=round_number)
                sink.write(json.dumps(line) + "\n")
                sink.flush()

    def open(self):
        """The best number of threads, and those never measured on a quiet machine: 2 threads suffer most."""
        best = self.best()
        return [n for n, rs in self.results.items()
                if n == best or (rs and min(r.get("other_cpu_pct", 0) for r in rs) > QUIET)]

    def best(self):
        """The number of threads with the best median so far."""
        rates = {n: statistics.median(r["trees_per_s"] for r in rs) for n, rs in self.results.items() if rs}
        return max(rates, key=rates.get) if rates else None

    def summary(self):
        """(threads, median, spread in percent, worst share of the machine that others used, results)"""
        threads = self.best()
        if threads is None:
            return None
        results = self.results[threads]
        rates = [r["trees_per_s"] for r in results]
        low, high = (rates, rates) if len(rates) > 1 else ([results[0]["lo"]], [results[0]["hi"]])
        median = statistics.median(rates)
        return (threads, median, 100 * (max(high) - min(low)) / median,
                max(r.get("other_cpu_pct", 0) for r in results), results)


def table(series):
    """Markdown for one setting of the work, the fastest first."""
    rows = {s.name: s.summary() for s in series}
    base = rows[IMPERATIVE][1] if rows.get(IMPERATIVE) else None
    model, batch, mode = series[0].work
    lines = [f"\n{model}, batch {batch}, {mode}\n",
             "| | threads | trees/s | spread | ms a tree | × imperative Gluon | version |",
             "|---|---|---|---|---|---|---|"]
    for s in sorted(series, key=lambda s: -(rows[s.name][1] if rows[s.name] else 0)):
        if rows[s.name] is None:
            lines.append(f"| {s.name} | | failed: {(s.errors or ['?'])[0]} | | | | |")
            continue
        threads, median, spread, other, results = rows[s.name]
        name = f"**{s.name}**" if s.name == OURS else s.name
        ratio = f"{median / base:.1f}" if base else ""
        star = "*" if other > QUIET else ""
        lines.append(f"| {name} | {threads} | {median:.4g}{star} | {spread:.0f} % | {1e3 / median:.3g} "
                     f"| {ratio} | {results[0].get('version', '')} |")
    return "\n".join(lines)


def against_the_best(every):
    """Our rate over that of the best peer in each setting, and the geometric mean over those with batches."""
    lines, ratios = [f"\n{OURS} / best peer\n"], []
    for series in every:
        rows = {s.name: s.summary() for s in series}
        peers = {name: row[1] for name, row in rows.items() if row and name != OURS}
        if not peers or not rows.get(OURS):
            continue
        best = max(peers, key=peers.get)
        model, batch, mode = series[0].work
        ratio = rows[OURS][1] / peers[best]
        lines.append(f"  {model:9} batch {batch:3} {mode:6} {ratio:5.2f}  ({best})")
        if batch > 1:
            ratios.append(ratio)
    if len(ratios) > 1:
        lines.append(f"  geometric mean, batches above 1: {statistics.geometric_mean(ratios):.2f}")
    return "\n".join(lines)


def machine():
    """One line on what this ran on."""
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
            f"Python {platform.python_version()}, {', '.join(versions)}, {datetime.date.today()}")


def main(argv=None):
    args = arguments(argv)
    args.venvs = args.venvs.resolve()
    pythons = present(args)
    if not pythons:
        sys.exit("no peer can run here")
    cores = os.cpu_count() or 1
    tried = [n for n in dict.fromkeys(args.threads) if n <= cores] or [1]
    every = []
    for model in args.models:
        good = agreeing(pythons, model, args) if args.check else pythons
        for batch, mode in itertools.product(args.batches, args.modes):
            every.append([Series(name, python, (model, batch, mode), CHOICES[name][3] or tried)
                          for name, python in good.items()])
    sink = open(args.json, "a") if args.json else None
    try:
        for number in range(args.repeats):
            for series in every:
                # Every other round runs backwards, so that no peer always follows the same one.
                for one in series if number % 2 == 0 else reversed(series):
                    one.measure(number, args, sink)
    finally:
        if sink is not None:
            sink.close()
    print(machine())
    print(f"{args.trees} trees; median of {args.repeats} runs of {args.seconds:g} s; "
          f"spread = (highest - lowest) / median;\n"
          f"each at its best number of threads; * = others used more than {QUIET} % of the machine")
    for series in every:
        if series:
            print(table(series))
    print(against_the_best(every))


if __name__ == "__main__":
    main()
