"""Operators replaced by faster equals; which are slow was measured (docs/design/0003)."""
from __future__ import annotations

from dataclasses import replace
from typing import List, Mapping, Tuple

from ..ir import Block, Branch, Node, Op, Program
from ..rules.site import as_axis, flag, integer

__all__ = ["substitute"]


def substitute(program: Program, shapes: Mapping[str, Mapping[str, Tuple[int, ...]]]) -> Program:
    """`program` with ``SliceChannel`` taken apart into slices, whose gradients join in one Concat."""
    functions = {name: replace(f, body=_block(f.body, shapes[name])) for name, f in program.functions.items()}
    return replace(program, functions=functions)


def _block(block: Block, shapes) -> Block:
    nodes: List[Node] = []
    for node in block.nodes:
        nodes += _slices(node, shapes) if isinstance(node, Op) and node.op == "SliceChannel" else [node]
    end = block.end
    if isinstance(end, Branch):
        end = replace(end, arms={a: _block(b, shapes) for a, b in end.arms.items()})
    return Block(tuple(nodes), end)


def _slices(node: Op, shapes) -> List[Op]:
    shape, parts = shapes.get(node.inputs[0]), len(node.outputs)
    if not shape or flag(node.attrs, "squeeze_axis"):
        return [node]
    axis = as_axis(integer(node.attrs, "axis", 1), len(shape))
    width = shape[axis] // parts
    return [Op("slice_axis", node.inputs, (out,),
               {"axis": str(axis), "begin": str(i * width), "end": str((i + 1) * width)}, node.where)
            for i, out in enumerate(node.outputs)]
