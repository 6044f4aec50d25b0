"""A RecursiveBlock's calls on the native core: which program serves a call, kept from call to call."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ._compat import mx
from .capture.tracer import regroup_outputs
from .errors import LanesError, NativeCoreError
from .runtime.core.binding import recompute_code
from .runtime.core.calls import ALL_OUTPUTS, CoreCaller
from .runtime.core.second_order import SecondOrderCaller
from .runtime.executor import NODES
from .schedule.faults import Unseen

__all__ = ["CoreCalls", "number_of_lanes", "pick"]

Caller = Union[CoreCaller, SecondOrderCaller]
#: callers that are kept; another mode, type of field or context is another one
_LIMIT = 16
#: a number that somebody may mean
_MOST_LANES = 64


class _Entry(NamedTuple):
    """A caller, or why there is none, and what it was made for: it serves while all that is the same."""

    caller: Optional[Caller]
    why: str
    program: Any
    arrays: List[tuple]  # of each parameter: itself, its data, its gradients
    structure: Any  # how the body nests its outputs

    def serves(self) -> bool:
        return all(p._data is data and p._grad is grad for p, data, grad in self.arrays)


class CoreCalls:
    """The callers of one block, and the reasons where the core cannot serve it."""

    def __init__(self, block: Any):
        self.block = block
        self.found: Dict[tuple, _Entry] = {}
        self.again_found: Dict[tuple, Tuple[_Entry, Any, Any]] = {}

    def clear(self) -> None:
        self.found.clear()
        self.again_found.clear()

    def again(self, forest: Any, returns: str, max_nodes: int, only: Optional[int]) -> Any:
        """The outputs of a call like one before, on a forest without further arguments; None where it is another."""
        block = self.block
        depth = block._depth_limit(forest.num_nodes)
        found = self.again_found.get(_key(forest, returns, max_nodes, depth))
        if found is None:
            return None
        entry, source, current = found
        if entry.program is not source.live.program or not entry.serves():
            return None
        try:
            outputs = self._run(entry, forest, (), (), returns, max_nodes, depth, only)
        except Unseen:
            return None
        block._current = current
        return outputs

    def call(self, source: Any, forest: Any, arguments: tuple, returns: str, max_nodes: int,
             only: Optional[int]) -> Any:
        """The outputs, nested as the body returns them; None where the core cannot run the call."""
        block = self.block
        ints = tuple(int(a) for a, kind in zip(arguments, source.kinds) if kind == "int")
        tensors = [a for a in arguments if isinstance(a, mx.nd.NDArray)]
        depth = block._depth_limit(forest.num_nodes)
        while True:
            entry = self._entry(source, forest, arguments, tensors)
            if entry.caller is None:
                if block._executor == "native":
                    raise NativeCoreError(f"{block.name}: executor='native', but the core cannot run this: {entry.why}")
                return None
            try:
                outputs = self._run(entry, forest, tensors, ints, returns, max_nodes, depth, only)
                break
            except Unseen as unseen:
                source.live.update(source.live.extend(source.live.program, unseen))
                block._initialize(source.live.program, forest, tensors)
        block._current = block._key(source, forest, arguments, returns, max_nodes)
        if not arguments and forest.alike is not None:
            if len(self.again_found) >= _LIMIT:
                self.again_found.clear()
            self.again_found[_key(forest, returns, max_nodes, depth)] = entry, source, block._current
        return outputs

    def _run(self, entry: _Entry, forest: Any, tensors, ints, returns: str, max_nodes: int, depth: int,
             only: Optional[int]) -> Any:
        caller, structure = entry.caller, entry.structure
        assert caller is not None
        seed = _seed() if caller.random else 0
        flat = isinstance(structure, tuple) and not any(structure)  # a tuple of tensors
        one = ALL_OUTPUTS
        if flat and only is not None:
            one = range(len(structure))[only]
        outputs = caller(forest, tensors, ints, seed, returns == NODES, max_nodes, depth, one)
        if one != ALL_OUTPUTS:
            return (outputs[0], outputs[1]) if max_nodes else outputs[0]
        result = tuple(outputs[: len(structure)]) if flat else regroup_outputs(outputs, structure)
        if only is not None:
            result = pick(result, only)
        return (result, outputs[-1]) if max_nodes else result

    def _entry(self, source: Any, forest: Any, arguments: tuple, tensors) -> _Entry:
        block, program = self.block, source.live.program
        train, keep = mx.autograd.is_training(), mx.autograd.is_recording()
        key = (id(program), train, keep, forest.context, recompute_code(block._recompute), forest.fields,
               *((a.shape[1:], a.dtype) for a in (*forest[1:], *tensors)))
        entry = self.found.get(key)
        if entry is not None and entry.serves():
            return entry
        call = block._call_for(source, forest, arguments, train, keep=keep)
        mine = [p for p in block._parameters() if p.name in program.by_name]
        caller: Optional[Caller]
        if block._second_order and keep:
            caller, why = SecondOrderCaller(call, block._recompute), ""
        else:
            wanted = [p.name for p in mine if p.grad_req != "null"]
            caller, why = CoreCaller.of(call, wanted, block._recompute, block._lanes)
        if len(self.found) >= _LIMIT:
            self.found.clear()
        arrays = [(p, p._data, p._grad) for p in mine]
        entry = self.found[key] = _Entry(caller, why, program, arrays, source.root.signature.structure)
        return entry


def _key(forest: Any, returns: str, max_nodes: int, depth: int) -> tuple:
    """Calls with the same key, without further arguments, are served by the same caller."""
    return (forest.alike, forest.context, mx.autograd.is_recording(), mx.autograd.is_training(), returns, max_nodes,
            depth)


def pick(outputs: Any, only: int) -> Any:
    """One of a body's outputs."""
    if isinstance(outputs, (list, tuple)):
        return outputs[only]
    if only not in (0, -1):
        raise IndexError(f"only={only}, but the body returns one output")
    return outputs


def number_of_lanes(lanes: Any, executor: str, recompute: Union[bool, int], second_order: bool) -> int:
    """The number of lanes, if lanes can do what is asked for with them."""
    if isinstance(lanes, bool) or not isinstance(lanes, (int, np.integer)) or not 0 <= lanes <= _MOST_LANES:
        raise LanesError(f"lanes={lanes!r}; expected a number from 1 to {_MOST_LANES}, or 0 for the workers")
    asked = [name for name, is_asked in (
        (f"recompute={recompute}", recompute), ("second_order=True", second_order),
        (f"executor={executor!r}", executor not in ("auto", "native"))) if is_asked]
    if lanes and asked:
        raise LanesError(f"lanes={lanes} was asked for together with {asked[0]}, which lanes cannot do; leave one of "
                         f"them out (lanes=0 goes back to the workers)")
    return int(lanes)


def _seed() -> int:
    """From MXNet's generator, so that ``mx.random.seed`` governs it, as inside a graph."""
    with mx.autograd.pause():
        drawn = mx.nd.random.uniform(shape=(2,)).asnumpy()
    high, low = (drawn * (1 << 24)).astype(np.int64).tolist()
    return (high << 24) | low
