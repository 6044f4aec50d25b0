"""Segments of a Recipe as instructions of the native core, forward, backward, and sums over all rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from ...program.ir import Op
from ...program.passes.autodiff import Gradient
from ...program.rules.site import as_axis, integer, size
from ...schedule.recipe import SPREAD, Recipe, Segment
from ..gradients import segment_gradient
from . import fuse
from .elementwise import expand
from .fuse import IGRAD, OGRAD, OUT, SAVED, SHARED, SLOT, ZERO, Code, Instr, Operand, Piece, Value
from .moves import MOVES, RUNS, edges, moved
from .rules import RULES
from .sums import Sums
from .tensors import Shape, Shares, Tensor
from .unsupported import Unsupported

__all__ = ["SegmentCode", "lower_segment"]


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
        Sums(self, gradient, set(tables)).run()
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
            outputs = self.operator(op, inputs)
            self.values.update(zip(op.outputs, outputs))

    def _marks(self, ops: Sequence[Op]) -> None:
        """Where each value will be cut, so that element-wise operators make the pieces at once."""
        self.marks = {}
        shapes: Dict[str, Shape] = {v: t.shape for v, t in self.values.items()}
        found: List[Tuple[Op, Optional[np.ndarray]]] = []
        for op in ops:
            table = None
            if op.op in MOVES:
                table, shape = moved(op, [shapes.get(v) for v in op.inputs])
            else:
                shape = self._out_shape(op)
            for v in op.outputs:
                shapes[v] = shape if len(op.outputs) == 1 else self.type_of(v)
            found.append((op, table))
        for op, table in reversed(found):
            if table is not None:
                at = 0
                wanted = self.marks.get(op.outputs[0], set())
                for v in op.inputs:
                    cols = size(shapes[v])
                    self.marks.setdefault(v, set()).update(edges(table - at, cols, wanted))
                    at += cols
            elif op.outputs[0] in self.marks:
                for v in op.inputs:
                    if v in shapes and size(shapes[v]) == size(shapes[op.outputs[0]]):
                        self.marks.setdefault(v, set()).update(self.marks[op.outputs[0]])

    def type_of(self, name: str) -> Shape:
        if self.gradient is not None and name in self.gradient.types:
            return self.gradient.types[name][0]
        return self.recipe.type_of(self.function, name)[0]

    def _out_shape(self, op: Op) -> Shape:
        return self.type_of(op.outputs[0])

    def operator(self, op: Op, inputs: List[Tensor]) -> List[Tensor]:
        if op.op in MOVES:
            return [self._move(op, inputs)] if len(op.outputs) == 1 else self._split(op, inputs)
        made = expand(op.op, op.attrs, inputs, self._emitter(op))
        if made is not None:
            return [made]
        shape = self.type_of(op.outputs[0])
        rule = RULES.get(op.op)
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
            v = self.plain(v)
            cell = size(v.shape) == 1 and cols != 1
            args.append(v.value if cell else self.broadcast(v, shape).value)
            cells.append(cell)
        return Tensor(self.code.ew(name, args, cells, cols, scalar, marks), shape)

    def _shared_ew(self, name: str, values: Sequence[Tensor], scalar: float, shape: Shape) -> Tensor:
        cols = size(shape)
        mine = [self.broadcast(self.plain(v), shape) for v in values]
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

    def plain(self, t: Tensor) -> Tensor:
        """Without a lazy transpose."""
        if not t.turned:
            return t
        rows, cols = t.shape
        order = np.arange(rows * cols).reshape(cols, rows).T.ravel()
        return self.gathered(Tensor(t.value, (rows * cols,), shared=True), order, t.shape)

    def broadcast(self, t: Tensor, shape: Shape) -> Tensor:
        if size(t.shape) == size(shape):
            return Tensor(t.value, shape, t.shared)
        table = np.broadcast_to(np.arange(size(t.shape)).reshape(t.shape), shape).ravel()
        return self.gathered(t, table, shape)

    # -- movement --------------------
    def _move(self, op: Op, inputs: List[Tensor]) -> Tensor:
        if op.op == "transpose" and inputs[0].shared and len(inputs[0].shape) == 2:
            t = inputs[0]
            return Tensor(t.value, t.shape[::-1], shared=True, turned=not t.turned)
        inputs = [self.plain(t) for t in inputs]
        table, shape = moved(op, [t.shape for t in inputs])
        likes = inputs[:1] if op.op.endswith("_like") else inputs
        whole = Tensor(fuse.joined([p for t in likes for p in t.value]), (1, sum(size(t.shape) for t in likes)),
                       all(t.shared for t in likes))
        return self.gathered(whole, table, shape)

    def _split(self, op: Op, inputs: List[Tensor]) -> List[Tensor]:
        shape = inputs[0].shape
        if op.op != "SliceChannel":
            raise Unsupported(f"operator {self.where} is outside of its set")
        axis, parts = as_axis(integer(op.attrs, "axis", 1), len(shape)), len(op.outputs)
        out = []
        for i, name in enumerate(op.outputs):
            n = shape[axis] // parts
            table = np.take(np.arange(size(shape)).reshape(shape), range(i * n, (i + 1) * n), axis).ravel()
            out.append(self.gathered(inputs[0], table, self.type_of(name)))
        return out

    def gathered(self, t: Tensor, table: np.ndarray, shape: Shape) -> Tensor:
        """Columns `table` of a value; -1 is zero."""
        table = np.asarray(table).ravel()
        starts = np.concatenate([[0], np.flatnonzero((np.diff(table) != 1) & ~((table[1:] < 0) & (table[:-1] < 0))) + 1,
                                 [len(table)]])
        if len(starts) - 1 <= RUNS and len(table):
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
        return self.gathered(t, table.ravel(), table.shape)

    def reduce(self, kind: int, t: Tensor, axes: Sequence[int], shape: Shape) -> Tensor:
        if t.shared:
            raise Unsupported(f"{self.where}: a sum of what all nodes share")
        length = size(tuple(t.shape[a] for a in axes))
        if length == 1 and kind in (0, 1, 2, 3, 4):
            return Tensor(t.value, shape)
        t = self.last(t, sorted(axes))
        groups = size(t.shape) // length
        return Tensor(self.code.instr("reduce", [self.code.packed(t.value)], groups, (kind, groups, length)), shape)
