"""A Recipe with its segments' instructions as the words that the native core decodes (native/src/decode.cpp)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ...program.expr import Expr
from ...program.ir import Branch, ForEach, Raise, Random, Return
from ...program.rules.site import number, size
from ...schedule.plan import Plan
from ...schedule.recipe import FRAME, Port, Recipe, Segment, Slot
from ..kernels import slot_group
from .fuse import OPERANDS, SHARED, Instr, Operand
from .lower import SegmentCode, lower_segment
from .tensors import Shares
from .unsupported import Unsupported

__all__ = ["Encoded", "encode"]

_MAGIC = 0x5247434F52453031
_SLOTS = ("value", "call", "sum", "last", "arg", "field", "integer", "random", "lookup")
_CODES = ("ew", "gemm", "map", "reduce", "soft", "bdot", "pick", "one_hot", "gemm_rows", "column_sums")
_EXPR = ("const", "real", "int", "node", "none", "child", "arity", "index", "isleaf", "isnone", "field", "add", "sub",
         "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
_DRAWS = {"dropout": (0, "p", "p"), "uniform": (1, "low", "high"), "normal": (2, "loc", "scale")}
_DEFAULTS = {"low": 0.0, "high": 1.0, "loc": 0.0, "scale": 1.0}
#: operators whose meaning on whole numbers is not that on real ones
_REAL = ("div", "rdiv", "mod", "rmod", "power", "rpower", "mean")


@dataclass
class Encoded:
    """The words, and what they refer to by number."""

    words: np.ndarray
    header: int  # of which so many are sizes
    shared: List[Tuple[str, str]]  # (function or '', value) of each shared input
    shared_sizes: List[int]
    fields: List[str]
    deciding: Tuple[str, ...]  # fields that structural expressions read
    field_cols: List[int]
    tables: List[str]  # parameters that are looked up
    outputs: List[Tuple[Tuple[int, ...], str]]  # shape without the axis of rows, type
    dtype: str
    segments: List[SegmentCode]


def encode(recipe: Recipe, ew_names: Mapping[str, int]) -> Encoded:
    """Words of a recipe.

    Raises
    ------
    Unsupported
        The core cannot run it, and why.
    """
    return _Encoder(recipe, ew_names).run()


class _Encoder:
    def __init__(self, recipe: Recipe, ew_names: Mapping[str, int]):
        self.recipe, self.ew_names = recipe, ew_names
        self.words: List[int] = []
        self.functions = {name: i for i, name in enumerate(recipe.program.functions)}
        self.fields: Dict[str, int] = {}
        self.deciding: Dict[str, None] = {}
        self.field_cols: List[int] = []
        self.tables: Dict[str, int] = {}
        self.shares = Shares(recipe)

    def run(self) -> Encoded:
        recipe = self.recipe
        self.dtype = self._dtype()
        self._number_ports()
        codes = [self._lower(s) for s in recipe.segments]
        for segment, code in zip(recipe.segments, codes):
            for slot in segment.slots:
                if slot.kind == "field":
                    lookup = slot.value in code.lookups
                    self._field(slot.detail[0].name, 0 if lookup else size(slot.shape))
                if slot.value in code.lookups:
                    self.tables.setdefault(code.lookups[slot.value], len(self.tables))
        for key in self.shares.inputs:
            if key[0] == "" and key[1][1:] in self.tables:
                raise Unsupported(f"{key[1][1:]} is both an embedding table and something else")
        body, self.words = self.words, []
        self._functions()
        self._blocks()
        self._sites()
        for segment, code in zip(recipe.segments, codes):
            self._segment(segment, code)
        self._prologue()
        body, self.words = self.words, body
        self._header()
        header = len(self.words)
        self.words += body
        program = recipe.program
        outputs = []
        for shape, dtype in recipe.types.outputs[program.root]:
            if dtype != self.dtype:
                raise Unsupported(f"an output has the type {dtype}")
            outputs.append((tuple(shape[1:] if shape[:1] == (1,) else shape), dtype))
        return Encoded(np.array(self.words, np.int64), header, self.shares.inputs, self.shares.sizes, list(self.fields),
                       tuple(self.deciding), self.field_cols, list(self.tables), outputs, self.dtype, codes)

    # -- types --------------------
    def _dtype(self) -> str:
        """The one floating type of all values."""
        found = set()
        for segment in self.recipe.segments:
            names = [v for op in segment.ops for v in (*op.inputs, *op.outputs)]
            types = {v: self.recipe.type_of(segment.function, v)[1] for v in names}
            found |= {t for t in types.values() if t.startswith("float")}
            for op in segment.ops:
                whole = any(not types[v].startswith("float") for v in op.inputs)
                if whole and any(f"_{w}" in op.op or op.op == w for w in _REAL):
                    raise Unsupported(f"operator {op.op} on whole numbers")
        if len(found) > 1 or not found <= {"float32", "float64"}:
            raise Unsupported(f"its values have the types {', '.join(sorted(found))}")
        return found.pop() if found else "float32"

    def _lower(self, segment: Segment) -> SegmentCode:
        if segment.mode == FRAME:
            raise Unsupported(segment.reason)
        return lower_segment(self.recipe, segment, self.shares, self.recipe.train)

    # -- words --------------------
    def put(self, *values: Any) -> None:
        self.words += (int(v) for v in values)

    def real(self, value: float) -> None:
        self.words.append(struct.unpack("<q", struct.pack("<d", value))[0])

    def many(self, values: Sequence[Any]) -> None:
        self.put(len(values), *values)

    def expr(self, expr: Expr) -> None:
        out: List[Tuple[str, Any]] = []
        self._postfix(expr, out)
        self.put(len(out))
        for op, value in out:
            self.put(_EXPR.index(op))
            if op == "real":
                self.real(value)
            elif op in ("const", "int", "field"):
                self.put(value)

    def _postfix(self, expr: Expr, out: List[Tuple[str, Any]]) -> None:
        op, a = expr.op, expr.operands
        if op == "const":
            out.append(("real", float(a[0])) if isinstance(a[0], float) else ("const", int(a[0])))
        elif op == "int":
            out.append((op, a[0]))
        elif op in ("node", "none"):
            out.append((op, None))
        elif op == "field":
            self._postfix(a[0], out)
            self.deciding[a[1]] = None
            out.append((op, self._field(a[1], 0)))
        else:
            for x in a:
                self._postfix(x, out)
            out.append((op, None))

    def _field(self, name: str, cols: int) -> int:
        if name not in self.fields:
            self.fields[name] = len(self.fields)
            self.field_cols.append(0)
        self.field_cols[self.fields[name]] = max(self.field_cols[self.fields[name]], cols)
        return self.fields[name]

    # -- ports --------------------
    def _number_ports(self) -> None:
        recipe = self.recipe
        self.layouts, count = Plan.layouts(recipe)
        self.ports: Dict[Port, int] = {}
        self.layout_of: Dict[Port, int] = {}

        def add(port: Port) -> None:
            nonlocal count
            port = recipe.port(port)
            if port in self.ports:
                return
            self.ports[port] = len(self.ports)
            if port in self.layouts:
                self.layout_of[port] = self.layouts[port]
            else:
                self.layout_of[port] = count
                count += 1

        for name, f in recipe.program.functions.items():
            for j in range(f.num_outputs):
                add(("out", name, j))
            for j in range(len(f.args)):
                add(("arg", name, j))
        for port in recipe.home.values():
            add(port)
        self.num_layouts = max(count, 1)

    def port(self, port: Port) -> int:
        return self.ports[self.recipe.port(port)]

    # -- parts --------------------
    def _header(self) -> None:
        recipe, shares = self.recipe, self.shares
        program = recipe.program
        self.put(_MAGIC, 4 if self.dtype == "float32" else 8, recipe.train,
                 program.random or any(p.state for p in program.params))
        self.put(len(self.functions), len(recipe.blocks), len(recipe.sites), len(recipe.segments), len(self.ports),
                 len(shares.inputs) + len(shares.computed), len(shares.inputs), len(self.fields), len(self.tables),
                 self.num_layouts, self.functions[program.root])
        for port in self.ports:
            shape, dtype = recipe.port_type(port)
            self.put(max(size(shape), 1), self.layout_of[port], dtype.startswith("float"))
        for cols in shares.sizes:
            self.put(cols, recipe.train)
        for cols in shares.computed:
            self.put(cols, 0)
        self.put(*self.field_cols)
        for name in self.tables:
            rows, cols = recipe.types.params[name]
            self.put(rows, cols)

    def _functions(self) -> None:
        recipe = self.recipe
        for name, f in recipe.program.functions.items():
            self.put(f.num_ints, recipe.entry[name])
            self.many([self.port(("arg", name, j)) for j in range(len(f.args))])
            self.many([self.port(("out", name, j)) for j in range(f.num_outputs)])
            for j in range(len(f.args)):
                same = recipe.same_port.get(("arg", name, j))
                self.put(-1 if same is None else same[2])

    def _blocks(self) -> None:
        recipe = self.recipe
        for info in recipe.blocks:
            self.put(self.functions[info.function], info.parent)
            self.many([s.id for s in info.segments])
            self.many([s.id for s in info.sites])
            end = info.end
            if isinstance(end, Return):
                self.put(0)
                self.many([recipe.producer[info.function, v].id for v in end.values])
            elif isinstance(end, Raise):
                self.put(3)
            else:
                assert isinstance(end, Branch)
                if isinstance(end.test, Expr):
                    self.put(1)
                    self.expr(end.test)
                else:
                    self.put(2, recipe.producer[info.function, end.test].id,
                             self.port(recipe.home[info.function, end.test]))
                self.put(not all(isinstance(a, bool) for a in info.arms), len(info.arms))
                for answer, arm in info.arms.items():
                    self.put(answer, arm)

    def _sites(self) -> None:
        recipe = self.recipe
        for site in recipe.sites:
            node = site.node
            loop = isinstance(node, ForEach)
            self.put(site.block, self.functions[node.function], loop, node.node.op != "none")
            self.expr(node.node)
            self.put(len(node.ints))
            for e in node.ints:
                self.expr(e)
            captures = node.captures if loop else node.args
            self.many([recipe.producer[site.function, v].id for v in captures])
            self.many([recipe.producer[site.function, v].id for v in node.carries] if loop else [])

    def _segment(self, segment: Segment, code: SegmentCode) -> None:
        self.put(segment.block, segment.tail, self.recipe.tail_rank[segment.id])
        self.many([self.port(self.recipe.home[segment.function, v]) for v in segment.outputs])
        parts = [(slot, part) for slot in segment.slots for part in slot.parts]
        self.put(len(parts))
        seen: Dict[tuple, int] = {}
        for k, (slot, part) in enumerate(parts):
            self._slot(segment, slot, part, code, k, seen)
        self.many(code.temps)
        self.many(code.saved)
        for instrs in (code.forward, code.backward, code.over):
            self.put(len(instrs))
            for instr in instrs:
                self._instr(instr)

    def _slot(self, segment: Segment, slot: Slot, part: Slot, code: SegmentCode, k: int, seen: Dict) -> None:
        lookup = slot.value in code.lookups
        kind = "lookup" if lookup else part.kind
        group = slot_group(self.recipe, segment, part, self.layouts)
        same = -1 if lookup or kind in ("field", "integer", "random") else seen.get(group, -1)
        seen.setdefault(group, k)
        cols = self.recipe.types.params[code.lookups[slot.value]][1] if lookup else max(size(part.shape), 1)
        self.put(_SLOTS.index(kind), same, cols, slot.value in code.gives)
        if kind == "value":
            self.put(self.port(self.recipe.home[segment.function, part.value]), part.detail[0].id)
        elif kind in ("call", "sum", "last"):
            site, j = part.detail
            self.put(self.port(("out", site.node.function, j)), site.id, j)
        elif kind == "arg":
            self.put(self.port(("arg", segment.function, part.detail[0])), part.detail[0])
        elif kind in ("field", "lookup"):
            node, block = part.detail
            if lookup:
                self.put(self.tables[code.lookups[slot.value]])
            self.put(self._field(node.name, 0), block)
            self.expr(node.node)
        elif kind == "integer":
            node, block = part.detail
            self.put(block)
            self.expr(node.value)
        else:
            node, block = part.detail
            assert isinstance(node, Random)
            draw, x, y = _DRAWS[node.kind]
            self.put(block, draw, node.stream)
            self.real(number(node.attrs, x, _DEFAULTS.get(x, 0.0)))
            self.real(number(node.attrs, y, _DEFAULTS.get(y, 0.0)))

    def _prologue(self) -> None:
        self.put(len(self.shares.code))
        for instr, _ in self.shares.code:
            self._instr(instr)

    def _operand(self, o: Operand) -> None:
        number_ = o.id
        if o.place == SHARED and number_ < 0:  # computed: numbered behind the inputs
            number_ = len(self.shares.inputs) - number_ - 1
        self.put(o.place, number_, o.offset, o.cols)

    def _instr(self, instr: Instr) -> None:
        if max(len(instr.ins), len(instr.outs)) > OPERANDS:
            raise Unsupported(f"an element-wise program has more than {OPERANDS} operands")
        self.put(_CODES.index(instr.code))
        for operands in (instr.ins, instr.outs):
            self.put(len(operands))
            for o in operands:
                self._operand(o)
        self.many(instr.n)
        self.put(len(instr.x))
        for x in instr.x:
            self.real(x)
        self.many(instr.map)
        if instr.code != "ew":
            return
        self.put(instr.cols, len(instr.inputs))
        for source, cell in instr.inputs:
            self.put(source, cell)
        self.put(len(instr.ops))
        for name, a, b, c, scalar in instr.ops:
            self.put(self.ew_names[name], a, b, c)
            self.real(scalar)
        self.put(len(instr.stores))
        for value, target in instr.stores:
            self.put(value, target)
