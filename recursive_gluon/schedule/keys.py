"""Keys of frames, from which random numbers are drawn and by which updates of running statistics are ordered."""
from __future__ import annotations

import numpy as np

from ..structure import Structure

__all__ = ["mix", "frame_keys"]


def mix(a, b):
    """Two arrays of 64-bit keys to one (the finalizer of SplitMix64 over their combination)."""
    with np.errstate(over="ignore"):
        x = np.asarray(a, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(b).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def frame_keys(function: int, shared: bool, structure: Structure, nodes, ints, trees, site: int, caller_keys):
    """Keys of random numbers: what a frame is, not when it was reached: every executor and order draws the same.

    Parameters
    ----------
    function : int
        The function's position in the Program.
    shared : bool
        Whether calls on the same node with the same integers are one frame; else it belongs to one call: the one at
        `site` (-1 for roots) in the frames with `caller_keys` (None for roots).
    structure : Structure
    nodes, ints, trees : arrays
        Of the frames: node, integers (frames x integers), tree.
    """
    # A shared frame without a node belongs to no tree: trees that reach it in another order must not alter it.
    keys = mix(np.uint64(function + 1), np.where(nodes >= 0, trees, 0) if shared else trees)
    keys = mix(keys, np.where(nodes >= 0, nodes - structure.tree_offsets[trees], -1))
    for column in ints.T:
        keys = mix(keys, column)
    if not shared:
        keys = mix(mix(keys, np.full(len(nodes), site + 1)), 0 if caller_keys is None else caller_keys)
    return keys
