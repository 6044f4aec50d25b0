"""Where MXNet's Python meets its library: every way an operator is called, an array written, or a mode changed.

Generated operators look up ``_imperative_invoke`` in one module when they run. Everything else goes through functions
of the one ``ctypes`` library object, which all modules share, so a wrapper set there is met whatever was imported
before.
"""
from __future__ import annotations

import threading
from time import perf_counter
from typing import Any, Callable, Dict, Optional, Protocol, Sequence, Tuple

from .._compat import mx

__all__ = ["Interceptor", "barrier", "install", "original_invoke", "replace"]

_LIB = mx.base._LIB
_REGISTER = mx.ndarray.register
original_invoke: Callable = _REGISTER._imperative_invoke

# Before one of these, whatever was put off must have been launched: they write arrays that exist, read all there is,
# use or change MXNet's tape or its random state, or run operators of their own.
_BARRIERS = """
MXAutogradBackward MXAutogradBackwardEx MXAutogradComputeGradient MXAutogradMarkVariables MXAutogradGetSymbol
MXAutogradDropGrads MXCustomFunctionRecord MXInvokeCachedOp MXInvokeCachedOpEx
MXRandomSeed MXRandomSeedContext MXEngineSetBulkSize
MXNDArrayWaitAll MXNDArraySyncCopyFromCPU MXNDArraySyncCopyFromNDArray MXNDArraySave MXNDArrayToDLPack
MXNDArrayGetSharedMemHandle MXNDArraySaveRawBytes MXNDArrayGetData MXNDArrayGetDataNDArray MXNDArrayGetAuxNDArray
MXKVStoreInit MXKVStoreInitEx MXKVStorePush MXKVStorePushEx MXKVStorePull MXKVStorePullEx MXKVStorePullWithSparse
MXKVStorePullWithSparseEx MXKVStorePushPull MXKVStorePushPullEx MXKVStorePullRowSparse MXKVStorePullRowSparseEx
MXKVStoreBroadcast MXKVStoreBroadcastEx MXKVStoreBarrier
MXExecutorForward MXExecutorBackward MXExecutorBackwardEx MXExecutorBind MXExecutorBindEX MXExecutorSimpleBind
MXExecutorSimpleBindEx MXExecutorSimpleBindEx64 MXExecutorReshape MXExecutorReshapeEx
MXLoadLib MXSetProfilerState MXSetProcessProfilerState MXDumpProfile MXDumpProcessProfile
""".split()
_MODES = {"MXAutogradSetIsRecording": "recording", "MXAutogradSetIsTraining": "training",
          "MXSetIsNumpyShape": "numpy_shape"}
_WAITS = ("MXNDArraySyncCopyToCPU", "MXNDArrayWaitToRead")
_ARRAY = mx._ffi._ctypes.types.TypeCode.NDARRAYHANDLE


class Interceptor(Protocol):
    """Who is told."""

    def invoke(self, handle: int, arrays: Any, keys: Any, values: Any, out: Any, numpy: bool, as_list: bool) -> Any:
        """Stands for ``_imperative_invoke``."""

    def barrier(self, name: str, args: Sequence[Any]) -> None:
        """A function of the library is about to be called which must not find work put off."""

    def waited(self, seconds: float) -> None:
        """Python waited for a value."""

    def mode(self, name: str, value: int) -> None:
        """The thread's mode is about to become `value`."""


_lock = threading.Lock()
_installed: Optional[Interceptor] = None


def install(interceptor: Interceptor) -> bool:
    """Have `interceptor` told from now on; once a process. Whether this was the first time."""
    global _installed
    with _lock:
        if _installed is not None:
            return False
        for name in _BARRIERS:
            if hasattr(_LIB, name):
                setattr(_LIB, name, _barrier(getattr(_LIB, name), name, interceptor.barrier))
        for name, mode in _MODES.items():
            setattr(_LIB, name, _mode(getattr(_LIB, name), mode, interceptor.mode))
        for name in _WAITS:
            setattr(_LIB, name, _wait(getattr(_LIB, name), interceptor.waited))
        _LIB.MXNetFuncCall = _packed(_LIB.MXNetFuncCall, interceptor.barrier)
        _REGISTER._imperative_invoke = interceptor.invoke
        _installed = interceptor
        return True


def replace(functions: Dict[Tuple[Any, str], Callable]) -> None:
    """Put functions of MXNet's modules, by (module, name), in place of those that are there."""
    for (module, name), function in functions.items():
        setattr(module, name, function)


def barrier(name: str) -> None:
    """For what writes arrays past MXNet's library, as the native core does: it comes after all that was put off."""
    if _installed is not None:
        _installed.barrier(name, ())


def _barrier(function: Callable, name: str, tell: Callable) -> Callable:
    def intercepted(*args: Any) -> Any:
        tell(name, args)
        return function(*args)

    return intercepted


def _wait(function: Callable, tell: Callable) -> Callable:
    def intercepted(*args: Any) -> Any:
        began = perf_counter()
        code = function(*args)
        tell(perf_counter() - began)
        return code

    return intercepted


def _mode(function: Callable, mode: str, tell: Callable) -> Callable:
    def intercepted(value: Any, previous: Any) -> Any:
        tell(mode, value.value)
        return function(value, previous)

    return intercepted


def _packed(function: Callable, tell: Callable) -> Callable:
    """Operators of ``mx.np`` that have calls of their own; those without arrays only make new ones."""

    def intercepted(handle: Any, values: Any, codes: Any, count: Any, result: Any, code: Any) -> Any:
        if any(codes[i] == _ARRAY for i in range(count.value)):
            tell("MXNetFuncCall", ())
        return function(handle, values, codes, count, result, code)

    return intercepted
