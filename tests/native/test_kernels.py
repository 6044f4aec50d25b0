"""The core's element-wise kernels against double precision, and what every kernel must keep: a row's result does not
depend on the rows beside it."""
import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_gluon.runtime.core import binding

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")

ERF = np.vectorize(math.erf)
#: operator -> (double precision, low, high): the range over which single precision is compared
EXACT = {
    "exp": (np.exp, -87, 88), "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), -80, 80), "tanh": (np.tanh, -20, 20),
    "log": (np.log, 1e-6, 1e6), "log1p": (np.log1p, -0.9, 50), "expm1": (np.expm1, -20, 20), "sqrt": (np.sqrt, 0, 1e6),
    "softrelu": (lambda x: np.log1p(np.exp(x)), -15, 15), "erf": (ERF, -4, 4), "sin": (np.sin, -3, 3),
    "cbrt": (np.cbrt, -8, 8), "square": (np.square, -9, 9), "reciprocal": (np.reciprocal, 0.1, 9),
}


def run(name, *operands, scalar=0.0):
    lib = binding.core()
    lib.rg_test_ew.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_double, ctypes.c_int64,
                               ctypes.c_int64, ctypes.c_void_p]
    arrays = [np.ascontiguousarray(x) for x in operands]
    out = np.empty_like(arrays[0])
    rows, cols = out.shape
    places = binding.pointers([*(x.ctypes.data for x in arrays), 0])
    assert lib.rg_test_ew(binding.ew_names()[name], out.itemsize, places, scalar, rows, cols, out.ctypes.data) == 0
    return out


@pytest.mark.parametrize("name", sorted(EXACT))
def test_within_units_of_the_last_place(name):
    function, low, high = EXACT[name]
    random = np.random.RandomState(0)
    x = np.concatenate([random.uniform(low, high, 40000), random.uniform(max(low, -1), min(high, 1), 40000)])
    x = x.astype(np.float32).reshape(80, 1000)
    wanted = function(x.astype(np.float64))
    units = np.abs(run(name, x) - wanted) / np.spacing(np.abs(wanted).astype(np.float32))
    assert units.max() <= 3, f"{name} is off by {units.max():.1f} units at {x.ravel()[units.argmax()]!r}"
    np.testing.assert_allclose(run(name, x.astype(np.float64)), wanted, rtol=1e-14, atol=1e-300)


def test_the_ends_of_the_range():
    x = np.array([[np.inf, -np.inf, np.nan, 0.0, -0.0, 200.0, -200.0, 1e-30, -1e-30, 1e-42]], np.float32)
    with np.errstate(all="ignore"):
        for name, function in (("exp", np.exp), ("tanh", np.tanh), ("sigmoid", lambda v: 1 / (1 + np.exp(-v)))):
            np.testing.assert_allclose(run(name, x), function(x.astype(np.float64)).astype(np.float32), rtol=1e-6,
                                       atol=1e-44, err_msg=name)


@given(st.integers(1, 40), st.integers(1, 70), st.sampled_from(["tanh", "sigmoid", "exp", "dtanh", "mul", "softrelu"]))
@settings(max_examples=40, deadline=None)
def test_a_row_alone_has_the_same_bits(rows, cols, name):
    random = np.random.RandomState(rows * 71 + cols)
    a, b = random.normal(size=(2, rows, cols)).astype(np.float32)
    operands = (a, b) if name in ("dtanh", "mul") else (a,)
    whole = run(name, *operands)
    for r in (0, rows // 2, rows - 1):
        np.testing.assert_array_equal(run(name, *(x[r:r + 1] for x in operands))[0], whole[r])
    for c in (0, cols - 1):
        np.testing.assert_array_equal(run(name, *(x[:, c:c + 1] for x in operands))[:, 0], whole[:, c])


@given(st.integers(1, 30), st.integers(1, 3000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_rows_that_are_gathered_and_summed(rows, cols, summed):
    lib = binding.core()
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    lib.rg_test_load.argtypes = [pointer, number, pointer, pointer, number, number, pointer]
    random = np.random.RandomState(cols)
    table = random.normal(size=(12, cols)).astype(np.float32)
    counts = random.randint(0, 4, size=rows) if summed else np.ones(rows, np.int64)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    index = random.randint(0, 12, size=start[-1]).astype(np.int64)
    out = np.empty((rows, cols), np.float32)
    sums = start.ctypes.data if summed else None
    assert lib.rg_test_load(table.ctypes.data, cols, index.ctypes.data, sums, rows, cols, out.ctypes.data) == 0
    for r in range(rows):
        wanted = np.zeros(cols, np.float32)
        for k, i in enumerate(index[start[r]:start[r + 1]]):
            wanted = table[i] if k == 0 else wanted + table[i]
        np.testing.assert_array_equal(out[r], wanted)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_product_of_few_rows(m, n, k, seed):
    lib = binding.core()
    lib.rg_test_small_product.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    random = np.random.RandomState(seed)
    x, w = random.randn(m, k).astype(np.float32), random.randn(n, k).astype(np.float32)
    y = np.full((m + 1, n), 7, np.float32)
    if not lib.rg_test_small_product(x.ctypes.data, w.ctypes.data, m, n, k, y.ctypes.data):
        pytest.skip("this instruction set leaves it to the library")
    np.testing.assert_allclose(y[:m], x.astype(np.float64) @ w.astype(np.float64).T, rtol=1e-4, atol=1e-4)
    assert (y[m] == 7).all()


@pytest.mark.parametrize("cols", [15, 16, 17, 47, 48, 49, 150, 3000])
@pytest.mark.parametrize("name", ["tanh", "mul", "add_S"])
def test_rows_of_any_width(name, cols):
    random = np.random.RandomState(cols)
    operands = [random.randn(5, cols).astype(np.float32) for _ in range(2 if name == "mul" else 1)]
    exact = {"tanh": np.tanh, "mul": np.multiply, "add_S": lambda x: x + 2}[name]
    wanted = exact(*(x.astype(np.float64) for x in operands))
    np.testing.assert_allclose(run(name, *operands, scalar=2.0), wanted, rtol=1e-6, atol=1e-7)
