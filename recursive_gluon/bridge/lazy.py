"""Arrays whose operator has been put off.

Every use of an array outside of Python goes through its ``handle``. A lazy array keeps there what stands for its value;
whoever asks for the handle has the work launched, and from then on the object is an ordinary array: the same object, of
MXNet's own class. So nothing that MXNet or a user does with a lazy array can go wrong for not having been foreseen; it
only costs a launch. What is foreseen (shape, dtype, context, views, casts) costs none.
"""
from __future__ import annotations

from typing import Any, Callable, Dict

import numpy

from .._compat import mx
from . import views
from .values import Row, Value, get_raw, set_raw

__all__ = ["LazyLegacy", "LazyNumPy", "adopt", "new_lazy", "resolve"]

_new = object.__new__
_Handle = mx.base.NDArrayHandle


def _handle(self: Any) -> Any:
    raw = get_raw(self)
    if type(raw) is Value:
        raw.log.launch_for(self)
    if type(get_raw(self)) is Row:
        adopt(self, get_raw(self).make())
    return get_raw(self)


def _known(name: str, convert: Callable = lambda value: value) -> property:
    def read(self: Any) -> Any:
        raw = get_raw(self)
        return convert(getattr(raw.aval, name)) if type(raw) is not _Handle else getattr(self, name)

    return property(read)


class _LazyType(type):
    """``type(x) == mx.nd.NDArray`` holds for lazy arrays too: MXNet's own code asks it."""

    def __eq__(cls, other: Any) -> bool:
        return other is cls or other is cls.__base__

    def __hash__(cls) -> int:
        return hash(cls.__base__)


_MEMBERS = {
    "handle": property(_handle, set_raw),
    "__del__": lambda self: None,  # there is nothing to free
    **{name: _known(name) for name in ("shape", "dtype", "context", "stype")},
    "ctx": property(lambda self: self.context),
    "__setitem__": views.computed("__setitem__"),
    "_at": views.at,
    "_slice": views.slice_rows,
    "detach": views.detach,
    "astype": views.cast,
    "as_nd_ndarray": views.as_legacy_array,
    "as_np_ndarray": views.as_numpy_array,
}
_OWN: Dict[type, Dict[str, Any]] = {
    mx.nd.NDArray: {"reshape": views.reshape, "_get_nd_basic_indexing": views.basic_indexing("_get_nd_basic_indexing")},
    mx.np.ndarray: {"dtype": _known("dtype", numpy.dtype), "reshape_view": views.reshape,
                    "_get_np_basic_indexing": views.basic_indexing("_get_np_basic_indexing")},
}


def _lazy_class(base: type) -> type:
    names = {"__slots__": (), "__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return _LazyType(base.__name__, (base,), {**names, **_MEMBERS, **_OWN[base]})


LazyLegacy, LazyNumPy = _lazy_class(mx.nd.NDArray), _lazy_class(mx.np.ndarray)
_ordinary = {id(LazyLegacy): mx.nd.NDArray, id(LazyNumPy): mx.np.ndarray}


def new_lazy(value: Value, numpy: bool) -> Any:
    """A lazy array; of ``mx.np`` if `numpy`."""
    array: Any = _new(LazyNumPy if numpy else LazyLegacy)
    set_raw(array, value)
    array.writable = True
    return array


def adopt(array: Any, other: Any) -> None:
    """Let a lazy array become what `other` is, which nobody else holds."""
    resolve(array, other.handle)
    set_raw(other, None)


def resolve(array: Any, handle: Any) -> None:
    """Give a lazy array its handle: it is an ordinary one from here on."""
    array.__class__ = _ordinary[id(type(array))]
    set_raw(array, handle)
