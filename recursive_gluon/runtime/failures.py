"""Errors inside an operator, raised to the user as what they are.

An exception in a Python operator reaches MXNet as a bare "check failed", asynchronously, after its text was printed.
Here it is kept, nothing is printed, and where MXNet would raise its own error for it, the kept one is raised.
"""
from __future__ import annotations

import atexit
import functools
import re
import sys
import threading
from typing import Any, Callable, List

import mxnet.base as _base
import mxnet.operator as _operator

from .. import native
from .._compat import mx
from ..errors import NativeCoreError, RecursiveGluonError, SecondOrderError
from .core.binding import backward_failure

__all__ = ["failing_clearly", "keep", "one_at_a_time"]

_kept: List[BaseException] = []
_lock = threading.Lock()
#: how MXNet's message names the callbacks of Python operators
_MARKS = ("kCustomOpForward", "kCustomOpBackward", "kCustomOpPropInferShape", "kCustomOpPropInferType",
          "Error calling FCompute for custom operator '_backward_recursive_gluon_call'",
          "Error calling FCompute for custom operator 'recursive_gluon_call'")
_CORE_MARK = "kCustomFunctionBackward"
#: what MXNet cannot differentiate of a call without second order, and of a third order
_ONCE = ("_backward_CustomFunction", "_backward_Custom", "_backward_Embedding")
_TWICE = "_backward__backward_recursive_gluon_call"


def failing_clearly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the exception that a callback raises."""

    @functools.wraps(method)
    def wrapped(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except KeyboardInterrupt as error:  # which MXNet's callbacks do not catch
            keep(error)
            raise NativeCoreError("native core: interrupted") from None
        except Exception as error:  # noqa: BLE001  whatever it is, the user gets it
            keep(error)
            raise

    return wrapped


def keep(error: BaseException) -> None:
    """Keep an error for when MXNet says that a callback failed."""
    with _lock:
        _kept.append(error)
        del _kept[:-16]


_running = threading.RLock()


def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    """MXNet runs Python operators that do not depend on one another in several threads; CachedOps, which the
    executors share, are for one. Nothing that runs inside waits for another operator of ours."""

    @functools.wraps(method)
    def wrapped(*args, **kwargs):
        with _running:
            return method(*args, **kwargs)

    return wrapped


_raise_by_mxnet = _base.get_last_ffi_error


def _last_error():
    error = _raise_by_mxnet()
    if any(mark in str(error) for mark in _MARKS):
        with _lock:
            if _kept:
                return _kept.pop()
    if _CORE_MARK in str(error):
        failure = backward_failure()
        if failure is not None:
            return failure
    return _of_higher_order(error)


def _of_higher_order(error: BaseException) -> BaseException:
    """What a user of RecursiveBlocks can do about a gradient that MXNet has no operator for."""
    found = re.search(r"Operator (\w+) is non-differentiable", str(error))
    name = found.group(1) if found else ""
    if name == _TWICE:
        return SecondOrderError("a third-order gradient of a RecursiveBlock was asked for; there are first and second "
                                "ones")
    advice = ""
    if name == "_grad_add":
        advice = ("MXNet does not differentiate a sum of eight or more gradients of one array. Give a RecursiveBlock "
                  "all trees in one call, or set MXNET_EXEC_INPLACE_GRAD_SUM_CAP above the number of uses before mxnet "
                  "is imported.")
    elif name in _ONCE or (name and native.operator_library.cache_info().currsize):
        advice = ("Few of MXNet's operators have a second-order gradient, and hybridized blocks of its own have none. "
                  "A RecursiveBlock has one after net.hybridize(second_order=True); what lies between it and the first "
                  "gradient, such as a loss, can be a RecursiveBlock too.")
    # It may come of no operator of ours: MXNet's error stays what it is.
    return type(error)(f"{error}\n{advice}") if advice else error


def _print(*args, **kwargs):
    # MXNet prints a traceback before it raises; the error that is raised says it better.
    if not (args and str(args[0]).startswith("Error in ") and isinstance(sys.exc_info()[1], RecursiveGluonError)):
        print(*args, **kwargs)


_base.get_last_ffi_error = _last_error
_operator.print = _print


@atexit.register
def _finish() -> None:
    """Let operators that are on their way come to an end before MXNet's threads are torn down."""
    try:
        mx.nd.waitall()
    except Exception:  # noqa: BLE001  nobody is left to hear of it
        pass
