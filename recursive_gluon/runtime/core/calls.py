"""Calls of a block on the core in the caller's thread: no graph, no engine; the gradient goes on MXNet's tape."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mxnet.base import NDArrayHandle

from ..._compat import mx
from ...program.expr import Expr
from ...program.ir import Branch
from ...schedule.faults import deciding
from ..arrays import host_view
from ..executor import Call
from ..recipes import compiled
from .binding import FIELD_TYPES, Recompute, failure, pointers, recompute_code
from .devices import lanes_for
from .programs import Lanes, core_program, hoisted

__all__ = ["CoreCaller", "ALL_OUTPUTS"]

_i32, _i64, _p = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
#: MXNet's numbers of the types that outputs have
_TYPES = {"float32": 0, "float64": 1}
#: in place of the one output that is asked for
ALL_OUTPUTS = -1


class _CallerArgs(ctypes.Structure):
    """The same layout as CallerArgs of native/src/mxnet_api.cpp."""

    _fields_ = [
        *((name, _p) for name in ("shared", "tables", "shared_wanted", "table_wanted", "fields", "field_taped",
                                  "field_types", "field_cols", "output_ndims", "output_dims", "embeddings")),
        ("recompute", _i64),
        ("lane_library", ctypes.c_char_p),
        *((name, _i32) for name in ("num_fields", "num_outputs", "type", "device_type", "device", "record", "lanes")),
    ]


class _Invocation(ctypes.Structure):
    """The same layout as Invocation of native/src/mxnet_api.cpp."""

    _fields_ = [
        *((name, _p) for name in ("structure", "arrays", "args", "computed", "ints")),
        *((name, _i64) for name in ("max_depth", "max_nodes")),
        ("seed", ctypes.c_uint64),
        *((name, _i32) for name in ("num_args", "num_ints", "returns_nodes", "only")),
    ]


class CoreCaller:
    """What does not change from call to call: the core's program, the parameters' handles.

    `call` is one such call, `gradients` the names of the parameters that want one; `lanes` work on the call's arrays
    where they lie.
    """

    def __init__(self, call: Call, gradients: Sequence[str], recompute: Recompute, lanes: Lanes):
        self.code = compiled(call)
        program, _ = core_program(self.code)
        assert program is not None
        self.program, encoded = program, program.encoded
        for name in encoded.deciding:
            deciding(name, host_view(call.fields[name]))
        self.random = call.program.random
        self.params = dict(call.params)
        wanted = set(gradients)
        tables = [self.params[name] for name in encoded.tables]
        # What bodies compute from parameters alone is computed again for each call, by MXNet's operators.
        self.hoisted = any(function for function, _ in encoded.shared)
        shared = [None if function else self.params[name[1:]] for function, name in encoded.shared]
        fields = [call.fields[name] for name in encoded.fields]
        places = {name: i for i, name in enumerate(call.fields)}
        integers: Dict[str, List[int]] = {
            "shared_wanted": [bool(function) or name[1:] in wanted for function, name in encoded.shared],
            "table_wanted": [name in wanted for name in encoded.tables],
            "fields": [1 + places[name] for name in encoded.fields],
            "field_taped": [bool(cols) and np.dtype(f.dtype).kind == "f"
                            for f, cols in zip(fields, encoded.field_cols)],
        }
        longs: Dict[str, List[int]] = {
            "field_types": [FIELD_TYPES[np.dtype(f.dtype).name] for f in fields],
            "field_cols": [int(np.prod(f.shape[1:], dtype=np.int64)) for f in fields],
            "output_ndims": [len(shape) for shape, _ in encoded.outputs],
            "output_dims": [n for shape, _ in encoded.outputs for n in shape],
        }
        texts: List[Optional[bytes]] = []  # key, value, ..., None; a table each
        for name, table in zip(encoded.tables, tables):
            attrs: Dict[str, Any] = {
                "input_dim": table.shape[0], "output_dim": table.shape[1], "dtype": np.dtype(table.dtype).name,
                "sparse_grad": call.program.by_name[name].sparse_grad}
            texts += [str(word).encode() for item in attrs.items() for word in item] + [None]
        arrays: Dict[str, Any] = {
            "shared": pointers([0 if a is None else a.handle.value for a in shared]),
            "tables": pointers([a.handle.value for a in tables]),
            **{name: (_i32 * max(len(values), 1))(*values) for name, values in integers.items()},
            **{name: (_i64 * max(len(values), 1))(*values) for name, values in longs.items()},
            "embeddings": (ctypes.c_char_p * max(len(texts), 1))(*texts),  # type: ignore[arg-type]
        }
        args = _CallerArgs(
            **{name: ctypes.addressof(array) for name, array in arrays.items()}, num_fields=len(fields),
            num_outputs=len(encoded.outputs), type=_TYPES[encoded.dtype], device_type=call.ctx.device_typeid,
            device=call.ctx.device_id, record=call.keep, recompute=recompute_code(recompute), lanes=lanes.number,
            lane_library=lanes.library)
        assert program.lib is not None
        self.lib: ctypes.CDLL = program.lib
        self.outputs = len(encoded.outputs)
        self.handle = self.lib.rg_caller_new(program.handle, ctypes.byref(args))
        if not self.handle:
            raise self._failure(None, 0, 0)
        weakref.finalize(self, self.lib.rg_caller_free, self.handle)

    @classmethod
    def of(cls, call: Call, gradients: Sequence[str], recompute: Recompute, lanes: int,
           ) -> Tuple[Optional["CoreCaller"], str]:
        """A caller for calls like `call`, or None and why the core cannot run them; `lanes` are asked for, 0: none."""
        given, why = lanes_for(call, lanes, recompute)
        if not why and call.keep:
            program, _ = core_program(compiled(call))
            assert program is not None
            if program.encoded.tables and not _all_planned(program):
                why = "what it looks up depends on values that are computed"
        return (None, why) if why else (cls(call, gradients, recompute, given), "")

    def __call__(self, forest: Any, args: Sequence[Any], ints: Sequence[int], seed: int, nodes: bool, max_nodes: int,
                 max_depth: int, only: int = ALL_OUTPUTS) -> List[Any]:
        """The outputs, or the one that is asked for, and the counts of a grown structure; recorded if gradients are on.

        Raises
        ------
        Unseen
            A path that was never traced.
        """
        structure = forest.in_core(self.lib)
        if structure is None:
            raise self._failure(forest, max_nodes, max_depth)
        arrays = (_p * len(forest))(*[array.handle.value for array in forest])
        outs = (_p * (self.outputs + 1))()
        invocation = _Invocation(structure.handle, ctypes.addressof(arrays), max_depth=max_depth, max_nodes=max_nodes,
                                 returns_nodes=nodes, only=only)
        alive: List[Any] = []
        if args or ints or self.hoisted or self.random:
            computed = hoisted(self.code, self.program.encoded, self.params) if self.hoisted else []
            more = [pointers([a.handle.value for a in args]),
                    pointers([0 if a is None else a.handle.value for a in computed]),
                    (_i64 * max(len(ints), 1))(*ints)]
            invocation.args, invocation.computed, invocation.ints = (ctypes.addressof(a) for a in more)
            invocation.num_args, invocation.num_ints = len(args), len(ints)
            invocation.seed = seed & 0xFFFFFFFFFFFFFFFF
            alive = [computed, more]
        if self.lib.rg_invoke(self.handle, ctypes.byref(invocation), outs) != 0:
            raise self._failure(forest, max_nodes, max_depth)
        del alive
        count = (self.outputs if only == ALL_OUTPUTS else 1) + bool(max_nodes)
        nd = mx.nd.NDArray
        return [nd(NDArrayHandle(outs[i])) for i in range(count)]

    def _failure(self, forest: Any, max_nodes: int, max_depth: int) -> BaseException:
        return failure(self.program.recipe, forest and forest.structure, max_nodes, max_depth)


def _all_planned(program: Any) -> bool:
    """Whether structure alone decides, so that what is looked up is known before anything is computed."""
    return all(isinstance(info.end.test, Expr) for info in program.recipe.blocks if isinstance(info.end, Branch))
