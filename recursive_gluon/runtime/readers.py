"""Who reads each row of each port: the plan of the gradient, in NumPy alone.

A row of a port was read by certain rows of certain slots; its gradient is the sum of what those rows gave back.
Whoever computes the gradient of a slot writes to a buffer of its own, whoever needs the gradient of a port's row
pulls from there: nothing is scattered, and the order of every sum is fixed by the plan.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..schedule.plan import Plan
from ..schedule.recipe import SPREAD, Port

__all__ = ["MANY", "PortReaders", "Readers", "make_readers"]

#: up to so many readers of one row are summed inside the gradient's graph
MANY = 4


@dataclass(eq=False)
class PortReaders:
    """The readers of one port's rows.

    ``size`` rows of gradients are given back (row 0 is zero and stands for none). Where rows have few readers, a
    column of `columns` holds one given row for each row of the port; else ``given[start[i]:start[i + 1]]`` are those
    of row i.
    """

    rows: int
    size: int = 1
    columns: Optional[np.ndarray] = None
    given: Optional[np.ndarray] = None
    start: Optional[np.ndarray] = None
    _read: List[np.ndarray] = field(default_factory=list)
    _gave: List[np.ndarray] = field(default_factory=list)

    def add(self, read: np.ndarray, counts: Optional[np.ndarray]) -> int:
        """A reader of rows `read` (several each where `counts`); returns where it writes."""
        base, length = self.size, len(read) if counts is None else len(counts)
        gave = np.arange(base, base + length)
        self._read.append(read)
        self._gave.append(gave if counts is None else np.repeat(gave, counts))
        self.size += length
        return base

    def finish(self) -> None:
        read = np.concatenate(self._read) if self._read else np.empty(0, np.int64)
        gave = np.concatenate(self._gave) if self._gave else np.empty(0, np.int64)
        self._read, self._gave = [], []
        counts = np.bincount(read, minlength=self.rows)
        counts[0] = 0 if self.rows and not self._external else counts[0]
        most = int(counts.max()) if len(counts) else 0
        order = np.argsort(read, kind="stable")
        read, gave = read[order], gave[order]
        if not self._external:
            read, gave = read[np.searchsorted(read, 1):], gave[np.searchsorted(read, 1):]
        self.start = np.zeros(self.rows + 1, np.int64)
        np.cumsum(counts, out=self.start[1:])
        if most <= MANY:
            self.columns = np.zeros((max(most, 1), self.rows), np.int32)
            self.columns[np.arange(len(read)) - self.start[read], read] = gave
        else:
            self.given = gave

    #: a port of the caller's (a field) has no row that stands for nothing
    _external: bool = False


@dataclass(eq=False)
class Readers:
    """Readers of all ports; ``base[segment, slot value]`` is (port, first row) of what the slot gives back,
    ``outputs`` the same for the returned values (output number, port, first row)."""

    ports: Dict[Port, PortReaders]
    base: Dict[Tuple[int, str], Tuple[Port, int]]
    outputs: List[Tuple[int, Port, int]]


def make_readers(plan: Plan, kernels: List[Any], output_rows: List[np.ndarray], num_nodes: int) -> Readers:
    """The readers of a finished plan."""
    recipe, root = plan.recipe, plan.recipe.program.root
    ports: Dict[Port, PortReaders] = {}
    for port, layout in plan.layout.items():
        if recipe.port_type(port)[1].startswith("float"):
            ports[port] = PortReaders(plan.layout_size[layout])
    outputs = []
    for j, returned in enumerate(output_rows):
        port = recipe.port(("out", root, j))
        if port in ports:
            outputs.append((j, port, ports[port].add(returned, None)))
    base = {}
    for segment, kernel in zip(recipe.segments, kernels):
        if not plan.seg_size[segment.id]:
            continue
        for slot, rows in zip(segment.slots, plan.slot_rows[segment.id]):
            if not _gives(segment, kernel, slot):
                continue
            port = recipe.slot_port(segment, slot) or ("field", slot.detail[0].name, None)
            if port not in ports:
                ports[port] = PortReaders(num_nodes, _external=True)
            counts = None if rows.counts is None else rows.counts.view()
            base[segment.id, slot.value] = (port, ports[port].add(rows.index.view(), counts))
    for readers in ports.values():
        readers.finish()
    return Readers(ports, base, outputs)


def _gives(segment, kernel, slot) -> bool:
    """Whether a slot gives back a gradient."""
    if not slot.dtype.startswith("float") or slot.kind in ("integer", "random") or segment.mode == SPREAD:
        return False
    return slot.value in kernel.gradient.inputs if kernel.gradient is not None else True
