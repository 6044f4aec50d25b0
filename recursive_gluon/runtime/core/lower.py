"""Segments of a Recipe as instructions of the native core, forward, backward, and sums over all rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from ...program.ir import Op
from ...program.passes.autodiff import Gradient
from ...program.rules.site import as_axes, as_axis, flag, integer, number, numbers, size, text
from ...schedule.recipe import SPREAD, Recipe, Segment
from ..arrays import call
from ..gradients import segment_gradient
from . import fuse
from .elementwise import expand
from .fuse import IGRAD, OGRAD, OUT, SAVED, SHARED, SLOT, ZERO, Code, Instr, Operand, Piece, Value

__all__ = ["Unsupported", "SegmentCode", "Shares", "lower_segment"]

#: operators that only move, repeat or leave out the elements of a row
MOVES = frozenset(
    """Reshape Flatten expand_dims squeeze reshape_like transpose SwapAxis slice_axis slice slice_like Concat stack
    SliceChannel _split_v2 reverse tile repeat broadcast_to broadcast_axis broadcast_like Pad depth_to_space
    space_to_depth _copy BlockGrad""".split()
)
REDUCTIONS = {"sum": 0, "mean": 1, "max": 2, "min": 3, "prod": 4, "nansum": 7, "nanprod": 8}
SOFT = {"softmax": 0, "log_softmax": 1, "softmin": 2}
#: more runs of columns than this are gathered column by column
_RUNS = 24

Shape = Tuple[int, ...]


class Unsupported(Exception):
    """Why a Program cannot run on the native core, in a user's words."""


@dataclass(frozen=True)
class Tensor:
    """A value with its shape: a row's, or that of something shared. `turned`: the transpose of a shared matrix."""

    value: Value
    shape: Shape
    shared: bool = False
    turned: bool = False


class Shares:
    """Values that all rows share: parameters, what bodies compute from them alone, what the core computes."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.names: Dict[Tuple[str, str], int] = {}
        self.inputs: List[Tuple[str, str]] = []  # (function, value); function '' for a parameter
        self.sizes: List[int] = []
        self.computed: List[int] = []
        self.code: List[Tuple[Instr, int]] = []
        self.made: Dict[Any, Tensor] = {}
        self.alias: Dict[Tuple[str, str], str] = {}
        for function, ops in recipe.shared_ops.items():
            for op in ops:  # a parameter in another shape is the parameter
                if op.op in ("Reshape", "Flatten", "expand_dims", "squeeze", "_copy") and op.inputs:
                    self.alias[function, op.outputs[0]] = op.inputs[0]

    def source(self, function: str, name: str) -> Tuple[str, str]:
        while (function, name) in self.alias:
            name = self.alias[function, name]
        return ("", name) if name.startswith("@") else (function, name)

    def number(self, function: str, name: str, cols: int) -> int:
        key = self.source(function, name)
        if key not in self.names:
            self.names[key] = len(self.inputs)
            self.inputs.append(key)
            self.sizes.append(cols)
        return self.names[key]

    def tensor(self, function: str, name: str) -> Tensor:
        shape, _ = self.recipe.type_of(function, name)
        return Tensor(Code.operand(SHARED, self.number(function, name, size(shape)), size(shape), shared=True), shape,
                      shared=True)

    def compute(self, cols: int) -> int:
        """A place for a value that the core computes once a run; negative numbers until all inputs are known."""
        self.computed.append(cols)
        return -len(self.computed)


@dataclass
class SegmentCode:
    """What the core runs for a segment."""

    temps: List[int] = field(default_factory=list)
    saved: List[int] = field(default_factory=list)
    forward: List[Instr] = field(default_factory=list)
    backward: List[Instr] = field(default_factory=list)
    over: List[Instr] = field(default_factory=list)
    lookups: Dict[str, str] = field(default_factory=dict)  # slot value -> parameter
    gives: Set[str] = field(default_factory=set)  # slots that give a gradient back


def lower_segment(recipe: Recipe, segment: Segment, shares: Shares, train: bool) -> SegmentCode:
    """Instructions of one segment.

    Raises
    ------
    Unsupported
        An operator, or a use of it, is outside of the core's set.
    """
    gradient: Optional[Gradient] = None
    if train and segment.mode != SPREAD:
        gradient, reason = segment_gradient(recipe, segment)
        if gradient is None:
            raise Unsupported(reason)
    return _Lowering(recipe, segment, shares, gradient, train).run()


class _Lowering:
    def __init__(self, recipe: Recipe, segment: Segment, shares: Shares, gradient: Optional[Gradient], train: bool):
        self.recipe, self.segment, self.shares, self.gradient = recipe, segment, shares, gradient
        self.train = train
        self.function = segment.function
        self.result = SegmentCode()
        self.code = Code(self.result.temps)
        self.values: Dict[str, Tensor] = {}
        self.saved: Dict[str, Tuple[int, int]] = {}  # name -> (buffer, columns)
        self.stored: Dict[str, Value] = {}
        self.kept: Set[str] = set()
        self.looked_up: Dict[str, str] = {}  # result of an Embedding -> its slot
        self.marks: Dict[str, Set[int]] = {}
        self.where = ""

    # -- the whole --------------------
    def run(self) -> SegmentCode:
        segment = self.segment
        if segment.mode == SPREAD:
            return self._spread()
        self._slots()
        ops = [op for op in segment.batch_ops if op.op != "Embedding" or not self._lookup(op)]
        for name in segment.shared:
            if self.shares.source(self.function, name)[1] not in {f"@{p}" for p in self.result.lookups.values()}:
                self.values[name] = self.shares.tensor(self.function, name)
            elif any(name in op.inputs for op in ops):
                raise Unsupported(f"{name[1:]} is both an embedding table and something else")
        self.kept = set() if self.gradient is None else set(self.gradient.kept_forward)
        self._marks(ops)
        self._ops(ops)
        for name in sorted(self.kept & set(self.values)):
            if name not in self.result.lookups:
                self.save(name)
        self.forward_values = dict(self.values)
        for k, name in enumerate(segment.outputs):
            t = self.values[name]
            self.code.stored(t.value, Operand(OUT, k, 0, fuse.width(t.value)))
        backward: Optional[Code] = None
        if self.gradient is not None:
            backward = self._backward()
        self.result.forward = self.code.emit()
        if backward is not None:
            self.result.backward = backward.emit()
        return self.result

    def _spread(self) -> SegmentCode:
        """A shared value repeated to rows; its gradient is the sum of theirs."""
        op, out = self.segment.ops[0], self.segment.outputs[0]
        t = self.shares.tensor(self.function, op.inputs[0])
        cols = fuse.width(t.value)
        self.code.stored(t.value, Operand(OUT, 0, 0, cols))
        self.result.forward = self.code.emit()
        dtype = self.recipe.type_of(self.function, out)[1]
        if self.train and dtype.startswith("float"):
            backward = Code(self.result.temps)
            self.result.saved.append(cols)
            backward.stored(backward.operand(OGRAD, 0, cols), Operand(SAVED, 0, 0, cols))
            self.result.backward = backward.emit()
            number_ = self.shares.number(self.function, op.inputs[0], cols)
            self.result.over.append(
                Instr("column_sums", [Operand(SAVED, 0, 0, cols)], [Operand(SHARED, number_, 0, cols)], (1,)))
        return self.result

    def _slots(self) -> None:
        """Slots that are joined stand for several of the core, one a part."""
        self.slot_numbers: Dict[str, List[int]] = {}
        count = 0
        for slot in self.segment.slots:
            pieces: List[Piece] = []
            numbers_ = []
            for part in slot.parts:
                cols = size(part.shape)
                pieces += Code.operand(SLOT, count, cols)
                numbers_.append(count)
                count += 1
            self.slot_numbers[slot.value] = numbers_
            self.values[slot.value] = Tensor(tuple(pieces), slot.shape)

    def _lookup(self, op: Op) -> bool:
        """An Embedding of a field is a slot whose rows lie in the table."""
        slot = next((s for s in self.segment.slots if s.value == op.inputs[0]), None)
        source = self.shares.source(self.function, op.inputs[1])
        if slot is None or slot.kind != "field" or size(slot.shape) != 1 or source[0]:
            return False
        if any(op.inputs[0] in other.inputs for other in self.segment.batch_ops if other is not op):
            return False
        shape, _ = self.recipe.type_of(self.function, op.outputs[0])
        number_ = self.slot_numbers[slot.value][0]
        self.result.lookups[slot.value] = source[1][1:]
        self.looked_up[op.outputs[0]] = slot.value
        self.values[op.outputs[0]] = Tensor(Code.operand(SLOT, number_, size(shape)), shape)
        return True

    def save(self, name: str) -> Tensor:
        """Keep a value for the gradient, all rows of it in one place; the value there."""
        t = self.values[name]
        cols = fuse.width(t.value)
        if name not in self.saved:
            number_ = len(self.result.saved)
            self.result.saved.append(cols)
            self.saved[name] = number_, cols
            self.stored[name] = self.code.stored(t.value, Operand(SAVED, number_, 0, cols))
        return Tensor(self.stored[name], t.shape)

    # -- backward --------------------
    def _backward(self) -> Code:
        gradient, segment = self.gradient, self.segment
        assert gradient is not None
        forward = self.forward_values
        slots = {s.value for s in segment.slots} | set(self.looked_up)
        self.values = {}
        for name in sorted(gradient.saved, key=lambda v: -fuse.width(forward[v].value)):  # parts after wholes
            t = forward[name]
            if name in slots:
                self.values[name] = t
            elif name in segment.outputs and name not in self.saved:
                k = segment.outputs.index(name)
                self.values[name] = Tensor(Code.operand(OUT, k, fuse.width(t.value)), t.shape)
            else:
                self.values[name] = Tensor(self._from_forward(forward, name), t.shape)
        for name in segment.shared:
            if name in forward:
                self.values[name] = forward[name]
        self.code, code = Code(self.result.temps), self.code
        for value, name in gradient.ograds.items():
            shape, _ = gradient.types[name]
            self.values[name] = Tensor(Code.operand(OGRAD, segment.outputs.index(value), size(shape)), shape)
        tables = self._table_gradients(gradient)
        self.kept = set(gradient.kept_backward) - set(tables)
        self._marks([*gradient.shared_ops, *gradient.row_ops])
        self._ops(gradient.shared_ops)
        self._ops(gradient.row_ops)
        for value, name in gradient.inputs.items():
            t, at = self.values[name], 0
            slot = next(s for s in segment.slots if s.value == value)
            for part, number_ in zip(slot.parts, self.slot_numbers[value]):
                cols = size(part.shape)
                self.code.stored(fuse.cut(t.value, at, at + cols), Operand(IGRAD, number_, 0, cols))
                at += cols
            self.result.gives.add(value)
        for name, slot_value in tables.items():
            t = self.values[name]
            cols = fuse.width(t.value)
            self.code.stored(t.value, Operand(IGRAD, self.slot_numbers[slot_value][0], 0, cols))
            self.result.gives.add(slot_value)
        _Sums(self, gradient, set(tables)).run()
        self.code, code = code, self.code
        return code

    def _from_forward(self, forward: Dict[str, Tensor], name: str) -> Value:
        """A forward value as the gradient reads it: where its pieces are kept already, else kept anew."""
        pieces: List[Piece] = []
        for piece in forward[name].value:
            kept = fuse.kept(piece)
            if kept is None:
                self.values, mine = forward, self.values
                self.save(name)
                self.values = mine
                return Code.operand(SAVED, *self.saved[name])
            pieces += Code.operand(*kept[:2], kept.cols, kept.offset)
        return fuse.joined(pieces)

    def _table_gradients(self, gradient: Gradient) -> Dict[str, str]:
        """Gradients of rows that were looked up: (name of the rows' gradient -> slot)."""
        found = {}
        for op in gradient.over_ops:
            if op.op == "_rg_embedding_grad":
                if op.inputs[0] not in self.result.lookups:
                    raise Unsupported("the gradient of an Embedding of something that is not a field")
                found[op.inputs[1]] = op.inputs[0]
        return found

    # -- operators --------------------
    def _ops(self, ops: Sequence[Op]) -> None:
        for op in ops:
            self.where = f"{op.op}" + (f" at {op.where}" if op.where else "")
            inputs = [self.values[v] for v in op.inputs]
            outputs = self._op(op, inputs)
            self.values.update(zip(op.outputs, outputs))

    def _marks(self, ops: Sequence[Op]) -> None:
        """Where each value will be cut, so that element-wise operators make the pieces at once."""
        self.marks = {}
        shapes: Dict[str, Shape] = {v: t.shape for v, t in self.values.items()}
        found: List[Tuple[Op, Optional[np.ndarray]]] = []
        for op in ops:
            table = None
            if op.op in MOVES:
                table, shape = _moved(op, [shapes.get(v) for v in op.inputs])
            else:
                shape = self._out_shape(op)
            for v in op.outputs:
                shapes[v] = shape if len(op.outputs) == 1 else self._type(v)
            found.append((op, table))
        for op, table in reversed(found):
            if table is not None:
                at = 0
                wanted = self.marks.get(op.outputs[0], set())
                for v in op.inputs:
                    cols = size(shapes[v])
                    self.marks.setdefault(v, set()).update(_edges(table - at, cols, wanted))
                    at += cols
            elif op.outputs[0] in self.marks:
                for v in op.inputs:
                    if v in shapes and size(shapes[v]) == size(shapes[op.outputs[0]]):
                        self.marks.setdefault(v, set()).update(self.marks[op.outputs[0]])

    def _type(self, name: str) -> Shape:
        if self.gradient is not None and name in self.gradient.types:
            return self.gradient.types[name][0]
        return self.recipe.type_of(self.function, name)[0]

    def _out_shape(self, op: Op) -> Shape:
        return self._type(op.outputs[0])

    def _op(self, op: Op, inputs: List[Tensor]) -> List[Tensor]:
        if op.op in MOVES:
            return [self._move(op, inputs)] if len(op.outputs) == 1 else self._split(op, inputs)
        made = expand(op.op, op.attrs, inputs, self._emitter(op))
        if made is not None:
            return [made]
        shape = self._type(op.outputs[0])
        rule = _RULES.get(op.op)
        if rule is None:
            raise Unsupported(f"operator {self.where} is outside of its set")
        return [rule(self, op, inputs, shape)]

    def _emitter(self, op: Op):
        marks = tuple(sorted(self.marks.get(op.outputs[0], ())))

        def emit(name: str, *values: Tensor, scalar: float = 0.0) -> Tensor:
            return self.ew(name, values, scalar, marks)

        return emit

    def ew(self, name: str, values: Sequence[Tensor], scalar: float = 0.0, marks: Sequence[int] = ()) -> Tensor:
        shape = tuple(np.broadcast_shapes(*(v.shape for v in values)))
        cols = size(shape)
        if all(v.shared for v in values):
            return self._shared_ew(name, values, scalar, shape)
        args, cells = [], []
        for v in values:
            v = self._plain(v)
            cell = size(v.shape) == 1 and cols != 1
            args.append(v.value if cell else self._broadcast(v, shape).value)
            cells.append(cell)
        return Tensor(self.code.ew(name, args, cells, cols, scalar, marks), shape)

    def _shared_ew(self, name: str, values: Sequence[Tensor], scalar: float, shape: Shape) -> Tensor:
        cols = size(shape)
        mine = [self._broadcast(self._plain(v), shape) for v in values]
        key = (name, scalar, shape, *(tuple((p.base.operand, p.offset, p.cols) for p in v.value) for v in mine))

        def make(to: Operand) -> Instr:
            code = Code([])
            code.stored(code.ew(name, [v.value for v in mine], [False] * len(mine), cols, scalar), to)
            instrs = code.emit()
            if len(instrs) != 1:
                raise Unsupported(f"{self.where}: a shared value in pieces")
            return instrs[0]

        return self._computed(key, shape, make)

    def _computed(self, key, shape: Shape, make) -> Tensor:
        """Something shared that the core computes once a run."""
        if key not in self.shares.made:
            cols = size(shape)
            number_ = self.shares.compute(cols)
            instr = make(Operand(SHARED, number_, 0, cols))
            self.shares.code.append((instr, number_))
            self.shares.made[key] = Tensor(Code.operand(SHARED, number_, cols, shared=True), shape, shared=True)
        return self.shares.made[key]

    def _plain(self, t: Tensor) -> Tensor:
        """Without a lazy transpose."""
        if not t.turned:
            return t
        rows, cols = t.shape
        order = np.arange(rows * cols).reshape(cols, rows).T.ravel()
        return self._gathered(Tensor(t.value, (rows * cols,), shared=True), order, t.shape)

    def _broadcast(self, t: Tensor, shape: Shape) -> Tensor:
        if size(t.shape) == size(shape):
            return Tensor(t.value, shape, t.shared)
        table = np.broadcast_to(np.arange(size(t.shape)).reshape(t.shape), shape).ravel()
        return self._gathered(t, table, shape)

    # -- movement --------------------
    def _move(self, op: Op, inputs: List[Tensor]) -> Tensor:
        if op.op == "transpose" and inputs[0].shared and len(inputs[0].shape) == 2:
            t = inputs[0]
            return Tensor(t.value, t.shape[::-1], shared=True, turned=not t.turned)
        inputs = [self._plain(t) for t in inputs]
        table, shape = _moved(op, [t.shape for t in inputs])
        likes = inputs[:1] if op.op.endswith("_like") else inputs
        whole = Tensor(fuse.joined([p for t in likes for p in t.value]), (1, sum(size(t.shape) for t in likes)),
                       all(t.shared for t in likes))
        return self._gathered(whole, table, shape)

    def _split(self, op: Op, inputs: List[Tensor]) -> List[Tensor]:
        shape = inputs[0].shape
        if op.op != "SliceChannel":
            raise Unsupported(f"operator {self.where} is outside of its set")
        axis, parts = as_axis(integer(op.attrs, "axis", 1), len(shape)), len(op.outputs)
        out = []
        for i, name in enumerate(op.outputs):
            n = shape[axis] // parts
            table = np.take(np.arange(size(shape)).reshape(shape), range(i * n, (i + 1) * n), axis).ravel()
            out.append(self._gathered(inputs[0], table, self._type(name)))
        return out

    def _gathered(self, t: Tensor, table: np.ndarray, shape: Shape) -> Tensor:
        """Columns `table` of a value; -1 is zero."""
        table = np.asarray(table).ravel()
        starts = np.concatenate([[0], np.flatnonzero((np.diff(table) != 1) & ~((table[1:] < 0) & (table[:-1] < 0))) + 1,
                                 [len(table)]])
        if len(starts) - 1 <= _RUNS and len(table):
            pieces: List[Piece] = []
            for a, b in zip(starts[:-1], starts[1:]):
                first = int(table[a])
                if first < 0:
                    pieces += Code.operand(ZERO, 0, int(b - a))
                else:
                    pieces += fuse.cut(t.value, first, first + int(b - a))
            return Tensor(fuse.joined(pieces), shape, t.shared)
        columns = tuple(int(i) for i in table)
        if t.shared:
            key = ("map", columns, tuple((p.base.operand, p.offset, p.cols) for p in t.value))
            if len(t.value) != 1:
                raise Unsupported(f"{self.where}: a shared value in pieces")
            source = t.value[0]

            def make(to: Operand) -> Instr:
                there = source.base.operand
                assert there is not None
                read = Operand(there.place, there.id, there.offset + source.offset, source.cols)
                return Instr("map", [read], [to], map=columns)

            return self._computed(key, shape, make)
        return Tensor(self.code.instr("map", [self.code.packed(t.value)], len(columns), table=columns), shape)

    # -- rules of operators that are neither --------------------
    def product(self, data: Tensor, weight: Tensor, n: int, k: int, repeat: int, turned: bool) -> Value:
        """Rows of `data` (`repeat` of k columns each) times a shared matrix: its transpose if `turned`."""
        if not weight.shared or data.shared:
            raise Unsupported(f"{self.where}: a matrix product of values that are both the same for all nodes")
        if len(weight.value) != 1:
            raise Unsupported(f"{self.where}: a matrix in pieces")
        if weight.turned:
            turned = not turned
        rows = self.code.packed(data.value, direct=True)
        if repeat > 1 and not rows[0].whole:
            rows = self.code.stored(rows, self._temp(fuse.width(rows)))
        return self.code.instr("gemm", [rows, weight.value], repeat * n, (repeat, n, k, int(turned)))

    def _temp(self, cols: int) -> Operand:
        self.result.temps.append(cols)
        return Operand(fuse.TEMP, len(self.result.temps) - 1, 0, cols)

    def last(self, t: Tensor, axes: Sequence[int]) -> Tensor:
        """With `axes` moved to the end."""
        rank = len(t.shape)
        order = [a for a in range(rank) if a not in axes] + list(axes)
        if order == list(range(rank)):
            return t
        table = np.arange(size(t.shape)).reshape(t.shape).transpose(order)
        return self._gathered(t, table.ravel(), table.shape)

    def reduce(self, kind: int, t: Tensor, axes: Sequence[int], shape: Shape) -> Tensor:
        if t.shared:
            raise Unsupported(f"{self.where}: a sum of what all nodes share")
        length = size([t.shape[a] for a in axes])
        if length == 1 and kind in (0, 1, 2, 3, 4):
            return Tensor(t.value, shape)
        t = self.last(t, sorted(axes))
        groups = size(t.shape) // length
        return Tensor(self.code.instr("reduce", [self.code.packed(t.value)], groups, (kind, groups, length)), shape)


# -- rules: (lowering, op, inputs, shape of the result) -> Tensor --------------------
def _fully_connected(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    data, weight = inputs[:2]
    if op.inputs[0] in low.kept and not data.shared:
        data = low.save(op.inputs[0])  # kept in one piece for the gradient: the product reads it there
    n, k = weight.shape
    repeat = 1 if flag(op.attrs, "flatten", True) else size(data.shape[1:-1])
    out = Tensor(low.product(data, weight, n, k, repeat, True), shape)
    return out if len(inputs) == 2 else low.ew("add", [out, inputs[2]], marks=sorted(low.marks.get(op.outputs[0], ())))


def _dot(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    data, weight = inputs
    if data.shared or not weight.shared or flag(op.attrs, "transpose_a") or len(weight.shape) != 2:
        raise Unsupported(f"{low.where} of shapes {data.shape} and {weight.shape}")
    turned = flag(op.attrs, "transpose_b")
    n, k = weight.shape if turned else weight.shape[::-1]
    return Tensor(low.product(data, weight, n, k, size(data.shape) // k, turned), shape)


def _batch_dot(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    a, b = (low._plain(t) for t in inputs)
    turn_a, turn_b = flag(op.attrs, "transpose_a"), flag(op.attrs, "transpose_b")
    m, k = a.shape[-2:][::-1] if turn_a else a.shape[-2:]
    n = b.shape[-2] if turn_b else b.shape[-1]
    if len(a.shape) != 3:
        raise Unsupported(f"{low.where} of shapes {a.shape} and {b.shape}")
    if b.shared and not a.shared and not turn_a:
        return Tensor(low.product(a, b, n, k, m, turn_b), shape)
    values = [low.code.packed(a.value), low.code.packed(b.value)]
    return Tensor(low.code.instr("bdot", values, m * n, (m, n, k, int(turn_a), int(turn_b))), shape)


def _reduction(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t = low._plain(inputs[0])
    rank = len(t.shape)
    given = numbers(op.attrs, "axis")
    axes = list(as_axes(given, rank))
    if given and flag(op.attrs, "exclude"):
        axes = [a for a in range(rank) if a not in axes]
    if op.op == "norm":
        kind = 6 if integer(op.attrs, "ord", 2) == 1 else 5
    else:
        kind = REDUCTIONS[op.op]
    if 0 in axes and t.shape[0] != 1:
        raise Unsupported(f"{low.where} along the axis of nodes")
    return low.reduce(kind, t, [a for a in axes if a != 0] or [0], shape)


def _soft(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t = inputs[0]
    if len(inputs) > 1 or text(op.attrs, "dtype", "None") != "None" or t.shared:
        raise Unsupported(f"{low.where} with lengths or a type")
    kind = SOFT.get(op.op, 0)
    axis = as_axis(integer(op.attrs, "axis", -1), len(t.shape)) if op.op in SOFT else len(t.shape) - 1
    heat = number(op.attrs, "temperature", 1.0) if text(op.attrs, "temperature", "None") != "None" else 1.0
    moved = low.last(t, [axis])
    length = t.shape[axis]
    cols = size(t.shape)
    out = Tensor(low.code.instr("soft", [low.code.packed(moved.value)], cols, (kind, cols // length, length), (heat,)),
                 moved.shape)
    if moved is t:
        return Tensor(out.value, shape)
    rest = [a for a in range(len(t.shape)) if a != axis] + [axis]
    back = np.arange(cols).reshape(moved.shape).transpose(np.argsort(rest))
    return low._gathered(out, back.ravel(), shape)


def _pick(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t, index = inputs
    axis = integer(op.attrs, "axis", -1)
    if axis is None or t.shared:
        raise Unsupported(f"{low.where} without an axis")
    axis = as_axis(axis, len(t.shape))
    moved = low.last(t, [axis])
    length, groups = t.shape[axis], size(t.shape) // t.shape[axis]
    wrap = int(text(op.attrs, "mode", "clip") == "wrap")
    values = [low.code.packed(moved.value), low.code.packed(low._broadcast(index, (groups,)).value)]
    return Tensor(low.code.instr("pick", values, groups, (wrap, groups, length)), shape)


def _one_hot(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    depth, groups = integer(op.attrs, "depth"), size(inputs[0].shape)
    on, off = number(op.attrs, "on_value", 1.0), number(op.attrs, "off_value", 0.0)
    if inputs[0].shared:
        raise Unsupported(f"{low.where} of what all nodes share")
    value = low.code.packed(inputs[0].value)
    return Tensor(low.code.instr("one_hot", [value], groups * depth, (groups, depth), (on, off)), shape)


def _layer_norm(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, gamma, beta = inputs
    axis = as_axis(integer(op.attrs, "axis", -1), len(x.shape))
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    along = tuple(n if a == axis else 1 for a, n in enumerate(x.shape))

    def mean(t: Tensor) -> Tensor:
        return low.reduce(1, t, [axis], kept)

    centred = low.ew("sub", [x, mean(x)])
    variance = mean(low.ew("square", [centred]))
    inverse = low.ew("reciprocal", [low.ew("sqrt", [low.ew("add_S", [variance], number(op.attrs, "eps", 1e-5))])])
    scaled = low.ew("mul", [low.ew("mul", [centred, inverse]), Tensor(gamma.value, along, True)])
    return low.ew("add", [scaled, Tensor(beta.value, along, True)])


def _batch_norm(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, gamma, beta, mean, variance = inputs
    axis = as_axis(integer(op.attrs, "axis", 1), len(x.shape))
    along = tuple(n if a == axis else 1 for a, n in enumerate(x.shape))
    if not flag(op.attrs, "use_global_stats"):
        raise Unsupported(f"{low.where} normalises over a batch")

    def laid(t: Tensor) -> Tensor:
        return Tensor(t.value, along, True)

    root = low.ew("sqrt", [low.ew("add_S", [laid(variance)], number(op.attrs, "eps", 1e-3))])
    out = low.ew("mul", [low.ew("sub", [x, laid(mean)]), low.ew("reciprocal", [root])])
    if not flag(op.attrs, "fix_gamma", True):
        out = low.ew("mul", [out, laid(gamma)])
    return low.ew("add", [out, laid(beta)])


def _l2_normalization(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, rank = inputs[0], len(inputs[0].shape)
    axes = {"instance": range(1, rank), "channel": (1,), "spatial": range(2, rank)}[text(op.attrs, "mode", "instance")]
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    total = low.reduce(0, low.ew("square", [x]), list(axes), kept)
    root = low.ew("sqrt", [low.ew("add_S", [total], number(op.attrs, "eps", 1e-10))])
    return low.ew("div", [x, root])


def _cast(low: _Lowering, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    to = text(op.attrs, "dtype", "float32")
    if to.startswith("float"):
        return Tensor(inputs[0].value, shape, inputs[0].shared)
    if to in ("int32", "int64"):
        return low.ew("trunc", inputs)
    raise Unsupported(f"{low.where} to {to}")


_RULES = {
    "FullyConnected": _fully_connected,
    "dot": _dot,
    "batch_dot": _batch_dot,
    **{op: _reduction for op in (*REDUCTIONS, "norm")},
    **{op: _soft for op in (*SOFT, "SoftmaxActivation")},
    "pick": _pick,
    "one_hot": _one_hot,
    "LayerNorm": _layer_norm,
    "BatchNorm": _batch_norm,
    "L2Normalization": _l2_normalization,
    "Cast": _cast,
    "amp_cast": _cast,
}


def _edges(table: np.ndarray, cols: int, wanted: Set[int]) -> Set[int]:
    """Where an input of `cols` columns will be cut, if column i of what is made of it is ``table[i]`` and that is cut at
    `wanted`; nothing where it is cut into too many runs."""
    inside = (table >= 0) & (table < cols)
    starts = np.flatnonzero(inside & np.concatenate([[True], np.diff(table) != 1]))
    ends = np.flatnonzero(inside & np.concatenate([np.diff(table) != 1, [True]]))
    if len(starts) > _RUNS:
        return set()
    found = {int(table[i]) for i in starts} | {int(table[i]) + 1 for i in ends}
    return found | {int(table[i]) for i in wanted if i < len(table) and inside[i]}


def _moved(op: Op, shapes: Sequence[Optional[Shape]]) -> Tuple[np.ndarray, Shape]:
    """What a moving operator does, found by running it on numbered elements: (source of each element, shape)."""
    known = tuple(tuple(s) for s in shapes if s is not None)
    if len(known) != len(shapes):
        raise Unsupported(f"operator {op.op} of something without a shape")
    return _moved_cached(op.op, tuple(sorted(op.attrs.items())), known)


@lru_cache(maxsize=4096)
def _moved_cached(name: str, attrs: Tuple[Tuple[str, str], ...], shapes: Tuple[Shape, ...]) -> Tuple[np.ndarray, Shape]:
    from ..._compat import mx

    settings = dict(attrs)
    if name == "Pad" and (settings.get("mode") != "constant" or number(settings, "constant_value", 0.0) != 0):
        raise Unsupported("operator Pad with anything but zeros")
    arrays, at = [], 1
    for shape in shapes:
        arrays.append(mx.nd.array(np.arange(at, at + size(shape)).reshape(shape), dtype="float64"))
        at += size(shape)
    out = call(name, arrays, settings)
    first = out if isinstance(out, mx.nd.NDArray) else out[0]
    return first.asnumpy().ravel().astype(np.int64) - 1, tuple(first.shape)


class _Sums:
    """Gradients of what is shared: sums over all rows, as the rules write them, recognised as products and column
    sums of kept rows."""

    def __init__(self, low: _Lowering, gradient: Gradient, tables: Set[str]):
        self.low, self.gradient, self.tables = low, gradient, tables
        self.values: Dict[str, Tuple] = {}

    def run(self) -> None:
        gradient, low = self.gradient, self.low
        for op in gradient.over_ops:
            if op.op != "_rg_embedding_grad":
                self.values[op.outputs[0]] = self._op(op)
        for name, grad in gradient.shared.items():
            if name not in low.values:
                continue  # an embedding table: its rows are given back
            shape, _ = low.recipe.type_of(low.function, name)
            number_ = low.shares.number(low.function, name, size(shape))
            for part in self._parts(self.values[grad]):
                self._finish(part, Operand(SHARED, number_, 0, size(shape)))

    def _parts(self, value: Tuple) -> List[Tuple]:
        return [p for v in value[1:] for p in self._parts(v)] if value[0] == "add" else [value]

    def _of(self, name: str) -> Tuple:
        if name in self.values:
            return self.values[name]
        return ("rows", name, 1)

    def _op(self, op: Op) -> Tuple:
        a = [self._of(v) for v in op.inputs]
        first = a[0]
        kind = first[0]
        if op.op == "transpose" and kind in ("rows", "turned"):
            return ("turned" if kind == "rows" else "rows", *first[1:])
        if op.op in ("Reshape", "_copy", "expand_dims"):
            if kind != "rows":
                return first
            wanted = numbers(op.attrs, "shape") or ()
            cols = self._cols(first[1])
            return ("rows", first[1], cols // wanted[-1] if len(wanted) == 2 else 1)
        if op.op == "slice_axis" and kind in ("rows", "turned"):
            return ("column",)
        if op.op == "ones_like" and kind in ("rows", "turned", "column"):
            return ("ones",)
        if op.op == "FullyConnected" and kind == "ones" and a[1][0] == "turned":
            return ("sums", *a[1][1:], ())
        if op.op == "dot" and kind == "ones" and a[1][0] == "rows":
            return ("sums", *a[1][1:], ())
        if op.op == "FullyConnected" and kind == "turned" and a[1][0] == "turned":
            return ("product", first, a[1])
        if op.op in ("elemwise_add", "add_n", "broadcast_add", "_grad_add"):
            return ("add", *a)
        if kind == "sums" and op.op in ("negative", "sum", "_mul_scalar", "_div_scalar"):
            return ("sums", first[1], first[2], (*first[3], op))  # linear: done to each row instead
        raise Unsupported(f"the gradient of a parameter by {op.op} in {self.low.function}")

    def _cols(self, name: str) -> int:
        return size(self.low._type(name))

    def _kept(self, name: str) -> Tuple[int, int]:
        if name not in self.low.saved:
            self.low.save(name)
        return self.low.saved[name]

    def _finish(self, part: Tuple, to: Operand) -> None:
        low = self.low
        if part[0] == "product":
            (_, a, repeat), (_, b, other) = part[1], part[2]
            if repeat != other:
                raise Unsupported("a product of rows in different numbers")
            (i, n), (j, k) = self._kept(a), self._kept(b)
            low.result.over.append(Instr("gemm_rows", [Operand(SAVED, i, 0, n), Operand(SAVED, j, 0, k)], [to],
                                         (repeat, n // repeat, k // repeat)))
        elif part[0] == "sums":
            _, name, repeat, ops = part
            i, cols = self._kept(name) if not ops else self._changed(name, ops)
            low.result.over.append(Instr("column_sums", [Operand(SAVED, i, 0, cols)], [to], (cols // to.cols,)))
        else:
            raise Unsupported("the gradient of a parameter is not a sum")

    def _changed(self, name: str, ops: Sequence[Op]) -> Tuple[int, int]:
        """Rows to which linear operators are applied before they are summed."""
        low = self.low
        if name not in low.values:
            low.values[name] = Tensor(Code.operand(SAVED, *low.saved[name]), low._type(name))
        t = low.values[name]
        for op in ops:
            before = low.gradient.types[op.inputs[0]][0] if low.gradient is not None else t.shape
            t = Tensor(t.value, before if size(before) == size(t.shape) else t.shape)
            low.values[op.inputs[0]] = t
            t = low._op(op, [t])[0]
        low.values[f"{name}.{ops[-1].outputs[0]}"] = t
        return self._kept(f"{name}.{ops[-1].outputs[0]}")
