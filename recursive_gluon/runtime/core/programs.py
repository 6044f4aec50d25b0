"""Programs of the core, made once for a Program, mode and shapes, and kept; or why one cannot be made."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ...native.forests import NativeStructure
from ...schedule.faults import deciding
from ..arrays import run_ops
from ..executor import NODES, Call
from ..recipes import Compiled, compiled
from .binding import FIELD_TYPES, Recompute, RunArgs, core, ew_names, failure, pointers, recompute_code
from .encode import Encoded, encode
from .unsupported import Unsupported

__all__ = ["CoreProgram", "CoreRun", "Lanes", "WORKERS", "core_program", "hoisted", "outside", "why_not"]


class Lanes(NamedTuple):
    """What a run is given to: so many lanes of the processor, or of a device by the backend in a library; 0: the
    workers."""

    number: int
    library: Optional[bytes] = None
    device: int = 0


WORKERS = Lanes(0)


class CoreProgram:
    """A recipe in the core."""

    def __init__(self, code: Compiled):
        self.lib = core()
        assert self.lib is not None
        self.recipe = code.recipe
        self.encoded: Encoded = encode(code.recipe, ew_names())
        words = self.encoded.words
        self.handle = self.lib.rg_program_new(words.ctypes.data, len(words))
        if not self.handle:
            raise failure(self.recipe, None)
        weakref.finalize(self, self.lib.rg_program_free, self.handle)


def core_program(code: Compiled) -> Tuple[Optional[CoreProgram], str]:
    """The core's program of what was compiled, or None and why."""
    found: Dict[str, Any] = code.__dict__
    if "core" not in found:
        if core() is None:
            found["core"] = None, "there is no native core on this machine (python -m recursive_gluon info)"
        else:
            try:
                found["core"] = CoreProgram(code), ""
            except Unsupported as error:
                found["core"] = None, str(error)
    return found["core"]


def hoisted(code: Compiled, encoded: Encoded, params: Mapping[str, Any]) -> List[Any]:
    """Of the core's shared inputs what bodies compute from parameters alone, by MXNet's operators (on its tape, if
    it records); None for a parameter itself."""
    made: Dict[str, Dict[str, Any]] = {}
    for function in {function: None for function, _ in encoded.shared if function}:
        made[function] = {f"@{n}": a for n, a in params.items()}
        run_ops(code.recipe.shared_ops[function], made[function])
    return [made[function][name] if function else None for function, name in encoded.shared]


def why_not(call: Call) -> str:
    """Why the native core cannot run a call on the host; empty where it can."""
    return outside(call) if call.ctx.device_type == "cpu" else f"it runs on {call.ctx}"


def outside(call: Call) -> str:
    """What of a call is outside of the core's set, wherever its arrays lie; empty where nothing is."""
    for name in call.program.fields:
        if name in call.fields and np.dtype(call.fields[name].dtype).name not in FIELD_TYPES:
            return f"field {name!r} has the type {np.dtype(call.fields[name].dtype).name}"
    return core_program(compiled(call))[1]


class CoreRun:
    """A run in the core: planned when it is made, as far as structure alone decides. `chunks`: a large forest may be
    cut, as in a block's own calls; it has no plan of its own then."""

    def __init__(self, program: CoreProgram, call: Call, fields: Mapping[str, np.ndarray], recompute: Recompute = False,
                 trace: bool = False, lanes: Lanes = WORKERS, chunks: bool = False):
        lib, s, self.handle = program.lib, call.structure, None
        assert lib is not None
        self.lib, self.program, self.structure = lib, program, s
        self.limits = call.max_nodes, call.max_depth
        for name in program.encoded.deciding:
            deciding(name, fields[name])
        arrays = [fields[name] for name in program.encoded.fields]
        data = pointers([a.ctypes.data for a in arrays])
        types = (ctypes.c_int64 * max(len(arrays), 1))(*(FIELD_TYPES[a.dtype.name] for a in arrays))
        cols = (ctypes.c_int64 * max(len(arrays), 1))(*(a.size // max(len(a), 1) for a in arrays))
        ints = (ctypes.c_int64 * max(len(call.ints), 1))(*call.ints)
        own = NativeStructure.of(lib, s)
        if own is None:
            raise self.error()
        on_host = lanes.library is None
        args = RunArgs(own.handle, *(ctypes.addressof(x) for x in (data, types, cols, ints)), call.max_depth,
                       call.max_nodes, recompute_code(recompute), len(arrays), len(call.ints), call.returns == NODES,
                       trace, lanes.number, lanes.library, ctypes.addressof(data) if on_host else None, lanes.device,
                       on_host, chunks)
        self.fields = arrays  # the core reads them while it runs
        self.handle = lib.rg_run_new(program.handle, ctypes.byref(args))
        if not self.handle:
            raise self.error()

    def error(self) -> BaseException:
        return failure(self.program.recipe, self.structure, *self.limits)

    def check(self, result: int) -> None:
        if result != 0:
            raise self.error()

    def lookups(self, table: int) -> int:
        """How many rows of an embedding table are looked up."""
        count = self.lib.rg_run_lookups(self.handle, table)
        if count < 0:
            raise self.error()
        return count

    def look_up(self, table: int, to: int, count: int) -> None:
        """Which rows, in the core's order, as int32 at an address; 0 where there are none."""
        if count:
            self.check(self.lib.rg_run_looked_up(self.handle, table, to))
        else:
            ctypes.memset(to, 0, 4)

    def figure(self, what: int, index: int = 0) -> int:
        return self.lib.rg_run_figure(self.handle, what, index)

    def chunks(self) -> int:
        """In how many a large forest is cut; 0: it is not."""
        return self.figure(10)

    def whole(self) -> str:
        """Why what was to be computed part by part is not; empty where it is."""
        return self.lib.rg_run_whole(self.handle).decode()

    def release(self) -> None:
        if self.handle:
            self.lib.rg_run_free(self.handle)
            self.handle = None

    def __del__(self) -> None:
        self.release()
