"""The *mxnet* executor, backward: the batches in reverse, each giving back the gradients of what it read."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from .._compat import mx
from ..program.rules.site import number
from ..schedule.plan import Batch
from ..schedule.recipe import FRAME, SPREAD, Port
from .arrays import add_grads, call, gather_sum, put_rows, rows_of, run_ops, upload
from .executor import Gradients
from .readers import PortReaders

__all__ = ["backward"]


class _Pull:
    """The gradient of one port: a buffer of what its readers give back, and for each row who they are."""

    def __init__(self, readers: PortReaders, buffer, ctx):
        self.readers, self.buffer, self.ctx = readers, buffer, ctx
        self.columns = [] if readers.columns is None else [upload(c, ctx) for c in readers.columns]

    def pull(self, a: int, b: int):
        """The gradient of rows `a` to `b`."""
        if self.columns:
            parts = [mx.nd.take(self.buffer, rows_of(c, a, b), mode="clip") for c in self.columns]
            return parts[0] if len(parts) == 1 else mx.nd.add_n(*parts)
        start = self.readers.start
        assert start is not None and self.readers.given is not None
        return gather_sum(self.buffer, self.readers.given[start[a] : start[b]], np.diff(start[a : b + 1]), self.ctx)


def backward(run, ograds: Sequence[Any]) -> Gradients:
    """Gradients of a finished :class:`~recursive_gluon.runtime.batched.BatchedRun`."""
    return _Backward(run).run(ograds)


class _Backward:
    def __init__(self, run):
        self.forward, self.plan, self.recipe, self.kernels, self.ctx = run, run.plan, run.recipe, run.kernels, run.ctx
        self.pool = run.code.pool
        self.shared_grads: Dict[Tuple[str, str], Any] = {}
        self.kept: Dict[Tuple[int, str], Any] = {}
        self.shared_made: Dict[int, Dict[str, Any]] = {}
        self.states: Dict[str, List[Tuple[Tuple[int, int, int], Any, float]]] = {}

    def run(self, ograds: Sequence[Any]) -> Gradients:
        self._connect(ograds)
        for batch, saved in zip(reversed(self.plan.batches), reversed(self.forward.saved)):
            self._batch(batch, saved)
        self._over_rows()
        results = self._results()
        self._give_back()
        return results

    # -- who reads what --------------------
    def _connect(self, ograds: Sequence[Any]) -> None:
        """Buffers for what readers give back; those of the outputs hold what came from outside."""
        forward, readers = self.forward, self.forward.readers
        self.base = readers.base
        self.pulls: Dict[Port, _Pull] = {}
        for port, who in readers.ports.items():
            if port[0] == "field":
                array = forward.call.fields[port[1]]
                shape, dtype = array.shape[1:], np.dtype(array.dtype).name
            else:
                shape, dtype = self.recipe.port_type(port)
                shape = shape[1:] if shape[:1] == (1,) else shape
            self.pulls[port] = _Pull(who, self.pool.borrow(who.size, shape, dtype, self.ctx), self.ctx)
        for j, port, base in readers.outputs:
            buffer = self.pulls[port].buffer
            put_rows(buffer, base, ograds[j].reshape((-1, *buffer.shape[1:])))

    def _give_back(self) -> None:
        for pull in self.pulls.values():
            self.pool.give_back(pull.buffer)
        for buffer in self.kept.values():
            self.pool.give_back(buffer, reserved=False)

    # -- a batch --------------------
    def _pull_of(self, batch: Batch, value: str) -> Tuple[_Pull, int, int]:
        port = self.recipe.port(self.recipe.home[batch.segment.function, value])
        start = batch.out_start[self.plan.layout[port]]
        return self.pulls[port], start, start + batch.stop - batch.start

    def _batch(self, batch: Batch, saved: Dict[str, Any]) -> None:
        segment, kernel = batch.segment, self.kernels[batch.segment.id]
        if segment.mode == SPREAD:
            pull, a, b = self._pull_of(batch, segment.outputs[0])
            total = pull.pull(a, b).sum(axis=0, keepdims=True)
            self._add_shared(segment.function, segment.ops[0].inputs[0], total)
        elif kernel.gradient is None:
            self._by_autograd(batch, kernel, saved)
        else:
            self._by_table(batch, kernel, saved)

    def _by_table(self, batch: Batch, kernel, saved: Dict[str, Any]) -> None:
        segment, gradient = batch.segment, kernel.gradient
        if not gradient.inputs and not gradient.kept_backward:
            return
        values = dict(saved)
        shared = self.forward.shared_values[segment.function]
        values.update((v, shared[v]) for v in segment.shared)
        values.update(self._shared_ops(segment, gradient))
        gathered = []
        for value, name in gradient.ograds.items():
            pull, a, b = self._pull_of(batch, value)
            gathered.append(len(pull.columns))
            if pull.columns:
                values[f"{name}.port"] = pull.buffer
                values.update((f"{name}.index{i}", rows_of(c, a, b)) for i, c in enumerate(pull.columns))
            else:
                values[name] = pull.pull(a, b)
        graph = kernel.backward(tuple(gathered))
        a, b = batch.start, batch.stop
        outs = []
        for value in gradient.inputs:
            port, base = self.base[segment.id, value]
            width = kernel.widths[value]
            outs.append(rows_of(self.pulls[port].buffer, base + width * a, base + width * b))
        for value in gradient.kept_backward:
            outs.append(rows_of(self._kept(segment.id, value, gradient), a, b))
        graph(values, outs)

    def _kept(self, s: int, value: str, gradient):
        if (s, value) not in self.kept:
            shape, dtype = gradient.types[value]
            self.kept[s, value] = self.pool.borrow(self.plan.seg_size[s], shape[1:], dtype, self.ctx, reserved=False)
        return self.kept[s, value]

    def _shared_ops(self, segment, gradient) -> Dict[str, Any]:
        """What the gradient computes from parameters alone (a transposed weight), once per call."""
        if segment.id not in self.shared_made:
            values = dict(self.forward.shared_values[segment.function])
            run_ops(gradient.shared_ops, values)
            self.shared_made[segment.id] = {v: values[v] for op in gradient.shared_ops for v in op.outputs}
        return self.shared_made[segment.id]

    # -- without a rule --------------------
    def _by_autograd(self, batch: Batch, kernel, saved: Dict[str, Any]) -> None:
        """MXNet's own autograd, frame by frame; for what runs row-wise but has no rule, over the batch."""
        segment = batch.segment
        ograds = [pull.pull(a, b) for pull, a, b in (self._pull_of(batch, v) for v in segment.outputs)]
        if segment.mode == FRAME:
            for k, values in enumerate(saved["frames"]):
                rows = [g[k : k + 1] for g in ograds]
                self._tape(batch, values, rows, segment.ops, batch.start + k, 1)
        else:
            self._tape(
                batch, self._gathered(batch, kernel), ograds, segment.batch_ops, batch.start, batch.stop - batch.start
            )

    def _gathered(self, batch: Batch, kernel) -> Dict[str, Any]:
        values = self.forward.inputs_again(batch, kernel)
        for slot, group in zip(batch.segment.slots, kernel.groups):
            if slot.value not in values:
                rows = mx.nd.take(values[f"{slot.value}.port"], values[f"index.{group}"], mode="clip")
                values[slot.value] = rows if slot.kind != "joined" else rows.reshape((-1, slot.shape[1]))
        return values

    def _tape(self, batch: Batch, values, ograds, ops, first: int, rows: int) -> None:
        segment, program = batch.segment, self.recipe.program
        slots = [s for s in segment.slots if (segment.id, s.value) in self.base]
        states = {v for v in segment.shared if v.startswith("@") and program.by_name[v[1:]].state}
        shared = [v for v in segment.shared if v not in states and str(np.dtype(values[v].dtype)).startswith("float")]
        mine = {k: v for k, v in values.items() if isinstance(v, mx.nd.NDArray)}
        for v in [*(s.value for s in slots), *shared]:
            mine[v] = mine[v].detach().copy()
            mine[v].attach_grad()
        for v in states:
            mine[v] = mx.nd.zeros_like(values[v])
        with mx.autograd.record(train_mode=self.forward.call.train):
            run_ops(ops, mine)
        outs = [mine[v] for v in segment.outputs]
        mx.autograd.backward(outs, [g.reshape(o.shape) for g, o in zip(ograds, outs)])
        for slot in slots:
            port, base = self.base[segment.id, slot.value]
            buffer = self.pulls[port].buffer
            put_rows(buffer, base + len(slot.parts) * first, mine[slot.value].grad.reshape((-1, *buffer.shape[1:])))
        for v in shared:
            self._add_shared(segment.function, v, mine[v].grad)
        for v in states:
            momentum = next(float(np.float32(number(op.attrs, "momentum", 0.9))) for op in ops if v in op.inputs)
            self.states.setdefault(v[1:], []).append((self._order(segment, first), mine[v], momentum))

    def _order(self, segment, row: int) -> Tuple[int, int, int]:
        """Where a frame stands in the order in which running statistics are updated: by node, then by what it is."""
        frames = self.plan.frames
        frame = int(frames.block_frames[segment.block].view()[self.plan.seg_entries[segment.id].view()[row]])
        table = frames.tables[segment.function]
        return int(table.node.view()[frame]), int(table.key.view()[frame]), segment.id

    # -- sums over all rows --------------------
    def _over_rows(self) -> None:
        for segment, kernel in zip(self.recipe.segments, self.kernels):
            gradient, size = kernel.gradient, self.plan.seg_size[segment.id]
            if gradient is None or not gradient.shared or not size:
                continue
            values = dict(self.forward.shared_values[segment.function])
            values.update(self._shared_ops(segment, gradient))
            for v in gradient.kept_forward:
                values[v] = rows_of(self.forward.kept[segment.id, v], 0, size)
            for v in gradient.kept_backward:
                values[v] = rows_of(self._kept(segment.id, v, gradient), 0, size)
            for op in gradient.over_ops:
                inputs = [values[v] for v in op.inputs]
                if op.op == "_rg_embedding_grad":
                    inputs.append(self._table(segment, op))
                values[op.outputs[0]] = call(op.op, inputs, op.attrs)
            for v, grad in gradient.shared.items():
                self._add_shared(segment.function, v, values[grad])

    def _table(self, segment, op):
        """A parameter of the shape of an embedding table; None where the body computes its table."""
        shape = int(op.attrs["input_dim"]), int(op.attrs["output_dim"])
        shared = self.forward.shared_values[segment.function]
        return next((shared[v] for v in segment.shared if shared[v].shape == shape), None)

    def _add_shared(self, function: str, value: str, grad) -> None:
        key = (function, value)
        self.shared_grads[key] = add_grads(self.shared_grads.get(key), grad)

    # -- results --------------------
    def _results(self) -> Gradients:
        gradients = Gradients()
        for function, ops in self.recipe.shared_ops.items():
            self._through_shared(function, ops)
        for (_, value), grad in self.shared_grads.items():
            if value.startswith("@"):
                gradients.params[value[1:]] = add_grads(gradients.params.get(value[1:]), grad)
        for port, pull in self.pulls.items():
            if port[0] == "field":
                gradients.fields[port[1]] = pull.pull(0, pull.readers.rows)
        plan, n = self.plan, self.plan.frames.structure.num_trees
        for j, port in enumerate(plan.root_ports):
            first = int(plan.unit_row[plan.layout[port]].view()[j * n])
            gradients.args.append(self.pulls[port].pull(first, first + n) if port in self.pulls else None)
        for name, updates in self.states.items():
            old = self.forward.call.params[name]
            for _, delta, momentum in sorted(updates, key=lambda u: u[0]):
                old = old * momentum + delta
            gradients.states[name] = old
        return gradients

    def _through_shared(self, function: str, ops) -> None:
        """From gradients of what was computed from parameters to those of the parameters: MXNet's autograd, once."""
        heads = [(f, v) for f, v in self.shared_grads if f == function and not v.startswith("@")]
        if not heads:
            return
        values = dict(self.forward.shared_values[function])
        leaves = {v for op in ops for v in op.inputs if v.startswith("@")}
        for v in leaves:
            values[v] = values[v].detach()
            values[v].attach_grad()
        with mx.autograd.record():
            run_ops((op for op in ops if op.inputs), values)
        reached = [key for key in heads if any(key[1] in op.outputs and op.inputs for op in ops)]
        if not leaves or not reached:
            return
        mx.autograd.backward([values[v] for _, v in reached], [self.shared_grads[key] for key in reached])
        for v in leaves:
            self._add_shared(function, v, values[v].grad)
