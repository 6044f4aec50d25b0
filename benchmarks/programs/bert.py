"""A classifier on a BERT-like encoder of HybridBlocks: a control, which hybridize() converts as it is."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class Layer(gluon.HybridBlock):
    def __init__(self, units, heads, **kwargs):
        super().__init__(**kwargs)
        self._heads, self._scale = heads, (units / heads) ** -0.5
        with self.name_scope():
            self.qkv = nn.Dense(3 * units, flatten=False, in_units=units)
            self.out = nn.Dense(units, flatten=False, in_units=units)
            self.first, self.second = nn.LayerNorm(in_channels=units), nn.LayerNorm(in_channels=units)
            self.wide = nn.Dense(4 * units, flatten=False, in_units=units)
            self.act = nn.GELU()
            self.narrow = nn.Dense(units, flatten=False, in_units=4 * units)
            self.drop = nn.Dropout(0.1)

    def hybrid_forward(self, F, x, mask):
        def heads(part):
            part = F.transpose(F.reshape(part, shape=(0, 0, self._heads, -1)), axes=(0, 2, 1, 3))
            return F.reshape(part, shape=(-1, 0, 0), reverse=True)

        query, key, value = [heads(part) for part in F.split(self.qkv(x), num_outputs=3, axis=2)]
        scores = F.batch_dot(query, key, transpose_b=True) * self._scale
        scores = F.broadcast_add(scores, F.repeat(mask, self._heads, axis=0))
        mixed = F.batch_dot(self.drop(F.softmax(scores)), value)
        mixed = F.reshape(mixed, shape=(-1, self._heads, 0, 0), reverse=True)
        mixed = F.reshape(F.transpose(mixed, axes=(0, 2, 1, 3)), shape=(0, 0, -1))
        x = self.first(x + self.drop(self.out(mixed)))
        return self.second(x + self.drop(self.narrow(self.act(self.wide(x)))))


class Classifier(gluon.HybridBlock):
    def __init__(self, words, units, heads, layers, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.words, self.segments = nn.Embedding(words, units), nn.Embedding(2, units)
            self.norm, self.drop = nn.LayerNorm(in_channels=units), nn.Dropout(0.1)
            self.layers = nn.HybridSequential()
            for _ in range(layers):
                self.layers.add(Layer(units, heads))
            self.pool = nn.Dense(units, activation="tanh", in_units=units)
            self.out = nn.Dense(2, in_units=units)

    def hybrid_forward(self, F, tokens, segments, lengths):
        h = self.drop(self.norm(self.words(tokens) + self.segments(segments)))
        places = F.contrib.arange_like(tokens, axis=1)
        hidden = F.broadcast_greater_equal(F.expand_dims(places, 0), F.expand_dims(lengths, 1)) * -1e9
        hidden = F.expand_dims(hidden, 1)
        for layer in self.layers:
            h = layer(h, hidden)
        return self.out(self.drop(self.pool(F.slice_axis(h, axis=1, begin=0, end=1))))


def make(convert, small=False):
    words, units, heads, layers, batch, length = (20, 4, 2, 1, 2, 5) if small else (500, 64, 4, 4, 8, 24)
    net = Classifier(words, units, heads, layers)
    net.initialize(mx.init.Normal(0.05))
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.001})
    loss, data = gluon.loss.SoftmaxCrossEntropyLoss(), np.random.RandomState(10)

    def step(i):
        count = length if i < 8 else 2 + i % length
        tokens = nd.array(data.randint(0, words, (batch, count)))
        segments, lengths = tokens > words // 2, nd.array(data.randint(1, count + 1, batch))
        if i % 4 == 3:
            return net(tokens, segments, lengths)
        with autograd.record():
            out = net(tokens, segments, lengths)
            value = loss(out, lengths % 2)
        value.backward()
        trainer.step(batch)
        return out, value

    return step, lambda: [net]
