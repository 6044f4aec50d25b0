"""Layers with state of their own and whole training loops: normalization, dropout, recurrent layers, metrics."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .common import L2, fit, normal, ready, state, trainer_of
from .registry import case


@case(99, "batch normalization: statistics after backward")
def batch_norm(convert):
    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.conv = nn.Conv2D(4, 3, padding=1, in_channels=2, use_bias=False)
                self.norm = nn.BatchNorm(in_channels=4)
                self.out = nn.Dense(3, in_units=4)
            self.seen = []

        def forward(self, x):
            h = self.norm(self.conv(x))
            if autograd.is_training():
                self.seen.append(self.norm.running_mean.data().sum().asscalar())
            if x.mean() > 0.5:
                h = self.norm(h)
            return self.out(mx.nd.relu(h).mean(axis=(2, 3)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step, shift in enumerate((0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0)):
        x = normal(4, 2, 6, 6) + shift
        yield fit(net, trainer, x, mx.nd.arange(4) % 3, loss=loss), net.seen, state(net)
        if step % 3 == 2:
            yield net(x[:2])


@case(100, "dropout in loops of varying length")
def dropout_loop(convert):
    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.cell = nn.Dense(6, in_units=6, activation="relu")
                self.drop = nn.Dropout(0.3)

        def forward(self, x, times):
            for _ in range(times):
                x = self.drop(self.cell(x))
            return x

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for times in (2, 2, 2, 2, 2, 2, 3, 2, 1, 4, 3, 2):
        yield fit(net, trainer, normal(4, 6), normal(4, 6), times), state(net)
        yield net(normal(2, 6), times)


@case(101, "recurrent layers over sequences of many lengths")
def recurrent(convert):
    class Tagger(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.embed = nn.Embedding(10, 4)
                self.rnn = gluon.rnn.LSTM(5, input_size=4, layout="NTC")
                self.cell = gluon.rnn.GRUCell(5, input_size=5)
                self.tag = nn.Dense(3, in_units=5, flatten=False)

        def forward(self, words):
            out, _ = self.rnn(self.embed(words), self.rnn.begin_state(batch_size=words.shape[0]))
            again, _ = self.cell.unroll(words.shape[1], out, layout="NTC", merge_outputs=True)
            return self.tag(again)

    net = convert(ready(Tagger()))
    trainer = trainer_of(net, "adam", learning_rate=0.01)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for length in (4, 4, 4, 4, 4, 4, 6, 4, 3, 6, 1, 4):
        words = mx.nd.array(np.random.randint(0, 10, (2, length)))
        yield fit(net, trainer, words, words % 3, loss=loss), state(net)


@case(102, "an epoch with validation, a metric and a schedule")
def epochs(convert):
    net = nn.Sequential()
    with net.name_scope():
        net.add(nn.Dense(8, in_units=4, activation="relu"), nn.BatchNorm(in_channels=8), nn.Dropout(0.2),
                nn.Dense(3, in_units=8))
    net = convert(ready(net))
    data = gluon.data.ArrayDataset(normal(22, 4), mx.nd.arange(22) % 3)
    batches = gluon.data.DataLoader(data, batch_size=5, shuffle=True, last_batch="keep")
    loss, metric = gluon.loss.SoftmaxCrossEntropyLoss(), mx.metric.Accuracy()
    trainer = trainer_of(net, lr_scheduler=mx.lr_scheduler.FactorScheduler(step=4, factor=0.7, base_lr=0.2), wd=0.01)
    for epoch in range(3):
        metric.reset()
        for x, y in batches:
            out, value = fit(net, trainer, x, y, loss=loss)
            metric.update(y, out)
            yield out, value, trainer.learning_rate, state(net)
        for x, y in batches:
            metric.update(y, net(x))
        yield epoch, metric.get()


@case(103, "an adversarial pair with two trainers")
def adversarial(convert):
    def net(inputs, outputs):
        made = nn.HybridSequential()
        with made.name_scope():
            made.add(nn.Dense(6, in_units=inputs), nn.LeakyReLU(0.2), nn.Dense(outputs, in_units=6))
        return convert(ready(made))

    generator, critic = net(2, 3), net(3, 1)
    of_generator, of_critic = trainer_of(generator, "adam"), trainer_of(critic, "adam")
    loss = gluon.loss.SigmoidBCELoss()
    for step in range(12):
        for _ in range(1 if step < 8 else 1 + step % 3):
            real, noise = normal(4, 3) + 2, mx.nd.random.normal(shape=(4, 2))
            with autograd.record():
                fake = generator(noise)
                judged = loss(critic(real), mx.nd.ones(4)) + loss(critic(fake.detach()), mx.nd.zeros(4))
            judged.backward()
            of_critic.step(4)
        with autograd.record():
            fooled = loss(critic(generator(noise)), mx.nd.ones(4))
        fooled.backward()
        of_generator.step(4)
        yield judged, fooled, state(generator), state(critic)


@case(104, "parameters changed inside forward")
def parameters_in_forward(convert):
    class Spectral(gluon.Block):
        def __init__(self):
            super().__init__()
            self.weight = self.params.get("weight", shape=(4, 3))
            self.u = self.params.get("u", shape=(1, 4), init=mx.init.Normal(), grad_req="null")

        def forward(self, x):
            w, u = self.weight.data(), self.u.data()
            with autograd.pause():
                v = mx.nd.L2Normalization(mx.nd.dot(u, w))
                u = mx.nd.L2Normalization(mx.nd.dot(v, w, transpose_b=True))
                self.u.set_data(u)
            sigma = mx.nd.sum(mx.nd.dot(u, w) * v)
            if sigma == 0:
                sigma = sigma + 1e-6
            return mx.nd.dot(x, (w / sigma).T)

    net = convert(ready(Spectral()))
    trainer = trainer_of(net)
    for step, rows in enumerate((3,) * 8 + (5, 3, 4, 3)):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 4)), state(net)
        if step == 9:
            net.weight.set_data(mx.nd.zeros((4, 3)))
            yield net(normal(2, 3)), state(net)
            net.weight.set_data(normal(4, 3))
    yield L2(net(normal(2, 3)), normal(2, 4)), state(net)
