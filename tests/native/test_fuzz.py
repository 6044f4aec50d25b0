"""Broken programs and forests get errors, never a crash."""
import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import forest_of

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.native.forests import NativeStructure
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.programs import core_program
from recursive_gluon.runtime.recipes import compiled
from recursive_gluon.structure import Structure

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")


@pytest.fixture(scope="module")
def subject():
    net = rg.nn.TreeLSTM(30, 6, 5, num_classes=3)
    net.initialize()
    net.hybridize()
    trees = forest_of(0, (9, 4), words=30, dtype="float32")
    net(trees)
    _, call = net._prepare(trees, (), True, "roots")
    program, _ = core_program(compiled(call))
    return program, call.structure, trees


class Runner:
    """Runs words on a structure with inputs that are surely large enough for the program as it was."""

    def __init__(self, program, structure, trees):
        self.lib, self.encoded = binding.core(), program.encoded
        self.structure = [np.array(a, np.int32) for a in (structure.tree_offsets, structure.roots,
                                                          structure.child_offsets, structure.children)]
        self.fields = [trees[name].asnumpy() for name in self.encoded.fields]
        self.room = np.zeros(1 << 16, np.float32)

    def program(self, words):
        words = np.ascontiguousarray(words, np.int64)
        return self.lib.rg_program_new(words.ctypes.data, len(words))

    def run(self, handle, arrays):
        lib, n = self.lib, len(self.fields)
        data = binding.pointers([a.ctypes.data for a in self.fields])
        types = (ctypes.c_int64 * n)(*(binding.FIELD_TYPES[a.dtype.name] for a in self.fields))
        cols = (ctypes.c_int64 * n)(*([1] * n))
        ints = (ctypes.c_int64 * 1)(0)
        structure = NativeStructure.of(lib, Structure(*arrays))
        if structure is None:
            return False
        args = binding.RunArgs(structure.handle, *(ctypes.addressof(x) for x in (data, types, cols, ints)), 50, 0, 0, n)
        run = lib.rg_run_new(handle, ctypes.byref(args))
        if not run:
            return False
        room = self.room.ctypes.data
        done = lib.rg_run_forward(run, binding.pointers([room] * 16), binding.pointers([room] * 4),
                                  binding.pointers([room] * 4), 0) == 0
        lib.rg_run_free(run)
        return done


def test_the_subject_runs(subject):
    runner = Runner(*subject)
    handle = runner.program(runner.encoded.words)
    assert handle and runner.run(handle, runner.structure)
    runner.lib.rg_program_free(handle)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_broken_programs(subject, data):
    runner = Runner(*subject)
    words = runner.encoded.words.copy()
    first = runner.encoded.header if data.draw(st.booleans(), "run") else 0
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(first, len(words) - 1), "place")
        words[at] = data.draw(st.one_of(st.integers(-3, 40), st.integers(-(2**63), 2**63 - 1)), "word")
    words = words[: data.draw(st.one_of(st.just(len(words)), st.integers(0, len(words))), "length")]
    handle = runner.program(words)
    if handle:
        if first:  # the sizes of inputs are as they were
            runner.run(handle, runner.structure)
        runner.lib.rg_program_free(handle)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_broken_forests(subject, data):
    runner = Runner(*subject)
    arrays = [a.copy() for a in runner.structure]
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        array = arrays[data.draw(st.integers(0, 3), "array")]
        at = data.draw(st.integers(0, len(array) - 1), "place")
        array[at] = data.draw(st.one_of(st.integers(-3, 30), st.integers(-(2**31), 2**31 - 1)), "word")
    handle = runner.program(runner.encoded.words)
    runner.run(handle, arrays)
    runner.lib.rg_program_free(handle)
    mx.nd.waitall()


def test_words_beyond_the_table(subject):
    runner = Runner(*subject)
    handle = runner.program(runner.encoded.words)
    for value in (-1, 30, 2**31 - 1, -(2**31)):
        for field in runner.fields:
            field[:] = value
        assert not runner.run(handle, runner.structure)
    runner.lib.rg_program_free(handle)
