"""Laying out, as arrays, a tree that was composed of other trees."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._columns import Column, column

if TYPE_CHECKING:
    from .tree import Tree


def flatten(root: Tree) -> tuple[np.ndarray, np.ndarray, dict[str, Column]]:
    """Offsets, children and fields of a composed tree, in post-order, each Tree object once; no recursion."""
    layout = _Layout()
    number: dict[int, int] = {}  # id of a Tree object -> the number of its root
    stack: list[tuple[Tree, bool]] = [(root, False)]
    while stack:
        tree, ready = stack.pop()
        if id(tree) in number:
            continue
        if tree._parts is None:
            number[id(tree)] = layout.append_block(tree)
        elif ready:
            children, fields = tree._parts
            numbers = [-1 if child is None else number[id(child)] for child in children]
            number[id(tree)] = layout.append_node(numbers, fields)
        else:
            stack.append((tree, True))
            stack.extend((child, False) for child in reversed(tree._parts[0]) if child is not None)
    return layout.arrays()


class _Layout:
    def __init__(self) -> None:
        self.offsets: list[int] = [0]
        self.children: list[int] = []
        self.columns: dict[str, list[Any]] = {}

    def append_node(self, children: list[int], fields: dict[str, Any]) -> int:
        node = len(self.offsets) - 1
        for name, value in fields.items():
            self._column(name, node).append(value)
        self.children.extend(children)
        self.offsets.append(len(self.children))
        return node

    def append_block(self, tree: Tree) -> int:
        first, edges = len(self.offsets) - 1, len(self.children)
        for name, values in tree.fields.items():
            self._column(name, first).extend(values if isinstance(values, list) or values.ndim > 1
                                             else values.tolist())
        self.children.extend(np.where(tree.children < 0, -1, tree.children + first).tolist())
        self.offsets.extend((tree.child_offsets[1:] + edges).tolist())
        return len(self.offsets) - 2

    def _column(self, name: str, length: int) -> list[Any]:
        values = self.columns.setdefault(name, [])
        values.extend([None] * (length - len(values)))
        return values

    def arrays(self) -> tuple[np.ndarray, np.ndarray, dict[str, Column]]:
        count = len(self.offsets) - 1
        fields = {name: column(name, self._column(name, count)) for name in self.columns}
        return np.array(self.offsets, np.int32), np.array(self.children, np.int32), fields
