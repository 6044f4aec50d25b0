"""Values of a segment while it is lowered, and those that all rows share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from ...program.rules.site import size
from ...schedule.recipe import Recipe
from .fuse import SHARED, Code, Instr, Value

__all__ = ["Shape", "Shares", "Tensor"]

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A value with its shape: a row's, or that of something shared. `turned`: the transpose of a shared matrix."""

    value: Value
    shape: Shape
    shared: bool = False
    turned: bool = False


class Shares:
    """Values that all rows share: parameters, what bodies compute from them alone, what the core computes."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.names: Dict[Tuple[str, str], int] = {}
        self.inputs: List[Tuple[str, str]] = []  # (function, value); function '' for a parameter
        self.sizes: List[int] = []
        self.computed: List[int] = []
        self.code: List[Tuple[Instr, int]] = []
        self.made: Dict[Any, Tensor] = {}
        self.alias: Dict[Tuple[str, str], str] = {}
        for function, ops in recipe.shared_ops.items():
            for op in ops:  # a parameter in another shape is the parameter
                if op.op in ("Reshape", "Flatten", "expand_dims", "squeeze", "_copy") and op.inputs:
                    self.alias[function, op.outputs[0]] = op.inputs[0]

    def source(self, function: str, name: str) -> Tuple[str, str]:
        while (function, name) in self.alias:
            name = self.alias[function, name]
        return ("", name) if name.startswith("@") else (function, name)

    def number(self, function: str, name: str, cols: int) -> int:
        key = self.source(function, name)
        if key not in self.names:
            self.names[key] = len(self.inputs)
            self.inputs.append(key)
            self.sizes.append(cols)
        return self.names[key]

    def tensor(self, function: str, name: str) -> Tensor:
        shape, _ = self.recipe.type_of(function, name)
        return Tensor(Code.operand(SHARED, self.number(function, name, size(shape)), size(shape), shared=True), shape,
                      shared=True)

    def compute(self, cols: int) -> int:
        """A place for a value that the core computes once a run; negative numbers until all inputs are known."""
        self.computed.append(cols)
        return -len(self.computed)
