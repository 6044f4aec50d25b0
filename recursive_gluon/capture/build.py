"""From traced paths to a Program: decisions become branches, loops become ForEach nodes, names become stable."""
from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..program.expr import NO_NODE, Expr
from ..program.ir import (
    Block,
    Branch,
    Field,
    ForEach,
    Function,
    Integer,
    Invoke,
    Op,
    Param,
    Program,
    Raise,
    Random,
    Return,
)
from ..program.symbol import visible_outputs
from .graph import RANDOM_OPERATORS, Item, PathGraph, Ref
from .loops import Loop, NotALoop, roll
from .records import Record
from .tracer import FunctionTrace, Tracer

__all__ = ["build_program"]


def build_program(tracer: Tracer, root: FunctionTrace, params: Sequence[Param]) -> Program:
    """The Program of everything that `root` reaches.

    Parameters
    ----------
    tracer : Tracer
        Has explored `root`; records of loops that could not be rolled are added to it.
    root : FunctionTrace
    params : sequence of Param
        All parameters that bodies may use; those that no body uses are left out.
    """
    functions: Dict[str, Function] = {}
    names = [p.name for p in params]
    used: set = set()
    for trace in [f for f in tracer.functions.values() if f.signature is not None]:
        builder = _Builder(trace, names, tracer)
        function = builder.build()
        functions[function.name] = function
        functions.update(builder.loop_functions)
        used |= builder.used_params
    live = _reachable(functions, root.name)
    assert root.signature is not None
    return Program({n: functions[n] for n in sorted(live)}, root.name,
                   tuple(p for p in params if p.name in used), root.signature.num_outputs)


def _reachable(functions: Dict[str, Function], root: str) -> set:
    found, stack = set(), [root]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(n.function for b in functions[name].blocks() for n in b.nodes
                         if isinstance(n, (Invoke, ForEach)))
    return found


class Emitter:
    """Items of a path to nodes of blocks; what an enclosing block has made is made once."""

    def __init__(self, graph: PathGraph, names: "Names"):
        self.names = names
        self.nodes: List[Any] = []
        self.env: Dict[Any, Tuple[str, ...]] = {}
        self.follow(graph)

    def follow(self, graph: PathGraph) -> None:
        """Emit from `graph` from now on; a value is recognised by what computes it."""
        self.graph = graph
        self.keys: List[Any] = []
        for item in graph.items:
            if item.call is not None:
                self.keys.append(("call", item.call.name))
                continue
            inputs = tuple((self.keys[r[1]], r[2]) if r[0] == "item" else r for r in item.inputs)
            serial = item.made if item.op in RANDOM_OPERATORS else None
            self.keys.append(self.names.intern((item.op, tuple(sorted(item.attrs.items())), inputs, serial)))

    def fork(self, graph: PathGraph, names: "Names") -> "Emitter":
        """An emitter for an arm: it sees what was made so far, and makes nodes of its own."""
        inner = Emitter(graph, names)
        inner.env = dict(self.env)
        return inner

    def value(self, ref: Ref) -> str:
        """The name of a value; what it needs is emitted first."""
        if ref[0] == "item":
            self.need(ref[1])
            return self.env[self.keys[ref[1]]][ref[2]]
        if ref[0] == "param":
            self.names.params.add(ref[1])
            return f"@{ref[1]}"
        if ref[0] == "arg":
            return f"%a{ref[1]}"
        if ref not in self.env:
            out = (self.names.fresh(),)
            self.nodes.append(Field(ref[1], ref[2], out) if ref[0] == "field" else Integer(ref[1], out))
            self.env[ref] = out
        return self.env[ref][0]

    def need(self, position: int) -> None:
        """Emit the item at `position` after everything that it depends on (graphs are deep: no recursion)."""
        wanted, stack = set(), [position]
        while stack:
            p = stack.pop()
            if p not in wanted and self.keys[p] not in self.env:
                wanted.add(p)
                stack.extend(r[1] for r in self.graph.items[p].inputs if r[0] == "item")
        for p in sorted(wanted):
            if self.keys[p] in self.env:  # the same operator on the same values, asked for twice
                continue
            item = self.graph.items[p]
            inputs = tuple(self.value(r) for r in item.inputs)
            node, ints = (item.call.node, item.call.ints) if item.call is not None else (NO_NODE, ())
            self.env[self.keys[p]] = self.append(item, inputs, node, ints)

    def append(self, item: Item, inputs: Tuple[str, ...], node: Expr, ints: Tuple[Expr, ...]) -> Tuple[str, ...]:
        """Add the node for an item whose inputs have names; returns the names of its outputs."""
        if item.call is None:
            assert item.op is not None
            outputs = self.names.fresh_many(visible_outputs(item.op, item.attrs))
            self.nodes.append(_operator(item, inputs, outputs, self.names))
        else:
            outputs = self.names.fresh_many(item.num_outputs)
            self.nodes.append(Invoke(item.call.function.name, node, ints, inputs, outputs, item.where))
        return outputs


class Names:
    """Fresh value names of one function, the parameters it used, and its random streams."""

    def __init__(self):
        self._next = 0
        self.streams = 0
        self.params: set = set()
        self._interned: Dict[Any, int] = {}

    def fresh(self) -> str:
        self._next += 1
        return f"%{self._next - 1}"

    def fresh_many(self, n: int) -> Tuple[str, ...]:
        return tuple(self.fresh() for _ in range(n))

    def intern(self, key: Any) -> Any:
        # Keys nest; numbering them keeps a long chain from making keys of quadratic size.
        return ("value", self._interned.setdefault(key, len(self._interned)))


def _operator(item: Item, inputs, outputs, names: Names):
    if item.op in ("_random_uniform", "_random_normal"):
        names.streams += 1
        shape = tuple(int(n) for n in item.attrs.get("shape", "(1,)").strip("()[] ,").split(","))
        kind = item.op.rsplit("_", 1)[-1]
        attrs = {k: v for k, v in item.attrs.items() if k in ("low", "high", "loc", "scale", "dtype")}
        return Random(kind, outputs, shape, attrs, names.streams - 1, item.where)
    assert item.op is not None
    return Op(item.op, inputs, outputs, item.attrs, item.where)


class _Builder:
    """Builds one function from its traced paths."""

    def __init__(self, trace: FunctionTrace, params: Sequence[str], tracer: Tracer):
        self.trace, self.tracer = trace, tracer
        self.names = Names()
        self.graphs = [PathGraph(t, params) for t in trace.paths]
        self.loop_functions: Dict[str, Function] = {}

    @property
    def used_params(self) -> set:
        return self.names.params

    def build(self) -> Function:
        trace = self.trace
        body = self._block(self.graphs, 0, Emitter(self.graphs[0], self.names))
        assert trace.signature is not None
        return Function(trace.name, trace.num_ints, tuple(f"%a{j}" for j in range(trace.num_args)),
                        trace.signature.num_outputs, body)

    def _block(self, graphs: List[PathGraph], depth: int, emitter: Emitter) -> Block:
        first = graphs[0]
        for position, item in enumerate(first.items):
            if item.call is not None and item.call.position == depth:
                emitter.need(position)
        decisions = first.trace.decisions
        if len(decisions) == depth:
            if first.trace.error is not None:
                error = first.trace.error
                end: Any = Raise(type(error).__name__, str(error), first.trace.error_where)
            else:
                end = Return(tuple(emitter.value(r) for r in first.outputs))
            return Block(tuple(emitter.nodes), end)
        decision = decisions[depth]
        arms: Dict[Any, List[PathGraph]] = {}
        for graph in graphs:
            arms.setdefault(graph.trace.decisions[depth].answer, []).append(graph)
        if decision.kind == "loop":
            rolled = self._roll(arms, depth, emitter)
            if rolled is not None:
                return rolled
        test = emitter.value(first.tests[depth]) if depth in first.tests else decision.test
        nodes = tuple(emitter.nodes)
        # The names are those of now: a loop that was rolled in one arm has used up some.
        blocks = {answer: self._block(group, depth + 1, emitter.fork(group[0], self.names))
                  for answer, group in sorted(arms.items(), key=lambda kv: (kv[0] is False, kv[0]))}
        return Block(nodes, Branch(test, blocks, decision.where))

    def _roll(self, arms, depth: int, emitter: Emitter) -> Optional[Block]:
        """The block of a loop as one ForEach, or None with a record of why not."""
        decision = arms[min(arms)][0].trace.decisions[depth]
        try:
            if sorted(arms) != [2, 3]:
                raise NotALoop("the count of the children was also asked for as a number")
            two, three = arms[2], arms[3]
            if len(two) != 1 or len(three) != 1:
                raise NotALoop("a decision is made inside or behind the loop")
            if two[0].trace.error or three[0].trace.error:
                raise NotALoop("the loop raises")
            name = f"{self.trace.name}.loop{len(self.loop_functions)}"
            small, large = (roll(g, decision.test, self.trace.num_ints) for g in (two[0], three[0]))
            return self._emit_loop(name, small, large, emitter)
        except NotALoop as reason:
            self.tracer.records.append(Record(
                "loop over children not rolled", decision.where, str(reason),
                "each number of children is a path of its own; combine the children with F.add_n, sum, F.stack(...)"
                ".sum(axis=0), or a value carried from child to child"))
            return None

    def _emit_loop(self, name: str, small: Loop, large: Loop, emitter: Emitter) -> Block:
        results = []
        for loop in (small, large):
            names = copy.deepcopy(self.names)
            parent = Emitter(loop.graph, names)
            parent.env, parent.nodes = dict(emitter.env), list(emitter.nodes)
            body = Emitter(loop.graph, Names())
            results.append((*loop.emit(name, parent, body), names, body.names))
        block, function, names, inner = results[1]
        if results[0][:2] != (block, function):
            raise NotALoop("two and three children are not treated alike")
        self.names = names
        self.names.params |= inner.params
        self.loop_functions[name] = function
        return block
