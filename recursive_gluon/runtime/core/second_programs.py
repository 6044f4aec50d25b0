"""The programs of calls whose gradient has a gradient: the primal one, and the one with tangents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ...errors import SecondOrderError
from ...program.ir import Program
from ...program.passes.lift import lift
from ...program.passes.tangents import tangent_name, tangents
from ..executor import Call
from ..recipes import compiled, specialized
from .binding import Recompute
from .host_run import HostRun
from .programs import CoreProgram, core_program, why_not

__all__ = ["Arrays", "HostProgram", "SecondPrograms"]


class Arrays(NamedTuple):
    """What a run reads, by name and by place, on the host."""

    params: Mapping[str, np.ndarray]
    fields: Mapping[str, np.ndarray]
    args: Sequence[np.ndarray]


class HostProgram(NamedTuple):
    """A program in the core, and the call that it was made for."""

    program: Program
    core: CoreProgram
    recompute: Recompute

    def run(self, call: Call, arrays: Arrays) -> Tuple[HostRun, List[np.ndarray]]:
        """A run and its outputs."""
        encoded = self.core.encoded

        def given(values: Any) -> List[np.ndarray]:
            return [np.ascontiguousarray(a, encoded.dtype) for a in values]

        run = HostRun(self.core, replace(call, program=self.program), arrays.fields, self.recompute)
        return run, run.forward(given(arrays.params[name[1:]] for _, name in encoded.shared),
                                given(arrays.params[name] for name in encoded.tables), given(arrays.args))

    def gradients(self, run: HostRun, ograds: Sequence[np.ndarray], like: Arrays) -> Arrays:
        """The gradients of all that the run read; what is missing is zero."""
        encoded = self.core.encoded
        found = run.backward([np.ascontiguousarray(g, encoded.dtype) for g in ograds])
        params = {name[1:]: grad for (_, name), grad in zip(encoded.shared, found.shared)}
        for name, index, rows in zip(encoded.tables, found.rows, found.tables):
            params[name] = np.zeros(like.params[name].shape, rows.dtype)
            np.add.at(params[name], index, rows)
        fields = {name: grad for name, grad in zip(encoded.fields, found.fields) if grad is not None}
        return Arrays(params, fields, found.args)


class SecondPrograms:
    """What calls like `call` run: `primal`, `tangent`, and `lifted`, the operators that come before.

    `floats` and `fields` are the names of parameters and fields with tangents, `constants` the other parameters;
    `moving_args` and `moves` say which arguments and outputs have tangents.

    Raises
    ------
    SecondOrderError
        An operator has no second order, or the core cannot run one of the programs.
    """

    def __init__(self, call: Call, recompute: Recompute):
        lifted = lift(*specialized(call))
        self.lifted = lifted.ops
        shapes = {p.name: _like(p.shape, p.dtype) for p in lifted.program.params if p.name not in call.params}
        base = replace(call, program=lifted.program, params={**call.params, **shapes})
        program, types = specialized(base)
        self.primal = HostProgram(lifted.program, _in_core(base), recompute)
        self.floats = [p.name for p in program.params if p.dtype.startswith("float") and not p.state]
        self.constants = [p.name for p in program.params if p.name not in self.floats]
        read = self.primal.core.encoded.fields
        self.fields = [name for name in read if np.dtype(base.fields[name].dtype).kind == "f"]
        self.moving_args = [np.dtype(a.dtype).kind == "f" for a in call.args]
        made = tangents(program, types)
        self.moves = made.outputs
        params, fields = dict(base.params), dict(base.fields)
        params.update((tangent_name(n), _like(params[n].shape, params[n].dtype)) for n in self.floats)
        fields.update((tangent_name(n), _like(fields[n].shape, fields[n].dtype)) for n in self.fields)
        args = self._woven(call.args, call.args)
        self.tangent = HostProgram(made.program, _in_core(replace(
            base, program=made.program, params=params, fields=fields, args=args)), recompute)

    def _woven(self, args: Sequence[Any], directions: Sequence[Any]) -> List[Any]:
        """Arguments, each with its tangent behind it."""
        return [x for a, v, moves in zip(args, directions, self.moving_args) for x in ((a, v) if moves else (a,))]

    def directed(self, at: Arrays, along: Arrays) -> Arrays:
        """What the tangent program reads: values, and the directions in which they move."""
        params = {**at.params, **{tangent_name(n): a for n, a in along.params.items()}}
        fields = {**at.fields, **{tangent_name(n): a for n, a in along.fields.items()}}
        return Arrays(params, fields, self._woven(at.args, along.args))

    def primal_args(self, args: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Of woven arguments those that are no tangents."""
        found = iter(args)
        result = []
        for moves in self.moving_args:
            result.append(next(found))
            if moves:
                next(found)
        return result


def _like(shape: Any, dtype: Any) -> np.ndarray:
    """An array of no size in memory, for its shape and type."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _in_core(call: Call) -> CoreProgram:
    why = why_not(call)
    if why:
        raise SecondOrderError(f"second-order gradients need the native core, which cannot run this: {why}")
    program, _ = core_program(compiled(call))
    assert program is not None
    for function, _ in program.encoded.shared:
        if function:
            ops = compiled(call).recipe.shared_ops[function]
            names = dict.fromkeys(f"{op.op} at {op.where}" for op in ops)
            raise SecondOrderError(f"second-order gradients of what {function} computes from parameters alone are not "
                                   f"known ({', '.join(names)}); compute it before the call and pass it as an argument")
    return program
