"""One traced path as a list of items in the order in which Python made them: operators and calls.

The symbols of a path hold the operators, the trace holds the calls and what the variables mean; here both become one
list, in which a value is a reference to an item's output or to a leaf (field, integer, argument, parameter).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._compat import mx
from ..errors import TraceError
from .trace import Call, Trace

__all__ = ["Item", "Ref", "PathGraph", "RANDOM_OPERATORS"]

#: operators that draw random numbers in a body: each use is a draw of its own
RANDOM_OPERATORS = {"Dropout", "_random_uniform", "_random_normal"}
#: operators whose attributes hold graphs of their own, or that draw in ways the key scheme does not cover
_UNSUPPORTED = {"_foreach", "_while_loop", "_cond"}

#: a value: ('item', position, output) or ('field', name, Expr) / ('integer', Expr) / ('arg', j) / ('param', name)
Ref = Tuple[Any, ...]


@dataclass(frozen=True)
class Item:
    """An operator (`op` is its name) or a call (`op` is None, `call` says which)."""

    op: Optional[str]
    inputs: Tuple[Ref, ...]
    attrs: Mapping[str, str]
    where: str
    made: int
    call: Optional[Call] = None
    num_outputs: int = 1


class PathGraph:
    """The items of a path, and the references of what it returns and decides on."""

    def __init__(self, trace: Trace, params: Sequence[str]):
        self.trace = trace
        self._params = set(params)
        symbols: List[Any] = []
        wanted: Dict[Any, Tuple[int, int]] = {}
        for key, values in self._roots():
            wanted[key] = (len(symbols), len(values))
            symbols += values
        nodes, heads = _nodes(symbols)
        self._build(nodes, heads, wanted)

    def _roots(self):
        trace = self.trace
        for call in trace.calls:
            yield call.name, list(call.args)
        for i, decision in enumerate(trace.decisions):
            if isinstance(decision.test, mx.sym.Symbol):
                yield ("test", i), [decision.test]
        if trace.outputs is not None:
            yield "outputs", list(trace.outputs)

    def _build(self, nodes, heads, wanted) -> None:
        trace = self.trace
        made: List[Tuple[int, Any]] = [
            (int(n["attrs"]["__made__"]), i) for i, n in enumerate(nodes) if n["op"] != "null"
        ]
        made += [(call.made, call) for call in trace.calls]
        made.sort(key=lambda pair: pair[0])
        position = {(id(x) if isinstance(x, Call) else x): k for k, (_, x) in enumerate(made)}
        calls = {call.name: position[id(call)] for call in trace.calls}

        def leaf(name: str) -> Ref:
            if name in trace.fields:
                return ("field", *trace.fields[name])
            if name in trace.integers:
                return ("integer", trace.integers[name])
            head, _, output = name.rpartition(".")
            if head in calls:
                return ("item", calls[head], int(output))
            if name in self._params:
                return ("param", name)
            if name.startswith("arg") and name[3:].isdigit():
                return ("arg", int(name[3:]))
            raise TraceError(
                f"the body uses the variable {name!r}, which is no parameter of the block; make parameters "
                f"with self.params.get(...) or as layers inside name_scope()"
            )

        def ref(entry) -> Ref:
            node = nodes[entry[0]]
            return leaf(node["name"]) if node["op"] == "null" else ("item", position[entry[0]], entry[1])

        def group(key) -> Tuple[Ref, ...]:
            start, length = wanted[key]
            return tuple(ref(h) for h in heads[start : start + length])

        self.items: List[Item] = []
        for serial, what in made:
            if isinstance(what, Call):
                self.items.append(
                    Item(None, group(what.name), {}, what.where, serial, what, what.function.signature.num_outputs)
                )
                continue
            node = nodes[what]
            attrs = {k: v for k, v in node["attrs"].items() if not k.startswith("__")}
            if node["op"] in _UNSUPPORTED or "subgraphs" in node:
                raise TraceError(
                    f"{node['attrs'].get('__where__')}: {node['op']} (control flow of mx.contrib) inside a "
                    f"recursive body; use `if`, a loop over node.children, or a call of self"
                )
            self.items.append(
                Item(
                    node["op"], tuple(ref(e) for e in node["inputs"]), attrs, node["attrs"].get("__where__", ""), serial
                )
            )
        self.outputs = group("outputs") if trace.outputs is not None else ()
        self.tests: Dict[int, Ref] = {
            i: group(("test", i))[0] for i, d in enumerate(trace.decisions) if isinstance(d.test, mx.sym.Symbol)
        }

    def iteration(self, item: Item) -> Optional[Tuple[int, int]]:
        """(loop, iteration) in which Python made an item."""
        return self.trace.iterations[item.made]


def _nodes(symbols):
    if not symbols:
        return [], []
    graph = json.loads(mx.sym.Group(symbols).tojson())
    for node in graph["nodes"]:
        node.setdefault("attrs", {})
    return graph["nodes"], graph["heads"]
