"""Forests joined by the core: trees in, NDArrays and a structure out, in one call."""

from __future__ import annotations

import ctypes
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
from mxnet.base import NDArrayHandle

from .._compat import mx
from ..errors import NativeCoreError
from .loading import loaded

__all__ = ["ForestLayout", "NativeStructure", "TreeView", "join"]

_i64, _p = ctypes.c_int64, ctypes.c_void_p

#: MXNet's numbers of the types that fields have
_TYPES = {"float32": 0, "int32": 4}


class TreeView(ctypes.Structure):
    """A tree's arrays; the same layout as TreeView of native/src/forest_api.cpp."""

    _fields_ = [("nodes", _i64), ("edges", _i64), ("child_offsets", _p), ("children", _p), ("fields", _p),
                ("dag", _i64)]

    @classmethod
    def of(cls, child_offsets: np.ndarray, children: np.ndarray, columns: Sequence[np.ndarray],
           dag: bool) -> "TreeView":
        arrays = [np.ascontiguousarray(a) for a in (child_offsets, children, *columns)]
        data = (_p * max(len(columns), 1))(*(a.ctypes.data for a in arrays[2:]))
        view = cls(len(child_offsets) - 1, len(children), arrays[0].ctypes.data, arrays[1].ctypes.data,
                   ctypes.addressof(data), dag)
        view.alive = arrays, data
        view.address = ctypes.addressof(view)
        return view


class _LayoutView(ctypes.Structure):
    """The same layout as LayoutView of native/src/forest_api.cpp."""

    _fields_ = [("num_fields", _i64), ("name_words", _i64),
                *((name, _p) for name in ("names", "types", "ndims", "dims"))]


class ForestLayout:
    """What the trees of a forest have in common: types and shapes of fields, names as words of the packed structure."""

    def __init__(self, types: Sequence[Tuple[str, Tuple[int, ...]]], names: np.ndarray):
        self.num_fields = len(types)
        self._alive = (names, np.array([_TYPES[dtype] for dtype, _ in types], np.int32),
                       np.array([len(shape) for _, shape in types], np.int64),
                       np.array([n for _, shape in types for n in shape], np.int64))
        self._view = _LayoutView(len(types), len(names), *(a.ctypes.data for a in self._alive))
        self.address = ctypes.addressof(self._view)


class NativeStructure:
    """A structure that lies in the core."""

    __slots__ = ("handle", "_lib")

    def __init__(self, lib: ctypes.CDLL, handle: int):
        self._lib, self.handle = lib, handle

    def __del__(self) -> None:
        self._lib.rg_structure_free(self.handle)

    @classmethod
    def of(cls, lib: ctypes.CDLL, structure: Any) -> Optional["NativeStructure"]:
        """A copy of a :class:`~recursive_gluon.structure.Structure`; None, with the core's error set, if it is wrong.
        """
        four = (structure.tree_offsets, structure.roots, structure.child_offsets, structure.children)
        arrays = [np.ascontiguousarray(a, np.int32) for a in four]
        handle = lib.rg_structure_new(structure.num_trees, structure.num_nodes, len(arrays[3]),
                                      *(a.ctypes.data for a in arrays))
        return cls(lib, handle) if handle else None

    def arrays(self) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """tree_offsets, roots, child_offsets, children"""
        sizes = (_i64 * 3)()
        self._lib.rg_structure_sizes(self.handle, sizes)
        trees, nodes, edges = sizes
        words = np.empty(2 * trees + nodes + edges + 2, np.int32)
        self._lib.rg_structure_read(self.handle, words.ctypes.data)
        words.setflags(write=False)
        at = np.cumsum([0, trees + 1, trees, nodes + 1, edges]).tolist()
        return tuple(words[a:b] for a, b in zip(at, at[1:]))  # type: ignore[return-value]


def join(views: List[int], layout: ForestLayout, device: int) -> Optional[Tuple[List[Any], NativeStructure, int, bool]]:
    """The arrays of a forest, its structure, its number of nodes, and whether a node is shared.

    None where the core is not loaded (yet): a Forest alone is no reason to compile it. `views` are addresses.
    """
    lib = loaded()
    if lib is None:
        return None
    count = len(views)
    arrays, sizes = (_p * (layout.num_fields + 1))(), (_i64 * 2)()
    handle = lib.rg_forest_join(count, (_p * count)(*views), layout.address, device, arrays, sizes)
    if not handle:
        text, none = ctypes.create_string_buffer(4096), ctypes.byref(ctypes.c_int64(0))
        lib.rg_error(ctypes.byref(ctypes.c_int32()), text, len(text), None, none, None, none)
        raise NativeCoreError(f"native core: {text.value.decode(errors='replace')}")
    nd = mx.nd.NDArray
    return [nd(NDArrayHandle(a)) for a in arrays], NativeStructure(lib, handle), sizes[0], bool(sizes[1])
