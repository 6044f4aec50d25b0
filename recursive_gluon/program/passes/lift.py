"""What bodies compute from parameters alone becomes parameters of its own, to be computed before the call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Set, Tuple

from ..infer import Types
from ..ir import Block, Branch, ForEach, Function, Invoke, Node, Op, Param, Program, Return

__all__ = ["Lifted", "lift"]


@dataclass(frozen=True)
class Lifted:
    """`program` without such operators; `ops`, in order, make the new parameters (``@name``) from the others."""

    program: Program
    ops: Tuple[Op, ...]


def lift(program: Program, types: Types) -> Lifted:
    """Lift operators whose inputs are the same for all nodes out of the bodies of `program`."""
    made: List[Op] = []
    found: Dict[str, Param] = {}
    functions = {f.name: _function(f, types, made, found) for f in program.functions.values()}
    return Lifted(replace(program, functions=functions, params=(*program.params, *found.values())), tuple(made))


def _function(function: Function, types: Types, made: List[Op], found: Dict[str, Param]) -> Function:
    shapes, dtypes = types.shapes[function.name], types.dtypes[function.name]
    names: Dict[str, str] = {}
    declared: Set[str] = set()

    def read(values: Tuple[str, ...]) -> Tuple[str, ...]:
        for v in values:
            if v in names and v not in declared:
                declared.add(v)
                found[names[v][1:]] = Param(names[v][1:], tuple(shapes[v]), dtypes[v])
        return tuple(names.get(v, v) for v in values)

    def walk(block: Block) -> Block:
        nodes: List[Node] = []
        for node in block.nodes:
            if isinstance(node, Op) and all(v.startswith("@") or v in names for v in node.inputs):
                names.update((v, f"@{function.name}.{v.lstrip('%')}") for v in node.outputs)
                made.append(replace(node, inputs=tuple(names.get(v, v) for v in node.inputs),
                                    outputs=tuple(names[v] for v in node.outputs)))
            elif isinstance(node, Op):
                nodes.append(replace(node, inputs=read(node.inputs)))
            elif isinstance(node, Invoke):
                nodes.append(replace(node, args=read(node.args)))
            elif isinstance(node, ForEach):
                nodes.append(replace(node, captures=read(node.captures), carries=read(node.carries)))
            else:
                nodes.append(node)
        end = block.end
        if isinstance(end, Return):
            end = Return(read(end.values))
        elif isinstance(end, Branch):
            test = read((end.test,))[0] if isinstance(end.test, str) else end.test
            end = replace(end, test=test, arms={answer: walk(arm) for answer, arm in end.arms.items()})
        return Block(tuple(nodes), end)

    return replace(function, body=walk(function.body))
