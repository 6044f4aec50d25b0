"""What there is of CUDA: found without a driver, compiled only when it is asked for."""
import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recursive_gluon import native
from recursive_gluon.native import cuda
from recursive_gluon.native.build import BuildError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes the nvcc of this machine a shell script."""
    def make(script):
        path = tmp_path / "nvcc"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("NVCC", str(path))
        monkeypatch.setenv("RECURSIVE_GLUON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RECURSIVE_GLUON_CUDA", raising=False)
    return make


VERSION = 'case "$1" in --version) echo "Cuda compilation tools, release 12.4, V12.4.99";;'


def test_turned_off(monkeypatch):
    monkeypatch.setenv("RECURSIVE_GLUON_CUDA", "0")
    with pytest.raises(BuildError, match="turned off by RECURSIVE_GLUON_CUDA=0"):
        native.build_cuda()
    assert str(native.cuda_status()).startswith("no nvcc (turned off by RECURSIVE_GLUON_CUDA=0); ")


def test_no_nvcc(monkeypatch):
    for name in ("NVCC", "CUDA_HOME", "CUDA_PATH", "RECURSIVE_GLUON_CUDA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match="there is no nvcc; install the CUDA toolkit, or set NVCC or CUDA_HOME"):
        native.build_cuda()


def test_nvcc_of_cuda_home(fake, monkeypatch, tmp_path):
    fake(f"{VERSION} esac")
    (tmp_path / "bin").mkdir()
    (tmp_path / "nvcc").rename(tmp_path / "bin" / "nvcc")
    monkeypatch.delenv("NVCC")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert native.cuda_status().nvcc == "12.4"


def test_nvcc_fails(fake):
    fake(f'{VERSION} --list-gpu-arch) echo compute_80;; *) echo "x.cu(1): error: no such thing" >&2; exit 2;; esac')
    with pytest.raises(BuildError, match=r"nvcc failed: x.cu\(1\): error: no such thing"):
        native.build_cuda()


def test_nvcc_does_not_run(fake):
    fake("exit 3")
    with pytest.raises(BuildError, match="nvcc does not run: .* exit status 3"):
        native.build_cuda()
    assert "does not run" in native.cuda_status().no_nvcc


def test_nvcc_says_something_else(fake):
    fake("echo hello")
    with pytest.raises(BuildError, match="nvcc --version said 'hello', which is not what nvcc 11.2 and later say"):
        native.build_cuda()


def test_code_for_devices_that_nvcc_knows(fake, tmp_path):
    """Machine code for each, PTX for what comes after; what was made is kept."""
    fake(f'{VERSION} --list-gpu-arch) printf "compute_70\\ncompute_75\\ncompute_80\\n";; '
         f'*) echo "$*" > {tmp_path}/said; while [ "$1" != -o ]; do shift; done; touch "$2";; esac')
    built = native.build_cuda()
    said = (tmp_path / "said").read_text()
    assert [x.split("=", 1)[1] for x in said.split() if x.startswith("-gencode")] == [
        "arch=compute_75,code=sm_75", "arch=compute_80,code=sm_80", "arch=compute_80,code=compute_80"]
    assert "-fmad=false" in said and "backend.cu" in said
    (tmp_path / "said").unlink()
    again = native.build_cuda()
    assert (again.path, again.seconds) == (built.path, 0.0) and not (tmp_path / "said").exists()


def test_which_cublas(monkeypatch):
    """What the user names comes first, then the version of the toolkit."""
    monkeypatch.setenv("RECURSIVE_GLUON_CUBLAS", "mine.so")
    first, *others = cuda._cublas("11.8")
    assert first == "mine.so" and [x for x in others if x.startswith("libcublas")] == [
        "libcublas.so.11", "libcublas.so.13", "libcublas.so.12"]


@pytest.mark.slow
@pytest.mark.skipif(not native.cuda_status().nvcc, reason="no nvcc on this machine")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="processes of their own, without the sanitizers")
def test_nvcc_compiles_it(tmp_path, monkeypatch):
    """Without a word; and the library says, rather than dies of it, that there is no device."""
    monkeypatch.setenv("RECURSIVE_GLUON_CACHE", str(tmp_path))
    said = []
    run = subprocess.run

    def noting(command, **options):
        done = run(command, **options)
        said.append(done.stderr + done.stdout if "-o" in command else "")
        return done
    monkeypatch.setattr(cuda.subprocess, "run", noting)
    lib = native.open_cuda(native.build_cuda())
    assert "".join(said) == ""
    text = ctypes.c_char_p()
    count = lib.rg_cuda_devices(ctypes.byref(text))
    assert count == len(native.cuda_status().devices)
    assert count > 0 or text.value


def test_info(tmp_path):
    """A line about CUDA, for which nothing is compiled."""
    command = [sys.executable, "-W", "ignore", "-m", "recursive_gluon", "info"]
    env = {**os.environ, "RECURSIVE_GLUON_NATIVE": "0", "RECURSIVE_GLUON_CACHE": str(tmp_path / "cache")}
    out = subprocess.run(command, capture_output=True, text=True, cwd=str(ROOT), check=True, env=env).stdout
    (line,) = (line for line in out.splitlines() if line.startswith("CUDA"))
    assert "nvcc" in line and ("device" in line or native.cuda_status().devices[0] in line)
    assert not (tmp_path / "cache").exists()
