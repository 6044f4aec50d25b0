"""Recipes and kernels, made once for a Program, mode and shapes, and kept."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np

from ..program.expr import Expr
from ..program.infer import Types, infer
from ..program.ir import Branch, Program
from ..program.passes.prune import prune
from ..program.passes.specialize import specialize
from ..program.passes.substitute import substitute
from ..schedule.plan import Plan
from ..schedule.recipe import Recipe, make_recipe
from .buffers import Pool
from .executor import Call
from .kernels import SegmentKernel, compile_segments

__all__ = ["Compiled", "compiled", "infer_cached", "specialized", "row_type"]

_cache: "OrderedDict[Any, Any]" = OrderedDict()
_lock = RLock()
_LIMIT = 64


@dataclass(eq=False)
class Compiled:
    """A Recipe and, when the mxnet executor asks for them, the kernels of its segments."""

    recipe: Recipe
    pool: Pool = field(default_factory=Pool)

    @cached_property
    def kernels(self) -> List[SegmentKernel]:
        return compile_segments(self.recipe, Plan.layouts(self.recipe)[0])

    @cached_property
    def by_structure(self) -> bool:
        """Whether no decision, reference or integer of the Program looks at a tensor or at a field's value."""
        return all(isinstance(e, Expr) and not any(x.op == "field" for x in e.walk()) for e in self._looks_at())

    def _looks_at(self) -> Iterator[Any]:
        for info in self.recipe.blocks:
            if isinstance(info.end, Branch):
                yield info.end.test
            for site in info.sites:
                yield site.node.node
                yield from site.node.ints
        for segment in self.recipe.segments:
            yield from (slot.detail[0].value for slot in segment.slots if slot.kind == "integer")


def row_type(array) -> Tuple[Tuple[int, ...], str]:
    """Per-frame shape and dtype of an array of rows."""
    return (1, *array.shape[1:]), np.dtype(array.dtype).name


def _key(call: Call, *what) -> tuple:
    fields = tuple((name, *row_type(call.fields[name])) for name in call.program.fields if name in call.fields)
    params = tuple((name, array.shape, np.dtype(array.dtype).name) for name, array in sorted(call.params.items()))
    return (*what, id(call.program), call.train, fields, tuple(row_type(a) for a in call.args), params)


def _remember(key, program, make):
    with _lock:
        found = _cache.get(key)
        if found is None:
            # The program is kept beside its results: its id stays its own as long as they live.
            found = _cache[key] = (program, make())
            if len(_cache) > _LIMIT:
                _cache.popitem(last=False)
        else:
            _cache.move_to_end(key)
        return found[1]


def specialized(call: Call) -> Tuple[Program, Types]:
    """The call's Program for its mode, and the types of its values."""
    return _remember(_key(call, "types"), call.program, lambda: _specialize(call))


def _specialize(call: Call) -> Tuple[Program, Types]:
    fields = {name: row_type(array) for name, array in call.fields.items()}
    args = [row_type(a) for a in call.args]
    shapes = {name: array.shape for name, array in call.params.items()}
    program = _with_dtypes(call.program, {n: np.dtype(a.dtype).name for n, a in call.params.items()})
    types = infer(program, fields, args, shapes)
    program = specialize(program, types, call.train)
    types = infer(program, fields, args, shapes)
    program = prune(substitute(program, types.shapes))
    return program, infer(program, fields, args, shapes)


def infer_cached(program: Program, fields, args, params) -> Types:
    """Types of a Program as traced; a parameter is given as (shape, dtype); dtypes None: shapes alone."""
    key = ("as traced", id(program), tuple(sorted(fields.items())), tuple(args), tuple(sorted(params.items())))

    def make() -> Types:
        typed = _with_dtypes(program, {n: t for n, (_, t) in params.items() if t})
        return infer(typed, fields, args, {n: s for n, (s, _) in params.items()})
    return _remember(key, program, make)


def _with_dtypes(program: Program, dtypes: Dict[str, str]) -> Program:
    from dataclasses import replace
    return replace(program, params=tuple(replace(p, dtype=dtypes.get(p.name, p.dtype)) for p in program.params))


def compiled(call: Call) -> Compiled:
    """Recipe and kernels for a call."""
    return _remember(_key(call, "kernels", call.keep), call.program, lambda: _compile(call))


def _compile(call: Call) -> Compiled:
    program, types = specialized(call)
    recipe = make_recipe(program, types, call.keep)
    return Compiled(recipe)
