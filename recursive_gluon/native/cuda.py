"""The CUDA backend: compiled with nvcc when it is asked for, never at load; what there is of CUDA on this machine."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Iterator, List, Tuple

from .build import CORE, Build, BuildError, find_compiler, first_error, kept

__all__ = ["CudaStatus", "build_cuda", "cuda_status", "open_cuda"]

_NAME = "libcuda_core.so"
#: -fmad=false: a multiply-add is spelled out where it is meant, as for the processor
_FLAGS = ["-std=c++17", "-O3", "-shared", "-fmad=false", "--expt-relaxed-constexpr", "-Werror",
          "cross-execution-space-call", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra"]
#: machine code for these where nvcc knows them (Turing, Ampere, Hopper), and PTX of the newest for what comes after
_ARCHITECTURES = ["75", "80", "86", "90"]
#: what is compiled beside cuda/*.cu
_SHARED = ["launch.cpp"]


@dataclass(frozen=True)
class CudaStatus:
    """What there is: `nvcc` its version, `devices` their names; `no_nvcc` and `no_device` say why not."""

    nvcc: str = ""
    no_nvcc: str = ""
    devices: Tuple[str, ...] = ()
    no_device: str = ""

    def __str__(self) -> str:
        compiler = f"nvcc {self.nvcc}" if self.nvcc else f"no nvcc ({self.no_nvcc})"
        devices = ", ".join(self.devices) if self.devices else f"no device ({self.no_device})"
        return f"{compiler}; {devices}"


def build_cuda(fresh: bool = False) -> Build:
    """Find the library of the CUDA backend in the cache, or compile it with nvcc; `fresh`: compile it anyway.

    Raises
    ------
    BuildError
        RECURSIVE_GLUON_CUDA is 0, there is no nvcc or no C++ compiler for it, or it failed.
    """
    nvcc, version = _nvcc()
    host, host_version = find_compiler()
    flags = [*_FLAGS, *_code(nvcc)]
    about = hashlib.sha256(repr((version, host_version, flags)).encode())
    for path in _sources():
        about.update(path.name.encode() + b"\0" + path.read_bytes())
    command = [nvcc, "-ccbin", host, *flags]
    return kept(_NAME, about.hexdigest()[:24], version, lambda work: _compile(command, work), fresh)


def open_cuda(built: Build) -> ctypes.CDLL:
    """Open the library and a cuBLAS for it: `rg_cuda_backend` then makes backends that multiply with it.

    Raises
    ------
    OSError
        The library cannot be opened.
    """
    lib = ctypes.CDLL(str(built.path))
    for path in _cublas(built.compiler):
        if lib.rg_cuda_blas_open(os.fsencode(path)):
            break
    return lib


def cuda_status() -> CudaStatus:
    """What there is of CUDA; compiles nothing, and works without a driver."""
    try:
        nvcc, no_nvcc = _nvcc()[1], ""
    except BuildError as error:
        nvcc, no_nvcc = "", str(error)
    devices, no_device = _devices()
    return CudaStatus(nvcc, no_nvcc, devices, no_device)


def _nvcc() -> Tuple[str, str]:
    """(path, version)"""
    if os.environ.get("RECURSIVE_GLUON_CUDA", "") == "0":
        raise BuildError("turned off by RECURSIVE_GLUON_CUDA=0")
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    names = [os.environ.get("NVCC"), *(os.path.join(home, "bin", "nvcc") for home in homes if home), "nvcc"]
    path = next((found for found in map(shutil.which, filter(None, names)) if found), None)
    if path is None:
        raise BuildError("there is no nvcc; install the CUDA toolkit, or set NVCC or CUDA_HOME")
    return path, _said(path, "release ([0-9.]+)", "--version")[0]


def _said(nvcc: str, pattern: str, option: str) -> List[str]:
    """What of nvcc's words fits a pattern."""
    try:
        text = subprocess.run([nvcc, option], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{nvcc} does not run: {error}") from None
    found = re.findall(pattern, text)
    if not found:
        raise BuildError(f"{nvcc} {option} said {text.strip()[:80]!r}, which is not what nvcc 11.2 and later say")
    return found


def _code(nvcc: str) -> List[str]:
    """For which devices nvcc makes code."""
    known = _said(nvcc, "compute_([0-9]+)", "--list-gpu-arch")
    chosen = [a for a in _ARCHITECTURES if a in known] or known[-1:]
    code = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in chosen]
    return [*code, f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}"]


def _sources() -> List[Path]:
    """All that the library depends on."""
    kinds = {".h", ".def", ".cu", ".cuh"}
    sources = CORE.folder
    own = [path for folder in (sources, sources / "cuda") for path in folder.iterdir() if path.suffix in kinds]
    return sorted([*own, *(sources / name for name in _SHARED)])


def _compile(command: List[str], work: Path) -> Path:
    made = work / _NAME
    sources = [str(path) for path in _sources() if path.suffix in (".cu", ".cpp")]
    done = subprocess.run([*command, *sources, "-o", str(made), "-ldl"], capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"nvcc failed: {first_error(done.stderr or done.stdout)}")
    return made


def _cublas(version: str) -> Iterator[str]:
    """Libraries to try: what the user names, pip's, what the system finds, of the toolkit's version first."""
    if os.environ.get("RECURSIVE_GLUON_CUBLAS"):
        yield os.environ["RECURSIVE_GLUON_CUBLAS"]
    major = version.split(".")[0]
    for package in (f"nvidia-cublas-cu{major}", "nvidia-cublas"):
        try:
            yield from (str(file.locate()) for file in metadata.files(package) or () if file.match("libcublas.so.*"))
        except metadata.PackageNotFoundError:
            pass
    yield from (f"libcublas.so.{number}" for number in dict.fromkeys((major, "13", "12", "11")))


def _devices() -> Tuple[Tuple[str, ...], str]:
    """(names of devices, why there is none), by the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), "no driver: libcuda.so.1 is not there"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return (), f"the driver says error {status}"
    names = []
    for i in range(count.value):
        text = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(text, len(text), i)
        names.append(text.value.decode(errors="replace"))
    return tuple(names), "" if names else "the driver sees none"
