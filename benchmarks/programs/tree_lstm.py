"""A child-sum Tree-LSTM over Python trees, one tree at a time; the losses of 25 trees make one step."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn


class Tree:
    """A word and its dependents."""

    def __init__(self, word):
        self.word, self.children = word, []


def random_tree(random, size, words):
    nodes = [Tree(int(random.randint(words))) for _ in range(size)]
    for i in range(1, size):
        nodes[random.randint(i)].children.append(nodes[i])
    return nodes[0]


class ChildSumCell(gluon.Block):
    def __init__(self, hidden, inputs, **kwargs):
        super().__init__(**kwargs)
        self._hidden = hidden
        with self.name_scope():
            self.i2h = nn.Dense(4 * hidden, in_units=inputs)
            self.h2h = nn.Dense(3 * hidden, in_units=hidden, use_bias=False)
            self.forget = nn.Dense(hidden, in_units=hidden, use_bias=False)

    def forward(self, embed, tree):
        states = [self(embed, child) for child in tree.children]
        x = self.i2h(embed(nd.array([tree.word])))
        i, o, u, f = nd.split(x, num_outputs=4, axis=1)
        if states:
            total = nd.add_n(*[h for h, _ in states])
            ih, oh, uh = nd.split(self.h2h(total), num_outputs=3, axis=1)
            i, o, u = i + ih, o + oh, u + uh
        c = nd.sigmoid(i) * nd.tanh(u)
        for h, memory in states:
            c = c + nd.sigmoid(f + self.forget(h)) * memory
        return nd.sigmoid(o) * nd.tanh(c), c


class Sentiment(gluon.Block):
    def __init__(self, words, embed, hidden, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embed = nn.Embedding(words, embed)
            self.cell = ChildSumCell(hidden, embed)
            self.head = nn.Dense(5, in_units=hidden)

    def forward(self, tree):
        h, _ = self.cell(self.embed, tree)
        return self.head(h)


def make(convert, small=False):
    words, embed, hidden, batch, most = (8, 3, 3, 3, 6) if small else (500, 64, 64, 25, 20)
    data = np.random.RandomState(4)
    trees = [random_tree(data, data.randint(1, most + 1), words) for _ in range(4 * batch)]
    net = Sentiment(words, embed, hidden)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "adagrad", {"learning_rate": 0.05})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()

    def step(i):
        start = 0 if i < 5 else i * batch % len(trees)
        chosen = trees[start:start + batch]
        if i % 6 == 5:
            return [int(net(tree).argmax(axis=1).asscalar()) for tree in chosen]
        with autograd.record():
            total = 0
            for tree in chosen:
                total = total + loss(net(tree), nd.array([tree.word % 5]))
        total.backward()
        trainer.step(batch, ignore_stale_grad=True)
        return total

    return step, lambda: [net]
