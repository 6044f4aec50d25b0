"""Recursion: on a counter, over a tree, until a value says so, between two functions."""
import random

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from .branches import Cell
from .common import fit, normal, ready, state, trainer_of
from .registry import case


def random_tree(leaves):
    """Nested pairs of word numbers."""
    if leaves == 1:
        return random.randrange(8)
    left = random.randint(1, leaves - 1)
    return random_tree(left), random_tree(leaves - left)


@case(23, "recursion on a counter")
def recursion_on_counter(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, depth):
            return self.head(self.descend(F, x, depth))

        def descend(self, F, h, depth):
            if depth == 0:
                return h
            return F.tanh(self.descend(F, self.cell(h), depth - 1)) + h

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for depth in (3, 3, 3, 3, 3, 3, 5, 3, 0, 1, 5, 3, 7):
        yield fit(net, trainer, normal(2, 3), normal(2, 2), depth), state(net)


class TreeNet(gluon.Block):
    """A TreeRNN over nested pairs, one tree at a time."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.embed = nn.Embedding(8, 3)
            self.join = nn.Dense(3, in_units=6, activation="tanh")
            self.head = nn.Dense(2, in_units=3)

    def encode(self, tree):
        if isinstance(tree, int):
            return self.embed(mx.nd.array([tree]))
        left, right = tree
        return self.join(mx.nd.concat(self.encode(left), self.encode(right), dim=1))

    def forward(self, tree):
        return self.head(self.encode(tree))


@case(24, "recursion over a tree")
def recursion_over_tree(convert):
    net = convert(ready(TreeNet()))
    trainer = trainer_of(net, "adam", learning_rate=0.01)
    trees = [random_tree(4) for _ in range(2)]
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(14):
        tree = trees[0] if step < 6 else trees[1] if step == 7 else random_tree(random.randint(1, 9))
        with mx.autograd.record():
            scores = net(tree)
            value = loss(scores, mx.nd.array([step % 2]))
        value.backward()
        trainer.step(1, ignore_stale_grad=True)
        yield scores, value, state(net)


@case(25, "recursion stopped by a value")
def recursion_until_value(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(self.shrink(F, x))

        def shrink(self, F, h):
            if h.norm().asscalar() < 1:
                return h
            return self.shrink(F, F.tanh(self.cell(h)) * 0.5) - 0.1 * h

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for scale in (1, 1, 1, 1, 1, 1, 0.1, 4, 1, 8, 0.01, 1, 20):
        yield fit(net, trainer, normal(4, 3) * scale, normal(4, 2)), state(net)


@case(26, "mutual recursion")
def mutual_recursion(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(self.even(F, x, 4))

        def even(self, F, h, n):
            return h if n == 0 else F.relu(self.odd(F, self.cell(h), n - 1))

        def odd(self, F, h, n):
            return h if n == 0 else F.tanh(self.even(F, h * 0.9, n - 1))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 9 + (4, 3, 4):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(49, "recursion over trees, losses of a batch summed")
def batch_of_trees(convert):
    net = convert(ready(TreeNet()))
    trainer = trainer_of(net)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    data = [(random_tree(random.randint(1, 6)), i % 2) for i in range(12)]
    for step in range(12):
        batch = random.sample(data, 3 if step < 9 else 5)
        with mx.autograd.record():
            value = 0
            for tree, label in batch:
                value = value + loss(net(tree), mx.nd.array([label]))
        value.backward()
        trainer.step(len(batch), ignore_stale_grad=True)
        yield value, state(net)


@case(50, "a recursive function with memory")
def memory(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, n):
            known = {}

            def fibonacci(k):
                if k not in known:
                    known[k] = F.tanh(self.cell(x * (k + 1))) if k < 2 else fibonacci(k - 1) * 0.5 + fibonacci(k - 2)
                return known[k]

            return self.head(fibonacci(n))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for n in (4, 4, 4, 4, 4, 4, 2, 6, 4, 0, 1, 4, 7):
        yield fit(net, trainer, normal(2, 3), normal(2, 2), n), state(net)
