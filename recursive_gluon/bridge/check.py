"""check(): is a converted program equal to the same program as it is?"""
from __future__ import annotations

import contextlib
import copy
import io
import random
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Tuple, Union

import numpy as np

from .._compat import mx
from .convert import convert, restore

__all__ = ["CheckReport", "check"]

_TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check` found; true where nothing differs.

    Attributes
    ----------
    steps : int
        Steps that were compared.
    difference : str
        The first difference: step, what differs, and both values. '' where there is none.
    """

    steps: int
    difference: str

    def __bool__(self) -> bool:
        return not self.difference

    def __str__(self) -> str:
        return self.difference or f"equal over {self.steps} steps"


def check(net: Any, *args: Any, steps: int = 6, train: bool = True, seed: int = 0) -> CheckReport:
    """Run a block unconverted and converted side by side, and tell the first difference.

    Both are copies: `net` itself is not run.

    Parameters
    ----------
    net : gluon.Block
        Initialized, converted or not.
    *args : NDArrays, or one function
        What it is called with in every step; a function ``args(step)`` gives the arguments of each.
    steps : int, default 6
        A program is converted after it has been seen a few times, so fewer than 5 show little.
    train : bool, default True
        Record, compute gradients of the sum of all outputs, and move the parameters against them.
    seed : int, default 0
        All random generators are seeded with it, plus the step, before each step.

    Returns
    -------
    CheckReport
        Compared are outputs, gradients, parameters, the block's attributes, printed text, exceptions and the random
        numbers that follow. Floats may differ by summation order: 1e-5 of the norm in float32.
    """
    arguments: Callable[[int], Any] = args[0] if len(args) == 1 and not isinstance(args[0], mx.nd.NDArray) and callable(
        args[0]) else lambda step: args
    plain, converted = (restore(copy.deepcopy(net)) for _ in range(2))
    convert(converted)
    for step in range(steps):
        seen = [list(_step(one, arguments, step, train, seed)) for one in (plain, converted)]
        for (what, expected), (also, got) in zip(*seen):
            found = f"{also} instead of {what}" if what != also else _difference(expected, got)
            if found:
                return CheckReport(step, f"step {step}, {what}: {found}")
        if len(seen[0]) != len(seen[1]):
            return CheckReport(step, f"step {step}: {len(seen[1])} observations instead of {len(seen[0])}")
    return CheckReport(steps, "")


def _step(net: Any, arguments: Callable[[int], Any], step: int, train: bool, seed: int) -> Iterator[Tuple[str, Any]]:
    for seeded in (random.seed, np.random.seed, mx.random.seed):
        seeded(seed + step)
    args = arguments(step)
    text, outputs, heads, error = io.StringIO(), [], [], None
    parameters = list(net.collect_params().values())
    with contextlib.redirect_stdout(text):
        try:
            with (mx.autograd.record() if train else contextlib.nullcontext()):
                outputs = _arrays(net(*args if isinstance(args, (tuple, list)) else (args,)))
                heads = [array.sum() for array in outputs if train and np.issubdtype(array.dtype, np.floating)]
            if heads:
                mx.autograd.backward(heads)
            outputs = [array.asnumpy() for array in outputs]
        except Exception as raised:  # the program's own: it is compared
            error = raised
    yield "exception", None if error is None else (
        type(error).__name__, "" if isinstance(error, mx.MXNetError) else str(error))
    yield "printed text", text.getvalue()
    yield from ((f"output {i}", array) for i, array in enumerate(outputs))
    for i, parameter in enumerate(parameters):
        if parameter._data is None:
            continue
        if train and parameter.grad_req != "null":
            gradient = parameter.grad()
            yield f"gradient of {_name(parameter, i)}", gradient.asnumpy()
            if heads:
                parameter.set_data(parameter.data() - 0.01 * gradient)
        yield f"parameter {_name(parameter, i)}", parameter.data().asnumpy()
    for name, value in sorted(vars(net).items()):
        if not name.startswith("_"):
            yield f"attribute {name}", value.asnumpy() if isinstance(value, mx.nd.NDArray) else value
    yield "the random numbers that follow", mx.nd.random.uniform(shape=(2,)).asnumpy()
    yield "Python's random numbers that follow", random.random()
    yield "NumPy's random numbers that follow", np.random.rand()


def _name(parameter: Any, i: int) -> str:
    return f"{i} ({parameter.name})"


def _arrays(outputs: Any) -> List[Any]:
    if isinstance(outputs, mx.nd.NDArray):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [array for part in outputs for array in _arrays(part)] if isinstance(outputs, (list, tuple)) else []


def _difference(expected: Any, got: Any) -> str:
    if not isinstance(expected, np.ndarray) or not isinstance(got, np.ndarray):
        plain = (int, float, str, bool, tuple, list, dict, type(None))
        same = type(expected) is type(got) and (not isinstance(expected, plain) or _equal(expected, got))
        return "" if same else f"{got!r} instead of {expected!r}"
    if (expected.shape, expected.dtype) != (got.shape, got.dtype):
        return f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
    tolerance = _TOLERANCE.get(str(expected.dtype), 0)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    same = np.array_equal(finite, np.isfinite(b)) and np.array_equal(a[~finite], b[~finite], equal_nan=True)
    off = float(np.linalg.norm((a - b)[finite])) if same else np.inf
    allowed = tolerance * max(float(np.linalg.norm(a[finite])), 1e-2)
    return "" if off <= allowed else f"differs by {off:.3g} (norm), where {allowed:.3g} is the order of summation"


def _equal(expected: Union[dict, list, Any], got: Any) -> bool:
    """Plain values; arrays inside of containers are compared by what they hold."""
    if isinstance(expected, mx.nd.NDArray):
        return isinstance(got, mx.nd.NDArray) and not _difference(expected.asnumpy(), got.asnumpy())
    if isinstance(expected, dict):
        return expected.keys() == got.keys() and all(_equal(expected[k], got[k]) for k in expected)
    if isinstance(expected, (list, tuple)):
        return len(expected) == len(got) and all(map(_equal, expected, got))
    return type(expected) is type(got) and (not isinstance(expected, (int, float, str, bool)) or expected == got
                                            or expected != expected)
