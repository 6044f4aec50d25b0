"""Where MXNet's Python meets its library: every way an operator is called, an array written, or a mode changed.

Generated operators look up ``_imperative_invoke`` in one module when they run. Everything else goes through functions
of the one ``ctypes`` library object, which all modules share, so a wrapper set there is met whatever was imported
before.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from time import perf_counter
from typing import Any, Callable, Dict, Iterator, Optional, Protocol, Sequence, Tuple

import numpy as np

from .._compat import mx

__all__ = ["Interceptor", "barrier", "in_modes", "install", "new_array", "original_invoke", "replace"]

_LIB = mx.base._LIB
_REGISTER, _UTILS = mx.ndarray.register, mx.ndarray.utils
original_invoke: Callable = _REGISTER._imperative_invoke

# Before one of these, whatever was put off must have been launched: they write arrays that exist, read all there is,
# use or change MXNet's tape or its random state, or run operators of their own.
_BARRIERS = """
MXAutogradBackward MXAutogradBackwardEx MXAutogradComputeGradient MXAutogradMarkVariables MXAutogradGetSymbol
MXAutogradDropGrads MXCustomFunctionRecord MXInvokeCachedOp MXInvokeCachedOpEx
MXRandomSeed MXRandomSeedContext MXEngineSetBulkSize
MXNDArrayWaitAll MXNDArraySyncCopyFromNDArray MXNDArraySave MXNDArrayToDLPack
MXNDArrayGetSharedMemHandle MXNDArraySaveRawBytes MXNDArrayGetData MXNDArrayGetDataNDArray MXNDArrayGetAuxNDArray
MXKVStoreInit MXKVStoreInitEx MXKVStorePush MXKVStorePushEx MXKVStorePull MXKVStorePullEx MXKVStorePullWithSparse
MXKVStorePullWithSparseEx MXKVStorePushPull MXKVStorePushPullEx MXKVStorePullRowSparse MXKVStorePullRowSparseEx
MXKVStoreBroadcast MXKVStoreBroadcastEx MXKVStoreBarrier
MXExecutorForward MXExecutorBackward MXExecutorBackwardEx MXExecutorBind MXExecutorBindEX MXExecutorSimpleBind
MXExecutorSimpleBindEx MXExecutorSimpleBindEx64 MXExecutorReshape MXExecutorReshapeEx
MXDataIterNext MXDataIterBeforeFirst MXFuncInvokeEx MXRtcCudaKernelCall
MXLoadLib MXSetProfilerState MXSetProcessProfilerState MXDumpProfile MXDumpProcessProfile
""".split()
_MODES = {"MXAutogradSetIsRecording": "recording", "MXAutogradSetIsTraining": "training",
          "MXSetIsNumpyShape": "numpy_shape"}
_NEW = ("MXNDArrayCreateEx", "MXNDArrayCreateEx64")
_VIEWS = ("MXNDArrayAt", "MXNDArrayAt64", "MXNDArraySlice", "MXNDArraySlice64", "MXNDArrayReshape64", "MXNDArrayDetach")
_WAITS = ("MXNDArraySyncCopyToCPU", "MXNDArrayWaitToRead")
_ARRAY = mx._ffi._ctypes.types.TypeCode.NDARRAYHANDLE


class Interceptor(Protocol):
    """Who is told."""

    def invoke(self, handle: int, arrays: Any, keys: Any, values: Any, out: Any, numpy: bool, as_list: bool) -> Any:
        """Stands for ``_imperative_invoke``."""

    def barrier(self, name: str, args: Sequence[Any]) -> None:
        """A function of the library is about to be called which must not find work put off."""

    def made(self, handle: Optional[int], item: int) -> None:
        """A new array, which nothing has read or viewed, with the bytes of an element, 0 where its memory is not the
        processor's; None where that is no longer sure of the last one."""

    def filled(self, handle: int) -> int:
        """Values are about to be copied into an array from memory. If nothing has read or viewed it since it was made,
        the bytes of an element, else 0."""

    def active(self) -> bool:
        """Whether a program runs in this thread, or calls are put off."""

    def fed(self, array: Any) -> None:
        """A program made this array of values of its own."""

    def waited(self, seconds: float) -> None:
        """Python waited for a value."""

    def mode(self, name: str, value: int) -> None:
        """The thread's mode is about to become `value`."""


_CPU = 1
_ITEM_OF: Dict[Any, Tuple[int, int]] = {np.dtype(dtype): (number, np.dtype(dtype).itemsize)
            for dtype, number in mx.ndarray.ndarray._DTYPE_NP_TO_MX.items() if isinstance(dtype, type)}
_ITEM = dict(_ITEM_OF.values())
_set = _LIB.MXAutogradSetIsRecording, _LIB.MXAutogradSetIsTraining
_get_data = _LIB.MXNDArrayGetData
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
        for name in _NEW:
            setattr(_LIB, name, _new(getattr(_LIB, name), interceptor.made))
        for name in _VIEWS:
            setattr(_LIB, name, _view(getattr(_LIB, name), interceptor.made))
        _LIB.MXNDArraySyncCopyFromCPU = _fill(_LIB.MXNDArraySyncCopyFromCPU, interceptor.filled)
        for name in _WAITS:
            setattr(_LIB, name, _wait(getattr(_LIB, name), interceptor.waited))
        _LIB.MXNetFuncCall = _packed(_LIB.MXNetFuncCall, interceptor.barrier)
        _UTILS._array = _feed(_UTILS._array, interceptor)
        _REGISTER._imperative_invoke = interceptor.invoke
        _installed = interceptor
        return True


def replace(twins: Dict[Tuple[Any, str], Any]) -> None:
    """Put what is given, by (module or class, name), in place of what is there."""
    for (owner, name), twin in twins.items():
        setattr(owner, name, twin)


def barrier(name: str) -> None:
    """For what writes arrays past MXNet's library, as the native core does: it comes after all that was put off."""
    if _installed is not None:
        _installed.barrier(name, ())


@contextlib.contextmanager
def in_modes(recording: int, training: int) -> Iterator[None]:
    """Other modes for this thread, of which nobody is told: what runs in them was put off in them."""
    before = _set_modes(recording, training)
    try:
        yield
    finally:
        _set_modes(*before)


def _set_modes(recording: int, training: int) -> Tuple[int, int]:
    before = ctypes.c_int(), ctypes.c_int()
    for function, value, previous in zip(_set, (recording, training), before):
        mx.base.check_call(function(ctypes.c_int(value), ctypes.byref(previous)))
    return before[0].value, before[1].value


def new_array(values: np.ndarray, context: Any) -> Any:
    """``mx.nd.array`` without waiting for MXNet's engine, where the array is on the processor."""
    if context.device_typeid != _CPU:
        return mx.nd.array(values, ctx=context, dtype=values.dtype)
    array = mx.nd.empty(values.shape, context, values.dtype)
    mx.base.check_call(_copy_in(array.handle, values.ctypes.data, values.nbytes))
    return array


def _copy_in(handle: Any, data: Any, size: int) -> int:
    """Copy bytes into a new array on the processor, past MXNet's engine; MXNet's code of an error, or 0."""
    memory = ctypes.c_void_p()
    code = _get_data(handle, ctypes.byref(memory))
    if code == 0:
        ctypes.memmove(memory, data, size)
    return code


def _barrier(function: Callable, name: str, tell: Callable) -> Callable:
    def intercepted(*args: Any) -> Any:
        tell(name, args)
        return function(*args)

    return intercepted


def _new(function: Callable, tell: Callable) -> Callable:
    def intercepted(shape: Any, axes: Any, device: Any, number: Any, late: Any, dtype: Any, out: Any) -> Any:
        code = function(shape, axes, device, number, late, dtype, out)
        tell(out._obj.value, _ITEM.get(dtype.value, 0) if device.value == _CPU and not late.value else 0)
        return code

    return intercepted


def _view(function: Callable, tell: Callable) -> Callable:
    def intercepted(*args: Any) -> Any:
        tell(None, 0)
        return function(*args)

    return intercepted


def _fill(function: Callable, tell: Callable) -> Callable:
    """MXNet waits for its engine before it copies. Nothing can be under way in an array that is new and on the
    processor, so that wait, 30 us and more, is left out."""

    def intercepted(handle: Any, data: Any, size: Any) -> Any:
        item = tell(handle.value)
        return _copy_in(handle, data, size.value * item) if item else function(handle, data, size)

    return intercepted


def _feed(function: Callable, interceptor: Interceptor) -> Callable:
    """``mx.nd.array`` goes a long way through indexing; what a program feeds itself with is copied at once."""

    @functools.wraps(function)
    def array(source: Any, ctx: Any = None, dtype: Any = None) -> Any:
        if interceptor.active() and isinstance(source, (list, tuple, np.ndarray)):
            kind = np.dtype(np.float32 if dtype is None else dtype)
            try:
                values = np.array(source, kind, order="C") if kind in _ITEM_OF else None
            except (TypeError, ValueError):  # MXNet has words for it
                values = None
            if values is not None and values.size and values.ndim:
                made = new_array(values, ctx or mx.context.current_context())
                interceptor.fed(made)
                return made
        return function(source, ctx=ctx, dtype=dtype)

    return array


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
