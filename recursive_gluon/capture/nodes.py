"""The node of a body: symbolic while tracing, concrete in the eager twin. Both offer the same things.

``is_leaf``, ``children``, ``left``, ``right``, ``arity``, ``index``, ``node['field']``; on a tree made from a user's
own objects also its attributes, properties and methods; on a sequence ``seq[0]``, ``seq[1:]`` and its truth.
"""
from __future__ import annotations

from typing import Any, Optional

from .._compat import mx
from ..errors import ArityError, FieldError, TraceError
from ..program.expr import Expr, const
from ..structure import string_code
from .symbols import current_trace

__all__ = ["Node", "SymbolicNode", "EagerNode", "SymbolicInt", "Layout"]


class Layout:
    """What is known about a forest before its trees: names of fields and slots, the class of the user's objects."""

    def __init__(self, fields=(), slots=(), list_slot=None, object_type=None):
        self.fields, self.slots = tuple(fields), tuple(slots)
        self.list_slot, self.object_type = list_slot, object_type


class Node:
    """What both kinds of node share: everything that follows from ``child``, ``arity`` and ``row``."""

    _layout: Layout

    # -- supplied by the two kinds: _child(i, may_be_none), _arity(), _is_leaf(), _row(name), _children()
    @property
    def is_leaf(self):
        return self._is_leaf()

    @property
    def left(self):
        return self._named_child("left", 0)

    @property
    def right(self):
        return self._named_child("right", 1)

    @property
    def children(self):
        if "children" in self._layout.slots:
            return self._slot("children")
        return self._children()

    @property
    def arity(self):
        return self._arity()

    def _named_child(self, name, position):
        return self._slot(name) if name in self._layout.slots else self._child(position)

    def _slot(self, name):
        child = self._child(self._layout.slots.index(name))
        return None if child._is_none() else child

    def __getitem__(self, key):
        if isinstance(key, str):
            if self._layout.fields and key not in self._layout.fields:
                raise FieldError.unknown(key, self._layout.fields)
            return self._row(key)
        if key == 0:
            return self._row("value")
        if key == slice(1, None):
            return self._child(0)
        raise TraceError(f"a node has no item {key!r}: expected a field's name, or seq[0] and seq[1:] on a sequence")

    def __len__(self):
        raise TraceError("a node has no length; use `node.arity` (compares symbolically) or `len(node.children)`")

    def __bool__(self):
        # A sequence is true while it has elements; a tree's node is an object and always true.
        if self._layout.fields == ("value",) and not self._layout.slots and self._layout.object_type is None:
            return not self._is_leaf()
        return True

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        layout = self._layout
        if name in layout.slots:
            return self._slot(name)
        if name == layout.list_slot:
            return self._children()
        if name in layout.fields:
            return self._row(name)
        member = getattr(layout.object_type, name, None) if layout.object_type is not None else None
        if isinstance(member, property):
            return member.__get__(self)
        if callable(member):
            return member.__get__(self)
        if member is not None:
            return member
        known = [*layout.slots, *([layout.list_slot] if layout.list_slot else []), *layout.fields]
        raise AttributeError(f"a node has no attribute {name!r}; there are: is_leaf, children, left, right, arity, "
                             f"index" + (", " + ", ".join(known) if known else ""))


class SymbolicInt:
    """An integer that is known per node: an arity, an index, a number passed down. Comparing it is a decision."""

    __slots__ = ("expr",)

    def __init__(self, expr: Expr):
        self.expr = expr

    def as_tensor(self):
        """The number as a tensor of shape (1,), where it meets one."""
        return current_trace().integer(self.expr)

    def __bool__(self):
        return current_trace().decide(self.expr if _is_test(self.expr) else Expr("ne", (self.expr, const(0))))

    def __index__(self):
        return current_trace().switch(self.expr)

    __int__ = __index__
    __hash__ = object.__hash__

    def __neg__(self):
        return SymbolicInt(Expr("neg", (self.expr,)))


def _is_test(expr: Expr) -> bool:
    return expr.op in ("eq", "ne", "lt", "le", "gt", "ge", "isleaf", "isnone")


def _arithmetic(op: str, reverse: bool = False):
    def method(self, other):
        if isinstance(other, SymbolicInt):
            right = other.expr
        elif isinstance(other, (int, bool)):
            right = const(int(other))
        else:
            return NotImplemented
        return SymbolicInt(_fold(Expr(op, (right, self.expr) if reverse else (self.expr, right))))
    return method


def _fold(expr: Expr) -> Expr:
    # (i + 1) + 1 and i + 2 are one decision: fold constants that meet
    a, b = expr.operands
    if expr.op in ("add", "sub") and b.op == "const" and a.op in ("add", "sub") and a.operands[1].op == "const":
        total = (b.operands[0] if expr.op == "add" else -b.operands[0])
        total += a.operands[1].operands[0] if a.op == "add" else -a.operands[1].operands[0]
        return Expr("add" if total >= 0 else "sub", (a.operands[0], const(abs(total)))) if total else a.operands[0]
    return expr


for _name, _op in (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("floordiv", "floordiv"), ("mod", "mod")):
    setattr(SymbolicInt, f"__{_name}__", _arithmetic(_op))
    setattr(SymbolicInt, f"__r{_name}__", _arithmetic(_op, reverse=True))
for _op in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(SymbolicInt, f"__{_op}__", _arithmetic(_op))


class SymbolicNode(Node):
    """The node of a body that is being traced: a reference seen from the function's own node."""

    def __init__(self, ref: Expr, layout: Layout):
        self._ref, self._layout = ref, layout

    def __repr__(self):
        return str(self._ref)

    def _is_leaf(self):
        return SymbolicInt(Expr("isleaf", (self._ref,)))

    def _is_none(self):
        return current_trace().decide(Expr("isnone", (self._ref,)))

    def _arity(self):
        return SymbolicInt(Expr("arity", (self._ref,)))

    @property
    def index(self):
        return SymbolicInt(Expr("index", (self._ref,)))

    def _child(self, position):
        if isinstance(position, SymbolicInt):
            where = position.expr
        elif position < 0:
            where = Expr("add", (Expr("arity", (self._ref,)), const(position)))
        else:
            where = const(position)
        return SymbolicNode(Expr("child", (self._ref, where)), self._layout)

    def _children(self):
        return _SymbolicChildren(self, len(self._layout.slots))

    def _row(self, name):
        return current_trace().field(name, self._ref)


class _SymbolicChildren:
    """``node.children`` while tracing. Iterating is a loop that becomes a ForEach; ``len`` decides exactly."""

    def __init__(self, node: SymbolicNode, first: int):
        self._node, self._first = node, first

    def _count(self) -> Expr:
        arity = Expr("arity", (self._node._ref,))
        return Expr("sub", (arity, const(self._first))) if self._first else arity

    def __len__(self):
        return current_trace().switch(self._count())

    def __bool__(self):
        return not current_trace().decide(Expr("eq", (self._count(), const(0))))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return list(self)[index]
        if isinstance(index, int) and index >= 0:
            index += self._first
        return self._node._child(index)

    def __iter__(self):
        if self._first or not isinstance(self._node._ref, Expr):
            return iter([self[i] for i in range(len(self))])
        return current_trace().each_child(self._node, self._count())


class EagerNode(Node):
    """A node of a real forest, for the eager twin: fields are NDArray rows, numbers are numbers."""

    def __init__(self, run: Any, number: int, layout: Optional[Layout] = None):
        self._run, self._number = run, number
        self._layout = layout if layout is not None else run.layout

    def __repr__(self):
        return f"node {self._number}"

    def __eq__(self, other):
        return isinstance(other, EagerNode) and other._number == self._number

    def __hash__(self):
        return hash(self._number)

    def _is_leaf(self):
        return bool(self._run.leaves[self._number])

    def _is_none(self):
        return self._number < 0

    def _arity(self):
        offsets = self._run.structure.child_offsets
        return int(offsets[self._number + 1] - offsets[self._number])

    @property
    def index(self):
        return int(self._number - self._run.tree_start(self._number))

    def _child(self, position):
        arity = self._arity()
        if not -arity <= position < arity:
            raise ArityError(f"child {position} was asked of node {self.index}, which has {arity} children; test "
                             f"`node.is_leaf` or `node.arity` first")
        start = self._run.structure.child_offsets[self._number]
        return EagerNode(self._run, int(self._run.structure.children[start + position % arity]), self._layout)

    def _children(self):
        return [self._child(i) for i in range(len(self._layout.slots), self._arity())]

    def _row(self, name):
        row = self._run.field(name)[self._number:self._number + 1]
        row.__class__ = _Row
        return row


class _Row(mx.nd.NDArray):
    """A field's row. Beside what every NDArray does, it compares with strings as fields of strings do."""

    __slots__: list = []

    def __eq__(self, other):
        return mx.nd.NDArray.__eq__(self, string_code(other) if isinstance(other, str) else other)

    def __ne__(self, other):
        return mx.nd.NDArray.__ne__(self, string_code(other) if isinstance(other, str) else other)

    __hash__ = mx.nd.NDArray.__hash__

