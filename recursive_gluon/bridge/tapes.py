"""Which calls may be one graph while MXNet records.

A graph is one entry of the tape: a gradient that reaches one of its outputs is computed for all of its inputs, and
written, zeros too, where unconverted MXNet would have left the gradient of the last time. So all outputs of a graph
must depend on all that the graph depends on. Calls whose values depend on the same arrays that exist form a class; a
class whose values only one other class reads, and Python does not hold, joins that one.
"""
from __future__ import annotations

import heapq
from typing import Dict, List, Sequence, Set

from .work import Work

__all__ = ["classes"]


def classes(work: Work, group: Sequence[int], needed: Set[int]) -> List[List[int]]:
    """Cut a group of calls into groups that may be graphs, in an order in which they can run."""
    reach = work.reach()
    if len({reach[at] for at in group}) == 1:
        return [list(group)]
    maker, number = {}, 0
    for at, op in enumerate(work.ops):
        for _ in range(op[1]):
            maker[number] = at
            number += 1
    inside = set(group)
    members: Dict[int, List[int]] = {}
    for at in group:
        members.setdefault(reach[at], []).append(at)
    readers: Dict[int, Set[int]] = {mask: set() for mask in members}  # masks; -1 for whoever is outside
    for at, op in enumerate(work.ops):
        for read in op[2:]:
            if read >= 0 and maker[read] in inside:
                readers[reach[maker[read]]].add(reach[at] if at in inside else -1)
    for value in needed:
        if maker[value] in inside:
            readers[reach[maker[value]]].add(-1)
    # A reader depends on all that it reads depends on, and on more if it is in another class: so larger masks are
    # later.
    order = sorted(members, key=lambda mask: (bin(mask).count("1"), members[mask][0]))
    joined: Dict[int, int] = {}
    for mask in reversed(order):
        into = {joined[reader] if reader >= 0 else -1 for reader in readers[mask] if reader != mask}
        joined[mask] = into.pop() if len(into) == 1 and -1 not in into else mask
    groups: Dict[int, List[int]] = {}
    for mask in order:
        groups.setdefault(joined[mask], []).extend(members[mask])
    home = {at: mask for mask, calls in groups.items() for at in calls}
    sources = {mask: {home[maker[read]] for at in calls for read in work.ops[at][2:]
                      if read >= 0 and maker[read] in home} - {mask} for mask, calls in groups.items()}
    made = _as_written({mask: sorted(calls) for mask, calls in groups.items()}, sources)
    return made if _drawn_in_order(work, made, maker) else [[at] for at in group]


def _as_written(groups: Dict[int, List[int]], sources: Dict[int, Set[int]]) -> List[List[int]]:
    """Groups in an order in which they can run, that of the program where there is a choice: MXNet has an array on its
    tape from when it first meets one that is there, and what it meets later, too."""
    made = []
    left = {mask: set(before) for mask, before in sources.items()}
    ready = [(calls[0], mask) for mask, calls in groups.items() if not left[mask]]
    heapq.heapify(ready)
    while ready:
        _, done = heapq.heappop(ready)
        made.append(groups[done])
        for mask, before in left.items():
            if done in before:
                before.remove(done)
                if not before:
                    heapq.heappush(ready, (groups[mask][0], mask))
    return made


def _drawn_in_order(work: Work, groups: List[List[int]], maker: Dict[int, int]) -> bool:
    samplers = {maker[value] for value in work.draws}
    drawn = [at for group in groups for at in group if at in samplers]
    return drawn == sorted(drawn)
