"""The *native* executor behind the interface that all executors share: inside the InvokeOp, and in the tests."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ..._compat import mx
from ..arrays import address, embedding_grad, host_view, run_ops
from ..executor import Call, Gradients, Result
from ..recipes import compiled
from .binding import pointers
from .programs import CoreRun, core_program

__all__ = ["NativeRun", "run"]


def run(call: Call) -> Result:
    """Run a call on the core; the caller has asked :func:`~.programs.why_not`."""
    return NativeRun(call).forward()


class NativeRun(Result):
    """One call: its run in the core, and the arrays that the run reads."""

    def __init__(self, call: Call, recompute: bool = False, trace: bool = False):
        super().__init__([])
        self.call, self.code = call, compiled(call)
        program, why = core_program(self.code)
        if program is None:
            raise RuntimeError(f"the native core cannot run this: {why}")
        self.program = program
        fields = {name: host_view(call.fields[name]) for name in program.encoded.fields}
        self.run = CoreRun(program, call, fields, recompute, trace)

    def release(self) -> None:
        self.run.release()

    # -- forward --------------------
    def forward(self) -> Result:
        call, encoded, run = self.call, self.program.encoded, self.run
        self.shared = self._shared()
        self.args = [a if np.dtype(a.dtype).name == encoded.dtype else a.astype(encoded.dtype) for a in call.args]
        tables = [call.params[name] for name in encoded.tables]
        for array in (*self.shared, *self.args, *tables):
            array.wait_to_read()
        self.alive = (self.shared, self.args, tables)
        run.check(run.lib.rg_run_forward(
            run.handle, pointers([address(a) for a in self.shared]), pointers([address(a) for a in tables]),
            pointers([address(a) for a in self.args]), call.seed & 0xFFFFFFFFFFFFFFFF))
        rows = call.structure.num_trees * call.max_nodes if call.max_nodes else run.lib.rg_run_rows(run.handle)
        for j, (shape, dtype) in enumerate(encoded.outputs):
            lead = (call.structure.num_trees, call.max_nodes) if call.max_nodes else (rows,)
            fill = partial(run.lib.rg_run_output, run.handle, j)
            self.outputs.append(self._array((*lead, *shape), dtype, fill))
        if call.max_nodes:
            fill = partial(run.lib.rg_run_counts, run.handle)
            self.count = self._array((call.structure.num_trees,), "int32", fill)
        self.statistics = {"rounds": run.figure(0), "batches": run.figure(1)}
        if not call.keep:
            self.release()
        return self

    def _array(self, shape: Tuple[int, ...], dtype: str, fill) -> Any:
        out = np.empty(shape, dtype)
        self.run.check(fill(out.ctypes.data))
        return mx.nd.array(out, ctx=self.call.ctx, dtype=dtype) if out.size else mx.nd.zeros(shape, dtype=dtype)

    def _shared(self) -> List[Any]:
        """Parameters, and what bodies compute from parameters alone by MXNet's operators."""
        made: Dict[str, Dict[str, Any]] = {}
        arrays = []
        for function, name in self.program.encoded.shared:
            if not function:
                arrays.append(self.call.params[name[1:]])
                continue
            if function not in made:
                made[function] = {f"@{n}": a for n, a in self.call.params.items()}
                run_ops(self.code.recipe.shared_ops[function], made[function])
            arrays.append(made[function][name])
        return arrays

    # -- backward --------------------
    def backward(self, ograds: Sequence[Any]) -> Gradients:
        call, encoded, run = self.call, self.program.encoded, self.run
        n = call.structure.num_nodes
        shared = [np.empty(a.shape, encoded.dtype) for a in self.shared]
        tables = [np.zeros((max(run.lookups(t), 1), call.params[name].shape[1]), encoded.dtype)
                  for t, name in enumerate(encoded.tables)]
        fields = [np.zeros((n, cols), encoded.dtype) if cols and self._floating(name) else None
                  for name, cols in zip(encoded.fields, encoded.field_cols)]
        args = [np.zeros(a.shape, encoded.dtype) for a in self.args]
        given = [host_view(g) for g in ograds]
        flat: List[Any] = [*shared, *tables, *fields, *args]
        counts = np.array([len(shared), len(tables), len(fields), len(args)], np.int64)
        requests = np.array([0 if a is None else 1 for a in flat], np.int32)
        run.check(run.lib.rg_run_backward(
            run.handle, pointers([g.ctypes.data for g in given]), counts.ctypes.data,
            pointers([0 if a is None else a.ctypes.data for a in flat]), requests.ctypes.data))
        gradients = Gradients()
        self._give_shared(gradients, shared)
        for t, name in enumerate(encoded.tables):
            if run.lookups(t):
                gradients.params[name] = self._table_gradient(t, name, tables[t])
        for name, grad in zip(encoded.fields, fields):
            if grad is not None:
                gradients.fields[name] = mx.nd.array(grad.reshape(call.fields[name].shape), dtype=encoded.dtype)
        gradients.args = [mx.nd.array(g, dtype=encoded.dtype) for g in args]
        return gradients

    def _floating(self, name: str) -> bool:
        return np.dtype(self.call.fields[name].dtype).kind == "f"

    def _table_gradient(self, table: int, name: str, rows: np.ndarray) -> Any:
        param = self.call.params[name]
        sparse = self.call.program.by_name[name].sparse_grad
        attrs = {"input_dim": str(param.shape[0]), "output_dim": str(param.shape[1]), "sparse_grad": str(sparse)}
        index = np.empty(len(rows), np.int32)
        self.run.look_up(table, index.ctypes.data, len(rows))
        return embedding_grad(mx.nd.array(index, dtype="int32"), mx.nd.array(rows, dtype=rows.dtype), attrs, param)

    def _give_shared(self, gradients: Gradients, grads: List[np.ndarray]) -> None:
        """Gradients of parameters; those of what was computed from parameters go through MXNet's autograd."""
        through: Dict[str, List[Tuple[str, np.ndarray]]] = {}
        for (function, name), grad in zip(self.program.encoded.shared, grads):
            if function:
                through.setdefault(function, []).append((name, grad))
            else:
                _add(gradients, name[1:], mx.nd.array(grad, dtype=grad.dtype))
        for function, heads in through.items():
            values = {f"@{n}": a.detach() for n, a in self.call.params.items()}
            ops = [op for op in self.code.recipe.shared_ops[function]]
            leaves = {v for op in ops for v in op.inputs if v.startswith("@")}
            for v in leaves:
                values[v].attach_grad()
            with mx.autograd.record():
                run_ops(ops, values)
            reached = [(values[v], mx.nd.array(g, dtype=g.dtype)) for v, g in heads]
            mx.autograd.backward([v for v, _ in reached], [g for _, g in reached])
            for v in leaves:
                _add(gradients, v[1:], values[v].grad)


def _add(gradients: Gradients, name: str, grad: Any) -> None:
    old = gradients.params.get(name)
    gradients.params[name] = grad if old is None else old + grad
