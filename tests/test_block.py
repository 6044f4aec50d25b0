"""RecursiveBlock: what the eager twin computes, the hybridized block computes."""
import numpy as np
import pytest
from nets import Even, TreeNet, assert_close, flat, forest_of, numbers, random_tree, ready, step, twins

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.errors import FieldError, TraceError, UnseenPath, VisitError

nn, autograd = mx.gluon.nn, mx.autograd


class ChildSum(rg.RecursiveBlock):
    """Any arity: a loop over children."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.x, self.h = nn.Dense(3, flatten=False), nn.Dense(3, use_bias=False)

    def hybrid_forward(self, F, node):
        total = self.x(node["x"])
        for child in node.children:
            total = total + self.h(self(child))
        return F.tanh(total)


def bush(random, depth, arities=(0, 1, 2, 3, 5)):
    kids = 0 if depth == 0 else int(random.choice(arities))
    return rg.Tree([bush(random, depth - 1, arities) for _ in range(kids)], x=random.normal(size=2))


def bushes(seed=0, count=4, arities=(0, 1, 2, 3, 5)):
    random = np.random.RandomState(seed)
    return rg.Forest([rg.Tree([bush(random, 3, arities) for _ in range(2)], x=[0.5, 1]) for _ in range(count)],
                     dtype="float64")


@pytest.mark.parametrize("nodes", [False, True])
def test_trees(nodes):
    twins(ready(TreeNet()), forest_of(), nodes=nodes)


@pytest.mark.parametrize("nodes", [False, True])
def test_any_arity(nodes):
    twins(ready(ChildSum()), bushes(), nodes=nodes)


def test_a_list_of_trees_one_tree_and_a_list_of_arrays_are_forests():
    net = ready(TreeNet(), "float32")
    random = np.random.RandomState(1)
    trees = [random_tree(random, n) for n in (3, 5)]
    forest = rg.Forest(trees)
    for _ in range(2):
        wanted = [numbers(x) for x in net(forest)]
        assert_close([numbers(x) for x in net(trees)], wanted, "float32")
        assert_close([numbers(x) for x in net(list(forest))], wanted, "float32")
        assert_close([numbers(x) for x in net(tuple(forest))], wanted, "float32")
        assert_close([numbers(x) for x in net(trees[0])], [x[:1] for x in wanted], "float32")
        net.hybridize()


class Counting(rg.RecursiveBlock):
    """Computes nothing but counts the times its body ran, eagerly."""

    ran = 0

    def hybrid_forward(self, F, node):
        self.ran += 1
        if node.is_leaf:
            return node["x"] * 1
        return F.tanh(self(node.left) + self(node.right)) * node["x"]


def shared_forest(depth=6):
    tree = rg.Tree(x=[0.3, -0.4])
    for i in range(depth):
        tree = rg.Tree([tree, tree], x=[0.5 + i / 10, -1.0])
    return rg.Forest([tree, rg.Tree([tree, rg.Tree(x=[1.0, 2.0])], x=[1.0, 1.0])], dtype="float64")


def test_shared_subtrees_are_computed_once():
    net, forest = ready(Counting()), shared_forest()
    assert forest.num_nodes == 7 + 9
    net(forest)
    assert net.ran == forest.num_nodes
    net.hybridize()
    net(forest)
    forest["x"].attach_grad()
    got = []
    for active in (False, True):
        net.hybridize(active)
        with autograd.record():
            out = net(forest)
            loss = (out * out).sum()
        loss.backward()
        got.append([numbers(out), numbers(forest["x"].grad)])
    assert_close(got[1], got[0])
    twins(net, forest, nodes=True)


# -- a user's own objects ---------------------------------------------------------------------------
class Expression:
    """An arithmetic expression, as anybody would write it."""

    def __init__(self, op, value=0.0, left=None, right=None, arguments=()):
        self.op, self.value, self.left, self.right, self.arguments = op, float(value), left, right, list(arguments)

    @property
    def is_number(self):
        return self.op == "number"

    def is_op(self, name):
        return self.op == name


class Evaluate(rg.RecursiveBlock):
    def hybrid_forward(self, F, node):
        if node.is_number:
            return node.value.reshape((1, 1))
        if node.is_op("negate"):
            return -self(node.left)
        if node.op == "sum":
            total = F.zeros((1, 1), dtype="float64")
            for argument in node.arguments:
                total = total + self(argument)
            return total
        left = self(node.left) if node.left is not None else F.ones((1, 1), dtype="float64")
        right = self(node.right) if node.right is not None else F.ones((1, 1), dtype="float64")
        return left * right


def expressions():
    n = lambda x: Expression("number", x)  # noqa: E731
    first = Expression("times", left=n(3), right=Expression("negate", left=n(2)))
    second = Expression("sum", arguments=[n(1), first, Expression("times", right=n(7))])
    third = Expression("times", left=Expression("sum", arguments=[n(k) for k in range(5)]))
    return [first, second, third, n(4)]


def test_own_objects_with_empty_slots_properties_methods_lists_and_strings():
    net, wanted = Evaluate(), [[-6.0], [2.0], [10.0], [4.0]]
    forest = rg.Forest(expressions(), dtype="float64")
    assert net(forest).asnumpy().tolist() == wanted
    net.hybridize()
    assert net(forest).asnumpy().tolist() == wanted
    forest["value"].attach_grad()
    got = []
    for active in (False, True):
        net.hybridize(active)
        with autograd.record():
            out = net(forest)
        out.backward()
        got.append(numbers(forest["value"].grad))
    assert_close([got[1]], [got[0]])


class Horner(rg.RecursiveBlock):
    """A sequence as a Python list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.x = self.params.get("x", shape=(1,), init="one")

    def hybrid_forward(self, F, seq, x):
        if not seq:
            return F.zeros_like(x)
        return seq[0] + x * self(seq[1:])


def test_sequences():
    net = ready(Horner())
    net.x.set_data(mx.nd.array([0.5]))
    data = [[1.0, 2.0, 3.0], [4.0], [0.5] * 9]
    wanted = [sum(v * 0.5 ** k for k, v in enumerate(row)) for row in data]
    forest = rg.Forest(data, dtype="float64")
    out, _ = twins(net, forest)
    np.testing.assert_allclose(out[0].ravel(), wanted)


# -- without a node ---------------------------------------------------------------------------------
class Repeat(rg.RecursiveBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(3)

    def hybrid_forward(self, F, x, n):
        if n <= 0:
            return x
        return F.tanh(self.dense(self(x, n - 1)))


class Fibonacci(rg.RecursiveBlock):
    def hybrid_forward(self, F, x, n):
        if n < 2:
            return x * n
        return self(x, n - 1) + self(x, n - 2)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_counters_without_a_node(count):
    x = mx.nd.array(np.random.normal(size=(2, 3)), dtype="float64")
    x.attach_grad()
    net, grads = ready(Repeat()), []
    net(x, 1)
    for active in (False, True):
        net.hybridize(active)
        got = step(net, x, count)
        grads.append([*got[0], numbers(x.grad), *(got[1].values() if count else [])])
    assert_close(grads[1], grads[0])


def test_one_graph_serves_other_integers_and_shapes():
    net = Fibonacci()
    net.hybridize()
    for n, rows in [(10, 1), (5, 2), (16, 1), (0, 3)]:
        fib = [0, 1]
        while len(fib) <= n:
            fib.append(fib[-1] + fib[-2])
        out = net(mx.nd.ones((rows, 2)), n)
        assert out.asnumpy().tolist() == [[fib[n]] * 2] * rows


# -- several blocks ---------------------------------------------------------------------------------
def test_mutual_recursion():
    net = ready(Even())
    twins(net, forest_of())
    with pytest.raises(VisitError, match="visited 0 times"):
        net(forest_of(), nodes=True)[0].wait_to_read()


class TopDown(rg.RecursiveBlock):
    """A value passed down, a number passed down, a value passed up."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.down, self.up = nn.Dense(3, in_units=5), nn.Dense(3, in_units=6)

    def hybrid_forward(self, F, node, state, depth):
        state = F.tanh(self.down(F.concat(state, node["x"], dim=1)))
        if node.is_leaf or depth == 3:
            return state * (depth + 1)
        return self.up(F.concat(self(node.left, state, depth + 1), self(node.right, state, depth + 1), dim=1))


def test_arguments_passed_down():
    net, forest = ready(TopDown()), forest_of(sizes=(1, 6, 9))
    state = mx.nd.array(np.random.normal(size=(3, 3)), dtype="float64")
    state.attach_grad()
    got = []
    for active in (False, True):
        net.hybridize(active)
        outputs, grads = step(net, forest, state, 0)
        got.append([*outputs, numbers(state.grad), *(grads[k] for k in sorted(grads))])
    assert_close(got[1], got[0])
    twins(net, forest, state, 2)


# -- arities ----------------------------------------------------------------------------------------
def test_a_node_with_a_thousand_children():
    random = np.random.RandomState(3)
    wide = rg.Tree([rg.Tree(x=row) for row in random.normal(size=(1000, 2))], x=[1.0, 1.0])
    net = ready(ChildSum())
    twins(net, rg.Forest([wide, rg.Tree(x=[0.0, 1.0])], dtype="float64"))
    assert len(net.program.functions) == 2  # the body and the loop: one path for every number of children


class ByArity(rg.RecursiveBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(2)

    def hybrid_forward(self, F, node):
        count = len(node.children)
        if count == 0:
            return node["x"] * 1
        return F.tanh(F.add_n(*[self(node.children[i]) for i in range(count)]) / count + self.dense(node["x"]))


def test_paths_are_traced_when_met():
    net = ready(ByArity())
    net.hybridize()
    few, many = bushes(0), bushes(1, arities=(0, 2, 7))
    before = str(net(few)) and str(net.program)
    assert "arity is 7" not in before.replace("node.", "")
    twins(net, few)
    twins(net, many)
    twins(net, few)


class Grows(rg.RecursiveBlock):
    """A path that is traced when met takes parameters and draws that no path before it needed."""

    def __init__(self, wide=0, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.leaf, self.wide, self.drop = nn.Dense(2), nn.Dense(2, in_units=wide), nn.Dropout(0.5)

    def hybrid_forward(self, F, node):
        count = len(node.children)
        if count == 0:
            return self.leaf(node["x"])
        total = F.add_n(*[self(node.children[i]) for i in range(count)])
        return self.drop(self.wide(total)) if count > 5 else total


@pytest.mark.filterwarnings("ignore:Parameter .* is not used by any computation")
def test_paths_met_later_may_need_more():
    few, many = bushes(0), bushes(1, arities=(0, 2, 7))
    net = ready(Grows())
    net.hybridize()
    with autograd.predict_mode():
        first = numbers(net(few))
        got = numbers(net(many))
        assert_close([numbers(net(few))], [first])
        net.hybridize(False)
        assert_close([got, first], [numbers(net(many)), numbers(net(few))])
    twins(net, many, train=False)

    class Outside(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.tree = ready(Grows(wide=2))

        def hybrid_forward(self, F, forest):
            return self.tree(forest) * 2

    outer = Outside()
    outer(few)  # Gluon cannot initialize in a graph what the graph does not use
    outer.hybridize()
    outer(few).wait_to_read()
    with pytest.raises(UnseenPath, match=r"call grows\d+ itself on such data"):
        outer(many).wait_to_read()
    outer.hybridize()
    outer.tree(many)
    with autograd.predict_mode():
        got = numbers(outer(many))
        outer.hybridize(False)
        assert_close([got], [numbers(outer(many))])


# -- nodes=True -------------------------------------------------------------------------------------
class LeftOnly(rg.RecursiveBlock):
    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return node["x"] * 1
        return self(node.left) + node["x"]


class Twice(rg.RecursiveBlock):
    def hybrid_forward(self, F, node, n):
        if node.is_leaf:
            return node["x"] * (n + 1)
        return self(node.left, n) + self(node.left, n + 1) + self(node.right, n)


@pytest.mark.parametrize("active", [False, True])
def test_nodes_needs_one_visit_of_every_node(active):
    forest = forest_of(sizes=(1, 3))
    net = LeftOnly()
    net.hybridize(active)
    net(forest).wait_to_read()
    with pytest.raises(VisitError, match="node .* of tree 1 was visited 0 times"):
        net(forest, nodes=True).wait_to_read()
    net = Twice()
    net.hybridize(active)
    net(forest, 0).wait_to_read()
    with pytest.raises(VisitError, match="visited [2-9] times"):
        net(forest, 0, nodes=True).wait_to_read()


# -- the rest of the surface ------------------------------------------------------------------------
def test_program_before_there_is_one():
    with pytest.raises(TraceError, match="no Program yet"):
        str(TreeNet().program)


def test_an_executor_that_does_not_exist():
    with pytest.raises(ValueError, match="there are: "):
        TreeNet().hybridize(executor="tensorflow")


def test_reference_executor():
    twins(ready(TreeNet(sparse=True)), forest_of(), flags={"executor": "reference"})


def test_body_of_another_name():
    with pytest.raises(NotImplementedError, match="hybrid_forward"):
        rg.RecursiveBlock()(forest_of())


class Nested(rg.RecursiveBlock):
    """Outputs nested as the user likes, and one of integers."""

    def hybrid_forward(self, F, node, n):
        if node.is_leaf:
            return node["x"] * n, (n, [node["x"] + 1])
        a, (m, [b]) = self(node.left, n + 1)
        c, (k, [d]) = self(node.right, n + 2)
        return a + c, (m + k, [b * d])


def test_nested_outputs():
    net, forest = Nested(), forest_of()
    for nodes in (False, True):
        seen = []
        for active in (False, True):
            net.hybridize(active)
            out = net(forest, 1, nodes=nodes)
            assert len(out) == 2 and len(out[1]) == 2
            seen.append([numbers(x) for x in flat(out)])
        assert_close(seen[1], seen[0])


@pytest.mark.parametrize("executor", [None, "native", "mxnet"])
@pytest.mark.parametrize("which", [0, 2, -1])
def test_one_output_alone(executor, which):
    if executor == "native" and rg.native.library() is None:
        pytest.skip("no native core on this machine")
    net, forest = ready(TreeNet()), forest_of()
    with autograd.record():
        whole = net(forest, nodes=True)[which]
    whole.backward()
    wanted = {name: p.grad().asnumpy() for name, p in net.collect_params().items()}
    net.hybridize(executor is not None, **({} if executor is None else {"executor": executor}))
    for _ in range(2):  # the second call knows the first
        with autograd.record():
            alone = net(forest, nodes=True, only=which)
        alone.backward()
        assert_close([numbers(alone)], [numbers(whole)])
        for name, p in net.collect_params().items():
            np.testing.assert_allclose(p.grad().asnumpy(), wanted[name], rtol=1e-9, atol=1e-12)
    assert_close([numbers(net(forest, only=which))], [numbers(net(forest)[which])])
    with pytest.raises(IndexError):
        net(forest, only=3)


def test_one_output_of_one_and_of_nested_ones():
    forest = bushes()
    net = ready(ChildSum())
    for active in (False, True):
        net.hybridize(active)
        assert_close([numbers(net(forest, only=0))], [numbers(net(forest))])
        with pytest.raises(IndexError):
            net(forest, only=1)
    nested = Nested()
    for active in (False, True):
        nested.hybridize(active)
        inner = nested(forest_of(), 1, only=1)
        assert_close([numbers(x) for x in flat(inner)], [numbers(x) for x in flat(nested(forest_of(), 1)[1])])


class Outer(mx.gluon.Block):
    """A plain Block around a recursive one: hybridize() reaches the inner one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.tree, self.head = TreeNet(), nn.Dense(2)

    def forward(self, forest):
        return self.head(self.tree(forest)[0])


def test_inside_a_plain_block():
    twins(ready(Outer()), forest_of())


def test_missing_field():
    class Misspelt(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            return node["wrod"] * 1

    for active in (False, True):
        net = Misspelt()
        net.hybridize(active)
        with pytest.raises(FieldError, match="no field 'wrod'; the fields are: word, x"):
            net(forest_of())
