"""A sequence-to-sequence Transformer on the NumPy interface, of plain Blocks, with greedy decoding.

The decoder keeps what it has produced in a state that grows, and the attention's weights in attributes.
"""
import mxnet as mx
import numpy as onp
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn


def masked_softmax(scores, lengths):
    if lengths is None:
        return npx.softmax(scores)
    shape = scores.shape
    if lengths.ndim == 1:
        lengths = lengths.repeat(shape[1])
    else:
        lengths = lengths.reshape(-1)
    flat = npx.sequence_mask(scores.reshape(-1, shape[-1]), lengths, True, value=-1e6, axis=1)
    return npx.softmax(flat).reshape(shape)


class Attention(nn.Block):
    def __init__(self, units, heads, **kwargs):
        super().__init__(**kwargs)
        self._heads = heads
        self.attention_weights = None
        self.query, self.key = (nn.Dense(units, use_bias=False, flatten=False, in_units=units) for _ in range(2))
        self.value, self.out = (nn.Dense(units, use_bias=False, flatten=False, in_units=units) for _ in range(2))
        self.drop = nn.Dropout(0.1)

    def split(self, x):
        x = x.reshape(x.shape[0], x.shape[1], self._heads, -1).transpose(0, 2, 1, 3)
        return x.reshape(-1, x.shape[2], x.shape[3])

    def merge(self, x):
        x = x.reshape(-1, self._heads, x.shape[1], x.shape[2]).transpose(0, 2, 1, 3)
        return x.reshape(x.shape[0], x.shape[1], -1)

    def forward(self, queries, keys, values, lengths):
        q, k, v = self.split(self.query(queries)), self.split(self.key(keys)), self.split(self.value(values))
        if lengths is not None:
            lengths = lengths.repeat(self._heads, axis=0)
        scores = npx.batch_dot(q, k, transpose_b=True) / q.shape[-1] ** 0.5
        self.attention_weights = masked_softmax(scores, lengths)
        return self.out(self.merge(npx.batch_dot(self.drop(self.attention_weights), v)))


class AddNorm(nn.Block):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.drop, self.norm = nn.Dropout(0.1), nn.LayerNorm(in_channels=units)

    def forward(self, x, y):
        return self.norm(self.drop(y) + x)


class FeedForward(nn.Block):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.first = nn.Dense(2 * units, flatten=False, activation="relu", in_units=units)
        self.second = nn.Dense(units, flatten=False, in_units=2 * units)

    def forward(self, x):
        return self.second(self.first(x))


class Embed(nn.Block):
    """Words and sinusoidal positions."""

    def __init__(self, words, units, **kwargs):
        super().__init__(**kwargs)
        self._units = units
        self.words, self.drop = nn.Embedding(words, units), nn.Dropout(0.1)
        angle = onp.arange(60).reshape(-1, 1) / onp.power(10000, onp.arange(0, units, 2) / units)
        self.positions = np.zeros((1, 60, units))
        self.positions[:, :, 0::2] = np.array(onp.sin(angle))
        self.positions[:, :, 1::2] = np.array(onp.cos(angle))

    def forward(self, x, start=0):
        h = self.words(x) * self._units ** 0.5
        return self.drop(h + self.positions[:, start:start + x.shape[1], :])


class EncoderLayer(nn.Block):
    def __init__(self, units, heads, **kwargs):
        super().__init__(**kwargs)
        self.attention, self.feed = Attention(units, heads), FeedForward(units)
        self.first, self.second = AddNorm(units), AddNorm(units)

    def forward(self, x, lengths):
        y = self.first(x, self.attention(x, x, x, lengths))
        return self.second(y, self.feed(y))


class DecoderLayer(nn.Block):
    def __init__(self, units, heads, i, **kwargs):
        super().__init__(**kwargs)
        self.i = i
        self.own, self.across, self.feed = Attention(units, heads), Attention(units, heads), FeedForward(units)
        self.first, self.second, self.third = AddNorm(units), AddNorm(units), AddNorm(units)

    def forward(self, x, state):
        encoded, lengths = state[0], state[1]
        if state[2][self.i] is None:
            seen = x
        else:
            seen = np.concatenate((state[2][self.i], x), axis=1)
        state[2][self.i] = seen
        if autograd.is_training():
            visible = np.tile(np.arange(1, x.shape[1] + 1), (x.shape[0], 1))
        else:
            visible = None
        y = self.first(x, self.own(x, seen, seen, visible))
        z = self.second(y, self.across(y, encoded, encoded, lengths))
        return self.third(z, self.feed(z)), state


class Transformer(nn.Block):
    def __init__(self, words, units, heads, layers, **kwargs):
        super().__init__(**kwargs)
        self._layers = layers
        self.source, self.target = Embed(words, units), Embed(words, units)
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        for i in range(layers):
            self.encoder.add(EncoderLayer(units, heads))
            self.decoder.add(DecoderLayer(units, heads, i))
        self.out = nn.Dense(words, flatten=False, in_units=units)

    def encode(self, source, lengths):
        h = self.source(source)
        for layer in self.encoder:
            h = layer(h, lengths)
        return [h, lengths, [None] * self._layers]

    def decode(self, target, state, start=0):
        h = self.target(target, start)
        self.weights = []
        for layer in self.decoder:
            h, state = layer(h, state)
            self.weights.append(layer.across.attention_weights)
        return self.out(h), state

    def forward(self, source, lengths, target=None, longest=8):
        state = self.encode(source, lengths)
        if target is not None:
            return self.decode(target, state)[0]
        token, words = np.ones((source.shape[0], 1)), []
        for i in range(longest):
            out, state = self.decode(token, state, i)
            token = out.argmax(axis=2)
            words.append(token.astype("int32").item())
            if words[-1] == 0:
                break
        return words


def clip(net, largest):
    parameters = list(net.collect_params().values())
    norm = sum((p.grad() ** 2).sum() for p in parameters) ** 0.5
    if norm > largest:
        for p in parameters:
            p.grad()[:] *= largest / norm


def make(convert, small=False):
    words, units, heads, layers, batch, length = (8, 4, 2, 1, 2, 5) if small else (100, 32, 4, 2, 16, 10)
    data = onp.random.RandomState(8)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    made = []

    def build():
        net = Transformer(words, units, heads, layers)
        net.initialize(mx.init.Xavier())
        made.append(convert(net))
        made.append(gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.005}))

    def one(i):
        if not made:
            build()
        net, trainer = made
        count = length if i < 8 else 2 + i % length
        source = np.array(data.randint(1, words, (batch, count)), dtype="float32")
        if i % 4 == 3:
            return net(source[:1], np.array([count])), net.weights[-1]
        lengths = np.array(data.randint(1, count + 1, batch), dtype="float32")
        target = (source + 1) % words
        shifted = np.concatenate([np.ones((batch, 1)), target[:, :-1]], axis=1)
        with autograd.record():
            out = net(source, lengths, shifted)
            value = loss(out, target)
        value.backward()
        clip(net, 1)
        trainer.step(batch)
        return out, value

    def step(i):
        npx.set_np()
        try:
            return one(i)
        finally:
            npx.reset_np()

    return step, lambda: made[:1]
