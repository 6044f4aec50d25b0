"""A supernet for architecture search: every step trains one random path; forward looks at the choice, an array."""
import random

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


def branch(channels, kernel, deep):
    block = nn.HybridSequential()
    with block.name_scope():
        for _ in range(2 if deep else 1):
            block.add(nn.Conv2D(channels, kernel, padding=kernel // 2, groups=channels, in_channels=channels,
                                use_bias=False), nn.BatchNorm(in_channels=channels),
                      nn.Conv2D(channels, 1, in_channels=channels, use_bias=False),
                      nn.BatchNorm(in_channels=channels), nn.Activation("relu"))
    return block


class Choice(gluon.Block):
    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.three, self.five = branch(channels, 3, False), branch(channels, 5, False)
            self.seven, self.deep = branch(channels, 7, False), branch(channels, 3, True)

    def forward(self, x, choice, mask):
        if choice == 0:
            h = self.three(x)
        elif choice == 1:
            h = self.five(x)
        elif choice == 2:
            h = self.seven(x)
        else:
            h = self.deep(x)
        return nd.broadcast_mul(h, mask) + x


class Supernet(gluon.Block):
    def __init__(self, depth, channels, **kwargs):
        super().__init__(**kwargs)
        self._channels = channels
        with self.name_scope():
            self.stem = nn.Conv2D(channels, 3, padding=1, in_channels=3)
            self.layers = nn.Sequential()
            for _ in range(depth):
                self.layers.add(Choice(channels))
            self.head = nn.Dense(10, in_units=channels)

    def random_path(self):
        depth, widths = len(self.layers), [self._channels // 2, self._channels]
        choices = nd.array([random.randrange(4) for _ in range(depth)])
        masks = nd.zeros((depth, 1, self._channels, 1, 1))
        for i in range(depth):
            masks[i, :, :random.choice(widths)] = 1
        return choices, masks

    def forward(self, x, choices, masks):
        h = self.stem(x)
        for i, layer in enumerate(self.layers):
            h = layer(h, choices[i], masks[i])
        return self.head(h.mean(axis=(2, 3)))


def make(convert, small=False):
    depth, channels, size = (2, 4, 6) if small else (8, 16, 16)
    net = Supernet(depth, channels)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
    loss, data, kept = gluon.loss.SoftmaxCrossEntropyLoss(), np.random.RandomState(3), []

    def step(i):
        if not kept or i > 4:
            kept[:] = [net.random_path()]
        choices, masks = kept[0]
        x = nd.array(data.uniform(-1, 1, (4, 3, size, size)))
        if i % 4 == 3:
            return net(x, choices, masks), choices
        with autograd.record():
            out = net(x, choices, masks)
            value = loss(out, nd.arange(4))
        value.backward()
        trainer.step(4, ignore_stale_grad=True)
        return out, value, choices

    return step, lambda: [net]
