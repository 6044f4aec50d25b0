#!/usr/bin/env python3
"""How much of Gluon is converted: each case of tests/bridge/cases beside unchanged imperative MXNet.

One line a case: what MXNet's own hybridize() makes of it, what recursive_gluon.hybridize() does, and how: the fraction
of operators that came from graphs once a net had settled, its segments, how often it was captured anew. 'WRONG' is a
result, a printed text, a random number or a state that differs and that nothing told of; 'raises' is an error that the
imperative run does not have. A case that is not right is explained below the table.

    python benchmarks/coverage.py                     # all cases
    python benchmarks/coverage.py 17 38 --late        # two; nothing is read before the last step
    python benchmarks/coverage.py --programs 10       # and ten random programs
    python benchmarks/coverage.py --json coverage.json
"""
import argparse
import collections
import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bridge")]
import observe  # noqa: E402
from cases import CASES  # noqa: E402
from random_programs import program  # noqa: E402

import recursive_gluon as rg  # noqa: E402


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", type=int, metavar="NUMBER", help="of cases (default: all)")
    parser.add_argument("--programs", type=int, default=0, metavar="N", help="and N random programs")
    parser.add_argument("--late", action="store_true", help="read nothing before the last step")
    parser.add_argument("--json", type=Path, help="write the table here too")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.cases) - set(CASES))
    if unknown:
        parser.error(f"no cases {unknown}; there are {min(CASES)} to {max(CASES)}")
    return args


def chosen(args):
    yield from (CASES[number] for number in sorted(args.cases or CASES))
    for seed in range(args.programs):
        yield program(seed)


def explained(converted):
    """Fraction, segments and recaptures over the nets of a case."""
    found = [rg.explain(net) for net in converted]
    return {"fraction": sum(one.fraction for one in found) / len(found) if found else None,
            "segments": sum(one.segments for one in found), "recaptures": sum(one.recaptures for one in found)}


def measure(case, late):
    expected = observe.observe(case, observe.identity, late)
    row = dict(zip(("stock", "stock_words"), observe.compare(expected, observe.observe(case, observe.stock, late))))
    if hasattr(rg, "hybridize"):
        converted = []

        def ours(program):
            converted.append(rg.hybridize(program))
            return converted[-1]

        row.update(zip(("ours", "words"), observe.compare(expected, observe.observe(case, ours, late))))
        row.update(explained(converted))
    return row


def line(case, row):
    text = f"{case.number:>4} {case.name:<64} {row['stock']:<7}"
    if "ours" in row:
        fraction = "-" if row["fraction"] is None else f"{row['fraction']:.0%}"
        text += f" {row['ours']:<7} {fraction:>5} {row['segments']:>8} {row['recaptures']:>10}"
    return text


def main(argv=None):
    args = arguments(argv)
    head = f"{'':>4} {'case':<64} {'stock':<7}"
    print(head + (f" {'ours':<7} {'graph':>5} {'segments':>8} {'recaptures':>10}" if hasattr(rg, "hybridize") else ""))
    rows = {}
    for case in chosen(args):
        rows[case.number] = dict(measure(case, args.late), case=case.name)
        print(line(case, rows[case.number]), flush=True)
    print()
    for who in ("stock", "ours"):
        counts = collections.Counter(row[who] for row in rows.values() if who in row)
        if counts:
            print(f"{who}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("right", "raises", "WRONG")))
    for number, row in rows.items():
        if row.get("ours", "right") != "right":
            print(f"{number} {row['case']}: {row['ours']}, {row['words']}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return any(row.get("ours", "right") != "right" for row in rows.values())


if __name__ == "__main__":
    sys.exit(main())
