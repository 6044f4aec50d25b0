"""Nothing that MXNet's Python does with arrays passes by unseen: its sources are read, and each function sorted."""
import re
from pathlib import Path

import numpy as np
import pytest

from recursive_gluon._compat import mx
from recursive_gluon.capture import interception
from recursive_gluon.capture.interception import in_modes, new_array

SOURCES = sorted(Path(mx.__file__).parent.rglob("*.py"))

# Functions that get no array, or no more of it than its type and its shape.
NO_ARRAYS = re.compile("|".join("""
NN MX(ShallowCopy|GenAtomicSymbolFrom|Quantize|ReducePrecision)?Symbol MX(Aggregate|Process)?Profile
MXSetProcessProfilerConfig MXRecordIO MXList MXLibInfo MXGet MXSetEnv MXAutogradIs MXIs MXNetFunc(List|Get|Free)
MXNetObject MXRtcCuda(Module|KernelCreate|KernelFree) MXStorageEmptyCache MXFunc(GetInfo|Describe) MXLoadTVM
MXNotifyShutdown MXCustomOpRegister MXSetCalibTable MXGenBackendSubgraph MXOptimizeForBackend MX(Create|Free)CachedOp
MXCachedOpRegister MXDataIter(Create|Free|GetIterInfo|GetPadNum|GetIndex) MXKVStore(Create|Free|Get|Is|Run|Send|Set)
""".split()))
# Functions that get an array's handle, and tell of it what is known without its value, or wait, or let go.
ASK = """MXNDArrayGetShapeEx MXNDArrayGetShapeEx64 MXNDArrayGetDType MXNDArrayGetContext MXNDArrayGetStorageType
MXNDArrayGetAuxType MXNDArrayGetGrad MXNDArrayGetGradState MXNDArraySyncCheckFormat MXNDArrayWaitToWrite MXNDArrayFree
MXNDArrayCallDLPackDeleter MXExecutorPrint MXExecutorFree MXExecutorGetOptimizedSymbol
MXExecutorSetMonitorCallbackEX""".split()
# Functions that make arrays or other handles of the same ones, and write nothing.
MAKE = """MXNDArrayCreateNone MXNDArrayCreateSparseEx MXNDArrayCreateSparseEx64 MXNDArrayCreateFromSharedMemEx
MXNDArrayLoad MXNDArrayLoadFromBuffer MXNDArrayLoadFromRawBytes MXNDArrayFromDLPackEx MXShallowCopyNDArray
MXExecutorOutputs MXDataIterGetData MXDataIterGetLabel""".split()
# What these write is looked at by gradients only, which launch what was put off.
LATER = ["MXNDArraySetGradState"]
# Called by _imperative_invoke, which is replaced.
OPERATORS = ["MXImperativeInvokeEx"]
FOLLOWED = {*interception._BARRIERS, *interception._MODES, *interception._NEW, *interception._VIEWS,
            *interception._WAITS, "MXNDArraySyncCopyFromCPU", "MXNetFuncCall"}


def used(source):
    """The functions of the library that a source calls, or hands on."""
    return set(re.findall(r"\b_LIB\.(\w+)", source))


def test_every_function_that_mxnet_calls_is_sorted():
    """One that is new, or was forgotten, has to be looked at: does it write an array, or use the tape?"""
    called = set().union(*(used(path.read_text(encoding="utf-8")) for path in SOURCES))
    known = {*ASK, *MAKE, *LATER, *OPERATORS, *FOLLOWED}
    assert {name for name in called - known if not NO_ARRAYS.match(name)} == set()
    assert {name for name in known if NO_ARRAYS.match(name)} == set()
    assert {*ASK, *MAKE, *LATER, *OPERATORS} <= called
    assert len(called) > 150


def test_functions_that_write_or_use_the_tape_are_followed():
    """By their names, in all of the library: whatever mxnet's Python may come to call."""
    named = re.compile(r"MXAutograd(Backward|Compute|Mark|GetSymbol)|MXInvokeCachedOp|MXExecutor(Forward|Backward|"
                       r".*Bind)|MXNDArray(SyncCopyFrom|Save|GetData|ToDLPack)|MXKVStore(Init|Push|Pull|Broadcast)|MXRandomSeed")
    called = set().union(*(used(path.read_text(encoding="utf-8")) for path in SOURCES))
    assert {name for name in called if named.match(name)} <= FOLLOWED


def test_the_library_is_reached_in_no_other_way():
    """Wrappers are set on the one library object, and on the one module where operators look up what runs them."""
    imports, loads = set(), set()
    for path in SOURCES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(Path(mx.__file__).parent).as_posix()
        if re.search(r"getattr\(_LIB|_LIB\[|^\w+ = _LIB\.", text, re.MULTILINE):
            loads.add(name)
        if "_imperative_invoke" in text:
            imports.add(name)
    assert loads == set()
    assert imports == {"_ctypes/ndarray.py", "ndarray/_internal.py", "ndarray/register.py"}
    assert not list(Path(mx.__file__).parent.rglob("_cy3/*.so"))  # the other way, compiled


class Told:
    """An interceptor that notes what it is told."""

    def __init__(self):
        self.notes = []

    def __call__(self, *args):
        self.notes.append(args)
        return 0


def test_a_barrier_is_told_before_the_function_runs():
    told = Told()
    run = interception._barrier(lambda *args: told("ran", *args) or "code", "MXSomething", told)
    assert run(1, 2) == "code"
    assert told.notes == [("MXSomething", (1, 2)), ("ran", 1, 2)]


def test_a_mode_is_told_before_it_is_set():
    told = Told()
    run = interception._mode(lambda value, previous: told("set", value.value), "recording", told)
    run(mx.base.ctypes.c_int(1), None)
    assert told.notes == [("recording", 1), ("set", 1)]


def test_a_wait_is_timed():
    told = Told()
    assert interception._wait(lambda handle: handle + 1, told)(1) == 2
    (seconds,), = told.notes
    assert 0 <= seconds < 1


@pytest.mark.parametrize("codes, seen", [([0, 1], 0), ([interception._ARRAY], 1), ([0, interception._ARRAY], 1)])
def test_packed_functions_are_barriers_where_they_get_arrays(codes, seen):
    told = Told()
    interception._packed(lambda *args: 0, told)(None, None, codes, mx.base.ctypes.c_int(len(codes)), None, None)
    assert len(told.notes) == seen


def test_in_modes_sets_and_restores():
    with in_modes(1, 1):
        assert mx.autograd.is_recording() and mx.autograd.is_training()
        with in_modes(0, 1):
            assert not mx.autograd.is_recording() and mx.autograd.is_training()
    assert not mx.autograd.is_recording() and not mx.autograd.is_training()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64", "uint8"])
def test_new_array(dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    made = new_array(values, mx.cpu())
    assert made.dtype == values.dtype and np.array_equal(made.asnumpy(), values)
