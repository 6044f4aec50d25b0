"""The *mxnet* executor, forward: a Plan's batches one after another, each one CachedOp over all its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Tuple

import numpy as np

from .._compat import mx
from ..program.ir import Field, Integer, Random
from ..schedule.plan import Batch
from ..schedule.recipe import FRAME, SPREAD, Port
from .arrays import gather_sum, put_rows, run_ops, upload
from .arrays import rows_of as _slice
from .draws import draw
from .executor import Call, Result
from .kernels import SegmentKernel
from .recipes import Compiled, compiled
from .schedules import Schedule, prepared

__all__ = ["run"]


def run(call: Call) -> Result:
    """Run a call, batching by (segment, level)."""
    return BatchedRun(call, compiled(call)).forward()


class BatchedRun(Result):
    """The state of one call: its plan, its ports, what is kept for the gradient."""

    def __init__(self, call: Call, code: Compiled):
        super().__init__([])
        self.call, self.code, self.recipe, self.kernels = call, code, code.recipe, code.kernels
        self.ctx = call.ctx
        self.ports: Dict[Port, Any] = {}
        self.kept: Dict[Tuple[int, str], Any] = {}
        self.saved: List[Dict[str, Any]] = []
        self.rows: Dict[Tuple[int, str], List[Tuple[Any, int]]] = {}

    def release(self) -> None:
        for buffer in self.ports.values():
            self.code.pool.give_back(buffer)
        for buffer in self.kept.values():
            self.code.pool.give_back(buffer, reserved=False)
        self.ports, self.kept, self.saved, self.rows = {}, {}, [], {}

    # -- forward --------------------
    def forward(self) -> Result:
        call = self.call
        self.shared_values = self._run_shared()
        self.schedule = prepared(call) or Schedule.begin(call, self.code)
        self.plan = self.schedule.plan
        for batches, settle in self.schedule.rounds():
            self._make_room()
            self._upload(batches)
            for batch in batches:
                self._forward(batch)
            settle(self._read)
        self._collect()
        self.statistics = {"rounds": self.plan.rounds, "batches": len(self.plan.batches)}
        if call.keep:
            self.readers = self.schedule.readers  # made while the engine computes: the plan of the gradient
        else:
            self.release()
        return self

    def _run_shared(self) -> Dict[str, Dict[str, Any]]:
        """Parameters, and what each function computes from them alone, once."""
        values = {f"@{name}": array for name, array in self.call.params.items()}
        result = {}
        for function, ops in self.recipe.shared_ops.items():
            mine = dict(values)
            here = (op if op.inputs else replace(op, attrs={**op.attrs, "ctx": str(self.ctx)}) for op in ops)
            run_ops(here, mine)
            result[function] = mine
        return result

    def _make_room(self) -> None:
        """Ports and kept buffers as large as the plan has become."""
        plan = self.plan
        for port, layout in plan.layout.items():
            shape, dtype = self.recipe.port_type(port)
            rest = shape[1:] if shape[:1] == (1,) else shape
            self.ports[port] = self.code.pool.larger(
                self.ports.get(port), plan.layout_size[layout], rest, dtype, self.ctx
            )
        n = self.call.structure.num_trees
        if plan.rounds == 1:
            for port, arg in zip(plan.root_ports, self.call.args):
                first = plan.unit_row[plan.layout[port]].view()[plan.root_ports.index(port) * n]
                put_rows(self.ports[port], int(first), arg)
        if not self.call.keep:
            return
        for segment, kernel in zip(self.recipe.segments, self.kernels):
            if kernel.gradient is not None and plan.seg_size[segment.id]:
                for v in kernel.gradient.kept_forward:
                    shape, dtype = self.recipe.type_of(segment.function, v)
                    self.kept[segment.id, v] = self.code.pool.larger(
                        self.kept.get((segment.id, v)),
                        plan.seg_size[segment.id],
                        shape[1:],
                        dtype,
                        self.ctx,
                        reserved=False,
                    )

    def _upload(self, batches: List[Batch]) -> None:
        """All row numbers of a round in one array on the device; draws and integers as arrays of rows."""
        self.index_at: Dict[Tuple[int, str], Tuple[int, int]] = {}
        self.ends: Dict[Tuple[int, str], np.ndarray] = {}
        first: Dict[int, int] = {}
        for batch in batches:
            first.setdefault(batch.segment.id, batch.start)
        chunks, size = [], 0
        for s, start in first.items():
            segment, kernel = self.recipe.segments[s], self.kernels[s]
            for slot, group, rows in zip(segment.slots, kernel.groups, self.plan.slot_rows[s]):
                if slot.kind in ("random", "integer"):
                    values = self._made_rows(segment, slot, rows.index.view()[start:])
                    self.rows.setdefault((s, slot.value), []).append((upload(values, self.ctx), start))
                elif rows.counts is not None:
                    self.ends[s, slot.value] = np.concatenate([[0], np.cumsum(rows.counts.view())])
                elif (s, group) not in self.index_at:
                    self.index_at[s, group] = (size, start)
                    chunk = rows.index.view()[start * len(slot.parts) :]
                    chunks.append(chunk)
                    size += len(chunk)
        self.index = upload(np.concatenate(chunks), self.ctx, "int32") if chunks else None

    def _made_rows(self, segment, slot, values: np.ndarray) -> np.ndarray:
        node = slot.detail[0]
        if isinstance(node, Integer):
            return values.astype(slot.dtype)
        assert isinstance(node, Random)
        keys = self.plan.frames.tables[segment.function].key.view()[values]
        return draw(node, self.call.seed, keys, slot.dtype)

    def _forward(self, batch: Batch) -> None:
        segment = batch.segment
        kernel = self.kernels[segment.id]
        if segment.mode == FRAME:
            self._forward_frames(batch)
            return
        outs = [self._out_rows(batch, v) for v in segment.outputs]
        if segment.mode == SPREAD:
            shared = self.shared_values[segment.function][segment.ops[0].inputs[0]]
            shared.broadcast_to((batch.stop - batch.start, *shared.shape[1:])).copyto(outs[0])
            self.saved.append({})
            return
        values = self._inputs(batch, kernel)
        extras: Tuple[str, ...] = kernel.extras if self.call.keep else ()
        for v in kernel.extras:
            buffer = self.kept.get((segment.id, v))
            outs.append(_slice(buffer, batch.start, batch.stop) if buffer is not None else _empty())
        result = kernel.forward(values, outs)
        if self.call.keep:
            made = dict(zip((*segment.outputs, *extras), result))
            if kernel.gradient is not None:
                for v in kernel.gradient.kept_forward:
                    if v in segment.outputs:
                        put_rows(self.kept[segment.id, v], batch.start, made[v])
                self.saved.append({v: made[v] for v in kernel.gradient.saved})
            else:
                self.saved.append({})

    def _inputs(self, batch: Batch, kernel: SegmentKernel) -> Dict[str, Any]:
        """The values of a segment's inputs: whole ports with indices, rows, and what is shared."""
        segment, a, b = batch.segment, batch.start, batch.stop
        shared = self.shared_values[segment.function]
        values = {v: shared[v] for v in segment.shared}
        for slot, group, rows in zip(segment.slots, kernel.groups, self.plan.slot_rows[segment.id]):
            if slot.kind == "sum":
                values[slot.value] = self._summed(slot, segment, rows, a, b)
            elif slot.kind in ("random", "integer"):
                values[slot.value] = self._made(segment.id, slot.value, a, b)
            else:
                values[f"{slot.value}.port"] = self._source(segment, slot)
                name = f"index.{group}"
                if name not in values:
                    at, start = self.index_at[segment.id, group]
                    width = len(slot.parts)
                    values[name] = _slice(self.index, at + width * (a - start), at + width * (b - start))
        return values

    def _made(self, s: int, value: str, a: int, b: int):
        """Rows that were drawn or computed on the host; each round made an array of them."""
        array, start = next(pair for pair in reversed(self.rows[s, value]) if pair[1] <= a)
        return _slice(array, a - start, b - start)

    def inputs_again(self, batch: Batch, kernel: SegmentKernel) -> Dict[str, Any]:
        """The inputs of a batch after its round is over, for a gradient that computes the batch anew."""
        self._upload([batch])
        return self._inputs(batch, kernel)

    def _summed(self, slot, segment, rows, a: int, b: int):
        counts = rows.counts.view()
        ends = self.ends[segment.id, slot.value]
        return gather_sum(self._source(segment, slot), rows.index.view()[ends[a] : ends[b]], counts[a:b], self.ctx)

    def _source(self, segment, slot):
        if slot.kind == "field":
            node = slot.detail[0]
            assert isinstance(node, Field)
            return self.call.fields[node.name]
        port = self.recipe.slot_port(segment, slot)
        assert port is not None
        return self.ports[port]

    def _out_rows(self, batch: Batch, value: str):
        port = self.recipe.port(self.recipe.home[batch.segment.function, value])
        start = batch.out_start[self.plan.layout[port]]
        return _slice(self.ports[port], start, start + batch.stop - batch.start)

    # -- frame by frame --------------------
    def _frame_inputs(self, batch: Batch, i: int) -> Dict[str, Any]:
        """Inputs of row `i` of a segment that is not batched, in per-frame shapes."""
        segment, shared = batch.segment, self.shared_values[batch.segment.function]
        values = {v: shared[v] for v in segment.shared}
        for slot, rows in zip(segment.slots, self.plan.slot_rows[segment.id]):
            if slot.kind == "sum":
                row = self._summed(slot, segment, rows, i, i + 1)
            elif slot.kind in ("random", "integer"):
                row = self._made(segment.id, slot.value, i, i + 1)
            else:
                at = int(rows.index.view()[i])
                row = _slice(self._source(segment, slot), at, at + 1)
            values[slot.value] = row if slot.shape[:1] == (1,) else row.reshape(slot.shape)
        return values

    def _forward_frames(self, batch: Batch) -> None:
        inputs = []
        for i in range(batch.start, batch.stop):
            values = self._frame_inputs(batch, i)
            mine = {**values, **self._states(batch.segment, values)}
            with mx.autograd.pause(train_mode=self.call.train):
                run_ops(batch.segment.ops, mine)
            for v in batch.segment.outputs:
                out = self._out_rows(batch, v)
                put_rows(out, i - batch.start, mine[v].reshape((1, *out.shape[1:])))
            inputs.append(values)
        self.saved.append({"frames": inputs} if self.call.keep else {})

    def _states(self, segment, values) -> Dict[str, Any]:
        """Copies of auxiliary states, so that a frame does not see what another one changed."""
        names = [v for v in segment.shared if v.startswith("@") and self.recipe.program.by_name[v[1:]].state]
        return {v: values[v].copy() for v in names}

    # -- decisions and results --------------------
    def _read(self, port: Port, rows: np.ndarray) -> np.ndarray:
        """The truth of a value for some rows."""
        values = mx.nd.take(self.ports[port], upload(rows, self.ctx, "int32"), mode="clip").asnumpy()
        return values.reshape(len(rows), -1)[:, 0] != 0

    def _collect(self) -> None:
        """The outputs: rows of the root function's ports."""
        root, most = self.recipe.program.root, self.call.max_nodes
        for j, rows in enumerate(self.schedule.output_rows):
            port = self.ports[self.recipe.port(("out", root, j))]
            out = mx.nd.take(port, upload(rows, self.ctx, "int32"), mode="clip")
            self.outputs.append(out.reshape((-1, most, *out.shape[1:])) if most else out)
        if most:
            self.count = upload(self.schedule.count, self.ctx, "int32")

    def backward(self, ograds):
        from .batched_backward import backward

        return backward(self, ograds)


def _empty():
    """An array that the operator allocates."""
    from mxnet.ndarray.ndarray import _new_empty_handle

    return mx.nd.NDArray(_new_empty_handle())
