"""Calls of a block on lanes, and which calls on a GPU the core runs, and why it does not run others."""
import os
import warnings
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from backends import cuda_on_cpu
from nets import TreeNet, assert_close, forest_of, gradients, numbers, ready, step
from test_grown import grower, start

import recursive_gluon as rg
from recursive_gluon import native
from recursive_gluon.errors import IndexRangeError, LanesError, NativeCoreError, NativeCoreWarning
from recursive_gluon.explain import _executor
from recursive_gluon.native.build import Build, BuildError
from recursive_gluon.runtime.core import binding, calls, devices
from recursive_gluon.runtime.core.programs import Lanes

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")
autograd = mx.autograd


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """The CUDA backend compiled for the processor, and a cuBLAS for it."""
    return cuda_on_cpu(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=["processor", "cuda_on_cpu"])
def lanes(request, monkeypatch):
    """Calls run on lanes of the processor; or of the CUDA backend, whose memory is the processor's here."""
    if request.param == "cuda_on_cpu":
        library = os.fsencode(str(request.getfixturevalue("on_cpu")[0]))
        monkeypatch.setattr(calls, "lanes_for", lambda call, number, recompute: (
            Lanes(number, library if number else None), ""))


def on(net, run):
    """What `run` gives on the workers, and on lanes, which is the same for any number of them."""
    net.hybridize(executor="native", lanes=0)
    wanted = run()
    net.hybridize(lanes=1)
    got = run()
    for number in (2, 5):
        net.hybridize(lanes=number)
        for one, other in zip(got, run()):
            for name in one if isinstance(one, dict) else range(len(one)):
                np.testing.assert_array_equal(one[name], other[name])
    assert_close(got[0], wanted[0], what="output")
    if len(wanted) > 1:
        assert_close(got[1], wanted[1], what="gradient")


def inference(net, *inputs, **options):
    return [[numbers(x) for x in net(*inputs, **options)]]


@pytest.mark.parametrize("sparse", [False, True])
def test_training_and_inference(lanes, sparse):
    net, trees = ready(TreeNet(sparse=sparse)), forest_of(0, (1, 4, 7, 12, 9, 8))
    on(net, lambda: step(net, trees))
    on(net, lambda: step(net, trees, nodes=True))
    on(net, lambda: inference(net, trees))


def test_arguments_have_gradients(lanes):
    class Net(rg.RecursiveBlock):
        def hybrid_forward(self, F, node, h):
            if node.is_leaf:
                return F.tanh(h + node["x"])
            return F.sin(self(node.left, h * node["x"]) - self(node.right, h + 1))
    net, trees = Net(), forest_of(3, (5, 8, 3))
    h = mx.nd.array(np.random.normal(size=(3, 2)), dtype="float64")
    h.attach_grad()
    trees[1 + trees.fields.index("x")].attach_grad()

    def run():
        outputs, _ = step(net, trees, h)
        return outputs, {"h": numbers(h.grad), "x": numbers(trees[1 + trees.fields.index("x")].grad)}
    on(net, run)


def test_draws_are_the_same(lanes):
    net, trees = ready(TreeNet(dropout=0.5)), forest_of(0)
    step(net, trees)

    def run():
        mx.random.seed(4)
        return step(net, trees)
    on(net, run)


def test_gradients_that_are_added_or_not_asked_for(lanes):
    net, trees = ready(TreeNet()), forest_of(0)

    def run():
        net.collect_params().zero_grad()
        for _ in range(3):
            found = step(net, trees)
        return found
    step(net, trees)
    net.leaf.weight.grad_req = net.embed.weight.grad_req = "add"
    net.inner.bias.grad_req = "null"
    on(net, run)


def test_one_output_alone(lanes):
    net, trees = ready(TreeNet()), forest_of(0)
    on(net, lambda: step(net, trees, only=2))


def test_a_structure_that_grows(lanes):
    grow, layer, _ = grower()
    forest, h = start()

    def run():
        with autograd.record():
            (state, total), count = grow(forest, h, 0, nodes=True, max_nodes=40)
            loss = (state.sum(axis=2) * total).sum()
        loss.backward()
        return [numbers(x) for x in (state, total, count)], {"h": numbers(h.grad), "w": numbers(layer.weight.grad())}
    grow.cast("float64")
    h = mx.nd.array(h.asnumpy(), dtype="float64")
    h.attach_grad()
    on(grow, run)


def test_what_changes_before_the_gradient(lanes):
    """Backward reads what forward read."""
    net, trees = ready(TreeNet()), forest_of(0)
    net.hybridize(executor="native", lanes=2)
    with autograd.record():
        loss = sum((o * o).sum() for o in net(trees))
    loss.backward()
    wanted = gradients(net)
    with autograd.record():
        loss = sum((o * o).sum() for o in net(trees))
    net.inner.weight.set_data(mx.nd.zeros(net.inner.weight.shape))
    loss.backward(retain_graph=True)
    assert_close(gradients(net), wanted)
    loss.backward()
    assert_close(gradients(net), wanted)


def test_what_a_call_holds_is_let_go_of(lanes):
    lib = binding.core()
    before = lib.rg_borrowed_bytes()
    net, trees = ready(TreeNet()), forest_of(0)
    net.hybridize(executor="native", lanes=2)
    step(net, trees)
    net(trees)
    mx.nd.waitall()
    assert lib.rg_borrowed_bytes() == before


def test_a_mistake_in_the_data(lanes):
    """The next call works."""
    net, trees = ready(TreeNet(words=5)), forest_of(0, words=12)
    net.hybridize(executor="native", lanes=2)
    with pytest.raises(IndexRangeError, match="the Embedding at .* knows 0 to 4"):
        net(trees)
    net(forest_of(0, words=5))


# -- what is refused --------------------
@pytest.mark.parametrize("asked, said", [
    (dict(lanes=-1), "lanes=-1; expected a number from 1 to 64, or 0 for the workers"),
    (dict(lanes=65), "lanes=65; expected"),
    (dict(lanes=True), "lanes=True; expected"),
    (dict(lanes="two"), "lanes='two'; expected"),
    (dict(lanes=2, recompute=True), r"lanes=2 was asked for together with recompute=True, .*\(lanes=0 goes back"),
    (dict(lanes=2, second_order=True), "together with second_order=True, which lanes cannot do; leave one of them out"),
    (dict(lanes=2, executor="mxnet"), "together with executor='mxnet'"),
])
def test_what_lanes_cannot_do(asked, said):
    net = TreeNet()
    net.hybridize()
    with pytest.raises(LanesError, match=said):
        net.hybridize(**asked)
    assert (net._lanes, net._recompute, net._executor) == (0, False, "auto")  # nothing is half set


def test_lanes_are_still_asked_for():
    net = TreeNet()
    net.hybridize(lanes=2)
    with pytest.raises(LanesError, match="lanes=2 was asked for together with recompute=True"):
        net.hybridize(recompute=True)
    net.hybridize(lanes=0, recompute=True)


# -- on a GPU --------------------
@pytest.fixture
def machine(monkeypatch):
    """A machine whose CUDA library is `built`, or which says why there is none."""
    def make(built):
        def build_cuda():
            if isinstance(built, Exception):
                raise built
            return built
        monkeypatch.delenv("RECURSIVE_GLUON_CUDA", raising=False)
        monkeypatch.setattr(native, "build_cuda", build_cuda)
    devices._gpu.cache_clear()
    yield make
    devices._gpu.cache_clear()


def gpu_call(device=0, **options):
    """A net, and a call of it as if its arrays lay on a GPU."""
    net, trees = ready(TreeNet()), forest_of(0)
    net.hybridize(**options)
    return net, replace(net._prepare(trees, (), True, "roots")[1], ctx=mx.gpu(device))


@pytest.mark.parametrize("built, said", [
    (BuildError("there is no nvcc"), "there is no CUDA backend: there is no nvcc"),
    (Build(Path("no-such-library.so"), "12.4", 0.0), "there is no CUDA backend: no-such-library.so: cannot open"),
])
def test_a_gpu_without_a_backend(machine, built, said):
    """One warning; explain() says why, as does executor='native'."""
    machine(built)
    net, call = gpu_call()
    with pytest.warns(NativeCoreWarning, match=rf"{said}.*Programs on gpu\(0\) run on the mxnet executor"):
        lanes, why = devices.lanes_for(call, 0, False)
    assert why.startswith(f"it runs on gpu(0), and {said}") and lanes.number == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _executor(net, call)[:2] == ("mxnet", why)


def test_a_gpu_that_is_not_meant(machine, monkeypatch):
    machine(BuildError("turned off by RECURSIVE_GLUON_CUDA=0"))
    monkeypatch.setenv("RECURSIVE_GLUON_CUDA", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "turned off" in devices.lanes_for(gpu_call()[1], 0, False)[1]


def test_a_gpu_that_works(machine, monkeypatch, on_cpu):
    """A product is tried there; a device that is not there is not taken."""
    backend, cublas = on_cpu
    machine(Build(backend, "12.4", 0.0))
    monkeypatch.setenv("RECURSIVE_GLUON_CUBLAS", str(cublas))
    library = os.fsencode(str(backend))
    net, call = gpu_call()
    assert devices.lanes_for(call, 0, False) == (Lanes(4, library, 0), "")
    assert devices.lanes_for(call, 3, False) == (Lanes(3, library, 0), "")
    assert _executor(net, call)[:2] == ("native", "")
    with pytest.warns(NativeCoreWarning, match=r"the CUDA backend does not work there: .*invalid device"):
        _, why = devices.lanes_for(gpu_call(7)[1], 0, False)
    assert why.startswith("it runs on gpu(7), and the CUDA backend does not work there")


def test_recomputation_on_a_gpu(machine):
    machine(AssertionError("nothing is built for that"))
    _, why = devices.lanes_for(gpu_call()[1], 0, True)
    assert why == "it runs on gpu(0), and recompute=True is for processors"


def test_an_operator_outside_of_the_set(machine):
    class Odd(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            return F.sort(node["x"], axis=1) if node.is_leaf else self(node.left) + self(node.right)
    machine(AssertionError("nothing is built for that"))
    net = Odd()
    net.hybridize(lanes=2)
    call = replace(net._prepare(forest_of(0), (), True, "roots")[1], ctx=mx.gpu(0))
    assert "sort" in devices.lanes_for(call, 2, False)[1]
    net.hybridize(executor="native")
    with pytest.raises(NativeCoreError, match="operator sort"):
        net(forest_of(0))


@pytest.mark.gpu
@pytest.mark.parametrize("sparse", [False, True])
def test_calls_on_a_gpu(sparse):
    """As on the mxnet executor; the arrays of both lie on the device."""
    net, trees = ready(TreeNet(sparse=sparse), ctx=mx.gpu(0)), forest_of(0, ctx=mx.gpu(0))
    net.hybridize(executor="mxnet")
    wanted, calm = step(net, trees), [numbers(x) for x in net(trees)]
    net.hybridize(executor="auto")
    _, why = devices.lanes_for(net._prepare(trees, (), True, "roots")[1], 0, False)
    if why:
        pytest.skip(why)
    net.hybridize(executor="native")
    for number in (0, 1, 8):
        net.hybridize(lanes=number)
        got = step(net, trees)
        assert all(x.context == mx.gpu(0) for x in net(trees))
        assert_close(got[0], wanted[0])
        assert_close(got[1], wanted[1])
        assert_close([numbers(x) for x in net(trees)], calm)


@pytest.mark.gpu
def test_a_trace_of_a_gpu(tmp_path):
    net, trees = ready(TreeNet(), ctx=mx.gpu(0)), forest_of(0, ctx=mx.gpu(0))
    net.hybridize()
    if devices.lanes_for(net._prepare(trees, (), True, "roots")[1], 0, False)[1]:
        pytest.skip("no CUDA backend")
    rg.trace(net, trees, str(tmp_path / "trace.json"))
    assert "lane 3" in (tmp_path / "trace.json").read_text()
