"""explain(): the counts are those of the forest, and reasons carry the user's place."""
import json

import mxnet as mx
import pytest
from mxnet.gluon import nn

import recursive_gluon as rg
from recursive_gluon.errors import TraceError


class Net(rg.RecursiveBlock):
    def __init__(self, across=False, **kwargs):
        super().__init__(**kwargs)
        self._across = across
        with self.name_scope():
            self.embed = nn.Embedding(10, 4)
            self.dense = nn.Dense(4, in_units=8)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.embed(node['word'])
        h = self.dense(F.concat(self(node.left), self(node.right), dim=1))
        if self._across:
            h = F.softmax(h, axis=0) + F.gamma(F.abs(h) + 1)
        return F.tanh(h)


@pytest.fixture
def forest():
    trees = [rg.Tree.from_ptb('(1 (2 a) (3 (1 b) (0 c)))'), rg.Tree.from_ptb('(1 (2 a) (3 b))')]
    return rg.Forest(trees, vocab={'a': 0, 'b': 1, 'c': 2})


def made(across):
    net = Net(across)
    net.initialize(mx.init.Normal(1))
    return net


def test_counts(forest):
    found = rg.explain(made(False), forest)
    assert sum(found.frames.values()) == forest.num_nodes == 8
    assert sorted(found.cases.values()) == [3, 5]
    assert list(found.paths.values()) == [2]
    assert found.levels == 3  # leaves, two levels of inner nodes
    assert found.rounds == 1
    assert all(s.how == 'batch' and s.gradient == 'rules' for s in found.segments)
    inner = [s for s in found.segments if 'FullyConnected' in s.operators]
    assert [(s.launches, s.rows) for s in inner] == [(2, 3)]


def test_reasons_have_a_place(forest):
    found = rg.explain(made(True), forest)
    text = str(found)
    slow = [s for s in found.segments if s.how == 'frame']
    assert [s.operators for s in slow] == [('softmax',)]
    assert 'axis 0' in slow[0].reason
    assert 'test_explain.py:' in slow[0].where[0]
    assert 'not batched' in text and 'softmax' in text and 'test_explain.py:' in text
    assert any('gamma' in s.operators and s.gradient != 'rules' for s in found.segments)


def test_json_and_other_things(forest):
    found = rg.explain(made(False), forest, train=False)
    assert json.loads(found.to_json())['trees'] == 2
    with pytest.raises(TraceError, match='explains a RecursiveBlock, got Dense'):
        rg.explain(nn.Dense(1), forest)
