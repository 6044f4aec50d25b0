"""The *native* executor behind the interface that all executors share: inside the InvokeOp, and in the tests."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from ..._compat import mx
from ..arrays import embedding_grad, host_view, run_ops
from ..executor import Call, Gradients, Result
from ..recipes import compiled
from .binding import Recompute
from .host_run import HostRun
from .programs import WORKERS, Lanes, core_program, hoisted

__all__ = ["NativeRun", "run"]


def run(call: Call) -> Result:
    """Run a call on the core; the caller has asked :func:`~.programs.why_not`."""
    return NativeRun(call).forward()


class NativeRun(Result):
    """One call: its run in the core, and the arrays that the run reads."""

    def __init__(self, call: Call, recompute: Recompute = False, trace: bool = False, lanes: Lanes = WORKERS):
        super().__init__([])
        self.call, self.code = call, compiled(call)
        program, why = core_program(self.code)
        if program is None:
            raise RuntimeError(f"the native core cannot run this: {why}")
        self.program = program
        fields = {name: host_view(call.fields[name]) for name in program.encoded.fields}
        self.host = HostRun(program, call, fields, recompute, trace, lanes)
        self.run = self.host.run

    def release(self) -> None:
        self.host.release()

    # -- forward --------------------
    def forward(self, hold: bool = False) -> Result:
        """`hold`: keep the run in the core, whose plan and spans will be read, until :meth:`release`."""
        call, encoded = self.call, self.program.encoded
        args = [a if np.dtype(a.dtype).name == encoded.dtype else a.astype(encoded.dtype) for a in call.args]
        self.alive = shared, args, tables = self._shared(), args, [call.params[name] for name in encoded.tables]
        outputs = self.host.forward(*([host_view(a) for a in arrays] for arrays in (shared, tables, args)))
        self.outputs = [self._array(out) for out in outputs]
        if call.max_nodes:
            self.count = self._array(self.host.counts())
        self.statistics = {"rounds": self.run.figure(0), "batches": self.run.figure(1)}
        if not (call.keep or hold):
            self.release()
        return self

    def _array(self, out: np.ndarray) -> Any:
        dtype = out.dtype
        return mx.nd.array(out, ctx=self.call.ctx, dtype=dtype) if out.size else mx.nd.zeros(out.shape, dtype=dtype)

    def _shared(self) -> List[Any]:
        """Parameters, and what bodies compute from parameters alone by MXNet's operators."""
        encoded, params = self.program.encoded, self.call.params
        return [params[name[1:]] if array is None else array
                for (_, name), array in zip(encoded.shared, hoisted(self.code, encoded, params))]

    # -- backward --------------------
    def backward(self, ograds: Sequence[Any]) -> Gradients:
        call, encoded = self.call, self.program.encoded
        found = self.host.backward([host_view(g) for g in ograds])
        gradients = Gradients()
        self._give_shared(gradients, found.shared)
        for name, index, rows in zip(encoded.tables, found.rows, found.tables):
            if len(index):
                gradients.params[name] = self._table_gradient(name, index, rows)
        for name, grad in zip(encoded.fields, found.fields):
            if grad is not None:
                gradients.fields[name] = mx.nd.array(grad.reshape(call.fields[name].shape), dtype=encoded.dtype)
        gradients.args = [mx.nd.array(g, dtype=encoded.dtype) for g in found.args]
        return gradients

    def _table_gradient(self, name: str, index: np.ndarray, rows: np.ndarray) -> Any:
        param = self.call.params[name]
        sparse = self.call.program.by_name[name].sparse_grad
        attrs = {"input_dim": str(param.shape[0]), "output_dim": str(param.shape[1]), "sparse_grad": str(sparse)}
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
