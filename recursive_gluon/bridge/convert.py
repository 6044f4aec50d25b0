"""convert(): have a program's operators run from graphs."""
from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Optional

from .._compat import mx
from ..capture import interception
from .conversion import Conversion
from .log import NOT_FRESH, Log, current_log, thread
from .skeleton import install

__all__ = ["conversion_of", "convert", "restore"]

_original = interception.original_invoke


def _working() -> Optional[Log]:
    """The log of this thread, if a program runs or calls are put off."""
    log = thread.log
    return log if log is not None and (log.depth or log.work.ops) else None


class _Interceptor:
    """Hands on to the log of the thread, where there is one at work."""

    @staticmethod
    def invoke(handle: int, arrays: Any, keys: Any, values: Any, out: Any, numpy: bool, as_list: bool) -> Any:
        log = thread.log  # _working() at hand: unconverted operators pass here too
        if log is None or not (log.depth or log.work.ops):
            return _original(handle, arrays, keys, values, out, numpy, as_list)
        return log.invoke(handle, arrays, keys, values, out, numpy, as_list)

    @staticmethod
    def barrier(name: str, args: Any) -> None:
        log = thread.log
        if log is not None:
            if name == "MXAutogradBackwardEx" and args[6].value and log.conversion is not None:
                log.conversion.twice = True  # create_graph
            log.fresh = NOT_FRESH
            if log.work.ops:
                log.launch(name)

    @staticmethod
    def active() -> bool:
        return _working() is not None

    @staticmethod
    def fed(array: Any) -> None:
        current_log().work.fed[id(array)] = array

    @staticmethod
    def made(handle: Optional[int], item: int) -> None:
        log = _working()
        if log is not None:
            log.fresh = handle, item, log.work, len(log.work.externals)

    @staticmethod
    def filled(handle: int) -> int:
        log = _working()
        if log is None:
            return 0
        made, item, work, externals = log.fresh
        # What was put off cannot read an array that is newer than all that it reads.
        if made == handle and work is log.work and externals == len(work.externals):
            return item
        if log.work.ops:
            log.launch("MXNDArraySyncCopyFromCPU")
        return 0

    @staticmethod
    def waited(seconds: float) -> None:
        log = thread.log
        if log is not None and log.depth:
            log.conversion.report.waiting += seconds

    @staticmethod
    def mode(name: str, value: int) -> None:
        log = thread.log
        if log is not None:
            log.set_mode(name, value)


def _entering(function: Callable, conversion: Conversion) -> Any:
    @functools.wraps(function)
    def converted(*args: Any, **kwargs: Any) -> Any:
        log = current_log()
        log.enter(conversion)
        try:
            return function(*args, **kwargs)
        finally:
            log.leave()

    vars(converted)["_conversion"] = conversion
    return converted


def convert(program: Any) -> Any:
    """A block is changed in place; for a function the converted one is returned.

    A block gets a class of its own, under its class's name, in which calling it and calling its public methods enters
    the program: training often calls a method, not ``forward``.
    """
    install(_Interceptor())
    if conversion_of(program) is not None:
        return program
    conversion = Conversion(str(getattr(program, "name", getattr(program, "__qualname__", type(program).__name__))))
    if not isinstance(program, mx.gluon.Block):
        return _entering(program, conversion)
    base = type(program)
    members: Dict[str, Any] = {**{name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")},
                               "_conversion": conversion, "__call__": _entering(base.__call__, conversion)}
    for kind in base.__mro__:
        if not kind.__module__.startswith("mxnet."):
            for name, member in vars(kind).items():
                if not name.startswith("_") and name not in members and type(member) is type(convert):
                    members[name] = _entering(getattr(base, name), conversion)
    program.__class__ = type(base.__name__, (base,), members)
    return program


def restore(program: Any) -> Any:
    """The program as it was before `convert`."""
    if isinstance(program, mx.gluon.Block):
        if "_conversion" in vars(type(program)):
            program.__class__ = type(program).__base__
        return program
    return program.__wrapped__ if conversion_of(program) is not None else program


def conversion_of(program: Any) -> Optional[Conversion]:
    """The Conversion of a converted program; None for others."""
    return getattr(program, "_conversion", None)
