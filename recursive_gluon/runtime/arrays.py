"""Small things on NDArrays that the executors share: calling an operator by name, gathering, growing buffers."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, Dict, Iterable, Mapping, Sequence

import numpy as np
from mxnet.base import _LIB, NDArrayHandle, c_str, check_call, mx_uint

from .._compat import mx
from ..program.ir import Op

__all__ = [
    "address", "call", "gather_sum", "host_copy", "host_view", "memory", "put_rows", "rows_of", "run_ops",
    "upload", "embedding_grad", "add_grads", "assign",
]


def call(op: str, inputs: Sequence, attrs: Mapping[str, str]):
    """One MXNet operator by its name, at once."""
    if op == "_rg_embedding_grad":
        return embedding_grad(inputs[0], inputs[1], attrs, *inputs[2:])
    if op == "_rg_spread":
        raise ValueError("_rg_spread is done by the executor")
    return mx.nd._internal._imperative_invoke(
        _handle(op), inputs, list(attrs), list(attrs.values()), None, False, False
    )


def run_ops(ops: Iterable[Op], values: Dict[str, Any]) -> None:
    """Operators one after another at once; `values` gets their results by name."""
    for op in ops:
        out = call(op.op, [values[v] for v in op.inputs], op.attrs)
        values.update(zip(op.outputs, [out] if isinstance(out, mx.nd.NDArray) else out))


@lru_cache(maxsize=None)
def _handle(op: str) -> int:
    # Not every operator has a function in mx.nd, and some functions there do more than the operator.
    handle = ctypes.c_void_p()
    check_call(_LIB.NNGetOpHandle(c_str(op), ctypes.byref(handle)))
    assert handle.value is not None
    return handle.value


def upload(values: np.ndarray, ctx, dtype=None):
    """A host array on a device.

    On a CPU the memory is handed over without a copy: a copy would go through MXNet's engine and wait for everything
    that was launched before.
    """
    values = np.ascontiguousarray(values, dtype=dtype)
    if ctx.device_type == "cpu" and values.size:
        return mx.nd.from_numpy(values, zero_copy=True)
    return mx.nd.array(values, ctx=ctx, dtype=values.dtype)


def address(array) -> int:
    """Where a dense CPU array's numbers lie; 0 for none."""
    pointer = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
    return pointer.value or 0


def host_view(array) -> np.ndarray:
    """A CPU array's own memory, once whatever writes it is done; a copy of what lies elsewhere."""
    if array.context.device_type != "cpu" or array.stype != "default":
        return array.asnumpy()
    array.wait_to_read()
    return memory(address(array), array.shape, array.dtype)


def memory(where: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """What lies at an address, as an array that does not own it."""
    size, dtype = int(np.prod(shape)), np.dtype(dtype)
    if not where or not size:
        return np.empty(shape, dtype)
    raw = (ctypes.c_char * (size * dtype.itemsize)).from_address(where)
    return np.frombuffer(raw, dtype).reshape(shape)


def host_copy(array) -> np.ndarray:
    """A host copy of an operator's input, which is ready when the operator runs: no wait for the engine on a CPU."""
    if array.context.device_type != "cpu" or array.stype != "default":
        return array.asnumpy()
    out = np.empty(array.shape, array.dtype)
    if out.size:
        ctypes.memmove(out.ctypes.data, address(array), out.nbytes)
    return out


def rows_of(array, start: int, stop: int):
    """A view of some rows."""
    # NDArray._slice asks for the shape first, which costs twice as much as the slice.
    handle = NDArrayHandle()
    check_call(_LIB.MXNDArraySlice(array.handle, mx_uint(start), mx_uint(stop), ctypes.byref(handle)))
    return mx.nd.NDArray(handle)


def put_rows(buffer, start: int, rows) -> None:
    """Write `rows` into a buffer from row `start` on."""
    rows.copyto(rows_of(buffer, start, start + rows.shape[0]))


def gather_sum(buffer, index: np.ndarray, counts: np.ndarray, ctx):
    """For each i the sum of ``counts[i]`` rows of `buffer`; row 0 of the buffer is zero.

    Rounds of adding neighbours: about two passes over the rows whatever the counts are, in an order that depends on
    the counts alone.
    """
    while True:
        most = int(counts.max()) if len(counts) else 0
        start = np.cumsum(counts) - counts
        if most <= 1:
            rows = np.zeros(len(counts), np.int64)
            rows[counts == 1] = index[start[counts == 1]]
            return mx.nd.take(buffer, upload(rows, ctx, "int32"), mode="clip")
        if most * len(counts) <= 2 * len(index) + 64:
            table = np.zeros((len(counts), most), np.int64)
            owner = np.repeat(np.arange(len(counts)), counts)
            table[owner, np.arange(len(index)) - start[owner]] = index
            rows = mx.nd.take(buffer, upload(table.ravel(), ctx, "int32"), mode="clip")
            return rows.reshape((len(counts), most, -1)).sum(axis=1).reshape((len(counts), *buffer.shape[1:]))
        half = (counts + 1) // 2
        half_start = np.cumsum(half) - half
        owner = np.repeat(np.arange(len(counts)), half)
        at = start[owner] + 2 * (np.arange(int(half.sum())) - half_start[owner])
        paired = at + 1 < (start + counts)[owner]
        left = np.concatenate([[0], index[at]])
        right = np.concatenate([[0], np.where(paired, index[np.minimum(at + 1, len(index) - 1)], 0)])
        buffer = mx.nd.take(buffer, upload(left, ctx, "int32"), mode="clip") + mx.nd.take(
            buffer, upload(right, ctx, "int32"), mode="clip"
        )
        index, counts = np.arange(1, len(at) + 1), half


def embedding_grad(indices, ograd, attrs: Mapping[str, str], table=None):
    """The gradient of an embedding table, dense or row_sparse, by MXNet's own operator.

    `table` is any array of the table's shape; with a row_sparse gradient it is neither read beyond the rows that are
    looked up nor written.
    """
    rows, columns = int(attrs["input_dim"]), int(attrs["output_dim"])
    sparse = attrs.get("sparse_grad", "False") in ("True", "1")
    if table is None:
        table = mx.nd.zeros((rows, columns), ctx=ograd.context, dtype=ograd.dtype)
    table = table.detach()
    # attach_grad(stype=...) would make a float32 gradient whatever the table's type is.
    stype = "row_sparse" if sparse else "default"
    gradient = mx.nd.zeros(table.shape, ctx=table.context, dtype=table.dtype, stype=stype)
    mx.autograd.mark_variables([table], [gradient])
    kwargs = dict(input_dim=rows, output_dim=columns, dtype=np.dtype(ograd.dtype).name, sparse_grad=sparse)
    indices = indices.clip(0, rows - 1)
    with mx.autograd.record():
        out = mx.nd.Embedding(indices, table, **kwargs)
    out.backward(ograd.reshape(out.shape))
    return table.grad


def add_grads(a, b):
    """The sum of two gradients, of which each may be None or row_sparse."""
    if a is None or b is None:
        return b if a is None else a
    if a.stype == b.stype == "row_sparse":
        return mx.nd.sparse.add(a, b)
    return a.tostype("default") + b.tostype("default")


def assign(target, req: str, value) -> None:
    """Put a gradient or an output where MXNet wants it: written, added, or not at all."""
    if req == "null":
        return
    if value is None:
        if req != "add":
            target[:] = 0
        return
    if target.stype == "row_sparse" and value.stype != "row_sparse":
        value = value.tostype("row_sparse")
    elif target.stype == "default" and value.stype != "default":
        value = value.tostype("default")
    if req == "add":
        value = add_grads(target, value)
    value.copyto(target)
