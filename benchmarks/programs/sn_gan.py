"""A generative adversarial pair of convolutional nets; the critic's weights are divided by their spectral norm."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class SpectralConv2D(gluon.Block):
    """A convolution whose weight is divided by an estimate of its largest singular value, improved at every call."""

    def __init__(self, channels, in_channels, kernel, stride, padding, **kwargs):
        super().__init__(**kwargs)
        self._channels = channels
        self._how = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (padding, padding),
                     "num_filter": channels, "no_bias": True}
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(channels, in_channels, kernel, kernel))
            self.u = self.params.get("u", init=mx.init.Normal(), shape=(1, channels), grad_req="null")

    def spectral(self):
        w = self.weight.data().reshape((self._channels, -1))
        u = self.u.data()
        v = None
        with autograd.pause():
            for _ in range(1):
                v = nd.L2Normalization(nd.dot(u, w))
                u = nd.L2Normalization(nd.dot(v, w, transpose_b=True))
        sigma = nd.sum(nd.dot(u, w) * v)
        if sigma == 0.0:
            sigma = nd.array([1e-6])
        with autograd.pause():
            self.u.set_data(u)
        return self.weight.data() / sigma

    def forward(self, x):
        return nd.Convolution(x, self.spectral(), **self._how)


def generator(units):
    net = nn.Sequential()
    with net.name_scope():
        net.add(nn.Conv2DTranspose(units * 2, 4, 1, 0, use_bias=False, in_channels=8), nn.BatchNorm(),
                nn.Activation("relu"), nn.Conv2DTranspose(units, 4, 2, 1, use_bias=False, in_channels=units * 2),
                nn.BatchNorm(), nn.Activation("relu"),
                nn.Conv2DTranspose(3, 4, 2, 1, use_bias=False, in_channels=units), nn.Activation("tanh"))
    return net


def critic(units):
    net = nn.Sequential()
    with net.name_scope():
        net.add(SpectralConv2D(units, 3, 4, 2, 1), nn.LeakyReLU(0.1),
                SpectralConv2D(units * 2, units, 4, 2, 1), nn.LeakyReLU(0.1), SpectralConv2D(1, units * 2, 4, 1, 0))
    return net


def make(convert, small=False):
    units, batch = (2, 2) if small else (8, 8)
    pair = generator(units), critic(units)
    for net in pair:
        net.initialize(mx.init.Xavier(factor_type="in", magnitude=2))
    made, judge = (convert(net) for net in pair)
    trainers = [gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 2e-4, "beta1": 0.5}) for net in pair]
    loss = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    data = np.random.RandomState(2)

    def step(i):
        size = batch if i < 8 else 1 + i % 3
        real = nd.array(data.uniform(-1, 1, (size, 3, 16, 16)))
        noise = nd.random.normal(shape=(size, 8, 1, 1))
        with autograd.record():
            out = judge(real).reshape((-1, 1))
            on_real = loss(out, nd.ones(size))
            fake = made(noise)
            on_fake = loss(judge(fake.detach()).reshape((-1, 1)), nd.zeros(size))
            value = on_real + on_fake
        value.backward()
        trainers[1].step(size)
        with autograd.record():
            fooled = loss(judge(made(noise)).reshape((-1, 1)), nd.ones(size))
        fooled.backward()
        trainers[0].step(size)
        shown = value.mean().asscalar(), fooled.mean().asscalar(), fake
        return (*shown, made(noise)) if i % 5 == 4 else shown

    return step, lambda: pair
