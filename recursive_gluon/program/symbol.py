"""Nodes without control flow as an ``mx.sym.Symbol``, and what MXNet knows about its operators."""
from __future__ import annotations

import ctypes
import json
from functools import lru_cache
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from .._compat import mx
from .ir import Op

__all__ = ["to_symbol", "visible_outputs"]


def to_symbol(ops: Iterable[Op], outputs: Sequence[str]):
    """The Symbol that computes `outputs`; values that no operator makes become variables of the same name."""
    nodes: List[Dict[str, Any]] = []
    where: Dict[str, list] = {}
    variables: List[int] = []

    def entry(value: str) -> list:
        if value not in where:
            where[value] = [len(nodes), 0, 0]
            variables.append(len(nodes))
            nodes.append({"op": "null", "name": value, "inputs": []})
        return where[value]

    for op in ops:
        inputs = [entry(v) for v in op.inputs]
        for i, value in enumerate(op.outputs):
            where[value] = [len(nodes), i, 0]
        nodes.append({"op": op.op, "name": op.outputs[0], "attrs": dict(op.attrs), "inputs": inputs})
    heads = [entry(v) for v in outputs]
    return mx.sym.load_json(json.dumps({
        "nodes": nodes, "arg_nodes": variables, "heads": heads,
        "node_row_ptr": list(range(len(nodes) + 1)), "attrs": {"mxnet_version": ["int", 10901]},
    }))


def visible_outputs(op: str, attrs: Mapping[str, str]) -> int:
    """How many outputs an operator shows with these attributes."""
    return _visible(op, tuple(sorted(attrs.items())))


@lru_cache(maxsize=4096)
def _visible(op: str, attrs: Tuple[Tuple[str, str], ...]) -> int:
    from mxnet.base import _LIB, SymbolHandle, c_str, c_str_array, check_call
    handle, symbol = ctypes.c_void_p(), SymbolHandle()
    check_call(_LIB.NNGetOpHandle(c_str(op), ctypes.byref(handle)))
    check_call(_LIB.MXSymbolCreateAtomicSymbol(handle, len(attrs), c_str_array([k for k, _ in attrs]),
                                               c_str_array([v for _, v in attrs]), ctypes.byref(symbol)))
    made = mx.sym.Symbol(symbol)
    made._compose(name="x")
    return len(made.list_outputs())
