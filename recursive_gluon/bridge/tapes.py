"""Which calls may be one graph while MXNet records, and which of its inputs that puts on the tape.

A graph is one entry of the tape: a gradient that reaches one of its outputs is computed for all of its inputs, and
written, zeros too, where unconverted MXNet would have left the gradient of the last time. So all outputs of a graph
must depend on all that the graph depends on. Calls whose values depend on the same arrays that exist form a class; a
class whose values only one other class reads, and Python does not hold, joins that one.

MXNet records a call if something that it reads is on the tape, and then has all that it reads there. A graph is
recorded with all of its inputs, also those that its calls, one by one, would have left off. What is on the tape by
mistake makes an error of the next gradient that meets it, so a graph gets aliases of such inputs.
"""
from __future__ import annotations

import ctypes
import heapq
from typing import Any, Dict, List, Sequence, Set, Tuple

from .._compat import mx
from .work import Op, Work

__all__ = ["Inputs", "classes"]

_LIB, _check = mx.base._LIB, mx.base.check_call


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


class Inputs:
    """The inputs of a graph of these calls, while MXNet records; `steady` has arrays with a gradient, by id."""

    def __init__(self, ops: Sequence[Op], steady: Dict[int, Any]):
        self._ops, self._steady = ops, steady
        self._found: Dict[Tuple[bool, ...], List[int]] = {}

    def apart(self, arrays: List[Any]) -> List[Any]:
        """The arrays, as aliases where the calls one by one would leave them off the tape."""
        taped = tuple([id(array) in self._steady for array in arrays])
        if self._left_off(taped):  # by all that is known without asking MXNet
            taped = tuple(known or _is_taped(array) for known, array in zip(taped, arrays))
            if any(taped):
                arrays = list(arrays)
                for i in self._left_off(taped):
                    arrays[i] = arrays[i].detach()
        return arrays

    def _left_off(self, taped: Tuple[bool, ...]) -> List[int]:
        """The inputs that are off the tape after the calls."""
        found = self._found.get(taped)
        if found is None:
            inputs = list(taped)
            values: List[bool] = []
            for _, count, *reads in self._ops:
                recorded = any(values[r] if r >= 0 else inputs[~r] for r in reads)
                for r in reads:
                    if recorded and r < 0:
                        inputs[~r] = True
                values.extend([recorded] * count)
            found = self._found[taped] = [i for i, on in enumerate(inputs) if not on]
        return found


def _is_taped(array: Any) -> bool:
    """Whether an array is on the tape: only of such ones MXNet lets us say whether their gradient is new."""
    state = ctypes.c_int()
    _check(_LIB.MXNDArrayGetGradState(array.handle, ctypes.byref(state)))
    return _LIB.MXNDArraySetGradState(array.handle, state) == 0
