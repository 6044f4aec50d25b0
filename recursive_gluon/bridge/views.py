"""Views, casts and copies of lazy arrays, without computing them.

In MXNet a view shares memory with its base, so a write to either is seen in both. A view of a lazy array is two things:
operators that compute it inside of a graph, where nothing is ever written; and how to make the true view, by which it
becomes an array should Python keep it. Each function here replaces a method of NDArray; what it does not know it leaves
to that method, on the computed array.
"""
from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

import numpy

from .._compat import mx
from .values import Value, compute, get_raw

__all__ = ["as_numpy_array", "as_legacy_array", "at", "basic_indexing", "cast", "computed", "detach", "reshape",
           "slice_rows"]

_numpy_array = mx.np.ndarray
_DIMENSIONS = 6  # the most that oneDNN's reshape, which is an operator's, has; a true view may have more


def computed(name: str) -> Callable:
    """The ordinary method, on an array that is computed first."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        compute(self, name)
        return getattr(self, name)(*args, **kwargs)

    return method


def _view(array: Any, chain: list, make: Callable, numpy_array: Optional[bool] = None) -> Any:
    if numpy_array is None:
        numpy_array = isinstance(array, _numpy_array)
    raw = get_raw(array)
    return raw.log.view(array, chain, make, numpy_array) if type(raw) is Value else make(compute(array, "a view"))


def _reshaped(array: Any, shape: Tuple[int, ...]) -> Tuple:
    """The operator that reshapes; MXNet's older one has no shape of no dimensions."""
    if isinstance(array, _numpy_array):
        return "_np_reshape", {"newshape": shape}, shape
    return "Reshape", {"shape": shape}, shape


def reshape(self: Any, *shape: Any, **kwargs: Any) -> Any:
    target = shape[0] if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape or kwargs.get("shape", ())
    known = None if kwargs.get("reverse") or set(kwargs) - {"shape", "reverse"} else _result(self.shape, tuple(target))
    name = "reshape_view" if isinstance(self, _numpy_array) else "reshape"
    if known is None:
        return computed(name)(self, *shape, **kwargs)
    return _view(self, [_reshaped(self, known)], lambda base: getattr(base, name)(known))


def _result(shape: Tuple[int, ...], target: Tuple[Any, ...]) -> Optional[Tuple[int, ...]]:
    """The shape that results where NumPy's rule gives it; None for MXNet's special numbers, mistakes, no elements."""
    if not 0 < len(target) <= _DIMENSIONS:
        return None
    if not all(isinstance(n, (int, numpy.integer)) and (n > 0 or n == -1) for n in target):
        return None
    size, named = int(numpy.prod(shape, dtype=numpy.int64)), -1 if -1 in target else 1
    for n in target:
        named *= int(n)
    if size == 0 or target.count(-1) > 1 or (size != named if -1 not in target else size % named):
        return None
    return tuple(size // named if n == -1 else int(n) for n in target)


def at(self: Any, index: int) -> Any:
    shape = self.shape
    position = int(index + shape[0] if index < 0 else index)
    rest = shape[1:] if len(shape) > 1 or isinstance(self, _numpy_array) else (1,)
    if not 0 <= position < shape[0] or 0 in rest:
        return computed("_at")(self, index)
    rows = (1,) + shape[1:]
    chain = [("slice_axis", {"axis": 0, "begin": position, "end": position + 1}, rows)]
    if rest != rows:
        chain.append(_reshaped(self, rest))
    return _view(self, chain, lambda base: base._at(index))


def slice_rows(self: Any, start: Optional[int], stop: Optional[int]) -> Any:
    shape = self.shape
    inside = all(n is None or isinstance(n, (int, numpy.integer)) and -shape[0] <= n <= shape[0] for n in (start, stop))
    begin, end, _ = slice(start, stop).indices(shape[0]) if inside else (0, 0, 0)  # MXNet refuses others
    if begin >= end or 0 in shape:
        return computed("_slice")(self, start, stop)
    chain = [("slice_axis", {"axis": 0, "begin": begin, "end": end}, (end - begin,) + shape[1:])]
    return _view(self, chain, lambda base: base._slice(start, stop))


def basic_indexing(name: str) -> Callable:
    """Of a key of integers, slices and None: a view where it is contiguous, else operators that make a copy."""

    def method(self: Any, key: Tuple) -> Any:
        shape, numbers = self.shape, tuple(i for i in key if i is not None)
        inside = len(numbers) == len(shape) and all(
            -n <= i < n for i, n in zip(numbers, shape) if isinstance(i, (int, numpy.integer)))
        if not inside or 0 in shape:
            return computed(name)(self, key)
        slices, integers = self._basic_indexing_key_int_to_slice(numbers)
        sliced = self._basic_indexing_sliced_shape(slices, shape)
        if not self._basic_indexing_slice_is_contiguous(slices, shape) or 0 in sliced:
            return getattr(_numpy_array if isinstance(self, _numpy_array) else mx.nd.NDArray, name)(self, key)
        nones = [axis for axis, i in enumerate(key) if i is None]
        final = [n for axis, n in enumerate(sliced) if axis not in integers]
        for axis in self._new_axes_after_basic_indexing(nones, key) if nones else ():
            final.insert(axis, 1)
        if len(final) > _DIMENSIONS:
            return computed(name)(self, key)
        if not final and not isinstance(self, _numpy_array):
            final = [1]
        begin, end = self._basic_indexing_contiguous_flat_begin_end(slices, shape)
        size = int(numpy.prod(shape, dtype=numpy.int64))
        chain = [_reshaped(self, (size,)),
                 ("slice_axis", {"axis": 0, "begin": int(begin), "end": int(end)}, (int(end - begin),)),
                 _reshaped(self, tuple(int(n) for n in final))]
        return _view(self, chain, lambda base: getattr(base, name)(key))

    return method


def detach(self: Any) -> Any:
    raw = get_raw(self)
    # While recording, what it is detached from is not to be reached from here, which no graph can tell.
    if type(raw) is not Value or raw.log.recording:
        return computed("detach")(self)
    return _view(self, [("BlockGrad", {}, self.shape)], lambda base: base.detach())


def as_legacy_array(self: Any) -> Any:
    return self if not isinstance(self, _numpy_array) else _view(
        self, [("_copy", {}, self.shape)], lambda base: base.as_nd_ndarray(), False)


def as_numpy_array(self: Any) -> Any:
    return self if isinstance(self, _numpy_array) else _view(
        self, [("_copy", {}, self.shape)], lambda base: base.as_np_ndarray(), True)


def cast(self: Any, dtype: Any, *args: Any, **kwargs: Any) -> Any:
    """``astype`` as the operator; MXNet makes an empty array and copies into it."""
    if args or set(kwargs) - {"copy"} or numpy.dtype(dtype).names:  # bfloat16 is a structure in NumPy
        return computed("astype")(self, dtype, *args, **kwargs)
    if not kwargs.get("copy", True) and numpy.dtype(dtype) == self.dtype:
        return self
    if isinstance(self, _numpy_array):
        return mx.nd.cast(self.as_nd_ndarray(), dtype=dtype).as_np_ndarray()
    return mx.nd.cast(self, dtype=dtype)
