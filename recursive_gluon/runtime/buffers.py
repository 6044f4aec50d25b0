"""Buffers of rows that outlive a call: fresh memory costs page faults at every step, used memory does not."""
from __future__ import annotations

from threading import Lock
from typing import Any, Dict, List, Tuple

import numpy as np

from .._compat import mx
from .arrays import put_rows

__all__ = ["Pool"]

#: buffers of one kind that are kept; more than a few are in use only when calls overlap
_KEEP = 6


class Pool:
    """NDArrays to borrow. Row 0 of a buffer with `reserved` row is zero and stays so; other rows hold anything."""

    def __init__(self) -> None:
        self._free: Dict[Tuple, List[Any]] = {}
        self._lock = Lock()

    def borrow(self, rows: int, shape: Tuple[int, ...], dtype: str, ctx, reserved: bool = True):
        """A buffer of at least `rows` rows."""
        key = (tuple(shape), dtype, ctx, reserved)
        with self._lock:
            free = self._free.get(key, [])
            fitting = [b for b in free if b.shape[0] >= rows]
            if fitting:
                found = min(fitting, key=lambda b: b.shape[0])
                free[:] = [b for b in free if b is not found]
                return found
        return mx.nd.zeros((_rounded(rows), *shape), ctx=ctx, dtype=dtype)

    def give_back(self, buffer, reserved: bool = True) -> None:
        """Return a buffer; whatever was launched on it is finished before others use it (the engine sees to it)."""
        key = (buffer.shape[1:], np.dtype(buffer.dtype).name, buffer.context, reserved)
        with self._lock:
            free = self._free.setdefault(key, [])
            free.append(buffer)
            if len(free) > _KEEP:
                smallest = min(free, key=lambda b: b.shape[0])
                free[:] = [b for b in free if b is not smallest]  # list.remove would compare the arrays' elements

    def larger(self, buffer, rows: int, shape, dtype: str, ctx, reserved: bool = True):
        """`buffer` if it has `rows` rows, else a larger one with its contents; None is an empty buffer."""
        if buffer is not None and buffer.shape[0] >= rows:
            return buffer
        new = self.borrow(rows if buffer is None else max(rows, 2 * buffer.shape[0]), shape, dtype, ctx, reserved)
        if buffer is not None:
            # The smaller one is not for others: the gradient reads rows of it that were kept as views.
            put_rows(new, 0, buffer)
        return new


def _rounded(rows: int) -> int:
    """A little more than asked for, so that the next batch fits too."""
    step = max(64, 1 << max(rows.bit_length() - 3, 0))
    return -(-rows // step) * step
