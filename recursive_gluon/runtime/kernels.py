"""A segment of a Recipe, forward and backward, as CachedOps that gather their own rows."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from .._compat import mx
from ..program.ir import Op, Return
from ..program.symbol import to_symbol
from ..schedule.recipe import BATCH, Recipe, Segment
from .gradients import segment_gradient

__all__ = ["Graph", "SegmentKernel", "compile_segments"]

_GATHERED = ("value", "call", "last", "arg", "field", "joined")


class Graph:
    """Operators as a CachedOp with named inputs."""

    def __init__(self, ops: Sequence[Op], outputs: Sequence[str]):
        # An output that is also an input confuses CachedOp: make every output an operator's result.
        made = {v for op in ops for v in op.outputs}
        ops = list(ops)
        renamed: List[str] = []
        seen: set = set()
        for v in outputs:
            if v not in made or v in seen:
                ops.append(Op("_copy", (v,), (f"{v}.out{len(renamed)}",), {}))
                renamed.append(f"{v}.out{len(renamed)}")
            else:
                renamed.append(v)
            seen.add(v)
        symbol = to_symbol(ops, renamed)
        self.inputs: List[str] = symbol.list_inputs()
        self._op = mx.nd.CachedOp(symbol)

    def __call__(self, values: Dict[str, object], out: Optional[list]) -> list:
        result = self._op(*[values[name] for name in self.inputs], out=out)
        return [result] if isinstance(result, mx.nd.NDArray) else result


class SegmentKernel:
    """What it takes to run a segment: its forward graph, its gradient, and what is kept in between.

    ``extras`` are values beside the segment's outputs that the forward graph returns in training: those that the
    gradient of the batch reads, and those that are kept for all rows.
    """

    def __init__(self, recipe: Recipe, segment: Segment, groups: List[str]):
        self.segment, self.groups = segment, groups
        #: how many rows of a port stand side by side in each slot
        self.widths = {slot.value: len(slot.parts) for slot in segment.slots}
        self.gradient, self.reason = segment_gradient(recipe, segment) if recipe.train else (None, segment.reason)
        gradient = self.gradient
        extras: Tuple[str, ...] = (
            () if gradient is None else tuple(dict.fromkeys((*gradient.saved, *gradient.kept_forward)))
        )
        self.extras = tuple(v for v in extras if v not in segment.outputs)
        if segment.mode == BATCH:
            ops = [
                op
                for slot, group in zip(segment.slots, groups)
                if slot.kind in _GATHERED
                for op in _gather(slot, group)
            ]
            self.forward = Graph([*ops, *segment.batch_ops], [*segment.outputs, *self.extras])
        self._backward: Dict[Tuple[int, ...], Graph] = {}

    def backward(self, gathered: Tuple[int, ...]) -> Graph:
        """The gradient's graph; `gathered` says how many rows of a port it sums for each output gradient (0: given)."""
        graph = self._backward.get(gathered)
        if graph is None:
            g = self.gradient
            assert g is not None
            ops: List[Op] = []
            for name, count in zip(g.ograds.values(), gathered):
                parts = tuple(name if count == 1 else f"{name}.part{i}" for i in range(count))
                ops += [
                    Op("take", (f"{name}.port", f"{name}.index{i}"), (part,), {"axis": "0", "mode": "clip"})
                    for i, part in enumerate(parts)
                ]
                if count > 1:
                    ops.append(Op("add_n", parts, (name,), {"num_args": str(count)}))
            given, apart = [], []
            for value, name in g.inputs.items():
                if self.widths[value] > 1:  # rows side by side go back to rows of the port
                    shape = str((-1, g.types[name][0][1] // self.widths[value]))
                    apart.append(Op("Reshape", (name,), (f"{name}.rows",), {"shape": shape}))
                    name = f"{name}.rows"
                given.append(name)
            graph = Graph([*ops, *g.row_ops, *apart], [*given, *g.kept_backward])
            self._backward[gathered] = graph
        return graph


def compile_segments(recipe: Recipe, layouts: Dict) -> List[SegmentKernel]:
    """Kernels of all segments. Slots that read the same rows (same call, ports numbered alike) share an index."""
    kernels = []
    for segment in recipe.segments:
        names: Dict[tuple, str] = {}
        groups = [
            names.setdefault(slot_group(recipe, segment, slot, layouts), str(len(names))) for slot in segment.slots
        ]
        kernels.append(SegmentKernel(recipe, segment, groups))
    return kernels


def slot_group(recipe: Recipe, segment: Segment, slot, layouts: Dict) -> tuple:
    """Slots of a segment with the same group read the same row numbers."""
    if slot.kind == "joined":
        return ("joined", *(slot_group(recipe, segment, part, layouts) for part in slot.parts))
    if slot.kind == "value":
        return ("value", slot.detail[0].id, layouts[recipe.port(recipe.home[segment.function, slot.value])])
    if slot.kind in ("call", "sum", "last"):
        site, j = slot.detail
        return (
            slot.kind,
            site.id,
            layouts[recipe.port(("out", site.node.function, j))],
            _makers(recipe, site.node.function, j),
        )
    if slot.kind == "arg":
        return ("arg", slot.detail[0])
    return (slot.kind, slot.value)


def _gather(slot, group: str) -> List[Op]:
    """Operators that gather a slot's rows from its port."""
    rows = slot.value if slot.kind != "joined" else f"{slot.value}.rows"
    ops = [Op("take", (f"{slot.value}.port", f"index.{group}"), (rows,), {"axis": "0", "mode": "clip"})]
    if slot.kind == "joined":
        ops.append(Op("Reshape", (rows,), (slot.value,), {"shape": str((-1, slot.shape[1]))}))
    return ops


def _makers(recipe: Recipe, function: str, j: int) -> tuple:
    """The segment that makes output `j` at each return: outputs with the same makers have the same rows."""
    return tuple(
        recipe.producer[function, info.end.values[j]].id
        for info in recipe.blocks
        if info.function == function and isinstance(info.end, Return)
    )
