"""Something new at every step: numbers, shapes, texts, trees. A converter that makes a graph of each never ends."""
import random

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell
from .common import fit, normal, ready, state, trainer_of
from .recursion import TreeNet, random_tree
from .registry import case


@case(127, "a number that is new at every step")
def new_number(convert):
    class Net(Cell):
        temperature = 1.0

        def hybrid_forward(self, F, x, smooth):
            self.temperature *= 0.97
            h = F.tanh(self.cell(x)) / self.temperature
            h = F.clip(h, -2 - self.temperature, 2) * (1 - smooth) + smooth
            return F.LeakyReLU(self.head(h), act_type="leaky", slope=self.temperature / 4)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(24):
        yield fit(net, trainer, normal(3, 3), normal(3, 2), 1 / (step + 2)), net.temperature, state(net)


@case(128, "a shape that is new at every step")
def new_shape(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            left = F.reshape(h, shape=(h.shape[0], 1, 3))
            mixed = F.batch_dot(F.softmax(F.batch_dot(left, left, transpose_b=True)), left).reshape((-1, 3))
            pad = F.zeros((2, 3))
            return self.head(F.concat(mixed, pad, dim=0))[:x.shape[0]]

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in range(1, 21):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(129, "a text that is new at every step")
def new_text(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, name):
            h = F.tanh(self.cell(x))
            self.kept[name] = h.mean()
            return self.head(h) * (2 if name.endswith("7") else 1)

    net = ready(Net())
    net.kept = {}
    net = convert(net)
    trainer = trainer_of(net)
    for step in range(20):
        yield fit(net, trainer, normal(3, 3), normal(3, 2), f"batch {step}"), net.kept, state(net)


@case(130, "a tree that is new at every step")
def new_tree(convert):
    net = convert(ready(TreeNet()))
    trainer = trainer_of(net)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(20):
        with autograd.record():
            value = loss(net(random_tree(random.randint(5, 12))), mx.nd.array([step % 2]))
        value.backward()
        trainer.step(1)
        yield value, state(net)


@case(131, "a path that is new at almost every step")
def new_path(convert):
    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.choices = nn.Sequential()
                for act in ("relu", "tanh", "sigmoid", "softsign"):
                    self.choices.add(nn.Dense(3, in_units=3, activation=act))

        def forward(self, x, path):
            for where in path:
                x = self.choices[where](x) + x
            return x

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for _ in range(20):
        path = [random.randrange(4) for _ in range(5)]
        yield fit(net, trainer, normal(3, 3), normal(3, 3), path), state(net)


@case(132, "a net that grows")
def growing(convert):
    net = nn.Sequential()
    with net.name_scope():
        net.add(nn.Dense(3, in_units=3, activation="tanh"))
    net = convert(ready(net))
    for step in range(15):
        if step in (6, 8, 12):
            with net.name_scope():
                net.add(nn.Dense(3, in_units=3))
            net[-1].initialize(mx.init.Uniform(0.5))
        trainer = trainer_of(net)
        yield fit(net, trainer, normal(3, 3), normal(3, 3)), state(net)
