"""Arrays that grow at the end, by doubling."""
from __future__ import annotations

from typing import Tuple

import numpy as np

__all__ = ["Grow"]


class Grow:
    """An array to which rows are appended; ``view()`` is the array so far (valid until the next append)."""

    __slots__ = ("_data", "_size")

    def __init__(self, dtype, width: Tuple[int, ...] = ()):
        self._data = np.empty((16, *width), dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, rows) -> None:
        """Append an array of rows."""
        self._reserve(len(rows))
        self._data[self._size:self._size + len(rows)] = rows
        self._size += len(rows)

    def extend(self, count: int, value) -> None:
        """Append `count` rows of one value."""
        self._reserve(count)
        self._data[self._size:self._size + count] = value
        self._size += count

    def _reserve(self, count: int) -> None:
        need = self._size + count
        if need > len(self._data):
            data = np.empty((max(need, 2 * len(self._data)), *self._data.shape[1:]), self._data.dtype)
            data[:self._size] = self._data[:self._size]
            self._data = data

    def view(self) -> np.ndarray:
        return self._data[:self._size]
