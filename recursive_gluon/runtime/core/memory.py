"""What runs of the core hold in memory, from their plans alone: for explain()."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ..arrays import host_view
from ..executor import Call
from ..recipes import compiled
from .binding import Recompute
from .programs import CoreRun, core_program

__all__ = ["Footprint", "MemoryPlan", "memory_plan"]


@dataclass(frozen=True)
class Footprint:
    """Bytes of a run's own rows, without parameters and fields: in the one block that is planned from their lifetimes,
    in a block each, and so if no row were used again; all 0 where they are not known."""

    block: int
    apart: int
    without_reuse: int

    @property
    def gain(self) -> float:
        """The share that lifetimes save."""
        return 1 - self.block / self.apart if self.apart else 0.0

    def __str__(self) -> str:
        return f"{_size(self.block)} ({_size(self.apart)} in separate blocks, {self.gain:.0%} less)"


@dataclass(frozen=True)
class MemoryPlan:
    """What runs hold: inference; training; with ``recompute=True``, and with ``recompute=at_once``, which cuts the
    forest into `parts`, or not: `whole` says why. All but the last run a large forest in `chunks`; 0: in one."""

    inference: Footprint
    training: Footprint
    recompute: Footprint
    chunks: int
    at_once: int
    cut: Footprint
    parts: int
    whole: str

    def __str__(self) -> str:
        cut = (f", recompute={self.at_once} {self.cut} in {self.parts} part{'s' * (self.parts != 1)}"
               if self.parts else f"; not cut into parts: {self.whole}")
        chunks = f" (each in {self.chunks} chunks)" if self.chunks else ""
        return (f"inference {self.inference}, {_size(self.inference.without_reuse)} if rows were not used again; "
                f"training {self.training}, recompute=True {self.recompute}{chunks}{cut}")


def memory_plan(call: Call, at_once: int) -> Optional[MemoryPlan]:
    """What such calls hold; None where the core cannot run them, or values decide what is computed. `at_once`: calls of
    a part."""
    inference, training = (replace(call, train=keep, keep=keep) for keep in (False, True))
    (used, *_), (plain, chunks, *_), (again, *_) = _planned(inference), _planned(training), _planned(training, True)
    if not all(found.block > 0 for found in (used, plain, again)):
        return None
    cut, _, parts, whole = _planned(training, at_once)
    return MemoryPlan(used, plain, again, chunks, at_once, cut, parts, whole)


def _planned(call: Call, recompute: Recompute = False) -> Tuple[Footprint, int, int, str]:
    """What a block's own run will hold; its chunks; its parts, and why there are none."""
    program, _ = core_program(compiled(call))
    if program is None:
        return Footprint(0, 0, 0), 0, 0, ""
    run = CoreRun(program, call, {name: host_view(call.fields[name]) for name in program.encoded.fields}, recompute,
                  chunks=True)
    try:
        return Footprint(*(run.figure(7, i) for i in range(3))), run.chunks(), run.figure(8), run.whole()
    finally:
        run.release()


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000 ** power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
