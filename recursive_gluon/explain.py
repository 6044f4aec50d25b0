"""explain(): what a RecursiveBlock became, what batched on a forest and what did not, and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional, Tuple, Union

from ._compat import mx
from .block import RecursiveBlock
from .bridge.convert import conversion_of
from .bridge.report import ConversionReport
from .capture.records import Record
from .errors import ConversionError
from .program.ir import Branch, Return
from .runtime.batched import BatchedRun
from .runtime.core.devices import lanes_for
from .runtime.core.memory import MemoryPlan, memory_plan
from .runtime.core.programs import WORKERS, Lanes
from .runtime.core.scheduling import Scheduling, scheduling
from .runtime.executor import NODES, ROOTS, Call
from .runtime.recipes import compiled
from .schedule.recipe import BATCH, FRAME

__all__ = ["Explanation", "explain"]

#: calls of a part, where the user has not said how many
_AT_ONCE = 256


@dataclass(frozen=True)
class Launches:
    """How one segment ran: its operators, launches and rows; `reason` where it ran frame by frame."""

    function: str
    path: str
    operators: Tuple[str, ...]
    where: Tuple[str, ...]
    how: str
    launches: int
    rows: int
    gradient: str
    reason: str


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found; ``str()`` for people, ``to_json()`` for programs."""

    name: str
    nodes: int
    trees: int
    frames: Dict[str, int]
    paths: Dict[str, int]
    cases: Dict[str, int]
    levels: int
    batches: int
    rounds: int
    critical_path: int
    executor: str
    why_not_native: str
    scheduling: Optional[Scheduling]  # of the native core
    memory: Optional[MemoryPlan]  # of the workers
    segments: Tuple[Launches, ...]
    records: Tuple[Record, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.trees} trees, {self.nodes} nodes",
            f"  frames      {sum(self.frames.values())}  ("
            + ", ".join(f"{n}: {c}" for n, c in self.frames.items())
            + ")",
            "  paths       " + ", ".join(f"{n}: {c}" for n, c in self.paths.items()),
            "  cases       " + ", ".join(f"{n}: {c}" for n, c in self.cases.items()),
            f"  levels      {self.levels} (critical path: {self.critical_path} launches), {self.batches} launches in "
            f"{self.rounds} round{'s' * (self.rounds != 1)}",
            f"  executor    {self.executor}" + (f" (not the native core: {self.why_not_native})" if self.why_not_native
                                                else ""),
            *([] if self.memory is None else [f"  memory      {self.memory}"]),
            "",
            "  batched",
        ]
        lines += [self._line(s) for s in self.segments if s.how != FRAME] or ["    nothing"]
        single = [s for s in self.segments if s.how == FRAME]
        lines += ["", "  not batched"] + (
            [line for s in single for line in (self._line(s), f"      because {s.reason}")] or ["    nothing"]
        )
        slow = [s for s in self.segments if s.gradient != "rules"]
        lines += ["", "  gradients by MXNet's autograd instead of the rules"]
        lines += [f"    {', '.join(s.operators)} at {', '.join(s.where)}: {s.gradient}" for s in slow] or ["    none"]
        if self.scheduling is not None:
            lines += ["", "  scheduling", str(self.scheduling)]
        if self.records:
            lines += ["", "  notes"] + [f"    {r}" for r in self.records]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _line(s: Launches) -> str:
        mean = f"{s.rows / s.launches:.1f}" if s.launches else "0"
        places = ", ".join(s.where[:3]) + (", ..." if len(s.where) > 3 else "")
        return (
            f"    {s.function}/{s.path}: {len(s.operators)} operators ({', '.join(s.operators[:4])}"
            f"{', ...' if len(s.operators) > 4 else ''}), {s.rows} rows in {s.launches} launches ({mean} a launch)"
            + (f" at {places}" if places else "")
        )


def explain(net: Any, *args: Any, train: bool = True, nodes: bool = False) -> Union[Explanation, ConversionReport]:
    """Tell how a program runs, and why not better.

    Parameters
    ----------
    net : RecursiveBlock, or a program that ``rg.hybridize`` converted
        Initialized. A RecursiveBlock may be hybridized or not; it is run once with the batched executor.
    *args
        The arguments of a call: of a RecursiveBlock, the forest (a Forest, a list of trees, or a tree) and what
        follows; a converted program is called with them, if there are any, and then told about as it ran so far.
    train : bool, default True
        Explain the training mode (BatchNorm, Dropout, gradients).
    nodes : bool, default False
        As in ``net(forest, nodes=True)``.

    Returns
    -------
    Explanation
        Of a RecursiveBlock: frames, levels, cases and paths; memory on the native core; what batched, what did not and
        why, with the user's file and line.
    ConversionReport
        Of a converted program: segments, the fraction of operators that run from graphs, where and why graphs end,
        launches ahead, time in Python, launching and waiting.
    """
    conversion = conversion_of(net)
    if conversion is not None:
        if args:
            with (mx.autograd.train_mode() if train else mx.autograd.predict_mode()):
                net(*args)
        return conversion.tell()
    if not isinstance(net, RecursiveBlock):
        raise ConversionError(f"explain() explains a RecursiveBlock or what rg.hybridize() converted, and "
                              f"{type(net).__name__} is neither: call rg.hybridize(net) first")
    if not args:
        raise ConversionError("explain() of a RecursiveBlock needs a forest to run it on: explain(net, forest)")
    forest, args = args[0], args[1:]
    source, call = net._prepare(forest, args, train, NODES if nodes else ROOTS)
    run = _run(source, call)
    plan, recipe = run.plan, run.recipe
    launches: Dict[int, int] = {}
    rows: Dict[int, int] = {}
    for batch in plan.batches:
        launches[batch.segment.id] = launches.get(batch.segment.id, 0) + 1
        rows[batch.segment.id] = rows.get(batch.segment.id, 0) + batch.stop - batch.start
    segments = []
    for segment, kernel in zip(recipe.segments, run.kernels):
        names = tuple(op.op for op in segment.ops)
        where = tuple(dict.fromkeys(op.where for op in segment.ops if op.where))
        gradient = (
            "rules" if kernel.gradient is not None or not train or segment.mode not in (BATCH, FRAME) else kernel.reason
        )
        segments.append(
            Launches(
                segment.function,
                recipe.blocks[segment.block].path,
                names,
                where,
                segment.mode,
                launches.get(segment.id, 0),
                rows.get(segment.id, 0),
                gradient,
                segment.reason,
            )
        )
    program = call.program
    executor, why, lanes = _executor(net, call)
    levels = sorted({b.level for b in plan.batches if not b.segment.tail})
    return Explanation(
        net.name,
        call.structure.num_nodes,
        call.structure.num_trees,
        {name: len(table) for name, table in plan.frames.tables.items()},
        {name: sum(isinstance(b.end, Return) for b in f.blocks()) for name, f in program.functions.items()},
        {
            f"{i.function}/{i.path}": len(plan.frames.block_frames[i.id])
            for i in recipe.blocks
            if not isinstance(i.end, Branch)
        },
        len(levels),
        len(plan.batches),
        plan.rounds,
        len(levels),
        executor,
        why,
        scheduling(call, lanes, net._recompute) if executor == "native" else None,
        memory_plan(call, _at_once(net)) if executor == "native" and not lanes.number else None,
        tuple(segments),
        tuple(source.tracer.records),
    )


def _executor(net: RecursiveBlock, call: Call) -> Tuple[str, str, Lanes]:
    """What runs such calls, why the native core does not, and what the core gives them to."""
    chosen = net._executor
    if chosen in ("mxnet", "reference"):
        return chosen, f"executor={chosen!r} was asked for", WORKERS
    lanes, why = lanes_for(call, net._lanes, net._recompute)
    return ("mxnet" if why else "native"), why, lanes


def _at_once(net: RecursiveBlock) -> int:
    chosen = net._recompute
    return _AT_ONCE if isinstance(chosen, bool) else chosen


def _run(source, call: Call) -> BatchedRun:
    from .schedule.faults import Unseen

    while True:
        try:
            run = BatchedRun(call, compiled(call))
            run.forward()
            return run
        except Unseen as unseen:
            source.live.update(source.live.extend(source.live.program, unseen))
            call.program = source.live.program
