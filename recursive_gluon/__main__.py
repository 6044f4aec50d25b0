"""``python -m recursive_gluon``: what is installed, and building the native core."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import Callable, List, Optional

import numpy as np

from . import native
from .__about__ import __version__
from ._compat import mx
from .runtime.invoke_op import EXECUTORS

__all__ = ["main"]


def main(arguments: Optional[List[str]] = None) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(prog="recursive-gluon", description="recursive models at graph speed")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, the executor in use, the native core").set_defaults(run=_info)
    commands.add_parser("build", help="build the native core now, not at first use").set_defaults(run=_build)
    run: Callable[[], int] = parser.parse_args(arguments).run
    return run()


def _info() -> int:
    status = native.status()
    build = "CUDA" if mx.runtime.Features().is_enabled("CUDA") else "CPU"
    lines = {
        "recursive_gluon": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mxnet": f"{mx.__version__} ({build})",
        "executors": f"{', '.join(sorted(EXECUTORS))}; hybridize() takes auto: native where the core can run a "
                     f"program, else mxnet",
        "native core": "yes" if status.available else f"no: {status.reason}",
    }
    if status.available:
        lines.update({
            "matrix products": status.blas,
            "instruction set": status.isa,
            "workers": f"{status.workers} of {os.cpu_count()} cores (RECURSIVE_GLUON_WORKERS, else OMP_NUM_THREADS)",
            "library": status.path,
            "compiler": status.compiler,
        })
    lines["skeleton"] = "compiled" if native.skeleton() else "Python"
    lines["CUDA"] = str(native.cuda_status())
    for name, value in lines.items():
        print(f"{name:16} {value}")
    return 0


def _build() -> int:
    status = native.status()
    print(f"native core: {status.path}" if status.available else f"no native core: {status.reason}")
    print(f"skeleton: {'compiled' if native.skeleton() else 'Python'}")
    return 0  # everything works without them


if __name__ == "__main__":
    sys.exit(main())
