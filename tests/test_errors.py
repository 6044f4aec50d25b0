"""Bad inputs: each raises one of our exceptions, says what to do, and leaves the process as it was."""
import numpy as np
import pytest
from nets import TreeNet, forest_of, numbers, random_tree, ready

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.errors import (
    ArityError,
    DepthLimitError,
    EmptyForestError,
    FieldError,
    IndexRangeError,
    NoBaseCaseError,
    PathMismatchError,
    RecursiveGluonError,
    StructureError,
    TraceError,
)

gluon, nn, autograd = mx.gluon, mx.gluon.nn, mx.autograd


class Body(rg.RecursiveBlock):
    """A block made of a function."""

    def __init__(self, body, **kwargs):
        super().__init__(prefix="net_", **kwargs)
        self.body = body

    def hybrid_forward(self, F, *args):
        return self.body(self, F, *args)


def make(body, active=True):
    net = Body(body)
    net.initialize()
    net.cast("float64")
    net.hybridize(active)
    return net


def value(net, *args, **kwargs):
    """The outputs, waited for."""
    out = net(*args, **kwargs)
    return [numbers(x) for x in (out if isinstance(out, (list, tuple)) else [out])]


def chain(length, **fields):
    tree = rg.Tree(**fields)
    for _ in range(length - 1):
        tree = rg.Tree([tree], **fields)
    return tree


twice = pytest.mark.parametrize("active", [False, True])


@twice
def test_no_trees(active):
    with pytest.raises(EmptyForestError, match="at least one tree"):
        make(lambda net, F, node: node["x"], active)([])


@twice
def test_misspelt_field(active):
    net = make(lambda net, F, node: node["x"] * 2 if node.is_leaf else net(node.left) + node["lable"], active)
    with pytest.raises(FieldError, match="no field 'lable'; the fields are: word, x"):
        value(net, forest_of())


@twice
def test_a_child_that_is_not_there(active):
    net = make(lambda net, F, node: node["x"] * 2 if node.is_leaf else net(node.left) + net(node.right), active)
    forest = rg.Forest([rg.Tree([chain(3, x=[1.0, 2]), rg.Tree(x=[1.0, 2])], x=[1.0, 2])], dtype="float64")
    with pytest.raises(ArityError, match=r"net\[root\.left\]: child 1 was asked of a node that has 1 children"
                       if active else "child 1 was asked of node 1, which has 1 children"):
        value(net, forest)
    assert value(net, forest_of())


def test_no_base_case():
    net = make(lambda net, F, node: net(node.left) + net(node.right))
    with pytest.raises(NoBaseCaseError, match="every path through net calls net again"):
        net(forest_of())


@twice
def test_a_base_case_that_never_comes(active):
    net = make(lambda net, F, x, n: x if n == 0 else net(x, n - 2), active)
    x = mx.nd.ones((2, 2))
    assert value(net, x, 4)[0].tolist() == [[1, 1]] * 2
    with pytest.raises(DepthLimitError, match=r"net.*does a base case come\?"):
        value(net, x, 5)
    assert value(net, x, 6)[0].tolist() == [[1, 1]] * 2


def test_depth_limit_names_the_path_and_can_be_raised():
    net = make(lambda net, F, node: node["x"] * 1 if node.is_leaf else net(node.left) + node["x"])
    deep = rg.Forest([chain(50, x=[1.0, 2.0])], dtype="float64")
    net.hybridize(max_depth=20)
    assert value(net, deep)[0].tolist() == [[50, 100]]  # the forest has no more nodes than that: the depth is meant
    counter = make(lambda net, F, x, n: x if n == 0 else net(x, n - 1))
    counter.hybridize(max_depth=100)
    with pytest.raises(DepthLimitError, match=r"hybridize\(max_depth="):
        value(counter, mx.nd.ones((1, 2)), 1000)
    counter.hybridize(max_depth=2000)
    assert value(counter, mx.nd.ones((1, 2)), 1000)[0].tolist() == [[1, 1]]


def test_paths_that_differ():
    net = make(lambda net, F, node: node["x"] * 1 if node.is_leaf else (net(node.left), node["x"]))
    with pytest.raises(PathMismatchError, match="returns 2 outputs where .*, but 1 on its base path"):
        net(forest_of())
    net = make(lambda net, F, node: node["x"] * 1 if node.is_leaf else F.concat(net(node.left), node["x"], dim=1))
    with pytest.raises(PathMismatchError, match="return the same shapes on every path"):
        value(net, forest_of())


def with_words(words, active, table=12):
    net = ready(TreeNet(words=table, prefix="words_"))
    net.hybridize(active)
    return net, rg.Forest([rg.Tree([rg.Tree(word=w, x=[1.0, 1]), rg.Tree(word=1, x=[1.0, 1])], word=-1, x=[1.0, 1])
                           for w in words], dtype="float64")


@pytest.mark.parametrize("word", [12, 5000, -3])
def test_a_word_that_the_table_does_not_have(word):
    net, forest = with_words([3, word], True)
    with pytest.raises(IndexRangeError, match=rf"field 'word' holds {word}, .* 0 to 11"):
        value(net, forest)
    with autograd.record(), pytest.raises(IndexRangeError, match="field 'word'"):
        value(net, forest)
    assert value(net, with_words([3, 11], True)[1])  # -1 at inner nodes, which look nothing up, does no harm


def test_nan_passes_through():
    for active in (False, True):
        net = make(lambda net, F, node: node["x"] * 1 if node.is_leaf else net(node.left) + net(node.right), active)
        forest = rg.Forest([rg.Tree([rg.Tree(x=[np.nan, 1]), rg.Tree(x=[1.0, 2])], x=[0.0, 0]),
                            rg.Tree(x=[3.0, 4])], dtype="float64")
        np.testing.assert_array_equal(value(net, forest)[0], [[np.nan, 3], [3, 4]])


def fussy(net, F, node):
    if node.is_leaf:
        if node["word"] == 7:
            raise ValueError("seven is not a word")
        return node["x"] * 1
    return net(node.left) + net(node.right)


def test_a_body_that_raises_on_a_path():
    good, bad = [forest_of(3, (4, 4), words=6), with_words([3, 7], False)[1]]
    net = make(fussy, False)
    value(net, good)
    with pytest.raises(ValueError, match="seven"):
        value(net, bad)
    net.hybridize()
    wanted = value(net, good)[0]
    with pytest.raises(TraceError, match=r"net\[root\.left\]: the body raises ValueError at test_errors.py:\d+: seven"):
        value(net, bad)
    np.testing.assert_array_equal(value(net, good)[0], wanted)


@pytest.mark.parametrize("read", ["asscalar", "asnumpy", "__float__", "__int__"])
def test_a_body_that_reads_values(read):
    net = make(lambda net, F, node: node["x"] * float(getattr(node["word"], read)()))
    with pytest.raises(TraceError, match=r"test_errors.py:\d+: .*the value of a tensor, read by Python"):
        net(forest_of())


def test_what_a_body_may_not_return():
    net = make(lambda net, F, node: "word")
    with pytest.raises(TraceError, match="a body returned str"):
        net(forest_of())
    net.hybridize(False)
    with pytest.raises(TraceError, match="a body returned str"):
        net(forest_of())


def test_arrays_that_are_no_forest():
    net, forest = ready(TreeNet()), forest_of()
    for wrong in (list(forest)[1:], list(forest)[:2], [forest[0], forest[1][:2], forest[2]]):
        for active in (False, True):
            net.hybridize(active)
            with pytest.raises(StructureError, match="forest"):
                value(net, wrong)


# -- raised in the operator, met at the point of waiting --------------------------------------------
class Late(rg.RecursiveBlock):
    """Fails in flight: a child is asked for that only a value decides on."""

    def __init__(self, **kwargs):
        super().__init__(prefix="late_", **kwargs)
        self.weight = self.params.get("weight", shape=(1, 2), init="one")

    def hybrid_forward(self, F, node, weight):
        x = node["x"] * weight
        if node.is_leaf:
            return x
        left = self(node.left)
        if left.sum() > 100:
            return self(node.children[5])
        return left + self(node.right)


def forests():
    random = np.random.RandomState(1)
    good = rg.Forest([random_tree(random, n) for n in (4, 5)])
    trees = [rg.Tree([rg.Tree(x=[200.0, 1], word=1), rg.Tree(x=[1.0, 1], word=1)], x=[1.0, 1], word=1)]
    return good, rg.Forest(trees * 2)


def late_net():
    net = Late()
    net.initialize()
    net.hybridize(executor="mxnet")  # whose errors come late; the core's come with the call
    return net


WAITS = {"asnumpy": lambda out: out.asnumpy(), "wait_to_read": lambda out: out.wait_to_read(),
         "later": lambda out: (out * 2 + 1).asnumpy(), "waitall": lambda out: mx.nd.waitall()}


def check(run, capfd, wait):
    """`run(forest)` fails on one forest, with our error and without a word, and works before and afterwards."""
    good, bad = forests()
    before = run(good).asnumpy()
    for _ in range(3):
        out = run(bad)
        with pytest.raises(ArityError, match=r"late\[root\]: child 5 was asked of a node that has 2 children"):
            WAITS[wait](out)
        np.testing.assert_array_equal(run(good).asnumpy(), before)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err + printed.out and "Error in" not in printed.err + printed.out


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_errors_in_the_operator(wait, capfd):
    check(late_net(), capfd, wait)


@pytest.mark.parametrize("wait", ["asnumpy", "waitall"])
def test_errors_in_the_operator_while_recording(wait, capfd):
    net = late_net()

    def run(forest):
        with autograd.record():
            out = net(forest)
        return out
    check(run, capfd, wait)
    with autograd.record():
        out = net(forests()[0])
    out.backward()
    assert np.isfinite(net.weight.grad().asnumpy()).all()


def test_errors_in_a_backward_that_cannot_run(capfd):
    net = late_net()
    good, bad = forests()
    with autograd.record():
        out = net(bad)
    out.backward()
    with pytest.raises(RecursiveGluonError, match="child 5"):
        net.weight.grad().asnumpy()
    net.weight.zero_grad()
    with autograd.record():
        out = net(good)
    out.backward()
    assert np.isfinite(net.weight.grad().asnumpy()).all()


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_errors_in_bind(wait, capfd):
    net, (good, _) = late_net(), forests()
    net(good)
    symbol = net([mx.sym.var(n) for n in ("structure", "word", "x")])

    def run(forest):
        values = dict(zip(("structure", "word", "x"), forest))
        values.update({n: p.data() for n, p in net.collect_params().items()})
        return symbol.bind(mx.cpu(), {n: values[n] for n in symbol.list_arguments()}).forward()[0]
    check(run, capfd, wait)


@pytest.mark.filterwarnings("ignore:Cannot decide type")
@pytest.mark.parametrize("wait", sorted(WAITS))
def test_errors_in_an_import(wait, capfd, tmp_path):
    net, (good, _) = late_net(), forests()
    net(good)
    net.export(str(tmp_path / "late"))
    block = gluon.SymbolBlock.imports(str(tmp_path / "late-symbol.json"), ["data0", "data1", "data2"],
                                      str(tmp_path / "late-0000.params"))
    check(lambda forest: block(*forest), capfd, wait)


def test_errors_inside_a_hybridized_block(capfd):
    class Outside(gluon.HybridBlock):
        def __init__(self):
            super().__init__(prefix="outside_")
            self.tree, self.dense = Late(), nn.Dense(2)

        def hybrid_forward(self, F, forest):
            return self.dense(self.tree(forest))

    net = Outside()
    net.initialize()
    net(forests()[0])
    net.hybridize()
    check(net, capfd, "asnumpy")


@pytest.mark.parametrize("of, message", [
    (lambda F, x: F.square(x), r"test_errors.py:\d+: the truth of a tensor of shape \(1, 2\) is ambiguous"),
    (lambda F, x: x, r"field 'x' decides, and its rows have the shape \(2,\)"),
])
def test_the_truth_of_several_elements_is_ambiguous(of, message):
    class Ambiguous(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            return node["x"] if of(F, node["x"]) > 0 else -node["x"]

    net = Ambiguous()
    net.hybridize()
    forest = rg.Forest([rg.Tree(x=np.ones(2, np.float32))])
    with pytest.raises(TraceError, match=message):
        net(forest).asnumpy()
