"""Shapes and types of every value of a Program, per frame, from the shapes of fields, arguments and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .._compat import mx
from ..errors import PathMismatchError, TraceError
from .ir import Branch, Field, ForEach, Function, Integer, Invoke, Op, Program, Random, Return
from .symbol import to_symbol

__all__ = ["Types", "infer"]

Shape = Tuple[int, ...]

#: stands for a dtype where shapes alone are inferred
_ANY = "float32"


@dataclass(frozen=True)
class Types:
    """What is known about the values of a Program; values that could not be inferred are missing.

    ``shapes[function][value]`` and ``dtypes[function][value]`` are per frame (leading axis 1 where the body has it);
    ``params`` holds the shapes of parameters, ``outputs[function]`` (shape, dtype) pairs.
    """

    shapes: Mapping[str, Mapping[str, Shape]]
    dtypes: Mapping[str, Mapping[str, str]]
    params: Mapping[str, Shape]
    outputs: Mapping[str, Tuple[Tuple[Shape, str], ...]]


def infer(
    program: Program,
    fields: Mapping[str, Tuple[Shape, Optional[str]]],
    args: Sequence[Tuple[Shape, Optional[str]]] = (),
    params: Optional[Mapping[str, Shape]] = None,
) -> Types:
    """Infer the types of `program`.

    Parameters
    ----------
    program : Program
    fields : mapping from a field's name to (shape of its row with leading 1, dtype)
        A dtype None anywhere: shapes alone are inferred.
    args : sequence of (shape, dtype)
        Tensors passed to the root function, per frame.
    params : mapping, optional
        Shapes of parameters where known; unknown ones are inferred.

    Raises
    ------
    PathMismatchError
        Paths of a function return different shapes.
    TraceError
        An operator rejects its inputs.
    """
    return _Inference(program, fields, args, params or {}).run()


class _Inference:
    def __init__(self, program, fields, args, params):
        self.program, self.fields = program, fields
        self.shapes: Dict[str, Dict[str, Shape]] = {f: {} for f in program.functions}
        self.dtypes: Dict[str, Dict[str, str]] = {f: {} for f in program.functions}
        self.params: Dict[str, Shape] = {}
        self.param_dtypes = {p.name: p.dtype for p in program.params}
        dtypes = [dtype for _, dtype in (*args, *fields.values())]
        self.typed = None not in dtypes
        #: what an integer of the body is where it meets tensors
        self.floating = next(
            (t for t in (*self.param_dtypes.values(), *dtypes) if t and t.startswith("float")), "float32"
        )
        for p in program.params:
            shape = params.get(p.name) or p.shape
            if shape and all(n > 0 for n in shape):
                self.params[p.name] = tuple(shape)
        self.outputs: Dict[str, List[Optional[Tuple[Shape, str]]]] = {
            name: [None] * f.num_outputs for name, f in program.functions.items()
        }
        root = program.functions[program.root]
        for name, (shape, dtype) in zip(root.args, args):
            self._know(root.name, name, shape, dtype)
        self.partial = dict(params)

    def run(self) -> Types:
        for _ in range(4 * len(self.program.functions) + 8):
            before = self._size()
            for function in self.program.functions.values():
                self._function(function)
            if self._size() == before:
                break
        self._check_decisions()
        outputs = {name: tuple(o if o is not None else ((), "") for o in outs) for name, outs in self.outputs.items()}
        return Types(self.shapes, self.dtypes, self.params, outputs)

    def _check_decisions(self) -> None:
        """A tensor that decides has one element, as NDArray asks for it too."""
        for function in self.program.functions.values():
            for block in function.blocks():
                if isinstance(block.end, Branch) and isinstance(block.end.test, str):
                    shape = self._shape(function.name, block.end.test)
                    if shape and int(np.prod(shape)) > 1:
                        raise TraceError(
                            f"{block.end.where}: the truth of a tensor of shape {tuple(shape)} is ambiguous; "
                            f"reduce it to one element first, for example with .sum() or .max()"
                        )

    def _size(self):
        return (
            sum(map(len, self.shapes.values())),
            sum(map(len, self.dtypes.values())),
            len(self.params),
            sum(o is not None for outs in self.outputs.values() for o in outs),
        )

    def _know(self, function: str, value: str, shape: Optional[Shape], dtype: Optional[str]) -> None:
        if shape:
            self.shapes[function][value] = tuple(shape)
        if not self.typed:
            dtype = _ANY
        if dtype:
            self.dtypes[function][value] = dtype

    def _function(self, function: Function) -> None:
        ops: List[Op] = []
        for block in function.blocks():
            for node in block.nodes:
                if isinstance(node, Op):
                    ops.append(node)
                else:
                    self._leaf(function.name, node)
        ops = self._ready(function.name, ops)
        if ops:
            self._infer_ops(function, ops)
        for block in function.blocks():
            for node in block.nodes:
                if isinstance(node, (Invoke, ForEach)):
                    self._pass_down(function.name, node)
            if isinstance(block.end, Return):
                self._return(function, block.end)

    def _leaf(self, function: str, node) -> None:
        if isinstance(node, Field):
            if node.name in self.fields:
                self._know(function, node.outputs[0], *self.fields[node.name])
        elif isinstance(node, Integer):
            self._know(function, node.outputs[0], (1,), self.floating)
        elif isinstance(node, Random):
            like = self._dtype(function, node.attrs["like"]) if "like" in node.attrs else "float32"
            self._know(function, node.outputs[0], node.shape, node.attrs.get("dtype", like))
        else:
            for value, known in zip(node.outputs, self.outputs[node.function]):
                if known is not None:
                    self._know(function, value, *known)

    def _ready(self, function: str, ops: List[Op]) -> List[Op]:
        """Operators all of whose inputs are known, or follow from those that are.

        Given some of an operator's inputs, MXNet refuses (Dropout), or infers nonsense (Concat). What a call returns
        is unknown until a base path has told.
        """
        known = {v for v in self.shapes[function] if v in self.dtypes[function]}
        ready = []
        for op in ops:
            if all(v.startswith("@") or v in known for v in op.inputs):
                ready.append(op)
                known.update(op.outputs)
        return ready

    def _infer_ops(self, function: Function, ops: List[Op]) -> None:
        symbol = to_symbol(ops, [v for op in ops for v in op.outputs])
        values = [v for op in ops for v in op.outputs]
        name = function.name
        names = symbol.list_arguments() + symbol.list_auxiliary_states()
        known_shapes = {n: s for n in names for s in [self._shape(name, n)] if s}
        known_types = {n: np.dtype(t) for n in names for t in [self._dtype(name, n)] if t}
        try:
            arg, out, aux = symbol.infer_shape_partial(**known_shapes)
            for n, s in zip(symbol.list_arguments() + symbol.list_auxiliary_states(), [*(arg or ()), *(aux or ())]):
                if s and all(s):
                    self._learn(name, n, tuple(s))
            tout = symbol.infer_type_partial(**known_types)[1] if self.typed else [None] * len(values)
        except mx.MXNetError as error:
            raise TraceError(f"{name}: {self._blame(ops, str(error))}") from None
        for v, s in zip(values, out or ()):
            if s and all(s):
                self.shapes[name][v] = tuple(s)
        for v, t in zip(values, tout or ()):
            if t is not None:
                self.dtypes[name][v] = np.dtype(t).name
            elif not self.typed:
                self.dtypes[name][v] = _ANY

    def _blame(self, ops: List[Op], text: str) -> str:
        first = next(
            (line for line in text.splitlines() if "Error in operator" in line or "Check failed" in line), text
        )
        guilty = next((op for op in ops if f"operator {op.outputs[0]}:" in text), None)
        return (f"{guilty.where}: {guilty.op} rejects its inputs: " if guilty is not None else "") + first.strip()

    def _shape(self, function: str, name: str):
        if name.startswith("@"):
            return self.params.get(name[1:]) or self.partial.get(name[1:]) or self.program.by_name[name[1:]].shape
        return self.shapes[function].get(name)

    def _dtype(self, function: str, name: str):
        return self.param_dtypes.get(name[1:]) if name.startswith("@") else self.dtypes[function].get(name)

    def _learn(self, function: str, name: str, shape: Shape) -> None:
        if name.startswith("@"):
            self.params[name[1:]] = shape
        else:
            self.shapes[function].setdefault(name, shape)

    def _pass_down(self, function: str, node) -> None:
        callee = self.program.functions[node.function]
        for value, name in zip(node.inputs, callee.args):
            shape, dtype = self._shape(function, value), self._dtype(function, value)
            before = self.shapes[callee.name].get(name)
            if shape and before and tuple(shape) != before:
                raise PathMismatchError(
                    f"{callee.name} is called with shape {tuple(shape)} at {node.where}, elsewhere with {before}; "
                    f"a tensor passed down has one shape everywhere"
                )
            self._know(callee.name, name, shape, dtype)

    def _return(self, function: Function, end: Return) -> None:
        known = self.outputs[function.name]
        for j, value in enumerate(end.values):
            shape, dtype = self._shape(function.name, value), self._dtype(function.name, value)
            if not shape or not dtype:
                continue
            before = known[j]
            if before is None:
                known[j] = (tuple(shape), dtype)
            elif before[0] != tuple(shape):
                raise PathMismatchError(
                    f"output {j} of {function.name} has shape {tuple(shape)} on one path and {before[0]} on another; "
                    f"return the same shapes on every path"
                )
