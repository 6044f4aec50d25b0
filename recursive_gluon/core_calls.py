"""A RecursiveBlock's calls on the native core: which program serves a call, kept from call to call."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from ._compat import mx
from .capture.tracer import regroup_outputs
from .errors import NativeCoreError
from .runtime.core.calls import CoreCaller
from .runtime.core.second_order import SecondOrderCaller
from .runtime.executor import Call
from .schedule.faults import Unseen

__all__ = ["CoreCalls"]

Caller = Union[CoreCaller, SecondOrderCaller]
#: callers that are kept; another mode, type of field or context is another one
_LIMIT = 16


class CoreCalls:
    """The callers of one block, and the reasons where the core cannot serve it."""

    def __init__(self, block: Any):
        self.block = block
        self.found: Dict[tuple, Tuple[Optional[Caller], str, List[tuple], Any]] = {}

    def clear(self) -> None:
        self.found.clear()

    def call(self, source: Any, forest: Any, arguments: tuple, returns: str, max_nodes: int) -> Any:
        """The outputs, nested as the body returns them; None where the core cannot run the call."""
        block = self.block
        while True:
            caller, why, call = self._caller(source, forest, arguments, returns, max_nodes)
            if caller is None:
                if block._executor == "native":
                    raise NativeCoreError(f"{block.name}: executor='native', but the core cannot run this: {why}")
                return None
            if caller.random:
                call.seed = _seed()
            try:
                outputs = caller(call)
                break
            except Unseen as unseen:
                source.live.update(source.live.extend(source.live.program, unseen))
                block._initialize(source.live.program, forest, call.args)
        program = source.live.program
        result = regroup_outputs(outputs[: program.num_outputs], source.root.signature.structure)
        return (result, outputs[-1]) if max_nodes else result

    def _caller(
        self, source: Any, forest: Any, arguments: tuple, returns: str, max_nodes: int
    ) -> Tuple[Optional[Caller], str, Call]:
        block, program = self.block, source.live.program
        train, keep = mx.autograd.is_training(), mx.autograd.is_recording()
        tensors = [a for a in arguments if isinstance(a, mx.nd.NDArray)]
        arrays = forest[1:]
        key = (id(program), train, keep, forest.context, block._recompute, forest.fields,
               *((a.shape[1:], a.dtype) for a in (*arrays, *tensors)))
        found = self.found.get(key)
        if found is not None and all(p._data is data and p._grad is grad for p, data, grad in found[2]):
            caller, why = found[:2]
            ints = tuple(int(a) for a, kind in zip(arguments, source.kinds) if kind == "int")
            params = {} if caller is None else caller.params
            fields = dict(zip(forest.fields, arrays))
            call = Call(program, forest.structure, fields, params, forest.context, tensors, ints, train, keep, 0,
                        returns, max_nodes, block._depth_limit(forest.num_nodes))
            return caller, why, call
        call = block._call_for(source, forest, arguments, train, returns, max_nodes, keep)
        mine = [p for p in block._parameters() if p.name in program.by_name]
        made: Tuple[Optional[Caller], str]
        if block._second_order and keep:
            made = SecondOrderCaller(call, block._recompute), ""
        else:
            made = CoreCaller.of(call, [p.name for p in mine if p.grad_req != "null"], block._recompute)
        if len(self.found) >= _LIMIT:
            self.found.clear()
        self.found[key] = *made, [(p, p._data, p._grad) for p in mine], program
        return *made, call


def _seed() -> int:
    """From MXNet's generator, so that ``mx.random.seed`` governs it, as inside a graph."""
    with mx.autograd.pause():
        drawn = mx.nd.random.uniform(shape=(2,)).asnumpy()
    high, low = (drawn * (1 << 24)).astype(np.int64).tolist()
    return (high << 24) | low
