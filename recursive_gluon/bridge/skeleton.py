"""The quick way of putting calls off: `Log.invoke` in C++, for calls that were met before.

The Python of this package is the rule, and all state is Python's. The compiled module looks at it through the slots of
its classes, and does a call if there is nothing to decide; else the Python that it stands for is called. Without a
compiler that is so for every call.
"""
from __future__ import annotations

from typing import Any, Callable, Dict

from .. import native
from .._compat import mx
from ..capture import calls, interception
from .conversion import Known
from .lazy import LazyLegacy, LazyNumPy
from .log import Log, thread
from .values import Value
from .work import Work

__all__ = ["enable", "install"]

_REGISTER = mx.ndarray.register
_HELPERS = mx.ndarray.ndarray, mx.ndarray.numpy._op  # modules with a _ufunc_helper


def install(interceptor: interception.Interceptor) -> None:
    """Have `interceptor` told of what MXNet's Python does, and calls put off quickly; once a process."""
    if not interception.install(interceptor):
        return
    module = native.skeleton()
    if module is None:
        return
    legacy, numpy = (helper._ufunc_helper for helper in _HELPERS)
    kinds = (Value, Log, Work, Known, calls.Aval, calls.Call, LazyLegacy, LazyNumPy, mx.nd.NDArray, mx.np.ndarray,
             mx.ndarray._internal.NDArrayBase)
    module.setup({
        **dict(zip(("Value", "Log", "Work", "Known", "Aval", "Call", "LazyLegacy", "LazyNumPy", "NDArray", "ndarray",
                    "NDArrayBase"), kinds)),
        "PURE": calls.PURE, "STATISTICS": calls.STATISTICS, "call": calls.call, "array_aval": calls.array_aval,
        "thread": thread, "invoke": interceptor.invoke, "legacy_helper": legacy, "numpy_helper": numpy,
        "legacy_verify": _REGISTER._verify_all_legacy_ndarrays, "numpy_verify": _REGISTER._verify_all_np_ndarrays,
        "legacy_operators": {**_operators(mx.ndarray.op), **_operators(mx.ndarray._internal)},
        "numpy_operators": _operators(mx.ndarray.numpy._internal),
    })
    interception.replace({
        (_REGISTER, "_imperative_invoke"): module.invoke,
        (_REGISTER, "_verify_all_legacy_ndarrays"): module.verify_legacy,
        (_REGISTER, "_verify_all_np_ndarrays"): module.verify_numpy,
        (_HELPERS[0], "_ufunc_helper"): module.legacy_arithmetic,
        (_HELPERS[1], "_ufunc_helper"): module.numpy_arithmetic,
    })


def enable(quick: bool) -> bool:
    """Whether to go the quick way from now on, if there is one; whether there is."""
    module = native.skeleton()
    if module is not None:
        module.enable(quick)
    return module is not None


def _operators(module: Any) -> Dict[Callable, int]:
    """Generated functions of two arrays, or of an array and a number, and the handle that stands in their code."""
    found = {}
    for function in vars(module).values():
        code = getattr(function, "__code__", None)
        if code is not None and code.co_varnames[:2] in (("lhs", "rhs"), ("data", "scalar")):
            handles = [c for c in code.co_consts if type(c) is int]
            if len(handles) == 1:
                found[function] = handles[0]
    return found
