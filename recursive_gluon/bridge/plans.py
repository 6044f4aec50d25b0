"""What a method of a lazy array puts off, remembered: the same method with the same arguments does the same on an array
of which the same is known.

Indexing takes MXNet's Python many times longer than the calls that come of it. So those are kept as a plan, by what the
method was asked, and made again from it. The method says what is right; a plan is what it did.
"""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from ..capture.calls import PURE
from .values import Value, get_raw
from .work import Work

__all__ = ["PLANS", "Plan", "remember"]

#: of each call in turn, which reads what the one before it made: the Call, the Aval of what it makes, the class of its
#: lazy array (None: Python never sees one), how the true view is made of its base (or None), and which of the calls
#: made the base (-1: the array itself is it)
Plan = Tuple[Tuple[Any, Any, Optional[type], Optional[Callable], int], ...]

PLANS: Dict[Tuple, Optional[Plan]] = {}
_BOUND = 50_000


def remember(key: Tuple, method: Callable, array: Any, *args: Any) -> Any:
    """Call a method of a lazy array, and note under `key` what it put off; None where that is no plan."""
    raw = get_raw(array)
    work = raw.log.work
    before = len(work.ops), len(work.arrays), len(work.makers)
    made = method(array, *args)
    if raw.log.work is work and get_raw(array) is raw:  # nothing had to be launched
        if len(PLANS) >= _BOUND:
            PLANS.clear()
        PLANS[key] = _plan(work, raw.number, made, *before)
    return made


def _plan(work: Work, base: int, made: Any, ops: int, arrays: int, makers: int) -> Optional[Plan]:
    """The calls after the first `ops`, if one leads to the other and the last one to `made`."""
    steps: List[Any] = []
    number, read = arrays, base
    views = {view: (make, -1 if source == base else source - arrays) for view, source, make in work.makers[makers:]}
    for op in work.ops[ops:]:
        if op[1:] != (1, read) or op[0].kind != PURE:
            return None
        array = work.arrays[number]
        steps.append((op[0], work.avals[number], None if array is None else type(array), *views.get(number, (None, 0))))
        read, number = number, number + 1
    raw = get_raw(made)
    whole = steps and number == len(work.arrays) and type(raw) is Value and made is work.arrays[-1]
    return tuple(steps) if whole else None
