"""A Program with tangents: beside each floating value its derivative in a direction (forward mode).

For outputs y = P(x) the result T takes x and a direction v and gives y and J v. Its parameters are P's and a tangent
for each of a floating type; likewise its fields, arguments and outputs, where a tangent stands right behind what it
belongs to, so that captures stay before carries and carries before sums. Decisions, references and integers look at
the primal values alone. A tangent that is zero makes no operators, except where a call or a path must give one.

The gradient of u' J v, which T's own gradient gives by x, is the second order: what ``v`` asks of P's gradient J' u.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Set, Tuple

from ...errors import SecondOrderError
from ..infer import Types
from ..ir import Block, Branch, Field, ForEach, Function, Invoke, Node, Op, Program, Return
from .tangent_ops import operator_tangent

__all__ = ["WithTangents", "tangent_name", "tangents"]


def tangent_name(name: str) -> str:
    """The name of the tangent of a value, parameter or field."""
    return f"{name}.tangent"


@dataclass(frozen=True)
class WithTangents:
    """`program`, and which of the former outputs have a tangent behind them; those of others are zero."""

    program: Program
    outputs: Tuple[bool, ...]


def tangents(program: Program, types: Types) -> WithTangents:
    """`program` with tangents.

    Parameters
    ----------
    program : Program
        Specialised, without operators on parameters alone (see :mod:`.lift`).
    types : Types
        Of its values.

    Raises
    ------
    SecondOrderError
        An operator has no second-order rule; the message names it and its place.

    References
    ----------
    Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6(1), 1994; the tangents of operators
    by "double backward": Townsend, "A new trick for calculating Jacobian vector products", 2017.
    """
    moving = _Moving(program, types)
    functions = {name: _Function(f, program, types, moving).make() for name, f in program.functions.items()}
    params = []
    for p in program.params:
        params.append(p)
        if _is_float(p.dtype) and not p.state:
            params.append(replace(p, name=tangent_name(p.name), sparse_grad=False))
    outputs = functions[program.root].num_outputs
    made = replace(program, functions=functions, params=tuple(params), num_outputs=outputs)
    return WithTangents(made, tuple(moving.outputs[program.root]))


def _is_float(dtype: str) -> bool:
    return dtype.startswith("float")


class _Moving:
    """Which arguments and outputs of functions have tangents: an upper bound, found by going round until it stays."""

    def __init__(self, program: Program, types: Types):
        self.program, self.types = program, types
        self.args: Dict[str, List[bool]] = {n: [False] * len(f.args) for n, f in program.functions.items()}
        self.outputs: Dict[str, List[bool]] = {n: [False] * f.num_outputs for n, f in program.functions.items()}
        root = program.functions[program.root]
        dtypes = types.dtypes[root.name]
        self.args[root.name] = [_is_float(dtypes[a]) for a in root.args]
        before = -1
        while before != self._count():
            before = self._count()
            for function in program.functions.values():
                values = {a for a, m in zip(function.args, self.args[function.name]) if m}
                self._block(function, function.body, values)

    def _count(self) -> int:
        return sum(sum(flags) for table in (self.args, self.outputs) for flags in table.values())

    def _is(self, function: Function, value: str, values: Set[str]) -> bool:
        if value.startswith("@"):
            param = self.program.by_name[value[1:]]
            return _is_float(param.dtype) and not param.state
        return value in values

    def _block(self, function: Function, block: Block, values: Set[str]) -> None:
        dtypes, values = self.types.dtypes[function.name], set(values)
        for node in block.nodes:
            if isinstance(node, Field):
                values.update(v for v in node.outputs if _is_float(dtypes[v]))
            elif isinstance(node, Op):
                if any(self._is(function, v, values) for v in node.inputs):
                    values.update(v for v in node.outputs if _is_float(dtypes[v]))
            elif isinstance(node, (Invoke, ForEach)):
                args, outputs = self.args[node.function], self.outputs[node.function]
                for i, v in enumerate(node.inputs):
                    args[i] = args[i] or self._is(function, v, values)
                if isinstance(node, ForEach):  # what is carried is an output, then an argument
                    for j in range(len(node.carries)):
                        i = len(node.captures) + j
                        args[i] = outputs[j] = args[i] or outputs[j]
                values.update(v for v, m in zip(node.outputs, outputs) if m)
        if isinstance(block.end, Return):
            outputs = self.outputs[function.name]
            for j, v in enumerate(block.end.values):
                outputs[j] = outputs[j] or self._is(function, v, values)
        elif isinstance(block.end, Branch):
            for arm in block.end.arms.values():
                self._block(function, arm, values)


class _Function:
    """One function with tangents."""

    def __init__(self, function: Function, program: Program, types: Types, moving: _Moving):
        self.function, self.program, self.moving = function, program, moving
        self.dtypes, self.shapes = types.dtypes[function.name], types.shapes[function.name]
        self.param_shapes = types.params
        self.fields: Dict[str, Field] = {}
        self.same: Set[str] = set()  # added values that follow from parameters alone
        self.made: Dict[str, Tuple[Tuple[int, ...], str]] = {}  # types of what is added

    def make(self) -> Function:
        f = self.function
        flags = self.moving.args[f.name]
        known = {a: tangent_name(a) for a, m in zip(f.args, flags) if m}
        self.made.update((t, self._type(a)) for a, t in known.items())
        body = self._block(f.body, known)
        args = tuple(x for a in f.args for x in (a, *([known[a]] if a in known else [])))
        outputs = f.num_outputs + sum(self.moving.outputs[f.name])
        return replace(f, args=args, num_outputs=outputs, body=body)

    def _type(self, value: str):
        if value in self.made:
            return self.made[value]
        if not value.startswith("@"):
            return self.shapes[value], self.dtypes[value]
        name = value[1:]
        if name not in self.param_shapes and name.endswith(tangent_name("")):
            name = name[:-len(tangent_name(""))]
        return self.param_shapes[name], self.program.by_name[name].dtype

    def _block(self, block: Block, known: Mapping[str, str]) -> Block:
        known = dict(known)
        nodes: List[Node] = []
        for node in block.nodes:
            if isinstance(node, Op):
                self._op(node, nodes, known)
            elif isinstance(node, Field):
                self._field(node, nodes, known)
            elif isinstance(node, Invoke):
                args = self._pairs(node.args, self.moving.args[node.function], nodes, known)
                nodes.append(replace(node, args=args, outputs=self._outputs(node, known)))
            elif isinstance(node, ForEach):
                flags, n = self.moving.args[node.function], len(node.captures)
                captures = self._pairs(node.captures, flags[:n], nodes, known)
                carries = self._pairs(node.carries, flags[n:], nodes, known)
                outputs = self._outputs(node, known)
                nodes.append(replace(node, captures=captures, carries=carries, outputs=outputs))
            else:
                nodes.append(node)
        end = block.end
        if isinstance(end, Return):
            end = Return(self._pairs(end.values, self.moving.outputs[self.function.name], nodes, known))
        elif isinstance(end, Branch):
            end = replace(end, arms={answer: self._block(arm, known) for answer, arm in end.arms.items()})
        return Block(tuple(nodes), end)

    def _of(self, value: str, known: Mapping[str, str]):
        """The tangent of a value, None where it is zero."""
        if value.startswith("@"):
            param = self.program.by_name[value[1:]]
            return f"@{tangent_name(param.name)}" if _is_float(param.dtype) and not param.state else None
        return known.get(value)

    def _pairs(self, values, flags, nodes: List[Node], known: Dict[str, str]) -> Tuple[str, ...]:
        """Values, each with its tangent behind it where one is expected."""
        result: List[str] = []
        for value, moves in zip(values, flags):
            result.append(value)
            if moves:
                tangent = self._of(value, known)
                if tangent is None:
                    tangent = known[value] = tangent_name(value)
                    self.made[tangent] = self._type(value)
                    nodes.append(Op("zeros_like", (value,), (tangent,), {}))
                result.append(tangent)
        return tuple(result)

    def _outputs(self, node, known: Dict[str, str]) -> Tuple[str, ...]:
        result: List[str] = []
        for value, moves in zip(node.outputs, self.moving.outputs[node.function]):
            result.append(value)
            if moves:
                known[value] = tangent_name(value)
                self.made[known[value]] = self._type(value)
                result.append(known[value])
        return tuple(result)

    def _field(self, node: Field, nodes: List[Node], known: Dict[str, str]) -> None:
        nodes.append(node)
        value = node.outputs[0]
        self.fields[value] = node
        if _is_float(self.dtypes[value]):
            known[value] = tangent_name(value)
            self.made[known[value]] = self._type(value)
            nodes.append(replace(node, name=tangent_name(node.name), outputs=(known[value],)))

    def _op(self, op: Op, nodes: List[Node], known: Dict[str, str]) -> None:
        nodes.append(op)
        given = {v: t for v in op.inputs for t in [self._of(v, known)] if t is not None}
        try:
            tangent = operator_tangent(op, given, self._type)
        except NotImplementedError as error:
            raise SecondOrderError(
                f"{op.where or self.function.name}: {op.op} has no second-order gradient ({error}); write it with "
                f"other operators, or call hybridize(second_order=False), which needs first-order gradients alone"
            ) from None
        self.made.update(tangent.types)
        for one in tangent.ops:
            if one.op == "Embedding" and one.inputs[0] in self.fields:  # the core reads such a field for one look-up
                again = replace(self.fields[one.inputs[0]], outputs=(f"{one.outputs[0]}.index",))
                nodes.append(again)
                one = replace(one, inputs=(again.outputs[0], *one.inputs[1:]))
            nodes.append(one)
            if all(self._same_for_all(v) for v in one.inputs):
                self.same.update(one.outputs)
        for value, t in tangent.values.items():
            known[value] = self._row(value, t, nodes)

    def _row(self, value: str, tangent: str, nodes: List[Node]) -> str:
        """`tangent` as the value of a node, which it is not where it follows from parameters alone."""
        if not self._same_for_all(tangent):
            return tangent
        zero, out = f"{tangent.lstrip('@')}.{value}.zero", f"{tangent.lstrip('@')}.{value}.row"
        self.made[zero] = self.made[out] = self._type(value)
        nodes += [Op("zeros_like", (value,), (zero,), {}), Op("broadcast_add", (zero, tangent), (out,), {})]
        return out

    def _same_for_all(self, value: str) -> bool:
        return value.startswith("@") or value in self.same
