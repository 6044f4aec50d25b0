"""The tracer: what a body becomes, what it refuses, and that its symbols compute what NDArrays compute."""
from __future__ import annotations

import operator
import textwrap

import numpy as np
import pytest
from programs import F, Weights, trace

from recursive_gluon._compat import mx
from recursive_gluon.capture.nodes import Layout
from recursive_gluon.capture.symbols import TracedSymbol, traced, tracing
from recursive_gluon.capture.trace import Trace
from recursive_gluon.capture.tracer import Tracer
from recursive_gluon.errors import NoBaseCaseError, PathMismatchError, TraceError
from recursive_gluon.program.ir import ForEach


def assert_text(run, text, **options):
    program, tracer = trace(run, **options)
    assert str(program) == textwrap.dedent(text).lstrip("\n")
    return tracer


# -- paths ----------------------------------------------------------------------------------------------------------
def test_both_ways():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        h = me(node.left)
        if h.sum() > 0:
            return F.tanh(h)
        return h

    assert_text(run, """
        program f -> 1 outputs

        function f(node) -> 1:
          if node.isleaf is True:
            %0 = node['x']
            return %0
          if node.isleaf is False:
            %1 = invoke f(node.child(0))
            %2 = sum(%1)
            %3 = _greater_scalar(%2, scalar=0)
            if %3 is True:
              %4 = tanh(%1)
              return %4
            if %3 is False:
              return %1
        """)


def test_the_base_path_may_be_the_second():
    def run(me, node):
        if node.arity > 0:
            return me(node.left) * 2
        return node["x"]

    assert_text(run, """
        program f -> 1 outputs

        function f(node) -> 1:
          if (node.arity > 0) is True:
            %0 = invoke f(node.child(0))
            %1 = _mul_scalar(%0, scalar=2)
            return %1
          if (node.arity > 0) is False:
            %2 = node['x']
            return %2
        """)


def test_mutual_recursion():
    def other(me, node, n):
        return me.of(run)(node.left, n + 1)

    def run(me, node, n):
        if node.is_leaf:
            return node["x"]
        return me.of(other)(node, n)

    assert_text(run, """
        program f -> 1 outputs

        function f(node, i0) -> 1:
          if node.isleaf is True:
            %0 = node['x']
            return %0
          if node.isleaf is False:
            %1 = invoke other(node, i0)
            return %1

        function other(node, i0) -> 1:
          %0 = invoke f(node.child(0), (i0 + 1))
          return %0
        """, args=(0,))


def test_constants_make_functions_of_their_own():
    def run(me, node, h, flag):
        if node.is_leaf:
            return h
        return me(node.left, F.tanh(h), not flag) if flag else me(node.right, h, flag)

    program, _ = trace(run, args=("tensor", True))
    assert sorted(program.functions) == ["f", "f_1"]


def test_the_same_question_is_asked_once():
    def run(me, node):
        x = F.tanh(node["x"]) if node.is_leaf else node["x"]
        if node.is_leaf:
            return x
        return me(node.left) + x

    program, _ = trace(run)
    assert str(program).count("isleaf") == 2


def test_counters_fold():
    def run(me, node, i):
        if i + 1 + 1 > 5 or i + 2 > 5:
            return node["x"]
        return me(node, i + 1 - 3 + 2)

    assert_text(run, """
        program f -> 1 outputs

        function f(node, i0) -> 1:
          if ((i0 + 2) > 5) is True:
            %0 = node['x']
            return %0
          if ((i0 + 2) > 5) is False:
            %1 = invoke f(node, i0)
            return %1
        """, args=(0,))


def test_arities_are_a_switch():
    def run(me, node):
        n = len(node.children)
        if n == 0:
            return node["x"]
        return F.add_n(*[me(node.children[i]) for i in range(n)])

    tracer = assert_text(run, """
        program f -> 1 outputs

        function f(node) -> 1:
          if node.arity is 0:
            %0 = node['x']
            return %0
          if node.arity is 2:
            %1 = invoke f(node.child(0))
            %2 = invoke f(node.child(1))
            %3 = add_n(%1, %2, num_args=2)
            return %3
        """, counts=(0, 2))
    assert tracer.records == []


def test_raising_paths_stay():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        raise ValueError("no children, please")

    program, _ = trace(run)
    assert "    raise ValueError: no children, please\n" in str(program)


# -- refusals -------------------------------------------------------------------------------------------------------
def refused(error, run, *parts, **options):
    with pytest.raises(error) as caught:
        trace(run, **options)
    for part in parts:
        assert part in str(caught.value)


def test_no_base_case():
    refused(NoBaseCaseError, lambda me, node: me(node.left) + 1, "every path through f calls f again")


def test_no_base_case_of_two():
    def other(me, node):
        return me.of(run)(node.left)

    def run(me, node):
        return me.of(other)(node) if node.is_leaf else me.of(other)(node.right)

    refused(NoBaseCaseError, run, "f", "other")


def test_paths_return_different_numbers():
    def run(me, node):
        return node["x"] if node.is_leaf else (node["x"], node["x"])

    refused(PathMismatchError, run, "returns 2 outputs where node.isleaf is False, but 1 on its base path")


def test_nesting_counts():
    def run(me, node):
        x = node["x"]
        return ((x, x), x) if node.is_leaf else (x, (x, x))

    refused(PathMismatchError, run)


@pytest.mark.parametrize("read", [lambda x: x.asscalar(), lambda x: x.asnumpy(), float, int, lambda x: [1][x]])
def test_values_cannot_be_read(read):
    def run(me, node):
        return node["x"] * read(node["x"])

    refused(TraceError, run, "test_tracer.py:", "the value of a tensor")


def test_assignment_to_a_slice():
    def run(me, node):
        x = F.tanh(node["x"])
        x[0] = 1
        return x

    refused(TraceError, run, "assignment to a slice")


def test_too_many_paths():
    def run(me, node):
        x = node["x"]
        for i in range(12):
            if node["label"] == i:
                x = x + i
        return x

    refused(TraceError, run, "more than 256 paths", "node['label']")


def test_wrong_returns():
    refused(TraceError, lambda me, node: "text", "returned str")
    refused(TraceError, lambda me, node: me(node, [1]) if node.is_leaf else node["x"], "passes list")


# -- loops ----------------------------------------------------------------------------------------------------------
def rolled(run, **options):
    """The ForEach of a body whose loop is rolled, and the program."""
    program, tracer = trace(run, **options)
    assert tracer.records == []
    return [n for b in program.functions["f"].blocks() for n in b.nodes if isinstance(n, ForEach)], program


def test_sum_of_a_list():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        return F.tanh(F.add_n(*[me(child) for child in node.children]))

    assert_text(run, """
        program f -> 1 outputs

        function f(node) -> 1:
          if node.isleaf is True:
            %0 = node['x']
            return %0
          if node.isleaf is False:
            %1 = for each child of node: f.loop0(child, position)
            %2 = tanh(%1)
            return %2

        function f.loop0(node, i0) -> 1:
          %0 = invoke f(node)
          return %0
        """)


@pytest.mark.parametrize("combine", [
    lambda hs: sum(hs),
    lambda hs: F.add_n(*hs),
    lambda hs: F.stack(*hs, axis=0).sum(axis=0),
    lambda hs: F.concat(*hs, dim=0).sum(axis=0, keepdims=True),
], ids=["sum", "add_n", "stack", "concat"])
def test_ways_to_sum(combine):
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        return F.tanh(combine([me(child) for child in node.children]))

    (loop,), program = rolled(run)
    assert (loop.captures, loop.carries, len(loop.outputs)) == ((), (), 1)
    assert "add_n" not in str(program) and "stack" not in str(program)


def test_carry():
    def run(me, node):
        h = node["x"]
        for child in node.children:
            h = F.tanh(h * me(child))
        return h

    (loop, *_), program = rolled(run)
    assert len(loop.carries) == 1 and len(loop.outputs) == 1
    body = program.functions[loop.function]
    assert body.num_outputs == 1 and len(body.args) == 1


def test_accumulating_is_a_sum():
    def run(me, node):
        total = node["x"]
        for child in node.children:
            total += me(child)
        return total

    (loop, *_), program = rolled(run)
    assert loop.carries == () and "broadcast_add(" in str(program)


def test_counting_children():
    def run(me, node, place):
        if node.is_leaf:
            return node["x"]
        return F.add_n(*[me(child, i + 2) for i, child in enumerate(node.children)])

    (loop,), program = rolled(run, args=(0,))
    assert "invoke f(node, (i1 + 2))" in str(program)


def test_later_loops_join_the_first():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        hs = [me(child) for child in node.children]
        total = F.add_n(*hs)
        return total + sum(F.sigmoid(h) * h for h in hs)

    (loop,), _ = rolled(run)
    assert len(loop.outputs) == 2


def test_what_is_known_before_is_captured():
    def run(me, node, h):
        if node.is_leaf:
            return h
        h = F.tanh(h)
        return F.add_n(*[me(child, h) * h for child in node.children])

    (loop,), _ = rolled(run, args=("tensor",))
    assert len(loop.captures) == 1


@pytest.mark.parametrize("combine, why", [
    (lambda me, cs: F.concat(*[me(c) for c in cs], dim=1).sum(axis=1, keepdims=True) * 1, "put together by Concat"),
    (lambda me, cs: [me(c) for c in cs][0] * 1, "a single child's value"),
    (lambda me, cs: F.add_n(*[me(c) * (i + 1) for i, c in enumerate(cs)]), ""),
], ids=["concat", "first", "weights"])
def test_not_rolled(combine, why):
    def run(me, node):
        return node["x"] if node.is_leaf else combine(me, node.children)

    program, tracer = trace(run)
    record, = tracer.records
    assert record.kind == "loop over children not rolled" and why in record.seen and "test_tracer.py:" in record.where
    assert "each number of children is a path of its own" in record.hint
    assert "if node.arity is 3:" in str(program)


def test_a_decision_in_a_loop_is_not_rolled():
    def run(me, node):
        if node.is_leaf:
            return node["x"]
        total = 0
        for child in node.children:
            h = me(child)
            total = total + (F.tanh(h) if h.sum() > 0 else h)
        return total

    _, tracer = trace(run)
    assert any("decision" in r.seen for r in tracer.records)


def test_loops_in_several_arms():
    """Names stay unique when a loop is rolled in one arm and nodes follow in the next."""
    def run(me, node, n):
        h = node["x"]
        if n > 3:
            h = F.tanh(h)
        for child in node.children:
            h = F.tanh(h * me(child, n + 1))
        return h

    program, _ = trace(run, args=(0,))  # verifies
    assert sorted(program.functions) == ["f", "f.loop0", "f.loop1"]


# -- users' own objects -----------------------------------------------------------------------------------------------
class Expression:
    """A node of a user's own, with slots that may be empty."""

    kind = "expression"

    @property
    def two(self):
        return self.left is not None and self.right is not None

    def first(self):
        return self.left


def test_objects():
    def run(me, node):
        assert node.kind == "expression"
        if node.left is None and node.right is None:
            return node.value
        if node.two:
            return me(node.first()) + me(node.right)
        return me(node.left) if node.right is None else me(node.right)

    layout = Layout(("value",), ("left", "right"), None, Expression)
    assert_text(run, """
        program f -> 1 outputs

        function f(node) -> 1:
          if (node.child(0)).isnone is True:
            if (node.child(1)).isnone is True:
              %0 = node['value']
              return %0
            if (node.child(1)).isnone is False:
              %1 = invoke f(node.child(1))
              return %1
          if (node.child(0)).isnone is False:
            if (node.child(1)).isnone is True:
              %2 = invoke f(node.child(0))
              return %2
            if (node.child(1)).isnone is False:
              %3 = invoke f(node.child(0))
              %4 = invoke f(node.child(1))
              %5 = broadcast_add(%3, %4)
              return %5
        """.replace("(node.child(0)).", "node.child(0).").replace("(node.child(1)).", "node.child(1)."), layout=layout)


def test_unknown_names():
    layout = Layout(("value",), ("left",), None, Expression)
    with pytest.raises(AttributeError, match="there are: is_leaf"):
        trace(lambda me, node: node.weight, layout=layout)
    with pytest.raises(KeyError, match="value"):
        trace(lambda me, node: node["weight"], layout=layout)


def test_strings_compare_as_their_codes():
    def run(me, node):
        return node["x"] * 2 if node["tag"] == "NP" else node["x"]

    assert "if (node['tag'] == 1145577856) is True:" in str(trace(run)[0])


# -- symbols behave as NDArrays -------------------------------------------------------------------------------------
A = np.arange(1, 7).reshape(2, 3) / 3
B = np.array([[2.0], [-3.0]])
C = np.arange(24).reshape(2, 3, 4) / 7

EXPRESSIONS = {
    "x + y": operator.add, "x - y": operator.sub, "x * y": operator.mul, "x / y": operator.truediv,
    "x ** 2": lambda x, y: x ** 2, "2 ** x": lambda x, y: 2 ** x, "x ** y": lambda x, y: x ** y,
    "x % 2": lambda x, y: x % 2, "5 % x": lambda x, y: 5 % x, "x % y": lambda x, y: x % y,
    "-x": lambda x, y: -x, "2 - x": lambda x, y: 2 - x, "2 + x": lambda x, y: 2 + x, "2 * x": lambda x, y: 2 * x,
    "2 / x": lambda x, y: 2 / x, "x / 2": lambda x, y: x / 2, "x - 2": lambda x, y: x - 2,
    "x > y": operator.gt, "x >= 1": lambda x, y: x >= 1, "x < y": operator.lt, "x <= 1": lambda x, y: x <= 1,
    "x == x": lambda x, y: x == x, "x != y": operator.ne, "1 < x": lambda x, y: 1 < x,
    "x[0]": lambda x, y: x[0], "x[-1]": lambda x, y: x[-1], "x[1, 2]": lambda x, y: x[1, 2],
    "x[:, 1:3]": lambda x, y: x[:, 1:3], "x[:, -2:]": lambda x, y: x[:, -2:], "x[:, :2]": lambda x, y: x[:, :2],
    "x[1:]": lambda x, y: x[1:], "x[:, ::2]": lambda x, y: x[:, ::2], "x[:, ::-1]": lambda x, y: x[:, ::-1],
    "x[..., None]": lambda x, y: x[..., None], "x[None]": lambda x, y: x[None],
    "x[:, None, 1]": lambda x, y: x[:, None, 1],
    "x[..., 0]": lambda x, y: x[..., 0], "x[:]": lambda x, y: x[:], "x[:, 1]": lambda x, y: x[:, 1],
    "x.T": lambda x, y: x.T, "len(x)": lambda x, y: x * len(x), "x.shape": lambda x, y: x * x.shape[1],
    "x.size": lambda x, y: x * x.size, "x.ndim": lambda x, y: x * x.ndim,
    "iteration": lambda x, y: sum(row * (i + 1) for i, row in enumerate(x)),
    "unpacking": lambda x, y: (lambda a, b: a * b)(*x),
    "x += y": lambda x, y: operator.iadd(x * 1, y), "x *= 2": lambda x, y: operator.imul(x * 1, 2),
    "x.reshape": lambda x, y: x.reshape((3, 2)), "x.reshape(-1)": lambda x, y: x.reshape((-1,)),
    "x.sum": lambda x, y: x.sum(axis=1, keepdims=True) + y, "x.copy": lambda x, y: x.copy(),
    "x.detach": lambda x, y: x.detach() * x, "x.expand_dims": lambda x, y: x.expand_dims(axis=1),
}
DEEPER = {
    "z[0]": lambda z: z[0], "z[0, 1]": lambda z: z[0, 1], "z[:, 1, 2:]": lambda z: z[:, 1, 2:],
    "z[..., 1]": lambda z: z[..., 1],
    "z[1, ..., 0]": lambda z: z[1, ..., 0], "z[:, None]": lambda z: z[:, None],
    "z[1, None, 0:2]": lambda z: z[1, None, 0:2],
    "z[..., 1:3]": lambda z: z[..., 1:3], "z[:, 1:, ::2]": lambda z: z[:, 1:, ::2],
}


def evaluate(expression, arrays):
    """`expression` on traced symbols, computed."""
    shapes = {f"v{i}": a.shape for i, a in enumerate(arrays)}

    def shape_of(_trace, symbol):
        known = {n: s for n, s in shapes.items() if n in symbol.list_inputs()}
        return symbol.infer_shape(**known)[1][0]

    tracer = Tracer(lambda expr: [], shape_of)
    with tracing(Trace(tracer, None, [])):
        out = expression(*[traced(mx.sym.var(f"v{i}")) for i in range(len(arrays))])
        assert isinstance(out, TracedSymbol)
    values = {f"v{i}": mx.nd.array(a, dtype="float64") for i, a in enumerate(arrays)}
    inputs = {n: v for n, v in values.items() if n in out.list_inputs()}
    result, = out.eval(ctx=mx.cpu(), **inputs)
    return result.asnumpy()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_symbols_as_arrays(name):
    expression = EXPRESSIONS[name]
    wanted = expression(*[mx.nd.array(a, dtype="float64") for a in (A, B)]).asnumpy()
    np.testing.assert_allclose(evaluate(expression, (A, B)), wanted, rtol=1e-12)
    assert evaluate(expression, (A, B)).shape == wanted.shape


@pytest.mark.parametrize("name", DEEPER)
def test_indexing_of_three_axes(name):
    wanted = DEEPER[name](mx.nd.array(C, dtype="float64")).asnumpy()
    got = evaluate(DEEPER[name], (C,))
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_parameters_broadcast_too():
    """A parameter is a plain symbol until it meets a traced one."""
    weights = Weights()

    def run(me, node):
        return weights("b", 4) + node["x"] if node.is_leaf else me(node.left) * weights("b", 4)

    text = str(trace(run, weights)[0])
    assert "broadcast_add(" in text and "broadcast_mul(" in text
