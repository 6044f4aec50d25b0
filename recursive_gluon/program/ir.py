"""The one intermediate form: a Program is a set of Functions, a Function a tree of Blocks of typed nodes.

Operators are MXNet operators (same names, same attributes, values as strings), so the nodes of a block without
calls are an ``mx.sym.Symbol`` in another dress. Beside them stand the nodes that MXNet has no word for: reading a
field of the structure, drawing random numbers by key, calling a function, calling one for every child.

Values are named: ``%0`` is made by a node or is an argument, ``@weight`` is a parameter. Every name is defined once
in its function, and a block may use what its ancestors defined.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from .expr import Expr

__all__ = [
    "Op", "Field", "Random", "Integer", "Invoke", "ForEach", "Return", "Branch", "Raise", "Block", "Function",
    "Param", "Program", "VERSION", "replace",
]

#: version of the JSON form; raised when a reader of the former version would misread the file
VERSION = 1


@dataclass(frozen=True)
class Op:
    """One MXNet operator: `outputs` = `op` (`inputs`, `attrs`); `where` is the user's file:line."""

    op: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attrs: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class Field:
    """The row of a forest's field at a node, shape (1, ...)."""

    name: str
    node: Expr
    outputs: Tuple[str, ...]
    where: str = ""


@dataclass(frozen=True)
class Integer:
    """A structural integer that reaches an operator, as a tensor of shape (1,)."""

    value: Expr
    outputs: Tuple[str, ...]
    where: str = ""


@dataclass(frozen=True)
class Random:
    """Random numbers keyed by (call seed, frame, `stream`): `kind` is 'uniform', 'normal' or 'dropout'."""

    kind: str
    outputs: Tuple[str, ...]
    shape: Tuple[int, ...]
    attrs: Mapping[str, str]
    stream: int
    where: str = ""


@dataclass(frozen=True)
class Invoke:
    """A call of `function` on a node, with integers and tensors passed down: the InvokeOp of the paper."""

    function: str
    node: Expr
    ints: Tuple[Expr, ...]
    args: Tuple[str, ...]
    outputs: Tuple[str, ...]
    where: str = ""

    @property
    def inputs(self) -> Tuple[str, ...]:
        return self.args


@dataclass(frozen=True)
class ForEach:
    """`function` called for every child of `node` in order.

    The function's integers are `ints` and then the child's position, counted from 0. Its arguments are `captures`
    (the same for every child) and then `carries` (its own first outputs at the child before; at the first child,
    what is given here). Its outputs after the carried ones are summed over the children. `outputs` are the last
    carried values and then the sums.
    """

    function: str
    node: Expr
    ints: Tuple[Expr, ...]
    captures: Tuple[str, ...]
    carries: Tuple[str, ...]
    outputs: Tuple[str, ...]
    where: str = ""

    @property
    def inputs(self) -> Tuple[str, ...]:
        return self.captures + self.carries


Node = Union[Op, Field, Integer, Random, Invoke, ForEach]


def inputs_of(node: Node) -> Tuple[str, ...]:
    """The values that a node reads."""
    return getattr(node, "inputs", ())


@dataclass(frozen=True)
class Return:
    """The end of a path: the function's outputs."""

    values: Tuple[str, ...]


@dataclass(frozen=True)
class Raise:
    """The end of a path on which the user's code raises."""

    kind: str
    message: str
    where: str = ""


@dataclass(frozen=True)
class Branch:
    """A decision. `test` is an expression (structure) or the name of a value (decided in flight).

    `arms` maps answers to blocks: True/False, or the number itself for a test of kind 'switch'. An answer without an
    arm was never traced.
    """

    test: Union[Expr, str]
    arms: Mapping[Any, "Block"]
    where: str = ""


@dataclass(frozen=True)
class Block:
    """Nodes in order, and how the block ends."""

    nodes: Tuple[Node, ...]
    end: Union[Return, Raise, Branch]

    def walk(self) -> Iterator["Block"]:
        """This block and the blocks of all its arms."""
        stack = [self]
        while stack:
            block = stack.pop()
            yield block
            if isinstance(block.end, Branch):
                stack.extend(reversed(list(block.end.arms.values())))


@dataclass(frozen=True)
class Function:
    """A body: integers and tensors passed down, a tree of blocks, the number of outputs."""

    name: str
    num_ints: int
    args: Tuple[str, ...]
    num_outputs: int
    body: Block

    def blocks(self) -> List[Block]:
        return list(self.body.walk())


@dataclass(frozen=True)
class Param:
    """A parameter: its name in saved files, and what Gluon declared about it.

    `shape` may hold zeros (not known yet). `state` marks auxiliary states (running statistics).
    """

    name: str
    shape: Optional[Tuple[int, ...]] = None
    dtype: str = "float32"
    state: bool = False
    sparse_grad: bool = False


@dataclass(frozen=True)
class Program:
    """Functions by name, the one that is called, the parameters, and the fields that are read."""

    functions: Mapping[str, Function]
    root: str
    params: Tuple[Param, ...]
    num_outputs: int = 0

    def __str__(self) -> str:
        from .text import to_text
        return to_text(self)

    @cached_property
    def fields(self) -> Tuple[str, ...]:
        """Names of all fields read, sorted."""
        names = set()
        for function in self.functions.values():
            for block in function.blocks():
                for node in block.nodes:
                    if isinstance(node, Field):
                        names.add(node.name)
                    for expr in _expressions(node):
                        names.update(e.operands[1] for e in expr.walk() if e.op == "field")
                if isinstance(block.end, Branch) and isinstance(block.end.test, Expr):
                    names.update(e.operands[1] for e in block.end.test.walk() if e.op == "field")
        return tuple(sorted(names))

    @cached_property
    def random(self) -> bool:
        """Whether a call draws random numbers in training mode."""
        return any(
            isinstance(node, Random) or (isinstance(node, Op) and node.op == "Dropout")
            for function in self.functions.values() for block in function.blocks() for node in block.nodes
        )

    def param(self, name: str) -> Param:
        return self.by_name[name]

    @cached_property
    def by_name(self) -> Dict[str, Param]:
        return {p.name: p for p in self.params}


def _expressions(node: Node) -> List[Expr]:
    if isinstance(node, Field):
        return [node.node]
    if isinstance(node, Integer):
        return [node.value]
    if isinstance(node, (Invoke, ForEach)):
        return [node.node, *node.ints]
    return []
