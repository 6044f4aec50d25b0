"""Batching on the fly: calls of one kind that do not wait for one another run as one, over the rows of all of them.

A program that walks one tree after another makes the same calls over and over, on arrays with a leading axis of one.
Put off long enough, calls with the same operator, attributes, parameters and shapes are stacked: of the kinds that
are ready, the one is run next whose calls are on average the least deep, so that others wait until more of them are
ready.

Which uses of an operator may be stacked is what the rule table of recursive programs says (`program.rules.rowwise`).
The stacked operators run one by one on MXNet's tape, so gradients are MXNet's.

Source of the idea: Neubig, Goldberg, Dyer, "On-the-fly Operation Batching in Dynamic Computation Graphs", NeurIPS 2017.
"""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..capture.calls import PURE, Call, call, operator_handle
from ..capture.interception import in_modes, new_array, original_invoke
from ..program.rules.rowwise import Batch, rowwise
from ..program.rules.site import Site, flag
from .values import Row
from .work import Work, starts_of

__all__ = ["Group", "agenda", "kinds", "plan", "run", "spreads"]

_LEAST = 64  # calls for which batching is tried
_GAIN = 3  # calls a stacked call must stand for on average


class Group(NamedTuple):
    """Calls that run as one: `batch` on stacked inputs, where `rows` says which inputs are stacked. Without a `batch`
    they run one by one."""

    calls: Sequence[int]
    batch: Optional[Call]
    rows: Sequence[bool]
    spread: Sequence[int]


def plan(work: Work, shared: Set[int], needed: Set[int]) -> Optional[List[Group]]:
    """Groups of calls in an order in which they can run; None where stacking gains nothing or shows on the tape.

    Parameters
    ----------
    work : Work
    shared : set of int
        Externals that are parameters: the same in all calls.
    needed : set of int
        Values that Python holds.
    """
    if len(work.ops) < _LEAST or work.draws or work.statistics:
        return None
    numbers, signatures = kinds(work, shared)
    groups = [Group(calls, *_stacked(signatures[kind])) if len(calls) > 1 else Group(calls, None, (), ())
              for kind, calls in agenda(work.ops, numbers, len(signatures))]
    launches = sum(1 if group.batch is not None else len(group.calls) for group in groups)
    return groups if launches * _GAIN <= len(work.ops) and not _shows(work, groups, shared, needed) else None


def _shows(work: Work, groups: Sequence[Group], shared: Set[int], needed: Set[int]) -> bool:
    """Whether a gradient of something that Python holds would reach a parameter that it does not depend on: while MXNet
    records, a row is on the tape with all rows of its array."""
    if not work.mode[0] or len(needed) < 2:
        return False
    bits, used = [], 0
    for i, (array, known) in enumerate(zip(work.externals, work.external_avals)):
        counts = i in shared or (np.issubdtype(known.dtype, np.floating) and id(array) not in work.fed)
        bits.append(used if counts else -1)
        used += counts
    return spreads(work.ops, groups, bits, needed)


def spreads(ops: Sequence[Tuple], groups: Sequence[Group], bits: Sequence[int], needed: Set[int]) -> bool:
    """Whether a needed value reaches other externals by the rows of its array than by itself. Externals are told apart
    by `bits`, -1 for those that do not count."""
    *starts, number = starts_of(ops)
    outside = [1 << bit if bit >= 0 else 0 for bit in bits]
    alone, stacked = [0] * number, [0] * number
    for op, start in zip(ops, starts):
        reached = 0
        for read in op[2:]:
            reached |= alone[read] if read >= 0 else outside[~read]
        alone[start:start + op[1]] = [reached] * op[1]
    for group in groups:
        reached, once = 0, group.batch is None
        for at in group.calls:
            reached = 0 if once else reached
            for read in ops[at][2:]:
                reached |= stacked[read] if read >= 0 else outside[~read]
            if once:
                stacked[starts[at]:starts[at] + ops[at][1]] = [reached] * ops[at][1]
        if not once:
            for at in group.calls:
                stacked[starts[at]:starts[at] + ops[at][1]] = [reached] * ops[at][1]
    return any(stacked[n] != alone[n] for n in needed)


def kinds(work: Work, shared: Set[int]) -> Tuple[List[int], List[Tuple]]:
    """The kind of each call, and of each kind: operator, what each input is (a parameter, or the Aval of a row),
    Avals of all inputs and of the outputs."""
    numbers: Dict[Tuple, int] = {}
    found, avals, outside, number = [], work.avals, work.external_avals, 0
    signatures: List[Tuple] = []
    for op in work.ops:
        inputs = tuple(avals[r] if r >= 0 else r if ~r in shared else outside[~r] for r in op[2:])
        key = (op[0], inputs)
        kind = numbers.get(key)
        if kind is None:
            kind = numbers[key] = len(signatures)
            known = tuple(outside[~i] if isinstance(i, int) else i for i in inputs)
            signatures.append((op[0], tuple(not isinstance(i, int) for i in inputs), known,
                               tuple(avals[number:number + op[1]])))
        found.append(kind)
        number += op[1]
    return found, signatures


_decided: Dict[Tuple, Tuple[Optional[Call], Sequence[bool], Sequence[int]]] = {}


def _stacked(signature: Tuple) -> Tuple[Optional[Call], Sequence[bool], Sequence[int]]:
    """How calls of a kind run as one, if they can."""
    found = _decided.get(signature)
    if found is None:
        op, rows, known, results = signature
        found = None, (), ()
        if op.kind == PURE and any(rows):
            answer = rowwise(Site(op.name, dict(zip(op.keys, op.values)), tuple(a.shape for a in known), rows,
                                  tuple(a.shape for a in results)))
            if isinstance(answer, Batch):
                batch = call(operator_handle(answer.op), tuple(answer.attrs), tuple(answer.attrs.values()), False,
                             op.as_list)
                found = batch, rows, answer.spread
        _decided[signature] = found
    return found


def agenda(ops: Sequence[Tuple], kinds: Sequence[int], count: int) -> List[Tuple[int, List[int]]]:
    """(kind, calls) in an order in which they can run: of the kinds that are ready the one that is least deep."""
    maker: List[int] = []
    depth, waits = [0] * len(ops), [0] * len(ops)
    readers: List[List[int]] = [[] for _ in ops]
    deep, left = [0] * count, [0] * count
    ready: Dict[int, List[int]] = {}
    for at, op in enumerate(ops):
        deepest = sources = 0
        for read in op[2:]:
            if read >= 0:
                source = maker[read]
                readers[source].append(at)
                sources += 1
                if depth[source] > deepest:
                    deepest = depth[source]
        depth[at], waits[at] = deepest + 1, sources
        maker.extend([at] * op[1])
        kind = kinds[at]
        deep[kind] += deepest + 1
        left[kind] += 1
        if not sources:
            ready.setdefault(kind, []).append(at)
    made = []
    while ready:
        kind = min(ready, key=lambda k: (deep[k] / left[k], k))
        calls = ready.pop(kind)
        made.append((kind, calls))
        left[kind] -= len(calls)
        for at in calls:
            deep[kind] -= depth[at]
            for reader in readers[at]:
                waits[reader] -= 1
                if not waits[reader]:
                    ready.setdefault(kinds[reader], []).append(reader)
    return made


_concat = call(operator_handle("Concat"), ("dim",), (0,), False, False)
_slice_axis, _broadcast_axis = operator_handle("slice_axis"), operator_handle("broadcast_axis")
_take = call(operator_handle("take"), ("axis", "mode"), (0, "clip"), False, False)


def _invoke(op: Call, arrays: Sequence[Any]) -> Any:
    return original_invoke(op.handle, arrays, op.keys, op.values, None, op.numpy, op.as_list)


def _slice(array: Any, begin: int, end: int) -> Any:
    cut = call(_slice_axis, ("axis", "begin", "end"), (0, begin, end), False, False)
    return _invoke(cut, [array])


def _repeat(array: Any, size: int) -> Any:
    return _invoke(call(_broadcast_axis, ("axis", "size"), (0, size), False, False), [array])


class _Rows:
    """Where values lie: the rows of an array, its home, from `row` on."""

    def __init__(self, work: Work):
        self.work = work
        self.arrays: List[Any] = list(work.externals)
        self.home = [0] * len(work.avals)
        self.row = [0] * len(work.avals)
        self._alone: Dict[Tuple[int, int, int], Any] = {}

    def keep(self, numbers: Sequence[int], array: Any) -> None:
        """The values lie in an array, one below another."""
        home, row = len(self.arrays), 0
        self.arrays.append(array)
        for number in numbers:
            self.home[number], self.row[number] = home, row
            row += self.size(number)

    def size(self, read: int) -> int:
        shape = (self.work.avals[read] if read >= 0 else self.work.external_avals[~read]).shape
        return shape[0] if shape else 1

    def place(self, read: int) -> Tuple[int, int]:
        return (self.home[read], self.row[read]) if read >= 0 else (~read, 0)

    def one(self, read: int) -> Any:
        """A value by itself."""
        home, row = self.place(read)
        array, size = self.arrays[home], self.size(read)
        if self._whole(array, size):
            return array
        key = (home, row, size)
        if key not in self._alone:
            self._alone[key] = _slice(array, row, row + size)
        return self._alone[key]

    @staticmethod
    def _whole(array: Any, size: int) -> bool:
        """Whether a value of so many rows is all of its home."""
        return not array.shape or array.shape[0] == size

    def later(self, read: int) -> Any:
        """A value by itself, or as a Row."""
        home, row = self.place(read)
        array, size, mode = self.arrays[home], self.size(read), self.work.mode
        if self._whole(array, size):
            return array

        def make() -> Any:
            with in_modes(*mode[:2]):
                return _slice(array, row, row + size)

        return Row(make, self.work.avals[read])

    def stacked(self, reads: Sequence[int]) -> Any:
        """Values one below another."""
        places = [self.place(read) for read in reads]
        offsets: Dict[int, int] = {}
        total = 0
        for home, _ in places:
            if home not in offsets:
                offsets[home] = total
                total += self.arrays[home].shape[0]
        rows: List[int] = []
        for (home, row), read in zip(places, reads):
            first = offsets[home] + row
            rows.extend(range(first, first + self.size(read)))
        sources = [self.arrays[home] for home in offsets]
        source = sources[0] if len(sources) == 1 else _invoke(_concat, sources)
        if rows == list(range(rows[0], rows[0] + len(rows))):
            return source if len(rows) == total else _slice(source, rows[0], rows[0] + len(rows))
        return _invoke(_take, [source, new_array(np.array(rows, np.int32), self.work.context)])


def run(work: Work, groups: Sequence[Group], needed: Set[int]) -> Tuple[Dict[int, Any], int]:
    """Run the groups; arrays of the values that are needed, and how many launches of the program's calls that took."""
    starts = starts_of(work.ops)
    rows, launches = _Rows(work), 0
    for group in groups:
        if group.batch is None:
            for at in group.calls:
                launches += _alone(rows, work.ops[at], starts[at])
            continue
        reads = [work.ops[at][2:] for at in group.calls]
        arrays = [rows.stacked([r[i] for r in reads]) if row else work.externals[~reads[0][i]]
                  for i, row in enumerate(group.rows)]
        for i in group.spread:
            arrays[i] = _repeat(arrays[i], len(reads))
        made = _invoke(group.batch, arrays)
        for i, array in enumerate(made if isinstance(made, list) else (made,)):
            rows.keep([starts[at] + i for at in group.calls], array)
        launches += 1
    return {n: rows.later(n) for n in needed}, launches


def _alone(rows: _Rows, op: Tuple, number: int) -> bool:
    """Run one call; False where it only moves rows, which is noted and costs nothing."""
    made, reads = op[0], op[2:]
    attributes = dict(zip(made.keys, made.values))
    if made.name == "Concat" and attributes.get("dim") == "0":
        rows.keep([number], rows.stacked(reads))
        return False
    if made.name == "slice_axis" and attributes["axis"] == "0" and int(attributes["begin"]) >= 0:
        home, row = rows.place(reads[0])
        rows.home[number], rows.row[number] = home, row + int(attributes["begin"])
        return False
    if made.name == "SliceChannel" and attributes.get("axis") == "0" and not flag(attributes, "squeeze_axis"):
        home, row = rows.place(reads[0])
        for value in range(number, number + op[1]):
            rows.home[value], rows.row[value] = home, row
            row += rows.size(value)
        return False
    results = _invoke(made, [rows.one(read) for read in reads])
    for i, array in enumerate(results if isinstance(results, list) else (results,)):
        rows.keep([number + i], array)
    return True
