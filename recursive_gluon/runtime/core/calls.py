"""Calls of a block on the core in the caller's thread: no graph, no engine; the gradient goes on MXNet's tape."""

from __future__ import annotations

import ctypes
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mxnet.base import _LIB, NDArrayHandle

from ..._compat import mx
from ..arrays import address, host_view, run_ops
from ..arrays import call as invoke
from ..executor import Call
from ..recipes import compiled
from .binding import pointers
from .programs import CoreRun, core_program, why_not

__all__ = ["CallArgs", "CoreCaller"]

_i32, _p = ctypes.c_int32, ctypes.c_void_p
#: parts of the inputs on the tape, as native/src/mxnet_api.cpp numbers them
_SHARED, _TABLE, _FIELD, _ARG = range(4)
#: MXNet's numbers of types
_FLOAT32, _FLOAT64, _INT32 = 0, 1, 4


class CallArgs(ctypes.Structure):
    """The arguments of a call; the same layout as CallArgs of native/src/mxnet_api.cpp."""

    _fields_ = [
        *((name, _p) for name in ("shared", "tables", "args", "outs")),
        *((name, _i32) for name in ("num_shared", "num_tables", "num_args", "num_outs", "looked_up", "record")),
        ("seed", ctypes.c_uint64),
        *((name, _p) for name in ("inputs", "part", "index")),
        *((name, _i32) for name in ("num_inputs", "num_fields")),
    ]


class CoreCaller:
    """What does not change from call to call: the core's program, the parameters' handles.

    `arrays` are the parameters on the call's context, `gradients` the names of those that want one.
    """

    def __init__(self, call: Call, gradients: Sequence[str], recompute: bool):
        program, _ = core_program(compiled(call))
        assert program is not None
        self.program = program
        encoded, self.keep, self.recompute = self.program.encoded, call.keep, recompute
        self.random = call.program.random
        self.code = compiled(call)
        self.params = dict(call.params)
        self.tables = [self.params[name] for name in encoded.tables]
        self.hoisted = [i for i, (function, _) in enumerate(encoded.shared) if function]
        self.shared = [None if function else self.params[name[1:]] for function, name in encoded.shared]
        self.wanted = set(gradients)
        self.shared_handles = _handles(self.shared)
        self.table_handles = _handles(self.tables)
        self.float_fields = [
            (name, f) for f, (name, cols) in enumerate(zip(encoded.fields, encoded.field_cols))
            if cols and np.dtype(call.fields[name].dtype).kind == "f"
        ]
        self.embeddings = [
            {"input_dim": str(table.shape[0]), "output_dim": str(table.shape[1]), "dtype": np.dtype(table.dtype).name,
             "sparse_grad": str(call.program.by_name[name].sparse_grad)}
            for name, table in zip(encoded.tables, self.tables)
        ]

    @classmethod
    def of(cls, call: Call, gradients: Sequence[str], recompute: bool) -> Tuple[Optional["CoreCaller"], str]:
        """A caller for calls like `call`, or None and why the core cannot run them."""
        why = why_not(call)
        if not why and call.keep:
            program, _ = core_program(compiled(call))
            assert program is not None
            if program.encoded.tables and not all_planned(program):
                why = "what it looks up depends on values that are computed"
        return (None, why) if why else (cls(call, gradients, recompute), "")

    def __call__(self, call: Call) -> List[Any]:
        """The outputs (and the counts of a grown structure), recorded if gradients are on."""
        program, encoded = self.program, self.program.encoded
        fields = {name: host_view(call.fields[name]) for name in encoded.fields}
        run = CoreRun(program, call, fields, self.recompute)
        tables, looked_up = self.table_handles, False
        inputs: List[Any] = []
        places: List[Tuple[int, int]] = []
        if self.keep and self.tables:
            rows = self._look_up(run)
            tables, looked_up = _handles(rows), True
            for t, (name, array) in enumerate(zip(encoded.tables, rows)):
                if name in self.wanted:
                    inputs.append(array)
                    places.append((_TABLE, t))
        shared, handles = self.shared, self.shared_handles
        if self.hoisted:
            shared = self._hoist()
            handles = _handles(shared)
        if self.keep:
            for i, (array, (function, name)) in enumerate(zip(shared, encoded.shared)):
                if function or name[1:] in self.wanted:
                    inputs.append(array)
                    places.append((_SHARED, i))
            for name, f in self.float_fields:
                inputs.append(call.fields[name])
                places.append((_FIELD, f))
            for i, array in enumerate(call.args):
                inputs.append(array)
                places.append((_ARG, i))
        outputs = self._outputs(run, call)
        part = (_i32 * max(len(places), 1))(*(p for p, _ in places))
        index = (_i32 * max(len(places), 1))(*(i for _, i in places))
        keep_alive = args_handles, out_handles, input_handles = _handles(call.args), _handles(outputs), _handles(inputs)
        args = CallArgs(
            ctypes.addressof(handles), ctypes.addressof(tables), ctypes.addressof(args_handles),
            ctypes.addressof(out_handles), len(shared), len(self.tables), len(call.args), len(outputs), looked_up,
            bool(inputs), call.seed & 0xFFFFFFFFFFFFFFFF, ctypes.addressof(input_handles), ctypes.addressof(part),
            ctypes.addressof(index), len(inputs), len(encoded.fields))
        taken = _i32()
        result = run.lib.rg_call(run.handle, ctypes.byref(args), ctypes.byref(taken))
        del keep_alive
        counts = []
        if result == 0 and call.max_nodes:
            count = np.empty(call.structure.num_trees, np.int32)
            run.check(run.lib.rg_run_counts(run.handle, count.ctypes.data))
            counts = [mx.nd.array(count, ctx=call.ctx, dtype="int32")]
        if taken.value:
            run.handle = None  # the tape's now
        if result != 0:
            raise run.error()
        run.release()
        return outputs + counts

    def _look_up(self, run: CoreRun) -> List[Any]:
        """The rows of embedding tables by MXNet's own operator: its gradient is the user's, sparse or dense."""
        rows = []
        for t, table in enumerate(self.tables):
            count = run.lookups(t)
            index = _empty((max(count, 1),), table.context, _INT32)
            # Of no rows one that nobody reads: the table's gradient is zero, not missing.
            run.look_up(t, address(index), count)
            rows.append(invoke("Embedding", (index, table), self.embeddings[t]))
        return rows

    def _hoist(self) -> List[Any]:
        """What bodies compute from parameters alone, by MXNet's operators, on its tape."""
        made: Dict[str, Dict[str, Any]] = {}
        shared = list(self.shared)
        for i in self.hoisted:
            function, name = self.program.encoded.shared[i]
            if function not in made:
                made[function] = {f"@{n}": a for n, a in self.params.items()}
                run_ops(self.code.recipe.shared_ops[function], made[function])
            shared[i] = made[function][name]
        return shared

    def _outputs(self, run: CoreRun, call: Call) -> List[Any]:
        if call.max_nodes:
            lead: Tuple[int, ...] = (call.structure.num_trees, call.max_nodes)
        elif not run.planned:
            # Roots: as many as trees. All nodes: every one is visited once, or the call fails.
            lead = (call.structure.num_trees if call.returns == "roots" else call.structure.num_nodes,)
        else:
            lead = (run.lib.rg_run_rows(run.handle),)
        dtype = _FLOAT32 if self.program.encoded.dtype == "float32" else _FLOAT64
        return [_empty((*lead, *shape), call.ctx, dtype) for shape, _ in self.program.encoded.outputs]


def all_planned(program: Any) -> bool:
    """Whether structure alone decides, so that what is looked up is known before anything is computed."""
    from ...program.expr import Expr
    from ...program.ir import Branch

    return all(isinstance(info.end.test, Expr) for info in program.recipe.blocks if isinstance(info.end, Branch))


def _handles(arrays: Sequence[Any]) -> Any:
    return pointers([0 if a is None else a.handle.value for a in arrays])


def _empty(shape: Tuple[int, ...], ctx: Any, dtype: int) -> Any:
    """``mx.nd.empty`` without what it looks up."""
    handle = NDArrayHandle()
    _LIB.MXNDArrayCreateEx64((ctypes.c_int64 * len(shape))(*shape), len(shape), ctx.device_typeid, ctx.device_id, 0,
                             dtype, ctypes.byref(handle))
    return mx.nd.NDArray(handle)
