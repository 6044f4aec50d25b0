"""The import gate: the one place where mxnet is first imported, as ``from ._compat import mx``.

MXNet 1.9.1 is particular about its company: NumPy before 1.24, Python 3.8 to 3.11, and one build only,
because the CPU and CUDA distributions own the same ``mxnet`` folder. What goes wrong otherwise is a traceback
from deep inside, so each condition is checked here, before mxnet is imported, and answered with one sentence
that says what to do. Every check is a function of what was found, so that tests can call it with anything.
"""
from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, Iterable

_INSTALL = "`pip install 'recursive_gluon[cpu]'` (or `[cu112]` for CUDA 11.2)"

# The distributions that own the mxnet folder; tools such as mxnet-model-server only share the first word.
_BUILD = re.compile(r"mxnet([-_](native|mkl|cu\d+(mkl)?))?$")


class CompatError(ImportError):
    """This Python, NumPy or MXNet cannot carry recursive_gluon; the message says what to install."""


def check_python(version: tuple[int, int]) -> None:
    """Refuse an interpreter for which NumPy before 1.24, and so MXNet 1.9.1, has no wheels."""
    if not (3, 8) <= version <= (3, 11):
        raise CompatError("recursive_gluon needs Python 3.8-3.11, because MXNet 1.9.1 does, but this is "
                          f"Python {version[0]}.{version[1]}: run `make setup`, or `uv venv --python 3.11`.")


def check_numpy(version: str) -> None:
    """Refuse a NumPy that dropped the aliases (``numpy.bool``) which mxnet reads while it is imported."""
    if _release(version) >= (1, 24):
        raise CompatError(f"MXNet 1.9.1 needs NumPy before 1.24, but NumPy {version} is installed: "
                          "run `pip install 'numpy<1.24'`.")


def check_builds(found: bool, names: Iterable[str]) -> None:
    """Refuse no MXNet, and refuse two.

    Parameters
    ----------
    found : bool
        Whether ``import mxnet`` would find a package. A build from source is found but may have no name.
    names : iterable of str
        The installed distributions that own the ``mxnet`` folder.
    """
    builds = sorted(set(names))
    if not found:
        raise CompatError(f"recursive_gluon runs on MXNet 1.9.1, which is not installed: run {_INSTALL}.")
    if len(builds) > 1:
        raise CompatError(f"{' and '.join(builds)} are both installed and overwrite each other's files: run "
                          f"`pip uninstall {' '.join(builds)}`, then {_INSTALL}.")


def check_mxnet(version: str) -> None:
    """Warn of an MXNet that recursive_gluon was not tested with; it may still do."""
    if _release(version) != (1, 9):
        warnings.warn(f"recursive_gluon is made for MXNet 1.9.x, but MXNet {version} is installed: "
                      f"if anything misbehaves, run {_INSTALL}.", stacklevel=2)


def load_error(error: Exception) -> CompatError:
    """What to tell when mxnet is there but its native library is not, or does not load."""
    return CompatError(f"MXNet is installed, but its native library does not load ({error}): the CPU build "
                       "needs the system's libgomp1 and libquadmath0, the CUDA build CUDA 11 and cuDNN 8; "
                       "a build that lost files when another was uninstalled must be installed anew.")


def _release(version: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) where it does not start with two."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _builds_beside(package: Path) -> list[str]:
    """The MXNet distributions next to the package folder: both twins install into one place.

    Only the metadata of names that begin alike is read: all that is installed may be hundreds of files.
    """
    beside = (metadata.Distribution.at(path) for path in package.parent.glob("mxnet*.dist-info"))
    return [name for name in (d.metadata["Name"] for d in beside) if _BUILD.match(name)]


def _import_mxnet() -> Any:
    check_python(sys.version_info[:2])
    import numpy  # after the Python check: on a wrong Python it may be what fails

    check_numpy(numpy.__version__)
    spec = importlib.util.find_spec("mxnet")
    # A folder without __init__.py, left behind by an uninstallation, has a spec but no origin.
    origin = spec.origin if spec else None
    check_builds(origin is not None, _builds_beside(Path(origin).parent) if origin else ())
    with warnings.catch_warnings():
        # MXNet 1.9.1 uses names that newer NumPy and Python deprecate; its users can do nothing about it.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"mxnet(\.|$)")
        try:
            import mxnet
        except (OSError, RuntimeError) as error:
            raise load_error(error) from error
    check_mxnet(mxnet.__version__)
    return mxnet


mx: Any = _import_mxnet()
