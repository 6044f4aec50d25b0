"""Operators whose results nobody uses are left out; a segment that gives nothing could not be a graph of MXNet's."""
from __future__ import annotations

from dataclasses import replace
from typing import List, Set, Tuple

from ..ir import Block, Branch, ForEach, Invoke, Node, Program, Return, inputs_of

__all__ = ["prune"]


def prune(program: Program) -> Program:
    """`program` without dead nodes. Calls stay: what they do to the structure (visits, depth, errors) is seen."""
    functions = {name: replace(f, body=_block(f.body)[0]) for name, f in program.functions.items()}
    return replace(program, functions=functions)


def _block(block: Block) -> Tuple[Block, Set[str]]:
    """The block without dead nodes, and the values that it uses."""
    end = block.end
    used: Set[str] = set()
    if isinstance(end, Return):
        used.update(end.values)
    elif isinstance(end, Branch):
        arms = {answer: _block(arm) for answer, arm in end.arms.items()}
        end = replace(end, arms={answer: arm for answer, (arm, _) in arms.items()})
        used.update(*(inside for _, inside in arms.values()))
        if isinstance(end.test, str):
            used.add(end.test)
    nodes: List[Node] = []
    for node in reversed(block.nodes):
        if isinstance(node, (Invoke, ForEach)) or used.intersection(node.outputs):
            used.update(inputs_of(node))
            nodes.append(node)
    return Block(tuple(reversed(nodes)), end), used
