"""Work that was put off: calls, the arrays that stand for their results, and what they read."""
from __future__ import annotations

import sys
from itertools import accumulate
from typing import Any, Callable, Dict, List, Sequence, Set, Tuple

from ..capture.calls import Aval

__all__ = ["Op", "Piece", "Work", "held", "starts_of", "without_shapes"]

#: a call, how many values it makes, and what it reads: the number of a value, or ~i for external i
Op = Tuple


def _references(arrays: Sequence[Any]) -> List[int]:
    return [sys.getrefcount(array) for array in arrays]


_ALONE = _references([object()])[0]  # of what only the list holds, and the question


def held(arrays: List[Any]) -> Set[int]:
    """The places of the arrays that somebody else than the list holds."""
    return {n for n, count in enumerate(_references(arrays)) if count > _ALONE and arrays[n] is not None}


def starts_of(ops: Sequence[Op]) -> List[int]:
    """The number of the first value of each call, and how many values there are."""
    return list(accumulate((op[1] for op in ops), initial=0))


def without_shapes(key: Tuple) -> Tuple:
    """What a piece or a work is, whatever the shapes of its inputs."""
    mode, ops, _, outputs = key
    return mode, ops, outputs


class Piece:
    """A run of calls as if it were alone: `ops` with its own numbers, `inputs` and `outputs` with those of the work."""

    __slots__ = ("ops", "inputs", "outputs", "own", "key", "shapeless")

    def __init__(self, ops: Tuple[Op, ...], inputs: List[int], outputs: List[int], own: List[int], key: Tuple):
        self.ops, self.inputs, self.outputs, self.own, self.key = ops, inputs, outputs, own, key
        self.shapeless = without_shapes(key)


class Work:
    """See the module.

    Attributes
    ----------
    arrays, avals : list
        Of each value: its lazy array (None where Python never saw one), and what is known of it.
    draws : list of int
        Values that samplers make, in the order of the program.
    statistics : list of int
        Externals that the gradients of BatchNorms write.
    makers : list of tuple
        Views, as (number, number of the base, how the true view is made of the base).
    externals, external_avals : list
        Arrays that existed, in the order in which they were first read.
    fed : dict
        Arrays that were made of Python's values meanwhile, by id: they are on no tape.
    located : bool
        Whether it is noted where calls are made.
    places : list of int
        Where each call was made, if `located`.
    """

    __slots__ = ("mode", "located", "context", "ops", "arrays", "avals", "draws", "statistics", "makers", "externals",
                 "external_avals", "numbers", "fed", "places")

    def __init__(self, mode: Tuple[int, ...], located: bool):
        self.mode, self.located = mode, located
        self.context: Any = None
        self.ops: List[Op] = []
        self.arrays: List[Any] = []
        self.avals: List[Aval] = []
        self.draws: List[int] = []
        self.statistics: List[int] = []
        self.makers: List[Tuple[int, int, Callable]] = []
        self.externals: List[Any] = []
        self.external_avals: List[Aval] = []
        self.numbers: Dict[int, int] = {}
        self.fed: Dict[int, Any] = {}
        self.places: List[int] = []

    def held(self) -> Tuple[Set[int], Dict[int, Tuple[int, Callable]]]:
        """The values that are needed because Python holds them, or views of them; and the views that it holds."""
        needed = held(self.arrays)
        views = {}
        for number, base, make in reversed(self.makers):  # a view of a view needs both
            if number in needed:
                needed.discard(number)
                needed.add(base)
                views[number] = (base, make)
        return needed, views

    def reach(self) -> List[int]:
        """For each call the externals that its values depend on, as a mask."""
        masks: List[int] = []  # of values
        made = []
        for op in self.ops:
            mask = 0
            for read in op[2:]:
                mask |= masks[read] if read >= 0 else 1 << ~read
            masks.extend([mask] * op[1])
            made.append(mask)
        return made

    def outputs(self, needed: Set[int]) -> List[int]:
        """The values that a graph must return: what samplers made, in the order of the program, then what is needed."""
        return self.draws + sorted(needed.difference(self.draws))

    def key(self, outputs: Sequence[int]) -> Tuple:
        """What tells this work from other work."""
        return self.mode, tuple(self.ops), tuple(self.external_avals), tuple(outputs)

    def pieces(self, groups: Sequence[Sequence[int]], needed: Set[int]) -> List[Piece]:
        """Groups of calls, which are to run one after another, as pieces; what a later one reads is an output too."""
        starts = starts_of(self.ops)
        wanted, drawn, made = set(needed), set(self.draws), []
        for group in reversed(groups):
            local: Dict[int, int] = {}
            for at in group:
                for number in range(starts[at], starts[at] + self.ops[at][1]):
                    local[number] = len(local)
            own = list(local)
            inputs: List[int] = []
            ops = []
            for at in group:
                op = self.ops[at]
                for read in op[2:]:
                    if read not in local:
                        local[read] = ~len(inputs)
                        inputs.append(read)
                ops.append((op[0], op[1], *(local[read] for read in op[2:])))
            outputs = [n for n in own if n in drawn] + [n for n in own if n in wanted and n not in drawn]
            wanted.update(n for n in inputs if n >= 0)
            avals = [self.avals[n] if n >= 0 else self.external_avals[~n] for n in inputs]
            places = [local[n] for n in outputs]
            key = (self.mode, tuple(ops), tuple(avals), tuple(places))
            if outputs:
                made.append(Piece(tuple(ops), inputs, outputs, places, key))
        made.reverse()
        return made
