"""Frames in depth-first order: the order in which plain recursion would have made them."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from .frames import Frames

__all__ = ["depth_first"]


def depth_first(frames: Frames, function: str) -> Tuple[np.ndarray, np.ndarray]:
    """For each frame of `function`: its tree, and its place among the tree's frames of that function.

    Callers come before what they call; calls of one caller come in the order of the body. Works by sums over levels
    of depth, not frame by frame.
    """
    names = list(frames.tables)
    offset = np.cumsum([0] + [len(frames.tables[n]) for n in names])
    caller_of = {site.id: offset[names.index(site.function)] for site in frames.recipe.sites}
    columns = []
    for name in names:
        table = frames.tables[name]
        site = table.site.view()
        base = np.array([caller_of.get(int(s), -1) for s in np.unique(site)])
        parent = np.where(site < 0, -1, base[np.searchsorted(np.unique(site), site)] + table.caller.view()) \
            if len(table) else np.empty(0, np.int64)
        columns.append((parent, site, table.depth.view(), table.tree.view(), np.full(len(table), name == function)))
    parent, site, depth, tree, counted = (np.concatenate(c) for c in zip(*columns))
    size = counted.astype(np.int64)
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(int(depth.max(initial=0)) + 2))
    for level in range(len(bounds) - 2, 0, -1):
        here = order[bounds[level]:bounds[level + 1]]
        np.add.at(size, parent[here], size[here])
    begin = np.zeros(len(size), np.int64)
    for level in range(1, len(bounds) - 1):
        here = order[bounds[level]:bounds[level + 1]]
        here = here[np.lexsort((here, site[here], parent[here]))]
        before = np.cumsum(size[here]) - size[here]
        first = np.searchsorted(parent[here], parent[here])
        begin[here] = begin[parent[here]] + counted[parent[here]] + before - before[first]
    mine = slice(offset[names.index(function)], offset[names.index(function) + 1])
    return tree[mine], begin[mine]
