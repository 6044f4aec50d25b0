"""Columns: the values of one field, one entry a node.

A column is an int32 or float32 array with the nodes along its first axis, or a list of strings with None
where a node has no string. A missing number is -1 among integers and 0 among floats.
"""
from __future__ import annotations

import collections.abc
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from ..errors import FieldError, IndexRangeError, UnknownTokenError

Column = Any  # np.ndarray or list of str and None; code asks which by isinstance

_INT32 = np.iinfo(np.int32)
_SCALARS = {bool, int, float}


def as_column(name: str, values: Any, length: int) -> Column:
    """Make a column of what a caller gave for a whole tree, checking its length.

    Raises
    ------
    FieldError
        Another number of values than nodes, or values that are neither numbers nor strings.
    """
    if hasattr(values, 'asnumpy'):
        values = values.asnumpy()
    if not isinstance(values, np.ndarray):
        values = list(values)
    if len(values) != length:
        raise FieldError(f'field {name!r} has {len(values)} values for {length} nodes, expected one for each '
                         'node. Use None where a node has none')
    if isinstance(values, np.ndarray) and values.dtype.kind in 'OUS':
        values = values.tolist()
    if isinstance(values, np.ndarray):
        return _typed(name, values)
    return column(name, values)


def column(name: str, values: Sequence[Any]) -> Column:
    """Make a column of Python values, with None where there is none.

    Raises
    ------
    FieldError
        Strings among numbers, rows of different shapes, or values that are neither numbers nor strings.
    IndexRangeError
        An integer does not fit in 32 bits.
    """
    present = [value for value in values if value is not None]
    if not present:
        return [None] * len(values)
    types = set(map(type, present))
    texts = [kind for kind in types if issubclass(kind, str)]
    if texts:
        if len(texts) < len(types):
            other = next(value for value in present if not isinstance(value, str))
            raise FieldError(f'field {name!r} holds strings and {other!r}, expected strings only or numbers '
                             'only. Give them two names')
        return list(values)
    dense = as_rectangle(present)
    if dense.dtype.kind not in 'biuf':
        wide = next((value for value in present if isinstance(value, int) and value.bit_length() > 63), None)
        if wide is not None:
            raise IndexRangeError(_too_wide(name, wide))
        raise FieldError(f'field {name!r} holds values such as {present[0]!r:.80}, expected numbers, rows of '
                         'numbers of one shape, or strings. Turn them into one of these')
    dense = _typed(name, dense)
    if len(present) == len(values):
        return dense
    full = np.full((len(values),) + dense.shape[1:], missing(dense.dtype), dense.dtype)
    full[[index for index, value in enumerate(values) if value is not None]] = dense
    return full


def as_rectangle(values: Sequence[Any]) -> np.ndarray:
    """Values as one array; of dtype object where they are not numbers, or rows of different shapes."""
    if not set(map(type, values)) <= _SCALARS:
        try:
            np.array(values, np.float64)  # raises on ragged rows, in all versions of NumPy
        except (ValueError, TypeError, OverflowError):
            return np.empty(len(values), object)
    return np.array(values)


def missing(dtype: np.dtype) -> int:
    """The number that stands for a missing one: -1 among integers, 0 among floats."""
    return -1 if dtype.kind == 'i' else 0


def take(values: Column, order: np.ndarray) -> Column:
    """The column in another order of nodes."""
    return values[order] if isinstance(values, np.ndarray) else [values[index] for index in order]


def same(one: Column, other: Column) -> bool:
    """Whether two columns hold the same values."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return isinstance(one, list) and isinstance(other, list) and one == other


def on_all(mapping: Mapping[Any, Any] | Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    """A mapping or a callable as a function of a list of values; an unknown key is an `UnknownTokenError`."""
    if not isinstance(mapping, collections.abc.Mapping):
        if not callable(mapping):
            raise FieldError(f'{mapping!r:.80} cannot map a field, expected a mapping or a callable. Use a '
                             'dict, a Vocab or a function')
        return lambda values: list(map(mapping, values))

    def look_up(values: list[Any]) -> list[Any]:
        try:
            return list(map(mapping.__getitem__, values))
        except KeyError as error:
            raise UnknownTokenError(f'the vocabulary has no entry for {error.args[0]!r}. Use a Vocab, which '
                                    'has a number for unknown tokens, or a dict with a default') from None
    return look_up


def _typed(name: str, values: np.ndarray) -> np.ndarray:
    kind = values.dtype.kind
    if kind == 'f':
        return np.array(values, np.float32, order='C')
    if kind not in 'biu':
        raise FieldError(f'field {name!r} is an array of {values.dtype}, expected integers, floats or '
                         'strings. Convert it with astype')
    if values.dtype.itemsize >= 4 and values.dtype != np.int32 and values.size:
        low, high = int(values.min()), int(values.max())
        if low < _INT32.min or high > _INT32.max:
            raise IndexRangeError(_too_wide(name, high if high > _INT32.max else low))
    return np.array(values, np.int32, order='C')


def _too_wide(name: str, value: int) -> str:
    return (f'field {name!r} holds {value}, expected an integer of 32 bits. Number the values anew, or use '
            'floats')
