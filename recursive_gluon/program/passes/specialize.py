"""A Program for one mode: what depends on training or prediction is decided, random operators become keyed draws."""
from __future__ import annotations

from dataclasses import replace
from typing import Iterator, List

from ..infer import Types
from ..ir import Block, Branch, Function, Node, Op, Program, Random
from ..rules.site import number, numbers

__all__ = ["specialize"]


def specialize(program: Program, types: Types, train: bool) -> Program:
    """`program` as it computes in training mode (`train`) or in prediction mode.

    Dropout becomes a multiplication by a keyed draw, or nothing; BatchNorm uses its running statistics where it does
    not normalise over the batch. Random nodes get streams numbered in the order of the text.
    """
    functions = {}
    for name, function in program.functions.items():
        streams = iter(range(1 << 30))
        used = {v for b in function.blocks() for n in b.nodes for v in n.outputs} | set(function.args)
        fresh = (f"%r{i}" for i in range(1 << 30) if f"%r{i}" not in used)
        shapes = {**types.shapes[name], **{f"@{n}": s for n, s in types.params.items()}}
        body = _block(function.body, shapes, train, streams, fresh)
        functions[name] = Function(name, function.num_ints, function.args, function.num_outputs, body)
    return replace(program, functions=functions)


def _block(block: Block, shapes, train: bool, streams: Iterator[int], fresh: Iterator[str]) -> Block:
    nodes: List[Node] = []
    for node in block.nodes:
        if isinstance(node, Op) and node.op == "Dropout":
            nodes += _dropout(node, shapes, train, streams, fresh)
        elif isinstance(node, Op) and node.op == "BatchNorm" and not train:
            nodes.append(replace(node, attrs={**node.attrs, "use_global_stats": "True"}))
        elif isinstance(node, Random):
            nodes.append(replace(node, stream=next(streams)))
        else:
            nodes.append(node)
    end = block.end
    if isinstance(end, Branch):
        end = replace(end, arms={a: _block(b, shapes, train, streams, fresh) for a, b in end.arms.items()})
    return Block(tuple(nodes), end)


def _dropout(node: Op, shapes, train: bool, streams, fresh) -> List[Node]:
    p = number(node.attrs, "p", 0.5)
    stream = next(streams)  # counted in both modes: the streams behind it keep their numbers
    if p <= 0 or not (train or node.attrs.get("mode", "training") == "always"):
        return [Op("_copy", node.inputs, node.outputs[:1], {}, node.where)]
    axes = numbers(node.attrs, "axes", ()) or ()
    shape = tuple(1 if i in axes else n for i, n in enumerate(shapes[node.inputs[0]]))
    mask = next(fresh)
    return [Random("dropout", (mask,), shape, {"p": str(p), "like": node.inputs[0]}, stream, node.where),
            Op("broadcast_mul", (node.inputs[0], mask), node.outputs[:1], {}, node.where)]
