"""Structures grown during the run: decisions on tensors, outputs padded to max_nodes, the functional form."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import recursive_gluon as rg
from recursive_gluon.errors import MaxNodesError, TraceError


def grower():
    """A SubGraph that goes on while a gate is open; it returns its state and the sum over its leaves."""
    step, gate = nn.Dense(4, in_units=4), nn.Dense(1, in_units=4)
    grow = rg.SubGraph(outputs=2, blocks=[step, gate])

    @grow.define
    def body(F, node, h, depth):
        h = F.tanh(step(h))
        if depth < 4:
            if F.sum(gate(h), axis=1) > 0:
                left, right = grow(node, h, depth + 1), grow(node, h * 1.5, depth + 1)
                return h, left[1] + right[1]
        return h, F.sum(h, axis=1)

    mx.random.seed(3)
    grow.initialize(mx.init.Normal(1))
    return grow, step, gate


def start(trees=6):
    forest = rg.Forest([rg.Tree(label=1) for _ in range(trees)])
    h = mx.nd.random.normal(shape=(trees, 4))
    h.attach_grad()
    return forest, h


def depth_first(step, gate, h, depth=0):
    """The states of all calls in the order of plain recursion."""
    h = mx.nd.tanh(step(h))
    states = [h]
    if depth < 4 and gate(h).sum().asscalar() > 0:
        states += depth_first(step, gate, h, depth + 1) + depth_first(step, gate, h * 1.5, depth + 1)
    return states


def test_grown_as_eagerly():
    grow, step, _ = grower()
    forest, h = start()
    seen = []
    for active in (False, True):
        grow.hybridize(active)
        with autograd.record():
            state, total = grow(forest, h, 0)
            loss = state.sum() + (total ** 2).sum()
        loss.backward()
        seen.append([x.asnumpy() for x in (state, total, h.grad, step.weight.grad())])
    for eager, graph in zip(*seen):
        np.testing.assert_allclose(graph, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('executor', ['mxnet', 'reference'])
def test_padded_outputs_are_depth_first(executor):
    grow, step, gate = grower()
    forest, h = start()
    expected = [depth_first(step, gate, h[i:i + 1]) for i in range(6)]
    assert max(map(len, expected)) > 1
    grow.hybridize(executor=executor)
    (states, _), count = grow(forest, h, 0, max_nodes=40)
    assert states.shape == (6, 40, 4)
    assert count.asnumpy().tolist() == [len(e) for e in expected]
    for got, want in zip(states, expected):
        stacked = mx.nd.concat(*want, dim=0).asnumpy()
        np.testing.assert_allclose(got[:len(want)].asnumpy(), stacked, rtol=1e-4, atol=1e-5)
        assert not got[len(want):].asnumpy().any()


@pytest.mark.parametrize('executor', ['mxnet', 'reference'])
def test_gradients_of_padded_outputs(executor):
    grow, step, gate = grower()
    forest, h = start()
    with autograd.record():
        loss = mx.nd.concat(*[s for i in range(6) for s in depth_first(step, gate, h[i:i + 1])], dim=0).square().sum()
    loss.backward()
    expected = h.grad.asnumpy()
    grow.hybridize(executor=executor)
    with autograd.record():
        (states, _), _ = grow(forest, h, 0, max_nodes=40)
        loss = states.square().sum()
    loss.backward()
    np.testing.assert_allclose(h.grad.asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('executor', ['mxnet', 'reference'])
def test_more_nodes_than_declared(executor):
    grow, _, _ = grower()
    forest, h = start()
    grow.hybridize(executor=executor)
    with pytest.raises(MaxNodesError, match=r'grew to \d+ nodes, declared were max_nodes=2'):
        grow(forest, h, 0, max_nodes=2)[1].wait_to_read()


def test_mutual_subgraphs_need_no_base_case_first():
    even, odd = rg.SubGraph(prefix='even_'), rg.SubGraph(prefix='odd_')

    @even.define
    def is_even(F, x, n):
        return odd(x, n - 1) if n > 0 else F.ones_like(x)

    @odd.define
    def is_odd(F, x, n):
        return even(x, n - 1) if n > 0 else F.zeros_like(x)

    x = mx.nd.zeros((2, 1))
    for active in (False, True):
        even.hybridize(active)
        assert even(x, 6).asnumpy().ravel().tolist() == [1, 1]
        assert even(x, 5).asnumpy().ravel().tolist() == [0, 0]


def test_subgraphs_are_declared_and_defined_once():
    graph = rg.SubGraph()
    with pytest.raises(TraceError, match='body was never given'):
        graph(mx.nd.zeros((1, 1)), 1)
    graph.define(lambda F, x, n: x)
    with pytest.raises(TraceError, match='defined already'):
        graph.define(lambda F, x, n: x)
    with pytest.raises(ValueError, match='at least one'):
        rg.SubGraph(outputs=0)


def test_shared_calls_of_a_counter_are_one_frame():
    fib = rg.SubGraph()

    @fib.define
    def body(F, n):
        return F.ones((1, 1)) * n if n <= 1 else fib(n - 1) + fib(n - 2)

    fib.hybridize()
    assert fib(30).asscalar() == 832040
    assert sum(rg.explain(fib, 30, train=False).frames.values()) == 31
