"""The schedule of a call: its plan, the rows it returns, the plan of its gradient; made ahead where that is possible.

A plan whose decisions are all about structure needs no arithmetic. RecursiveBlock makes it in the caller's thread
while the engine still works on the step before, and the operator finds it here; mistakes in the data are then raised
by the call itself, not later.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np

from ..schedule.faults import check_count
from ..schedule.order import depth_first
from ..schedule.plan import Plan
from .arrays import host_copy
from .executor import NODES, Call
from .readers import Readers, make_readers
from .recipes import Compiled, compiled

__all__ = ["Schedule", "prepare", "prepared"]

#: schedules made ahead that wait for their operator; a few calls may be on their way at once
_LIMIT = 8
_ready: "OrderedDict[Any, Schedule]" = OrderedDict()
_lock = Lock()


class Schedule:
    """The plan of one call and what follows from it."""

    def __init__(self, plan: Plan, code: Compiled, returns: str, max_nodes: int):
        self.plan, self.code, self.returns, self.max_nodes = plan, code, returns, max_nodes
        self.complete = False

    @classmethod
    def begin(cls, call: Call, code: Compiled) -> "Schedule":
        """The schedule as far as it is known before any arithmetic: the first frames."""
        host: dict = {}

        def field(name: str) -> np.ndarray:
            if name not in host:
                host[name] = host_copy(call.fields[name])
            return host[name]

        plan = Plan.make(code.recipe, call.structure, call.ints, field, call.max_depth, in_order=bool(call.max_nodes))
        return cls(plan, code, call.returns, call.max_nodes)

    def rounds(self) -> Iterator[Tuple[List[Any], Any]]:
        """(batches, settle) round by round; one round if the schedule is complete."""
        if self.complete:
            yield self.plan.batches, lambda read: None
            return
        yield from self.plan.run_rounds(self._wanted)
        self.complete = True

    def _wanted(self) -> np.ndarray:
        """The root function's frames whose values are returned."""
        if self.max_nodes:
            self.returned = np.arange(len(self.plan.frames.tables[self.plan.recipe.program.root]))
        else:
            self.returned = self.plan.node_frames() if self.returns == NODES else self.plan.roots
        return self.returned

    @cached_property
    def output_rows(self) -> List[np.ndarray]:
        """For each output the rows that are returned; for a grown structure by tree and depth-first place."""
        recipe = self.plan.recipe
        outputs = recipe.program.functions[recipe.program.root].num_outputs
        rows = [self.plan.output_rows(j, self.returned) for j in range(outputs)]
        return self._padded(rows) if self.max_nodes else rows

    def _padded(self, rows: List[np.ndarray]) -> List[np.ndarray]:
        """Row 0, which is zero, where a tree has no more frames."""
        trees, most = self.plan.frames.structure.num_trees, self.max_nodes
        tree, place = depth_first(self.plan.frames, self.plan.recipe.program.root)
        self.count = np.bincount(tree, minlength=trees)
        check_count(self.count.tolist(), most)
        result = []
        for mine in rows:
            table = np.zeros(trees * most, np.int64)
            table[tree * most + place] = mine
            result.append(table)
        return result

    @cached_property
    def readers(self) -> Readers:
        """The plan of the gradient."""
        return make_readers(self.plan, self.code.kernels, self.output_rows, self.plan.frames.structure.num_nodes)


def _key(call: Call, code: Compiled) -> tuple:
    return id(code), call.packed, call.ints, call.returns, call.max_nodes, call.max_depth


def prepare(call: Call) -> None:
    """Make the schedule of a call that is about to come, if structure alone decides it."""
    code = compiled(call)
    key = _key(call, code)
    with _lock:
        if key in _ready or not code.by_structure:
            return
    schedule = Schedule.begin(call, code)
    for _ in schedule.rounds():
        pass
    with _lock:
        _ready[key] = schedule
        if len(_ready) > _LIMIT:
            _ready.popitem(last=False)


def prepared(call: Call) -> Optional[Schedule]:
    """The schedule that was made ahead for this call."""
    with _lock:
        return _ready.get(_key(call, compiled(call))) if call.packed else None
