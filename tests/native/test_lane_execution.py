"""Whole runs on lanes of a backend: what the workers give, and the same bits for any number of lanes."""
import ctypes
import os

import numpy as np
import pytest
from agreement import assert_close, gradients_of, numbers
from backends import cuda_library, cuda_on_cpu
from bodies import BODIES, body_calls
from nets import forest_of, ready
from programs import WORDS, F, Weights, call_of, structure, trace

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.errors import NativeCoreError
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun
from recursive_gluon.runtime.core.programs import WORKERS, Lanes, why_not

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
WRITE, ADD = 1, 3  # Req of native/src/execute.h


@pytest.fixture(scope="module", params=["on_cpu", pytest.param("device", marks=pytest.mark.gpu(mxnet=False))])
def cuda(request, tmp_path_factory):
    """The CUDA backend's library, compiled for the processor or for a device."""
    if request.param == "on_cpu":
        return os.fsencode(cuda_on_cpu(tmp_path_factory.mktemp("cuda"))[0])
    library = cuda_library()
    return os.fsencode(library) if library else pytest.skip("no nvcc or no device")


def results(call, lanes):
    """Outputs and gradients by name."""
    result = NativeRun(call, lanes=lanes).forward()
    outputs = {f"output {j}": numbers(x) for j, x in enumerate(result.outputs)}
    if call.max_nodes:
        outputs["count"] = numbers(result.count)
    if not call.keep:
        return outputs
    random = np.random.RandomState(1)
    ograds = [mx.nd.array(random.normal(size=x.shape), dtype=x.dtype) for x in result.outputs]
    return {**outputs, **gradients_of(result, ograds)}


def assert_same_bits(got, wanted):
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def compare(call, tolerance, lanes=(1, 2, 8), library=None):
    wanted = results(call, WORKERS)
    first, *others = (results(call, Lanes(n, library)) for n in lanes)
    assert_close("lanes", first, wanted, tolerance)
    for other in others:
        assert_same_bits(other, first)


def calls_of(name, dtype, shapes):
    """Calls of a body with a gradient and without one; none where the core cannot run it."""
    for call, _ in body_calls(name, dtype, shapes):
        if why_not(call):
            pytest.skip(why_not(call))
        yield call
        call.keep = call.train = False
        yield call


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_bodies(name, dtype):
    for call in calls_of(name, dtype, [(1, 1, "random", False), (2, 8, "chain", False), (4, 14, "random", True)]):
        compare(call, TOLERANCE[dtype])


@pytest.mark.parametrize("name", sorted(BODIES))
def test_bodies_on_cuda(name, cuda):
    for call in calls_of(name, "float64", [(3, 14, "random", True)]):
        compare(call, TOLERANCE["float64"], (1, 3), cuda)


NETS = {
    "tree_lstm": lambda: rg.nn.TreeLSTM(30, 20, 24, num_classes=5),
    "dropout": lambda: rg.nn.TreeLSTM(30, 20, 24, num_classes=5, dropout=0.3),
    "tree_rnn": lambda: rg.nn.TreeRNN(30, 20, num_classes=5),
    "rntn": lambda: rg.nn.RNTN(30, 8, num_classes=5),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_nets(name, dtype):
    """Forests that have several shards."""
    net = ready(NETS[name](), dtype, scale=0.3)
    trees = forest_of(3, (20, 1, 16, 25, 18, 30, 9, 22), words=30, dtype=dtype)
    for returns in ("roots", "nodes"):
        with mx.autograd.record():
            _, call = net._prepare(trees, (), True, returns)
        assert call.keep
        compare(call, TOLERANCE[dtype])


# -- what is asked of gradients --------------------
def everything(P):
    """Gradients of all kinds: parameters, a table, a field, an argument."""
    def run(me, node, h):
        word = F.Embedding(node["word"], P("table", WORDS, 4), input_dim=WORDS, output_dim=4)
        x = F.FullyConnected(node["x"] + word, P("w", 4, 4), P("b", 4), num_hidden=4)
        return F.tanh(x + h) if node.is_leaf else F.tanh(me(node.left, h) * x + me(node.right, h * 0.5))
    return run


@pytest.fixture
def call():
    weights = Weights("float64")
    program, _ = trace(everything(weights), weights, ("tensor",), (0, 2))
    random = np.random.RandomState(7)
    return call_of(program, weights, random, structure(random, 3, 9, (2,)), args=("tensor",))


def gradients(call, lanes, requests):
    """Gradients as they are asked for of each kind (parameters, tables, fields, arguments), over arrays of ones."""
    result = NativeRun(call, lanes=lanes)
    result.forward()
    host, lib = result.host, result.run.lib
    n, encoded = call.structure.num_nodes, result.program.encoded
    kinds = [[a.shape for a in host.shared], [(result.run.lookups(t), a.shape[1]) for t, a in enumerate(host.tables)],
             [(n, cols) for cols in encoded.field_cols], [a.shape for a in host.args]]
    arrays = [[np.ones(shape) for shape in shapes] for shapes in kinds]
    flat = [a for kind in arrays for a in kind]
    asked = np.array([r for r, kind in zip(requests, arrays) for _ in kind], np.int32)
    counts = np.array([len(kind) for kind in arrays], np.int64)
    ograds = [np.ones((call.structure.num_trees, 4))]
    fields = [np.dtype(call.fields[name].dtype).kind == "f" for name in encoded.fields]
    wanted = [True] * (counts[0] + counts[1]) + fields + [True] * counts[3]
    data = binding.pointers([a.ctypes.data if want else 0 for a, want in zip(flat, wanted)])
    result.run.check(lib.rg_run_backward(result.run.handle, binding.pointers([g.ctypes.data for g in ograds]),
                                         counts.ctypes.data, ctypes.addressof(data), asked.ctypes.data))
    return {f"{kind} {i}": a for kind, of in zip(("shared", "table", "field", "arg"), arrays) for i, a in enumerate(of)}


@pytest.mark.parametrize("requests", [(WRITE,) * 4, (ADD,) * 4, (0, WRITE, 0, ADD), (ADD, 0, WRITE, 0)])
def test_gradients_are_written_added_or_left(call, requests):
    got, wanted = gradients(call, Lanes(2), requests), gradients(call, WORKERS, requests)
    assert_close("lanes", got, wanted, TOLERANCE["float64"])
    for kind, request in zip(("shared", "arg"), (requests[0], requests[3])):
        assert (request == 0) == (got[f"{kind} 0"] == 1).all()


# -- what is refused --------------------
def test_recomputation_is_refused(call):
    run = NativeRun(call, recompute=True, lanes=Lanes(2))
    with pytest.raises(NativeCoreError, match="lanes, which keep all rows; run it without, or on the workers"):
        run.forward()


def test_a_number_of_lanes_that_there_is_not(call):
    with pytest.raises(NativeCoreError, match=r"a run on -1 lanes; expected 0 \(the workers\) or a number of lanes"):
        NativeRun(call, lanes=Lanes(-1))


def test_nothing_is_kept(call):
    lib = binding.core()
    before = lib.rg_borrowed_bytes()
    results(call, Lanes(2))
    assert lib.rg_borrowed_bytes() == before
