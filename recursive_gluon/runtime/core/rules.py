"""Operators that neither move elements nor work on one at a time: products, reductions, soft maxima, normalisations.

A rule takes (lowering, operator, inputs, shape of the result) and returns a Tensor; `lowering` is of lower.py.
"""

from __future__ import annotations

from typing import Any, List

import numpy as np

from ...program.ir import Op
from ...program.rules.site import as_axes, as_axis, flag, integer, number, numbers, size, text
from .tensors import Shape, Tensor
from .unsupported import Unsupported

__all__ = ["RULES"]

REDUCTIONS = {"sum": 0, "mean": 1, "max": 2, "min": 3, "prod": 4, "nansum": 7, "nanprod": 8}
SOFT = {"softmax": 0, "log_softmax": 1, "softmin": 2}


def _fully_connected(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    data, weight = inputs[:2]
    if op.inputs[0] in low.kept and not data.shared:
        data = low.save(op.inputs[0])  # kept in one piece for the gradient: the product reads it there
    n, k = weight.shape
    repeat = 1 if flag(op.attrs, "flatten", True) else size(data.shape[1:-1])
    out = Tensor(low.product(data, weight, n, k, repeat, True), shape)
    return out if len(inputs) == 2 else low.ew("add", [out, inputs[2]], marks=sorted(low.marks.get(op.outputs[0], ())))


def _dot(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    data, weight = inputs
    if data.shared or not weight.shared or flag(op.attrs, "transpose_a") or len(weight.shape) != 2:
        raise Unsupported(f"{low.where} of shapes {data.shape} and {weight.shape}")
    turned = flag(op.attrs, "transpose_b")
    n, k = weight.shape if turned else weight.shape[::-1]
    return Tensor(low.product(data, weight, n, k, size(data.shape) // k, turned), shape)


def _batch_dot(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    a, b = (low.plain(t) for t in inputs)
    turn_a, turn_b = flag(op.attrs, "transpose_a"), flag(op.attrs, "transpose_b")
    m, k = a.shape[-2:][::-1] if turn_a else a.shape[-2:]
    n = b.shape[-2] if turn_b else b.shape[-1]
    if len(a.shape) != 3:
        raise Unsupported(f"{low.where} of shapes {a.shape} and {b.shape}")
    if b.shared and not a.shared and not turn_a:
        return Tensor(low.product(a, b, n, k, m, turn_b), shape)
    values = [low.code.packed(a.value), low.code.packed(b.value)]
    return Tensor(low.code.instr("bdot", values, m * n, (m, n, k, int(turn_a), int(turn_b))), shape)


def _reduction(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t = low.plain(inputs[0])
    rank = len(t.shape)
    given = numbers(op.attrs, "axis")
    axes = list(as_axes(given, rank))
    if given and flag(op.attrs, "exclude"):
        axes = [a for a in range(rank) if a not in axes]
    if op.op == "norm":
        kind = 6 if integer(op.attrs, "ord", 2) == 1 else 5
    else:
        kind = REDUCTIONS[op.op]
    if 0 in axes and t.shape[0] != 1:
        raise Unsupported(f"{low.where} along the axis of nodes")
    return low.reduce(kind, t, [a for a in axes if a != 0] or [0], shape)


def _soft(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t = inputs[0]
    if len(inputs) > 1 or text(op.attrs, "dtype", "None") != "None" or t.shared:
        raise Unsupported(f"{low.where} with lengths or a type")
    kind = SOFT.get(op.op, 0)
    axis = as_axis(integer(op.attrs, "axis", -1), len(t.shape)) if op.op in SOFT else len(t.shape) - 1
    heat = number(op.attrs, "temperature", 1.0) if text(op.attrs, "temperature", "None") != "None" else 1.0
    moved = low.last(t, [axis])
    length = t.shape[axis]
    cols = size(t.shape)
    out = Tensor(low.code.instr("soft", [low.code.packed(moved.value)], cols, (kind, cols // length, length), (heat,)),
                 moved.shape)
    if moved is t:
        return Tensor(out.value, shape)
    rest = [a for a in range(len(t.shape)) if a != axis] + [axis]
    back = np.arange(cols).reshape(moved.shape).transpose(np.argsort(rest))
    return low.gathered(out, back.ravel(), shape)


def _pick(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    t, index = inputs
    axis = integer(op.attrs, "axis", -1)
    if axis is None or t.shared:
        raise Unsupported(f"{low.where} without an axis")
    axis = as_axis(axis, len(t.shape))
    moved = low.last(t, [axis])
    length, groups = t.shape[axis], size(t.shape) // t.shape[axis]
    wrap = int(text(op.attrs, "mode", "clip") == "wrap")
    values = [low.code.packed(moved.value), low.code.packed(low.broadcast(index, (groups,)).value)]
    return Tensor(low.code.instr("pick", values, groups, (wrap, groups, length)), shape)


def _one_hot(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    depth, groups = integer(op.attrs, "depth"), size(inputs[0].shape)
    on, off = number(op.attrs, "on_value", 1.0), number(op.attrs, "off_value", 0.0)
    if inputs[0].shared:
        raise Unsupported(f"{low.where} of what all nodes share")
    value = low.code.packed(inputs[0].value)
    return Tensor(low.code.instr("one_hot", [value], groups * depth, (groups, depth), (on, off)), shape)


def _layer_norm(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, gamma, beta = inputs
    axis = as_axis(integer(op.attrs, "axis", -1), len(x.shape))
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    along = tuple(n if a == axis else 1 for a, n in enumerate(x.shape))

    def mean(t: Tensor) -> Tensor:
        return low.reduce(1, t, [axis], kept)

    centred = low.ew("sub", [x, mean(x)])
    variance = mean(low.ew("square", [centred]))
    inverse = low.ew("reciprocal", [low.ew("sqrt", [low.ew("add_S", [variance], number(op.attrs, "eps", 1e-5))])])
    scaled = low.ew("mul", [low.ew("mul", [centred, inverse]), Tensor(gamma.value, along, True)])
    return low.ew("add", [scaled, Tensor(beta.value, along, True)])


def _batch_norm(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, gamma, beta, mean, variance = inputs
    axis = as_axis(integer(op.attrs, "axis", 1), len(x.shape))
    along = tuple(n if a == axis else 1 for a, n in enumerate(x.shape))
    if not flag(op.attrs, "use_global_stats"):
        raise Unsupported(f"{low.where} normalises over a batch")

    def laid(t: Tensor) -> Tensor:
        return Tensor(t.value, along, True)

    root = low.ew("sqrt", [low.ew("add_S", [laid(variance)], number(op.attrs, "eps", 1e-3))])
    out = low.ew("mul", [low.ew("sub", [x, laid(mean)]), low.ew("reciprocal", [root])])
    if not flag(op.attrs, "fix_gamma", True):
        out = low.ew("mul", [out, laid(gamma)])
    return low.ew("add", [out, laid(beta)])


def _l2_normalization(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    x, rank = inputs[0], len(inputs[0].shape)
    axes = {"instance": range(1, rank), "channel": (1,), "spatial": range(2, rank)}[text(op.attrs, "mode", "instance")]
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    total = low.reduce(0, low.ew("square", [x]), list(axes), kept)
    root = low.ew("sqrt", [low.ew("add_S", [total], number(op.attrs, "eps", 1e-10))])
    return low.ew("div", [x, root])


def _cast(low: Any, op: Op, inputs: List[Tensor], shape: Shape) -> Tensor:
    to = text(op.attrs, "dtype", "float32")
    if to.startswith("float"):
        return Tensor(inputs[0].value, shape, inputs[0].shared)
    if to in ("int32", "int64"):
        return low.ew("trunc", inputs)
    raise Unsupported(f"{low.where} to {to}")


RULES = {
    "FullyConnected": _fully_connected,
    "dot": _dot,
    "batch_dot": _batch_dot,
    **{op: _reduction for op in (*REDUCTIONS, "norm")},
    **{op: _soft for op in (*SOFT, "SoftmaxActivation")},
    "pick": _pick,
    "one_hot": _one_hot,
    "LayerNorm": _layer_norm,
    "BatchNorm": _batch_norm,
    "L2Normalization": _l2_normalization,
    "Cast": _cast,
    "amp_cast": _cast,
}
