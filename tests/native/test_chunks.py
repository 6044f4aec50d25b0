"""Large forests, which run chunk by chunk of whole trees: as the mxnet executor, which knows no chunks."""
import dataclasses

import numpy as np
import pytest
from nets import Even, TreeNet, assert_close, gradients, numbers, random_tree, ready, step

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.core_calls import _seed
from recursive_gluon.errors import IndexRangeError, VisitError
from recursive_gluon.runtime.arrays import host_view
from recursive_gluon.runtime.core import binding
from recursive_gluon.runtime.core.executor import NativeRun
from recursive_gluon.runtime.core.programs import CoreRun, core_program
from recursive_gluon.runtime.executor import NODES, ROOTS
from recursive_gluon.runtime.recipes import compiled

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")

TREES = 900  # of 39 nodes: four chunks


def copies(trees, count=TREES, dtype="float64"):
    return rg.Forest([trees[i % len(trees)] for i in range(count)], dtype=dtype)


@pytest.fixture(scope="module")
def trees():
    random = np.random.RandomState(0)
    return [random_tree(random, 20) for _ in range(50)] + [rg.Tree(word=1, x=np.ones(2))]


class Downward(rg.RecursiveBlock):
    """Takes a tensor beside its node, and looks words up in some trees only."""

    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.dense, self.embed = mx.gluon.nn.Dense(3, in_units=5), mx.gluon.nn.Embedding(12, 3)

    def hybrid_forward(self, F, node, state):
        state = F.tanh(self.dense(F.concat(state, node["x"], dim=1)))
        if node.is_leaf:
            return state * self.embed(node["word"]) if node["known"] else state
        return self(node.left, state) + self(node.right, state)


def known(tree, yes):
    count = len(tree)
    return rg.Tree.from_arrays(tree.child_offsets, tree.children,
                               {"word": tree["word"], "x": tree["x"], "known": np.full(count, yes, np.int32)})


def both(net, forest, *args, **options):
    """A step and an inference, on either executor."""
    found = []
    for executor in ("mxnet", "native"):
        net.hybridize(executor=executor)
        mx.random.seed(3)
        inputs = [forest["x"], *(a for a in args if isinstance(a, mx.nd.NDArray))]
        for array in inputs:
            array.attach_grad()
        outputs, grads = step(net, forest, *args, **options)
        mx.random.seed(3)
        with mx.autograd.predict_mode():
            again = net(forest, *args, **options)
        again = again if isinstance(again, (list, tuple)) else [again]
        found.append((outputs, grads, [numbers(a.grad) for a in inputs], [numbers(o) for o in again]))
    for native, wanted in zip(found[1], found[0]):
        assert_close(native, wanted)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("options", [{}, {"nodes": True}, {"nodes": True, "only": 2}], ids=["roots", "nodes", "one"])
def test_as_the_mxnet_executor(trees, options, sparse):
    both(ready(TreeNet(sparse=sparse)), copies(trees), **options)


def test_two_blocks(trees):
    both(ready(Even()), copies(trees[:50]))


@pytest.mark.parametrize("words", [0, TREES // 2, TREES])
def test_arguments_and_trees_without_words(trees, words):
    """A chunk may look up nothing, all may."""
    forest = rg.Forest([known(trees[i % 50], i < words) for i in range(TREES)], dtype="float64")
    warm = rg.Forest([known(trees[0], yes) for yes in (0, 1)], dtype="float64")
    net = ready(Downward())
    net(warm, mx.nd.zeros((2, 3), dtype="float64"))
    both(net, forest, mx.nd.random.normal(shape=(TREES, 3), dtype="float64"))


def test_gradients_that_are_added(trees):
    net, forest = ready(TreeNet()), copies(trees)
    net.hybridize(executor="native")
    _, once = step(net, forest)
    net.collect_params().setattr("grad_req", "add")
    net.collect_params().zero_grad()
    for _ in range(2):
        _, added = step(net, forest)
    assert_close(added, {name: 2 * grad for name, grad in once.items()})


@pytest.mark.parametrize("recompute", [False, True])
def test_the_same_bits_for_any_number_of_workers(trees, workers, recompute):
    net, forest = ready(TreeNet(dropout=0.3), "float32"), copies(trees, dtype="float32")
    net.hybridize(executor="native", recompute=recompute)
    results = []
    step(net, forest, nodes=True)  # makes the parameters
    for count in (1, 2, 8):  # four chunks beside one another, or one after another
        workers(count)
        mx.random.seed(3)
        results.append(step(net, forest, nodes=True))
    for outputs, grads in results[1:]:
        for a, b in zip(outputs, results[0][0]):
            np.testing.assert_array_equal(a, b)
        for name, grad in grads.items():
            np.testing.assert_array_equal(grad, results[0][1][name])


def test_weights_that_are_written_before_the_gradient(trees):
    net, forest = ready(TreeNet()), copies(trees)
    net.hybridize(executor="native")
    found = []
    for write in (False, True):
        with mx.autograd.record():
            loss = sum((o * o).sum() for o in net(forest))
        if write:
            net.inner.weight.set_data(mx.nd.zeros(net.inner.weight.shape))
        loss.backward()
        found.append(gradients(net))
    for name, grad in found[0].items():
        np.testing.assert_array_equal(found[1][name], grad)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_gradient_may_be_asked_for_again(trees, recompute):
    net, forest = ready(TreeNet()), copies(trees)
    net.hybridize(executor="native", recompute=recompute)
    with mx.autograd.record():
        loss = sum((o * o).sum() for o in net(forest, nodes=True))
    found = []
    for _ in range(2):
        loss.backward(retain_graph=True)
        found.append(gradients(net))
    for name, grad in found[0].items():
        np.testing.assert_array_equal(found[1][name], grad)


def test_what_they_hold_is_what_explain_says(trees, workers):
    """Inference holds what runs at once, training all chunks; parts and lanes know no chunks."""
    workers(2)
    net, forest = ready(TreeNet(), "float32"), copies(trees, dtype="float32")
    told = rg.explain(net, forest)
    memory = told.memory
    assert (memory.chunks, told.scheduling.chunks) == (4, 4)
    assert f"recompute=True {memory.recompute} (each in 4 chunks), recompute=256 " in str(told)
    assert "    in 4 chunks of whole trees, each planned and run by itself; were they one:\n" in str(told)
    for keep, recompute, wanted in ((False, False, memory.inference), (False, 9, memory.inference),
                                    (True, False, memory.training), (True, True, memory.recompute)):
        _, call = net._prepare(forest, (), keep, ROOTS)
        fields = {name: host_view(array) for name, array in call.fields.items()}
        run = CoreRun(core_program(compiled(call))[0], call, fields, recompute, chunks=True)
        assert (run.figure(7), run.chunks()) == (wanted.block, 4)
        run.release()
    net.hybridize(recompute=100)
    assert rg.explain(net, forest).scheduling.chunks == 0
    net.hybridize(recompute=False, lanes=2)
    told = rg.explain(net, forest)
    assert (told.scheduling.chunks, told.memory) == (0, None)


def test_a_run_holds_what_was_planned(trees, workers):
    lib, net, forest = binding.core(), ready(TreeNet(), "float32"), copies(trees, dtype="float32")
    workers(1)
    net.hybridize(executor="native")
    step(net, forest)
    planned = rg.explain(net, forest).memory.training.block
    before = lib.rg_borrowed_bytes()
    with mx.autograd.record():
        outputs = net(forest)
    held = lib.rg_borrowed_bytes() - before
    assert planned <= held < 1.3 * planned  # and copies of weights; blocks are rounded up
    del outputs


def test_draws_are_those_of_the_whole_forest(trees):
    net, forest = ready(TreeNet(dropout=0.3)), copies(trees)
    net.hybridize(executor="native")
    net(forest)  # makes the parameters
    mx.random.seed(3)
    with mx.autograd.record():
        outputs = net(forest, nodes=True)
    mx.random.seed(3)
    seed = _seed()
    with mx.autograd.record():
        _, call = net._prepare(forest, (), True, NODES)
    whole = NativeRun(dataclasses.replace(call, seed=seed))
    assert_close([numbers(o) for o in outputs], [numbers(o) for o in whole.forward().outputs])
    whole.release()


def test_errors_are_those_of_the_whole_forest(trees):
    class Left(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            return node["x"] if node.is_leaf else self(node.left)

    wrong = rg.Tree([rg.Tree(word=1, x=np.ones(2)), rg.Tree(word=31, x=np.ones(2))], word=-1, x=np.ones(2))
    forest = rg.Forest([*(trees[i % 50] for i in range(TREES)), wrong], dtype="float64")
    for net, error, options in ((TreeNet(), IndexRangeError, {}), (Left(), VisitError, {"nodes": True})):
        net = ready(net)
        net.hybridize(executor="native")
        with pytest.raises(error) as caught:
            net(forest, **options)
        with pytest.raises(error) as wanted:
            NativeRun(net._prepare(forest, (), False, NODES if options else ROOTS)[1])
        assert str(caught.value) == str(wanted.value)
