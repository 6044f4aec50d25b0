"""What only size shows: depth without a stack, memory in proportion, and the same bits in every process."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recursive_gluon as rg

HERE = Path(__file__).resolve().parent

DEEP = """
import resource, sys
import numpy as np
import mxnet as mx
import recursive_gluon as rg
from nets import gradients, loss_of, ready

class Chain(rg.RecursiveBlock):
    def __init__(self):
        super().__init__()
        self.embed, self.dense = mx.gluon.nn.Embedding(12, 2), mx.gluon.nn.Dense(2, activation="tanh")

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.embed(node["word"])
        return self.dense(F.concat(self(node.left), self(node.right), dim=1))

def left_branching(leaves):
    # post-order: the spine so far, a leaf, their parent
    nodes = 2 * leaves - 1
    offsets, children = np.zeros(nodes + 1, np.int64), []
    for k in range(1, leaves):
        children += [0 if k == 1 else 2 * (k - 1), 2 * k - 1]
        offsets[2 * k + 1] = 2
    offsets = np.cumsum(offsets)
    word = np.full(nodes, -1)
    word[0], word[1::2] = 3, np.arange(leaves - 1) % 12
    return rg.Forest(rg.Tree.from_arrays(offsets, children, {"word": word}))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

net = ready(Chain(), "float32")
net.hybridize()
def step(leaves):
    forest = left_branching(leaves)
    with mx.autograd.record():
        loss = loss_of(net(forest))
    loss.backward()
    return float(loss.asscalar()), float(sum(abs(g).sum() for g in gradients(net).values()))
step(50)
start = peak()
loss, size = step(int(sys.argv[1]))
assert np.isfinite(loss) and np.isfinite(size) and size > 0
print(peak() - start)
"""

STEPS = """
import hashlib, random
import numpy as np
import mxnet as mx
from mxnet import autograd, gluon
from nets import TreeNet, flat, forest_of, gradients, loss_of, numbers, ready

mx.random.seed(11)
net = ready(TreeNet(dropout=0.4, sparse=True, prefix="net_"), "float32")
net.hybridize()
trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
for step in range(3):
    with autograd.record():
        out = net(forest_of(step, (1, 5, 9, 30), dtype="float32"))
        loss = loss_of(out)
    loss.backward()
    found = [numbers(x) for x in flat(out)] + [g for _, g in sorted(gradients(net).items())]
    trainer.step(4)
    found += [numbers(p.data()) for _, p in sorted(net.collect_params().items())]
    print(hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in found)).hexdigest())
"""


def process(code, *args, **env):
    """What a fresh process prints."""
    path = os.pathsep.join([str(Path(rg.__file__).resolve().parent.parent), str(HERE)])
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=600,
                          cwd=str(HERE),
                          env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **env})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_a_left_branching_tree_of_100_000_nodes_trains():
    small, large = int(process(DEEP, "5000")[-1]), int(process(DEEP, "50000")[-1])
    assert large < 15 * max(small, 10_000), f"{large} kB for ten times the nodes of what took {small} kB"


def test_two_processes_compute_the_same_bits():
    first, second = process(STEPS), process(STEPS, PYTHONHASHSEED="5", MXNET_CPU_WORKER_NTHREADS="3")
    assert len(first) == 3 and first == second
    assert len(set(first)) == 3
