"""Compiling with the machine's g++, once for each version of the sources, the compiler and MXNet: the core, and apart
from it the operator of second-order gradients and the skeleton of converted programs, which not everybody needs."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import mxnet.libinfo

__all__ = ["BuildError", "Build", "CORE", "OPERATOR", "SKELETON", "Library", "build", "find_compiler", "first_error",
           "kept", "sanitized"]

_HERE = Path(__file__).parent
_COMMON = ["-std=c++17", "-fPIC", "-Wall", "-Wextra", "-pthread"]
#: every src/isa_*.cpp is compiled once for each of these
_ISAS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
_SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


@dataclass(frozen=True)
class Library:
    """What can be built: our sources in `folder`, those that come `beside` them in MXNet's wheel, flags of its own."""

    name: str
    folder: Path
    flags: Tuple[str, ...] = ()
    beside: Tuple[str, ...] = ()

    def sources(self, pattern: str = "*") -> List[Path]:
        return sorted(p for p in self.folder.glob(pattern) if p.suffix in (".cpp", ".h", ".def"))


CORE = Library("libcore.so", _HERE / "src", ("-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math",
                                             "-ffp-contract=off", "-fopenmp-simd"))
#: its functions are found by MXNet by name, so they are not hidden
OPERATOR = Library("liboperator.so", _HERE / "operator", beside=("src/lib_api.cc",))
#: a module of the Python that runs
SKELETON = Library(f"skeleton{sysconfig.get_config_var('EXT_SUFFIX')}", _HERE / "skeleton",
                   ("-isystem", sysconfig.get_paths()["include"]))


class BuildError(Exception):
    """Why there is no library; the text is for users."""


class Build:
    """A library that was built or found: its path, the compiler, seconds of compiling (0: it was there)."""

    def __init__(self, path: Path, compiler: str, seconds: float):
        self.path, self.compiler, self.seconds = path, compiler, seconds


def sanitized() -> bool:
    """Whether the core is to be built with the address and undefined-behaviour sanitizers."""
    return os.environ.get("RECURSIVE_GLUON_SANITIZE", "") not in ("", "0")


def build(library: Library = CORE, fresh: bool = False) -> Build:
    """Find a library in the cache, or compile it; `fresh`: compile it anyway.

    Raises
    ------
    BuildError
        There is no compiler, or it failed.
    """
    compiler, version = find_compiler()
    libmxnet = Path(mxnet.libinfo.find_lib_path()[0]).resolve()
    return kept(library.name, _key(library, version, libmxnet), version,
                lambda work: _compile(library, compiler, work, libmxnet), fresh)


def kept(name: str, key: str, compiler: str, make: Callable[[Path], Path], fresh: bool) -> Build:
    """The library `name` that the cache keeps under `key`; `make` compiles it in a folder that is given.

    Raises
    ------
    BuildError
        No folder can be written to; and what `make` raises.
    """
    for folder in _caches():
        path = folder / key / name
        if not fresh and _intact(path):
            return Build(path, compiler, 0.0)
    started = time.perf_counter()
    for folder in _caches():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as work:
                made = make(Path(work))
                (folder / key).mkdir(exist_ok=True)
                seal = Path(work) / "sha256"
                seal.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
                os.replace(made, folder / key / name)  # at once: who builds at the same time sees one or the other
                os.replace(seal, folder / key / "sha256")
            return Build(folder / key / name, compiler, time.perf_counter() - started)
        except OSError as error:
            failure = error
    raise BuildError(f"no folder to keep the library in: {failure}; set RECURSIVE_GLUON_CACHE to one that is writable")


def _intact(path: Path) -> bool:
    """Whether a library is whole: to open one that was cut short ends the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == (path.parent / "sha256").read_text()
    except OSError:
        return False


def find_compiler() -> Tuple[str, str]:
    """(path, version) of the C++ compiler."""
    name = os.environ.get("CXX") or "g++"
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"there is no compiler ({name}); install g++, or set CXX to one")
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"the compiler {path} does not run: {error}") from None
    return path, text.splitlines()[0]


def _caches() -> List[Path]:
    if os.environ.get("RECURSIVE_GLUON_CACHE"):
        return [Path(os.environ["RECURSIVE_GLUON_CACHE"])]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    shared = Path(tempfile.gettempdir()) / f"recursive_gluon-{os.getuid()}"
    return [Path(home) / "recursive_gluon", shared]


def _key(library: Library, version: str, libmxnet: Path) -> str:
    state = libmxnet.stat()
    about = hashlib.sha256(repr((version, _COMMON, library.name, library.flags, _ISAS, sanitized(),
                                 platform.machine(), str(libmxnet), state.st_size, state.st_mtime_ns)).encode())
    for path in library.sources():
        about.update(path.name.encode() + b"\0" + path.read_bytes())
    return about.hexdigest()[:24]


def _units(library: Library) -> List[Tuple[Path, str, List[str]]]:
    """(source, name of the object, flags of its own)."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    plain = [] if x86 else ["-DRG_ONLY_BASELINE"]
    units = []
    beside = [Path(mxnet.libinfo.find_include_path()).parent / name for name in library.beside]
    for path in [*library.sources("*.cpp"), *beside]:
        if path.name.startswith("isa_"):
            units += [(path, f"{path.stem}.{isa}.o", [f"-DRG_ISA_NAME={isa}", *flags, *plain])
                      for isa, flags in _ISAS.items() if x86 or isa == "baseline"]
        else:
            units.append((path, f"{path.stem}.o", plain))
    return units


def _compile(library: Library, compiler: str, work: Path, libmxnet: Path) -> Path:
    flags = [*_COMMON, *library.flags, *(_SANITIZE if sanitized() else ["-O3"]),
             "-isystem", mxnet.libinfo.find_include_path()]
    note = _Note()

    def one(unit: Tuple[Path, str, List[str]]) -> Optional[str]:
        source, name, own = unit
        done = subprocess.run([compiler, *flags, *own, "-c", str(source), "-o", str(work / name)], capture_output=True,
                              text=True)
        note.tick()
        return None if done.returncode == 0 else f"{source.name}: {first_error(done.stderr)}"

    # The longest first: files for every instruction set.
    units = sorted(_units(library), key=lambda u: (not u[0].name.startswith("isa_"), -u[0].stat().st_size))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        failed = [error for error in pool.map(one, units) if error]
    if failed:
        raise BuildError(f"the compiler failed: {'; '.join(failed[:3])}")
    made = work / library.name
    link = [compiler, "-shared", *(_SANITIZE if sanitized() else []), "-o", str(made),
            *(str(work / name) for _, name, _ in units), str(libmxnet), f"-Wl,-rpath,{libmxnet.parent}", "-pthread",
            "-ldl"]
    done = subprocess.run(link, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"the linker failed: {first_error(done.stderr)}")
    return made


def first_error(text: str) -> str:
    """What is worth telling of a compiler's words."""
    lines = text.strip().splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else "no message").strip()


class _Note:
    """One line for whoever waits."""

    def __init__(self) -> None:
        self.started, self.told = time.perf_counter(), False

    def tick(self) -> None:
        if not self.told and time.perf_counter() - self.started > 2:
            self.told = True
            print("recursive_gluon: compiling its native core (once)...", file=sys.stderr, flush=True)
