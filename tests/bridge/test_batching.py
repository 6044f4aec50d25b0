"""Batching on the fly: equal to the calls one by one, in outputs, gradients and what gradients reach."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.bridge import batching, skeleton
from recursive_gluon.bridge.convert import conversion_of

nd, gluon, autograd = mx.nd, mx.gluon, mx.autograd
nn = gluon.nn


class Tree:
    def __init__(self, word, children=()):
        self.word, self.children = word, children


def trees(most=12):
    return st.recursive(st.integers(0, 6).map(Tree), lambda inner: st.builds(
        Tree, st.integers(0, 6), st.lists(inner, min_size=1, max_size=3)), max_leaves=most)


class Cell(gluon.Block):
    """Recursion in Python over one tree, as people write it; `kind` picks what is done at a node."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        with self.name_scope():
            self.embed = nn.Embedding(7, 4)
            self.up, self.own = nn.Dense(8, in_units=4), nn.Dense(4, in_units=4, activation="tanh")
            self.head = nn.Dense(3, in_units=4)

    def visit(self, tree, seen):
        x = self.own(self.embed(nd.array([tree.word])))
        if tree.children:
            states = [self.visit(child, seen) for child in tree.children]
            if self.kind == "sum":
                total = nd.add_n(*states)
            elif self.kind == "rows":
                total = nd.concat(*states, dim=0).max(axis=0, keepdims=True)
            else:
                total = states[0]
                for state in states[1:]:
                    total = total * nd.sigmoid(state) + 0.5 * total
            gate, new = nd.split(self.up(total), num_outputs=2, axis=1)
            x = nd.sigmoid(gate) * nd.tanh(new) + x
        seen.append(x)
        return x

    def forward(self, tree, seen):
        return self.head(self.visit(tree, seen))


def made(kind, converted):
    mx.random.seed(3)
    net = Cell(kind)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    return rg.hybridize(net) if converted else net


def shown(kind, steps, converted, hold):
    """What training steps on these batches of trees show."""
    net, out = made(kind, converted), []
    for batch in steps:
        seen = []
        with autograd.record():
            losses = [(net(tree, seen if hold else []) ** 2).sum() for tree in batch]
            total = sum(losses[1:], losses[0])
        total.backward()
        out.append([total.asscalar()] + [p.grad().asnumpy() for p in net.collect_params().values()])
        out.append([state.asnumpy() for state in seen])
    return out, conversion_of(net)


@pytest.mark.parametrize("hold", [False, True], ids=["dropped", "held"])
@pytest.mark.parametrize("kind", ["sum", "rows", "fold"])
@settings(max_examples=8)
@given(batches=st.lists(st.lists(trees(), min_size=6, max_size=9), min_size=2, max_size=2))
def test_trees(kind, hold, batches):
    steps = batches * 2  # operators are put off once they were met
    expected, _ = shown(kind, steps, False, hold)
    seen, _ = shown(kind, steps, True, hold)
    for a, b in zip(expected, seen):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-6)


def balanced(depth, word=1):
    return Tree(word, [balanced(depth - 1, word + i) for i in range(2)] if depth else ())


def test_calls_are_stacked():
    """Twenty trees of one height: as many launches as one tree has kinds of calls."""
    _, conversion = shown("sum", [[balanced(3) for _ in range(20)]] * 4, True, False)
    report = conversion.report
    assert report.stacked > 1000 and report.stacked / report.stacks > 15


def test_inference_is_stacked_too():
    net = made("fold", True)
    plain = made("fold", False)
    step = rg.hybridize(lambda batch: nd.concat(*[net(tree, []) for tree in batch], dim=0))
    batch = [balanced(i % 4) for i in range(12)]
    for _ in range(4):
        out = step(batch)
    expected = nd.concat(*[plain(tree, []) for tree in batch], dim=0)
    np.testing.assert_allclose(out.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)
    assert conversion_of(step).report.stacked > 0


def test_a_gradient_reaches_only_what_it_did():
    """Two nets side by side, one loss of each, of which one is differentiated: the other's gradients stay."""

    def run(converted):
        nets = [made("sum", False) for _ in range(2)]
        batch = [balanced(3) for _ in range(10)]

        def step(i):
            with autograd.record():
                losses = [sum((net(tree, []) ** 2).sum() for tree in batch) for net in nets]
            losses[i % 2].backward()
            return [p.grad().asnumpy() for net in nets for p in net.collect_params().values()]

        step = rg.hybridize(step) if converted else step
        return [step(i) for i in (0, 1, 0, 0, 1, 0)]

    for expected, seen in zip(run(False), run(True)):
        for a, b in zip(expected, seen):
            np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-6)


def test_a_held_value_is_used_later():
    """A row of a stacked array is given back to Python, and goes on from there, recorded."""

    def run(converted):
        net = made("sum", False)

        def step(batch):
            seen = []
            with autograd.record():
                for tree in batch:
                    net(tree, seen)
                late = [state * 2 for state in seen if float(state.sum().asscalar()) > 0]
                total = sum((state ** 2).sum() for state in late)
            total.backward()
            return [total.asscalar(), *(p.grad().asnumpy() for p in net.collect_params().values()
                                        if "dense2" not in p.name)]

        step = rg.hybridize(step) if converted else step
        return [step([balanced(3, i) for i in (0, 1)] * 6) for _ in range(4)]

    for a, b in zip(run(False), run(True)):
        for one, other in zip(a, b):
            np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-6)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 100), max_size=3)), min_size=1, max_size=60))
def test_the_agenda_runs_every_call_after_what_it_reads(calls):
    ops = [(None, 1, *[read % at if at else ~0 for read in reads]) for at, (_, reads) in enumerate(calls)]
    kinds = [kind for kind, _ in calls]
    order = batching.agenda(ops, kinds, 4)
    if skeleton._compiled:
        assert order == skeleton._python[batching, "agenda"](ops, kinds, 4)
    done = set()
    for kind, group in order:
        assert all(kinds[at] == kind for at in group)
        assert all(read < 0 or read in done for at in group for read in ops[at][2:])
        done.update(group)
    assert done == set(range(len(calls)))
