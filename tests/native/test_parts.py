"""Recomputation by sub-trees: the gradient is that of the whole forest, and memory is that of a part."""
import sys
from pathlib import Path

import numpy as np
import pytest
from bodies import BODIES
from nets import Even, TreeNet, forest_of, ready
from programs import Weights, call_of, structure, trace

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun

sys.path.append(str(Path(__file__).resolve().parent.parent / "runtime"))
from random_bodies import RandomBody  # noqa: E402

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def difference(a, b):
    """Of two arrays by their norm."""
    return np.linalg.norm(np.asarray(a, "float64") - b) / max(np.linalg.norm(b), 1e-30)


def results(call, recompute):
    """Everything that a run gives, its peak bytes, its parts, and why there is one."""
    run = NativeRun(call, recompute=recompute)
    outputs = [o.asnumpy() for o in run.forward().outputs]
    random = np.random.RandomState(5)
    found = run.backward([mx.nd.array(random.normal(size=o.shape), dtype=o.dtype) for o in run.outputs])
    grads = {**found.params, **found.fields}
    arrays = {n: g.tostype("default").asnumpy() for n, g in grads.items() if g is not None}
    figures = run.run.figure(2), run.run.figure(8), run.run.figure(9)
    why = run.run.whole()
    run.release()
    return outputs, arrays, figures, why


def check_same(call, n, dtype):
    wanted, wanted_grads, *_ = results(call, False)
    outputs, grads, figures, why = results(call, n)
    for a, b in zip(outputs, wanted):
        assert difference(a, b) <= TOLERANCE[dtype]
    assert set(grads) == set(wanted_grads)
    for name, grad in wanted_grads.items():
        assert difference(grads[name], grad) <= TOLERANCE[dtype], name
    return figures, why


@pytest.mark.parametrize("dag", [False, True], ids=["trees", "dags"])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_bodies(name, dag):
    """Every body, cut or not; sub-trees that several nodes share are computed once."""
    case = BODIES[name]
    if dag and not case.dags:
        pytest.skip("not for DAGs")
    dtype = case.only or "float64"
    weights = Weights(dtype)
    program, _ = trace(case.make(weights), weights, case.args, case.counts)
    random = np.random.RandomState(len(name))
    s = structure(random, 4, 3 * case.nodes, case.arities, dag=dag)
    options = {k: v for k, v in case.options.items() if k != "keep"}
    call = call_of(program, weights, random, s, dtype, case.args, **options)
    try:
        NativeRun(call).release()
    except RuntimeError as error:
        pytest.skip(str(error))
    for n in (1, 5, 1000):
        figures, why = check_same(call, n, dtype)
        assert bool(why) == (figures[1] == 0)
        assert why or figures[2] <= max(n, 40)


@pytest.mark.parametrize("seed", range(40))
def test_random_bodies(seed):
    """Trees and DAGs; what decides on values, or takes more than a node, is computed whole and says so."""
    weights = Weights("float64")
    body = RandomBody(seed, weights)
    program, _ = trace(body.run, weights, body.args)
    random = np.random.RandomState(seed)
    s = structure(random, 3, 30, (2,), dag=seed % 2 == 1 and not body.takes_tensor)
    call = call_of(program, weights, random, s, args=body.args)
    for n in (1, 6, 50):
        figures, why = check_same(call, n, "float64")
        assert bool(why) == (figures[1] == 0)
        reasons = {"value": "values decide"} if body.decides == "value" else {}
        reasons.update({"tensor": "takes tensors"} if body.takes_tensor else {})
        reasons.update({"int": "takes integers"} if body.takes_int else {})
        assert not reasons or any(text in why for text in reasons.values())


def test_bodies_that_are_cut():
    """What of the bodies above is cut is no handful."""
    cut = 0
    for case in BODIES.values():
        weights = Weights(case.only or "float64")
        program, _ = trace(case.make(weights), weights, case.args, case.counts)
        s = structure(np.random.RandomState(1), 2, 20, case.arities)
        try:
            run = NativeRun(call_of(program, weights, np.random.RandomState(2), s, weights.dtype, case.args,
                                    **case.options), recompute=4)
        except RuntimeError:
            continue
        cut += run.run.figure(8) > 1
        run.release()
    assert cut >= 8


NETS = {
    "tree_lstm": lambda: rg.nn.TreeLSTM(12, 6, 7, num_classes=3),
    "tree_lstm_dropout": lambda: rg.nn.TreeLSTM(12, 6, 7, num_classes=3, dropout=0.4),
    "tree_rnn": lambda: rg.nn.TreeRNN(12, 6, num_classes=3),
    "rntn": lambda: rg.nn.RNTN(12, 4, num_classes=3),
    "sparse": lambda: TreeNet(sparse=True, dropout=0.3),
    "mutual": lambda: Even(),
}


def made(kind, dtype="float64"):
    net = ready(NETS[kind](), dtype)
    if isinstance(net, (rg.nn.TreeLSTM, rg.nn.TreeRNN, rg.nn.RNTN)):
        # With the larger weights of ready() a float32 gradient of an RNTN is itself up to 2e-5 away from the float64
        # one, whole or cut: too far to tell an error from the order of sums.
        net.initialize(mx.init.Xavier(magnitude=2), force_reinit=True)
    if kind == "mutual":
        net.odd.cast(dtype)
    net(forest_of(0, dtype=dtype))  # shapes: what is initialized late draws from the same numbers as dropout
    return net


def step(net, trees, recompute, nodes=True, seed=3):
    net.hybridize(executor="native", recompute=recompute)
    mx.random.seed(seed)
    with mx.autograd.record():
        outputs = net(trees, nodes=nodes)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        loss = sum((o * o).sum() for o in outputs)
    loss.backward()
    return [o.asnumpy() for o in outputs], {n: p.grad().tostype("default").asnumpy()
                                            for n, p in net.collect_params().items() if p.grad_req != "null"}


@pytest.mark.parametrize("nodes", [False, True], ids=["roots", "nodes"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", sorted(NETS))
def test_nets(kind, dtype, nodes):
    nodes = nodes and kind != "mutual"  # its halves take turns: each visits every other level
    net, trees = made(kind, dtype), forest_of(1, (30, 1, 12, 45, 3, 3), dtype=dtype)
    wanted, wanted_grads = step(net, trees, False, nodes)
    for n in (1, 7, 32, 10_000):
        outputs, grads = step(net, trees, n, nodes)
        for a, b in zip(outputs, wanted):
            assert difference(a, b) <= TOLERANCE[dtype]
        for name, grad in wanted_grads.items():
            assert difference(grads[name], grad) <= TOLERANCE[dtype], (name, n)


def test_the_same_bits_for_any_number_of_workers():
    lib = binding.core()
    before = lib.rg_workers(0)
    net, trees = made("tree_lstm_dropout", "float32"), forest_of(3, (40, 30, 35, 20, 50) * 4, dtype="float32")
    found = []
    try:
        for count in (1, 2, 8):
            lib.rg_workers(count)
            found.append(step(net, trees, 64))
    finally:
        lib.rg_workers(before)
    for outputs, grads in found[1:]:
        for a, b in zip(outputs, found[0][0]):
            np.testing.assert_array_equal(a, b)
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, found[0][1][name], err_msg=name)


def test_gradients_that_add_and_one_that_is_not_wanted():
    net, trees = made("tree_lstm"), forest_of(5, (20, 9))
    _, once = step(net, trees, False)
    params = net.collect_params()
    net.output.weight.grad_req, net.cell.node.weight.grad_req = "null", "add"
    for p in params.values():
        if p.grad_req != "null":
            p.zero_grad()
    for _ in range(3):
        step(net, trees, 6)
    for weight, times in ((net.cell.node.weight, 3), (net.cell.leaf.weight, 1)):
        assert difference(weight.grad().asnumpy(), times * once[weight.name]) <= 1e-10


def test_backward_twice_and_what_is_written_before():
    """What backward computes again is what forward read: weights and fields that were written since do no harm."""
    net, trees = made("tree_lstm"), forest_of(6, (25, 8))
    _, once = step(net, trees, False)
    net.hybridize(executor="native", recompute=5)
    with mx.autograd.record():
        loss = sum((o * o).sum() for o in net(trees, nodes=True))
    net.cell.node.weight.set_data(mx.nd.zeros(net.cell.node.weight.shape))
    trees["word"][:] = 0
    mx.nd.waitall()
    for _ in range(2):
        loss.backward(retain_graph=True)
        for weight in (net.cell.node.weight, net.cell.leaf.weight):
            assert difference(weight.grad().asnumpy(), once[weight.name]) <= 1e-10


def chain_call(length, seed=0):
    case = BODIES["binary_lstm_with_slices"]
    weights = Weights("float64")
    program, _ = trace(case.make(weights), weights, (), case.counts)
    random = np.random.RandomState(seed)
    s = structure(random, 1, length, (2,), "chain")
    while s.num_nodes < length // 2:
        s = structure(random, 1, length, (2,), "chain")
    return call_of(program, weights, random, s, "float64", max_depth=10**6)


def test_a_deep_chain():
    call = chain_call(20_000)
    _, _, whole, _ = results(call, False)
    figures, why = check_same(call, 500, "float64")
    assert not why and figures[1] >= call.structure.num_nodes // 500
    assert figures[0] < whole[0] / 4


def test_a_forest_of_small_trees():
    """Trees smaller than a part go together, and memory does not grow with the forest."""
    net = made("tree_lstm", "float32")
    peaks = []
    for count in (40, 160):
        trees = forest_of(7, (20,) * count, dtype="float32")
        step(net, trees, False, nodes=False)
        _, call = net._prepare(trees, (), True, "roots")
        (_, _, whole, _), (_, _, cut, why) = results(call, False), results(call, 200)
        assert not why and cut[1] == -(-count // 5) and cut[2] == 5 * 39
        peaks.append((whole[0], cut[0]))
    assert peaks[0][1] < peaks[0][0] / 4
    assert peaks[1][1] < 1.2 * peaks[0][1]


@pytest.mark.parametrize("wrong", [-1, 0, 1.5, "all"])
def test_numbers_that_are_none(wrong):
    with pytest.raises(ValueError, match="recompute=.*; expected False, True, or a number of calls"):
        made("tree_lstm").hybridize(recompute=wrong)
