"""Cells against NumPy formulas, in float64."""
import numpy as np
import pytest
from formulas import lstm_leaf, lstm_node, numeric_gradient, rnn_node, rntn_node, sigmoid, values

from recursive_gluon._compat import mx
from recursive_gluon.nn import BinaryTreeLSTMCell, RNTNCell, TreeRNNCell

N, H, X = 3, 4, 5  # rows, hidden, input


def ready(cell, *, hybridize=False):
    cell.initialize(mx.init.Normal(0.5))
    for p in cell.collect_params().values():
        if p.name.endswith("bias"):
            p.initialize(mx.init.Normal(0.5), force_reinit=True)
    cell.cast("float64")
    if hybridize:
        cell.hybridize()
    return cell


def rows(*shape):
    return np.random.normal(size=shape)


def array(x):
    return mx.nd.array(x, dtype="float64")


def by_row(formula, *inputs):
    """The formula on each row, its outputs stacked."""
    outputs = [formula(*row) for row in zip(*inputs)]
    return [np.stack(o) for o in zip(*outputs)] if isinstance(outputs[0], tuple) else [np.stack(outputs)]


class Case:
    """A cell as a function of plain arrays, here and in NumPy."""

    def __init__(self, make, names, widths, ours, formula):
        self.make, self.names, self.widths, self.ours, self.formula = make, names, widths, ours, formula


CASES = {
    "lstm_leaf": Case(lambda: BinaryTreeLSTMCell(H, X), ["leaf_weight", "leaf_bias"], [X],
                      lambda cell, x: cell.leaf(x), lstm_leaf),
    "lstm_node": Case(lambda: BinaryTreeLSTMCell(H, X), ["node_weight", "node_bias"], [H] * 4,
                      lambda cell, hl, cl, hr, cr: cell((hl, cl), (hr, cr)),
                      lambda p, hl, cl, hr, cr: lstm_node(p, (hl, cl), (hr, cr))),
    "rnn": Case(lambda: TreeRNNCell(H), ["node_weight", "node_bias"], [H] * 2,
                lambda cell, hl, hr: cell(hl, hr), rnn_node),
    "rnn_sigmoid": Case(lambda: TreeRNNCell(H, "sigmoid"), ["node_weight", "node_bias"], [H] * 2,
                        lambda cell, hl, hr: cell(hl, hr), lambda p, hl, hr: rnn_node(p, hl, hr, sigmoid)),
    "rntn": Case(lambda: RNTNCell(H), ["node_weight", "node_bias", "tensor_weight"], [H] * 2,
                 lambda cell, hl, hr: cell(hl, hr), rntn_node),
}


@pytest.fixture(params=CASES, name="case")
def _case(request):
    return CASES[request.param]


@pytest.fixture(params=[False, True], ids=["eager", "hybridized"], name="hybridize")
def _hybridize(request):
    return request.param


def outputs_of(case, cell, inputs):
    out = case.ours(cell, *inputs)
    return list(out) if isinstance(out, (list, tuple)) else [out]


def test_formula_on_a_batch_of_rows(case, hybridize):
    cell = ready(case.make(), hybridize=hybridize)
    inputs = [rows(N, w) for w in case.widths]
    expected = by_row(lambda *row: case.formula(values(cell), *row), *inputs)
    for got, want in zip(outputs_of(case, cell, map(array, inputs)), expected):
        assert got.shape == want.shape
        np.testing.assert_allclose(got.asnumpy(), want, rtol=1e-12)


def test_gradients(case, hybridize):
    """Of the outputs' sum of squares, by inputs and parameters, against differences of the formula."""
    cell = ready(case.make(), hybridize=hybridize)
    inputs, p = [rows(N, w) for w in case.widths], values(cell)

    def loss():
        return sum((o ** 2).sum() for o in by_row(lambda *row: case.formula(p, *row), *inputs))

    arrays = [array(x) for x in inputs]
    for a in arrays:
        a.attach_grad()
    with mx.autograd.record():
        total = sum((o ** 2).sum() for o in outputs_of(case, cell, arrays))
    total.backward()
    for a, x in zip(arrays, inputs):
        np.testing.assert_allclose(a.grad.asnumpy(), numeric_gradient(loss, x), rtol=1e-5, atol=1e-8)
    params = cell.collect_params()
    for name in case.names:
        got = params[cell.prefix + name].grad().asnumpy()
        np.testing.assert_allclose(got, numeric_gradient(loss, p[name]), rtol=1e-5, atol=1e-8)


def test_a_row_alone_gives_what_it_gives_in_a_batch(case):
    cell = ready(case.make())
    inputs = [rows(N, w) for w in case.widths]
    together = outputs_of(case, cell, map(array, inputs))
    for k in range(N):
        alone = outputs_of(case, cell, [array(x[k:k + 1]) for x in inputs])
        for a, b in zip(alone, together):
            np.testing.assert_allclose(a.asnumpy(), b[k:k + 1].asnumpy(), rtol=1e-12)


@pytest.mark.parametrize("make, shapes", [
    (lambda: BinaryTreeLSTMCell(H, X, prefix="cell_"),
     {"leaf_weight": (3 * H, X), "leaf_bias": (3 * H,),
      "node_weight": (5 * H, 2 * H), "node_bias": (5 * H,)}),
    (lambda: TreeRNNCell(H, prefix="cell_"), {"node_weight": (H, 2 * H), "node_bias": (H,)}),
    (lambda: RNTNCell(H, prefix="cell_"),
     {"node_weight": (H, 2 * H), "node_bias": (H,), "tensor_weight": (2 * H * H, 2 * H)}),
])
def test_parameter_names_and_shapes(make, shapes):
    """They stand in saved files."""
    assert {name: p.shape for name, p in make().collect_params().items()} == \
        {"cell_" + name: shape for name, shape in shapes.items()}


def test_saved_parameters_load(tmp_path):
    one, two = BinaryTreeLSTMCell(H, X), BinaryTreeLSTMCell(H, X)
    one.initialize(mx.init.Normal(1))
    path = str(tmp_path / "cell.params")
    one.save_parameters(path)
    two.load_parameters(path)
    assert sorted(mx.nd.load(path)) == ["leaf.bias", "leaf.weight", "node.bias", "node.weight"]
    state = one.leaf(mx.nd.ones((1, X)))
    np.testing.assert_array_equal(one(state, state)[0].asnumpy(), two(state, state)[0].asnumpy())


def test_input_size_is_found_at_the_first_call():
    cell = BinaryTreeLSTMCell(H)
    cell.initialize()
    assert repr(cell) == "BinaryTreeLSTMCell(None -> 4)"
    cell.leaf(mx.nd.ones((2, X)))
    assert cell.leaf.weight.shape == (3 * H, X)
    assert repr(cell) == "BinaryTreeLSTMCell(5 -> 4)"


def test_forget_bias():
    cell = BinaryTreeLSTMCell(H, X, forget_bias=1.5)
    cell.initialize(mx.init.Normal(1))
    i, o, fl, fr, u = np.split(cell.node.bias.data().asnumpy(), 5)
    assert (fl == 1.5).all() and (fr == 1.5).all()
    assert not i.any() and not o.any() and not u.any()
    assert not cell.leaf.bias.data().asnumpy().any()


@pytest.mark.parametrize("make", [
    lambda: BinaryTreeLSTMCell(0), lambda: BinaryTreeLSTMCell(2.5), lambda: BinaryTreeLSTMCell(True),
    lambda: BinaryTreeLSTMCell(4, input_size=-1), lambda: TreeRNNCell(-1), lambda: RNTNCell("4"),
])
def test_bad_sizes(make):
    with pytest.raises(ValueError, match=r"expected a whole number above 0"):
        make()


def test_unknown_activation():
    with pytest.raises(ValueError, match="'swish', expected one of tanh, relu"):
        TreeRNNCell(4, activation="swish")
