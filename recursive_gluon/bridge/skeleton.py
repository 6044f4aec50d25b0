"""The quick way of putting calls off: `Log.invoke` in C++, for calls that were met before.

The Python of this package is the rule, and all state is Python's. The compiled module looks at it through the slots of
its classes, and does a call if there is nothing to decide; else the Python that it stands for is called. Without a
compiler that is so for every call.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import numpy

from .. import native
from .._compat import mx
from ..capture import calls, interception
from . import batching, conversion, log, segments, work
from .conversion import Known
from .lazy import LazyLegacy, LazyNumPy
from .plans import PLANS, remember
from .values import Row, Value

__all__ = ["enable", "install"]

_Place = Tuple[Any, str]  # of a function: module and name
_BASE, _REGISTER, _LEGACY, _NUMPY = mx.base, mx.ndarray.register, mx.ndarray.ndarray, mx.ndarray.numpy._op
#: functions of the module, and those of Python that they stand for
_TWINS: Dict[str, _Place] = {
    "invoke": (_REGISTER, "_imperative_invoke"),
    "legacy_verify": (_REGISTER, "_verify_all_legacy_ndarrays"),
    "numpy_verify": (_REGISTER, "_verify_all_np_ndarrays"),
    "legacy_helper": (_LEGACY, "_ufunc_helper"),
    "numpy_helper": (_NUMPY, "_ufunc_helper"),
    "array_aval": (log, "array_aval"),
    "has_gradient": (log, "has_gradient"),
    "modes": (log, "modes"),
    "held": (work, "held"),
    "launch": (segments, "launch"),
    "replay": (conversion, "replay"),
    "kinds": (batching, "kinds"),
    "agenda": (batching, "agenda"),
    "spreads": (batching, "spreads"),
}
#: methods and properties of lazy arrays, by the same names
_METHODS = {
    "get_item": ((LazyLegacy, "__getitem__"), (LazyNumPy, "__getitem__")),
    "reshape": ((LazyLegacy, "reshape"), (LazyNumPy, "reshape_view")),
    "cast": ((LazyLegacy, "astype"), (LazyNumPy, "astype")),
}
_PROPERTIES = {"shape": "shape", "dtype": "dtype", "context": "context", "ctx": "context", "stype": "stype"}
_python: Dict[_Place, Any] = {}
_compiled: Dict[_Place, Any] = {}


def install(interceptor: interception.Interceptor) -> None:
    """Have `interceptor` told of what MXNet's Python does, and calls put off quickly; once a process."""
    if not interception.install(interceptor):
        return
    module = native.skeleton()
    if module is None:
        return
    originals = {name: getattr(*place) for name, place in _TWINS.items()}
    methods = {f"{name}_{kind}": getattr(*place) for name, places in _METHODS.items()
               for kind, place in zip(("legacy", "numpy"), places)}
    classes = (Value, Row, log.Log, work.Work, Known, calls.Aval, calls.Call, mx.nd.NDArray, mx.np.ndarray, mx.Context,
               mx.ndarray._internal.NDArrayBase)
    module.setup({
        **{kind.__name__: kind for kind in classes}, "LazyLegacy": LazyLegacy, "LazyNumPy": LazyNumPy, **originals,
        **methods, "plans": PLANS, "remember": remember, "numpy_dtype": numpy.dtype,
        "PURE": calls.PURE, "STATISTICS": calls.STATISTICS, "call": calls.call, "check_call": _BASE.check_call,
        "thread": log.thread, "legacy_operators": {**_operators(mx.ndarray.op), **_operators(mx.ndarray._internal)},
        "numpy_operators": _operators(mx.ndarray.numpy._internal),
    })
    _compiled.update({place: getattr(module, name) for name, place in _TWINS.items()})
    _compiled.update({place: getattr(module, name) for name, places in _METHODS.items() for place in places})
    _compiled.update({(kind, name): property(getattr(module, known)) for name, known in _PROPERTIES.items()
                      for kind in (LazyLegacy, LazyNumPy)})
    _python.update({place: getattr(*place) for place in _compiled})
    enable(True)


def enable(quick: bool) -> bool:
    """Whether to go the quick way from now on, if there is one; whether there is."""
    interception.replace(_compiled if quick else _python)
    return bool(_compiled)


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
