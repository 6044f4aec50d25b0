"""The tangent (forward-mode derivative) of one operator, as operators.

A gradient is linear in the output's gradient u. Differentiated by u, it therefore gives the tangent: the rule table,
applied twice, holds all tangents too ("double backward"). What multiplies needs no detour: the tangent of a product is
the product itself, with one factor after the other replaced by its tangent, which also keeps matrices that all nodes
share where the row-wise table wants them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

from ..ir import Op
from ..rules.site import text
from .autodiff import differentiate

__all__ = ["Tangent", "operator_tangent"]

Type = Tuple[Tuple[int, ...], str]

#: inputs in each of which the operator is linear
_LINEAR_IN: Dict[str, Tuple[int, ...]] = {
    "FullyConnected": (0, 1),
    "dot": (0, 1),
    "batch_dot": (0, 1),
    "broadcast_mul": (0, 1),
    "elemwise_mul": (0, 1),
    "Embedding": (1,),
    "take": (0,),
    "pick": (0,),
}
#: operators whose gradient in MXNet is not their derivative, so that a derivative of it says nothing
_WRONG = {("LeakyReLU", "selu"): "MXNet's gradient of selu is not its derivative"}


def operator_tangent(op: Op, given: Mapping[str, str], type_of: Callable[[str], Type]) -> "Tangent":
    """The tangent of `op`.

    Parameters
    ----------
    op : Op
    given : mapping of str to str
        Tangents of inputs; an input that is not here does not change.
    type_of : callable
        Value to (per-frame shape, dtype), for the operator's inputs and outputs and for `given`.

    Raises
    ------
    NotImplementedError
        The rule table has no first or no second derivative of this use.
    """
    tangent = Tangent(op, {v: given[v] for v in op.inputs if v in given}, type_of)
    tangent.run()
    return tangent


class Tangent:
    """`ops` to run after the operator; `values`: by output the value that is its tangent, others are zero."""

    def __init__(self, op: Op, given: Dict[str, str], type_of: Callable[[str], Type]):
        self.op, self.given, self._type_of = op, given, type_of
        self.ops: List[Op] = []
        self.values: Dict[str, str] = {}
        self.types: Dict[str, Type] = {}

    def type_of(self, value: str) -> Type:
        return self.types[value] if value in self.types else self._type_of(value)

    def run(self) -> None:
        op = self.op
        outputs = [v for v in op.outputs if self.type_of(v)[1].startswith("float")]
        if not self.given or not outputs:
            return
        why = _WRONG.get((op.op, text(op.attrs, "act_type", "")))
        if why:
            raise NotImplementedError(why)
        moving = [i for i, v in enumerate(op.inputs) if v in self.given and not _is_index(op, i)]
        linear = [i for i in moving if i in _LINEAR_IN.get(op.op, ())]
        bias = op.op == "FullyConnected" and 2 in moving
        if linear and set(moving) <= {*linear, *([2] if bias else [])}:
            self._product(linear, bias)
        elif moving:
            self._twice(outputs)
        self._keep_live()
        self._check()

    def _make(self, name: str, inputs: Iterable[str], attrs: Mapping[str, str], made: Type) -> str:
        out = f"{self.op.outputs[0]}.t{len(self.types)}"
        self.types[out] = made
        self.ops.append(Op(name, tuple(inputs), (out,), dict(attrs), self.op.where))
        return out

    def _sum(self, a: str, b: str) -> str:
        return self._make("elemwise_add", (a, b), {}, self.type_of(a))

    def _product(self, places: Sequence[int], bias: bool) -> None:
        """The product rule."""
        op, total = self.op, ""
        attrs = {k: v for k, v in op.attrs.items() if k != "sparse_grad"}
        for i in places:
            inputs = [self.given[v] if j == i else v for j, v in enumerate(op.inputs)]
            if op.op == "FullyConnected":
                with_bias = bias and i == places[-1]  # it is added once
                inputs = [*inputs[:2], *([self.given[op.inputs[2]]] if with_bias else [])]
                attrs["no_bias"] = str(not with_bias)
            term = self._make(op.op, inputs, attrs, self.type_of(op.outputs[0]))
            total = self._sum(total, term) if total else term
        self.values[op.outputs[0]] = total

    def _twice(self, outputs: Sequence[str]) -> None:
        """The gradient, differentiated by the output's gradient u.

        u has no value and needs none: the result does not depend on it but for its shape, which is that of the output.
        """
        first = differentiate([self.op], set(), self.type_of, outputs, set(self.given))
        self.types.update((u, first.types[u]) for u in first.ograds.values())
        names: Dict[str, str] = {}
        for one in first.shared_ops:
            self._copy(one, names, first.types)
        heads: Dict[str, str] = {}  # what the gradient gives -> its cotangent: the sum of the inputs' tangents
        for value, grad in first.shared.items():
            grad, tangent = names.get(grad, grad), self.given[value]
            heads[grad] = self._sum(heads[grad], tangent) if grad in heads else tangent
        second = differentiate(self.ops, set(), self.type_of, list(heads), set(first.ograds.values()))
        names = {second.ograds[grad]: tangent for grad, tangent in heads.items()}
        for one in second.shared_ops:
            self._copy(one, names, second.types)
        for v, u in first.ograds.items():
            if u in second.shared:
                self.values[v] = names.get(second.shared[u], second.shared[u])
        stand_in = {u: v for v, u in first.ograds.items()}
        self.ops = [replace(one, inputs=tuple(stand_in.get(v, v) for v in one.inputs)) for one in self.ops]

    def _copy(self, one: Op, names: Dict[str, str], types: Mapping[str, Type]) -> None:
        """An operator of a gradient under a name of our own."""
        inputs = [names.get(v, v) for v in one.inputs]
        if one.op in ("zeros_like", "broadcast_like") and "lhs_axes" not in one.attrs:
            like = self.op.outputs[0]
            if self.type_of(inputs[-1]) == self.type_of(like):
                inputs[-1] = like  # which is there, so that nothing is computed for its shape alone
        names[one.outputs[0]] = self._make(one.op, inputs, one.attrs, types[one.outputs[0]])

    def _keep_live(self) -> None:
        live, kept = set(self.values.values()), []
        for one in reversed(self.ops):
            if live.intersection(one.outputs):
                live.update(one.inputs)
                kept.append(one)
        self.ops = kept[::-1]

    def _check(self) -> None:
        """Each operator needs a gradient again: that is the second order."""
        for one in self.ops:
            floats = {v for v in one.inputs if self.type_of(v)[1].startswith("float")}
            differentiate([one], set(), self.type_of, one.outputs, floats)


def _is_index(op: Op, place: int) -> bool:
    """Whether an input holds numbers of rows, which have no tangent whatever their type is."""
    return op.op in ("Embedding", "take", "pick") and place not in _LINEAR_IN[op.op]
