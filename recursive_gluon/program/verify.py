"""Whether a Program is well formed: what every pass and every executor may rely on.

A pass that breaks a Program shows itself here, with the place, rather than as a wrong number two stages
later. Shapes are not checked: they are known only when the forest and the parameters are.
"""

from __future__ import annotations

from typing import Any, Collection, Tuple

from ..errors import VerificationError
from .expr import OPERATORS, Expr
from .ir import (
    Block,
    Branch,
    Field,
    ForEach,
    Function,
    Integer,
    Invoke,
    Op,
    Program,
    Raise,
    Random,
    Return,
    inputs_of,
)
from .text import end_text, node_text

__all__ = ["verify"]

_RANDOM_KINDS = ("uniform", "normal", "dropout")
# Operators that answer yes or no; a Branch on one of them cannot have a number for an answer.
_TESTS = ("eq", "ne", "lt", "le", "gt", "ge", "isleaf", "isnone")
# What an operator takes: 'r' a reference to a node, 'n' a number (both expressions), or a plain value.
_OPERANDS: dict[str, tuple[str, ...]] = {
    **{op: ("n",) if op == "neg" else ("n", "n") for op in OPERATORS},
    "node": (),
    "none": (),
    "child": ("r", "n"),
    "arity": ("r",),
    "index": ("r",),
    "isleaf": ("r",),
    "isnone": ("r",),
    "field": ("r", "name"),
    "int": ("position",),
    "const": ("number",),
}
_REFERENCES = ("node", "none", "child")
_WORDS = {
    "r": "a reference to a node",
    "n": "a number",
    "name": "the name of a field",
    "position": "a position",
    "number": "a plain number",
}


def verify(program: Program, operators: Collection[str] | None = None) -> None:
    """Check that `program` is well formed.

    Arms of a Branch may be missing (they were never traced), but not all of them.

    Parameters
    ----------
    program : Program
    operators : collection of str, optional
        The operators that an Op may name, beside our own, whose names start with ``_rg_``. By default those
        that the installed MXNet has.

    Raises
    ------
    VerificationError
        At the first thing that is wrong. The message says where (the function, the answers that lead to the
        block, the node's number and text) and what is expected.

    Examples
    --------
    >>> verify(Program({"f": Function("f", 0, (), 1, Block((), Return(("%0",))))}, "f", (), 1))
    Traceback (most recent call last):
    recursive_gluon.errors.VerificationError: function 'f', body, end (`return %0`): '%0' is not defined. ...
    """
    if operators is None:
        from .._compat import mx  # a Program can be read and printed without MXNet

        operators = frozenset(mx.operator.get_all_registered_operators())
    names = [p.name for p in program.params]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise VerificationError(f"parameter {twice[0]!r} is declared twice; declare each parameter once")
    for name, function in program.functions.items():
        if name != function.name:
            raise VerificationError(
                f"function {function.name!r} is filed under the name {name!r}; use its own name"
            )
        _Function(program, function, operators).check()
    if program.root not in program.functions:
        raise VerificationError(
            f"the root is {program.root!r}, which is no function of the Program; "
            f"{_known('function', program.functions)}"
        )
    root = program.functions[program.root]
    if program.num_outputs != root.num_outputs:
        raise VerificationError(
            f"the Program has {program.num_outputs} outputs, but its root {program.root!r} has "
            f"{root.num_outputs}; give the Program the number of its root"
        )


def _known(what: str, names: Collection[str]) -> str:
    return f"the {what}s are: {', '.join(sorted(names)) or '(none)'}"


def _text(what: Any) -> str:
    """A node, or the end of a block without what hangs on it."""
    try:
        if isinstance(what, Branch):
            return f"branch on {what.test}"
        return end_text(what) if isinstance(what, (Return, Raise)) else node_text(what)
    except (AttributeError, IndexError, TypeError):
        return repr(what)  # too malformed for its text, and about to be reported


#: the answers that lead to a block
_Path = Tuple[Any, ...]


class _Function:
    """The check of one function. `_place` is where it is, for messages."""

    def __init__(self, program: Program, function: Function, operators: Collection[str]) -> None:
        self.program, self.function, self.operators = program, function, operators
        self.params = program.by_name
        self.streams: dict[int, str] = {}
        self._place = f"function {function.name!r}"
        #: name -> block and number of the node that defines it, and the place in words
        self.homes: dict[str, tuple[_Path, int, str]] = {}

    def fail(self, seen: str, advice: str) -> VerificationError:
        return VerificationError(f"{self._place}: {seen}. {advice}")

    def check(self) -> None:
        f = self.function
        if f.num_ints < 0 or f.num_outputs < 0:
            raise self.fail(f"num_ints is {f.num_ints} and num_outputs {f.num_outputs}", "Numbers start at 0")
        blocks = self._blocks()
        # Definitions first: a use that comes too early or from another arm is not a name that is nowhere.
        for name in f.args:
            self._define(name, (), -1)
        for path, block in blocks:
            for k, node in enumerate(block.nodes):
                self._at(path, k, node)
                if isinstance(node, (Op, Field, Integer, Random, Invoke, ForEach)):
                    for name in node.outputs:
                        self._define(name, path, k)
        for path, block in blocks:
            for k, node in enumerate(block.nodes):
                self._at(path, k, node)
                for name in inputs_of(node):
                    self._use(name, path, k)
                self._node(node)
            self._at(path, None, block.end)
            self._end(block, path)

    def _blocks(self) -> list[tuple[_Path, Block]]:
        found: list[tuple[_Path, Block]] = []
        stack: list[tuple[_Path, Block]] = [((), self.function.body)]
        while stack:
            path, block = stack.pop()
            found.append((path, block))
            if isinstance(block.end, Branch):
                stack.extend(
                    (path + (answer,), arm) for answer, arm in reversed(list(block.end.arms.items()))
                )
        return found

    def _at(self, path: _Path, number: int | None, what: Any) -> None:
        block = "/".join(["body", *map(str, path)])
        place = "end" if number is None else f"node {number}"
        self._place = f"function {self.function.name!r}, {block}, {place} (`{_text(what)}`)"

    # -- names

    def _define(self, name: str, path: _Path, number: int) -> None:
        if not isinstance(name, str) or not name or name.startswith("@"):
            raise self.fail(
                f"a value is named {name!r}", "Values are named %0, %1, ...; @name is a parameter"
            )
        if name in self.homes:
            raise self.fail(
                f"{name!r} is defined a second time, the first is {self.homes[name][2]}",
                "Give every value of a function a name of its own, in all arms together",
            )
        place = self._place.split(", ", 1)[-1] if number >= 0 else "an argument of the function"
        self.homes[name] = (path, number, place)

    def _use(self, name: str, path: _Path, number: int) -> None:
        if not isinstance(name, str):
            raise self.fail(f"a value is named {name!r}", "Names are strings: %0, or @name for a parameter")
        if name.startswith("@"):
            if name[1:] not in self.params:
                raise self.fail(
                    f"{name!r} is an unknown parameter",
                    f"Add it to the Program's params; {_known('parameter', self.params)}",
                )
        elif name not in self.homes:
            raise self.fail(
                f"{name!r} is not defined", "A value must be made by a node before it, or be an argument"
            )
        else:
            home, position, place = self.homes[name]
            if path[: len(home)] != home:
                raise self.fail(
                    f"{name!r} is defined outside this block's ancestors, at {place}",
                    "Define it before the Branch that both blocks hang on",
                )
            if path == home and number <= position:
                raise self.fail(
                    f"{name!r} is used before its definition at {place}", "Move the definition up"
                )

    # -- nodes

    def _node(self, node: Any) -> None:
        if isinstance(node, Op):
            self._op(node)
        elif isinstance(node, Field):
            if not isinstance(node.name, str):
                raise self.fail(f"the field is named {node.name!r}", "Fields have strings for names")
            self._expr(node.node, "r")
        elif isinstance(node, Integer):
            self._expr(node.value, "n")
        elif isinstance(node, Random):
            self._random(node)
        elif isinstance(node, Invoke):
            callee = self._callee(node)
            self._count("integers", len(node.ints), callee.num_ints, callee)
            self._count("arguments", len(node.args), len(callee.args), callee)
            self._count("outputs", len(node.outputs), callee.num_outputs, callee)
        elif isinstance(node, ForEach):
            self._for_each(node)
        else:
            raise self.fail(
                f"a {type(node).__name__} is no node", "Use Op, Field, Integer, Random, Invoke or ForEach"
            )
        if isinstance(node, (Field, Integer, Random)) and len(node.outputs) != 1:
            raise self.fail(f"it has {len(node.outputs)} outputs", f"A {type(node).__name__} has exactly one")

    def _op(self, node: Op) -> None:
        if not node.op.startswith("_rg_") and node.op not in self.operators:
            raise self.fail(
                f"MXNet has no operator {node.op!r}",
                "Use a name that mx.operator.get_all_registered_operators() lists",
            )
        if not node.outputs:
            raise self.fail("the operator has no outputs", "Name at least one")
        self._attributes(node)

    def _attributes(self, node: Any) -> None:
        for key, value in node.attrs.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise self.fail(
                    f"the attribute {key!r} is {value!r}", "Attributes are strings, as in Symbol JSON"
                )

    def _random(self, node: Random) -> None:
        if node.kind not in _RANDOM_KINDS:
            raise self.fail(
                f"random numbers of kind {node.kind!r}", f"{_known('kind', _RANDOM_KINDS).capitalize()}"
            )
        self._attributes(node)
        if node.stream in self.streams:
            raise self.fail(
                f"stream {node.stream} is already that of {self.streams[node.stream]}",
                "Number the Random nodes of a function: equal streams draw equal numbers",
            )
        self.streams[node.stream] = self._place.split(", ", 1)[-1]

    def _callee(self, node: Any) -> Function:
        if node.function not in self.program.functions:
            raise self.fail(
                f"it calls the unknown function {node.function!r}",
                f"Add it to the Program; {_known('function', self.program.functions)}",
            )
        self._expr(node.node, "r")
        for expr in node.ints:
            self._expr(expr, "n")
        return self.program.functions[node.function]

    def _count(self, what: str, given: int, wanted: int, callee: Function) -> None:
        if given != wanted:
            raise self.fail(
                f"it has {given} {what}, but function {callee.name!r} has {wanted}",
                "Give the call what the function declares",
            )

    def _for_each(self, node: ForEach) -> None:
        callee = self._callee(node)
        # the child's position comes after the integers that the node gives
        self._count("integers with the child's position", len(node.ints) + 1, callee.num_ints, callee)
        self._count("captures and carries", len(node.captures) + len(node.carries), len(callee.args), callee)
        self._count("outputs", len(node.outputs), callee.num_outputs, callee)
        if len(node.carries) > len(node.outputs):
            raise self.fail(
                f"it carries {len(node.carries)} values, but has only {len(node.outputs)} outputs",
                "Every carried value is an output of the function",
            )

    # -- ends

    def _end(self, block: Block, path: _Path) -> None:
        end = block.end
        if isinstance(end, Return):
            for name in end.values:
                self._use(name, path, len(block.nodes))
            if len(end.values) != self.function.num_outputs:
                raise self.fail(
                    f"it returns {len(end.values)} values, but the function has "
                    f"{self.function.num_outputs} outputs",
                    "Every path returns the same number of values",
                )
        elif isinstance(end, Raise):
            if not isinstance(end.kind, str) or not end.kind or not isinstance(end.message, str):
                raise self.fail(
                    f"it raises {end.kind!r} with {end.message!r}",
                    "Give the name of an exception, and a message that is a string",
                )
        elif isinstance(end, Branch):
            self._branch(end, len(block.nodes), path)
        else:
            raise self.fail(f"a {type(end).__name__} is no end of a block", "Use Return, Raise or Branch")

    def _branch(self, end: Branch, number: int, path: _Path) -> None:
        if isinstance(end.test, Expr):
            self._expr(end.test, "n")
        else:
            self._use(end.test, path, number)
        kinds = {type(answer) for answer in end.arms}
        answers = ", ".join(map(repr, end.arms))
        if not kinds:
            raise self.fail(
                "the Branch has no arms", "Give it at least one answer and its block, or end with a Raise"
            )
        if not kinds <= {bool, int}:
            raise self.fail(f"the answers are {answers}", "An answer is True, False or a number")
        if len(kinds) > 1:
            raise self.fail(
                f"the answers {answers} mix truth values and numbers",
                "Answer with True and False, or with numbers only",
            )
        if kinds == {int} and isinstance(end.test, Expr) and end.test.op in _TESTS:
            raise self.fail(
                f"the answers are {answers}, but the test is true or false", "Answer with True and False"
            )

    # -- expressions

    def _expr(self, expr: Any, kind: str) -> None:
        if not isinstance(expr, Expr) or expr.op not in _OPERANDS:
            raise self.fail(
                f"expected {_WORDS[kind]}, got {expr!r}", f"{_known('operator', _OPERANDS).capitalize()}"
            )
        if (kind == "r") != (expr.op in _REFERENCES):
            raise self.fail(
                f"expected {_WORDS[kind]}, got `{expr}`", "References are node, none and ref.child(i)"
            )
        kinds = _OPERANDS[expr.op]
        if len(kinds) != len(expr.operands):
            raise self.fail(f"{expr.op!r} has {len(expr.operands)} operands", f"It takes {len(kinds)}")
        for operand, wanted in zip(expr.operands, kinds):
            if wanted in ("r", "n"):
                self._expr(operand, wanted)
            elif wanted == "position":
                self._position(operand)
            elif not isinstance(operand, str if wanted == "name" else (bool, int, float)):
                raise self.fail(
                    f"expected {_WORDS[wanted]}, got {operand!r} in `{expr}`",
                    "Numbers are Python's, names are strings",
                )

    def _position(self, position: Any) -> None:
        if type(position) is not int or not 0 <= position < self.function.num_ints:
            raise self.fail(
                f"i{position} is beyond the {self.function.num_ints} integers of the function",
                "Positions count from 0; raise num_ints if the callers pass more",
            )
