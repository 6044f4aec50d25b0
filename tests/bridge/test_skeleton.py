"""The compiled skeleton does what the Python that it stands for does, and only what it knows."""
import contextlib
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Case
from observe import compare, observe
from random_programs import running

import recursive_gluon as rg
from recursive_gluon import native
from recursive_gluon._compat import mx
from recursive_gluon.bridge import skeleton
from recursive_gluon.bridge.conversion import Conversion
from recursive_gluon.bridge.convert import conversion_of
from recursive_gluon.bridge.log import current_log
from recursive_gluon.bridge.plans import PLANS
from recursive_gluon.bridge.values import is_lazy

nd, autograd = mx.nd, mx.autograd
ROOT = Path(__file__).resolve().parent.parent.parent
needs_compiler = pytest.mark.skipif(native.skeleton() is None, reason="no compiler on this machine")


@contextlib.contextmanager
def going(quick):
    """With the compiled skeleton, or in Python alone."""
    rg.hybridize(lambda: None)  # the first one puts everything in place
    skeleton.enable(quick)
    try:
        yield
    finally:
        skeleton.enable(True)


@pytest.fixture(params=[pytest.param(True, marks=needs_compiler), False], ids=["compiled", "Python"])
def quick(request):
    with going(request.param):
        yield request.param


def told(work):
    """A Work in words."""
    return (work.mode, work.context, [(repr(op[0]), *op[1:]) for op in work.ops], list(map(repr, work.avals)),
            work.draws, work.statistics, [maker[:2] for maker in work.makers], list(map(repr, work.external_avals)),
            [type(array).__name__ for array in work.arrays], sorted(work.held()[0]))


@contextlib.contextmanager
def works():
    """All Works that are computed."""
    seen, compute = [], Conversion.compute

    def watched(self, work, ahead):
        seen.append(told(work))
        compute(self, work, ahead)

    Conversion.compute = watched
    try:
        yield seen
    finally:
        Conversion.compute = compute


def both(case):
    """What is shown, and the Works, in Python and compiled; before that, all calls that there are become known."""
    made = []
    gc.collect()
    gc.disable()  # what garbage holds is computed as long as it is not collected
    try:
        for quick in (True, True, False, True):
            with going(quick), works() as seen:
                made.append((observe(case, rg.hybridize), seen))
    finally:
        gc.enable()
    return made[2:]


@needs_compiler
@pytest.mark.parametrize("case", [CASES[number] for number in sorted(CASES) if "threads" not in CASES[number].name],
                         ids=str)
def test_the_same_work_is_put_off(case):
    (expected, slow), (shown, fast) = both(case)
    assert fast == slow
    assert compare(expected, shown) == ("right", "")


@needs_compiler
@pytest.mark.parametrize("seed", range(20, 30))
def test_the_same_work_is_put_off_by_random_programs(seed):
    (expected, slow), (shown, fast) = both(Case(seed, f"random program {seed}", running(seed)))
    assert fast == slow
    assert compare(expected, shown) == ("right", "")


X, W = nd.array([[1, -2], [3, 0.5]]), nd.array([[2, 2], [0.25, 4]])
NX = X.as_np_ndarray()
CUBE = nd.arange(24).reshape((2, 4, 3))
NUMBERS = [2, 2.0, True, False, 0.0, -0.0, float("nan"), float("inf"), 10 ** 400, 1 << 62, -7, np.float32(2),
           np.float64(0.1), np.int64(3), np.bool_(True), np.uint8(200), 1j, "a", None, [1.0], (1, 2), np.ones((2, 2)),
           np.float16(3)]
ARITHMETIC = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "%": lambda a, b: a % b, "**": lambda a, b: a ** b, "<": lambda a, b: a < b, ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b, "maximum": lambda a, b: mx.nd.maximum(a, b),
}


def result(function, *args):
    """What comes of it, value or words."""
    try:
        made = function(*args)
    except Exception as error:  # compared
        return type(error).__name__, str(error).splitlines()[0]
    if isinstance(made, mx.nd.NDArray):
        value = made.asnumpy()
        return type(made).__name__, isinstance(made, mx.np.ndarray), str(value.dtype), value.shape, value.tobytes()
    return type(made).__name__, repr(made)


@pytest.mark.parametrize("name", ARITHMETIC)
def test_operands_of_every_kind(name, quick):
    """Numbers of all kinds, on either side, and arrays of other kinds: the same values, types and errors."""
    function = ARITHMETIC[name]
    operands = [*NUMBERS, W, NX, W.astype("float64"), nd.ones((1, 2)), nd.ones((3,)), nd.ones((1,))]
    programs = (lambda x, other: function(x * 1, other)), (lambda x, other: function(other, x * 1))
    for x in (X, NX):
        for other in operands:
            mixed = isinstance(other, mx.nd.NDArray) and type(x) is not type(other)  # refused, by either of them
            for program in programs:
                expected, converted = result(program, x, other), rg.hybridize(program)
                for _ in range(4):
                    seen = result(converted, x, other)
                    assert seen[0] == expected[0] if mixed else seen == expected, (x, other)


ALL = slice(None)
KEYS = [0, 1, -1, 2, 7, True, np.int64(1), ALL, slice(1, None), slice(None, -1), slice(0, 9), slice(2, 1),
        slice(None, None, 2), slice(None, None, -1), None, Ellipsis, (), (0,), (0, 1), (0, 1, 2), (ALL, 1),
        (ALL, slice(1, 3)), (Ellipsis, 0), (None, 1), (slice(1, 2), None), (0, ALL, 1), (ALL, 9), 1.0, "a", [0, 1],
        (ALL, [0, 1]), (True, 1), (0, 1, 2, 0), slice(0.0, 1), np.array([0, 1]), (1, slice(1, 2), slice(0, 2))]


@pytest.mark.parametrize("array", [CUBE, CUBE.as_np_ndarray()], ids=["nd", "np"])
def test_keys_of_every_kind(array, quick):
    def index(key):
        return lambda x: (x * 1)[key]

    for key in KEYS:
        expected = result(index(key), array)
        converted = rg.hybridize(index(key))
        for _ in range(4):
            assert result(converted, array) == expected, key


@pytest.mark.parametrize("arguments", [((3, 8),), (3, 8), ((-1, 2),), (-1,), ((0, -1),), ((-2,),), ((5, 5),), (),
                                       ("a",), ((2, -1, True),), ([4, 6],)], ids=str)
def test_shapes_of_every_kind(arguments, quick):
    converted = rg.hybridize(lambda x: (x * 1).reshape(*arguments))
    expected = result(lambda x: (x * 1).reshape(*arguments), CUBE)
    for _ in range(4):
        assert result(converted, CUBE) == expected
    assert result(rg.hybridize(lambda x: (x * 1).reshape(shape=(3, 8))), CUBE)[3] == (3, 8)


@pytest.mark.parametrize("dtype", ["float64", np.float16, np.dtype("int32"), "no type", bool], ids=str)
def test_types_of_every_kind(dtype, quick):
    converted, expected = rg.hybridize(lambda x: (x * 1).astype(dtype)), result(lambda x: (x * 1).astype(dtype), X)
    for _ in range(4):
        assert result(converted, X) == expected


def attributes_of(function):
    """The Call that a function of an array makes last, and whether it was put off."""
    found = []

    def program(x):
        x = x * 1
        function(x)
        found.append(current_log().work.ops[-1][0] if current_log().work.ops else None)

    converted = rg.hybridize(program)
    for _ in range(3):
        converted(X)
    return found[-1]


def test_calls_are_told_apart(quick):
    """By values and types: what is written differently is another Call."""
    scalars = [0.0, -0.0, 1, 1.0, np.float32(1), np.float64(1), float("nan"), "1"]
    found = [attributes_of(lambda x, v=v: mx.nd._internal._plus_scalar(x, scalar=v)) for v in scalars]
    assert [str(v) for v in scalars] == [op.values[0] for op in found]
    assert attributes_of(lambda x: x.reshape((4, 1))) is attributes_of(lambda x: x.reshape((4, 1)))


def test_an_integer_and_a_truth_in_a_shape_are_not_one(quick):
    converted = rg.hybridize(lambda x, shape: mx.nd.reshape(x * 1, shape=shape).shape)
    for _ in range(4):
        assert converted(X, (4, 1)) == (4, 1)
        with pytest.raises(mx.MXNetError):
            converted(X, (4, True))


def test_devices_are_told_apart(quick):
    converted = rg.hybridize(lambda ctx: nd.zeros((2,), ctx=ctx) + 1)
    for _ in range(4):
        for ctx in (mx.cpu(0), mx.cpu(1), mx.cpu(0)):
            assert converted(ctx).context == ctx


def test_nothing_is_kept(quick):
    """Arrays and what stands for them are let go of, whether they were computed or not."""
    def step(x):
        kept = [x * i + W for i in range(5)]
        a, b = nd.split(kept[2], 2, axis=1)
        return (nd.concat(a, b, dim=1)[0] + kept[4][:, 1].reshape((2,))).astype("float64")

    converted = rg.hybridize(step)
    before = []
    for i in range(60):
        converted(X).asnumpy()
        if i in (30, 59):
            gc.collect()
            before.append((len(gc.get_objects()), *map(sys.getrefcount, (W, X, mx.nd.NDArray))))
    assert before[0][1:] == before[1][1:] and before[1][0] - before[0][0] < 20


def test_garbage_is_not_needed(quick):
    """No array is part of a cycle: memory is free as soon as Python lets go of it."""
    converted = rg.hybridize(lambda x: (x * 2 + 1)[0])
    for _ in range(6):
        converted(X).asnumpy()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            converted(X).wait_to_read()
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_an_error_inside_leaves_nothing_behind(quick):
    converted = rg.hybridize(lambda x, w: nd.dot(x * 2, w) + 1)
    for i in range(8):
        if i % 2:
            with pytest.raises(mx.MXNetError):
                converted(X, nd.ones((3, 2))).asnumpy()
        assert converted(X, W).asnumpy() == pytest.approx((nd.dot(X * 2, W) + 1).asnumpy())


def test_what_could_not_be_computed_is_not_read(quick, monkeypatch):
    """Values of work that failed are not taken for values of other work."""
    kept = []

    def program(x, fail):
        y = x * 3
        if fail:
            kept.append(y)
            raise KeyError
        return y + 1

    converted = rg.hybridize(program)
    with autograd.record():
        for _ in range(4):
            converted(X, False)
        with pytest.raises(KeyError):
            converted(X, True)
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(Conversion, "compute", lambda *args: 1 / 0)
            kept[0].asnumpy()
        for use in (lambda: converted(X, False) + kept[0], lambda: kept[0].asnumpy(), lambda: kept[0][0],
                    lambda: kept[0].detach()):
            with pytest.raises(mx.MXNetError, match="their computation failed"):
                use()
        assert kept[0].shape == (2, 2)
        assert converted(X, False).asnumpy() == pytest.approx((X * 3 + 1).asnumpy())


def test_other_threads_compute_while_calls_are_put_off(quick):
    """Arrays are handed to threads that read them while this one goes on."""
    handed, wrong, done = [], [], threading.Event()

    def reader():
        while not done.is_set() or handed:
            if handed:
                i, array = handed.pop()
                if array.asnumpy()[0, 0] != i + 3:
                    wrong.append(i)

    converted = rg.hybridize(lambda x: x * 1 + 1 + 1)
    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with autograd.record():
            for i in range(400):
                x = converted(X * 0 + i)
                handed.append((i, x + 1))
                assert (x.asnumpy()[0, 0] == i + 2) or wrong.append(-i)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []


@needs_compiler
def test_plans_are_made_and_used():
    PLANS.clear()
    converted = rg.hybridize(lambda x: (x * 2)[:, 1:2])
    for _ in range(5):
        assert converted(X).asnumpy().tolist() == (X * 2)[:, 1:2].asnumpy().tolist()
    (plan,) = PLANS.values()
    assert [step[0].name for step in plan] == ["slice", "Reshape"] and conversion_of(converted).report.calls == 5


def test_what_is_known_of_a_lazy_array(quick):
    def program(x):
        y = x + 1
        return x.shape, y.shape, y.dtype, y.context, y.ctx, y.stype, is_lazy(y)

    converted = rg.hybridize(program)
    for _ in range(3):
        legacy, numpy = converted(X), converted(NX)
    assert legacy == ((2, 2), (2, 2), np.float32, mx.cpu(), mx.cpu(), "default", True)
    assert type(numpy[2]) is type(NX.dtype) and numpy[2] == NX.dtype and isinstance(legacy[2], type)


PROGRAM = """
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
import mxnet as mx, recursive_gluon as rg
from recursive_gluon import native
step = rg.hybridize(lambda x: (x * 2 + 1)[0])
print([float(step(mx.nd.ones((2, 2))).sum().asscalar()) for _ in range(6)], native.skeleton() is None)
"""


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="processes of their own, without the sanitizers")
@pytest.mark.parametrize("env", [{"RECURSIVE_GLUON_NATIVE": "0"}, {"CXX": "no-compiler"}, {"CXX": "false"}], ids=str)
def test_without_a_compiler(env, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RECURSIVE_GLUON_CACHE": str(tmp_path), **env}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, cwd=str(ROOT))
    assert done.stdout.strip() == f"{[6.0] * 6} True" and not done.stderr, done.stderr
