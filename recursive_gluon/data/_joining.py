"""Joining trees in NumPy: their structure, and each field with its strings turned into numbers."""
from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FieldError
from ..structure import Structure, string_code
from ._columns import column, missing

if TYPE_CHECKING:
    from .tree import Tree

__all__ = ['join_field', 'join_structure']


def join_structure(trees: list[Tree], fields: tuple[str, ...], slots: tuple[str, ...],
                   list_slot: str | None) -> Structure:
    """The structure of a forest of these trees."""
    sizes = [len(tree) for tree in trees]  # lays out composed trees
    edges = [len(tree._children) for tree in trees]
    tree_offsets = np.zeros(len(trees) + 1, np.int32)
    np.cumsum(sizes, out=tree_offsets[1:])
    edge_offsets = np.cumsum([0] + edges[:-1], dtype=np.int32)
    child_offsets = np.zeros(tree_offsets[-1] + 1, np.int32)
    np.concatenate([tree.child_offsets[1:] for tree in trees], out=child_offsets[1:])
    child_offsets[1:] += np.repeat(edge_offsets, sizes)
    children = np.concatenate([tree._children for tree in trees])
    shift = np.repeat(tree_offsets[:-1], edges)
    if len(children) and children.min() < 0:
        shift[children < 0] = 0
    children += shift
    return Structure(tree_offsets, tree_offsets[1:] - np.int32(1), child_offsets, children, fields,
                     any([tree.is_dag for tree in trees]), slots, list_slot)


def join_field(name: str, trees: list[Tree], mapping: Any) -> np.ndarray:
    """A field of all trees, one after another; `mapping` turns its strings into numbers, where it holds any."""
    columns = [tree._fields[name] for tree in trees]
    texts = [isinstance(values, list) for values in columns]
    if all(texts) and mapping is not None:
        return _join_strings(name, trees, mapping)
    if any(texts):
        columns = _numbers(name, trees, mapping)
    shapes = {values.shape[1:] for values in columns}
    if len(shapes) > 1:
        other = next(index for index, values in enumerate(columns)
                     if values.shape[1:] != columns[0].shape[1:])
        raise FieldError(f'field {name!r} has rows of shape {columns[0].shape[1:]} in tree 0 and '
                         f'{columns[other].shape[1:]} in tree {other}, expected one shape. Pad them')
    joined = np.concatenate(columns)
    return joined if joined.dtype.kind == 'i' else joined.astype(np.float32, copy=False)


def _join_strings(name: str, trees: list[Tree], mapping: Any) -> np.ndarray:
    """One look-up for the strings of all trees."""
    found = [_strings(tree, name) for tree in trees]
    sizes = [len(tree) for tree in trees]
    places = np.concatenate([places for places, _ in found])
    places += np.repeat(np.cumsum([0] + sizes[:-1]), [len(texts) for _, texts in found])
    return _spread(name, sum(sizes), places, mapping(list(chain.from_iterable(texts for _, texts in found))))


def _numbers(name: str, trees: list[Tree], mapping: Any) -> list[np.ndarray]:
    """The field of each tree as numbers, where some or all hold strings."""
    model = next((tree._fields[name] for tree in trees if isinstance(tree._fields[name], np.ndarray)), None)
    arrays = []
    for number, tree in enumerate(trees):
        values = tree._fields[name]
        if isinstance(values, np.ndarray):
            arrays.append(values)
            continue
        places, texts = _strings(tree, name)
        if model is not None and not texts:
            arrays.append(np.full((len(tree),) + model.shape[1:], missing(model.dtype), model.dtype))
        elif mapping is not None:
            arrays.append(_spread(name, len(tree), places, mapping(texts)))
        elif model is None:
            arrays.append(_codes(tree, name))
        else:
            raise FieldError(f'field {name!r} holds strings in tree {number} and numbers in another, '
                             f'expected the same in all. Map all trees alike, tree.map({name}=...), or give '
                             'vocab')
    return arrays


def _codes(tree: Tree, name: str) -> np.ndarray:
    def find() -> np.ndarray:
        places, texts = _strings(tree, name)
        return _spread(name, len(tree), places, [string_code(text) for text in texts])
    return tree._cached(('codes', name), find)


def _strings(tree: Tree, name: str) -> tuple[np.ndarray, list[str]]:
    """The nodes that have a string, and the strings."""
    def find() -> tuple[np.ndarray, list[str]]:
        values = tree._fields[name]
        places = [index for index, value in enumerate(values) if value is not None]
        return np.array(places, np.int64), [values[index] for index in places]
    return tree._cached(('strings', name), find)


def _spread(name: str, length: int, places: np.ndarray, numbers: list[Any]) -> np.ndarray:
    """Numbers at these nodes, and the missing number elsewhere."""
    if not numbers:
        return np.full(length, -1, np.int32)
    dense = column(name, numbers)
    if not isinstance(dense, np.ndarray):
        raise FieldError(f'the vocabulary turned the field {name!r} into {numbers[0]!r}, expected numbers. '
                         'Use a mapping from strings to numbers')
    full = np.full((length,) + dense.shape[1:], missing(dense.dtype), dense.dtype)
    full[places] = dense
    return full
