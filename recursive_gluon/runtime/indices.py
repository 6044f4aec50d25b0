"""Fields that index an embedding: MXNet clips what lies outside of the table, silently; here it is an error."""
from __future__ import annotations

from typing import List, Tuple

import numpy as np

from ..errors import IndexRangeError
from ..program.ir import Field
from ..schedule.recipe import Recipe
from .arrays import host_copy
from .executor import Call

__all__ = ["check_indices"]


def check_indices(call: Call, recipe: Recipe, plan) -> None:
    """Raise IndexRangeError if a row of a field that a frame looks up lies outside of the embedding's table."""
    lookups = recipe.__dict__.get("lookups")
    if lookups is None:
        lookups = recipe.__dict__["lookups"] = _lookups(recipe)
    host = {name: host_copy(call.fields[name]) for name in {name for _, _, name, _, _ in lookups}}
    for segment, slot, name, size, where in lookups:
        nodes = plan.slot_rows[segment][slot].index.view()
        if not len(nodes):
            continue
        values = host[name][nodes]
        if values.min() >= 0 and values.max() < size:
            continue
        i = int(np.flatnonzero(((values < 0) | (values >= size)).reshape(len(nodes), -1).any(axis=1))[0])
        offsets = call.structure.tree_offsets
        tree = int(np.searchsorted(offsets, nodes[i], side="right")) - 1
        bad = next(v for v in values[i].ravel().tolist() if not 0 <= v < size)
        larger = f"give it input_dim={int(bad) + 1} or more, or " if bad >= size else ""
        raise IndexRangeError(f"node {int(nodes[i] - offsets[tree])} of tree {tree}: field {name!r} holds {bad:g}, but "
                              f"the Embedding at {where} knows 0 to {size - 1}; {larger}map such values to one "
                              f"that it has (see rg.data.Vocab)")


def _lookups(recipe: Recipe) -> List[Tuple[int, int, str, int, str]]:
    """(segment, slot, field, rows of the table, place) for every field that goes straight into an Embedding."""
    found = []
    for segment in recipe.segments:
        for op in segment.ops:
            if op.op != "Embedding":
                continue
            for k, slot in enumerate(segment.slots):
                if slot.kind == "field" and slot.value == op.inputs[0]:
                    field = slot.detail[0]
                    assert isinstance(field, Field)
                    found.append((segment.id, k, field.name, int(op.attrs["input_dim"]), op.where))
    return found
