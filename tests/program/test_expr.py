"""Expressions over a batch of frames give what Python gives frame by frame."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_strategies import LEFT, RIGHT

from recursive_gluon.program import NO_NODE, NODE, Expr, const, evaluate, integer
from recursive_gluon.program.expr import from_json

PYTHON = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class Frames:
    """A batch of frames over one tree (the children of each node), with the look-ups of evaluate()."""

    def __init__(self, children, values, ints, node):
        self.children, self.node, self.ints = children, np.asarray(node), np.asarray(ints)
        # narrow, as the fields of a forest are
        self.values = np.asarray(values, np.int32)

    def child(self, nodes, positions, text):
        return np.array([self.children[n][p] for n, p in zip(nodes, positions)])

    def arity(self, nodes):
        return np.array([len(self.children[n]) for n in nodes])

    def leaf(self, nodes):
        return self.arity(nodes) == 0

    def index(self, nodes):
        return nodes

    def field(self, nodes, name):
        return self.values[nodes]


def one_by_one(expr, frames, node, ints):
    """The meaning of `expr` at one frame, in plain Python."""

    def value(e):
        if e.op in PYTHON:
            return PYTHON[e.op](*map(value, e.operands))
        if e.op in ("const", "int", "node", "none"):
            return {
                "const": lambda: e.operands[0],
                "int": lambda: ints[e.operands[0]],
                "node": lambda: node,
                "none": lambda: -1,
            }[e.op]()
        at = value(e.operands[0])
        if e.op == "child":
            return frames.children[at][value(e.operands[1])]
        return {
            "arity": lambda: len(frames.children[at]),
            "isleaf": lambda: not frames.children[at],
            "index": lambda: at,
            "isnone": lambda: at < 0,
            "field": lambda: int(frames.values[at]),
        }[e.op]()

    return value(expr)


@st.composite
def batches(draw):
    """Frames at the inner nodes of a random tree, numbered children first, with two integers each."""
    children, roots = [], []
    for number in range(draw(st.integers(2, 12))):
        count = draw(st.integers(0, len(roots)))
        children.append(roots[len(roots) - count :])
        del roots[len(roots) - count :]
        roots.append(number)
    children.append(roots)  # one root over all, so that there is an inner node
    values = draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=len(children), max_size=len(children)))
    inner = [k for k, c in enumerate(children) if c]
    nodes = draw(st.lists(st.sampled_from(inner), min_size=1, max_size=6))
    ints = [[draw(st.integers(-9, 9)), draw(st.integers(-9, 9))] for _ in nodes]
    return Frames(children, values, ints, nodes)


def numbers():
    last = Expr("child", (NODE, Expr("sub", (Expr("arity", (NODE,)), const(1)))))
    references = st.sampled_from([NODE, LEFT, last])
    looks = st.builds(
        lambda op, r: Expr(op, (r,)), st.sampled_from(["arity", "isleaf", "index", "isnone"]), references
    )
    fields = st.builds(lambda r: Expr("field", (r, "x")), references)
    leaves = st.one_of(
        looks,
        fields,
        st.sampled_from([integer(0), integer(1), Expr("isnone", (NO_NODE,))]),
        st.integers(-9, 9).map(const),
        st.booleans().map(const),
    )
    divisors = st.one_of(st.integers(-5, -1), st.integers(1, 5)).map(const)

    def wider(inner):
        binary = st.sampled_from(sorted(set(PYTHON) - {"neg", "floordiv", "mod"}))
        return st.one_of(
            st.builds(lambda op, a, b: Expr(op, (a, b)), binary, inner, inner),
            st.builds(
                lambda op, a, b: Expr(op, (a, b)), st.sampled_from(["floordiv", "mod"]), inner, divisors
            ),
            st.builds(lambda a: Expr("neg", (a,)), inner),
        )

    # products of more than two fields may leave 64 bits, where Python goes on
    return st.recursive(leaves, wider, max_leaves=5).filter(
        lambda e: sum(x.op == "mul" for x in e.walk()) < 2
    )


@given(expr=numbers(), frames=batches())
def test_a_batch_is_a_loop_over_frames(expr, frames):
    found = np.broadcast_to(evaluate(expr, frames), len(frames.node))
    wanted = [one_by_one(expr, frames, n, i) for n, i in zip(frames.node.tolist(), frames.ints.tolist())]
    assert found.tolist() == wanted


@pytest.mark.parametrize(
    "expr, wanted",
    [
        (Expr("add", (Expr("isleaf", (LEFT,)), Expr("isleaf", (RIGHT,)))), [2]),  # not a logical or
        (Expr("mul", (Expr("field", (NODE, "x")), const(4))), [4 * (2**31 - 1)]),  # not in 32 bits
        (Expr("neg", (Expr("isleaf", (LEFT,)),)), [-1]),
        (Expr("floordiv", (const(-7), const(2))), -4),
    ],
)
def test_numbers_are_those_of_python(expr, wanted):
    frames = Frames([[], [], [0, 1]], [0, 0, 2**31 - 1], [[0, 0]], [2])
    assert evaluate(expr, frames).tolist() == wanted


@given(expr=numbers())
def test_json_and_value(expr):
    assert from_json(expr.to_json()) == expr
    assert hash(from_json(expr.to_json())) == hash(expr)


@pytest.mark.parametrize(
    "data, match",
    [
        ("node", "an expression is a list"),
        ([], "an expression is a list"),
        ([1], "an expression is a list"),
        (["root"], "unknown structural operator 'root'"),
        (["child", ["root"], 0], "unknown structural operator 'root'"),
    ],
)
def test_wrong_json(data, match):
    with pytest.raises(ValueError, match=match):
        from_json(data)


@pytest.mark.parametrize(
    "expr, text",
    [
        (Expr("lt", (Expr("arity", (LEFT,)), const(2))), "(node.child(0).arity < 2)"),
        (Expr("neg", (Expr("add", (integer(0), const(1))),)), "(-(i0 + 1))"),
        (Expr("field", (NODE, "word")), "node['word']"),
        (Expr("isnone", (NO_NODE,)), "none.isnone"),
        (const(np.float32(0.5)), "0.5"),
        (const(np.bool_(True)), "True"),
    ],
)
def test_text(expr, text):
    assert str(expr) == text
