"""The gradient of a segment by the rule table, or why there is none."""

from __future__ import annotations

from functools import partial
from typing import Optional, Tuple

from ..program.passes.autodiff import Gradient, differentiate
from ..schedule.recipe import FRAME, SPREAD, Recipe, Segment

__all__ = ["segment_gradient"]


def segment_gradient(recipe: Recipe, segment: Segment) -> Tuple[Optional[Gradient], str]:
    """(gradient, "") or (None, why the rules give none)."""
    if segment.mode == SPREAD:
        return None, segment.reason
    if segment.mode == FRAME or not segment.table:
        return None, segment.reason or "no gradient rule for " + ", ".join(sorted({op.op for op in segment.ops}))
    type_of = partial(recipe.type_of, segment.function)
    wanted = {s.value for s in segment.slots if s.dtype.startswith("float") and s.kind not in ("integer", "random")}
    wanted |= set(segment.shared)
    outputs = [v for v in segment.outputs if type_of(v)[1].startswith("float")]
    try:
        return differentiate(segment.ops, recipe.rows[segment.function], type_of, outputs, wanted), segment.reason
    except NotImplementedError as error:
        return None, str(error)
