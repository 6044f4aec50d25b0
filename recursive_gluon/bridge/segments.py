"""Segments: runs of calls that come again, compiled into graphs.

What a segment is follows from its calls alone: operators with attributes, who reads whom, shapes, and which values are
wanted. One that is new is replayed call by call; when it comes again it is compiled into a CachedOp and kept.
"""
from __future__ import annotations

import contextlib
import ctypes
import math
import os
from collections import Counter, OrderedDict
from time import perf_counter
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .._compat import mx
from ..capture.calls import EAGER, Aval, Call, call, operator_handle
from ..capture.interception import original_invoke
from .tapes import Inputs
from .values import get_raw, set_raw
from .work import Op, Piece

__all__ = ["Segment", "Segments", "launch", "replay"]

_LIB, _check = mx.base._LIB, mx.base.check_call
_Handle = mx.base.NDArrayHandle
_CachedOp = mx.ndarray._internal.CachedOp
_invoke_cached = _LIB.MXInvokeCachedOpEx  # not the intercepted one: what was put off is just what runs here
_copy_call = call(operator_handle("_copy"), (), (), False, False)
_ELEMENTS = 10_000  # copied in about the time of an operator's launch
_KEPT = 1024  # compiled segments; the least recently used goes
_SEEN = 50_000  # segments that were met once


def replay(ops: Sequence[Op], inputs: Sequence[Any], own: Sequence[int]) -> List[int]:
    """Run the calls one by one, as Python would have; the handles of the values `own`, which become the caller's."""
    values: List[Any] = []
    for op, _, *reads in ops:
        arrays = [values[r] if r >= 0 else inputs[~r] for r in reads]
        made = original_invoke(op.handle, arrays, op.keys, op.values, None, op.numpy, op.as_list)
        values.extend(made if isinstance(made, list) else (made,))
    return [_release(values[n]) for n in own]


def _release(array: Any) -> int:
    """The handle of an array that nobody else holds."""
    handle = get_raw(array).value
    set_raw(array, None)
    return handle


class Segment:
    """A compiled segment.

    Parameters
    ----------
    piece : Piece
        Its samplers' outputs come first and in the order of the program: a graph runs its operators in the order in
        which a walk from its outputs first leaves them, so random numbers are drawn in that order too.
    steady : set of int
        Inputs that are the same arrays in every call, as parameters are.
    gradients : dict
        Arrays with a gradient, by id.
    fixed : bool
        Made for inputs of these shapes alone: quicker, where they come again. Else it takes any.
    """

    def __init__(self, piece: Piece, steady: Any, gradients: Dict[int, Any], fixed: bool):
        ops, outputs, (mode, _, avals, _) = piece.ops, piece.own, piece.key
        self._recorded = Inputs(ops, gradients) if mode[0] else None
        readers = Counter(read for op in ops for read in op[2:])
        # MXNet runs operators that touch an array which differs from call to call (an input that is not a parameter,
        # an output) one by one, 2-4 us each, and all others at once, 0.7 us each. So such an array is touched by a
        # copy alone where several operators would. While recording, parameters count as such arrays: MXNet gives the
        # gradient of a steady one to the array of the last time, also where it is now one of several to be summed.
        steady = frozenset() if mode[0] else steady
        sources = [_copy(mx.sym.var(f"x{i}"), f"in{i}") if fixed and i not in steady and _pays(aval, readers[~i])
                   else mx.sym.var(f"x{i}") for i, aval in enumerate(avals)]
        values: List[Any] = []
        for i, (op, count, *reads) in enumerate(ops):
            made = op.symbol([values[r] if r >= 0 else sources[~r] for r in reads], f"op{i}")
            values.extend([made] if count == 1 else [made[j] for j in range(count)])
        graph = mx.sym.Group([_copy(values[n], f"out{n}") if fixed and readers[n] else values[n] for n in outputs])
        self.order = [int(name[1:]) for name in graph.list_inputs()]
        if not self.order:
            raise mx.MXNetError("a graph without inputs has no context to run in")
        parameters = [at for at, i in enumerate(self.order) if i in steady]
        data = [at for at, i in enumerate(self.order) if i not in steady]
        flags = (("static_alloc", True), ("static_shape", True), ("data_indices", data), ("param_indices", parameters))
        with _every_call_counts():
            self._cached = _CachedOp(graph, flags if fixed else ())

    def __call__(self, inputs: List[Any]) -> List[int]:
        """Launch; the handles of the outputs, which become the caller's."""
        arrays = inputs if self._recorded is None else self._recorded.apart(inputs)
        return launch(self._cached.handle, [arrays[i] for i in self.order])


def launch(cached: Any, inputs: List[Any]) -> List[int]:
    """Launch a graph by its handle; the handles of the outputs, which become the caller's."""
    count, made = ctypes.c_int(0), ctypes.POINTER(_Handle)()
    stypes = ctypes.POINTER(ctypes.c_int)()
    _check(_invoke_cached(cached, len(inputs), (_Handle * len(inputs))(*[array.handle for array in inputs]),
                          ctypes.byref(count), ctypes.byref(made), ctypes.byref(stypes)))
    return [made[i] for i in range(count.value)]  # before the next call to the library, whose memory this is


@contextlib.contextmanager
def _every_call_counts() -> Iterator[None]:
    """MXNet makes one of calls that are alike; two BatchNorms of one value would update their statistics once."""
    name = "MXNET_ELIMINATE_COMMON_EXPR"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _pays(aval: Aval, readers: int) -> bool:
    """Whether a copy of an array takes less time than as many operators that touch it as are saved."""
    return math.prod(aval.shape) < _ELEMENTS * (readers - 1)


def _copy(value: Any, name: str) -> Any:
    return _copy_call.symbol([value], name)


class Segments:
    """All segments of one converted program.

    Attributes
    ----------
    captures : int
        Graphs that were compiled.
    seconds : float
        What that took.
    steady : dict
        Arrays with a gradient, which are parameters, by id: (array, Aval).
    """

    def __init__(self) -> None:
        self.captures = 0
        self.seconds = 0.0
        self.steady: Dict[int, Tuple[Any, Any]] = {}
        self._compiled: "OrderedDict[Tuple, Optional[Segment]]" = OrderedDict()
        self._seen: Dict[Tuple, int] = {}

    def __len__(self) -> int:
        return sum(segment is not None for segment in self._compiled.values())

    def compiled(self, piece: Piece) -> Optional[Segment]:
        """The graph of a piece: that for its shapes, else that for any."""
        for key in (piece.key, piece.shapeless):
            segment = self._compiled.get(key)
            if segment is not None:
                self._compiled.move_to_end(key)
                return segment
        return None

    def seen(self, key: Tuple) -> int:
        """How often a segment was met before."""
        count = self._seen.get(key, 0)
        if len(self._seen) >= _SEEN:
            self._seen.clear()
        self._seen[key] = count + 1
        return count

    def compile(self, piece: Piece, steady: Any, fixed: bool) -> Optional[Segment]:
        """Make the graph, for shapes that are `fixed` or for any; None where MXNet cannot, now and later."""
        key = piece.key if fixed else piece.shapeless
        if key in self._compiled:
            return self._compiled[key]
        self.captures += 1
        began = perf_counter()
        segment: Optional[Segment] = None
        try:
            segment = Segment(piece, steady, self.steady, fixed)
        except mx.MXNetError:
            for culprit, inputs in {op[0]: len(op) - 2 for op in piece.ops}.items():
                if not _compiles(culprit, inputs):
                    culprit.kind = EAGER  # such calls are not put off from here on
                    culprit.results.clear()
        self._compiled[key] = segment
        self.seconds += perf_counter() - began
        if len(self._compiled) > _KEPT:
            self._compiled.popitem(last=False)
        return segment


def _compiles(op: Call, inputs: int) -> bool:
    """Whether a graph of this call alone can be made; those without inputs never can, and need not."""
    if inputs == 0:
        return True
    try:
        _CachedOp(op.symbol([mx.sym.var(f"x{i}") for i in range(inputs)], "op"), ())
    except mx.MXNetError:
        return False
    return True
