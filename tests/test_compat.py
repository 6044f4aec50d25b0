"""The import gate: each message says what was found and what to do."""
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from recursive_gluon import _compat
from recursive_gluon._compat import CompatError


def fake_package(folder, *distributions):
    """An mxnet package in this folder, beside the metadata of these distributions."""
    package = folder / "mxnet"
    package.mkdir()
    for name in distributions:
        info = folder / f"{name.replace('-', '_')}-1.9.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.9.1\n")
    return package


@pytest.mark.parametrize("version", [(3, 8), (3, 9), (3, 10), (3, 11)])
def test_python_in_range(version):
    _compat.check_python(version)


@pytest.mark.parametrize("version", [(2, 7), (3, 7), (3, 12), (4, 0)])
def test_python_out_of_range(version):
    expected = r"needs Python 3\.8-3\.11.*this is Python {}\.{}: run `make setup`".format(*version)
    with pytest.raises(CompatError, match=expected):
        _compat.check_python(version)


@pytest.mark.parametrize("version", ["1.19.0", "1.23.5", "1.23.0rc1"])
def test_numpy_in_range(version):
    _compat.check_numpy(version)


@pytest.mark.parametrize("version", ["1.24.0", "1.26.4", "2.0.0", "10.0"])
def test_numpy_too_new(version):
    with pytest.raises(CompatError, match=rf"NumPy {version} is installed: run `pip install 'numpy<1\.24'`"):
        _compat.check_numpy(version)


def test_no_mxnet():
    expected = r"not installed: run `pip install 'recursive_gluon\[cpu\]'` \(or `\[cu112\]`"
    with pytest.raises(CompatError, match=expected):
        _compat.check_builds(False, [])


@pytest.mark.parametrize("names", [[], ["mxnet"], ["mxnet-cu112"], ["mxnet", "mxnet"]])
def test_one_mxnet(names):
    _compat.check_builds(True, names)


def test_two_mxnets():
    expected = r"mxnet and mxnet-cu112 are both installed.*`pip uninstall mxnet mxnet-cu112`, then `pip inst"
    with pytest.raises(CompatError, match=expected):
        _compat.check_builds(True, ["mxnet-cu112", "mxnet"])


def test_builds_are_told_from_tools(tmp_path):
    package = fake_package(tmp_path, "mxnet", "mxnet-cu112", "mxnet-cu102mkl", "mxnet-model-server")
    assert sorted(_compat._builds_beside(package)) == ["mxnet", "mxnet-cu102mkl", "mxnet-cu112"]


def test_installed_build_is_found():
    (name,) = _compat._builds_beside(_compat.Path(_compat.mx.__file__).parent)
    assert name in ("mxnet", "mxnet-cu112")


@pytest.mark.parametrize("version", ["1.9.0", "1.9.1", "1.9.1.post0"])
def test_known_mxnet(version):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _compat.check_mxnet(version)


@pytest.mark.parametrize("version", ["1.8.0", "1.10.0", "2.0.0", "1.90.0", "unknown"])
def test_other_mxnet(version):
    with pytest.warns(UserWarning, match=rf"made for MXNet 1\.9\.x, but MXNet {version} is installed: if"):
        _compat.check_mxnet(version)


@pytest.mark.parametrize("error", [OSError("libgomp.so.1: no such file"), RuntimeError("no library found")])
def test_library_does_not_load(error, monkeypatch):
    class Refuses:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "mxnet":
                raise error

    monkeypatch.delitem(sys.modules, "mxnet")
    monkeypatch.setattr(_compat.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=__file__))
    monkeypatch.setattr(sys, "meta_path", [Refuses, *sys.meta_path])
    with pytest.raises(CompatError, match=rf"does not load \({error}\): the CPU build needs") as caught:
        _compat._import_mxnet()
    assert caught.value.__cause__ is error


def test_leftover_folder_counts_as_missing(monkeypatch):
    monkeypatch.setattr(_compat.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=None))
    with pytest.raises(CompatError, match="which is not installed"):
        _compat._import_mxnet()


def test_checks_come_before_mxnet(monkeypatch):
    monkeypatch.setattr("numpy.__version__", "1.24.0")
    monkeypatch.setitem(sys.modules, "mxnet", None)  # an import of it would fail otherwise
    with pytest.raises(CompatError, match="NumPy 1.24.0 is installed"):
        _compat._import_mxnet()


def test_an_import_error_for_those_who_probe():
    assert issubclass(CompatError, ImportError)


def test_import_is_silent():
    done = subprocess.run([sys.executable, "-W", "error", "-c", "import recursive_gluon._compat"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, "")
