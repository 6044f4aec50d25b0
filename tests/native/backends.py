"""The core's plans of lanes and backends as the tests call them."""
import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np

from recursive_gluon import native
from recursive_gluon.errors import NativeCoreError
from recursive_gluon.native.build import CORE, find_compiler
from recursive_gluon.runtime.core import binding

LAUNCH, RECORD, WAIT = range(3)
KINDS = {1: "program", 8: "memory", 12: "internal"}  # of native/src/common.h
OPERATIONS = ["ew", "map", "reduce", "soft", "bdot", "pick", "one_hot", "column_sums", "transpose", "gemm"]
ON_CPU = Path(__file__).parent / "cuda_on_cpu"

_p, _i32, _i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class LaunchArgs(ctypes.Structure):
    """The same layout as LaunchArgs of native/src/backend_api.cpp."""

    _fields_ = [
        *((name, _i32) for name in ("operation", "bytes")),
        *((name, _i64) for name in ("rows", "sources", "targets")),
        *((name, _p) for name in ("in_", "out", "ew", "map")),
        *((name, _i64) for name in ("cols", "first", "last", "groups", "length", "m", "n", "k", "lda", "ldb", "ldc")),
        *((name, _i32) for name in ("reduction", "soft", "wrap", "turn_a", "turn_b", "unused")),
        *((name, ctypes.c_double) for name in ("temperature", "on", "off", "beta")),
    ]


_PROTOTYPES = {
    "rg_lane_plan_lane": (_i64, [_p, _i32, _p]),
    "rg_lane_plan_issue": (None, [_p, _p]),
    "rg_test_backend_new": (_p, [ctypes.c_char_p, _i32]),
    "rg_test_backend_free": (None, [_p]),
    "rg_test_backend_alloc": (_p, [_p, _i64]),
    "rg_test_backend_release": (_i32, [_p, _p]),
    "rg_test_backend_copy": (_i32, [_p, _i32, _i32, _p, _p, _i64]),
    "rg_test_backend_launch": (_i32, [_p, _i32, _p]),
    "rg_test_backend_record": (_i32, [_p, _i32, _i32]),
    "rg_test_backend_synchronise": (_i32, [_p]),
    "rg_test_backend_issue": (_i32, [_p, _p, _p, _p]),
    "rg_test_program_new": (_p, [_i32, _i32, _p, _i32, _p, _p, _i32, _p]),
    "rg_test_program_free": (None, [_p]),
}


def core():
    lib = binding.core()
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def must(made):
    """The result of a function that returns null, or -1, after an error."""
    if made is None or made == -1:
        kind, text, none = _i32(), ctypes.create_string_buffer(4096), _i64(0)
        core().rg_error(ctypes.byref(kind), text, len(text), None, ctypes.byref(none), None, ctypes.byref(none))
        raise NativeCoreError(f"{KINDS[kind.value]}: {text.value.decode()}")
    return made


def place(array):
    return None if array is None else array.ctypes.data


class LanePlan:
    """after[c]: the chains that wait for c. `lanes`: lists of (step, id); `issue`: (lane, step, id) as handed over."""

    def __init__(self, after, cost=None, lanes=2):
        start = np.concatenate([[0], np.cumsum([len(a) for a in after])]).astype(np.int64)
        flat = np.array([c for a in after for c in a], np.int32)
        cost = None if cost is None else np.array(cost, np.float64)
        lib = core()
        self.address = must(lib.rg_lane_plan_new(len(after), place(start), place(flat), place(cost), lanes))
        self.lanes = []
        for lane in range(lanes):
            pairs = np.empty((lib.rg_lane_plan_lane(self.address, lane, None), 2), np.int32)
            lib.rg_lane_plan_lane(self.address, lane, place(pairs))
            self.lanes.append([tuple(pair) for pair in pairs.tolist()])
        order = np.empty(sum(map(len, self.lanes)), np.int32)
        lib.rg_lane_plan_issue(self.address, place(order))
        queues = [iter(ops) for ops in self.lanes]
        self.issue = [(lane, *next(queues[lane])) for lane in order.tolist()]
        self.events = lib.rg_lane_plan_events(self.address)
        figures = np.empty(2 + lanes)
        lib.rg_lane_plan_figures(self.address, place(figures))
        self.critical_path, self.makespan, *self.lane_cost = figures.tolist()

    def __del__(self):
        if getattr(self, "address", None):
            core().rg_lane_plan_free(self.address)


class Program:
    """An element-wise program: inputs (source, cell), code (name, a, b, c, scalar), outputs (value, target)."""

    def __init__(self, cols, inputs, code, outputs):
        names = binding.ew_names()
        ints = [np.array(x, np.int32) for x in (inputs, [[names[n], a, b, c] for n, a, b, c, _ in code], outputs)]
        scalars = np.array([step[4] for step in code], np.float64)
        self.address = must(core().rg_test_program_new(cols, len(inputs), place(ints[0]), len(code), place(ints[1]),
                                                       place(scalars), len(outputs), place(ints[2])))

    def __del__(self):
        if getattr(self, "address", None):
            core().rg_test_program_free(self.address)


class Backend:
    """`library` None: the processor, else the CUDA backend's library. Arrays are freed with it."""

    def __init__(self, library=None, lanes=1):
        path = None if library is None else os.fsencode(library)
        self.lib, self.blocks, self.alive = core(), [], []
        self.address = must(self.lib.rg_test_backend_new(path, lanes))

    def close(self):
        must(self.lib.rg_test_backend_synchronise(self.address))
        for block in self.blocks:
            must(self.lib.rg_test_backend_release(self.address, block))
        self.lib.rg_test_backend_free(self.address)

    def alloc(self, size):
        self.blocks.append(must(self.lib.rg_test_backend_alloc(self.address, size)))
        return self.blocks[-1]

    def put(self, array):
        """A copy on the device; its address."""
        array = np.ascontiguousarray(array)
        block = self.alloc(array.nbytes)
        must(self.lib.rg_test_backend_copy(self.address, 0, 0, block, place(array), array.nbytes))
        self.synchronise()
        return block

    def get(self, block, shape, dtype):
        array = np.empty(shape, dtype)
        must(self.lib.rg_test_backend_copy(self.address, 1, 0, place(array), block, array.nbytes))
        self.synchronise()
        return array

    def copy(self, to, block, size):
        must(self.lib.rg_test_backend_copy(self.address, 2, 0, to, block, size))

    def source(self, array, index=None, start=None, stride=None):
        """(base, stride, index, start) of rows on the device."""
        stride = array.shape[1] if stride is None else stride
        rows = (0 if x is None else self.put(np.asarray(x, np.int64)) for x in (index, start))
        return (self.put(array), stride, *rows)

    def args(self, operation, dtype, rows, sources, targets, **more):
        """`sources` as source() makes them, `targets` (base, stride)."""
        given = np.array(sources, np.int64).reshape(-1, 4)
        taken = np.array(targets, np.int64).reshape(-1, 2)
        self.alive += [given, taken, more]
        more = {k: v.address if isinstance(v, Program) else place(v) if isinstance(v, np.ndarray) else v
                for k, v in more.items()}
        return LaunchArgs(OPERATIONS.index(operation), np.dtype(dtype).itemsize, rows, len(given), len(taken),
                          place(given), place(taken), **more)

    def launch(self, args, lane=0):
        must(self.lib.rg_test_backend_launch(self.address, lane, ctypes.byref(args)))

    def record(self, lane, event):
        must(self.lib.rg_test_backend_record(self.address, lane, event))

    def issue(self, plan, chains):
        """chains[c]: the launches of chain c."""
        start = np.concatenate([[0], np.cumsum([len(c) for c in chains])]).astype(np.int64)
        flat = [args for chain in chains for args in chain]
        launches = (LaunchArgs * max(len(flat), 1))(*flat)
        must(self.lib.rg_test_backend_issue(self.address, plan.address, place(start), launches))

    def synchronise(self):
        must(self.lib.rg_test_backend_synchronise(self.address))


def cuda_on_cpu(folder):
    """The CUDA backend's library, compiled for the processor; and a cuBLAS for it."""
    flags = [find_compiler()[0], "-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off",
             "-Wall", "-Wextra", "-Werror", f"-I{ON_CPU}",
             "-fsanitize=bounds", "-fsanitize-undefined-trap-on-error"]  # a thread's own values are an array
    backend, cublas = folder / "libcuda_on_cpu.so", folder / "libcublas_on_cpu.so"
    sources = [str(CORE.folder / "cuda" / "backend.cu"), str(CORE.folder / "launch.cpp")]
    subprocess.run([*flags, "-x", "c++", *sources, "-o", str(backend), "-ldl"], check=True)
    subprocess.run([*flags, str(ON_CPU / "cublas.cpp"), "-o", str(cublas)], check=True)
    return backend, cublas


def cuda_library():
    """The CUDA backend's library for a device that is there; None where there is none."""
    status = native.cuda_status()
    if not status.nvcc or not status.devices:
        return None
    built = native.build_cuda()
    native.open_cuda(built)
    return built.path
