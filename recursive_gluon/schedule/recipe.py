"""From a Program to a Recipe: the segments in which its operators run, and the buffers that join them.

A *segment* is a run of operators of one block that wait for the same things, so that one launch can do them all for
many frames. A *port* is a buffer of rows: whatever is read by another segment, by a caller or by a callee is written
to a port, a row a frame. Segments read ports through indices (their *slots*); that is the whole of communication,
and the gradient is the same picture with the arrows turned round.

Computed once per Program, mode and shapes; pure data, no MXNet call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

import numpy as np

from ..program.infer import Types
from ..program.ir import Block, Branch, Field, ForEach, Function, Integer, Invoke, Op, Program, Random, Return
from ..program.rules.gradients import HAS_RULE
from ..program.rules.rowwise import rowwise
from ..program.rules.site import Site

__all__ = ["BATCH", "FRAME", "SPREAD", "Recipe", "BlockInfo", "Segment", "Slot", "CallSite", "Port", "make_recipe"]

#: how a segment runs: all rows at once; row by row; repeating something shared to rows
BATCH, FRAME, SPREAD = "batch", "frame", "spread"

#: a port: ('out', function, j), ('arg', function, j) or ('val', function, value)
Port = Tuple[str, str, Any]


@dataclass(eq=False)
class Slot:
    """A row input of a segment. `kind` says where its rows lie:

    ``value`` (another segment of the frame), ``call`` (an output of a callee), ``sum`` (outputs of all children's
    calls, summed), ``last`` (the output of the last child's call), ``arg`` (passed down), ``joined`` (several rows of
    one port side by side: a concatenation that is a gather), ``field``, ``integer``, ``random``. `detail` holds what
    that kind needs.
    """

    value: str
    kind: str
    detail: Tuple[Any, ...]
    shape: Tuple[int, ...]
    dtype: str

    @property
    def parts(self) -> Tuple["Slot", ...]:
        """The slots whose rows stand side by side; the slot itself where it is not joined."""
        return self.detail if self.kind == "joined" else (self,)


@dataclass(eq=False)
class Segment:
    """Operators that run together; see the module's docstring. `reason` says why one is not batched."""

    id: int
    function: str
    block: int
    mode: str
    table: bool
    tail: bool
    ops: List[Op] = field(default_factory=list)
    batch_ops: List[Op] = field(default_factory=list)
    slots: List[Slot] = field(default_factory=list)
    shared: List[str] = field(default_factory=list)
    outputs: List[str] = field(default_factory=list)
    reason: str = ""


@dataclass(eq=False)
class CallSite:
    """An Invoke or ForEach in a block."""

    id: int
    node: Any
    block: int
    function: str


@dataclass(eq=False)
class BlockInfo:
    """A block in a numbered list: its parent, segments and call sites in order, and its end."""

    id: int
    function: str
    parent: int
    path: str
    segments: List[Segment]
    sites: List[CallSite]
    end: Any
    arms: Dict[Any, int] = field(default_factory=dict)


@dataclass(eq=False)
class Recipe:
    """Everything about running a Program that does not depend on the forest."""

    program: Program
    types: Types
    train: bool
    blocks: List[BlockInfo]
    entry: Dict[str, int]
    segments: List[Segment]
    sites: List[CallSite]
    home: Dict[Tuple[str, str], Port]
    producer: Dict[Tuple[str, str], Segment]
    shared_ops: Dict[str, List[Op]]
    same_port: Dict[Port, Port]
    rows: Dict[str, Set[str]]

    @cached_property
    def tail_rank(self) -> np.ndarray:
        """For each tail segment the number of tail segments on the longest way to it: the order in which they run."""
        ranks = np.zeros(len(self.segments), np.int64)
        tails = [s for s in self.segments if s.tail]
        for _ in tails:
            before = ranks.copy()
            for segment in tails:
                reads = [part.detail[0] for slot in segment.slots for part in slot.parts if part.kind == "value"]
                ranks[segment.id] = max([before[made.id] + 1 for made in reads if made.tail], default=0)
            if (ranks == before).all():
                break
        return ranks

    def port(self, port: Port) -> Port:
        """The port that stands for `port`: a carried argument and the output it comes from are one."""
        return self.same_port.get(port, port)

    def slot_port(self, segment: Segment, slot: Slot) -> Optional[Port]:
        """The port that a slot reads, None where it reads no port."""
        if slot.kind == "value":
            return self.port(self.home[segment.function, slot.value])
        if slot.kind in ("call", "sum", "last"):
            site, j = slot.detail
            return self.port(("out", site.node.function, j))
        if slot.kind == "arg":
            return self.port(("arg", segment.function, slot.detail[0]))
        return self.slot_port(segment, slot.detail[0]) if slot.kind == "joined" else None

    def type_of(self, function: str, value: str) -> Tuple[Tuple[int, ...], str]:
        """Per-frame shape and dtype of a value or parameter."""
        if value.startswith("@"):
            return self.types.params[value[1:]], self.program.by_name[value[1:]].dtype
        return self.types.shapes[function][value], self.types.dtypes[function][value]

    def port_type(self, port: Port) -> Tuple[Tuple[int, ...], str]:
        kind, function, what = port
        if kind == "out":
            return self.types.outputs[function][what]
        value = self.program.functions[function].args[what] if kind == "arg" else what
        return self.types.shapes[function][value], self.types.dtypes[function][value]


def make_recipe(program: Program, types: Types, train: bool) -> Recipe:
    """Divide a specialised Program into segments."""
    return _Maker(program, types, train).make()


class _Maker:
    def __init__(self, program: Program, types: Types, train: bool):
        self.program, self.types, self.train = program, types, train
        self.blocks: List[BlockInfo] = []
        self.segments: List[Segment] = []
        self.sites: List[CallSite] = []
        self.home: Dict[Tuple[str, str], Port] = {}
        self.producer: Dict[Tuple[str, str], Segment] = {}
        self.shared_ops: Dict[str, List[Op]] = {}
        self.same_port: Dict[Port, Port] = {}
        self.rows: Dict[str, Set[str]] = {}
        self.copied: Dict[str, Tuple] = {}

    def make(self) -> Recipe:
        for function in self.program.functions.values():
            for block in function.blocks():
                for node in block.nodes:
                    if isinstance(node, ForEach):
                        for i in range(len(node.carries)):
                            self.same_port["arg", node.function, len(node.captures) + i] = ("out", node.function, i)
        self.live = self._recursive_outputs()
        entry = {}
        for function in self.program.functions.values():
            entry[function.name] = len(self.blocks)
            _FunctionMaker(self, function).make()
        recipe = Recipe(
            self.program,
            self.types,
            self.train,
            self.blocks,
            entry,
            self.segments,
            self.sites,
            self.home,
            self.producer,
            self.shared_ops,
            self.same_port,
            self.rows,
        )
        for segment in self.segments:
            if segment.mode == BATCH:
                _join_slots(recipe, segment)
        return recipe

    def _recursive_outputs(self) -> Dict[str, Set[int]]:
        """Outputs of functions that some caller uses: the others need not be computed level by level."""
        live: Dict[str, Set[int]] = {name: set() for name in self.program.functions}
        for function in self.program.functions.values():
            used: Set[str] = set()
            for block in function.blocks():
                for node in block.nodes:
                    used.update(getattr(node, "inputs", ()))
                if isinstance(block.end, Return):
                    used.update(block.end.values)
                elif isinstance(block.end, Branch) and isinstance(block.end.test, str):
                    used.add(block.end.test)
            for block in function.blocks():
                for node in block.nodes:
                    if isinstance(node, (Invoke, ForEach)):
                        live[node.function].update(j for j, v in enumerate(node.outputs) if v in used)
                    if isinstance(node, ForEach):
                        live[node.function].update(range(len(node.carries)))
        return live


class _FunctionMaker:
    """Segments of one function."""

    def __init__(self, maker: _Maker, function: Function):
        self.maker, self.function = maker, function
        self.types = maker.types
        # Types of the copies that are inserted here are added to those that were inferred.
        self.shapes: Dict[str, Tuple[int, ...]] = maker.types.shapes[function.name]  # type: ignore[assignment]
        self.dtypes: Dict[str, str] = maker.types.dtypes[function.name]  # type: ignore[assignment]
        self.rows: Set[str] = set(function.args)  # values that differ from frame to frame
        maker.rows[function.name] = self.rows
        self.definition: Dict[str, Tuple[Any, int]] = {}
        self.sources: Dict[str, FrozenSet] = {a: frozenset([("arg", j)]) for j, a in enumerate(function.args)}
        self.phase: Dict[str, int] = {}
        self.kinds: Dict[int, tuple] = {}  # of segments: how one runs, and which of those that feed a port it is
        self.turns: Dict[tuple, int] = {}
        self.siblings: Dict[str, Tuple[str, ...]] = {}  # outputs of one operator
        maker.shared_ops[function.name] = []

    # -- copies: what feeds a port is made by an operator of the block, and feeds that port alone --------------------
    def make(self) -> None:
        self.counter = 0
        self.feeds: Dict[str, Port] = {}
        body = self._normal(self.function.body, {})
        self.needed = self._needed_by_recursion(body)
        self._block(body, -1, "body")

    def _normal(self, block: Block, scope: Dict[str, bool]) -> Block:
        """Insert ``_copy`` (rows) or ``_rg_spread`` (shared) where a value would have two homes or none."""
        nodes: List[Any] = []
        scope = dict(scope)  # value -> made by an operator with row inputs
        for node in block.nodes:
            if isinstance(node, Op):
                is_row = any(v in self.rows for v in node.inputs)
                scope.update((v, is_row) for v in node.outputs)
                self.siblings.update((v, node.outputs) for v in node.outputs)
                if is_row:
                    self.rows.update(node.outputs)
                nodes.append(node)
            elif isinstance(node, (Field, Integer, Random)):
                self.rows.update(node.outputs)
                nodes.append(node)
            else:
                self.rows.update(node.outputs)
                first = len(node.captures) if isinstance(node, ForEach) else 0
                inputs = [self._feed(v, ("arg", node.function, j), nodes, scope) for j, v in enumerate(node.inputs)]
                if isinstance(node, ForEach):
                    node = replace(node, captures=tuple(inputs[:first]), carries=tuple(inputs[first:]))
                else:
                    node = replace(node, args=tuple(inputs))
                nodes.append(node)
        end = block.end
        if isinstance(end, Return):
            end = Return(
                tuple(self._feed(v, ("out", self.function.name, j), nodes, scope) for j, v in enumerate(end.values))
            )
        elif isinstance(end, Branch):
            if isinstance(end.test, str) and not scope.get(end.test):
                end = replace(end, test=self._copy(end.test, nodes, scope))
            end = replace(end, arms={a: self._normal(b, scope) for a, b in end.arms.items()})
        return Block(tuple(nodes), end)

    def _feed(self, value: str, port: Port, nodes: List[Any], scope: Dict[str, bool]) -> str:
        port = self.maker.same_port.get(port, port)
        others = [v for v in self.siblings.get(value, ()) if v != value]
        if (
            scope.get(value)
            and all(self.feeds.get(v) != port for v in others)
            and self.feeds.setdefault(value, port) == port
        ):
            return value
        copy = self._copy(value, nodes, scope)
        self.feeds[copy] = port
        return copy

    def _copy(self, value: str, nodes: List[Any], scope: Dict[str, bool]) -> str:
        out = f"%copy{self.counter}"
        self.counter += 1
        shape, dtype = self._type(value)
        is_row = value in self.rows
        nodes.append(Op("_copy" if is_row else "_rg_spread", (value,), (out,), {}))
        self.shapes[out], self.dtypes[out] = shape, dtype
        self.rows.add(out)
        scope[out] = True
        return out

    def _type(self, value: str):
        if value.startswith("@"):
            return self.types.params[value[1:]], self.maker.program.by_name[value[1:]].dtype
        return self.shapes[value], self.dtypes[value]

    def _needed_by_recursion(self, body: Block) -> Set[str]:
        """Values on which a call, a decision or a result used by a caller depends."""
        needed: Set[str] = set()
        blocks = list(body.walk())
        live = self.maker.live[self.function.name]
        for block in blocks:
            for node in block.nodes:
                if isinstance(node, (Invoke, ForEach)):
                    needed.update(node.inputs)
            if isinstance(block.end, Return):
                needed.update(v for j, v in enumerate(block.end.values) if j in live)
            elif isinstance(block.end, Branch) and isinstance(block.end.test, str):
                needed.add(block.end.test)
        for block in reversed(blocks):
            for node in reversed(block.nodes):
                if isinstance(node, Op) and needed.intersection(node.outputs):
                    needed.update(node.inputs)
        return needed

    # -- segments --------------------
    def _block(self, block: Block, parent: int, path: str) -> int:
        maker = self.maker
        info = BlockInfo(len(maker.blocks), self.function.name, parent, path, [], [], block.end)
        maker.blocks.append(info)
        groups: Dict[Any, Segment] = {}
        for node in block.nodes:
            if isinstance(node, (Invoke, ForEach)):
                site = CallSite(len(maker.sites), node, info.id, self.function.name)
                maker.sites.append(site)
                info.sites.append(site)
                for j, value in enumerate(node.outputs):
                    self.definition[value] = (site, j)
                    self.sources[value] = frozenset([("site", site.id)])
            elif isinstance(node, Op):
                self._place(node, info, groups)
            else:
                self.definition[node.outputs[0]] = (node, info.id)
                self.sources[node.outputs[0]] = frozenset()
        for segment in info.segments:
            self._connect(segment)
        if isinstance(block.end, Branch):
            if isinstance(block.end.test, str):
                self._export(block.end.test)
            for answer, arm in block.end.arms.items():
                info.arms[answer] = self._block(arm, info.id, f"{path}/{answer}")
        return info.id

    def _place(self, op: Op, info: BlockInfo, groups: Dict[Any, Segment]) -> None:
        """Put an operator in the segment of its kind: what it waits for, how it runs."""
        row_inputs = [v for v in op.inputs if v in self.rows]
        if not row_inputs and op.op != "_rg_spread":
            self.maker.shared_ops[self.function.name].append(op)
            return
        mode, table, batch_ops, reason = self._how(op)
        sources = frozenset().union(*[self.sources.get(v, frozenset()) for v in row_inputs])
        tail = not self.needed.intersection(op.outputs) and mode == BATCH
        # A unit has one row in a port: values of a segment that feed the same port would overwrite one another.
        fed = [self.feeds[v] for v in op.outputs if v in self.feeds]
        turn = max([self.turns.get((info.id, mode, table, tail, sources, port), 0) for port in fed], default=0)
        for port in fed:
            self.turns[info.id, mode, table, tail, sources, port] = turn + 1
        kind = (mode, table, tail, turn)
        phase = 0
        for v in row_inputs:
            made = self.definition.get(v)
            # What waits for less comes before by itself; among those that wait for the same, phases keep the order.
            if (
                made is not None
                and isinstance(made[0], Segment)
                and made[0].block == info.id
                and self.sources[v] == sources
            ):
                same = self.kinds[made[0].id] == kind and mode == BATCH
                phase = max(phase, self.phase[v] + (0 if same else 1))
        key = (kind, sources, phase) if mode == BATCH else ("alone", op.outputs[0])
        segment = groups.get(key)
        if segment is None:
            segment = Segment(len(self.maker.segments), self.function.name, info.id, mode, table, tail, reason=reason)
            groups[key] = segment
            self.kinds[segment.id] = kind
            self.maker.segments.append(segment)
            info.segments.append(segment)
        segment.ops.append(op)
        segment.batch_ops += batch_ops
        for v in op.outputs:
            self.definition[v] = (segment, 0)
            self.sources[v] = sources
            self.phase[v] = phase
            self.maker.producer[self.function.name, v] = segment

    def _how(self, op: Op):
        """(mode, gradient by table?, operators for a batch, reason) of an operator with row inputs."""
        if op.op == "_rg_spread":
            return SPREAD, True, [op], ""
        shapes = tuple(self._type(v)[0] if self._known(v) else () for v in op.inputs)
        rows = tuple(v in self.rows for v in op.inputs)
        site = Site(op.op, op.attrs, shapes, rows, tuple(self.shapes.get(v, ()) for v in op.outputs))
        answer = rowwise(site)
        if isinstance(answer, str):
            return FRAME, False, [op], answer
        inputs, before = list(op.inputs), []
        like = next(v for v, r in zip(op.inputs, rows) if r)
        for i in answer.spread:
            out = f"{op.outputs[0]}.spread{i}"
            self.shapes[out], self.dtypes[out] = self._type(inputs[i])
            before.append(
                Op("broadcast_like", (inputs[i], like), (out,), {"lhs_axes": "(0,)", "rhs_axes": "(0,)"}, op.where)
            )
            inputs[i] = out
        table = not self.maker.train or HAS_RULE(op.op)
        return BATCH, table, [*before, replace(op, op=answer.op, attrs=dict(answer.attrs), inputs=tuple(inputs))], ""

    def _known(self, value: str) -> bool:
        return value.startswith("@") or value in self.shapes

    def _connect(self, segment: Segment) -> None:
        """Slots and shared inputs of a segment, and its outputs that others read."""
        made = {v for op in segment.ops for v in op.outputs}
        seen: Set[str] = set()
        for op in segment.ops:
            for v in op.inputs:
                if v in made or v in seen:
                    continue
                seen.add(v)
                if v in self.rows:
                    segment.slots.append(self._slot(v))
                else:
                    segment.shared.append(v)
        for v in made:
            if v in self.feeds:
                self._export(v)

    def _slot(self, value: str) -> Slot:
        shape, dtype = self._type(value)
        if value in self.function.args:
            return Slot(value, "arg", (self.function.args.index(value),), shape, dtype)
        made, extra = self.definition[value]
        if isinstance(made, Segment):
            self._export(value)
            return Slot(value, "value", (made,), shape, dtype)
        if isinstance(made, CallSite):
            if isinstance(made.node, Invoke):
                return Slot(value, "call", (made, extra), shape, dtype)
            kind = "last" if extra < len(made.node.carries) else "sum"
            return Slot(value, kind, (made, extra), shape, dtype)
        kind = {Field: "field", Integer: "integer", Random: "random"}[type(made)]
        return Slot(value, kind, (made, extra), shape, dtype)

    def _export(self, value: str) -> None:
        """Give a value a home: the port that it feeds, or one of its own."""
        key = (self.function.name, value)
        if key not in self.maker.home:
            self.maker.home[key] = self.feeds.get(value, ("val", self.function.name, value))
            self.maker.producer[key].outputs.append(value)


def _join_slots(recipe: Recipe, segment: Segment) -> None:
    """``concat(h_left, h_right)`` of rows of one port becomes one gather of twice as many rows, in the gradient too."""
    slots = {slot.value: slot for slot in segment.slots}
    for op in list(segment.ops):
        parts = [slots.get(v) for v in op.inputs]
        if op.op != "Concat" or op.attrs.get("dim", "1") != "1" or len(set(op.inputs)) != len(parts) or len(parts) < 2:
            continue
        if any(p is None or p.kind not in ("value", "call", "last", "arg") or len(p.shape) != 2 for p in parts):
            continue
        used = [v for other in segment.ops for v in other.inputs]
        if (
            len({recipe.slot_port(segment, p) for p in parts if p is not None}) != 1
            or any(used.count(v) != 1 for v in op.inputs)
            or op.outputs[0] in segment.outputs
        ):
            continue
        first = parts[0]
        assert first is not None
        joined = Slot(op.outputs[0], "joined", tuple(parts), (1, len(parts) * first.shape[1]), first.dtype)
        segment.slots = [s for s in segment.slots if s not in parts] + [joined]
        segment.ops = [o for o in segment.ops if o is not op]
        segment.batch_ops = [o for o in segment.batch_ops if o.outputs != op.outputs]
