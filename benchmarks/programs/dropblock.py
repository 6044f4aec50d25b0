"""A small convolutional net with DropBlock: squares are dropped in training only, more of them as training goes on."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class DropBlock(gluon.HybridBlock):
    """Drops squares of `size`; `drop_prob` is set by a schedule."""

    def __init__(self, drop_prob, size, channels, extent, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob, self._size = drop_prob, size
        self._shape = (1, channels, extent - size + 1, extent - size + 1)
        self._elements = channels * extent * extent
        self._gain = extent ** 2 / size ** 2 / (extent - size + 1) ** 2

    def hybrid_forward(self, F, x):
        if not mx.autograd.is_training() or self.drop_prob <= 0:
            return x
        gamma = self.drop_prob * self._gain
        seeds = F.random.uniform(0, 1, shape=self._shape) < gamma
        pad = self._size - 1
        seeds = F.pad(seeds, mode="constant", constant_value=0, pad_width=(0, 0, 0, 0, pad, pad, pad, pad))
        mask = 1 - F.Pooling(seeds, pool_type="max", kernel=(self._size, self._size), stride=(1, 1))
        return F.broadcast_mul(F.broadcast_mul(x, mask), self._elements / F.sum(mask))


def make(convert, small=False):
    channels, size, batch = (3, 8, 2) if small else (16, 16, 8)
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Conv2D(channels, 3, padding=1, in_channels=3), nn.BatchNorm(in_channels=channels),
                nn.Activation("relu"), DropBlock(0.0, 3, channels, size),
                nn.Conv2D(channels, 3, padding=1, in_channels=channels), nn.Activation("relu"),
                DropBlock(0.0, 3, channels, size), nn.GlobalAvgPool2D(), nn.Dense(10, in_units=channels))
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
    loss, data = gluon.loss.SoftmaxCrossEntropyLoss(), np.random.RandomState(6)

    def step(i):
        for block in net:
            if isinstance(block, DropBlock):
                block.drop_prob = 0.1 if i < 6 else min(0.02 * i, 0.5) if i != 8 else 0.0
        x = nd.array(data.uniform(-1, 1, (batch, 3, size, size)))
        if i % 4 == 0:
            return net(x)
        with autograd.record():
            out = net(x)
            value = loss(out, nd.arange(batch))
        value.backward()
        trainer.step(batch)
        return out, value

    return step, lambda: [net]
