"""The core is built when it is needed, once, and everything works where it cannot be."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recursive_gluon import native

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="processes of their own, without the sanitizers")

NET = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np, recursive_gluon as rg
from recursive_gluon import native
net = rg.nn.TreeRNN(5, 4)
net.initialize()
net.hybridize()
forest = rg.Forest([rg.Tree.from_ptb("(1 (1 a) (1 b))").map(word=lambda w: 1)])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", rg.errors.NativeCoreWarning)
    for _ in range(2):
        shape = net(forest)[0].shape if isinstance(net(forest), (list, tuple)) else net(forest).shape
told = [w for w in caught if issubclass(w.category, rg.errors.NativeCoreWarning)]
print(shape, native.status().available, len(told))
"""


def python(code, **env):
    env = {**{k: v for k, v in os.environ.items() if k != "RECURSIVE_GLUON_NATIVE"}, "PYTHONPATH": str(ROOT), **env}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, cwd=str(ROOT))


def said(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out.strip().splitlines()[-1]


def test_turned_off():
    assert said(python(NET, RECURSIVE_GLUON_NATIVE="0")) == "(1, 4) False 0"


def test_no_compiler(tmp_path):
    """One warning, and the mxnet executor."""
    env = {"CXX": str(tmp_path / "no-such-compiler"), "RECURSIVE_GLUON_CACHE": str(tmp_path)}
    assert said(python(NET, **env)) == "(1, 4) False 1"


@pytest.mark.slow
@pytest.mark.skipif(not native.status().available, reason="no native core on this machine")
def test_two_processes_and_a_broken_file(tmp_path):
    """Processes that build at once both get the core; a file that was cut short is made again."""
    both = [python(NET, RECURSIVE_GLUON_CACHE=str(tmp_path)) for _ in range(2)]
    assert [said(p) for p in both] == ["(1, 4) True 0"] * 2
    (library,) = tmp_path.glob("*/libcore.so")
    library.write_bytes(library.read_bytes()[:1000])
    assert said(python(NET, RECURSIVE_GLUON_CACHE=str(tmp_path))) == "(1, 4) True 0"


def test_info():
    command = [sys.executable, "-W", "ignore", "-m", "recursive_gluon", "info"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=str(ROOT), check=True).stdout
    assert "native core" in out and "mxnet" in out
    assert native.status().blas in out
