"""Structural expressions: what a body knows about its node without touching a tensor.

A node reference says where a node lies as seen from the function's own node (``node.child(0)``), an integer
expression computes with arities, field values, indices and the Python integers passed down. Both are small
immutable trees that compare by value, print as Python, and evaluate over all frames of a batch at once.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

import numpy as np

__all__ = ["Expr", "const", "NODE", "NO_NODE", "integer", "evaluate", "from_json", "OPERATORS"]

#: operator -> (text template, NumPy function); everything but the leaves 'const', 'int', 'node' and the look-ups
OPERATORS: Dict[str, Tuple[str, Callable[..., Any]]] = {
    "add": ("({} + {})", np.add),
    "sub": ("({} - {})", np.subtract),
    "mul": ("({} * {})", np.multiply),
    "floordiv": ("({} // {})", np.floor_divide),
    "mod": ("({} % {})", np.mod),
    "neg": ("(-{})", np.negative),
    "eq": ("({} == {})", np.equal),
    "ne": ("({} != {})", np.not_equal),
    "lt": ("({} < {})", np.less),
    "le": ("({} <= {})", np.less_equal),
    "gt": ("({} > {})", np.greater),
    "ge": ("({} >= {})", np.greater_equal),
}


@dataclass(frozen=True)
class Expr:
    """One node of an expression: an operator and its operands (expressions, numbers or names).

    Operators beside :data:`OPERATORS`: ``node`` (the function's node), ``none`` (no node is passed), ``child``
    (reference, index), ``arity``, ``index``, ``isleaf``, ``isnone`` (reference), ``field``
    (reference, name), ``int`` (position among the integers passed down), ``const`` (number).
    """

    op: str
    operands: Tuple[Any, ...] = ()

    def __str__(self) -> str:
        a = self.operands
        if self.op in OPERATORS:
            return OPERATORS[self.op][0].format(*a)
        if self.op == "node":
            return "node"
        if self.op == "none":
            return "none"
        if self.op == "child":
            return f"{a[0]}.child({a[1]})"
        if self.op == "field":
            return f"{a[0]}[{a[1]!r}]"
        if self.op == "int":
            return f"i{a[0]}"
        if self.op == "const":
            return repr(a[0])
        return f"{a[0]}.{self.op}"

    def to_json(self) -> list:
        return [self.op] + [x.to_json() if isinstance(x, Expr) else x for x in self.operands]

    def walk(self):
        """This expression and all below it."""
        yield self
        for x in self.operands:
            if isinstance(x, Expr):
                yield from x.walk()


NODE = Expr("node")
NO_NODE = Expr("none")


def const(value) -> Expr:
    """A number as an expression."""
    return Expr("const", (value.item() if isinstance(value, np.generic) else value,))  # Python's prints and is JSON


def integer(position: int) -> Expr:
    """The integer passed down at `position`."""
    return Expr("int", (position,))


def from_json(data) -> Expr:
    """The inverse of :meth:`Expr.to_json`."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise ValueError(f"an expression is a list that starts with an operator, got {data!r}")
    known = set(OPERATORS) | {"node", "none", "child", "arity", "index", "isleaf", "isnone", "field", "int", "const"}
    if data[0] not in known:
        raise ValueError(f"unknown structural operator {data[0]!r}")
    return Expr(data[0], tuple(from_json(x) if isinstance(x, list) else x for x in data[1:]))


_ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod", "neg")


def _widened(value: np.ndarray) -> np.ndarray:
    """Truth values and narrow integers as 64-bit ones: to Python True + True is 2, and nothing overflows."""
    return value.astype(np.int64, copy=False) if value.dtype.kind in "biu" else value


def evaluate(expr: Expr, frames) -> np.ndarray:
    """The value of `expr` for every frame of a batch, without a loop over frames.

    Parameters
    ----------
    expr : Expr
    frames : object
        Offers ``node`` (array of node numbers), ``ints`` (array frames x integers), and the look-ups
        ``child(nodes, positions, text)``, ``arity``, ``leaf`` and ``index`` of nodes, ``field(nodes, name)``.

    Returns
    -------
    numpy.ndarray
        One value a frame (or a scalar for a constant expression).
    """
    op, a = expr.op, expr.operands
    if op in OPERATORS:
        values = [evaluate(x, frames) for x in a]
        return OPERATORS[op][1](*(map(_widened, values) if op in _ARITHMETIC else values))
    if op == "const":
        return np.asarray(a[0])
    if op == "int":
        return frames.ints[:, a[0]]
    if op == "node":
        return frames.node
    if op == "none":
        return np.full(len(frames.node), -1, np.int64)
    nodes = evaluate(a[0], frames)
    if op == "child":
        return frames.child(nodes, np.broadcast_to(evaluate(a[1], frames), nodes.shape), str(expr))
    if op == "arity":
        return frames.arity(nodes)
    if op == "index":
        return frames.index(nodes)
    if op == "isleaf":
        return frames.leaf(nodes)
    if op == "isnone":
        return nodes < 0
    return frames.field(nodes, a[1])
