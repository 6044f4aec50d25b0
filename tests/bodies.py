"""Hand-written bodies, each for something that executors could get wrong."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest
from programs import WIDTH, WORDS, F, Weights, call_of, structure, trace

BODIES: Dict[str, "Case"] = {}


@dataclass
class Case:
    """A body and what it is run on; `options` go to the call."""

    make: Callable[[Any], Callable]
    args: Tuple[Any, ...] = ()
    arities: Tuple[int, ...] = (1, 2, 3)
    dags: bool = True
    nodes: int = 14
    only: str = ""  # the dtype, where it is not both
    options: Dict[str, Any] = field(default_factory=dict)
    counts: Tuple[int, ...] = (0, 1, 2, 3)


def body(**what):
    """Register ``make(P)``, which returns the body for some weights."""
    def register(make):
        BODIES[make.__name__] = Case(make, **what)
        return make
    return register


def body_calls(name, dtype, shapes):
    """Calls of a body, and the generator of its numbers, on forests of these (trees, nodes at most, kind, DAGs)."""
    case = BODIES[name]
    if case.only and case.only != dtype:
        pytest.skip(f"for {case.only}")
    weights = Weights(dtype)
    program, _ = trace(case.make(weights), weights, case.args, case.counts)
    random = np.random.RandomState(5)
    for count, nodes, kind, dag in shapes:
        s = structure(random, count, min(nodes, case.nodes), case.arities, kind, dag and case.dags)
        yield call_of(program, weights, random, s, dtype, case.args, **case.options), random


def dense(P, x, name, units, inputs=WIDTH):
    return F.FullyConnected(x, P(f"{name}_w", units, inputs), P(f"{name}_b", units), num_hidden=units)


@body(arities=(2,))
def binary_lstm_with_slices(P):
    def run(me, node):
        if node.is_leaf:
            x = dense(P, node["x"], "leaf", 4)
            return F.tanh(x), x
        hl, cl = me(node.left)
        hr, cr = me(node.right)
        g = dense(P, F.concat(hl, hr, dim=1), "gates", 12, 8)
        c = F.sigmoid(g[:, :4]) * cl + F.sigmoid(g[:, 4:8]) * cr
        return F.tanh(c) * F.sigmoid(g[:, 8:12]), c
    return run


@body(arities=(2,))
def binary_lstm_with_split(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"], F.tanh(node["x"])
        hl, cl = me(node.left)
        hr, cr = me(node.right)
        i, f, o = F.split(dense(P, hl, "l", 12) + dense(P, hr, "r", 12), num_outputs=3, axis=1)
        c = F.sigmoid(i) * cl + F.sigmoid(f) * cr
        return F.tanh(c) * F.sigmoid(o), c
    return run


@body(arities=(1, 2, 5))
def child_sum_lstm(P):
    def run(me, node):
        x = dense(P, node["x"], "input", 4)
        if node.is_leaf:
            return F.tanh(x), x
        states = [me(child) for child in node.children]
        h = F.add_n(*[h for h, _ in states])
        c = sum(F.sigmoid(dense(P, h, "forget", 4) + x) * c for h, c in states) + F.tanh(dense(P, h, "update", 4))
        return F.tanh(c), c
    return run


@body(arities=(1, 2, 4))
def sum_over_no_children_too(P):
    def run(me, node):
        total = node["x"] * 0.5
        for child in node.children:
            total = total + me(child)
        return F.tanh(dense(P, total, "w", 4))
    return run


@body(args=(0,), arities=(1, 2, 4))
def carry(P):
    def run(me, node, place):
        h, total = node["x"], node["x"] * 2
        if place > 1:
            h = F.sigmoid(h)
        for i, child in enumerate(node.children):
            r = me(child, i + 1)
            h = F.tanh(dense(P, h, "carry", 4) + r)
            total = total + r
        return h + total
    return run


@body(arities=(1, 2, 4))
def two_carries(P):
    def run(me, node):
        a, b = node["x"], F.tanh(node["x"])
        for child in node.children:
            r = me(child)
            a, b = F.tanh(dense(P, b, "a", 4) + r), a * r
        return a - b
    return run


@body(arities=(1, 2, 3), dags=True)
def n_ary_by_len(P):
    def run(me, node):
        if len(node.children) == 0:
            return node["x"]
        states = [me(node.children[i]) for i in range(len(node.children))]
        return F.tanh(dense(P, F.add_n(*[dense(P, h, f"child{i}", 4) for i, h in enumerate(states)]), "out", 4))
    return run


@body(args=("tensor", 0), dags=False)
def top_down(P):
    def run(me, node, h, depth):
        h = F.tanh(dense(P, h, "down", 4) + node["x"])
        if node.is_leaf or depth >= 3:
            return h * 2
        return F.add_n(*[me(child, h, depth + 1) for child in node.children]) + h
    return run


@body(args=("tensor",), dags=False, arities=(2,))
def same_value_twice(P):
    def run(me, node, h):
        h = F.tanh(h + node["x"])
        if node.is_leaf:
            return h, h
        a, b = me(node.left, h)
        c, d = me(node.right, h)
        return h, dense(P, a * c, "w", 4) + b + d
    return run


@body()
def mutual(P):
    def odd(me, node):
        if node.is_leaf:
            return dense(P, node["x"], "odd", 4)
        return F.tanh(F.add_n(*[me.of(run, "even")(child) for child in node.children]))

    def run(me, node):
        if node.is_leaf:
            return node["x"]
        return F.sigmoid(dense(P, sum([me.of(odd)(child) for child in node.children]), "even", 4)) + me.of(odd)(node)
    return run


@body(args=(5,))
def counter(P):
    def down(me, n, h):
        if n <= 0:
            return h
        return me(n - 1, F.tanh(dense(P, h, "step", 4)))

    def run(me, node, n):
        if node.is_leaf:
            return me.of(down)(n, node["x"])
        return F.add_n(*[me(child, n - 1) for child in node.children]) + me.of(down)(n + 1, node["x"])
    return run


@body(args=(4,))
def fibonacci_of_nothing(P):
    def fibonacci(me, n):
        if n < 2:
            return P("one", 1, 4) * 1.0
        return F.tanh(me(n - 1) + dense(P, me(n - 2), "fib", 4))

    def run(me, node, n):
        if node.is_leaf:
            return node["x"] * me.of(fibonacci)(n)
        return F.add_n(*[me(child, n + 1) for child in node.children])
    return run


@body(args=("tensor", 0), dags=False, nodes=1)
def grown_by_value(P):
    def run(me, node, h, depth):
        h = F.tanh(dense(P, h, "down", 4)) * 1.5
        if depth >= 5:
            return h
        if h.sum() > 0:
            return me(node, h, depth + 1) + me(node, dense(P, h, "other", 4), depth + 1)
        return h * 3
    return run


@body(arities=(2, 3))
def value_decides_on_the_way_up(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        h = F.add_n(*[dense(P, me(child), "up", 4) for child in node.children])
        if h.mean() > 0:
            return F.tanh(h)
        if h.max() > 0.5:
            return h * node["x"]
        return F.sigmoid(dense(P, h, "low", 4))
    return run


@body(args=("tensor",), dags=False)
def untouched(P):
    def run(me, node, h):
        if node.is_leaf:
            return h, node["x"], P("bias", 1, 4)
        if node.arity == 1:
            a, b, c = me(node.left, h)
            return a, h, b + c
        a, b, c = me(node.left, F.tanh(h))
        return c, P("other", 1, 4), dense(P, a, "w", 4) * b
    return run


@body(arities=(1, 2))
def pass_through(P):
    def run(me, node):
        if node.is_leaf:
            return dense(P, node["x"], "leaf", 4)
        if node.arity == 1:
            return me(node.left)
        return F.tanh(me(node.left) * me(node.right))
    return run


@body(arities=(1, 2))
def swapped_outputs(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"], dense(P, node["x"], "leaf", 4)
        a, b = me(node.left)
        if node.arity == 1:
            return b, a
        c, d = me(node.right)
        return b + c, F.tanh(a * d)
    return run


@body(arities=(1, 2, 3))
def heads(P):
    def run(me, node):
        if node.is_leaf:
            h = node["x"]
        else:
            h = F.tanh(sum([dense(P, me(child)[0], "w", 4) for child in node.children]))
        return h, F.log_softmax(dense(P, F.tanh(dense(P, h, "hidden", 4)), "head", 3), axis=-1)
    return run


@body(arities=(2,), options={"returns": "nodes"}, dags=False)
def heads_at_nodes(P):
    def run(me, node):
        if node.is_leaf:
            h = dense(P, node["x"], "leaf", 4)
        else:
            h = F.tanh(me(node.left)[0] + dense(P, me(node.right)[0], "w", 4))
        return h, F.softmax(dense(P, h, "head", 3), axis=-1)
    return run


@body(arities=(1, 2))
def mean_over_everything(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        h = sum([me(child) for child in node.children])
        return F.tanh(dense(P, h, "w", 4)) * h.mean()
    return run


@body(arities=(1, 2))
def softmax_over_the_batch_axis(P):
    def run(me, node):
        if node.is_leaf:
            return dense(P, node["x"], "leaf", 4)
        h = sum([me(child) for child in node.children])
        return F.softmax(h, axis=0) * node["x"] + h
    return run


@body(arities=(1, 2))
def whole_matrix(P):
    def run(me, node):
        x = F.reshape(node["x"], shape=(2, 2))
        if node.is_leaf:
            return F.dot(P("m", 2, 2), x)
        return F.tanh(F.dot(sum([me(child) for child in node.children]), P("m", 2, 2)) + x)
    return run


def _batch_norm(P, x, **kwargs):
    return F.BatchNorm(x, P("gamma", 4), P("beta", 4), P("running_mean", 4, state=True),
                       P("running_var", 4, state=True), fix_gamma=False, momentum=0.8, **kwargs)


@body(arities=(1, 2))
def batch_norm(P):
    # Over the batch of one that a body has, BatchNorm gives beta; over rows of a frame it has something to normalise.
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        h = sum([dense(P, me(child), "w", 4) for child in node.children])
        rows = _batch_norm(P, F.concat(h, node["x"], F.tanh(h), dim=0))
        return F.sum(F.tanh(rows), axis=0, keepdims=True)
    return run


@body(args=("tensor",), dags=False, arities=(1, 2))
def batch_norm_twice_a_node(P):
    def run(me, node, h):
        rows = _batch_norm(P, F.concat(h, node["x"], dim=0))
        h = F.tanh(F.sum(rows, axis=0, keepdims=True))
        if node.is_leaf:
            return h
        return me(node.left, h) + me(node.left, dense(P, h, "w", 4)) * 2
    return run


@body(arities=(1, 2))
def batch_norm_with_running_statistics(P):
    def run(me, node):
        if node.is_leaf:
            return _batch_norm(P, node["x"], use_global_stats=True)
        h = sum([me(child) for child in node.children])
        return F.tanh(_batch_norm(P, dense(P, h, "w", 4), use_global_stats=True))
    return run


@body(arities=(1, 2), options={"train": False})
def batch_norm_in_prediction(P):
    def run(me, node):
        if node.is_leaf:
            return _batch_norm(P, node["x"])
        return F.tanh(_batch_norm(P, dense(P, sum([me(child) for child in node.children]), "w", 4)))
    return run


@body(arities=(1, 2), only="float32")  # MXNet's LRN knows no other
def without_a_rule(P):
    def run(me, node):
        if node.is_leaf:
            return F.smooth_l1(node["x"], scalar=1.0) + F.cumsum(node["x"], axis=1)
        h = dense(P, sum([me(child) for child in node.children]), "w", 4)
        return F.LRN(F.reshape(h, shape=(1, 4, 1, 1)), nsize=3).reshape((1, 4)) + F.hard_sigmoid(h)
    return run


@body(arities=(1, 2))
def dropout(P):
    def run(me, node):
        if node.is_leaf:
            return F.Dropout(node["x"], p=0.3)
        h = sum([F.Dropout(me(child), p=0.5) for child in node.children])
        return F.Dropout(F.tanh(dense(P, h, "w", 4)), p=0.2) + F.Dropout(h, p=0.2)
    return run


@body(arities=(1, 2), options={"train": False})
def dropout_in_prediction(P):
    return dropout(P)


@body(args=("tensor", 2), dags=False, arities=(1, 2))
def dropout_of_arguments_and_counters(P):
    def noise(me, n):
        if n <= 0:
            return F.Dropout(P("noise", 1, 4) * 2, p=0.5)
        return F.Dropout(me(n - 1) + 1, p=0.5)

    def run(me, node, h, n):
        h = F.Dropout(h, p=0.5, axes=(0,)) + me.of(noise)(n)
        if node.is_leaf:
            return h * node["x"]
        return F.add_n(*[F.Dropout(me(child, h, n + 1), p=0.1) for child in node.children])
    return run


@body(only="float32", arities=(1, 2))
def random_numbers(P):
    def run(me, node):
        noise = F.random.uniform(-1, 1, shape=(1, 4)) + F.random.normal(0, 0.5, shape=(1, 4))
        if node.is_leaf:
            return node["x"] + noise
        return F.tanh(dense(P, sum([me(child) for child in node.children]), "w", 4)) * noise
    return run


@body(arities=(1, 2))
def embedding(P):
    def run(me, node):
        e = F.Embedding(node["word"], P("table", WORDS, 4), input_dim=WORDS, output_dim=4, dtype=P.dtype)
        if node.is_leaf:
            return F.tanh(e)
        return F.tanh(dense(P, sum([me(child) for child in node.children]), "w", 4)) + e
    return run


@body(arities=(1, 2))
def embedding_row_sparse(P):
    def run(me, node):
        e = F.Embedding(node["word"], P("table", WORDS, 4, sparse=True), input_dim=WORDS, output_dim=4, dtype=P.dtype,
                        sparse_grad=True)
        if node.is_leaf:
            return e
        return F.tanh(dense(P, sum([me(child) for child in node.children]), "w", 4)) * e
    return run


@body(arities=(1, 2, 3))
def float_fields(P):
    def run(me, node):
        x = node["x"] * node["score"].reshape((1, 1))
        if node.is_leaf:
            return x
        return F.tanh(sum([me(child) * child["x"] for child in node.children])) + x * node.left["score"].reshape((1, 1))
    return run


@body(arities=(1, 2))
def shared_computations(P):
    def run(me, node):
        doubled = P("w", 4, 4) * 2
        if node.is_leaf:
            return F.FullyConnected(node["x"], doubled, P("b", 4), num_hidden=4)
        turned = F.transpose(P("flat", 16).reshape((4, 4)))
        h = sum([me(child) for child in node.children])
        h = F.FullyConnected(h, doubled + turned, no_bias=True, num_hidden=4)
        return F.tanh(h) + F.exp(P("b", 4)).reshape((1, 4))
    return run


@body(arities=(1, 2))
def shared_computations_returned(P):
    def run(me, node):
        start = F.tanh(P("start", 1, 4))
        if node.is_leaf:
            return start, start * 2
        a, b = me(node.left)
        return F.tanh(dense(P, a + b, "w", 4)), start
    return run


@body(arities=(1, 2, 3))
def structure_decides(P):
    def run(me, node):
        x = node["x"]
        if node["label"] == 1:
            x = F.tanh(dense(P, x, "one", 4))
        elif node.index % 2 == 0:
            x = x * 2
        if node.is_leaf:
            return x
        if node.arity > 2:
            return me(node.left) + me(node.children[-1]) * x
        return F.sigmoid(dense(P, sum([me(child) for child in node.children]), "w", 4)) + x
    return run


@body(arities=(2,))
def grandchildren(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        if node.left.is_leaf:
            return F.tanh(me(node.left) - me(node.right))
        return dense(P, me(node.left.left) + me(node.left.right), "w", 4) * me(node.right) + node.left["x"]
    return run


@body(args=(3,), arities=(1, 2))
def integers_as_tensors(P):
    def run(me, node, n):
        x = node["x"] * node.arity + n
        if node.is_leaf:
            return x + node.index
        return F.tanh(dense(P, sum([me(child, n + 2) for child in node.children]), "w", 4)) * n + x
    return run


@body(arities=(1, 2))
def nothing_learned(P):
    def run(me, node):
        if node.is_leaf:
            return F.BlockGrad(node["x"]), F.argmax(node["x"], axis=1)
        a, b = me(node.left)
        return F.BlockGrad(a * 2), b + 1
    return run


@body(arities=(1, 2))
def scalars_of_shape_one(P):
    def run(me, node):
        score = node["score"]
        if node.is_leaf:
            return score
        return F.tanh(sum([me(child) for child in node.children])) + score * 2
    return run


@body(arities=(1, 2, 3))
def loop_of_heads_and_carries(P):
    def run(me, node):
        h, score = node["x"], node["score"].reshape((1, 1))
        for child in node.children:
            a, s = me(child)
            h = F.tanh(dense(P, F.concat(h, a, dim=1), "w", 4, 8))
            score = score + dense(P, a, "score", 1) * s
        return h, score
    return run


@body(arities=(1, 2, 3))
def two_loops(P):
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        hs = [me(child) for child in node.children]
        mean = F.stack(*hs).sum(axis=0)
        return mean + sum(F.sigmoid(dense(P, h, "gate", 4)) * h for h in hs)
    return run
