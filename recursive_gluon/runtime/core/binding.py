"""The core's C interface (native/src/api.cpp) as Python calls it, and its errors as ours."""

from __future__ import annotations

import ctypes
import signal
import struct
import threading
from functools import lru_cache
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from ... import native
from ...errors import ArityError, DepthLimitError, IndexRangeError, NativeCoreError, VisitError
from ...program.expr import Expr
from ...schedule.faults import Unseen, call_path, call_step, check_count, endless, raised
from ...schedule.recipe import Recipe

__all__ = ["FIELD_TYPES", "Recompute", "RunArgs", "backward_failure", "core", "ew_names", "failure", "pointers",
           "recompute_code", "reported", "workers"]

#: types of fields that the core reads
FIELD_TYPES = {"float32": 0, "float64": 1, "int32": 2, "int64": 3, "uint8": 4, "int8": 5}

#: the kind of error of a run that Ctrl-C ended
_INTERRUPT = 9

#: what to compute again for a gradient: nothing, each batch (True), or so many calls at once
Recompute = Union[bool, int]

_i32, _i64, _p = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class RunArgs(ctypes.Structure):
    """The arguments of a run; the same layout as RunArgs of native/src/api.h."""

    _fields_ = [
        *((name, _p) for name in ("structure", "field_data", "field_types", "field_cols", "ints")),
        ("max_depth", _i64),
        ("max_nodes", _i64),
        ("recompute", _i64),
        *((name, _i32) for name in ("num_fields", "num_ints", "returns_nodes", "trace", "lanes")),
        ("lane_library", ctypes.c_char_p),
        ("field_device", _p),
        *((name, _i32) for name in ("device", "resident", "chunks")),
    ]


_PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "rg_program_new": (_p, [_p, _i64]),
    "rg_program_free": (None, [_p]),
    "rg_run_new": (_p, [_p, _p]),
    "rg_run_free": (None, [_p]),
    "rg_run_lookups": (_i64, [_p, _i32]),
    "rg_run_looked_up": (_i32, [_p, _i32, _p]),
    "rg_run_forward": (_i32, [_p, _p, _p, _p, ctypes.c_uint64]),
    "rg_run_rows": (_i64, [_p]),
    "rg_run_output": (_i32, [_p, _i32, _p]),
    "rg_run_counts": (_i32, [_p, _p]),
    "rg_run_backward": (_i32, [_p, _p, _p, _p, _p]),
    "rg_run_figure": (_i64, [_p, _i32, _i64]),
    "rg_run_whole": (ctypes.c_char_p, [_p]),
    "rg_run_batch": (_i32, [_p, _i64, _p]),
    "rg_run_after": (_i64, [_p, _i64, _p]),
    "rg_run_spans": (_i64, [_p, _p]),
    "rg_lane_plan_new": (_p, [_i32, _p, _p, _p, _i32]),
    "rg_lane_plan_free": (None, [_p]),
    "rg_lane_plan_events": (_i32, [_p]),
    "rg_lane_plan_figures": (None, [_p, _p]),
    "rg_try_lanes": (_i32, [ctypes.c_char_p, _i32, _i32]),
    "rg_caller_new": (_p, [_p, _p]),
    "rg_caller_free": (None, [_p]),
    "rg_invoke": (_i32, [_p, _p, _p]),
    "rg_backward_failure": (_i32, [_p, _i64]),
    "rg_set_poll": (None, [_p]),
    "rg_trim": (None, []),
    "rg_borrowed_bytes": (_i64, []),
    "rg_ew_names": (_i64, [_p, _i64]),
}


@lru_cache(maxsize=None)
def core() -> Optional[ctypes.CDLL]:
    """The core with the types of its functions; None where there is none."""
    lib = native.library()
    if lib is None:
        return None
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.rg_set_poll(_poll)
    return lib


def workers() -> int:
    """The core's worker threads, the caller's included."""
    lib = core()
    return 0 if lib is None else lib.rg_workers(0)


@lru_cache(maxsize=None)
def ew_names() -> Dict[str, int]:
    """The core's element-wise operators by number."""
    lib = core()
    assert lib is not None
    text = ctypes.create_string_buffer(1 << 14)
    lib.rg_ew_names(text, len(text))
    return {item.split(",")[0]: i for i, item in enumerate(text.value.decode().rstrip(";").split(";"))}


@ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int))
def _poll(ends: Any) -> None:
    """Asked by the core during a long run: the interpreter handles signals while this runs, on its main thread. On
    another the core asks after SIGINT, and a handler that does not raise lets it go on."""
    if threading.get_ident() != threading.main_thread().ident:
        ends[0] = int(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    else:
        ends[0] = 0


def backward_failure() -> Optional[BaseException]:
    """The error for a gradient that failed on the tape; None if none did."""
    if not core.cache_info().currsize:
        return None
    lib, text = core(), ctypes.create_string_buffer(4096)
    kind = 0 if lib is None else lib.rg_backward_failure(text, len(text))
    return _plain(kind, text.value) if kind else None


def _plain(kind: int, text: bytes) -> BaseException:
    """The error for what has no place in the user's program."""
    return KeyboardInterrupt() if kind == _INTERRUPT else NativeCoreError(
        f"native core: {text.decode(errors='replace')}")


def recompute_code(recompute: Recompute) -> int:
    """What to compute again for the gradient, as the core takes it."""
    return -1 if recompute is True else int(recompute)


def pointers(addresses: List[int]) -> Any:
    """An array of pointers for C."""
    return (ctypes.c_void_p * max(len(addresses), 1))(*addresses)


def _last() -> Tuple[int, bytes, List[int], List[int]]:
    """What the core reported last on this thread: kind, words, detail, sites."""
    lib = core()
    assert lib is not None
    kind, text = _i32(), ctypes.create_string_buffer(4096)
    detail, sites = (_i64 * 16)(), (_i64 * 16)()
    num_detail, num_sites = _i64(16), _i64(16)
    lib.rg_error(ctypes.byref(kind), text, len(text), detail, ctypes.byref(num_detail), sites, ctypes.byref(num_sites))
    return kind.value, text.value, list(detail[: num_detail.value]), list(sites[: num_sites.value])


def reported() -> str:
    """The words for what the core reported last on this thread."""
    return _last()[1].decode(errors="replace")


def failure(recipe: Recipe, structure, max_nodes: int = 0, max_depth: int = 0) -> BaseException:
    """The error for what the core reported last on this thread."""
    kind, text, d, sites = _last()
    make = _ERRORS.get(kind)
    if make is None or not d:
        return _plain(kind, text)
    function = list(recipe.program.functions)[d[0]]
    steps = [call_step(recipe.sites[s].node) for s in sites]
    return make(_Fault(recipe, structure, max_nodes, max_depth, function, steps, d[1:]))


class _Fault:
    """What the core said about an error."""

    def __init__(
        self, recipe: Recipe, structure, max_nodes: int, max_depth: int, function: str, steps: List[str], detail
    ):
        self.recipe, self.structure, self.max_nodes, self.max_depth = recipe, structure, max_nodes, max_depth
        self.path, self.detail = call_path(function, steps), detail

    def place(self, node: int) -> Tuple[int, int]:
        """(node within its tree, tree)"""
        offsets = self.structure.tree_offsets
        tree = int(np.searchsorted(offsets, node, side="right")) - 1
        return node - int(offsets[tree]), tree


def _arity(f: _Fault) -> Exception:
    if f.detail[0] == 0:
        node = f.recipe.sites[f.detail[1]].node
        return ArityError(f"{f.path}: {node.function} is called at {node.where} on {node.node}, which is an empty slot "
                          f"(None)")
    if f.detail[0] == 1:
        return ArityError(f"{f.path}: the body looks at an empty slot (None); test the slot with `is None` before")
    return ArityError(f"{f.path}: child {f.detail[1]} was asked of a node that has {f.detail[2]} children; test "
                      f"`node.is_leaf` or `node.arity` before asking, or give the tree that child")


def _depth(f: _Fault) -> Exception:
    if f.detail[0] == 1:
        return DepthLimitError(endless(f.path))
    site = f.detail[1]
    path = f.recipe.program.root if site < 0 else f.path[:-1] + call_step(f.recipe.sites[site].node) + "]"
    return DepthLimitError(f"{path}: calls are nested deeper than {f.max_depth}; does a base case come? If the depth "
                           f"is meant, raise the limit with hybridize(max_depth=...)")


def _visit(f: _Fault) -> Exception:
    node, visits = f.detail
    local, tree = f.place(node)
    where = f" (once at {f.path})" if visits else ""
    return VisitError(f"nodes=True needs exactly one visit of every node, but node {local} of tree {tree} was visited "
                      f"{visits} times{where}; ask for the roots alone, or visit it once")


def _index(f: _Fault) -> Exception:
    segment, k, node, bits = f.detail
    value = struct.unpack("<d", struct.pack("<q", bits))[0]
    recipe = f.recipe
    s = recipe.segments[segment]
    slot = [slot for slot in s.slots for _ in slot.parts][k]
    op = next(op for op in s.ops if op.op == "Embedding" and op.inputs[0] == slot.value)
    rows = int(op.attrs["input_dim"])
    local, tree = f.place(node)
    larger = f"give it input_dim={int(value) + 1} or more, or " if value >= rows else ""
    return IndexRangeError(f"node {local} of tree {tree}: field {slot.detail[0].name!r} holds {value:g}, but the "
                           f"Embedding at {op.where} knows 0 to {rows - 1}; {larger}map such values to one that it has "
                           f"(see rg.data.Vocab)")


def _unseen(f: _Fault) -> Exception:
    info = f.recipe.blocks[f.detail[0]]
    exact = not all(isinstance(a, bool) for a in info.arms)
    answer: Any = f.detail[1] if exact else bool(f.detail[1])
    test = info.end.test if isinstance(info.end.test, Expr) else f"the tensor at {info.end.where}"
    return Unseen(info, answer, f"{f.path}: {test} is {answer}, a path that was never traced (traced: "
                                f"{', '.join(map(str, info.arms))})")


def _raise(f: _Fault) -> Exception:
    return raised(f.recipe.blocks[f.detail[0]].end, f.path)


def _count(f: _Fault) -> Exception:
    tree, count = f.detail
    counts = [0] * (tree + 1)
    counts[tree] = count
    try:
        check_count(counts, f.max_nodes)
    except Exception as error:  # noqa: BLE001  the message is made there
        return error
    return NativeCoreError("native core: a tree grew too large")


_ERRORS = {2: _arity, 3: _depth, 4: _visit, 5: _index, 6: _unseen, 7: _raise, 11: _count}
