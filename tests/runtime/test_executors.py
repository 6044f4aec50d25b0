"""Executors agree: the batched one and the native core give what the reference gives, outputs and every gradient."""
from __future__ import annotations

import numpy as np
import pytest
from agreement import assert_close, gradients_of, numbers
from bodies import BODIES, body_calls, dense
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from programs import F, Weights, call_of, structure, trace
from random_bodies import RandomBody
from strategies import dags, trees

from recursive_gluon._compat import mx
from recursive_gluon.data.forest import Forest
from recursive_gluon.data.tree import Tree
from recursive_gluon.errors import ArityError, DepthLimitError, TraceError, VisitError
from recursive_gluon.runtime import batched, reference
from recursive_gluon.runtime.core import executor as native
from recursive_gluon.runtime.core.programs import why_not
from recursive_gluon.schedule.faults import Unseen

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def executors_for(call):
    """What can run a call, beside the reference."""
    yield "mxnet", batched.run
    if not why_not(call):
        yield "native", native.run


def assert_same(call, random, tolerance):
    """Run a call in all executors and compare; returns the reference's result."""
    wanted = reference.run(call)
    ograds = [mx.nd.array(random.normal(size=x.shape), dtype=x.dtype) for x in wanted.outputs]
    gradients = gradients_of(wanted, ograds) if call.keep else {}
    for name, executor in executors_for(call):
        got = executor(call)
        assert_close(f"{name} output", {str(j): numbers(x) for j, x in enumerate(got.outputs)},
                     {str(j): numbers(x) for j, x in enumerate(wanted.outputs)}, tolerance)
        if call.keep:
            assert_close(f"{name} gradient", gradients_of(got, ograds), gradients, tolerance)
    return wanted


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_bodies(name, dtype):
    shapes = [(1, 1, "random", False), (3, 99, "random", False), (2, 8, "chain", False), (4, 99, "random", True)]
    for call, random in body_calls(name, dtype, shapes):
        assert_same(call, random, TOLERANCE[dtype])
        call.keep = call.train = False
        assert_same(call, random, TOLERANCE[dtype])


# -- what both refuse, in the same words -------------------------------------------------------------------------------
def both_raise(call, error):
    """The message with which executors refuse a call; of several frames at fault each may name another."""
    messages = []
    for executor in (*(run for _, run in executors_for(call)), reference.run):
        with pytest.raises(error) as caught:
            executor(call)
        messages.append(str(caught.value))
    assert len({message.split("]: ")[-1] for message in messages}) == 1, messages
    return messages[0]


def refused(run, error, s=None, arities=(2,), counts=(0, 1, 2, 3), args=(), **options):
    weights = Weights()
    program, _ = trace(run, weights, args, counts)
    random = np.random.RandomState(0)
    s = s if s is not None else structure(random, 1, 9, arities)
    return both_raise(call_of(program, weights, random, s, args=args, **options), error)


def test_missing_child():
    def run(me, node):
        return node["x"] if node.is_leaf else me(node.left) + me(node.right)
    assert "f[root" in refused(run, ArityError, arities=(1,))


def test_unseen_arity():
    def run(me, node):
        n = len(node.children)
        return node["x"] if n == 0 else F.add_n(*[me(node.children[i]) for i in range(n)])
    assert refused(run, Unseen, arities=(5,)).startswith("f[root]: node.arity is 5, a path that was never traced")


def test_raise():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        if node.arity == 3:
            raise ValueError("three are too many")
        return me(node.left)
    assert "three are too many" in refused(run, TraceError, arities=(3,))


def test_depth_limit():
    def run(me, node, n):
        return node["x"] if n == 0 else me(node, n - 1)
    assert "max_depth" in refused(run, DepthLimitError, args=(-1,), max_depth=50)
    chain = Forest([Tree.from_ptb("(0 " * 30 + "leaf" + ")" * 30)]).structure

    def down(me, node):
        return node["x"] if node.is_leaf else me(node.left)
    assert ".left.left.left" in refused(down, DepthLimitError, chain, max_depth=20)


def test_a_frame_that_waits_for_itself():
    def run(me, node):
        return node["x"] if node.is_leaf else me(node) + me(node.left)
    assert refused(run, DepthLimitError).startswith("f[root")


def test_a_ring_of_frames():
    def other(me, node):
        return node["x"] if node.is_leaf else me.of(run)(node)

    def run(me, node):
        return node["x"] * 2 if node.is_leaf else me.of(other)(node) + me(node.left)
    refused(run, DepthLimitError)


def test_nodes_visited_twice_or_never():
    def run(me, node):
        return node["x"] if node.is_leaf else me(node.left)
    assert "visited 0 times" in refused(run, VisitError, returns="nodes")

    def twice(me, node, h):
        return h + node["x"] if node.is_leaf else me(node.left, h) + me(node.left, h) + me(node.right, h)
    assert "visited 2 times" in refused(twice, VisitError, args=("tensor",), returns="nodes")


def test_draws_do_not_depend_on_the_order_of_discovery():
    """A counter without a node is one frame for all trees, which meet it at different depths."""
    weights = Weights()

    def noise(me, n):
        return F.Dropout(weights("ones", 1, 4) * 1, p=0.5) if n <= 0 else F.Dropout(me(n - 1), p=0.1) * 2

    def run(me, node, n):
        h = me.of(noise)(n)
        return h + node["x"] if node.is_leaf else h + me(node.left, n - 1)

    program, _ = trace(run, weights, (9,))
    random = np.random.RandomState(3)
    for _ in range(5):
        assert_same(call_of(program, weights, random, structure(random, 4, 9, (1, 2)), args=(9,)), random, 1e-9)


def test_depth_is_free():
    """A chain of 3,000 nodes runs in both without Python's stack."""
    weights = Weights()

    def run(me, node):
        return node["x"] if node.is_leaf else F.tanh(dense(weights, me(node.left), "w", 4))

    program, _ = trace(run, weights)
    random = np.random.RandomState(0)
    s = Forest([Tree.from_ptb("(0 " * 3000 + "leaf" + ")" * 3000)]).structure
    assert_same(call_of(program, weights, random, s, keep=False), random, 1e-9)


@pytest.mark.parametrize("executor", [batched, reference])
def test_backward_twice(executor):
    """And with other calls in between, whose buffers are not this one's."""
    weights = Weights()
    program, _ = trace(BODIES["carry"].make(weights), weights, (0,))
    random = np.random.RandomState(0)
    result = executor.run(call_of(program, weights, random, structure(random), args=(0,)))
    ograds = [mx.nd.ones_like(x) for x in result.outputs]
    first = gradients_of(result, ograds)
    other = executor.run(call_of(program, weights, random, structure(random), args=(0,)))
    gradients_of(other, [mx.nd.ones_like(x) for x in other.outputs])
    second = gradients_of(result, ograds)
    assert all((first[name] == second[name]).all() for name in first)


# -- random bodies on random forests ----------------------------------------------------------------------------------
BODIES_DRAWN, FORESTS_EACH = 100, 20


def forest_for(random, body, large):
    """A structure for a random body: mostly small, some large, some deep, DAGs where that does not explode."""
    kind = "chain" if random.rand() < 0.2 else "random"
    dag = random.rand() < 0.4 and not body.takes_tensor
    trees, nodes = (1, 500) if large else (int(random.randint(1, 4)), int(random.choice([1, 3, 7, 14])))
    return structure(random, trees, nodes, body.arities, kind, dag)


@pytest.mark.parametrize("batch", range(10))
def test_random_forests(batch):
    """2,000 random forests: 100 random bodies, each on 20."""
    for seed in range(batch, BODIES_DRAWN, 10):
        weights = Weights()
        body = RandomBody(seed, weights)
        program, tracer = trace(body.run, weights, body.args)
        if tracer.records:  # a loop that cannot be rolled knows the counts for which it was traced
            body.arities = (2, 3)
        random = np.random.RandomState(seed)
        for i in range(FORESTS_EACH):
            s = forest_for(random, body, large=i == FORESTS_EACH - 1 and seed % 10 == seed // 10)
            returns = "nodes" if i % 5 == 4 and body.visits_each_once and not s.dag else "roots"
            call = call_of(program, weights, random, s, args=body.args, train=i % 3 > 0, returns=returns)
            try:
                assert_same(call, random, TOLERANCE["float64"])
            except Exception as error:
                raise AssertionError(f"body {seed}, forest {i}, {s.num_nodes} nodes") from error


@settings(max_examples=40)
@given(st.data())
def test_drawn_forests(data):
    """The same on forests that Hypothesis can make smaller."""
    seed = data.draw(st.integers(0, 19), "body")
    if seed not in _drawn_bodies:
        weights = Weights()
        body = RandomBody(seed, weights)
        _drawn_bodies[seed] = (*trace(body.run, weights, body.args), weights, body)
    program, _, weights, body = _drawn_bodies[seed]
    shapes = trees(max_arity=3) if body.takes_tensor else st.one_of(trees(max_arity=3), dags(max_arity=1))
    s = Forest(data.draw(st.lists(shapes, min_size=1, max_size=3), "trees")).structure
    random = np.random.RandomState(seed)
    try:
        assert_same(call_of(program, weights, random, s, args=body.args), random, TOLERANCE["float64"])
    except (ArityError, Unseen):
        reject()  # a number of children for which the body is not made


_drawn_bodies: dict = {}
