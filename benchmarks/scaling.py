"""How the native core scales: cost per node with the size of a forest, a chain of a million nodes, two workers against
one on one balanced tree, a top-down Tree-LSTM that grows its own tree against its imperative form.

    python benchmarks/scaling.py [nodes] [chain] [workers] [topdown]     # all by default
"""
import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np  # noqa: E402

import recursive_gluon as rg  # noqa: E402
from recursive_gluon._compat import mx  # noqa: E402

WORDS = 1000


def tree(leaves, shape, random):
    """A binary tree as arrays in post-order."""
    left, right = [], []

    def add(a, b):
        left.append(a)
        right.append(b)
        return len(left) - 1

    if shape == "chain":
        top = add(-1, -1)
        for _ in range(leaves - 1):
            top = add(top, add(-1, -1))
    else:
        made = []  # children before parents, by a stack of our own
        work = [("split", leaves)]
        while work:
            kind, n = work.pop()
            if kind == "join":
                b, a = made.pop(), made.pop()
                made.append(add(a, b))
            elif n == 1:
                made.append(add(-1, -1))
            else:
                k = n // 2 if shape == "balanced" else int(random.randint(1, n))
                work += [("join", 0), ("split", n - k), ("split", k)]
    left, right = np.array(left), np.array(right)
    inner = left >= 0
    offsets = np.concatenate([[0], np.cumsum(2 * inner)])
    children = np.stack([left[inner], right[inner]], 1).reshape(-1)
    return rg.Tree.from_arrays(offsets, children, {"word": np.where(inner, 0, random.randint(0, WORDS, len(left)))})


def timed(run, seconds=2.0):
    """Median seconds of a call, and the spread."""
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        mx.nd.waitall()
        times.append(time.perf_counter() - start)
    return statistics.median(times), (max(times) - min(times)) / statistics.median(times)


def train(net, forest, *args):
    with mx.autograd.record():
        outputs = net(forest, *args)
        loss = sum(o.sum() for o in (outputs if isinstance(outputs, (list, tuple)) else [outputs]))
    loss.backward()


def nodes():
    random = np.random.RandomState(0)
    net = rg.nn.TreeRNN(WORDS, 32, num_classes=None)
    net.initialize()
    net.hybridize()
    print("cost per node, TreeRNN 32, random trees of 20 leaves: nodes, inference and training in us a node (spread)")
    trees = [tree(20, "random", random) for _ in range(100)]
    for total in (10**3, 10**4, 10**5, 10**6):
        forest = rg.Forest([trees[i % 100] for i in range(total // 39)])
        for name, run in (("infer", lambda f: net(f).wait_to_read()), ("train", lambda f: train(net, f))):
            seconds, spread = timed(partial(run, forest))
            print(f"  {forest.num_nodes:9,} {name} {seconds / forest.num_nodes * 1e6:.3f} us ({100 * spread:.0f} %)",
                  flush=True)


def chain():
    random = np.random.RandomState(0)
    net = rg.nn.TreeRNN(WORDS, 8, num_classes=None)
    net.initialize()
    net.hybridize()
    forest = rg.Forest([tree(500_000, "chain", random)])
    for name, run in (("inference", lambda: net(forest).wait_to_read()), ("training", lambda: train(net, forest))):
        start = time.perf_counter()
        run()
        mx.nd.waitall()
        print(f"a chain of {forest.num_nodes:,} nodes, {name}: {time.perf_counter() - start:.1f} s", flush=True)


def one_tree(hidden):
    random = np.random.RandomState(0)
    net = rg.nn.TreeLSTM(WORDS, hidden, hidden, num_classes=None)
    net.initialize()
    net.hybridize()
    forest = rg.Forest([tree(64, "balanced", random)])
    for run in (lambda: net(forest)[0].wait_to_read(), lambda: train(net, forest)):
        print(timed(run, 3.0)[0])


def workers():
    print("one balanced tree of 64 leaves, Tree-LSTM: one worker / two workers")
    for hidden in (300, 600):
        found = {}
        for count in (1, 2):
            env = {**os.environ, "RECURSIVE_GLUON_WORKERS": str(count), "OMP_NUM_THREADS": "1"}
            code = f"import scaling; scaling.one_tree({hidden})"
            out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True,
                                 cwd=Path(__file__).parent)
            found[count] = [float(line) for line in out.stdout.split()[-2:]]
        for i, mode in enumerate(("infer", "train")):
            a, b = found[1][i], found[2][i]
            print(f"  hidden {hidden} {mode}: {a * 1e3:.2f} ms / {b * 1e3:.2f} ms = {a / b:.2f}", flush=True)


def topdown():
    hidden, batch = 64, 64
    net = rg.nn.TopDownTreeLSTM(hidden, max_depth=6, weight_initializer=mx.init.Normal(0.3))
    net.initialize()
    forest = rg.Forest([rg.Tree(x=np.zeros(1, np.float32)) for _ in range(batch)])
    h, c = (mx.nd.random.normal(shape=(batch, hidden)) for _ in range(2))
    found = {}
    for name in ("imperative", "native"):
        if name == "native":
            net.hybridize()
        for mode, run in (("infer", lambda: [o.wait_to_read() for o in net(forest, h, c, 0)]),
                          ("train", lambda: train(net, forest, h, c, 0))):
            found[name, mode] = timed(run)[0]
    print(f"a top-down Tree-LSTM that grows its own tree, batch {batch}, hidden {hidden}: imperative / native")
    for mode in ("infer", "train"):
        a, b = found["imperative", mode], found["native", mode]
        print(f"  {mode}: {a * 1e3:.1f} ms / {b * 1e3:.2f} ms = {a / b:.1f}", flush=True)


PARTS = {"nodes": nodes, "chain": chain, "workers": workers, "topdown": topdown}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()
