"""One block for all arrays of a run: what is used at once never shares a place, whoever runs it."""
import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import forest_of
from programs import Weights, call_of, structure, trace

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun

sys.path.append(str(Path(__file__).resolve().parent.parent / "runtime"))
from random_bodies import RandomBody  # noqa: E402

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")

COMMON, SEVERAL = -1, -2
TURN, STEPS = 12, 25


def lay_out(lives, align):
    lib = binding.core()
    lib.rg_test_lay_out.restype = ctypes.c_int64
    numbers = (ctypes.c_int64 * (4 * len(lives) + 1))(*(n for life in lives for n in life))
    offsets = (ctypes.c_int64 * (len(lives) + 1))()
    count, turn, align = (ctypes.c_int64(n) for n in (len(lives), TURN, align))
    size = lib.rg_test_lay_out(count, numbers, turn, align, offsets)
    return list(offsets)[:len(lives)], size


def ordered(a, b):
    """Whether all uses of one are over before the other's begin: in time, and by what waits for what."""
    first, then = sorted((a, b), key=lambda life: life[1])
    if first[2] >= then[1]:
        return False
    across = first[2] <= TURN <= then[1]
    return across or COMMON in (a[3], b[3]) or (a[3] == b[3] != SEVERAL)


@st.composite
def some_lives(draw):
    count = draw(st.integers(0, 90))
    random = np.random.RandomState(draw(st.integers(0, 2**31 - 1)))
    shards = draw(st.integers(0, 3))
    lives = []
    for _ in range(count):
        begin, end = sorted(random.randint(0, STEPS, 2))
        shard = int(random.randint(-2, shards)) if shards else COMMON
        lives.append((int(random.choice([0, 1, 7, 64, 100, 1000])), int(begin), int(end), shard))
    return lives


@given(lives=some_lives(), align=st.sampled_from([1, 8, 16]))
@settings(max_examples=300, deadline=None)
def test_nothing_alive_shares_a_place(lives, align):
    offsets, size = lay_out(lives, align)
    sizes = [-(-life[0] // align) * align for life in lives]
    for i, a in enumerate(lives):
        assert offsets[i] % align == 0 and 0 <= offsets[i] and offsets[i] + sizes[i] <= size
        for j in range(i):
            apart = offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
            assert apart or ordered(a, lives[j]), (a, lives[j])
    alive = [sum(n for n, life in zip(sizes, lives) if life[1] <= step <= life[2]) for step in range(STEPS)]
    assert max(alive) <= size <= sum(sizes)


def test_what_is_over_makes_room():
    lives = [(100, 0, 3, 0), (60, 4, 5, 0), (40, 4, 6, 0), (100, 4, 6, 1), (100, TURN, 20, 1)]
    offsets, size = lay_out(lives, 1)
    assert size == 200
    assert offsets[4] in (offsets[0], offsets[3])


def results(call, recompute=False):
    run = NativeRun(call, recompute=recompute)
    planned = run.run.figure(7, 0), run.run.figure(7, 1)
    outputs = [o.asnumpy() for o in run.forward().outputs]
    random = np.random.RandomState(5)
    found = run.backward([mx.nd.array(random.normal(size=o.shape), dtype=o.dtype) for o in run.outputs])
    grads = {**found.params, **found.fields}
    held = run.run.figure(2)
    run.release()
    arrays = outputs + [grads[n].tostype("default").asnumpy() for n in sorted(grads) if grads[n] is not None]
    return arrays, planned, held


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_the_same_bits_for_any_number_of_workers(seed, recompute):
    """Random bodies on trees that are dealt out to shards, which run at once."""
    weights = Weights("float64")
    body = RandomBody(seed, weights)
    program, _ = trace(body.run, weights, body.args)
    random = np.random.RandomState(seed)
    call = call_of(program, weights, random, structure(random, 16, 30, (2,)), args=body.args)
    lib = binding.core()
    before = lib.rg_workers(0)
    try:
        lib.rg_workers(1)
        wanted, (block, apart), held = results(call, recompute)
        assert block <= apart and (block == held or not block)
        lib.rg_workers(3)
        for _ in range(2):
            for a, b in zip(results(call, recompute)[0], wanted):
                np.testing.assert_array_equal(a, b)
    finally:
        lib.rg_workers(before)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_gradient_may_be_asked_for_again(recompute):
    """What backward reads of forward stays, although gradients lie where other rows were."""
    net, trees = rg.nn.TreeLSTM(30, 20, 16, num_classes=5), forest_of(3, (30, 1, 12), words=30, dtype="float32")
    net.initialize(mx.init.Xavier(magnitude=2))
    net.hybridize(executor="native", recompute=recompute)
    with mx.autograd.record():
        loss = sum((o * o).sum() for o in net(trees, nodes=True))
    found = []
    for _ in range(2):
        loss.backward(retain_graph=True)
        found.append({n: p.grad().asnumpy() for n, p in net.collect_params().items()})
    for name, grad in found[0].items():
        np.testing.assert_array_equal(found[1][name], grad, err_msg=name)


def test_what_it_saves():
    """A Tree-LSTM's leaves are through with their temporary rows before other nodes want some."""
    net, trees = rg.nn.TreeLSTM(30, 300, 150, num_classes=5), forest_of(3, (37,) * 25, words=30, dtype="float32")
    net.initialize()
    net(trees)
    memory = rg.explain(net, trees).memory
    assert memory.inference.gain > 0.15 and memory.training.gain > 0.15
