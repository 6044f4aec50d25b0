#!/usr/bin/env python3
"""Whole programs, converted: equal to the imperative run, and how long a step takes.

Each program of benchmarks/programs runs imperatively, under MXNet's own hybridize(), and under
recursive_gluon.hybridize(). First small, where everything that it shows is compared. Then at a usual size: the variants
take turns, each step starts from one seed in all of them, and the median over the steps is printed with its ratio to
the imperative one. Steps differ from each other in structure, as they do in these programs.

    python benchmarks/conversion.py [--programs tree_lstm lstm_crf] [--steps 40] [--json conversion.json]
"""
import argparse
import json
import os
import random
import statistics
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bridge")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np  # noqa: E402
import observe  # noqa: E402
from cases import Case  # noqa: E402
from programs import PROGRAMS, program, running  # noqa: E402

import recursive_gluon as rg  # noqa: E402
from recursive_gluon._compat import mx  # noqa: E402

WARM = 8  # steps before the clock starts


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="PROGRAM",
                        help=f"some of: {', '.join(PROGRAMS)}")
    parser.add_argument("--steps", type=int, default=24, help="timed, of each variant")
    parser.add_argument("--json", type=Path, help="write the table here too")
    return parser.parse_args(argv)


def variants():
    yield "imperative", observe.identity
    yield "stock", observe.stock
    if hasattr(rg, "hybridize"):
        yield "ours", rg.hybridize


def verdicts(name):
    """{variant: (verdict, words)}, from the small program."""
    case = Case(0, name, running(name))
    expected = observe.observe(case, observe.identity)
    return {kind: observe.compare(expected, observe.observe(case, convert)) for kind, convert in variants()}


def seed(number):
    random.seed(number)
    np.random.seed(number)
    mx.random.seed(number)
    mx.nd.waitall()


def times(name, kinds, steps):
    """{variant: milliseconds of each step}."""
    built = {}
    for kind, convert in variants():
        if kind in kinds:
            seed(0)
            built[kind], _ = program(name).make(convert)
    found = {kind: [] for kind in built}
    for i in range(WARM + steps):
        for kind, step in built.items():
            seed(i)
            start = time.perf_counter()
            step(i)
            mx.nd.waitall()
            if i >= WARM:
                found[kind].append((time.perf_counter() - start) * 1e3)
    return found


def measure(name, steps):
    judged = verdicts(name)
    taken = times(name, [kind for kind, (verdict, _) in judged.items() if verdict == "right"], steps)
    median = {kind: statistics.median(all_of_it) for kind, all_of_it in taken.items()}
    return {kind: {"verdict": verdict, "words": words, "ms": median.get(kind)}
            for kind, (verdict, words) in judged.items()}


def cell(result, imperative):
    if result["verdict"] != "right":
        return f"{result['verdict']:>17}"
    return f"{result['ms']:9.1f} {imperative['ms'] / result['ms']:6.2f}x"


def main(argv=None):
    args = arguments(argv)
    kinds = [kind for kind, _ in variants()]
    print(f"{'ms a step':<14}{'imperative':>11}" + "".join(f"{kind:>17}" for kind in kinds[1:]) + "  what is hard")
    rows = {}
    for name in args.programs:
        rows[name] = row = measure(name, args.steps)
        print(f"{name:<14}{row['imperative']['ms']:11.1f}"
              + "".join(cell(row[kind], row["imperative"]) for kind in kinds[1:]) + f"  {PROGRAMS[name]}", flush=True)
    for name, row in rows.items():
        for kind, result in row.items():
            if result["verdict"] != "right":
                print(f"{name}, {kind}: {result['verdict']}, {result['words']}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return any(row.get("ours", row["imperative"])["verdict"] != "right" for row in rows.values())


if __name__ == "__main__":
    sys.exit(main())
