"""What runs of the core hold in memory, from their plans alone: for explain()."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ..arrays import host_view
from ..executor import Call
from ..recipes import compiled
from .binding import Recompute
from .programs import CoreRun, core_program

__all__ = ["MemoryPlan", "memory_plan"]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of a run's own rows, without parameters and fields: inference, and if it used no row again; training,
    with ``recompute=True``, and with ``recompute=at_once``, which cuts the forest into `parts`, or not: `whole` says
    why."""

    inference: int
    without_reuse: int
    training: int
    recompute: int
    at_once: int
    cut: int
    parts: int
    whole: str

    def __str__(self) -> str:
        cut = (f", with recompute={self.at_once} {_size(self.cut)} in {self.parts} part{'s' * (self.parts != 1)}"
               if self.parts else f"; not cut into parts: {self.whole}")
        return (f"inference {_size(self.inference)} ({_size(self.without_reuse)} if rows were not used again); "
                f"training {_size(self.training)}, with recompute=True {_size(self.recompute)}{cut}")


def memory_plan(call: Call, at_once: int) -> Optional[MemoryPlan]:
    """What such calls hold; None where the core cannot run them, or values decide what is computed. `at_once`: calls of
    a part."""
    inference, training = (replace(call, train=keep, keep=keep) for keep in (False, True))
    used, without, *_ = _planned(inference)
    found = used, without, _planned(training)[0], _planned(training, True)[0]
    if min(found) < 0:
        return None
    cut, _, parts, whole = _planned(training, at_once)
    return MemoryPlan(*found, at_once, cut, parts, whole)


def _planned(call: Call, recompute: Recompute = False) -> Tuple[int, int, int, str]:
    """Bytes of a run, and if no row were used again, -1 where they are not known; its parts, and why there are none."""
    program, _ = core_program(compiled(call))
    if program is None:
        return -1, -1, 0, ""
    run = CoreRun(program, call, {name: host_view(call.fields[name]) for name in program.encoded.fields}, recompute)
    try:
        return run.figure(7, 0), run.figure(7, 1), run.figure(8), run.whole()
    finally:
        run.release()


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000 ** power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
