"""A run of the core on host memory, forward and backward: NumPy in, NumPy out, and no call of MXNet's."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..executor import Call
from .binding import Recompute, pointers
from .programs import WORKERS, CoreProgram, CoreRun, Lanes

__all__ = ["HostGradients", "HostRun"]


class HostGradients(NamedTuple):
    """Gradients in the order of the core: of what is shared, of rows that were looked up (`rows` says which of
    each table), of fields (None: not a float), of arguments."""

    shared: List[np.ndarray]
    tables: List[np.ndarray]
    rows: List[np.ndarray]
    fields: List[Optional[np.ndarray]]
    args: List[np.ndarray]


class HostRun:
    """One run. `call` tells how; `fields` are its fields as host arrays."""

    def __init__(self, program: CoreProgram, call: Call, fields: Mapping[str, np.ndarray],
                 recompute: Recompute = False, trace: bool = False, lanes: Lanes = WORKERS):
        self.program, self.call, self.fields = program, call, fields
        self.run = CoreRun(program, call, {name: fields[name] for name in program.encoded.fields}, recompute, trace,
                           lanes)

    def release(self) -> None:
        self.run.release()

    def forward(self, shared: Sequence[np.ndarray], tables: Sequence[np.ndarray], args: Sequence[np.ndarray],
                ) -> List[np.ndarray]:
        """The outputs, a row for what the call returns."""
        call, encoded, run = self.call, self.program.encoded, self.run
        self.shared, self.tables, self.args = list(shared), list(tables), list(args)
        run.check(run.lib.rg_run_forward(run.handle, _addresses(shared), _addresses(tables), _addresses(args),
                                         call.seed & 0xFFFFFFFFFFFFFFFF))
        lead: Tuple[int, ...] = (run.lib.rg_run_rows(run.handle),)
        if call.max_nodes:
            lead = (call.structure.num_trees, call.max_nodes)
        return [self._filled((*lead, *shape), dtype, partial(run.lib.rg_run_output, run.handle, j))
                for j, (shape, dtype) in enumerate(encoded.outputs)]

    def counts(self) -> np.ndarray:
        """Of a grown structure the number of calls in each tree."""
        run = self.run
        return self._filled((self.call.structure.num_trees,), "int32", partial(run.lib.rg_run_counts, run.handle))

    def _filled(self, shape: Tuple[int, ...], dtype: str, fill: Callable[[int], int]) -> np.ndarray:
        out = np.empty(shape, dtype)
        self.run.check(fill(out.ctypes.data))
        return out

    def backward(self, ograds: Sequence[np.ndarray]) -> HostGradients:
        """Gradients of all that forward was given."""
        encoded, run = self.program.encoded, self.run
        n = self.call.structure.num_nodes
        shared = [np.empty(a.shape, encoded.dtype) for a in self.shared]
        tables = [np.zeros((max(run.lookups(t), 1), a.shape[1]), encoded.dtype) for t, a in enumerate(self.tables)]
        fields = [np.zeros((n, cols), encoded.dtype) if cols and self.fields[name].dtype.kind == "f" else None
                  for name, cols in zip(encoded.fields, encoded.field_cols)]
        args = [np.zeros(a.shape, encoded.dtype) for a in self.args]
        flat: List[Optional[np.ndarray]] = [*shared, *tables, *fields, *args]
        counts = np.array([len(shared), len(tables), len(fields), len(args)], np.int64)
        requests = np.array([0 if a is None else 1 for a in flat], np.int32)
        run.check(run.lib.rg_run_backward(
            run.handle, _addresses(ograds), counts.ctypes.data,
            pointers([0 if a is None else a.ctypes.data for a in flat]), requests.ctypes.data))
        index = [self._looked_up(t) for t in range(len(tables))]
        return HostGradients(shared, [rows[:len(i)] for rows, i in zip(tables, index)], index, fields, args)

    def _looked_up(self, table: int) -> np.ndarray:
        index = np.empty(self.run.lookups(table), np.int32)
        if len(index):
            self.run.look_up(table, index.ctypes.data, len(index))
        return index


def _addresses(arrays: Sequence[np.ndarray]) -> Any:
    return pointers([a.ctypes.data for a in arrays])
