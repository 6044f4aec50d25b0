"""Straight-line code over rows, fused: element-wise operators become few passes over memory.

A value is a sequence of *pieces*, column ranges of *bases*; so concatenations and slices cost nothing. A base is an
operand (rows that lie somewhere), the result of an instruction, or one element-wise operator. Element-wise operators
get a *stage*, the number of times that memory has to be gone through before; those of one stage and width are one
instruction. Only what another stage, an instruction or the outside reads is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Base", "Code", "Instr", "OPERANDS", "Operand", "Piece", "Value", "kept", "TEMP", "SAVED", "OUT", "SLOT",
           "SHARED", "OGRAD", "IGRAD", "ZERO"]

#: where rows lie; the order of native/src/program.h
TEMP, SAVED, OUT, SLOT, SHARED, OGRAD, IGRAD, ZERO = range(8)


class Operand(NamedTuple):
    """Columns of rows: where, which one there, the first column, how many."""

    place: int
    id: int
    offset: int
    cols: int


@dataclass
class Instr:
    """An instruction of the core; `code` and the meaning of `n`, `x` and `map` are those of native/src/program.h."""

    code: str
    ins: List[Operand]
    outs: List[Operand]
    n: Tuple[int, ...] = ()
    x: Tuple[float, ...] = ()
    map: Tuple[int, ...] = ()
    #: element-wise: columns; (input, is one column); (operator, a, b, c, scalar); (value, output)
    cols: int = 0
    inputs: List[Tuple[int, bool]] = field(default_factory=list)
    ops: List[Tuple[str, int, int, int, float]] = field(default_factory=list)
    stores: List[Tuple[int, int]] = field(default_factory=list)


@dataclass(eq=False)
class Base:
    """See the module's docstring. `kind` is 'operand', 'ew' or 'instr'."""

    kind: str
    cols: int
    stage: int = 0
    operand: Optional[Operand] = None
    op: str = ""
    args: Tuple["Piece", ...] = ()
    scalar: float = 0.0
    instr: Optional[Instr] = None
    reads: Tuple["Piece", ...] = ()
    #: where its value goes beside its own place: operands as wide as it is
    stores: List[Operand] = field(default_factory=list)
    shared: bool = False

    @property
    def ready(self) -> int:
        """The first stage that can read it from memory."""
        return 0 if self.kind == "operand" else self.stage + 1


class Piece(NamedTuple):
    """Columns of a base."""

    base: Base
    offset: int
    cols: int

    @property
    def whole(self) -> bool:
        return self.offset == 0 and self.cols == self.base.cols


Value = Tuple[Piece, ...]


def width(value: Value) -> int:
    return sum(p.cols for p in value)


def cut(value: Value, begin: int, end: int) -> Value:
    """Some columns of a value."""
    out, at = [], 0
    for piece in value:
        low, high = max(begin, at), min(end, at + piece.cols)
        if low < high:
            out.append(Piece(piece.base, piece.offset + low - at, high - low))
        at += piece.cols
    return joined(out)


def joined(pieces: Sequence[Piece]) -> Value:
    """Pieces side by side; neighbours of one base are one piece."""
    out: List[Piece] = []
    for p in pieces:
        if out and out[-1].base is p.base and out[-1].offset + out[-1].cols == p.offset:
            out[-1] = Piece(p.base, out[-1].offset, out[-1].cols + p.cols)
        elif p.cols:
            out.append(p)
    return tuple(out)


def bounds(value: Value) -> Set[int]:
    """The columns at which pieces begin, and the width."""
    found, at = {0}, 0
    for piece in value:
        at += piece.cols
        found.add(at)
    return found


def kept(piece: Piece) -> Optional[Operand]:
    """Where a piece can still be read when its code is over; None: nowhere."""
    base = piece.base
    if base.kind == "operand" and base.operand is not None and base.operand.place in (SLOT, SHARED, ZERO):
        there: Optional[Operand] = base.operand
    else:
        there = next((s for s in base.stores if s.place in (SAVED, OUT)), None)
    return there and Operand(there.place, there.id, there.offset + piece.offset, piece.cols)


class Code:
    """Collects bases; :meth:`emit` makes instructions of those that something outside needs."""

    def __init__(self, temps: List[int]):
        self.bases: List[Base] = []
        self.temps = temps
        self.places: Dict[Base, Operand] = {}
        self.after: Dict[Operand, int] = {}

    # -- making --------------------
    @staticmethod
    def operand(place: int, number: int, cols: int, offset: int = 0, shared: bool = False) -> Value:
        return (Piece(Base("operand", cols, operand=Operand(place, number, offset, cols), shared=shared), 0, cols),)

    def ew(self, op: str, args: Sequence[Value], cells: Sequence[bool], cols: int, scalar: float = 0.0,
           marks: Sequence[int] = ()) -> Value:
        """An element-wise operator on values of `cols` columns (or one: `cells`), cut where its inputs are, and at
        `marks`, so that slices of its result need no pass of their own."""
        edges = {0, cols, *(m for m in marks if 0 < m < cols)}
        for arg, cell in zip(args, cells):
            if not cell:
                edges |= bounds(arg)
        if len(edges) > 65:  # so many pieces cost more than a pass
            args = [arg if cell or len(arg) == 1 else self.packed(arg) for arg, cell in zip(args, cells)]
            edges = {0, cols}
        order = sorted(edges)
        out = []
        for low, high in zip(order, order[1:]):
            mine = tuple((arg if cell else cut(arg, low, high))[0] for arg, cell in zip(args, cells))
            base = Base("ew", high - low, op=op, args=mine, scalar=scalar)
            base.stage = max([self._stage_for(p, base) for p in mine], default=0)
            self.bases.append(base)
            out.append(Piece(base, 0, high - low))
        return joined(out)

    @staticmethod
    def _stage_for(piece: Piece, base: Base) -> int:
        fused = piece.base.kind == "ew" and piece.whole and piece.cols == base.cols
        return piece.base.stage if fused else piece.base.ready

    def instr(self, code: str, ins: Sequence[Value], cols: int, n: Sequence[int] = (), x: Sequence[float] = (),
              table: Sequence[int] = ()) -> Value:
        """An instruction on values of one piece each (see :meth:`packed`)."""
        reads = tuple(v[0] for v in ins)
        base = Base("instr", cols, instr=Instr(code, [], [], tuple(n), tuple(x), tuple(table)), reads=reads)
        base.stage = max([p.base.ready for p in reads], default=0)
        self.bases.append(base)
        return (Piece(base, 0, cols),)

    def packed(self, value: Value, direct: bool = False) -> Value:
        """The same value as one piece; `direct`: as rows that follow one another, not gathered ones."""
        if len(value) == 1:
            base = value[0].base
            where = base.operand.place if base.operand is not None else TEMP
            if not direct or where not in (SLOT, OGRAD, ZERO, SHARED):
                return value
        cols = width(value)
        number = len(self.temps)
        self.temps.append(cols)
        return self.stored(value, Operand(TEMP, number, 0, cols))

    def stored(self, value: Value, to: Operand) -> Value:
        """Store a value at `to`; the value there, for those who want it in one piece."""
        at, stage = 0, 0
        for piece in value:
            target = Operand(to.place, to.id, to.offset + at, piece.cols)
            if not (piece.base.kind == "ew" and piece.whole):
                copy = Base("ew", piece.cols, op="copy", args=(piece,), stage=piece.base.ready)
                self.bases.append(copy)
                piece = Piece(copy, 0, piece.cols)
            piece.base.stores.append(target)
            stage = max(stage, piece.base.stage)
            at += piece.cols
        there = Base("operand", to.cols, operand=to)
        there.kind, there.stage = "stored", stage
        there.reads = value
        return (Piece(there, 0, to.cols),)

    # -- emitting --------------------
    def emit(self) -> List[Instr]:
        """Instructions in an order in which they can run."""
        live = self._live()
        bases = self._direct([b for b in self.bases if b in live])
        self._place(bases)
        steps: List[Tuple[int, int, Instr]] = []
        groups: Dict[Tuple[int, int], List[Base]] = {}
        for base in bases:
            if base.kind == "ew":
                groups.setdefault((base.stage, base.cols), []).append(base)
            else:
                instr = base.instr
                assert instr is not None
                instr.ins = [self._read(p) for p in base.reads]
                instr.outs = [self.places[base]]
                steps.append((base.stage, 1, instr))
        for (stage, cols), group in groups.items():
            for part in (chunk for whole in _fitting(group) for chunk in self._cut(whole)):
                steps.append((stage, 0, self._fused(part, cols)))
        return [instr for _, _, instr in sorted(steps, key=lambda step: step[:2])]

    def _live(self) -> Set[Base]:
        stack = [b for b in self.bases if b.stores]
        live: Set[Base] = set()
        while stack:
            base = stack.pop()
            if base in live:
                continue
            live.add(base)
            for piece in (*base.args, *base.reads):
                stack.append(piece.base)
        return live

    def _direct(self, bases: List[Base]) -> List[Base]:
        """Let instructions write where their results would only be copied to."""
        readers: Dict[Base, List[Base]] = {}
        for base in bases:
            for piece in (*base.args, *base.reads):
                readers.setdefault(piece.base, []).append(base)
        gone = set()
        for base in bases:
            mine = readers.get(base, [])
            if base.kind == "instr" and len(mine) == 1 and mine[0].op == "copy" and mine[0].args[0].whole \
                    and len(mine[0].stores) == 1 and mine[0] not in readers:
                self.places[base] = mine[0].stores[0]
                gone.add(mine[0])
        return [b for b in bases if b not in gone]

    def _place(self, bases: List[Base]) -> None:
        """A place for everything that is read from memory and has none."""
        for base in bases:
            if base.kind == "instr":
                self._own(base)
            for piece in base.reads if base.kind == "instr" else base.args:
                if piece.base.kind == "ew" and not self._fuses(piece, base):
                    self._own(piece.base)

    @staticmethod
    def _fuses(piece: Piece, base: Base) -> bool:
        return (base.kind == "ew" and piece.base.kind == "ew" and piece.whole and piece.cols == base.cols
                and piece.base.stage == base.stage)

    def _cut(self, part: List[Base]) -> List[List[Base]]:
        """Connected operators with more operands than an instruction has, in pieces that run one after another."""
        inside = set(part)
        reads = {(p.base, p.offset) for base in part for p in base.args
                 if not (p.base in inside and self._fuses(p, base))}
        if max(len(reads), sum(len(base.stores) for base in part)) <= OPERANDS:
            return [part]
        chunks: List[List[Base]] = [[]]
        home: Dict[Base, int] = {}
        uses: Set[Any] = set()
        for base in part:
            mine = {(p.base, p.offset) for p in base.args} | {(base, s) for s in base.stores} | {(base, None)}
            if len(uses | mine) > OPERANDS:  # all of them, as if every result were stored
                chunks.append([])
                uses = set()
            uses |= mine
            home[base] = len(chunks) - 1
            chunks[-1].append(base)
        for base in part if len(chunks) > 1 else ():
            for piece in base.args:
                if home.get(piece.base, home[base]) != home[base]:
                    self._own(piece.base)
        return chunks

    def _own(self, base: Base) -> None:
        if base in self.places:
            return
        for there in base.stores:
            if there.place in (TEMP, SAVED, OUT):  # what is given away is not read again
                self.places[base] = there
                return
        self.places[base] = Operand(TEMP, len(self.temps), 0, base.cols)
        self.temps.append(base.cols)
        if base.kind == "ew":
            base.stores.append(self.places[base])

    def _read(self, piece: Piece) -> Operand:
        base = piece.base
        there = base.operand if base.operand is not None else self.places[base]
        return Operand(there.place, there.id, there.offset + piece.offset, piece.cols)

    def _fused(self, group: List[Base], cols: int) -> Instr:
        instr = Instr("ew", [], [], cols=cols)
        inputs: Dict[Tuple[Operand, bool], int] = {}
        inside = set(group)
        for base in group:  # inputs are numbered before results
            for piece in base.args:
                if not (piece.base in inside and self._fuses(piece, base)):
                    key = self._read(piece), piece.cols == 1 and cols != 1
                    if key not in inputs:
                        inputs[key] = len(inputs)
                        instr.ins.append(key[0])
                        instr.inputs.append((len(instr.ins) - 1, key[1]))
        number: Dict[Base, int] = {}
        for base in group:
            args = [
                number[p.base] if p.base in inside and self._fuses(p, base)
                else inputs[self._read(p), p.cols == 1 and cols != 1] for p in base.args
            ]
            if base.op == "copy":  # a store, no arithmetic
                number[base] = args[0]
            else:
                number[base] = len(inputs) + len(instr.ops)
                a, b, c = (*args, -1, -1, -1)[:3]
                instr.ops.append((base.op, a, b, c, base.scalar))
            for target in base.stores:
                instr.outs.append(target)
                instr.stores.append((number[base], len(instr.outs) - 1))
        return instr


#: inputs and outputs of an element-wise instruction
OPERANDS = 64


def _fitting(group: List[Base]) -> List[List[Base]]:
    """Parts of a group with few enough operands for one instruction; connected operators stay together."""
    parts: List[Tuple[Set[Base], Set[Any], List[Base]]] = []
    for base in group:
        uses = {p.base for p in base.args}
        reads = {(id(p.base), p.offset) for p in base.args}
        mine = [part for part in parts if part[0] & uses]
        merged: Tuple[Set[Base], Set[Any], List[Base]] = ({base}, set(reads) | {id(s) for s in base.stores}, [base])
        if not mine and parts and len(parts[-1][1]) + len(merged[1]) < 48:
            mine = [parts[-1]]
        for part in mine:
            merged = (merged[0] | part[0], merged[1] | part[1], part[2] + merged[2])
            parts.remove(part)
        parts.append(merged)
    order = {base: i for i, base in enumerate(group)}
    return [sorted(part[2], key=order.__getitem__) for part in parts]
