"""Branches and loops: on values, on shapes, on chance."""
import random

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from .common import fit, normal, ready, state, trainer_of
from .registry import case


class TwoArms(gluon.HybridBlock):
    """What most of these nets have: two layers, one of which runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.up = nn.Dense(4, in_units=3)
            self.down = nn.Dense(4, in_units=3)


class Cell(gluon.HybridBlock):
    """A layer that can be applied again and again, and a head."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.cell = nn.Dense(3, in_units=3)
            self.head = nn.Dense(2, in_units=3)


@case(1, "if on a value")
def if_on_value(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x):
            if x.mean() > 0:
                return F.relu(self.up(x))
            return F.tanh(self.down(x)) * 2

    net = convert(ready(Net()))
    trainer = trainer_of(net, momentum=0.9)
    for sign in (1, 1, 1, 1, 1, 1, 1, -1, 1, -1, -1, 1, -1, 1, 1):
        x = normal(5, 3).abs() * sign
        yield fit(net, trainer, x, normal(5, 4)), state(net)
    for sign in (1, -1):
        yield net(normal(2, 3).abs() * sign)


@case(2, "while on a value")
def while_on_value(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            while h.norm() > 1:
                h = self.cell(h) * 0.6
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for scale in (2, 2, 2, 2, 2, 2, 9, 2, 0.01, 30, 2, 100, 2, 2):
        yield fit(net, trainer, normal(3, 3) * scale, normal(3, 2)), state(net)


@case(3, "for over a constant range")
def for_constant_range(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = x
            for _ in range(4):
                h = F.tanh(self.cell(h)) + x
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 9 + (5, 3, 5):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(4, "for over rows, append, concat")
def for_over_rows(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h, seen = F.zeros((1, 3)), []
            for row in x:
                h = F.tanh(self.cell(row.reshape((1, -1)) + h))
                seen.append(h)
            return self.head(F.concat(*seen, dim=0))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (4,) * 7 + (2, 4, 6, 1, 4, 4):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(5, "range of a tensor")
def range_of_tensor(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, times):
            for _ in range(int(times.asscalar())):
                x = F.sigmoid(self.cell(x))
            return self.head(x)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for times in (2,) * 7 + (5, 0, 2, 3, 5, 2):
        yield fit(net, trainer, normal(4, 3), normal(4, 2), mx.nd.array([times])), state(net)


@case(6, "break and continue on values")
def break_and_continue(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            total, used = F.zeros_like(x), 0
            for _ in range(6):
                x = F.sin(self.cell(x) * 2)
                if x.sum() < 0:
                    continue
                total = total + x
                used += 1
                if total.norm() > 3:
                    break
            self.used = used
            return self.head(total)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for scale in (0.1,) * 6 + (1, 0.1, 3, 1, 1, 3, 0.1, 2):
        yield fit(net, trainer, normal(3, 3) * scale, normal(3, 2)), net.used, state(net)


@case(7, "return inside a loop")
def return_in_loop(convert):
    class Net(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.stages = nn.HybridSequential()
                for _ in range(4):
                    self.stages.add(nn.Dense(3, in_units=3, activation="tanh"))

        def hybrid_forward(self, F, x):
            for i, stage in enumerate(self.stages):
                x = stage(x)
                if x.max().asscalar() > 0.7:  # sure enough: an early exit
                    return x * (i + 1)
            return x

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for scale in (4,) * 6 + (0.1, 4, 0.5, 0.1, 1, 4, 0.5, 1):
        yield fit(net, trainer, normal(3, 3) * scale, normal(3, 3)), state(net)


@case(17, "a branch by Python's random numbers")
def random_branch(convert):
    class Net(TwoArms):  # stochastic depth
        keep = 1.0

        def hybrid_forward(self, F, x):
            h = self.up(x)
            if random.random() < self.keep:
                h = h + F.relu(self.down(x))
            return h

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(16):
        net.keep = 1.0 if step < 6 else 0.5
        yield fit(net, trainer, normal(4, 3), normal(4, 4)), state(net)


@case(22, "shapes that vary, and a branch on one")
def shape_branch(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            rows = x.shape[0]
            h = F.tanh(self.cell(x))
            if rows > 4:
                h = F.concat(h[:4], h[4:].mean(axis=0, keepdims=True), dim=0)
            return self.head(h) / rows

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3, 3, 3, 3, 3, 4, 6, 3, 7, 5, 1, 6, 4):
        yield fit(net, trainer, normal(rows, 3), normal(min(rows, 5), 2)), state(net)


@case(30, "a child chosen by a value")
def chosen_child(convert):
    class Experts(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.gate = nn.Dense(3, in_units=3)
                self.experts = nn.HybridSequential()
                self.experts.add(nn.Dense(4, in_units=3), nn.Dense(4, in_units=3, activation="relu"),
                                 nn.Dense(4, in_units=3, activation="sigmoid"))

        def hybrid_forward(self, F, x):
            scores = F.softmax(self.gate(x).mean(axis=0))
            best = int(scores.argmax(axis=0).asscalar())
            return self.experts[best](x) * scores[best]

    net = convert(ready(Experts()))
    trainer = trainer_of(net)
    centres = normal(3, 3) * 3
    for centre in (0, 0, 0, 0, 0, 1, 0, 2, 2, 1, 0, 1, 2, 0):
        yield fit(net, trainer, normal(4, 3) + centres[centre], normal(4, 4)), state(net)


@case(34, "boolean mask")
def boolean_mask(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, keep):
            return self.head(F.contrib.boolean_mask(F.tanh(self.cell(x)), keep))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for kept in (3, 3, 3, 3, 3, 4, 1, 3, 2, 3, 5, 4):
        keep = mx.nd.array([1] * kept + [0] * (5 - kept))
        yield fit(net, trainer, normal(5, 3), normal(kept, 2), keep), state(net)


@case(46, "a list argument whose length changes")
def list_length(convert):
    class Merge(TwoArms):
        def hybrid_forward(self, F, parts):
            merged = self.up(parts[0])
            for part in parts[1:]:
                merged = merged + F.tanh(self.down(part))
            return merged / len(parts)

    net = convert(ready(Merge()))
    trainer = trainer_of(net)
    for length in (2, 2, 2, 2, 2, 2, 3, 2, 1, 4, 3, 2):
        parts = [normal(3, 3) for _ in range(length)]
        with mx.autograd.record():
            out = net(parts)
            value = (out ** 2).mean()
        value.backward()
        trainer.step(1, ignore_stale_grad=True)
        yield out, value, state(net)


@case(47, "nested loops with a branch on a loop counter")
def nested_loops(convert):
    class Grid(Cell):
        def hybrid_forward(self, F, x, rows, columns):
            h, sums = x, []
            for i in range(rows):
                for j in range(columns):
                    h = F.tanh(self.cell(h)) if (i + j) % 2 else F.relu(self.cell(h)) + x
                sums.append(h.sum(axis=1, keepdims=True))
            return self.head(h) + sum(sums)

    net = convert(ready(Grid()))
    trainer = trainer_of(net)
    for rows, columns in [(2, 3)] * 6 + [(3, 2), (2, 3), (1, 5), (2, 3), (4, 1), (2, 2), (2, 3)]:
        yield fit(net, trainer, normal(3, 3), normal(3, 2), rows, columns), state(net)


@case(48, "two branches whose combinations come late")
def combinations(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x, z):
            h = self.up(x) if x.sum() > 0 else self.down(x)
            shift = F.exp(-h.abs())
            if z.sum() > 0:
                h = F.relu(h) + shift
            else:
                h = h * shift
            return F.tanh(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for first, second in [(1, 1)] * 5 + [(-1, -1)] * 3 + [(1, -1), (-1, 1), (1, 1), (-1, -1), (-1, 1), (1, -1)]:
        x, z = normal(4, 3).abs() * first, normal(4, 3).abs() * second
        yield fit(net, trainer, x, normal(4, 4), z), state(net)
