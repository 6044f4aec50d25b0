"""How the core planned a run: workers, shards, batches, the critical path, and what lanes make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, NamedTuple, Tuple

import numpy as np

from ..executor import Call
from .binding import Recompute, workers
from .executor import NativeRun
from .fuse import Instr
from .programs import CoreRun, Lanes

__all__ = ["Batch", "Scheduling", "batches_of", "scheduling", "spans_of"]


class Batch(NamedTuple):
    """A segment on the rows of one level; `shard` numbers the trees that it is for."""

    segment: int
    start: int
    stop: int
    level: int
    round: int
    shard: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Scheduling:
    """Shares are of the arithmetic of the forward; ``lanes_*`` are what `lanes` do with it, or would do where the
    workers run it. A large forest runs in `chunks`, each planned by itself (0: in one); then the other figures are of
    one plan for all trees."""

    runs_on: str
    chunks: int
    lanes: int
    shards: int
    levels: int
    batches: int
    rows: Tuple[int, float, int]  # of a batch: least, median, most
    path_batches: int
    path_share: float
    lanes_events: int
    lanes_makespan: float  # over the sum: 0.5 would be two lanes that never wait

    def __str__(self) -> str:
        least, median, most = self.rows
        return "\n".join([
            *([f"    in {self.chunks} chunks of whole trees, each planned and run by itself; were they one:"]
              if self.chunks else []),
            f"    {self.runs_on}, {self.shards} shard{'s' * (self.shards != 1)}, "
            f"{self.levels} levels",
            f"    {self.batches} batches of {least} to {most} rows (median {median:g})",
            f"    critical path of {self.path_batches} batches with {self.path_share:.0%} of the arithmetic",
            f"    {self.lanes} lane{'s' * (self.lanes != 1)}: {self.lanes_events} events, "
            f"makespan {self.lanes_makespan:.0%} of the sum",
        ])


def batches_of(run: CoreRun) -> List[Batch]:
    """The batches of a run that has been forward."""
    values, found = np.zeros(len(Batch._fields), np.int64), []
    for index in range(run.figure(1)):
        run.lib.rg_run_batch(run.handle, index, values.ctypes.data)
        found.append(Batch(*values.tolist()))
    return found


def spans_of(run: CoreRun) -> np.ndarray:
    """What a traced run did, a row each: batch, step, worker, begin and end in nanoseconds."""
    spans = np.zeros((run.lib.rg_run_spans(run.handle, None), 5), np.int64)
    run.lib.rg_run_spans(run.handle, spans.ctypes.data)
    return spans


def scheduling(call: Call, lanes: Lanes, recompute: Recompute) -> Scheduling:
    """Run a call forward on the core and tell how it was planned, and for which lanes; `recompute` is what a block's
    own calls recompute."""
    native = NativeRun(call)
    native.forward(hold=True)
    run, code = native.run, native.program.encoded.segments
    batches = batches_of(run)
    cost = [float(b.rows * sum(map(_arithmetic, code[b.segment].forward))) for b in batches]
    after = [_after(run, index) for index in range(len(batches))]
    count = lanes.number or workers()
    runs_on = f"{count} {'lane' if lanes.number else 'worker'}{'s' * (count != 1)} of {call.ctx}"
    planned = lanes.number or 2
    found = Scheduling(
        runs_on,
        0 if lanes.number else _chunks(native, recompute),
        planned,
        run.figure(6),
        len({(b.round, b.level) for b in batches}),
        len(batches),
        _spread([b.rows for b in batches]),
        *_critical_path(after, cost),
        *_on_lanes(run.lib, after, cost, planned),
    )
    native.release()
    return found


def _chunks(native: NativeRun, recompute: Recompute) -> int:
    """In how many a block's own call would run."""
    own = CoreRun(native.program, native.call, dict(native.host.fields), recompute, chunks=True)
    try:
        return own.chunks()
    finally:
        own.release()


def _arithmetic(instr: Instr) -> int:
    """Operations a row: multiply-adds of products, operators of what is element-wise, else columns."""
    if instr.code in ("gemm", "bdot"):
        return instr.n[0] * instr.n[1] * instr.n[2]
    if instr.code == "ew":
        return instr.cols * max(len(instr.ops), 1)
    return max((o.cols for o in instr.outs), default=0)


def _after(run: CoreRun, index: int) -> np.ndarray:
    found = np.zeros(run.lib.rg_run_after(run.handle, index, None), np.int32)
    run.lib.rg_run_after(run.handle, index, found.ctypes.data)
    return found


def _spread(rows: List[int]) -> Tuple[int, float, int]:
    return (min(rows), float(np.median(rows)), max(rows)) if rows else (0, 0.0, 0)


def _critical_path(after: List[np.ndarray], cost: List[float]) -> Tuple[int, float]:
    """(batches, share of all arithmetic) of the dearest path. Batches come after those that they wait for."""
    path: List[Tuple[float, int]] = [(0.0, 0)] * len(cost)
    for index in reversed(range(len(cost))):
        behind = max((path[following] for following in after[index]), default=(0.0, 0))
        path[index] = behind[0] + cost[index], behind[1] + 1
    dearest = max(path, default=(0.0, 0))
    return dearest[1], dearest[0] / max(sum(cost), 1.0)


def _on_lanes(lib: Any, after: List[np.ndarray], cost: List[float], lanes: int) -> Tuple[int, float]:
    """(events, makespan over the sum)"""
    start = np.concatenate([[0], np.cumsum([len(a) for a in after])]).astype(np.int64)
    flat = np.concatenate([np.zeros(0, np.int32), *after])
    costs, figures = np.array(cost, np.float64), np.zeros(2 + lanes)
    plan = lib.rg_lane_plan_new(len(cost), start.ctypes.data, flat.ctypes.data, costs.ctypes.data, lanes)
    events = lib.rg_lane_plan_events(plan)
    lib.rg_lane_plan_figures(plan, figures.ctypes.data)
    lib.rg_lane_plan_free(plan)
    return events, float(figures[1]) / max(sum(cost), 1.0)
