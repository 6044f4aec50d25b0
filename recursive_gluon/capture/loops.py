"""A loop over children, traced for two counts, rolled into one ForEach.

Python unrolled the loop: the path holds the operators of every iteration. What an iteration made is known from when
it was made; what a later loop over the collected values made (``[f(h) for h in hs]``) is known from depending on one
iteration alone. If all iterations are alike, with the child's place and what the iteration before computed in the
places where they differ, one of them is the body. What follows the loop may use the sum of a value over the
iterations, or the last state of a value carried from one to the next.
"""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

from ..program.expr import NODE, Expr, const
from ..program.ir import Block, ForEach, Function, Op, Return
from .graph import RANDOM_OPERATORS, Item, PathGraph, Ref

__all__ = ["Loop", "NotALoop", "roll"]

_ADD = {"broadcast_add", "elemwise_add"}
_SUM_OF_LIST = {"add_n", "ElementWiseSum", "_sum"}


class NotALoop(Exception):
    """The iterations differ, or what follows uses them in another way than sum and carry; the text says which."""


def roll(graph: PathGraph, count: Expr, num_ints: int) -> "Loop":
    """The loop on the path `graph`, which was traced for a given number of iterations.

    Raises
    ------
    NotALoop
        With the reason in a user's words.
    """
    if count.op != "arity":
        raise NotALoop("only loops over all children of a node are rolled")
    loop = Loop(graph, count.operands[0], num_ints)
    loop.find_iterations()
    loop.compare()
    loop.find_results()
    return loop


class Loop:
    """What was found: the iterations, the carried values, the sums."""

    def __init__(self, graph: PathGraph, ref: Expr, num_ints: int):
        self.graph, self.ref, self.num_ints = graph, ref, num_ints
        self.place: Dict[int, int] = {}  # item -> iteration
        self.after: Set[int] = set()  # items that use several iterations, or what follows them
        self.inits: Dict[Tuple[Any, int], Ref] = {}  # carried (ident, output) -> its value before the first child
        self.sums: List[Tuple[Any, int]] = []
        self.replaced: Dict[int, Tuple[str, Any]] = {}  # item after the loop -> ('sum', which) etc.
        self.counting: Set[Tuple[Any, int]] = set()  # (ident, input): a number that counts the children

    # -- which item belongs to which iteration --------------------
    def find_iterations(self) -> None:
        items, banned = self.graph.items, set()
        made_in = {p: self.graph.iteration(item) for p, item in enumerate(items)}
        tagged = {p: where[1] for p, where in made_in.items() if where is not None}
        self.count = 1 + max(tagged.values(), default=-1)
        if self.count < 2:
            raise NotALoop("nothing is computed inside the loop")
        while True:
            self.place, self.after = dict(tagged), set()
            idents: Dict[int, Any] = {}
            groups: Dict[Any, List[Tuple[int, int]]] = {}
            seen = [0] * self.count
            for p, item in enumerate(items):
                uses = {self.place[r[1]] for r in item.inputs if r[0] == "item" and r[1] in self.place}
                late = any(r[0] == "item" and r[1] in self.after for r in item.inputs)
                if p in tagged:
                    idents[p] = ("in", seen[tagged[p]])
                    seen[tagged[p]] += 1
                    if late:
                        raise NotALoop("a later loop uses what was combined from all children")
                elif late or len(uses) > 1 or p in banned or (uses and item.call is not None):
                    self.after.add(p)
                elif uses:
                    k = uses.pop()
                    inputs = tuple(("in", idents[r[1]], r[2]) if r[0] == "item" and r[1] in self.place else r
                                   for r in item.inputs)
                    key: Tuple[Any, ...] = (item.op, tuple(sorted(item.attrs.items())), inputs)
                    if item.op in RANDOM_OPERATORS:
                        key += (sum(1 for _, where in groups.get(key, ()) if where == k),)
                    idents[p] = key
                    groups.setdefault(key, []).append((p, k))
                    self.place[p] = k
            partial = {p for members in groups.values() if {k for _, k in members} != set(range(self.count))
                       for p, _ in members}
            if not partial:
                break
            banned |= partial
        self.idents = idents
        self.iterations = [[p for p in range(len(items)) if self.place.get(p) == k] for k in range(self.count)]

    # -- are they alike --------------------
    def compare(self) -> None:
        tables = [{self.idents[p]: p for p in it} for it in self.iterations]
        if any(set(t) != set(tables[0]) for t in tables):
            raise NotALoop("the iterations do not all compute the same number of operators")
        self.tables = tables
        self.template = self.iterations[1]
        for ident in tables[1]:
            first = [self._relative(self.graph.items[t[ident]], k) for k, t in enumerate(tables)]
            for k in (0, *range(2, self.count)):
                self._match(ident, first[1], first[k], k)

    def _relative(self, item: Item, k: int):
        """An item as seen from iteration `k`."""
        inputs = tuple(self._relative_ref(r, k) for r in item.inputs)
        if item.call is None:
            return (item.op, tuple(sorted(item.attrs.items()))), inputs
        node = self._inside(item.call.node, k)
        if node is None:
            raise NotALoop("a call in the loop is not about the child")
        ints = tuple(self._int(e, k) for e in item.call.ints)
        return (item.call.function.name, node), inputs + ints

    def _relative_ref(self, ref: Ref, k: int):
        if ref[0] == "item" and ref[1] in self.place:
            at, ident = self.place[ref[1]], self.idents[ref[1]]
            if at == k:
                return ("own", ident, ref[2])
            if at == k - 1:
                return ("carry", ident, ref[2])
            raise NotALoop("an iteration uses one that is not the one before it")
        if ref[0] == "field":
            inside = self._inside(ref[2], k)
            return ("field", ref[1], inside) if inside is not None else ("outer", ref)
        if ref[0] == "integer":
            return ("integer", self._int(ref[1], k))
        return ("outer", ref)

    def _inside(self, expr: Expr, k: int) -> Optional[Expr]:
        """A node reference that starts at the child of iteration `k`, as seen from the child."""
        if expr == Expr("child", (self.ref, const(k))):
            return NODE
        if expr.op == "child":
            inner = self._inside(expr.operands[0], k)
            return None if inner is None else Expr("child", (inner, expr.operands[1]))
        return None

    def _int(self, expr: Expr, k: int):
        """An integer of iteration `k`: ('const', n), or an expression in the body's terms."""
        if expr.op == "const":
            return ("const", expr.operands[0])
        return ("int", self._translate(expr, k))

    def _translate(self, expr: Expr, k: int) -> Expr:
        inside = self._inside(expr, k)
        if inside is not None:
            return inside
        if expr.op == "node" or (expr.op == "child" and self._inside(expr, k) is None):
            raise NotALoop("an integer in the loop looks at another node than the child")
        return Expr(expr.op, tuple(self._translate(x, k) if isinstance(x, Expr) else x for x in expr.operands))

    def _match(self, ident, one, other, k: int) -> None:
        if one[0] != other[0] or len(one[1]) != len(other[1]):
            raise NotALoop("the iterations do not compute the same")
        for i, (a, b) in enumerate(zip(one[1], other[1])):
            if a[0] == "carry" and k == 0:
                if b[0] != "outer":
                    raise NotALoop("what the first child starts from is not known before the loop")
                if self.inits.setdefault((a[1], a[2]), b[1]) != b[1]:
                    raise NotALoop("a carried value starts from two different values")
            elif a[0] == b[0] == "const" or (a[0] == b[0] == "integer" and a[1][0] == b[1][0] == "const"):
                x, y = (a[1], b[1]) if a[0] == "const" else (a[1][1], b[1][1])
                if x - 1 == y - k:
                    self.counting.add((ident, i))
                elif x != y:
                    raise NotALoop("a number changes from child to child in another way than counting")
            elif a != b:
                raise NotALoop("the iterations do not compute the same")

    # -- what follows --------------------
    def find_results(self) -> None:
        items = self.graph.items
        self._carried_sums()
        chains: Dict[int, Tuple[Any, int, int]] = {}  # item -> (ident, output, how many were added)
        for p in sorted(self.after):
            item = items[p]
            which = self._whole_list(item.inputs)
            if item.op in _SUM_OF_LIST and which:
                self.replaced[p] = ("sum", self._sum(which))
            elif item.op in ("stack", "Concat") and which:
                axis = int(item.attrs.get("axis", item.attrs.get("dim", "0" if item.op == "stack" else "1")))
                for q in self._users(p):
                    if axis != 0 or not _sums_axis_0(items[q], keep=item.op == "Concat"):
                        raise NotALoop(f"the values of all children are put together by {item.op} at {item.where} and "
                                       f"then not summed over axis 0")
                    self.replaced[q] = ("sum", self._sum(which))
            elif p not in self.replaced:
                self._follow_chain(p, item, chains)
        for p in sorted(self.after):
            for ref in items[p].inputs:
                self._check_use(p, ref, chains)
        for ref in self.graph.outputs:
            self._check_use(None, ref, chains)

    def _carried_sums(self) -> None:
        """``acc = acc + x`` is a sum over the children, which needs no order: take it out of what is carried."""
        self.totals: Dict[Tuple[Any, int], Tuple[Any, int]] = {}  # carried -> summed
        for carried in list(self.inits):
            item = self.graph.items[self.tables[1][carried[0]]]
            if item.op not in _ADD:
                continue
            relative = [self._relative_ref(r, 1) for r in item.inputs]
            own = [r for r in relative if r[0] == "own"]
            users = sum((r[1], r[2]) == carried for p in self.template
                        for r in (self._relative_ref(x, 1) for x in self.graph.items[p].inputs)
                        if r[0] in ("own", "carry"))
            if len(own) == 1 and ("carry", *carried) in relative and users == 1:
                self.totals[carried] = self._sum((own[0][1], own[0][2]))

    def _sum(self, which: Tuple[Any, int]) -> Tuple[Any, int]:
        if which not in self.sums:
            self.sums.append(which)
        return which

    def _whole_list(self, inputs) -> Optional[Tuple[Any, int]]:
        """(ident, output) if the inputs are one value of every iteration, in order."""
        if len(inputs) != self.count or any(r[0] != "item" or self.place.get(r[1]) != k for k, r in enumerate(inputs)):
            return None
        idents = {(self.idents[r[1]], r[2]) for r in inputs}
        return idents.pop() if len(idents) == 1 else None

    def _follow_chain(self, p: int, item: Item, chains) -> None:
        """``((v0 + v1) + v2)``, as Python's ``sum`` makes it (with 0 + v0 first)."""
        if item.op not in _ADD:
            return
        left, right = item.inputs
        if right[0] != "item" or left[0] != "item" or right[1] not in self.place:
            return
        ident, k = (self.idents[right[1]], right[2]), self.place[right[1]]
        start = left[1]
        if start in self.place and self.place[start] == 0 and k == 1:
            begin = self.graph.items[start]
            zero = begin.op == "_plus_scalar" and float(begin.attrs.get("scalar", "1")) == 0
            origin = begin.inputs[0] if zero else left
            if origin[0] == "item" and (self.idents.get(origin[1]), origin[2]) == ident:
                chains[p] = (ident, 2)
        elif start in self.after and self.graph.items[start].op == "_plus_scalar" and k == 1:
            begin = self.graph.items[start]
            origin = begin.inputs[0]
            if float(begin.attrs.get("scalar", "1")) == 0 and origin[0] == "item" \
                    and (self.idents.get(origin[1]), origin[2]) == ident:
                chains[p], chains[start] = (ident, 2), (ident, 1)
        elif start in chains and chains[start] == (ident, k):
            chains[p] = (ident, k + 1)
        if chains.get(p) == (ident, self.count):
            self.replaced[p] = ("sum", self._sum(ident))

    def _users(self, p: int) -> List[int]:
        if any(r[0] == "item" and r[1] == p for r in self.graph.outputs):
            raise NotALoop("the list of the children's values is returned")
        return [q for q, item in enumerate(self.graph.items) if any(r[0] == "item" and r[1] == p for r in item.inputs)]

    def _check_use(self, user: Optional[int], ref: Ref, chains) -> None:
        if user is not None and (user in self.replaced or user in chains):
            return
        if ref[0] != "item" or ref[1] not in self.place:
            return
        item = self.graph.items[user] if user is not None else None
        if item is not None and item.op in ("stack", "Concat") and self._whole_list(item.inputs):
            return
        carried = (self.idents[ref[1]], ref[2])
        if self.place[ref[1]] != self.count - 1 or carried not in self.inits:
            where = item.where if item is not None else "the return"
            raise NotALoop(f"a single child's value is used after the loop, at {where}")

    # -- the nodes --------------------
    def emit(self, name: str, parent, body) -> Tuple[Block, Function]:
        """The block that holds the ForEach, and the function of its body."""
        carries = [c for c in self.inits if c not in self.totals]
        outer: List[Ref] = []
        env: Dict[Tuple[Any, int], str] = {}
        position = {c: i for i, c in enumerate(carries)}

        def capture(ref: Ref) -> str:
            if ref[0] == "param":
                return body.value(ref)
            if ref not in outer:
                outer.append(ref)
            return f"%c{outer.index(ref)}"

        def inner(relative, place) -> str:
            kind = relative[0]
            if kind == "own":
                return env[relative[1:]]
            if kind == "carry":
                return f"%k{position[relative[1:]]}"
            if kind == "field":
                return body.value(relative)
            if kind == "integer":
                return body.value(("integer", self._int_expr(relative[1], place)))
            return capture(relative[1])

        skip = {self.tables[1][c[0]] for c in self.totals}
        for p in self.template:
            if p in skip:
                continue
            item = self.graph.items[p]
            ident, call = self.idents[p], item.call
            inputs = tuple(inner(self._relative_ref(r, 1), (ident, i)) for i, r in enumerate(item.inputs))
            node = (self._inside(call.node, 1) if call is not None else None) or NODE
            ints = tuple(self._int_expr(self._int(e, 1), (ident, len(inputs) + i))
                         for i, e in enumerate(call.ints)) if call is not None else ()
            for output, value in enumerate(body.append(item, inputs, node, ints)):
                env[self.idents[p], output] = value
        # captures come before carries in the arguments; now their number is known
        rename = {f"%c{i}": f"%a{i}" for i in range(len(outer))}
        rename.update({f"%k{i}": f"%a{len(outer) + i}" for i in range(len(carries))})
        nodes = tuple(_renamed(n, rename) for n in body.nodes)
        outputs = [env[c] for c in carries] + [env[s] for s in self.sums]
        args = tuple(f"%a{i}" for i in range(len(outer) + len(carries)))
        function = Function(name, self.num_ints + 1, args, len(outputs),
                            Block(nodes, Return(tuple(rename.get(v, v) for v in outputs))))

        captures = tuple(parent.value(r) for r in outer)
        starts = tuple(parent.value(self.inits[c]) for c in carries)
        results = parent.names.fresh_many(len(outputs))
        parent.nodes.append(ForEach(name, self.ref, tuple(Expr("int", (i,)) for i in range(self.num_ints)), captures,
                                    starts, results))
        self._bind(parent, carries, results)
        end = Return(tuple(parent.value(r) for r in self.graph.outputs))
        return Block(tuple(parent.nodes), end), function

    def _int_expr(self, value, place) -> Expr:
        """An integer of the template in the body's terms; one that counts becomes the child's position."""
        kind, number = value
        if kind == "int":
            return number
        if place not in self.counting:
            return const(number)
        position = Expr("int", (self.num_ints,))
        return position if number == 1 else Expr("add", (position, const(number - 1)))

    def _bind(self, parent, carries, results) -> None:
        """Give the values after the loop their names in the parent."""
        sums = {s: results[len(carries) + i] for i, s in enumerate(self.sums)}
        last = self.iterations[-1]
        for p in last:
            outputs: Dict[int, str] = {}
            for c, result in zip(carries, results):
                if self.idents[p] == c[0]:
                    outputs[c[1]] = result
            for c, s in self.totals.items():
                if self.idents[p] == c[0]:
                    out = parent.names.fresh()
                    parent.nodes.append(Op("broadcast_add", (parent.value(self.inits[c]), sums[s]), (out,), {},
                                           self.graph.items[p].where))
                    outputs[c[1]] = out
            if outputs:
                parent.env[parent.keys[p]] = tuple(outputs.get(i, "") for i in range(1 + max(outputs)))
        for p, (_, which) in self.replaced.items():
            parent.env[parent.keys[p]] = (sums[which],)


def _sums_axis_0(item: Item, keep: bool) -> bool:
    axis = item.attrs.get("axis", "()").strip("()[] ,")
    return item.op == "sum" and axis == "0" and (item.attrs.get("keepdims", "False") in ("True", "1")) == keep


def _renamed(node, rename: Dict[str, str]):
    from dataclasses import replace
    changes = {}
    for name in ("inputs", "args", "captures", "carries"):
        values = node.__dict__.get(name)
        if values:
            changes[name] = tuple(rename.get(v, v) for v in values)
    return replace(node, **changes)
