"""The core as a whole: the same bits for any number of workers, recomputation, rows that are used again, the tape."""
import json

import numpy as np
import pytest
from nets import TreeNet, forest_of, gradients, ready
from programs import Weights, call_of, structure, trace

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.data.tree import Tree
from recursive_gluon.errors import IndexRangeError, NativeCoreError
from recursive_gluon.runtime import reference
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")


def tree_lstm(hidden=40, **options):
    net = rg.nn.TreeLSTM(30, 20, hidden, num_classes=5, **options)
    net.initialize(mx.init.Xavier(magnitude=2))
    net.hybridize(executor="native")
    return net


def forest(seed=0, sizes=(30, 1, 12, 25)):
    return forest_of(seed, sizes, words=30, dtype="float32")


def step(net, trees, seed=3):
    mx.random.seed(seed)
    with mx.autograd.record():
        outputs = net(trees, nodes=True)
        loss = sum((o * o).sum() for o in outputs)
    loss.backward()
    return [o.asnumpy() for o in outputs], {n: p.grad().tostype("default").asnumpy()
                                            for n, p in net.collect_params().items()}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_bits_for_any_number_of_workers(workers, dropout):
    net, trees = tree_lstm(100, dropout=dropout), forest(1, (40, 30, 35, 20, 50))
    results = []
    for count in (1, 2, 8):
        assert workers(count) == count
        results.append(step(net, trees))
    for outputs, grads in results[1:]:
        for a, b in zip(outputs, results[0][0]):
            np.testing.assert_array_equal(a, b)
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, results[0][1][name], err_msg=name)


@pytest.mark.parametrize("count", [12, 70, 300])  # two shards, and more
def test_shards_of_trees(workers, count):
    """Rows of many trees: each shard's batches are its own, rows are used again within a shard."""
    sizes = np.random.RandomState(count).randint(1, 60, count)
    net, trees = tree_lstm(8), forest(2, tuple(sizes))
    workers(2)
    outputs, grads = step(net, trees)
    roots = [o.asnumpy() for o in net(trees)]
    net.hybridize(executor="mxnet")
    wanted, wanted_grads = step(net, trees)
    for a, b, root in zip(outputs, wanted, roots):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(root, b[trees.roots], rtol=1e-4, atol=1e-6)
    for name, grad in wanted_grads.items():
        assert np.linalg.norm(grads[name] - grad) <= 1e-4 * np.linalg.norm(grad), name


def test_recomputation_gives_the_same_gradients():
    net, trees = tree_lstm(), forest(2)
    outputs, grads = step(net, trees)
    net.hybridize(executor="native", recompute=True)
    again, recomputed = step(net, trees)
    for a, b in zip(again, outputs):
        np.testing.assert_array_equal(a, b)
    for name, grad in grads.items():
        assert np.linalg.norm(recomputed[name] - grad) <= 1e-5 * np.linalg.norm(grad), name


def test_recomputation_of_shards_that_run_at_once(workers):
    """Each shard has kept rows of its own: what they share, one would write while another reads."""
    net, trees = tree_lstm(100), forest(4, (40,) * 40)
    workers(2)
    outputs, grads = step(net, trees)
    net.hybridize(executor="native", recompute=True)
    for _ in range(10):
        again, recomputed = step(net, trees)
        for a, b in zip(again, outputs):
            np.testing.assert_array_equal(a, b)
        for name, grad in grads.items():
            assert np.linalg.norm(recomputed[name] - grad) <= 1e-5 * np.linalg.norm(grad), name


def test_recomputation_needs_less_memory():
    net, trees = tree_lstm(), forest(3, (60, 60, 60))
    with mx.autograd.record():
        net(trees)
    _, call = net._prepare(trees, (), True, "roots")
    used = []
    for recompute in (False, True):
        run = NativeRun(call, recompute=recompute)
        result = run.forward()
        result.backward([mx.nd.ones(o.shape) for o in result.outputs])
        used.append(run.run.figure(2))
    assert used[1] < 0.9 * used[0]


def test_inference_uses_rows_again():
    """A chain of any length needs a handful of rows."""
    def body(me, node):
        return node["x"] if node.is_leaf else me(node.left) * 0.5 + node["x"]
    weights = Weights("float32")
    program, _ = trace(body, weights, (), (0, 1))
    s = structure(np.random.RandomState(0), 1, 500, (1,), "chain")
    call = call_of(program, weights, np.random.RandomState(0), s, "float32", keep=False, train=False)
    run = NativeRun(call)
    layouts = [(run.run.figure(4, i), run.run.figure(5, i)) for i in range(3)]
    wanted = reference.run(call).outputs[0].asnumpy()
    np.testing.assert_allclose(run.forward().outputs[0].asnumpy(), wanted, rtol=1e-5)
    size, written = max(layouts, key=lambda pair: pair[1])
    assert written > 100 and size <= 6


def test_two_forwards_before_one_backward():
    net = tree_lstm()
    first, second = forest(4), forest(5, (7, 9))
    _, a = step(net, first)
    _, b = step(net, second)
    with mx.autograd.record():
        loss = sum((o * o).sum() for f in (first, second) for o in net(f, nodes=True))
    loss.backward()
    for name, p in net.collect_params().items():
        got = p.grad().tostype("default").asnumpy()
        assert np.linalg.norm(got - a[name] - b[name]) <= 1e-5 * np.linalg.norm(got), name


def test_a_gradient_that_adds_and_one_that_is_not_wanted():
    net = tree_lstm()
    trees = forest(6)
    _, once = step(net, trees)
    params = net.collect_params()
    net.output.weight.grad_req, net.cell.node.weight.grad_req = "null", "add"
    for p in params.values():
        if p.grad_req != "null":
            p.zero_grad()
    for _ in range(3):
        with mx.autograd.record():
            loss = sum((o * o).sum() for o in net(trees, nodes=True))
        loss.backward()
    for weight, times in ((net.cell.node.weight, 3), (net.cell.leaf.weight, 1)):
        np.testing.assert_allclose(weight.grad().asnumpy(), times * once[weight.name], rtol=1e-4, atol=1e-5)


def test_backward_twice():
    net, trees = tree_lstm(), forest(7)
    _, once = step(net, trees)
    with mx.autograd.record():
        loss = sum((o * o).sum() for o in net(trees, nodes=True))
    loss.backward(retain_graph=True)
    loss.backward()
    name = net.cell.node.weight.name
    np.testing.assert_array_equal(net.cell.node.weight.grad().asnumpy(), once[name])


def test_weights_that_change_before_the_gradient():
    """What backward reads is what forward read, whatever is written in between."""
    net, trees = tree_lstm(), forest(8)
    _, once = step(net, trees)
    with mx.autograd.record():
        loss = sum((o * o).sum() for o in net(trees, nodes=True))
    net.cell.node.weight.set_data(mx.nd.zeros(net.cell.node.weight.shape))
    loss.backward()
    np.testing.assert_array_equal(net.cell.node.weight.grad().asnumpy(), once[net.cell.node.weight.name])


def test_as_the_mxnet_executor():
    trees = forest_of(0)
    results, net = [], ready(TreeNet())
    for executor in ("mxnet", "native"):
        net.hybridize(executor=executor)
        with mx.autograd.record():
            outputs = net(trees)
            loss = sum((o * o).sum() for o in outputs)
        loss.backward()
        results.append(([o.asnumpy() for o in outputs], list(gradients(net).values())))
    for a, b in zip(results[0][0] + results[0][1], results[1][0] + results[1][1]):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_word_that_the_table_has_not():
    net = tree_lstm()
    tree = Tree.from_ptb("(1 (1 a) (1 b))").map(word=lambda w: 31 if w == "b" else 0)
    with pytest.raises(IndexRangeError, match="holds 31, but the Embedding at .* knows 0 to 29"):
        net(rg.Forest([tree]))


def test_an_executor_that_cannot():
    class Odd(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            if node.is_leaf:
                return F.one_hot(node["word"], depth=4)
            return F.sort(self(node.left) + self(node.right), axis=1)
    net = Odd()
    net.initialize()
    net.hybridize(executor="native")
    with pytest.raises(NativeCoreError, match="operator sort at .* is outside of its set"):
        net(forest())
    net.hybridize(executor="auto")
    assert net(forest()).shape == (4, 4)


def test_memory_that_is_not_there():
    lib = binding.core()
    before = lib.rg_borrowed_bytes()
    net = tree_lstm()
    net(forest())
    assert lib.rg_borrowed_bytes() == before  # nothing is kept by a call without a gradient


@pytest.mark.parametrize("lanes", [0, 2])
def test_a_trace_of_a_run(tmp_path, lanes):
    net = tree_lstm()
    net.hybridize(lanes=lanes)
    file = tmp_path / "trace.json"
    rg.trace(net, forest(), str(file))
    written = json.loads(file.read_text())["traceEvents"]
    names = {e["args"]["name"] for e in written if e["ph"] == "M"}
    assert names == {"lane 0", "lane 1"} if lanes else "worker 0" in names
    events = [e for e in written if e["ph"] == "X"]
    assert {e["cat"] for e in events} == {"forward", "backward", "sums"}
    batches = [e for e in events if e["cat"] != "sums"]
    assert all(e["dur"] >= 0 and e["args"]["rows"] > 0 for e in batches)
    known = {(a["batch"], a["segment"], a["level"], a["shard"], a["rows"]) for a in (e["args"] for e in batches)}
    assert len({number for number, *_ in known}) == len(known)  # a batch is the same in all its spans
    assert len({level for _, _, level, _, _ in known}) > 3
