"""Calls: each once, told apart by all that changes what they compute."""
import numpy as np
import pytest

from recursive_gluon._compat import mx
from recursive_gluon.capture.calls import (
    EAGER,
    PURE,
    RANDOM,
    STATISTICS,
    Call,
    array_aval,
    aval,
    call,
    operator_handle,
    operator_info,
)

nd = mx.nd


def made(name, numpy=False, **attributes):
    return call(operator_handle(name), tuple(attributes), tuple(attributes.values()), numpy, False)


def test_handles_and_names():
    assert operator_info(operator_handle("FullyConnected")) == ("FullyConnected", "")
    assert operator_info(operator_handle("Concat")) == ("Concat", "num_args")
    with pytest.raises(mx.MXNetError):
        operator_handle("no such operator")


def test_one_call_for_the_same_attributes():
    assert made("_plus_scalar", scalar=2.0) is made("_plus_scalar", scalar=2.0)
    assert made("slice_axis", axis=0, begin=1, end=None) is made("slice_axis", axis=0, begin=1, end=None)
    assert made("Reshape", shape=[1, 2]) is made("Reshape", shape=[1, 2])


@pytest.mark.parametrize("one, other", [
    (1, 1.0), (1, True), (0.0, -0.0), (1.0, np.float32(1)), ((1, 2), (1.0, 2)), ((1,), (True,)), ("1", 1),
    (None, "None"), (0.1, 0.1 + 1e-12), (float("inf"), -float("inf")),
], ids=str)
def test_what_is_equal_but_written_otherwise_is_told_apart(one, other):
    first, second = made("_plus_scalar", scalar=one), made("_plus_scalar", scalar=other)
    assert first is not second
    assert (first.values, second.values) == ((str(one),), (str(other),))


def test_the_interface_tells_calls_apart():
    assert made("_np_copy", numpy=True) is not made("_np_copy", numpy=False)


@pytest.mark.parametrize("kind, names", [
    (PURE, "FullyConnected Convolution Activation broadcast_add _mul_scalar Embedding where SliceChannel _npi_add "
           "_random_pdf_normal LayerNorm BlockGrad _full _zeros SequenceMask"),
    (RANDOM, "_random_uniform _sample_normal _shuffle Dropout RNN _npi_normal _npi_uniform _npi_choice "
             "_image_random_brightness"),
    (STATISTICS, "BatchNorm _contrib_SyncBatchNorm"),
    (EAGER, "Custom _contrib_boolean_mask _npi_unique sgd_update adam_update _foreach _cond cast_storage _copyto "
            "_slice_assign _set_value"),
])
def test_kinds(kind, names):
    """Of calls that are new: one that no graph can hold is of another kind from when that was seen."""
    found = {name: Call(operator_handle(name), (), (), False, False).kind for name in names.split()}
    assert found == {name: kind for name in names.split()}


@pytest.mark.parametrize("name, attributes, draws", [
    ("Dropout", {"p": 0.5}, (False, True)), ("Dropout", {"p": 0.5, "mode": "always"}, (True, True)),
    ("RNN", {"mode": "lstm"}, (False, False)), ("RNN", {"mode": "lstm", "p": 0.1}, (False, True)),
    ("LeakyReLU", {"act_type": "rrelu"}, (False, True)), ("LeakyReLU", {"act_type": "elu"}, (False, False)),
    ("_random_uniform", {}, (True, True)), ("tanh", {}, (False, False)),
])
def test_draws(name, attributes, draws):
    assert made(name, **attributes).draws == draws


def test_avals_are_one_object():
    x = nd.ones((2, 3))
    assert array_aval(x) is array_aval(nd.zeros((2, 3))) is aval((2, 3), np.float32, mx.cpu())
    assert array_aval(x) is not array_aval(x.T) and array_aval(x) is not array_aval(x.astype("float64"))
    assert array_aval(x) is not array_aval(x.as_in_context(mx.cpu(1)))
    assert array_aval(x) is not array_aval(x.tostype("csr"))
    assert repr(array_aval(x)) == "float32[2, 3]@cpu(0)"


def learnt(op, inputs, outputs):
    op.learn(0, list(map(array_aval, inputs)), list(map(array_aval, outputs)))
    return op.results.get((0, *map(array_aval, inputs)))


def test_learn():
    x = nd.ones((2, 3))
    assert learnt(made("exp"), [x], [x]) == (array_aval(x),)
    assert learnt(made("dot"), [x.tostype("csr"), x.T], [nd.ones((2, 2))]) is None  # sparse
    assert learnt(made("_copyto"), [x], [x]) is None  # not put off
    assert learnt(made("sgd_mom_update", lr=0.1), [x, x, x], [x]) is None  # writes an input
    assert learnt(made("_zeros", shape=(2, 3)), [], [x]) is None  # on whatever context is the current one
    assert learnt(made("_zeros", shape=(2, 3), ctx="cpu(0)"), [], [x]) == (array_aval(x),)


def test_infer_says_what_mxnet_does():
    x, w, b = nd.ones((5, 3)), nd.ones((4, 3)), nd.ones((4,))
    op = made("FullyConnected", num_hidden=4)
    learnt(op, [nd.ones((2, 3)), w, b], [nd.ones((2, 4))])
    assert op.infer(0, list(map(array_aval, (x, w, b)))) == (aval((5, 4), np.float32, mx.cpu()),)
    assert op.results[(0, *map(array_aval, (x, w, b)))] == (aval((5, 4), np.float32, mx.cpu()),)
    assert op.infer(0, list(map(array_aval, (x, x, b)))) is None  # shapes that do not fit: MXNet shall say so


def test_symbols_of_variadic_calls():
    x, y = mx.sym.var("x"), mx.sym.var("y")
    joined = made("Concat", dim=0).symbol([x, y], "c")
    assert joined.list_arguments() == ["x", "y"]
    assert joined.infer_shape(x=(1, 2), y=(3, 2))[1] == [(4, 2)]
