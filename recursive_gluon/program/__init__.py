"""The one intermediate form: what capture makes, passes rewrite, schedule orders and runtime runs.

A :class:`Program` is a set of :class:`Function`; a Function is a tree of :class:`Block`, and a Block is a
list of typed nodes (MXNet operators, and the few that MXNet has no word for) that ends in a :class:`Return`,
a :class:`Raise` or a :class:`Branch`. ``print(program)`` shows it.

What always holds, and what :func:`verify` checks: every value is defined once in its function, before it is
used, in the same block or one that leads to it; every call fits the function that it calls; every path
returns as many values as the function declares. Programs are immutable and compare by value; :func:`to_json`
and :func:`from_json` lose nothing. Nothing here runs a model, and nothing but the rules of the operators
knows MXNet.
"""

from .expr import NO_NODE, NODE, Expr, const, evaluate, integer
from .ir import (
    VERSION,
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
    inputs_of,
    replace,
)
from .serial import from_json, load, to_json
from .text import to_text
from .verify import verify

__all__ = [
    "Program",
    "Function",
    "Block",
    "Param",
    "Op",
    "Field",
    "Integer",
    "Random",
    "Invoke",
    "ForEach",
    "Return",
    "Raise",
    "Branch",
    "Expr",
    "NODE",
    "NO_NODE",
    "const",
    "integer",
    "evaluate",
    "verify",
    "to_json",
    "from_json",
    "load",
    "to_text",
    "inputs_of",
    "replace",
    "VERSION",
]
