"""explain(): the counts are those of the forest, and reasons carry the user's place."""
import json

import mxnet as mx
import pytest
from mxnet.gluon import nn

import recursive_gluon as rg
from recursive_gluon.errors import ConversionError
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun


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
    with pytest.raises(ConversionError, match='Dense is neither'):
        rg.explain(nn.Dense(1), forest)


@pytest.mark.skipif(binding.core() is None, reason='no native core on this machine')
def test_scheduling(forest):
    """Leaves, then two levels of inner nodes: a path of three, which two lanes cannot make shorter."""
    found = rg.explain(made(False), forest)
    plan = found.scheduling
    assert (plan.shards, plan.levels, plan.batches, plan.rows) == (1, 3, 3, (1, 2, 5))
    assert (plan.path_batches, plan.path_share) == (3, 1)
    assert (plan.lanes_events, plan.lanes_makespan) == (0, 1)
    assert json.loads(found.to_json())['scheduling']['rows'] == [1, 2, 5]
    text = str(found)
    assert '3 batches of 1 to 5 rows (median 2)' in text
    assert 'critical path of 3 batches with 100% of the arithmetic' in text
    assert '2 lanes: 0 events, makespan 100% of the sum' in text
    assert rg.explain(made(True), forest).scheduling is None


@pytest.mark.skipif(binding.core() is None, reason='no native core on this machine')
def test_scheduling_of_many_trees(forest):
    """Shards do not wait for one another, so that two lanes share them."""
    tree = rg.Tree.from_ptb('(1 (2 a) (3 (1 b) (0 c)))')
    plan = rg.explain(made(False), rg.Forest([tree] * 40, vocab={'a': 0, 'b': 1, 'c': 2})).scheduling
    assert plan.shards > 1 and plan.path_share < 1 and plan.lanes_makespan < 0.8


@pytest.mark.skipif(binding.core() is None, reason='no native core on this machine')
def test_scheduling_on_lanes(forest):
    net = made(False)
    net.hybridize(lanes=3)
    found = rg.explain(net, forest)
    assert (found.executor, found.scheduling.lanes) == ('native', 3)
    text = str(found)
    assert '    3 lanes of cpu(0), 1 shard, 3 levels' in text
    assert '    3 lanes: 0 events, makespan 100% of the sum' in text


@pytest.mark.skipif(binding.core() is None, reason='no native core on this machine')
def test_memory_is_what_runs_hold(forest):
    net = rg.nn.TreeLSTM(30, 20, 40, num_classes=5, dropout=0.2)
    net.initialize()
    chain = rg.Tree(label=0, word=1)
    for word in range(20):
        chain = rg.Tree([chain, rg.Tree(label=0, word=word)], label=0)
    trees = rg.Forest([chain] * 3)
    found = rg.explain(net, trees)
    plan = found.memory
    assert plan.inference.block < plan.recompute.block < plan.training.block
    assert plan.inference.apart < plan.inference.without_reuse
    for each in (plan.inference, plan.training, plan.recompute):
        assert each.block < each.apart
    used = plan.training
    sizes = f'{used.block / 1000:.1f} kB ({used.apart / 1000:.1f} kB in separate blocks, {used.gain:.0%} less)'
    assert f'training {sizes}, recompute=True {plan.recompute.block / 1000:.1f} kB' in str(found)
    assert json.loads(found.to_json())['memory']['inference']['block'] == plan.inference.block
    _, call = net._prepare(trees, (), True, 'roots')
    assert plan.at_once == 256 and plan.parts == 1
    net.hybridize(recompute=9)
    cut = rg.explain(net, trees).memory
    assert cut.parts == 15 and str(cut).endswith(' in 15 parts')
    assert f', recompute=9 {cut.cut.block / 1000:.1f} kB (' in str(cut)
    assert cut.cut.block < plan.recompute.block and cut.recompute == plan.recompute
    for recompute, planned in ((False, plan.training), (True, plan.recompute), (256, plan.cut), (9, cut.cut)):
        run = NativeRun(call, recompute=recompute)
        run.forward().backward([mx.nd.ones(o.shape) for o in run.outputs])
        assert run.run.figure(2) == planned.block
    net.hybridize(executor='mxnet')
    assert rg.explain(net, trees).memory is None


class Path(rg.RecursiveBlock):
    def hybrid_forward(self, F, node, above):
        above = F.tanh(above)
        return above if node.is_leaf else self(node.left, above) + self(node.right, above)


@pytest.mark.skipif(binding.core() is None, reason='no native core on this machine')
def test_memory_says_why_a_forest_is_not_cut(forest):
    net = Path()
    net.initialize()
    found = rg.explain(net, forest, mx.nd.ones((2, 1)))
    assert found.memory.parts == 0
    assert str(found.memory).endswith('; not cut into parts: the root function takes tensors beside its node')
