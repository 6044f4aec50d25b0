"""Differentiation of a run of operators by the rule table: operators in, operators out.

The gradient of a segment mirrors it: it takes the gradients of the segment's outputs, gives those of its inputs, and
leaves for one launch over all rows whatever is a sum over frames (weights, biases, embedding rows).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Callable, Dict, List, Mapping, Sequence, Set, Tuple

from ..ir import Op
from ..rules.gradients import gradient, join_slices
from ..rules.rowwise import rowwise
from ..rules.site import Site, as_axis, integer
from ..symbol import to_symbol

__all__ = ["Gradient", "differentiate"]

Shape = Tuple[int, ...]


@dataclass(eq=False)
class Gradient:
    """The gradient of a segment.

    `ograds` names the gradient of each output, `inputs` the gradient of each row input, `shared` of each shared
    input (a sum over all rows). ``row_ops`` run with the batch, ``shared_ops`` once per call before, ``over_ops`` once
    over all rows afterwards. `saved` are forward values that row_ops read, `kept` values (forward or gradient) that
    over_ops read for all rows.
    """

    ograds: Dict[str, str]
    inputs: Dict[str, str] = field(default_factory=dict)
    shared: Dict[str, str] = field(default_factory=dict)
    row_ops: List[Op] = field(default_factory=list)
    shared_ops: List[Op] = field(default_factory=list)
    over_ops: List[Op] = field(default_factory=list)
    saved: Tuple[str, ...] = ()
    kept_forward: Tuple[str, ...] = ()
    kept_backward: Tuple[str, ...] = ()
    types: Dict[str, Tuple[Shape, str]] = field(default_factory=dict)


def differentiate(
    ops: Sequence[Op],
    rows: Set[str],
    type_of: Callable[[str], Tuple[Shape, str]],
    outputs: Sequence[str],
    wanted: Set[str],
) -> Gradient:
    """The gradient of `ops`.

    Parameters
    ----------
    ops : sequence of Op
        Straight-line operators.
    rows : set of str
        Values that differ from frame to frame (inputs and results).
    type_of : callable
        Value to (per-frame shape, dtype).
    outputs : sequence of str
        Values whose gradients come from outside.
    wanted : set of str
        Inputs whose gradients are asked for.

    Raises
    ------
    NotImplementedError
        An operator has no rule for this use.
    """
    return _Pass(ops, rows, type_of, outputs, wanted).run()


class _Pass:
    """Implements the rules' Emit; values are names, forward ones as they are."""

    def __init__(self, ops, rows, type_of, outputs, wanted):
        self.ops, self.rows, self._type_of, self.wanted = ops, set(rows), type_of, wanted
        self.types: Dict[str, Tuple[Shape, str]] = {}
        self.over: Set[str] = set()
        self.result = Gradient({v: f"{v}.grad" for v in outputs}, types=self.types)
        self.count = 0
        for v, g in self.result.ograds.items():
            self.types[g] = type_of(v)
            if v in self.rows:
                self.rows.add(g)
        self.contributions: Dict[str, List[str]] = {v: [g] for v, g in self.result.ograds.items()}
        self.slices: Dict[str, Dict[int, List[tuple]]] = {}

    # -- Emit --------------------
    def shape(self, value: str) -> Shape:
        return self._typed(value)[0]

    def dtype(self, value: str) -> str:
        return self._typed(value)[1]

    def _typed(self, value: str):
        return self.types[value] if value in self.types else self._type_of(value)

    def row(self, op: str, *values: str, **attrs) -> str:
        out, inputs = self._fresh(op, values, attrs), list(values)
        flags = tuple(v in self.rows for v in values)
        if not any(flags):
            self.result.shared_ops.append(Op(op, tuple(inputs), (out,), attrs))
            return out
        site = Site(op, attrs, tuple(self.shape(v) for v in values), flags, (self.types[out][0],))
        batch = rowwise(site)
        if isinstance(batch, str):
            raise NotImplementedError(f"the gradient uses {op}, and {batch}")
        like = next(v for v, f in zip(values, flags) if f)
        for i in batch.spread:
            spread = f"{out}.spread{i}"
            self.types[spread] = self._typed(inputs[i])
            self.result.row_ops.append(
                Op("broadcast_like", (inputs[i], like), (spread,), {"lhs_axes": "(0,)", "rhs_axes": "(0,)"})
            )
            inputs[i] = spread
        self.rows.add(out)
        self.result.row_ops.append(Op(batch.op, tuple(inputs), (out,), dict(batch.attrs)))
        return out

    def over_rows(self, op: str, *values: str, **attrs) -> str:
        out = self._fresh(op, values, attrs)
        self.over.add(out)
        self.result.over_ops.append(Op(op, values, (out,), attrs))
        return out

    def _fresh(self, op: str, values, attrs) -> str:
        out = f"%g{self.count}"
        self.count += 1
        self.types[out] = _result_type(op, tuple(sorted(attrs.items())), tuple(self._typed(v) for v in values))
        return out

    # -- the pass --------------------
    def run(self) -> Gradient:
        needed = self._reaches()
        for op in reversed(self.ops):
            ograds = [self._total(v) for v in op.outputs]
            if all(g is None for g in ograds):
                continue
            wanted = tuple(v in needed for v in op.inputs)
            if not any(wanted) or self._slice(op, ograds[0]):
                continue
            site = Site(
                op.op,
                op.attrs,
                tuple(self.shape(v) for v in op.inputs),
                tuple(v in self.rows for v in op.inputs),
                tuple(self.shape(v) for v in op.outputs),
            )
            for value, grad in zip(op.inputs, gradient(site, self, op.inputs, op.outputs, ograds, wanted)):
                if grad is not None:
                    self.contributions.setdefault(value, []).append(grad)
        result = self.result
        for value in sorted(self.wanted):
            total = self._total(value)
            if total is not None:
                (result.inputs if value in self.rows else result.shared)[value] = total
        self._needs()
        return result

    def _reaches(self) -> Set[str]:
        """Values through which a wanted input reaches an output."""
        found = set(self.wanted)
        for op in self.ops:
            if found.intersection(op.inputs):
                found.update(op.outputs)
        return found

    def _slice(self, op: Op, ograd) -> bool:
        """Slices of one tensor are joined at the end: a Concat instead of a sum of padded pieces."""
        if op.op != "slice_axis" or ograd in self.over:
            return False
        shape = self.shape(op.inputs[0])
        axis = as_axis(integer(op.attrs, "axis", 0), len(shape))
        begin, end = integer(op.attrs, "begin", 0), integer(op.attrs, "end", None)
        begin = begin + shape[axis] if begin < 0 else begin
        end = shape[axis] if end is None else end + shape[axis] if end < 0 else end
        if axis == 0:
            return False
        pieces = self.slices.setdefault(op.inputs[0], {}).setdefault(axis, [])
        if any(begin < e and b < end for b, e, _ in pieces):
            return False
        pieces.append((begin, end, ograd))
        return True

    def _total(self, value: str):
        for axis, pieces in self.slices.pop(value, {}).items():
            self.contributions.setdefault(value, []).append(join_slices(self, value, axis, pieces))
        parts = self.contributions.get(value)
        if not parts:
            return None
        make = self.over_rows if any(p in self.over for p in parts) else self.row
        while len(parts) > 1:
            parts[:2] = [make("elemwise_add", parts[0], parts[1])]
        return parts[0]

    def _needs(self) -> None:
        result = self.result
        forward = {v for op in self.ops for v in (*op.inputs, *op.outputs)} & self.rows
        made = {v for op in result.row_ops for v in op.outputs} | set(result.ograds.values())
        live = set(result.inputs.values())
        over_inputs = [v for op in result.over_ops for v in op.inputs if v not in self.over]
        kept = list(dict.fromkeys(v for v in over_inputs if v in self.rows))
        result.kept_forward = tuple(v for v in kept if v in forward)
        result.kept_backward = tuple(v for v in kept if v not in forward)
        live.update(result.kept_backward)
        ops = []
        for op in reversed(result.row_ops):
            if live.intersection(op.outputs):
                live.update(op.inputs)
                ops.append(op)
        result.row_ops = ops[::-1]
        result.saved = tuple(sorted(v for v in live if v in forward and v not in made))


@lru_cache(maxsize=8192)
def _result_type(op: str, attrs, inputs) -> Tuple[Shape, str]:
    """Shape and type of an operator's result; for operators of ours and where MXNet cannot tell, a sound guess."""
    import numpy as np

    kwargs: Mapping[str, str] = dict(attrs)
    dtype = next((d for _, d in reversed(inputs) if d.startswith("float")), "float32")
    if op == "_rg_embedding_grad":
        return (int(kwargs["input_dim"]), int(kwargs["output_dim"])), inputs[-1][1]
    names = tuple(f"x{i}" for i in range(len(inputs)))
    symbol = to_symbol([Op(op, names, ("y",), kwargs)], ["y"])
    _, shapes, _ = symbol.infer_shape(**{n: s for n, (s, _) in zip(names, inputs)})
    try:
        _, types, _ = symbol.infer_type(**{n: np.dtype(d) for n, (_, d) in zip(names, inputs)})
        dtype = np.dtype(types[0]).name
    except Exception:  # noqa: BLE001  some _backward operators have no type inference
        pass
    return tuple(shapes[0]), dtype
