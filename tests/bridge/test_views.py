"""Views of arrays whose value is put off are what views of computed ones are, also where something is written later."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.bridge.values import is_lazy

nd, autograd = mx.nd, mx.autograd

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
INDEX = st.one_of(st.integers(-4, 3), st.slices(4), st.just(slice(None)), st.none(), st.just(Ellipsis))
KEYS = st.one_of(INDEX, st.lists(INDEX, max_size=4).map(tuple))


def taken(key):
    return lambda array, key=key: array[key]


@st.composite
def views(draw):
    """A function that makes a view, or something like one, of an array."""
    kind = draw(st.sampled_from(["key"] * 5 + ["shape", "detach", "cast", "rows", "T"]))
    if kind == "key":
        return taken(draw(KEYS))
    if kind == "shape":
        shape = tuple(draw(st.lists(st.sampled_from([-1, 1, 2, 3, 4, 0, -2, 6, 12]), min_size=1, max_size=3)))
        return lambda array: array.reshape(shape)
    if kind == "cast":
        dtype, copy = draw(st.sampled_from(["float32", "float64", "int32"])), draw(st.booleans())
        return lambda array: array.astype(dtype, copy=copy)
    return {"detach": lambda array: array.detach(), "T": lambda array: array.T,
            "rows": lambda array: [row for row in array][-1]}[kind]


def shown(array):
    return type(array).__mro__[-3:], array.shape, np.dtype(array.dtype), array.asnumpy().tolist()


def program(x, made, writes):
    """Views of views, what is computed of them, and then writes to some of them."""
    arrays, seen = [x * 2], []
    for view in made:
        arrays.append(view(arrays[-1]))
        seen += [arrays[-1].shape, arrays[-1].dtype]
    sums = [array + 1 for array in arrays]
    for place, value in writes:
        arrays[place % len(arrays)][:] = value
        sums.append(arrays[0] * 2)
    return seen + [shown(array) for array in arrays + sums]


def outcome(run, *args):
    try:
        return run(*args)
    except Exception as error:  # MXNet's, for a key or a shape that does not fit
        return type(error)


converted = rg.hybridize(program)


@pytest.mark.parametrize("interface", ["nd", "np"])
@pytest.mark.parametrize("recording", [False, True], ids=["predicting", "recording"])
@given(SHAPES, st.lists(views(), min_size=1, max_size=3),
       st.lists(st.tuples(st.integers(0, 3), st.integers(3, 9)), max_size=2))
def test_views_are_true_views(interface, recording, shape, made, writes):
    x = nd.arange(int(np.prod(shape))).reshape(shape)
    with mx.util.np_shape(interface == "np"):
        x = x.as_np_ndarray() if interface == "np" else x
        with autograd._RecordingStateScope(recording, recording):
            expected = outcome(program, x, made, writes)
            assert outcome(converted, x, made, writes) == expected
            assert outcome(converted, x, made, writes) == expected


@pytest.mark.parametrize("view", [
    taken(1), taken(-1), taken(slice(1, 3)), taken((1, 2)), taken((slice(1, 2), slice(None))), taken((1, None)),
    lambda array: array.reshape((4, 3)), lambda array: array.reshape((-1,)), lambda array: array.detach(),
    lambda array: array.astype("float64"),
])
@pytest.mark.parametrize("interface", ["nd", "np"])
def test_views_do_not_compute(view, interface):
    lazy = []

    def once(x):
        h = x * 2
        v = view(h)
        lazy.append(is_lazy(h) and is_lazy(v))
        return v + 1

    x = nd.ones((3, 4)) if interface == "nd" else mx.np.ones((3, 4))
    run = rg.hybridize(once)
    with mx.util.np_shape(interface == "np"):
        for _ in range(4):
            run(x)
    assert lazy[-1]


def test_a_view_is_written_through_after_it_was_used():
    def write(x):
        h = x * 2
        row = h[1]
        before = row + 1
        row[:] = 0
        return h, before

    run = rg.hybridize(write)
    for _ in range(4):
        h, before = run(nd.ones((2, 2)))
        assert h.asnumpy().tolist() == [[2, 2], [0, 0]] and before.asnumpy().tolist() == [3, 3]
