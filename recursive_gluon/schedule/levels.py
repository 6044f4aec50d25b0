"""Longest paths over a graph of units, a wave at a time."""
from __future__ import annotations

from typing import Tuple

import numpy as np

__all__ = ["longest_paths", "ancestors"]


def _by(key: np.ndarray, value: np.ndarray, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Edges grouped by `key`: (start of each group, values in groups)."""
    order = np.argsort(key, kind="stable")
    start = np.zeros(size + 1, np.int64)
    np.cumsum(np.bincount(key, minlength=size), out=start[1:])
    return start, value[order]


def _gather(start: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The values of several groups, joined."""
    first = start[at]
    counts = start[at + 1] - first
    if len(at) == 1:
        return values[first[0]:first[0] + counts[0]]
    total = counts.sum()
    return values[np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(total)]


def longest_paths(units: np.ndarray, source: np.ndarray, destination: np.ndarray,
                  done: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Units that can run, and for each the number of units on the longest way to it.

    Parameters
    ----------
    units : array of the units to run
    source, destination : arrays of edges; a source of -1 never comes (its destination waits for a decision)
    done : bool array over all units

    Returns
    -------
    (units, levels)
        Units that wait for something outside `units` that is not done are left out.
    """
    size = len(done)
    if not len(units):
        return units, np.empty(0, np.int64)
    inside = np.zeros(size, bool)
    inside[units] = True
    keep = inside[destination] & ((source < 0) | ~done[source])
    source, destination = source[keep], destination[keep]
    waits = np.bincount(destination, minlength=size)
    blocked = (source < 0) | ~inside[source]
    start, after = _by(source[~blocked], destination[~blocked], size)
    ready = units[waits[units] == 0]
    levels = np.full(size, -1, np.int64)
    level = 0
    while len(ready):
        levels[ready] = level
        found = _gather(start, after, ready)
        if len(found) <= 1:
            waits[found] -= 1
        else:
            np.subtract.at(waits, found, 1)
        ready = np.unique(found[waits[found] == 0])
        level += 1
    reached = units[levels[units] >= 0]
    return reached, levels[reached]


def ancestors(goals: np.ndarray, source: np.ndarray, destination: np.ndarray, size: int) -> np.ndarray:
    """`goals` and all units on which they depend."""
    real = source >= 0
    start, before = _by(destination[real], source[real], size)
    seen = np.zeros(size, bool)
    wave = np.unique(goals)
    while len(wave):
        seen[wave] = True
        found = _gather(start, before, wave)
        wave = np.unique(found[~seen[found]])
    return np.flatnonzero(seen)
