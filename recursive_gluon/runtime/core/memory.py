"""What runs of the core hold in memory, from their plans alone: for explain()."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ..arrays import host_view
from ..executor import Call
from ..recipes import compiled
from .programs import CoreRun, core_program

__all__ = ["MemoryPlan", "memory_plan"]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of a run's own rows, without parameters and fields: inference, and if it used no row again; training, and
    with ``recompute=True``."""

    inference: int
    without_reuse: int
    training: int
    recompute: int

    def __str__(self) -> str:
        return (f"inference {_size(self.inference)} ({_size(self.without_reuse)} if rows were not used again); "
                f"training {_size(self.training)}, with recompute=True {_size(self.recompute)}")


def memory_plan(call: Call) -> Optional[MemoryPlan]:
    """What such calls hold; None where the core cannot run them, or values decide what is computed."""
    inference, training = (replace(call, train=keep, keep=keep) for keep in (False, True))
    found = [*_planned(inference), _planned(training)[0], _planned(training, recompute=True)[0]]
    return None if min(found) < 0 else MemoryPlan(*found)


def _planned(call: Call, recompute: bool = False) -> Tuple[int, int]:
    """Bytes of a run, and if no row were used again; -1 where they are not known."""
    program, _ = core_program(compiled(call))
    if program is None:
        return -1, -1
    run = CoreRun(program, call, {name: host_view(call.fields[name]) for name in program.encoded.fields}, recompute)
    try:
        return run.figure(7, 0), run.figure(7, 1)
    finally:
        run.release()


def _size(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000 ** power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
