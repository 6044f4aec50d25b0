"""Gradients of what is shared: sums over all rows, as products and column sums of kept rows."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set, Tuple

from ...program.ir import Op
from ...program.passes.autodiff import Gradient
from ...program.rules.site import numbers, size
from .fuse import SAVED, SHARED, Code, Instr, Operand
from .tensors import Tensor
from .unsupported import Unsupported

__all__ = ["Sums"]


class Sums:
    """Recognises what the gradient rules write for all rows; `low` is the lowering of the segment."""

    def __init__(self, low: Any, gradient: Gradient, tables: Set[str]):
        self.low, self.gradient, self.tables = low, gradient, tables
        self.values: Dict[str, Any] = {}

    def run(self) -> None:
        gradient, low = self.gradient, self.low
        for op in gradient.over_ops:
            if op.op != "_rg_embedding_grad":
                self.values[op.outputs[0]] = self._op(op)
        for name, grad in gradient.shared.items():
            if name not in low.values:
                continue  # an embedding table: its rows are given back
            shape, _ = low.recipe.type_of(low.function, name)
            number_ = low.shares.number(low.function, name, size(shape))
            for part in self._parts(self.values[grad]):
                self._finish(part, Operand(SHARED, number_, 0, size(shape)))

    def _parts(self, value: Any) -> List[Any]:
        return [p for v in value[1:] for p in self._parts(v)] if value[0] == "add" else [value]

    def _of(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        return ("rows", name, 1)

    def _op(self, op: Op) -> Any:
        a = [self._of(v) for v in op.inputs]
        first = a[0]
        kind = first[0]
        if op.op == "transpose" and kind in ("rows", "turned"):
            return ("turned" if kind == "rows" else "rows", *first[1:])
        if op.op in ("Reshape", "_copy", "expand_dims"):
            if kind != "rows":
                return first
            wanted: Tuple[int, ...] = numbers(op.attrs, "shape") or ()
            cols = self._cols(first[1])
            return ("rows", first[1], cols // wanted[-1] if len(wanted) == 2 else 1)
        if op.op == "slice_axis" and kind in ("rows", "turned"):
            return ("column",)
        if op.op == "ones_like" and kind in ("rows", "turned", "column"):
            return ("ones",)
        if op.op == "FullyConnected" and kind == "ones" and a[1][0] == "turned":
            return ("sums", *a[1][1:], ())
        if op.op == "dot" and kind == "ones" and a[1][0] == "rows":
            return ("sums", *a[1][1:], ())
        if op.op == "FullyConnected" and kind == "turned" and a[1][0] == "turned":
            return ("product", first, a[1])
        if op.op in ("elemwise_add", "add_n", "broadcast_add", "_grad_add"):
            return ("add", *a)
        if kind == "sums" and op.op in ("negative", "sum", "_mul_scalar", "_div_scalar"):
            return ("sums", first[1], first[2], (*first[3], op))  # linear: done to each row instead
        raise Unsupported(f"the gradient of a parameter by {op.op} in {self.low.function}")

    def _cols(self, name: str) -> int:
        return size(self.low.type_of(name))

    def _kept(self, name: str) -> Tuple[int, int]:
        if name not in self.low.saved:
            self.low.save(name)
        return self.low.saved[name]

    def _finish(self, part: Any, to: Operand) -> None:
        low = self.low
        if part[0] == "product":
            (_, a, repeat), (_, b, other) = part[1], part[2]
            if repeat != other:
                raise Unsupported("a product of rows in different numbers")
            (i, n), (j, k) = self._kept(a), self._kept(b)
            low.result.over.append(Instr("gemm_rows", [Operand(SAVED, i, 0, n), Operand(SAVED, j, 0, k)], [to],
                                         (repeat, n // repeat, k // repeat)))
        elif part[0] == "sums":
            _, name, repeat, ops = part
            i, cols = self._kept(name) if not ops else self._changed(name, ops)
            low.result.over.append(Instr("column_sums", [Operand(SAVED, i, 0, cols)], [to], (cols // to.cols,)))
        else:
            raise Unsupported("the gradient of a parameter is not a sum")

    def _changed(self, name: str, ops: Sequence[Op]) -> Tuple[int, int]:
        """Rows to which linear operators are applied before they are summed."""
        low = self.low
        if name not in low.values:
            low.values[name] = Tensor(Code.operand(SAVED, *low.saved[name]), low.type_of(name))
        t = low.values[name]
        for op in ops:
            before = low.gradient.types[op.inputs[0]][0] if low.gradient is not None else t.shape
            t = Tensor(t.value, before if size(before) == size(t.shape) else t.shape)
            low.values[op.inputs[0]] = t
            t = low.operator(op, [t])[0]
        low.values[f"{name}.{ops[-1].outputs[0]}"] = t
        return self._kept(f"{name}.{ops[-1].outputs[0]}")
