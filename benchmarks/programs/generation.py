"""A small GPT: trained on whole sequences, then generating with a cache of keys and values that grows by a word."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class SelfAttention(gluon.Block):
    def __init__(self, units, heads, **kwargs):
        super().__init__(**kwargs)
        self._units, self._heads = units, heads
        with self.name_scope():
            self.qkv = nn.Dense(3 * units, flatten=False, in_units=units)
            self.out = nn.Dense(units, flatten=False, in_units=units)

    def heads(self, x):
        x = x.reshape((0, 0, self._heads, -1)).transpose((0, 2, 1, 3))
        return x.reshape((-1, 0, 0), reverse=True)

    def forward(self, x, cache=None):
        batch, length = x.shape[:2]
        query, key, value = [self.heads(part) for part in nd.split(self.qkv(x), num_outputs=3, axis=2)]
        if cache is not None:
            key = nd.concat(cache[0], key, dim=1)
            value = nd.concat(cache[1], value, dim=1)
        scores = nd.batch_dot(query, key, transpose_b=True) / (self._units / self._heads) ** 0.5
        if length > 1:
            past = key.shape[1] - length
            rows, columns = nd.arange(length) + past, nd.arange(key.shape[1])
            hidden = nd.broadcast_lesser(rows.expand_dims(1), columns.expand_dims(0)) * -1e9
            scores = nd.broadcast_add(scores, hidden.expand_dims(0))
        mixed = nd.batch_dot(nd.softmax(scores), value)
        mixed = mixed.reshape((batch, self._heads, length, -1)).transpose((0, 2, 1, 3)).reshape((0, 0, -1))
        return self.out(mixed), (key, value)


class Layer(gluon.Block):
    def __init__(self, units, heads, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.before, self.between = nn.LayerNorm(in_channels=units), nn.LayerNorm(in_channels=units)
            self.attention = SelfAttention(units, heads)
            self.wide = nn.Dense(4 * units, flatten=False, in_units=units)
            self.narrow = nn.Dense(units, flatten=False, in_units=4 * units)

    def forward(self, x, cache=None):
        mixed, cache = self.attention(self.before(x), cache)
        x = x + mixed
        wide = self.wide(self.between(x))
        gelu = 0.5 * wide * (1 + nd.tanh(0.79788456 * (wide + 0.044715 * wide ** 3)))
        return x + self.narrow(gelu), cache


class GPT(gluon.Block):
    def __init__(self, words, units, heads, layers, **kwargs):
        super().__init__(**kwargs)
        self._layers = []
        with self.name_scope():
            self.words = nn.Embedding(words, units)
            self.places = nn.Embedding(64, units)
            self.last = nn.LayerNorm(in_channels=units)
            self.out = nn.Dense(words, flatten=False, in_units=units, use_bias=False, params=self.words.params)
            for i in range(layers):
                layer = Layer(units, heads)
                self.register_child(layer, f"layer{i}")
                self._layers.append(layer)

    def forward(self, tokens, states=None):
        past = 0 if states is None else states[0][0].shape[1]
        h = self.words(tokens) + self.places(nd.arange(past, past + tokens.shape[1])).expand_dims(0)
        grown = []
        for i, layer in enumerate(self._layers):
            h, cache = layer(h, None if states is None else states[i])
            grown.append(cache)
        return self.out(self.last(h)), grown


def generate(net, prompt, longest, temperature, most=3):
    """Words, sampled from the `most` likely ones, until one repeats the first or `longest` is reached."""
    tokens, states = list(prompt), None
    step = nd.array([tokens])
    while len(tokens) < longest:
        scores, states = net(step, states)
        last = scores[0, -1] / temperature
        top = nd.topk(last, k=most, ret_typ="both")
        chosen = int(top[1][int(nd.sample_multinomial(nd.softmax(top[0])).asscalar())].asscalar())
        tokens.append(chosen)
        if chosen == prompt[0]:
            break
        step = nd.array([[chosen]])
    return tokens


def make(convert, small=False):
    words, units, heads, layers = (10, 4, 2, 2) if small else (200, 64, 4, 4)
    net = GPT(words, units, heads, layers)
    net.initialize(mx.init.Normal(0.1))
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.003})
    loss, data = gluon.loss.SoftmaxCrossEntropyLoss(), np.random.RandomState(9)

    def step(i):
        if i % 3 == 1:
            prompt = [int(word) for word in data.randint(0, words, 1 if i < 8 else 1 + i % 4)]
            return generate(net, prompt, 8 if small else 24, 1.0 if i < 8 else 0.5 + 0.05 * i)
        batch = nd.array(data.randint(0, words, (2, 6 if i < 8 else 3 + i % 5)))
        with autograd.record():
            out, _ = net(batch[:, :-1])
            value = loss(out, batch[:, 1:])
        value.backward()
        trainer.step(2)
        return out, value

    return step, lambda: [net]
