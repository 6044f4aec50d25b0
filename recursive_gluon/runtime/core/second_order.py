"""Calls of a block whose gradient has a gradient: on MXNet's tape as operators that call back (docs/design/0006).

The outputs are computed in the caller's thread, where mistakes in the data are raised. The gradient and its gradient
are computed when MXNet asks for them, from the arrays that it then hands over: nothing is kept from run to run, so a
tape may be walked as often as one likes.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ... import native
from ..._compat import mx
from ..arrays import call as invoke
from ..arrays import host_view, memory, run_ops
from ..executor import NODES, ROOTS, Call
from ..failures import keep
from .binding import Recompute
from .calls import ALL_OUTPUTS
from .second_programs import Arrays, SecondPrograms

__all__ = ["SecondOrderCaller"]

_OPERATOR = "recursive_gluon_call"
#: calls that a tape still holds, by ticket
_calls: Dict[int, "_TapeCall"] = {}
_tickets = itertools.count(1)


class SecondOrderCaller:
    """What does not change from call to call; used as ``CoreCaller`` is.

    Raises
    ------
    SecondOrderError
        The body has no second-order gradient, or none on the core.
    """

    def __init__(self, call: Call, recompute: Recompute):
        self.programs = SecondPrograms(call, recompute)
        self.call, self.random = call, call.program.random
        _library()

    def __call__(self, forest: Any, args: Sequence[Any], ints: Sequence[int], seed: int, nodes: bool, max_nodes: int,
                 max_depth: int, only: int = ALL_OUTPUTS) -> List[Any]:
        """The outputs, or the one that is asked for, and the counts of a grown structure; recorded."""
        programs = self.programs
        call = replace(self.call, structure=forest.structure, fields=dict(zip(forest.fields, forest[1:])),
                       args=list(args), ints=tuple(ints), seed=seed, returns=NODES if nodes else ROOTS,
                       max_nodes=max_nodes, max_depth=max_depth)
        values = {f"@{name}": array for name, array in call.params.items()}
        run_ops(programs.lifted, values)
        # An operator of lib_api's never learns that a gradient is to be added, nor that others add to it: the copies
        # stand between it and all that is not its own.
        inputs = [invoke("_copy", (array,), {}) for array in (
            *(values[f"@{name}"] for name in programs.floats), *(call.fields[name] for name in programs.fields),
            *call.args)]
        tape = _TapeCall(programs, call, {n: values[f"@{n}"] for n in programs.constants}, inputs)
        outputs, counts = tape.forward([host_view(a) for a in inputs])
        attrs = {"inputs": str(1 + len(inputs)), "types": ",".join(_TYPES[str(out.dtype)] for out in outputs),
                 "shapes": ";".join(",".join(map(str, out.shape)) for out in outputs)}
        made = invoke(_OPERATOR, (tape.ticket(outputs), *inputs), attrs)
        made = [made] if isinstance(made, mx.nd.NDArray) else made
        made = [invoke("_copy", (out,), {}) for out in (made if only == ALL_OUTPUTS else [made[only]])]
        return made + ([mx.nd.array(counts, ctx=call.ctx, dtype="int32")] if call.max_nodes else [])


_TYPES = {"float32": "0", "float64": "1"}


class _TapeCall:
    """One call as the operators see it: host arrays in, host arrays out."""

    def __init__(self, programs: SecondPrograms, call: Call, constants: Dict[str, Any], inputs: Sequence[Any]):
        self.programs = programs
        others = [name for name in programs.primal.core.encoded.fields if name not in programs.fields]
        self.fields = {name: host_view(call.fields[name]).copy() for name in others}
        self.constants = {name: host_view(array).copy() for name, array in constants.items()}
        self.call = replace(call, fields={}, params={}, args=())
        self.layout = [(a.shape, np.dtype(a.dtype)) for a in inputs]
        self.results: List[np.ndarray] = []

    def ticket(self, results: List[np.ndarray]) -> Any:
        """An input of the operator that tells its call: when MXNet lets go of it, the call goes too."""
        self.results, number = results, np.array([next(_tickets)], np.int64)
        self.outputs = [(out.shape, out.dtype) for out in results]
        _calls[int(number[0])] = self
        weakref.finalize(number, _calls.pop, int(number[0]), None).atexit = False
        return mx.nd.from_numpy(number, zero_copy=True)

    def _named(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """The operator's inputs, or directions for them, by name."""
        left = iter(arrays)
        params = dict(zip(self.programs.floats, left))
        fields = {name: next(left) for name in self.programs.fields}
        return Arrays(params, fields, list(left))

    def _at(self, inputs: Sequence[np.ndarray]) -> Arrays:
        given = self._named(inputs)
        return Arrays({**self.constants, **given.params}, {**self.fields, **given.fields}, given.args)

    def _in_order(self, found: Arrays) -> Iterator[Any]:
        """Gradients in the order of the operator's inputs, None for zero."""
        yield from (found.params.get(name) for name in self.programs.floats)
        yield from (found.fields.get(name) for name in self.programs.fields)
        yield from found.args

    # -- what the operators compute --------------------
    def forward(self, inputs: Sequence[np.ndarray]) -> Tuple[List[np.ndarray], Any]:
        run, outputs = self.programs.primal.run(self.call, self._at(inputs))
        counts = run.counts() if self.call.max_nodes else None
        run.release()
        return outputs, counts

    def gradient(self, ograds: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> Iterator[Any]:
        """J' u."""
        primal, at = self.programs.primal, self._at(inputs)
        run, _ = primal.run(self.call, at)
        found = primal.gradients(run, ograds, at)
        run.release()
        return self._in_order(found)

    def second(self, along: Sequence[np.ndarray], ograds: Sequence[np.ndarray], inputs: Sequence[np.ndarray],
               ) -> Tuple[List[Any], Iterator[Any]]:
        """Gradients of v' J' u by u, which is J v, and by the inputs."""
        programs = self.programs
        tangent = programs.tangent
        at = programs.directed(self._at(inputs), self._named(along))
        run, outputs = tangent.run(self.call, at)
        heads: List[np.ndarray] = []
        by_ograd: List[Any] = []
        for u, moves in zip(ograds, programs.moves):
            heads.append(np.zeros_like(u))
            by_ograd.append(outputs[len(heads)] if moves else None)
            heads += [u] * moves
        found = tangent.gradients(run, heads, at)
        run.release()
        return by_ograd, self._in_order(found._replace(args=programs.primal_args(found.args)))


# -- the operators' callback ------------------------------------------------------------------------------------------
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int,
                  ctypes.POINTER(ctypes.c_void_p), ctypes.c_int)
def _compute(what: int, ticket: int, inputs: Any, num_inputs: int, outputs: Any, num_outputs: int) -> int:
    """What an operator computes, on a thread of MXNet's: no call of MXNet's may be made here, it could wait for us."""
    try:
        call = _calls[ticket]
        _OPERATORS[what](call, [inputs[i] for i in range(num_inputs)], [outputs[i] for i in range(num_outputs)])
        return 0
    except BaseException as error:  # noqa: BLE001  raised where MXNet says that the operator failed
        keep(error)
        return 1


def _outputs(call: _TapeCall, inputs: List[int], outputs: List[int]) -> None:
    for (shape, dtype), where, value in zip(call.outputs, outputs, call.results):
        _write(where, shape, dtype, value)
    call.results = []


def _gradient(call: _TapeCall, inputs: List[int], outputs: List[int]) -> None:
    m, n = len(call.outputs), len(call.layout)
    found = call.gradient(_read(inputs[:m], call.outputs), _read(inputs[m + 1:m + 1 + n], call.layout))
    _give(outputs, [None, *found], [_TICKET, *call.layout])


def _second(call: _TapeCall, inputs: List[int], outputs: List[int]) -> None:
    m, n = len(call.outputs), len(call.layout)
    along, inputs = inputs[1:1 + n], inputs[1 + n:]
    by_ograd, by_input = call.second(_read(along, call.layout), _read(inputs[:m], call.outputs),
                                     _read(inputs[m + 1:m + 1 + n], call.layout))
    _give(outputs, [*by_ograd, None, *by_input, *[None] * m], [*call.outputs, _TICKET, *call.layout, *call.outputs])


_OPERATORS = (_outputs, _gradient, _second)
_TICKET: Tuple[Tuple[int, ...], Any] = ((1,), np.dtype(np.int64))


def _read(places: Sequence[int], layout: Sequence[Tuple[Tuple[int, ...], Any]]) -> List[np.ndarray]:
    return [memory(where, shape, dtype) for where, (shape, dtype) in zip(places, layout)]


def _give(places: Sequence[int], values: Sequence[Any], layout: Sequence[Tuple[Tuple[int, ...], Any]]) -> None:
    for where, value, (shape, dtype) in zip(places, values, layout):
        _write(where, shape, dtype, value)


def _write(where: int, shape: Tuple[int, ...], dtype: Any, value: Any) -> None:
    to = memory(where, shape, dtype)
    to[...] = 0 if value is None or dtype.kind != "f" else value.reshape(shape)


def _library() -> None:
    """The operators, loaded once, and told whom to call."""
    native.operator_library().rg_operator_callback(_compute)
