"""The oracle of conversion: every case repeats itself, and a comparison can fail."""
import collections
import random
from itertools import chain

import numpy as np
import pytest
from cases import CASES, Case
from observe import compare, difference, frozen, identity, observe, stock

from recursive_gluon._compat import mx

EVERY = pytest.mark.parametrize("case", [CASES[number] for number in sorted(CASES)], ids=str)


def test_the_published_cases_are_all_there():
    assert set(range(1, 46)) <= set(CASES)


@EVERY
@pytest.mark.parametrize("late", [False, True], ids=["each step", "late"])
def test_unconverted_twice_is_equal(case, late):
    first = observe(case, identity, late)
    assert len(first) >= 12
    assert "raised" not in first[-1], first[-1]
    assert compare(first, observe(case, identity, late)) == ("right", "")


# A graph that MXNet refused to make complains again when Python frees it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stock_hybridize_is_found_wrong():
    """Silently wrong results are found, and errors, and what is right."""
    verdicts = {case: compare(observe(case, identity), observe(case, stock)) for case in map(CASES.get, sorted(CASES))}
    counts = collections.Counter(verdict for verdict, _ in verdicts.values())
    print(dict(counts))
    for case, (verdict, words) in verdicts.items():
        print(f"{verdict:7}{case}: {words}")
    assert counts["WRONG"] >= 12 and counts["raises"] >= 20 and counts["right"] >= 20


A = mx.nd.array([[1, 2], [3, 4]])


@pytest.mark.parametrize("expected, seen, words", [
    (A, A * (1 + 1e-7), None),
    (A, A * (1 + 1e-4), "x: [[1.0001 2.0002] [3.0003 4.0004]] instead of [[1. 2.] [3. 4.]]"),
    (A, A[:1], "x: float32 (1, 2) instead of float32 (2, 2)"),
    (A, A.astype("float64"), "x: float64 (2, 2) instead of float32 (2, 2)"),
    (A, A.as_np_ndarray(), "x: np on cpu(0) instead of default on cpu(0)"),
    (A, A.tostype("row_sparse"), "x: row_sparse on cpu(0) instead of default on cpu(0)"),
    (A, A.as_in_context(mx.cpu(1)), "x: default on cpu(1) instead of default on cpu(0)"),
    (A.astype("int32"), A.astype("int32") + 1, "x: [[2 3] [4 5]] instead of [[1 2] [3 4]]"),
    (A * np.nan, A * np.nan, None),
    (A / 0, A * np.nan, "x: [[nan nan] [nan nan]] instead of [[inf inf] [inf inf]]"),
    (A * 0, A * 1e-9, None),
    ([1, "a"], [1, "b"], "x[1]: b instead of a"),
    ([1, 2], [1], "x: 1 items instead of 2"),
    ([1, 2], (1, 2), "x: (1, 2) instead of [1, 2]"),
    ({"a": 1}, {"b": 1}, "x: keys ['b'] instead of ['a']"),
    ({"a": [None]}, {"a": [0]}, "x[a][0]: 0 instead of None"),
    (1.0, 1.0 + 1e-7, None),
    (1.0, 1.001, "x: 1.001 instead of 1.0"),
    (1, True, "x: True instead of 1"),
    (ValueError("a"), ValueError("b"), "x: Raised(kind='ValueError', text='b') instead of "
                                       "Raised(kind='ValueError', text='a')"),
    (mx.base.MXNetError("a"), mx.base.MXNetError("b"), None),
    (ValueError("<f at 0x7f00ab12cd>"), ValueError("<f at 0x7f00ffffff>"), None),
    ({"draw": A[:1] * 0}, {"draw": A[:1] * 0 + 1e-9}, "x[draw]: [[1.e-09 1.e-09]] instead of [[0. 0.]]"),
])
def test_difference(expected, seen, words):
    assert difference(frozen(expected), frozen(seen), "x") == words


def program(step):
    """A case of two steps, of which the second is `step()`."""
    def run(convert):
        yield 0
        yield step()
    return Case(0, "made here", run)


def quiet():
    return 1


@pytest.mark.parametrize("step, verdict, words", [
    (quiet, "right", ""),
    (lambda: 2, "WRONG", "step 1 [shown]: 2 instead of 1"),
    (lambda: print("a") or 1, "WRONG", "step 1 [printed]: a instead of"),
    (lambda: random.random() * 0 + 1 or 1, "WRONG", "step 1 [shown]: 1.0 instead of 1"),
    (lambda: int(random.random()) + 1, "WRONG", "step 1 [Python's generator]: "),
    (lambda: int(np.random.rand()) + 1, "WRONG", "step 1 [NumPy's generator]: "),
    (lambda: len(mx.nd.random.uniform(shape=(1,))), "WRONG", "step 1 [draw]: "),
    (lambda: mx.autograd.set_recording(True) or 1, "WRONG", "step 1 [recording]: "),
    (lambda: [][1], "raises", "step 1: Raised(kind='IndexError', text='list index out of range')"),
    (lambda: mx.nd.random.normal(0, -1, shape=(1,)), "raises",
     "step 1 [shown]: Raised(kind='MXNetError', text=None) instead of 1"),
], ids=["same", "value", "text", "type", "random", "numpy", "mxnet", "mode", "error", "late error"])
def test_compare(step, verdict, words):
    try:
        found = compare(observe(program(quiet), identity), observe(program(step), identity))
    finally:
        mx.autograd.set_recording(False)
    assert found[0] == verdict and found[1].startswith(words)


def test_steps_that_are_missing():
    expected = observe(program(quiet), identity)
    assert compare(expected, expected[:1]) == ("WRONG", "1 steps instead of 2")
    assert compare(expected, list(chain(expected, expected))) == ("WRONG", "4 steps instead of 2")
