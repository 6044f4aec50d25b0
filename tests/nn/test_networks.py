"""Networks: eager against NumPy, hybridized against eager, on random trees."""
import numpy as np
import pytest
from formulas import lstm_leaf, lstm_node, numeric_gradient, rnn_node, rntn_node, top_down, values

from recursive_gluon import Forest, Tree
from recursive_gluon._compat import mx
from recursive_gluon.nn import RNTN, TopDownTreeLSTM, TreeLSTM, TreeRNN

VOCAB, H, CLASSES = 11, 4, 3


def random_tree(leaves):
    if leaves == 1:
        return Tree(word=int(np.random.randint(VOCAB)))
    left = np.random.randint(1, leaves)
    return Tree([random_tree(left), random_tree(leaves - left)])


def forest_of(*leaves):
    return Forest([random_tree(n) for n in leaves])


def ready(net):
    net.initialize(mx.init.Normal(0.5))
    return net


def as_list(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def part(p, prefix):
    return {name[len(prefix):]: value for name, value in p.items() if name.startswith(prefix)}


def by_formula(net, forest):
    """Outputs of every node, from the formulas."""
    p, states = values(net), []
    cell, s = part(p, "cell_"), forest.structure
    for node, word in enumerate(forest["word"].asnumpy()):
        below = [states[k] for k in s.children[s.child_offsets[node]:s.child_offsets[node + 1]]]
        x = p["embed_weight"][word]
        if isinstance(net, TreeLSTM):
            states.append(lstm_node(cell, *below) if below else lstm_leaf(cell, x))
        else:
            formula = rntn_node if isinstance(net, RNTN) else rnn_node
            states.append((formula(cell, *(h for h, in below)),) if below else (x,))
    outputs = [np.stack(o) for o in zip(*states)]
    if net.output is not None:
        outputs.append(outputs[0] @ p["output_weight"].T + p["output_bias"])
    return outputs


NETS = {
    "treelstm": lambda: TreeLSTM(VOCAB, 5, H, CLASSES),
    "treelstm_states": lambda: TreeLSTM(VOCAB, 5, H, forget_bias=1.0),
    "treelstm_dense": lambda: TreeLSTM(VOCAB, 5, H, CLASSES, sparse_grad=False),
    "treernn": lambda: TreeRNN(VOCAB, H, CLASSES),
    "treernn_states": lambda: TreeRNN(VOCAB, H),
    "rntn": lambda: RNTN(VOCAB, H, CLASSES),
}


@pytest.fixture(params=NETS, name="net")
def _net(request):
    return ready(NETS[request.param]())


@pytest.mark.parametrize("hybridize", [False, True], ids=["eager", "hybridized"])
def test_formula(net, hybridize):
    if hybridize:
        net.hybridize()
    forest = forest_of(1, 2, 6)
    expected = by_formula(net, forest)
    for got, want in zip(as_list(net(forest, nodes=True)), expected):
        np.testing.assert_allclose(got.asnumpy(), want, rtol=1e-4, atol=1e-5)
    for got, want in zip(as_list(net(forest)), expected):
        np.testing.assert_allclose(got.asnumpy(), want[forest.structure.roots], rtol=1e-4, atol=1e-5)


def gradients(net, forest, nodes):
    with mx.autograd.record():
        outputs = as_list(net(forest, nodes=nodes))
        loss = sum((o ** 2).sum() for o in outputs)
    loss.backward()
    return ([o.asnumpy() for o in outputs],
            {name: p.grad().asnumpy() for name, p in net.collect_params().items()})


@pytest.mark.parametrize("nodes", [False, True], ids=["roots", "nodes"])
@pytest.mark.parametrize("executor", ["reference", "mxnet"])
def test_hybridized_equals_eager(net, executor, nodes):
    forest = forest_of(7, 1, 3, 12)
    outputs, expected = gradients(net, forest, nodes)
    net.hybridize(executor=executor)
    hybridized, got = gradients(net, forest, nodes)
    assert len(hybridized) == len(outputs)
    for a, b in zip(hybridized, outputs):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name in expected:
        # by norm: sums in another order differ in single elements
        assert np.linalg.norm(got[name] - expected[name]) <= 1e-5 * np.linalg.norm(expected[name]) + 1e-7, name


def test_gradient_of_the_embedding_is_sparse():
    forest = forest_of(3)
    for sparse, stype in ((True, "row_sparse"), (False, "default")):
        net = ready(TreeLSTM(VOCAB, 5, H, sparse_grad=sparse))
        net.hybridize()
        gradients(net, forest, True)
        gradient = net.embed.weight.grad()
        assert gradient.stype == stype
        if sparse:
            assert set(gradient.indices.asnumpy()) == {w for w in forest["word"].asnumpy() if w >= 0}


def test_parameter_names():
    """They stand in saved files."""
    assert list(TreeLSTM(VOCAB, 5, H, CLASSES, prefix="net_").collect_params()) == [
        "net_embed_weight", "net_cell_leaf_weight", "net_cell_leaf_bias", "net_cell_node_weight",
        "net_cell_node_bias", "net_output_weight", "net_output_bias"]
    assert list(TreeRNN(VOCAB, H, prefix="net_").collect_params()) == [
        "net_embed_weight", "net_cell_node_weight", "net_cell_node_bias"]
    assert list(RNTN(VOCAB, H, prefix="net_").collect_params()) == [
        "net_embed_weight", "net_cell_node_weight", "net_cell_node_bias", "net_cell_tensor_weight"]


@pytest.mark.parametrize("hybridize", [False, True], ids=["eager", "hybridized"])
def test_dropout_is_for_training_only(hybridize):
    net, forest = ready(TreeLSTM(VOCAB, 5, H, CLASSES, dropout=0.5)), forest_of(5, 4)
    if hybridize:
        net.hybridize()
    still, expected = net(forest)[2].asnumpy(), by_formula(net, forest)[2][forest.structure.roots]
    np.testing.assert_allclose(still, expected, rtol=1e-4, atol=1e-5)
    with mx.autograd.record():
        dropped = net(forest)[2].asnumpy()
    assert np.abs(dropped - still).max() > 1e-3


@pytest.mark.parametrize("make", [
    lambda: TreeLSTM(0, 5, H), lambda: TreeLSTM(VOCAB, 5, H, num_classes=0), lambda: RNTN(VOCAB, 1.5),
    lambda: TopDownTreeLSTM(H, max_depth=0),
])
def test_bad_sizes(make):
    with pytest.raises(ValueError, match="expected a whole number above 0"):
        make()


@pytest.mark.parametrize("dropout", [1, -0.1, "0.5"])
def test_bad_dropout(dropout):
    with pytest.raises(ValueError, match="expected a number from 0 to below 1"):
        TreeRNN(VOCAB, H, dropout=dropout)


# -- top-down ----------------------------------------------------------------------------------------------

ROOTS, DEPTH = 6, 4


def growing():
    """A net, its forest, and states from which it grows trees of several shapes."""
    net = TopDownTreeLSTM(H, max_depth=DEPTH)
    net.initialize(mx.init.Normal(1.0))
    forest = Forest([Tree(label=0)] * ROOTS)
    return net, forest, np.random.normal(size=(ROOTS, H)), np.random.normal(size=(ROOTS, H))


def grown(net, h, c):
    p = values(net)
    return [top_down(p, a, b, 0, DEPTH) for a, b in zip(h, c)]


@pytest.mark.seed(20180423)  # grows trees of several shapes
@pytest.mark.parametrize("executor", [None, "reference", "mxnet"])
def test_top_down_grows_where_the_formula_does(executor):
    net, forest, h, c = growing()
    if executor:
        net.hybridize(executor=executor)
    expected = grown(net, h, c)
    shapes = [e[3] for e in expected]
    assert len(set(shapes)) > 2 and None in shapes  # trees of several shapes, one of them a leaf alone
    total, leaves, log_prob = net(forest, mx.nd.array(h), mx.nd.array(c), 0)
    np.testing.assert_array_equal(leaves.asnumpy()[:, 0], [e[1] for e in expected])
    np.testing.assert_allclose(total.asnumpy(), np.stack([e[0] for e in expected]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_prob.asnumpy()[:, 0], [e[2] for e in expected], rtol=1e-4, atol=1e-5)


@pytest.mark.seed(20180423)  # grows trees of several shapes
@pytest.mark.parametrize("executor", [None, "reference", "mxnet"])
def test_top_down_gradients(executor):
    net, forest, h, c = growing()
    if executor:
        net.hybridize(executor=executor)
    p = values(net)

    def loss():
        trees = [top_down(p, a, b, 0, DEPTH) for a, b in zip(h, c)]
        return sum((e[0] ** 2).sum() + e[2] for e in trees)

    states = [mx.nd.array(h), mx.nd.array(c)]
    for state in states:
        state.attach_grad()
    with mx.autograd.record():
        total, _, log_prob = net(forest, *states, 0)
        value = (total ** 2).sum() + log_prob.sum()
    value.backward()
    for state, array in zip(states, (h, c)):
        np.testing.assert_allclose(state.grad.asnumpy(), numeric_gradient(loss, array), rtol=1e-3, atol=1e-3)
    for name, array in p.items():
        got = net.collect_params()[net.prefix + name].grad().asnumpy()
        np.testing.assert_allclose(got, numeric_gradient(loss, array), rtol=1e-3, atol=1e-3, err_msg=name)
