"""What stands in the handle of an array that is not computed yet, and the slot it stands in."""
from __future__ import annotations

from typing import Any, Callable

from .._compat import mx
from ..capture.calls import Aval

__all__ = ["Row", "Value", "compute", "get_raw", "is_lazy", "set_raw"]

_Handle = mx.base.NDArrayHandle

_SLOT = mx.ndarray._internal.NDArrayBase.__dict__["handle"]
get_raw: Callable[[Any], Any] = _SLOT.__get__
set_raw: Callable[[Any, Any], None] = _SLOT.__set__


class Value:
    """The `number` of a value in `log`, and what is known of it."""

    __slots__ = ("log", "number", "aval")

    def __init__(self, log: Any, number: int, aval: Aval):
        self.log, self.number, self.aval = log, number, aval


class Row:
    """A value that was computed with others; ``make()`` gives an array of its own, which few ask for."""

    __slots__ = ("make", "aval")

    def __init__(self, make: Callable[[], Any], aval: Aval):
        self.make, self.aval = make, aval


def compute(array: Any, why: str) -> Any:
    """The array, an ordinary one from here on; `why` is told where that launches work."""
    raw = get_raw(array)
    if type(raw) is Value:
        raw.log.launch(why)
    array.handle  # noqa: B018 - makes it one, where it lies among others
    return array


def is_lazy(array: Any) -> bool:
    return type(get_raw(array)) is not _Handle
