"""The log of a thread: operator calls that are put off, and when they are launched.

While a converted program runs, a call whose outputs are known beforehand (this operator with these attributes on inputs
of these shapes was met before) is noted, and lazy arrays are returned. The log is launched when something is asked that
only values can answer: a read, a gradient, a write to an array, a change of mode. Nothing in the log has an outside
effect, so it may be launched late, ahead of Python, as one graph or call by call: whoever looks sees the same.

Invariants: all work of a log has one mode (recording, training) and one context; inputs that exist are read before
anything writes to them, because every write is a barrier; random numbers are drawn in the order of the program.
"""
from __future__ import annotations

import ctypes
import sys
import threading
from types import FrameType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .._compat import mx
from ..capture.calls import EAGER, PURE, RANDOM, STATISTICS, Aval, Call, array_aval, aval, call, operator_handle
from ..capture.interception import in_modes, original_invoke
from ..capture.locations import location
from .conversion import Ahead, Conversion, Known
from .lazy import new_lazy
from .values import Value, compute, get_raw
from .work import Work

__all__ = ["NOT_FRESH", "Log", "current_log", "has_gradient", "modes", "thread"]

_LIB, _check = mx.base._LIB, mx.base.check_call
_autograd = mx.autograd


#: of no array
NOT_FRESH = (None, 0, None, 0)


class _Thread(threading.local):
    log: Optional["Log"] = None


thread = _Thread()


def current_log() -> "Log":
    """This thread's log."""
    if thread.log is None:
        thread.log = Log()
    return thread.log


class Log:
    """See the module. One thread's; a lock guards it, since arrays may be handed to another thread.

    Attributes
    ----------
    busy : int
        Launches at work. While there is one, calls wait for the lock, and none is put off past it (see `skeleton`).
    steady : dict
        Of the conversion's segments.
    """

    __slots__ = ("lock", "depth", "busy", "recording", "training", "numpy_shape", "conversion", "steady", "work",
                 "ahead", "expected", "fresh")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = self.busy = 0
        #: the last array that was made: its handle, the bytes of an element, and when that was
        self.fresh: Tuple[Optional[int], int, Any, int] = NOT_FRESH
        self.recording = self.training = self.numpy_shape = 0
        self.conversion: Any = None  # the Conversion that runs, or ran last
        self.steady: Dict[int, Tuple[Any, Aval]] = {}
        self.work = Work((0, 0, 0), False)
        self.ahead: Optional[Ahead] = None
        self.expected: Optional[Known] = None

    def _renew(self) -> None:
        mode = (self.recording, self.training, self.numpy_shape)
        located = self.conversion is not None and self.conversion.locating
        if self.work.externals or self.work.ops:
            self.work = Work(mode, located)
        else:
            self.work.mode, self.work.located = mode, located
        self.ahead = self.expected = None
        if self.conversion is not None:
            self.expected = self.conversion.expected(self.work.mode)

    # ---- entering and leaving a converted program

    def enter(self, conversion: Conversion) -> None:
        """A converted program begins; inside of another one it is part of that one."""
        if self.depth == 0:
            if conversion is not self.conversion:
                self.launch("another program begins")
            now = modes()
            if now != (self.recording, self.training, self.numpy_shape):
                for name, value in zip(("recording", "training", "numpy_shape"), now):
                    self.set_mode(name, value)
            self.conversion, self.steady = conversion, conversion.segments.steady
            if not self.work.ops:
                self._renew()
            conversion.report.enter()
        self.depth += 1

    def leave(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            if not self.recording:
                self.launch("the end of the call")
            self.conversion.report.leave()

    def set_mode(self, name: str, value: int) -> None:
        """The thread's mode is about to become `value`."""
        if getattr(self, name) != value:
            if self.work.ops:
                self.launch(f"{name} turned {'on' if value else 'off'}")
            setattr(self, name, value)
            if name == "recording" and self.conversion is not None:
                self.conversion.statistics.clear()
            self._renew()

    # ---- calls

    def invoke(self, handle: int, arrays: Sequence[Any], keys: Any, values: Any, out: Any, numpy: bool, as_list: bool
               ) -> Any:
        """An operator call of this thread while a program runs, or while calls are put off."""
        if out is None and (self.depth or any(type(get_raw(a)) is Value for a in arrays)):
            op = call(handle, keys, values, numpy, as_list)
            with self.lock:
                made = self._put_off(op, arrays)
            return self._run_now(op, arrays) if made is None else made
        if out is not None:
            self.launch("a write")
        elif self.work.draws and call(handle, keys, values, numpy, as_list).kind == RANDOM:
            self.launch("a random operator outside of the program")
        self._count()
        self.fresh = NOT_FRESH
        return original_invoke(handle, arrays, keys, values, out, numpy, as_list)

    def _count(self) -> None:
        if self.depth and self.conversion is not None:
            self.conversion.report.eager += 1

    def _put_off(self, op: Call, arrays: Sequence[Any]) -> Any:
        """Note a call; None where it must run now."""
        work = self.work
        reads: List[int] = []
        known: List[Any] = [self.numpy_shape]
        for array in arrays:
            raw = get_raw(array)
            if type(raw) is Value and raw.log is self:
                reads.append(raw.number)
                known.append(raw.aval)
            else:
                number = work.numbers.get(id(array))
                if number is None:
                    number = self._external(array)
                reads.append(number)
                known.append(work.external_avals[~number])
        results = op.results.get(tuple(known))
        if results is None:
            results = op.infer(self.numpy_shape, known[1:]) if op.kind != EAGER else None
            if results is None:
                return None
        if results[0].context is not work.context:
            if work.ops:
                self.launch("another device")
                return self._put_off(op, arrays)
            work.context = results[0].context
        if op.kind != PURE:
            if op.kind == STATISTICS:
                work.statistics.extend(reads[-2:])
            elif op.draws[self.training]:
                work.draws.append(len(work.arrays))
        if work.located:
            work.places.append(location(sys._getframe(3)))
        work.ops.append((op, len(results), *reads))
        if len(results) == 1 and not op.as_list:
            return self._new(results[0], op.numpy)
        return [self._new(result, op.numpy) for result in results]

    def _new(self, known: Aval, numpy: bool) -> Any:
        work = self.work
        array = new_lazy(Value(self, len(work.arrays), known), numpy)
        work.arrays.append(array)
        work.avals.append(known)
        return array

    def _external(self, array: Any) -> int:
        compute(array, "another thread")
        work, steady = self.work, self.steady
        found = steady.get(id(array))
        if found is not None and found[0] is array:
            known = found[1]
        else:
            known = array_aval(array)
            if has_gradient(array):
                steady[id(array)] = (array, known)
        number = work.numbers[id(array)] = ~len(work.externals)
        work.externals.append(array)
        work.external_avals.append(known)
        if self.expected is not None and len(work.externals) >= self.expected.trigger:
            self.ahead = self.conversion.launch_ahead(self.expected, work)
            self.expected = None
        return number

    def _run_now(self, op: Call, arrays: Sequence[Any]) -> Any:
        """Run a call as it is, and learn what it makes."""
        self.launch(f"{op.name}, which is not put off" if op.kind == EAGER else f"{op.name}, met for the first time")
        inputs = list(map(array_aval, arrays))
        self._count()
        made = original_invoke(op.handle, arrays, op.keys, op.values, None, op.numpy, op.as_list)
        op.learn(self.numpy_shape, inputs, list(map(array_aval, made if isinstance(made, list) else (made,))))
        return made

    # ---- views

    def view(self, array: Any, chain: Sequence[Tuple[str, dict, Tuple[int, ...]]], make: Callable, numpy: bool) -> Any:
        """A view of a lazy array: `chain` computes it inside of a graph, ``make(base)`` is the true view."""
        with self.lock:
            raw, work = get_raw(array), self.work
            if type(raw) is not Value or self is not thread.log:
                return make(compute(array, "another thread"))
            read = raw.number
            for name, attributes, shape in chain:
                op = call(operator_handle(name), tuple(attributes), tuple(attributes.values()), numpy, False)
                if work.located:
                    work.places.append(location(sys._getframe(3)))
                work.ops.append((op, 1, read))
                read = len(work.arrays)
                work.arrays.append(None)
                work.avals.append(aval(shape, raw.aval.dtype, raw.aval.context))
            work.arrays[read] = new_lazy(Value(self, read, work.avals[read]), numpy)
            work.makers.append((read, raw.number, make))
            return work.arrays[read]

    # ---- launching

    def launch_for(self, array: Any) -> None:
        """Somebody asks for the handle of a lazy array."""
        self.launch(sys._getframe(2).f_code.co_name)

    def launch(self, why: str) -> None:
        """Compute what Python still holds."""
        with self.lock:
            self.busy += 1
            try:
                self._launch(why, sys._getframe(1))
            finally:
                self.busy -= 1

    def _launch(self, why: str, frame: FrameType) -> None:
        work, ahead = self.work, self.ahead
        if not work.ops:
            if work.externals:
                self._renew()
            return
        conversion = self.conversion
        self.work, self.ahead, self.expected = Work(work.mode, conversion.locating), None, None
        conversion.report.launch(why, frame)
        try:
            if self is thread.log:
                conversion.compute(work, ahead)
            else:
                with in_modes(*work.mode[:2]):
                    conversion.compute(work, ahead)
        except BaseException:
            for array in work.arrays:  # what is not computed by now never will be
                if array is not None and type(get_raw(array)) is Value:
                    get_raw(array).log = _LOST
            raise
        if not self.work.ops:
            self._renew()


class _Lost:
    """Stands for the log of values whose computation failed."""

    def __getattr__(self, name: str) -> Any:
        raise mx.MXNetError("this array was to be computed together with others, and their computation failed")


_LOST = _Lost()


def modes() -> Tuple[int, int, int]:
    """Whether MXNet records, trains, and knows NumPy's shapes, in this thread."""
    return int(_autograd.is_recording()), int(_autograd.is_training()), int(mx.util.is_np_shape())


def has_gradient(array: Any) -> bool:
    gradient = mx.base.NDArrayHandle()
    _check(_LIB.MXNDArrayGetGrad(array.handle, ctypes.byref(gradient)))
    if gradient.value is None:
        return False
    _check(_LIB.MXNDArrayFree(gradient))
    return True
