"""Loading the core, and what can be said about it."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Tuple

import mxnet.libinfo
from mxnet.base import _LIB, py_str

from ..errors import NativeCoreError, NativeCoreWarning
from .build import OPERATOR, SKELETON, Build, BuildError, build

__all__ = ["Status", "library", "loaded", "operator_library", "skeleton", "status"]


@dataclass(frozen=True)
class Status:
    """What there is: `reason` says why not, `blas` who multiplies matrices, `isa` the instruction set in use."""

    available: bool
    reason: str = ""
    path: str = ""
    compiler: str = ""
    seconds: float = 0.0
    blas: str = ""
    isa: str = ""
    workers: int = 0


_i32, _i64, _p = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
#: of what this folder calls
_PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "rg_blas_open": (_i32, [ctypes.c_char_p, ctypes.c_char_p]),
    "rg_blas_name": (ctypes.c_char_p, []),
    "rg_isa_name": (ctypes.c_char_p, []),
    "rg_workers": (_i32, [_i32]),
    "rg_error": (_i32, [_p, _p, _i64, _p, _p, _p, _p]),
    "rg_structure_new": (_p, [_i64, _i64, _i64, _p, _p, _p, _p]),
    "rg_structure_free": (None, [_p]),
    "rg_structure_sizes": (None, [_p, _p]),
    "rg_structure_read": (None, [_p, _p]),
    "rg_forest_join": (_p, [_i64, _p, _p, _i32, _p, _p]),
}

_lock = threading.Lock()
_loaded: Optional[Tuple[Optional[ctypes.CDLL], Status]] = None


def library() -> Optional[ctypes.CDLL]:
    """The core, built at first use; None where it cannot be, after one warning."""
    return _load()[0]


def loaded() -> Optional[ctypes.CDLL]:
    """The core if somebody has asked for it before, and it is there."""
    return None if _loaded is None else _loaded[0]


def status() -> Status:
    """What is known about the core; builds and loads it if that was not tried yet."""
    return _load()[1]


@lru_cache(maxsize=None)
def operator_library() -> ctypes.CDLL:
    """The library of the operator of second-order gradients, built at first use; MXNet knows its operators then.

    Raises
    ------
    NativeCoreError
        It cannot be built, or MXNet refuses it.
    """
    try:
        path = str(build(OPERATOR).path)
        if _LIB.MXLoadLib(os.fsencode(path), 0) != 0:
            raise NativeCoreError(f"MXNet does not load the operator of second-order gradients: "
                                  f"{py_str(_LIB.MXGetLastError()).strip()}")
        return ctypes.CDLL(path)
    except (BuildError, OSError) as error:
        raise NativeCoreError(f"no operator of second-order gradients: {error}; install a compiler, or leave out "
                              f"second_order=True") from None


@lru_cache(maxsize=None)
def skeleton() -> Optional[ModuleType]:
    """The module by which converted programs put their calls off, built at first use; None where it cannot be."""
    if _turned_off():
        return None
    try:
        spec = util.spec_from_file_location("skeleton", build(SKELETON).path)
        assert spec is not None
        return util.module_from_spec(spec)
    except (BuildError, ImportError):
        return None


def _turned_off() -> bool:
    return os.environ.get("RECURSIVE_GLUON_NATIVE", "") == "0"


def _load() -> Tuple[Optional[ctypes.CDLL], Status]:
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _try()
        return _loaded


def _try() -> Tuple[Optional[ctypes.CDLL], Status]:
    if _turned_off():
        return None, Status(False, "turned off by RECURSIVE_GLUON_NATIVE=0")
    try:
        built = build()
        try:
            lib = _open(built)
        except OSError:  # a file that was cut short, or is of another machine
            built = build(fresh=True)
            lib = _open(built)
    except (BuildError, OSError) as error:
        warnings.warn(NativeCoreWarning(
            f"no native core: {error}. Programs run on the mxnet executor, which is slower; RECURSIVE_GLUON_NATIVE=0 "
            f"says that this is meant"), stacklevel=4)
        return None, Status(False, str(error))
    for kind, path in _providers():
        lib.rg_blas_open(kind.encode(), os.fsencode(path))
    return lib, Status(True, "", str(built.path), built.compiler, built.seconds, lib.rg_blas_name().decode(),
                       lib.rg_isa_name().decode(), lib.rg_workers(0))


def _open(built: Build) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(built.path))
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _providers() -> Iterator[Tuple[str, Path]]:
    """Libraries of matrix products; why these is in docs/design/0005."""
    onednn = next((p for p in _onednn() if p.is_file()), None)
    if onednn is not None:
        yield "onednn", onednn
    folder = Path(mxnet.libinfo.find_lib_path()[0]).parent
    for path in sorted(folder.glob("libopenblas*.so*")):  # it comes with MXNet's wheel
        yield "cblas", path
        return


def _onednn() -> Iterator[Path]:
    name = "libdnnl.so.3"
    try:
        for file in metadata.files("onednn-cpu-gomp") or ():
            if file.name == name:
                yield Path(str(file.locate())).resolve()
    except metadata.PackageNotFoundError:
        pass
    for root in (sys.prefix, sysconfig.get_config_var("userbase")):
        if root:
            yield Path(root) / "lib" / name
