"""A converted program: what is known of it from its runs, and how work that it put off is computed.

Work that has come before runs as the graphs that were made for it. Other work is cut at the forks, joins and loops of
the program's trace graph, and each block runs as a graph if it was met before. Where the same work has followed the
same work before, its graphs are launched as soon as the inputs that cannot be foreseen are there, while Python is
still on its way through the calls; if Python then does something else, what was launched is dropped: it has touched
nothing.
"""
from __future__ import annotations

import contextlib
import gc
import sys
from collections import Counter
from operator import is_
from time import perf_counter
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .._compat import mx
from ..capture.locations import mentioned
from ..capture.trace_graph import TraceGraph
from . import batching
from .lazy import adopt
from .report import ConversionReport, Report, break_record
from .segments import Segment, Segments, replay
from .tapes import classes
from .values import Row, set_raw
from .work import Piece, Work, without_shapes

__all__ = ["Ahead", "Conversion"]

_Handle = mx.base.NDArrayHandle
_Array = mx.nd.NDArray
_SETTLED = 16  # launches without anything new, after which calls are no longer located
_WHOLE = 2000  # calls of which one graph is made
_TRIES = 8  # to batch, one after another in vain, after which it is tried less often
_ROOM = 32  # launches with something new after which a program is not located any more: it takes time at every call
_OFTEN = 2  # how often work must have come before graphs are made for it as a whole
_HEAD_START, _SHARE = 0.5, 0.1  # seconds, and the part of a program's time, that compiling blocks may take
_TRUST = 2

#: pieces that are run one after another, those with a graph by it
Steps = List[Tuple[Piece, Optional[Segment]]]


class Known:
    """Work that has graphs of its own, and what it takes to launch them ahead."""

    __slots__ = ("key", "steps", "avals", "steady", "trigger", "pure", "hits", "misses", "next")

    def __init__(self, key: Tuple, steps: Steps, work: Work, steady: Dict[int, Any]):
        self.key, self.steps = key, steps
        self.avals = key[2]
        self.steady = {i: array for i, array in enumerate(work.externals) if id(array) in steady}
        others = [i for i in range(len(work.externals)) if i not in self.steady]
        #: so many externals must be there; those that follow are parameters
        self.trigger = max(others) + 1 if others else 1
        self.pure = not work.draws and not work.statistics
        self.hits = self.misses = 0
        self.next: Optional["Known"] = None

    def promising(self) -> bool:
        return self.pure and (self.misses < _TRUST or self.misses < self.hits)


class Ahead:
    """Graphs that were launched before their calls had all been made."""

    __slots__ = ("known", "externals", "values")

    def __init__(self, known: Known, externals: Sequence[Any]):
        self.known, self.externals = known, list(externals)
        self.values = run(known.steps, self.externals)


def run(steps: Steps, externals: Sequence[Any]) -> Dict[int, Any]:
    """Run pieces one after another, those without a graph call by call; arrays of the values that pieces return."""
    values: Dict[int, Any] = {}
    for piece, segment in steps:
        inputs = [values[n] if n >= 0 else externals[~n] for n in piece.inputs]
        handles = replay(piece.ops, inputs, piece.own) if segment is None else segment(inputs)
        values.update(_arrays(piece.outputs, handles))
    return values


def _arrays(numbers: Sequence[int], handles: Sequence[int]) -> Dict[int, Any]:
    return {n: _Array(_Handle(handle)) for n, handle in zip(numbers, handles)}


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Planning makes many small objects, and no cycles: each collection would walk over all of them."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class Conversion:
    """See the module.

    Attributes
    ----------
    twice : bool
        The program differentiates gradients, or its source speaks of ``create_graph``. MXNet cannot do that through a
        graph, so while it records, calls are replayed.
    statistics : set of int
        The running statistics (ids of arrays) that a gradient of what was recorded so far will write.
    locating : bool
        Calls are to be located.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.segments = Segments()
        self.graph = TraceGraph()
        self.report = Report()
        self._twice: Optional[bool] = None
        self.statistics: Set[int] = set()
        self._in_order = False
        self.locating = True
        self.recaptures = 0
        self._quiet = self._news = self._vain = 0
        self._known: Dict[Tuple, Known] = {}
        self._last: Optional[Known] = None

    # ---- ahead of Python

    def expected(self, mode: Tuple[int, ...]) -> Optional[Known]:
        """What has followed the last work before, if it is to be launched ahead."""
        known = self._last.next if self._last is not None else None
        return known if known is not None and known.key[0] == mode and known.promising() else None

    def launch_ahead(self, known: Known, work: Work) -> Optional[Ahead]:
        """Launch what is expected, with the inputs that are there and the parameters of last time."""
        given = len(work.externals)
        if given > len(known.avals) or tuple(work.external_avals) != known.avals[:given]:
            return None
        self.report.ahead += 1
        return Ahead(known, work.externals + [known.steady[i] for i in range(given, len(known.avals))])

    # ---- computing

    def compute(self, work: Work, ahead: Optional[Ahead]) -> None:
        """Compute what Python holds of `work`."""
        began = perf_counter()
        with _no_collection():
            self._compute(work, ahead)
        self.report.launched(perf_counter() - began)

    def _compute(self, work: Work, ahead: Optional[Ahead]) -> None:
        needed, views = work.held()
        values: Dict[int, Any] = {}
        if needed or work.draws:
            key = work.key(work.outputs(needed))
            values = self._confirmed(ahead, work, key)
            if not values:
                values = self._values(work, key, needed)
        else:
            self._settle()
        for number in needed:
            if type(values[number]) is Row:
                set_raw(work.arrays[number], values[number])
            else:
                adopt(work.arrays[number], values[number])
        for number in sorted(views):
            base, make = views[number]
            adopt(work.arrays[number], make(work.arrays[base] if base in needed or base in views else values[base]))

    def tell(self) -> ConversionReport:
        """What happened so far."""
        report = self.report
        graphs, replayed, eager = report.recent()
        breaks: Counter = Counter()
        for (why, place), count in report.launches.items():
            breaks[break_record(why, place)] += count
        return ConversionReport(
            self.name, report.calls, report.graphs + report.replayed + report.eager,
            graphs / max(graphs + replayed + eager, 1), len(self.segments), self.segments.captures, self.recaptures,
            len(self.graph), self.graph.forks, self.graph.traces, report.ahead, report.diverged, bool(self._twice),
            {"total": report.total, "launching": report.launching, "waiting": report.waiting},
            tuple(breaks.most_common()))

    def _confirmed(self, ahead: Optional[Ahead], work: Work, key: Tuple) -> Dict[int, Any]:
        if ahead is None:
            return {}
        known = ahead.known
        same = (key == known.key and len(work.externals) == len(ahead.externals)
                and all(map(is_, work.externals, ahead.externals)))
        known.hits += same
        known.misses += not same
        self.report.diverged += not same
        if same:
            self._went(known)
        return ahead.values if same else {}

    def _settle(self) -> None:
        self._quiet += 1
        self.locating = self.locating and self._quiet < _SETTLED

    def _went(self, known: Known) -> None:
        self._settle()
        if self._last is not None:
            self._last.next = known
        self._last = known
        self.report.ran(known.steps)

    def _values(self, work: Work, key: Tuple, needed: Set[int]) -> Dict[int, Any]:
        if work.mode[0] and (self.twice or self._by_order(work)):
            return self._replayed(work, key)
        known = self._known.get(key) or self._learn(work, key, needed)
        if known is not None:
            self._went(known)
            return run(known.steps, work.externals)
        if self._quiet >= _SETTLED:
            self.recaptures += 1
        self._quiet, self._last = 0, None
        stacked = self._stacked(work, needed)
        if stacked is not None:
            values, launches = batching.run(work, stacked, needed)
            self.report.graphs += len(work.ops)
            self.report.stacked += len(work.ops)
            self.report.stacks += launches
            self.locating = False
            return values
        self._news += 1
        self.locating = self._news < _ROOM
        if len(work.places) < len(work.ops):
            return self._replayed(work, key)
        nodes, _ = self.graph.add(list(zip(work.places, (op[0] for op in work.ops))))
        steps = self._steps(work, [range(start, stop) for start, stop in self.graph.blocks(nodes)], needed)
        self.report.ran(steps)
        return run(steps, work.externals)

    def _stacked(self, work: Work, needed: Set[int]) -> Optional[List[batching.Group]]:
        """How work is batched; in a program where that was in vain it is tried now and then."""
        if self._vain > _TRIES and self._news % _TRIES:
            return None
        shared = {i for i, array in enumerate(work.externals) if id(array) in self.segments.steady}
        stacked = batching.plan(work, shared, needed)
        self._vain = self._vain + 1 if stacked is None else 0
        return stacked

    def _replayed(self, work: Work, key: Tuple) -> Dict[int, Any]:
        self.report.replayed += len(work.ops)
        outputs = key[3]
        return _arrays(outputs, replay(work.ops, work.externals, outputs))

    def _learn(self, work: Work, key: Tuple, needed: Set[int]) -> Optional[Known]:
        """Graphs for work as a whole: for any shapes when it comes again, for these when they do too."""
        if len(work.ops) > _WHOLE:
            return None
        shapeless = without_shapes(key)
        fixed = self.segments.seen(key) >= _OFTEN
        known = None if fixed else self._known.get(shapeless)
        if known is None and (fixed or self.segments.seen(shapeless)):
            steps = self._steps(work, [range(len(work.ops))], needed, fixed)
            known = self._known[key if fixed else shapeless] = Known(key, steps, work, self.segments.steady)
        return known

    @property
    def twice(self) -> bool:
        if self._twice is None:
            self._twice = mentioned("create_graph", sys._getframe(1))
        return self._twice

    @twice.setter
    def twice(self, value: bool) -> None:
        self._twice = value

    def _by_order(self, work: Work) -> bool:
        """Whether work must be replayed because one BatchNorm is used several times: its running statistics are folded
        in the order in which MXNet's gradient visits the uses, which is another one within a graph."""
        written = [id(work.externals[~n]) for n in work.statistics if n < 0]
        if len(set(written)) < len(written) or not self.statistics.isdisjoint(written):
            self._in_order = True
        self.statistics.update(written)
        return self._in_order and bool(written)

    def _worth_compiling(self) -> bool:
        """Blocks of a program that never comes to rest are not all compiled: that may take a part of its time."""
        return self.segments.seconds < _HEAD_START + _SHARE * self.report.total

    def _steps(self, work: Work, groups: Sequence[Sequence[int]], needed: Set[int], fixed: Optional[bool] = None
               ) -> Steps:
        """Pieces with their graphs. Without `fixed`, pieces that are met for the first time have none."""
        if work.mode[0]:
            groups = [part for group in groups for part in classes(work, group, needed)]
        steps = []
        for piece in work.pieces(groups, needed):
            segment = None if fixed else self.segments.compiled(piece)
            if segment is None and len(piece.ops) > 1 and (fixed is not None or (self.segments.seen(piece.shapeless)
                                                                                 and self._worth_compiling())):
                steady = {i for i, n in enumerate(piece.inputs)
                          if n < 0 and id(work.externals[~n]) in self.segments.steady}
                segment = self.segments.compile(piece, steady, bool(fixed))
            steps.append((piece, segment))
        return steps
