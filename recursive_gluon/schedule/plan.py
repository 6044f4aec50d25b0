"""The Plan of one call: which segments run on which frames, in what order, and which rows they read and write.

Units (a segment on a frame) get the level of the longest way to them; all units of a segment on a level are one
*batch*. A Plan is made in rounds: one when all decisions are about structure; else a round runs what the pending
decisions need, and no more, so that the work behind them stays together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from ..errors import DepthLimitError, RecursiveGluonError, VisitError
from ..program.expr import evaluate
from ..structure import Structure
from .faults import endless
from .frames import Frames, _View
from .grow import Grow
from .levels import ancestors, longest_paths
from .recipe import Port, Recipe, Segment, Slot

__all__ = ["Batch", "Plan", "SlotRows"]


@dataclass(eq=False)
class Batch:
    """Rows `start` to `stop` of a segment's own order, run together; ``out_start[layout]`` is where outputs go."""

    segment: Segment
    start: int
    stop: int
    level: int
    out_start: Dict[int, int]


@dataclass(eq=False)
class SlotRows:
    """What a slot reads, in the segment's row order: one row each (`index`), or ``index[indptr[i]:indptr[i+1]]``."""

    index: Grow
    counts: Optional[Grow] = None


@dataclass(eq=False)
class Plan:
    """See the module's docstring. Row 0 of every port is zero and stands for "nothing"."""

    recipe: Recipe
    frames: Frames
    batches: List[Batch] = field(default_factory=list)
    rounds: int = 0
    roots: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @staticmethod
    def layouts(recipe: Recipe) -> Tuple[Dict[Port, int], int]:
        """Which numbering of rows each port has, and how many there are; ports with the same writers share one."""
        writers: Dict[Port, List[int]] = {}
        for (function, value), port in recipe.home.items():
            writers.setdefault(recipe.port(port), []).append(recipe.producer[function, value].id)
        root = recipe.program.functions[recipe.program.root]
        for j in range(len(root.args)):
            writers.setdefault(recipe.port(("arg", root.name, j)), []).append(-1 - j)
        numbers: Dict[Tuple[int, ...], int] = {}
        layout: Dict[Port, int] = {}
        for port, segments in writers.items():
            layout[port] = numbers.setdefault(tuple(sorted(segments)), len(numbers))
        return layout, len(numbers)

    def __post_init__(self):
        recipe = self.recipe
        root = recipe.program.functions[recipe.program.root]
        self.root_ports = [recipe.port(("arg", root.name, j)) for j in range(len(root.args))]
        self.layout, layouts = self.layouts(recipe)
        self.layout_size = [1] * layouts
        self.unit_row = [Grow(np.int64) for _ in range(layouts)]
        self.seg_layouts: List[List[int]] = [
            sorted({self.layout[recipe.port(recipe.home[s.function, v])] for v in s.outputs}) for s in recipe.segments
        ]
        self.seg_size = [0] * len(recipe.segments)
        self.slot_rows = [
            [SlotRows(Grow(np.int64), Grow(np.int64) if slot.kind == "sum" else None) for slot in s.slots]
            for s in recipe.segments
        ]
        self.seg_entries = [Grow(np.int64) for _ in recipe.segments]
        self._done = Grow(bool)

    # -- what is asked for --------------------
    @classmethod
    def make(
        cls,
        recipe: Recipe,
        structure: Structure,
        ints: Tuple[int, ...],
        host_field: Callable[[str], np.ndarray],
        max_depth: int,
        in_order: bool = False,
    ) -> "Plan":
        """Find the first frames of a call; `in_order`: also who called whom, for depth-first order."""

        def fresh() -> Frames:
            return Frames(recipe, structure, host_field, max_depth)

        shallow = int(np.diff(structure.tree_offsets).max(initial=0)) <= max_depth  # calls only ever go down
        if shallow and not in_order and not ints and not recipe.program.functions[recipe.program.root].args:
            try:
                plan = cls(recipe, fresh())
                if plan.frames.start_everywhere():
                    plan.roots = structure.roots.astype(np.int64)
                    plan._cover(plan._done, False)
                    return plan
            except RecursiveGluonError:
                pass  # on a node that may not be reached; if it is, the waves meet it and know the way to it
        plan = cls(recipe, fresh())
        plan.roots = plan.frames.start(ints, len(plan.root_ports))
        for port in plan.root_ports:
            layout = plan.layout[port]
            plan._cover(plan.unit_row[layout])
            n = structure.num_trees
            j = plan.root_ports.index(port)
            plan.unit_row[layout].view()[j * n : (j + 1) * n] = np.arange(
                plan.layout_size[layout], plan.layout_size[layout] + n
            )
            plan.layout_size[layout] += n
        plan._cover(plan._done, False)
        plan._done.view()[: structure.num_trees * len(plan.root_ports)] = True
        return plan

    def node_frames(self) -> np.ndarray:
        """The root function's frame of every node, for ``nodes=True``."""
        table = self.frames.tables[self.recipe.program.root]
        nodes = table.node.view()
        visits = np.bincount(nodes[nodes >= 0], minlength=self.frames.structure.num_nodes)
        bad = np.flatnonzero(visits != 1)
        if len(bad):
            node = int(bad[0])
            tree = int(np.searchsorted(self.frames.structure.tree_offsets, node, side="right")) - 1
            local = node - int(self.frames.structure.tree_offsets[tree])
            seen = np.flatnonzero(nodes == node)
            where = f" (once at {self.frames.call_path(self.recipe.program.root, int(seen[0]))})" if len(seen) else ""
            raise VisitError(
                f"nodes=True needs exactly one visit of every node, but node {local} of tree {tree} was "
                f"visited {int(visits[node])} times{where}; ask for the roots alone, or visit it once"
            )
        frames = np.empty(len(visits), np.int64)
        frames[nodes] = np.arange(len(nodes))
        return frames

    def output_rows(self, j: int, frames: np.ndarray) -> np.ndarray:
        """Rows of the root function's output port `j` for some of its frames."""
        root = self.recipe.program.root
        units = self.frames.tables[root].out_unit[j].view()[frames]
        return self.unit_row[self.layout[self.recipe.port(("out", root, j))]].view()[units]

    # -- rounds --------------------
    def run_rounds(self, wanted: Callable[[], np.ndarray]) -> Iterator[Tuple[List[Batch], Callable]]:
        """Yield (batches to run, ask); ask(read) then settles the decisions with ``read(function, value, rows)``.

        `wanted` gives, once all frames are known, the root frames whose outputs are returned.
        """
        while True:
            decisions = list(self.frames.waiting)
            self._cover(self._done, False)
            for rows in self.unit_row:
                self._cover(rows)
            batches = self._schedule(decisions, None if decisions else wanted())
            self.batches += batches
            self.rounds += 1
            yield batches, partial(self._settle, decisions)
            if not decisions:
                return

    def _cover(self, column: Grow, value=-1) -> None:
        missing = len(self.frames.unit_seg) - len(column)
        if missing:
            column.extend(missing, value)

    def _settle(self, decisions, read) -> None:
        frames = self.frames
        frames.waiting = []
        for b, entries in decisions:
            info = self.recipe.blocks[b]
            units = frames.value_unit(info.function, info.end.test, b, entries)
            ready = self._done.view()[units]
            if not ready.all():
                frames.waiting.append((b, entries[~ready]))
                entries, units = entries[ready], units[ready]
            if len(entries):
                port = self.recipe.port(self.recipe.home[info.function, info.end.test])
                rows = self.unit_row[self.layout[port]].view()[units]
                frames.decide(b, entries, read(port, rows))

    def _schedule(self, decisions, wanted: Optional[np.ndarray]) -> List[Batch]:
        """Levels of what is to run now, and the batches."""
        done = self._done.view()
        unit_seg = self.frames.unit_seg.view()
        pending = np.flatnonzero(~done)
        tails = np.array([s.tail for s in self.recipe.segments] or [False])
        core = pending[~tails[unit_seg[pending]]]
        edges = self._edges(core)
        goals = np.empty(0, np.int64)
        if decisions:
            goals = np.concatenate(
                [
                    self.frames.value_unit(self.recipe.blocks[b].function, self.recipe.blocks[b].end.test, b, entries)
                    for b, entries in decisions
                ]
            )
            core = ancestors(goals[~done[goals]], *edges, len(unit_seg))
            core = core[~done[core]]
        units, levels = longest_paths(core, *edges, done)
        if len(units) < len(core) and not (decisions and (len(units) or done[goals].any())):
            raise self._endless(np.setdiff1d(core, units), *edges)
        order = np.lexsort((units, unit_seg[units], levels))
        units, levels = units[order], levels[order]
        batches = self._batches(units, levels)
        if wanted is not None:
            self._fill_slots(units)
            late = self._tail_units(pending[tails[unit_seg[pending]]], wanted)
            rank = self.recipe.tail_rank[unit_seg[late]]
            units = late[np.lexsort((late, unit_seg[late], rank))]
            top = int(levels.max(initial=-1)) + 1
            batches += self._batches(units, top + self.recipe.tail_rank[unit_seg[units]])
        self._fill_slots(units)
        return batches

    def _endless(self, stuck: np.ndarray, source: np.ndarray, destination: np.ndarray) -> DepthLimitError:
        """The error for units that wait for one another: a call inside a call with which it shares its frame."""
        inside, frames = set(stuck.tolist()), self.frames
        waits = {d: s for s, d in zip(source.tolist(), destination.tolist()) if s in inside and d in inside}
        unit, seen = int(stuck[0]), set()
        while unit in waits and unit not in seen:
            seen.add(unit)
            unit = waits[unit]
        segment = self.recipe.segments[int(frames.unit_seg.view()[unit])]
        frame = int(frames.block_frames[segment.block].view()[frames.unit_entry.view()[unit]])
        return DepthLimitError(endless(frames.call_path(segment.function, frame)))

    def _tail_units(self, units: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        root = self.recipe.program.root
        keep = []
        for s in np.unique(self.frames.unit_seg.view()[units]):
            segment = self.recipe.segments[s]
            if segment.function == root:
                mine = units[self.frames.unit_seg.view()[units] == s]
                frames = self.frames.block_frames[segment.block].view()[self.frames.unit_entry.view()[mine]]
                keep.append(mine[np.isin(frames, wanted)])
        return np.concatenate(keep) if keep else np.empty(0, np.int64)

    def _batches(self, units: np.ndarray, levels: np.ndarray) -> List[Batch]:
        """Cut units, sorted by (level, segment), into batches and number the rows that they write."""
        if not len(units):
            return []
        segs = self.frames.unit_seg.view()[units]
        self._done.view()[units] = True
        cuts = np.flatnonzero((np.diff(levels) != 0) | (np.diff(segs) != 0)) + 1
        bounds = [0, *cuts.tolist(), len(units)]
        starts = segs[bounds[:-1]].tolist()
        batch_levels = levels[bounds[:-1]].tolist()
        batches, rows = [], [r.view() for r in self.unit_row]
        for k, s in enumerate(starts):
            a, b = bounds[k], bounds[k + 1]
            out = {}
            for layout in self.seg_layouts[s]:
                out[layout] = first = self.layout_size[layout]
                rows[layout][units[a:b]] = np.arange(first, first + b - a)
                self.layout_size[layout] = first + b - a
            size = self.seg_size[s]
            self.seg_size[s] = size + b - a
            batches.append(Batch(self.recipe.segments[s], size, size + b - a, batch_levels[k], out))
        return batches

    # -- slots --------------------
    def _fill_slots(self, units: np.ndarray) -> None:
        """What the slots of newly scheduled units read, in the order in which they run."""
        if not len(units):
            return
        segs = self.frames.unit_seg.view()[units]
        order = np.argsort(segs, kind="stable")
        units, segs = units[order], segs[order]
        bounds = [0, *(np.flatnonzero(np.diff(segs)) + 1).tolist(), len(units)]
        entry = self.frames.unit_entry.view()
        for a, b in zip(bounds[:-1], bounds[1:]):
            segment = self.recipe.segments[segs[a]]
            entries = entry[units[a:b]]
            self.seg_entries[segment.id].append(entries)
            cache: Dict[tuple, np.ndarray] = {}
            for slot, rows in zip(segment.slots, self.slot_rows[segment.id]):
                index, counts = self._slot_rows(segment, slot, entries, cache)
                rows.index.append(index)
                if counts is not None:
                    rows.counts.append(counts)

    def _slot_rows(
        self, segment: Segment, slot: Slot, entries: np.ndarray, cache
    ) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        frames = self.frames
        if slot.kind == "joined":
            parts = [self._slot_rows(segment, part, entries, cache)[0] for part in slot.parts]
            return np.stack(parts, 1).ravel(), None
        if slot.kind in ("field", "integer"):
            node, b = slot.detail
            ids = frames.block_frames[b].view()[frames.entries_in(b, segment.block, entries)]
            view = _View(frames, segment.function, ids)
            expr = node.node if slot.kind == "field" else node.value
            values = np.broadcast_to(evaluate(expr, view), ids.shape)
            if slot.kind == "field":
                view._present(values, str(expr))
            return values, None
        if slot.kind == "random":
            b = slot.detail[1]
            return frames.block_frames[b].view()[frames.entries_in(b, segment.block, entries)], None
        port = self.recipe.slot_port(segment, slot)
        assert port is not None
        layout = self.layout[port]
        key = (
            slot.kind,
            *(d.id if hasattr(d, "id") else d for d in slot.detail[:1]),
            layout,
            slot.detail[1] if slot.kind in ("call", "sum", "last") else None,
        )
        if key not in cache:
            units, counts = self.slot_units(segment, slot, entries)
            cache[key] = (self.unit_row[layout].view()[units], counts)
        return cache[key]

    def slot_units(self, segment: Segment, slot: Slot, entries: np.ndarray) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """The units whose outputs a slot reads for entries of the segment's block; counts where there are several."""
        frames = self.frames
        if slot.kind == "value":
            return frames.value_unit(segment.function, slot.value, segment.block, entries), None
        if slot.kind == "arg":
            ids = frames.block_frames[segment.block].view()[entries]
            table = frames.tables[segment.function]
            units = table.arg_unit[slot.detail[0]].view()[ids]
            before = np.flatnonzero(units < 0)
            if len(before):  # carried: what the frame of the child before returned
                port = self.recipe.port(("arg", segment.function, slot.detail[0]))
                units = units.copy()
                units[before] = table.out_unit[port[2]].view()[ids[before] - 1]
            return units, None
        site, j = slot.detail
        here = frames.entries_in(site.block, segment.block, entries)
        out = frames.tables[site.node.function].out_unit[j].view()
        callee = frames.callee[site.id].view()[here]
        if slot.kind == "call":
            return out[callee], None
        counts = frames.callee_count[site.id].view()[here]
        if slot.kind == "last":
            return out[callee + counts - 1], None
        total = int(counts.sum())
        start = np.cumsum(counts) - counts
        return out[np.repeat(callee - start, counts) + np.arange(total)], counts

    def _edges(self, units: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(source, destination) of everything that pending units wait for; source -1 has not been reached yet."""
        sources, destinations = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        segs = self.frames.unit_seg.view()[units]
        entry = self.frames.unit_entry.view()
        order = np.argsort(segs, kind="stable")
        units, segs = units[order], segs[order]
        bounds = [0, *(np.flatnonzero(np.diff(segs)) + 1).tolist(), len(units)] if len(units) else [0]
        for a, b in zip(bounds[:-1], bounds[1:]):
            segment, mine = self.recipe.segments[segs[a]], units[a:b]
            cache = set()
            for slot in (part for joined in segment.slots for part in joined.parts):
                if slot.kind in ("field", "integer", "random"):
                    continue
                key = slot.detail[0] if slot.kind == "value" else (slot.kind, *slot.detail)
                if key in cache:
                    continue
                cache.add(key)
                found, counts = self.slot_units(segment, slot, entry[mine])
                sources.append(found)
                destinations.append(mine if counts is None else np.repeat(mine, counts))
        return np.concatenate(sources), np.concatenate(destinations)
