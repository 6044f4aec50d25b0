"""A tagger: a bidirectional LSTM under a conditional random field, one sentence at a time.

The partition function is a Python loop over words and tags; decoding keeps Viterbi's back-pointers as Python integers.
Training calls `neg_log_likelihood`, never `forward`.
"""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn, rnn

START, STOP = 0, 1


def log_sum_exp(scores):
    """Over the last axis of a (1, tags) array."""
    best = scores[0, int(nd.argmax(scores, axis=1).asscalar())]
    return best + nd.log(nd.sum(nd.exp(scores - best)))


class Tagger(gluon.Block):
    def __init__(self, words, tags, embed, hidden, **kwargs):
        super().__init__(**kwargs)
        self._tags, self._hidden = tags, hidden
        with self.name_scope():
            self.embed = nn.Embedding(words, embed)
            self.lstm = rnn.LSTM(hidden // 2, bidirectional=True, input_size=embed)
            self.score = nn.Dense(tags, in_units=hidden)
            self.transitions = self.params.get("transitions", shape=(tags, tags), init=mx.init.Normal(1))

    def features(self, sentence):
        shape = (2, 1, self._hidden // 2)
        start = [nd.random.normal(shape=shape), nd.random.normal(shape=shape)]
        out, _ = self.lstm(self.embed(sentence).expand_dims(1), start)
        return nd.split(self.score(out.reshape((-1, self._hidden))), num_outputs=len(sentence), axis=0,
                        squeeze_axis=True) if len(sentence) > 1 else [self.score(out.reshape((-1, self._hidden)))[0]]

    def partition(self, features):
        transitions = self.transitions.data()
        alphas = nd.full((1, self._tags), -10000.0)
        alphas[0, START] = 0
        for feature in features:
            following = []
            for tag in range(self._tags):
                reached = alphas + transitions[tag].reshape((1, -1)) + feature[tag]
                following.append(log_sum_exp(reached))
            alphas = nd.concat(*following, dim=0).reshape((1, -1))
        return log_sum_exp(alphas + transitions[STOP].reshape((1, -1)))

    def of_path(self, features, tags):
        transitions = self.transitions.data()
        score, before = nd.zeros((1,)), START
        for feature, tag in zip(features, tags):
            score = score + transitions[tag, before] + feature[tag]
            before = tag
        return score + transitions[STOP, before]

    def viterbi(self, features):
        transitions = self.transitions.data()
        scores = nd.full((1, self._tags), -10000.0)
        scores[0, START] = 0
        pointers = []
        for feature in features:
            best, reached = [], []
            for tag in range(self._tags):
                candidates = scores + transitions[tag].reshape((1, -1))
                chosen = int(nd.argmax(candidates, axis=1).asscalar())
                best.append(chosen)
                reached.append(candidates[0, chosen])
            scores = (nd.concat(*reached, dim=0) + feature).reshape((1, -1))
            pointers.append(best)
        last = scores + transitions[STOP].reshape((1, -1))
        tag = int(nd.argmax(last, axis=1).asscalar())
        path = [tag]
        for best in reversed(pointers[1:]):
            tag = best[tag]
            path.append(tag)
        return last.max().asscalar(), path[::-1]

    def neg_log_likelihood(self, sentence, tags):
        features = self.features(sentence)
        return self.partition(features) - self.of_path(features, tags)

    def forward(self, sentence):
        return self.viterbi(self.features(sentence))


def make(convert, small=False):
    words, tags, longest = (12, 4, 6) if small else (500, 7, 12)
    data = np.random.RandomState(1)
    sentences = [data.randint(0, words, data.randint(1, longest + 1)) for _ in range(20)]
    net = Tagger(words, tags, 4 if small else 32, 4 if small else 64)
    net.initialize(mx.init.Xavier(magnitude=2.24))
    net = convert(net)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "wd": 1e-4})

    def step(i):
        sentence = sentences[0 if i < 5 else i % len(sentences)]
        x = nd.array(sentence)
        if i % 4 == 3:
            return net(x)
        with autograd.record():
            loss = net.neg_log_likelihood(x, [2 + int(word) % (tags - 2) for word in sentence])
        loss.backward()
        trainer.step(1)
        return loss

    return step, lambda: [net]
