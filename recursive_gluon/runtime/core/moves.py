"""What operators do that only move, repeat or leave out the elements of a row: found by running them on numbers."""

from __future__ import annotations

from functools import lru_cache
from typing import Optional, Sequence, Set, Tuple

import numpy as np

from ...program.ir import Op
from ...program.rules.site import number, size
from ..arrays import call
from .unsupported import Unsupported

__all__ = ["MOVES", "RUNS", "edges", "moved"]

MOVES = frozenset(
    """Reshape Flatten expand_dims squeeze reshape_like transpose SwapAxis slice_axis slice slice_like Concat stack
    SliceChannel _split_v2 reverse tile repeat broadcast_to broadcast_axis broadcast_like Pad depth_to_space
    space_to_depth _copy BlockGrad""".split()
)
#: more runs of columns than this are gathered column by column
RUNS = 24

Shape = Tuple[int, ...]


def edges(table: np.ndarray, cols: int, wanted: Set[int]) -> Set[int]:
    """Where an input of `cols` columns will be cut, if column i of what is made of it is ``table[i]`` and that is cut
    at `wanted`; nothing where it is cut into too many runs."""
    inside = (table >= 0) & (table < cols)
    starts = np.flatnonzero(inside & np.concatenate([[True], np.diff(table) != 1]))
    ends = np.flatnonzero(inside & np.concatenate([np.diff(table) != 1, [True]]))
    if len(starts) > RUNS:
        return set()
    found = {int(table[i]) for i in starts} | {int(table[i]) + 1 for i in ends}
    return found | {int(table[i]) for i in wanted if i < len(table) and inside[i]}


def moved(op: Op, shapes: Sequence[Optional[Shape]]) -> Tuple[np.ndarray, Shape]:
    """What a moving operator does, found by running it on numbered elements: (source of each element, shape)."""
    known = tuple(tuple(s) for s in shapes if s is not None)
    if len(known) != len(shapes):
        raise Unsupported(f"operator {op.op} of something without a shape")
    return _moved_cached(op.op, tuple(sorted(op.attrs.items())), known)


@lru_cache(maxsize=4096)
def _moved_cached(name: str, attrs: Tuple[Tuple[str, str], ...], shapes: Tuple[Shape, ...]) -> Tuple[np.ndarray, Shape]:
    from ..._compat import mx

    settings = dict(attrs)
    if name == "Pad" and (settings.get("mode") != "constant" or number(settings, "constant_value", 0.0) != 0):
        raise Unsupported("operator Pad with anything but zeros")
    arrays, at = [], 1
    for shape in shapes:
        arrays.append(mx.nd.array(np.arange(at, at + size(shape)).reshape(shape), dtype="float64"))
        at += size(shape)
    out = call(name, arrays, settings)
    first = out if isinstance(out, mx.nd.NDArray) else out[0]
    return first.asnumpy().ravel().astype(np.int64) - 1, tuple(first.shape)
