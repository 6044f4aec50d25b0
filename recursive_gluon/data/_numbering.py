"""Numbering the nodes of a tree children first, without recursion."""
from __future__ import annotations

import numpy as np

from ..errors import CycleError, StructureError

_SHOWN = 8  # numbers listed in a message
_UNSEEN, _ON_PATH = -1, -2


def postorder(child_offsets: np.ndarray, children: np.ndarray, root: int | None) -> np.ndarray:
    """The nodes in post-order from the root: children before their parents, from left to right, each once.

    Raises
    ------
    CycleError
        A node is its own descendant.
    StructureError
        The offsets or node numbers are out of range, there are several roots, or nodes that the root does not
        reach.
    """
    count = len(child_offsets) - 1
    _check(child_offsets, children, root)
    if root is None:
        root = _find_root(child_offsets, children)
    ends, edges, at = child_offsets[1:].tolist(), children.tolist(), child_offsets[:-1].tolist()
    state = [_UNSEEN] * count
    order: list[int] = []
    path = [root]
    state[root] = _ON_PATH
    while path:
        node = path[-1]
        edge = at[node]
        if edge == ends[node]:
            state[node] = len(order)
            order.append(node)
            path.pop()
            continue
        at[node] = edge + 1
        child = edges[edge]
        if child < 0:
            continue
        if state[child] == _UNSEEN:
            state[child] = _ON_PATH
            path.append(child)
        elif state[child] == _ON_PATH:
            raise _cycle(path[path.index(child):] + [child])
    if len(order) < count:
        lost = [node for node in range(count) if state[node] == _UNSEEN]
        raise StructureError(f'the root, node {root}, does not reach {len(lost)} of {count} nodes: '
                             f'{_some(lost)}. Leave these out, or make a tree of each root')
    return np.array(order, np.int32)


def renumber(child_offsets: np.ndarray, children: np.ndarray,
             order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The offsets and children of the same tree with node ``order[i]`` as node ``i``."""
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    arity = (child_offsets[1:] - child_offsets[:-1])[order]
    offsets = np.zeros(len(order) + 1, np.int32)
    np.cumsum(arity, out=offsets[1:])
    edges = np.repeat(child_offsets[:-1][order] - offsets[:-1], arity) + np.arange(len(children))
    moved = children[edges]
    return offsets, np.where(moved < 0, np.int32(-1), number[moved])


def heights(child_offsets: np.ndarray, children: np.ndarray) -> np.ndarray:
    """The longest way down from each node, in edges; 0 at leaves. Children are numbered before their
    parents."""
    edges, offsets = children.tolist(), child_offsets.tolist()
    found: list[int] = []
    start = 0
    for end in offsets[1:]:
        height = 0
        for child in edges[start:end]:
            if child >= 0 and found[child] >= height:
                height = found[child] + 1
        found.append(height)
        start = end
    return np.array(found, np.int32)


def _check(child_offsets: np.ndarray, children: np.ndarray, root: int | None) -> None:
    count = len(child_offsets) - 1
    if child_offsets.ndim != 1 or children.ndim != 1 or count < 1:
        raise StructureError(f'child_offsets has the shape {child_offsets.shape} and children '
                             f'{children.shape}, expected (num_nodes + 1,) and (num_edges,) with one node or '
                             'more')
    if child_offsets[0] != 0 or child_offsets[-1] != len(children) or (np.diff(child_offsets) < 0).any():
        raise StructureError(f'child_offsets must rise from 0 to the number of children, {len(children)}. '
                             'Node i has the children children[child_offsets[i]:child_offsets[i + 1]]')
    if len(children) and (children.min() < -1 or children.max() >= count):
        bad = children[(children < -1) | (children >= count)][0]
        raise StructureError(f'a child has the number {bad}, expected 0 to {count - 1}, or -1 for an empty '
                             'slot')
    if root is not None and not 0 <= root < count:
        raise StructureError(f'the root has the number {root}, expected 0 to {count - 1}')


def _find_root(child_offsets: np.ndarray, children: np.ndarray) -> int:
    count = len(child_offsets) - 1
    parents = np.repeat(np.arange(count), np.diff(child_offsets))[children >= 0]
    real = children[children >= 0]
    roots = np.flatnonzero(np.bincount(real, minlength=count) == 0)
    if len(roots) == 1:
        return int(roots[0])
    if len(roots) > 1:
        raise StructureError(f'{len(roots)} nodes have no parent: {_some(roots.tolist())}, expected one '
                             'root. Make a tree of each')
    parent = np.empty(count, np.int64)
    parent[real] = parents
    above, seen = [0], {0}
    while True:  # every node has a parent, so the way up must meet itself
        node = int(parent[above[-1]])
        if node in seen:
            raise _cycle((above[above.index(node):] + [node])[::-1])
        seen.add(node)
        above.append(node)


def _cycle(nodes: list[int]) -> CycleError:
    shown = [str(node) for node in nodes]
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN - 2] + ['...', shown[-1]]
    return CycleError(f'nodes {" -> ".join(shown)} are each a child of the one before: a cycle. A tree or '
                      'DAG has none; remove the edge that leads back up')


def _some(numbers: list[int]) -> str:
    return ', '.join(map(str, numbers[:_SHOWN])) + (', ...' if len(numbers) > _SHOWN else '')
