"""A Program as JSON, and back: compact, the same for the same Program, exact.

The text is one object: ``version`` (of the form, :data:`~recursive_gluon.program.ir.VERSION`), ``content``,
and ``checksum``, the CRC-32 of the content in its canonical spelling, so that JSON laid out anew by another
tool still reads while a lost character does not. Each record is written field by field as its dataclass
declares it, fields at their default left out. The blocks of a function are a list in which arms point
forward, and answers are JSON's ``true`` and ``false`` or numbers, because as keys of an object both would
turn into strings.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any, Callable, Mapping, NamedTuple

import numpy as np

from ..errors import ProgramFormatError, ProgramVersionError
from . import ir
from .expr import Expr
from .expr import from_json as expr_from_json
from .ir import Block, Branch, Function, Param, Program

__all__ = ["to_json", "from_json", "load"]

_NODES: dict[str, type] = {
    c.__name__: c for c in (ir.Op, ir.Field, ir.Integer, ir.Random, ir.Invoke, ir.ForEach)
}
_ENDS: dict[str, type] = {c.__name__: c for c in (ir.Return, ir.Raise, ir.Branch)}


class _Malformed(Exception):
    """The content is not that of a Program; carries what was expected and seen."""


def to_json(program: Program) -> str:
    """The JSON text of `program`.

    Parameters
    ----------
    program : Program

    Returns
    -------
    str
        ASCII, without white space; equal for Programs that differ only in the order of functions and arms.

    Raises
    ------
    ProgramFormatError
        If a part of `program` is not of the type that its dataclass declares.
    """
    try:
        content = _dump(_write_program(program))
    except _Malformed as error:
        raise ProgramFormatError(
            f"this Program cannot be written: {error}; build its nodes from the types that "
            "recursive_gluon.program declares (verify() finds such mistakes)"
        ) from None
    return f'{{"checksum":{_checksum(content)},"content":{content},"version":{ir.VERSION}}}'


def from_json(text: str) -> Program:
    """The Program whose text :func:`to_json` gave: equal to it, answers of branches and all.

    Parameters
    ----------
    text : str

    Returns
    -------
    Program
        Not verified; :func:`~recursive_gluon.program.verify` does that.

    Raises
    ------
    ProgramVersionError
        If the text is of another version of the form.
    ProgramFormatError
        If the text is cut short, altered, or something else.
    """
    data = _parse(text)
    version, checksum, content = data["version"], data["checksum"], data["content"]
    if isinstance(version, bool) or not isinstance(version, int):
        raise _not_a_program(text, f"its version is {version!r}, not a number")
    if version != ir.VERSION:
        age, advice = (
            ("a newer", "upgrade recursive_gluon")
            if version > ir.VERSION
            else ("an older", "install the recursive_gluon that wrote it")
        )
        raise ProgramVersionError(
            f"the Program has version {version}, written by {age} recursive_gluon; this one "
            f"reads version {ir.VERSION}: {advice}, or export the net again with this one"
        )
    try:
        found = _checksum(_dump(content))
        if checksum != found:
            raise ProgramFormatError(
                f"the Program was altered after it was written: its checksum is {checksum!r}, "
                f"that of its content {found}; export the net again, or fetch the file again"
            )
        return _read_program(content)
    except _Malformed as error:
        raise ProgramFormatError(
            f"not a Program of version {ir.VERSION}: {error}; write Programs with to_json(), and "
            "export the net again"
        ) from None
    except RecursionError:
        raise ProgramFormatError(
            "an expression in the Program is nested too deeply to read; export the net again "
            "with simpler arithmetic on its integers"
        ) from None


@lru_cache(maxsize=16)
def load(text: str) -> Program:
    """:func:`from_json` that keeps the last few Programs: one text, one object, not to be altered."""
    return from_json(text)


def _parse(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ProgramFormatError(
            f"expected the JSON text of a Program, got {type(text).__name__}; read the file as text first"
        )
    try:
        data = json.loads(text)
    except RecursionError:
        raise _not_a_program(text, "it is nested too deeply") from None
    except ValueError as error:
        raise _not_a_program(text, str(error)) from None
    if not isinstance(data, dict) or not {"version", "checksum", "content"} <= set(data):
        raise _not_a_program(text, "expected an object with version, checksum and content")
    return data


def _not_a_program(text: str, why: str) -> ProgramFormatError:
    if text.startswith('{"checksum":'):
        return ProgramFormatError(
            f"the text of a Program is cut short or damaged ({len(text)} characters; {why}): "
            "export the net again, or fetch the file again"
        )
    return ProgramFormatError(
        f"not the text of a Program ({why}): it begins with {text[:40]!r}; give what to_json() "
        "or export() wrote"
    )


def _plain(value: Any) -> Any:
    # NumPy's numbers get into expressions by way of a user's arrays, and json does not know them.
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise _Malformed(f"expected numbers and strings, got {value!r}")


def _dump(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)


def _checksum(content: str) -> int:
    return zlib.crc32(content.encode("ascii"))


# -- values of fields: each function takes what memory or JSON holds, and gives the same value in plain types


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _Malformed(f"expected a string, got {value!r}")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise _Malformed(f"expected a whole number, got {value!r}")
    return int(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise _Malformed(f"expected true or false, got {value!r}")
    return bool(value)


def _answer(value: Any) -> Any:
    return _flag(value) if isinstance(value, (bool, np.bool_)) else _whole(value)


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(_string(x) for x in _sequence(value))


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(_whole(x) for x in _sequence(value))


def _attributes(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _Malformed(f"expected attributes, got {value!r}")
    return {_string(k): _string(v) for k, v in value.items()}


def _sequence(value: Any) -> Any:
    if not isinstance(value, (tuple, list)):
        raise _Malformed(f"expected a list, got {value!r}")
    return value


def _write_expr(value: Any) -> list:
    if not isinstance(value, Expr):
        raise _Malformed(f"expected an expression, got {value!r}")
    return value.to_json()


def _read_expr(value: Any) -> Expr:
    try:
        return expr_from_json(value)
    except ValueError as error:
        raise _Malformed(str(error)) from None


class _Codec(NamedTuple):
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_TEXT = _Codec(_string, _string)
_NAMES = _Codec(_strings, _strings)
_NUMBER = _Codec(_whole, _whole)
_SHAPE = _Codec(_shape, _shape)
_FLAG = _Codec(_flag, _flag)
_ATTRS = _Codec(_attributes, _attributes)
_EXPR = _Codec(_write_expr, _read_expr)
_EXPRS = _Codec(
    lambda v: [_write_expr(x) for x in _sequence(v)], lambda v: tuple(_read_expr(x) for x in _sequence(v))
)
_TEST = _Codec(
    lambda v: v if isinstance(v, str) else _write_expr(v),
    lambda v: v if isinstance(v, str) else _read_expr(v),
)

#: A field's name says how it is written, the same in every record; a field of a new name needs a line here.
_CODECS: dict[str, _Codec] = {
    **dict.fromkeys(("op", "where", "name", "kind", "message", "function", "dtype"), _TEXT),
    **dict.fromkeys(("inputs", "outputs", "args", "captures", "carries", "values"), _NAMES),
    **dict.fromkeys(("stream", "num_ints", "num_outputs"), _NUMBER),
    **dict.fromkeys(("state", "sparse_grad"), _FLAG),
    **dict.fromkeys(("node", "value"), _EXPR),
    "ints": _EXPRS,
    "test": _TEST,
    "shape": _SHAPE,
    "attrs": _ATTRS,
}
#: Fields that are not values but further records, written by the functions below
_NESTED = {"arms", "body"}


def _fields_of(record: type) -> dict[str, tuple[_Codec, Callable[[], Any]]]:
    """Per field its codec, and a function that gives its default, or MISSING where there is none."""
    found = {}
    for f in fields(record):
        if f.name not in _NESTED:
            default = f.default_factory if f.default_factory is not MISSING else lambda value=f.default: value
            found[f.name] = (_CODECS[f.name], default)
    return found


_FIELDS = {record: _fields_of(record) for record in (*_NODES.values(), *_ENDS.values(), Function, Param)}


def _write(record: Any) -> dict[str, Any]:
    if type(record) not in _FIELDS:
        raise _Malformed(f"expected one of {', '.join(sorted(c.__name__ for c in _FIELDS))}, got {record!r}")
    data: dict[str, Any] = {}
    for name, (codec, default) in _FIELDS[type(record)].items():
        value = codec.write(getattr(record, name))
        if value != default():
            data[name] = value
    return data


def _read(record: type[Any], data: Any, **nested: Any) -> Any:
    values = dict(nested)
    for name, (codec, default) in _FIELDS[record].items():
        if name in data:
            values[name] = codec.read(data.pop(name))
        elif default() is MISSING:
            raise _Malformed(f"{record.__name__} lacks {name!r}")
    if data:
        raise _Malformed(f"{record.__name__} has no {sorted(data)[0]!r}")
    return record(**values)


def _object(data: Any, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _Malformed(f"expected {what}, got {data!r}")
    return dict(data)


def _take(data: dict[str, Any], name: str, what: str) -> Any:
    if name not in data:
        raise _Malformed(f"{what} lacks {name!r}")
    return data.pop(name)


def _kind(data: dict[str, Any], kinds: Mapping[str, type], what: str) -> type:
    name = _take(data, "is", what)
    if not isinstance(name, str) or name not in kinds:
        raise _Malformed(f"unknown {what} kind {name!r}, expected one of {', '.join(sorted(kinds))}")
    return kinds[name]


# -- the records


def _write_program(program: Program) -> dict[str, Any]:
    return {
        "root": _string(program.root),
        "num_outputs": _whole(program.num_outputs),
        "params": [_write(p) for p in program.params],
        "functions": {_string(name): _write_function(f) for name, f in program.functions.items()},
    }


def _read_program(content: Any) -> Program:
    content = _object(content, "a Program")
    functions = _object(_take(content, "functions", "the Program"), "functions by name")
    program = Program(
        {name: _placed(f"function {name!r}", _read_function, data) for name, data in functions.items()},
        _string(_take(content, "root", "the Program")),
        tuple(
            _read(Param, _object(p, "a parameter"))
            for p in _sequence(_take(content, "params", "the Program"))
        ),
        _whole(_take(content, "num_outputs", "the Program")),
    )
    if content:
        raise _Malformed(f"a Program has no {sorted(content)[0]!r}")
    return program


def _placed(place: str, read: Callable[..., Any], *args: Any) -> Any:
    """``read(*args)``; an error says where."""
    try:
        return read(*args)
    except _Malformed as error:
        raise _Malformed(f"{place}: {error}") from None


def _write_function(function: Function) -> dict[str, Any]:
    data = _write(function)
    queue, blocks = [function.body], []  # a list, not nested objects: json uses the stack for those
    for block in queue:  # which grows on the way
        end = {"is": type(block.end).__name__, **_write(block.end)}
        if isinstance(block.end, Branch):
            # The order in which paths were found is no part of a Program's meaning.
            arms = sorted(((_answer(a), arm) for a, arm in block.end.arms.items()), key=lambda pair: pair[0])
            end["arms"] = [[answer, len(queue) + k] for k, (answer, _) in enumerate(arms)]
            queue.extend(arm for _, arm in arms)
        blocks.append({"nodes": [{"is": type(n).__name__, **_write(n)} for n in block.nodes], "end": end})
    return {**data, "blocks": blocks}


def _read_function(data: Any) -> Function:
    data = _object(data, "a function")
    waiting = list(_sequence(_take(data, "blocks", "the function")))
    if not waiting:
        raise _Malformed("the function has no blocks")
    read: list[Block | None] = [None] * len(waiting)
    for k in reversed(range(len(waiting))):  # arms point forward, so that what they point to is there
        read[k] = _placed(f"block {k}", _read_block, waiting[k], k, read)
    body, *rest = read
    if any(block is not None for block in rest):
        raise _Malformed("a block is no arm of another")
    return _read(Function, data, body=body)


def _read_block(data: Any, number: int, read: list[Block | None]) -> Block:
    data = _object(data, "a block")
    nodes = []
    for k, node in enumerate(_sequence(_take(data, "nodes", "the block"))):
        node = _object(node, "a node")
        kind = _placed(f"node {k}", _kind, node, _NODES, "node")
        nodes.append(_placed(f"node {k}", _read, kind, node))
    end = _object(_take(data, "end", "the block"), "the end of a block")
    kind = _kind(end, _ENDS, "end")
    if data:
        raise _Malformed(f"a block has no {sorted(data)[0]!r}")
    if kind is Branch:
        arms = _read_arms(_take(end, "arms", "the Branch"), number, read)
        return Block(tuple(nodes), _read(Branch, end, arms=arms))
    return Block(tuple(nodes), _read(kind, end))


def _read_arms(data: Any, number: int, read: list[Block | None]) -> dict[Any, Block]:
    arms: dict[Any, Block] = {}
    for pair in _sequence(data):
        if len(_sequence(pair)) != 2:
            raise _Malformed(f"expected an answer and the number of a block, got {pair!r}")
        answer, target = _answer(pair[0]), _whole(pair[1])
        block = read[target] if number < target < len(read) else None
        if block is None or answer in arms:
            raise _Malformed(
                f"the arm {answer!r} of the Branch points to block {target}, which is not a block of its "
                "own behind it, or the answer occurs twice"
            )
        arms[answer], read[target] = block, None
    return arms
