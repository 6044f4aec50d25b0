"""Second-order gradients on MXNet's tape, against differences of the first-order gradients of an ordinary call."""
import gc

import numpy as np
import pytest
from nets import TreeNet, flat, forest_of, numbers, random_tree, ready

import recursive_gluon as rg
from recursive_gluon import native
from recursive_gluon._compat import mx
from recursive_gluon.errors import ArityError, SecondOrderError
from recursive_gluon.runtime.core import second_order, second_programs

pytestmark = pytest.mark.skipif(not native.status().available, reason="no native core on this machine")
autograd, nn = mx.autograd, mx.gluon.nn


def heads_of(outputs):
    """Something of the outputs, by operators of MXNet's that have a second order."""
    return [mx.nd.elemwise_add(mx.nd.square(x), mx.nd.sigmoid(x)) for x in flat(outputs)]


def penalty_of(grads, outputs):
    total = sum((g ** 2).sum() for g in grads)
    return total + sum((x ** 3).sum() for x in flat(outputs)) * 0.1


def variables(net, *arrays):
    return [*(p.data() for p in net.collect_params().values() if p.grad_req != "null"), *arrays]


def call(net, inputs, options):
    mx.random.seed(5)  # the same dropout each time
    out = net(*inputs, **options)
    return out[0] if options.get("max_nodes") else out


def recorded(net, inputs, xs, options, run=call):
    """The penalty, recorded."""
    with autograd.record():
        out = run(net, inputs, options)
        grads = autograd.grad(heads_of(out), xs, create_graph=True, retain_graph=True)
        return penalty_of(grads, out)


def first_order(net, inputs, xs, options, run=call):
    """The same number from an ordinary hybridized call."""
    with autograd.record():
        out = run(net, inputs, options)
        heads = heads_of(out)
    grads = autograd.grad(heads, xs, retain_graph=True)
    return penalty_of([g.tostype("default") for g in grads], out).asscalar()


def check(net, inputs, xs=None, options=None, run=call, flags=None, step=1e-6):
    """Every variable's gradient, along a random direction of its own."""
    xs, options = variables(net) if xs is None else xs, options or {}
    net.hybridize(second_order=True, **(flags or {}))
    recorded(net, inputs, xs, options, run).backward()
    got = [numbers(x.grad).copy() for x in xs]
    net.hybridize(second_order=False)
    reached = 0
    for x, grad in zip(xs, got):
        kept, along = x.copy(), np.random.normal(size=x.shape)
        values = []
        for sign in (1, -1):
            x[:] = kept + mx.nd.array(sign * step * along, dtype=x.dtype)
            values.append(first_order(net, inputs, xs, options, run))
        x[:] = kept
        wanted, slope = (values[0] - values[1]) / (2 * step), (grad * along).sum()
        assert abs(slope - wanted) <= 1e-6 * (1 + abs(wanted)), (x.shape, slope, wanted)
        reached += abs(wanted) > 1e-3
    assert reached >= len(xs) // 2, "the case says nothing"
    return got


def started(net, *inputs, **options):
    """A net whose parameters have their shapes."""
    net = ready(net)
    net.hybridize()
    net(*inputs, **options)
    return net


class ChildSum(rg.RecursiveBlock):
    """A loop over children, with a carried value beside the sum."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.inner, self.forget = nn.Dense(3, in_units=5), nn.Dense(3, in_units=5)
            self.leaf = nn.Dense(3, in_units=2)

    def hybrid_forward(self, F, node):
        h = F.tanh(self.leaf(node["x"]))
        total = F.zeros_like(h)
        for child in node.children:
            below = self(child)
            h = F.tanh(self.inner(F.concat(h, node["x"], dim=1)) + below)
            total = total + F.sigmoid(self.forget(F.concat(below, node["x"], dim=1))) * below
        return h + total


class Downwards(rg.RecursiveBlock):
    """Arguments go down, sums come up; a decision on a tensor."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(2, in_units=4)

    def hybrid_forward(self, F, node, state):
        state = F.tanh(self.dense(F.concat(state, node["x"], dim=1)))
        if node.is_leaf:
            return state * node["x"]
        if state.sum() > 0:
            return F.exp(state) * self(node.right, state)
        return self(node.left, state) + F.sin(self(node.right, state * 0.7))


class Shared(rg.RecursiveBlock):
    """For graphs in which several nodes share a child."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(2, 4))

    def hybrid_forward(self, F, node, weight):
        if node.is_leaf:
            return node["x"]
        both = F.concat(self(node.left), self(node.right), dim=1)
        return F.tanh(F.FullyConnected(both, F.square(weight), no_bias=True, num_hidden=2)) + node["x"]


def words(*sizes, seed=0):
    return forest_of(seed, sizes)


def diamonds():
    """Graphs whose nodes have several parents."""
    random, found = np.random.RandomState(3), []
    for _ in range(3):
        nodes = [rg.Tree(x=random.normal(size=2)) for _ in range(2)]
        for _ in range(4):
            nodes.append(rg.Tree(nodes[-2:], x=random.normal(size=2)))
        found.append(nodes[-1])
    return rg.Forest(found, dtype="float64")


# -- right numbers ----------------------------------------------------------------------------------------------------
NETS = {
    "treernn": lambda: rg.nn.TreeRNN(12, 3, 2),
    "rntn": lambda: rg.nn.RNTN(12, 3, 2),
    "treelstm": lambda: rg.nn.TreeLSTM(12, 4, 3, 2),
    "treelstm_dense_states": lambda: rg.nn.TreeLSTM(12, 4, 3, sparse_grad=False),
    "treelstm_dropout": lambda: rg.nn.TreeLSTM(12, 4, 3, 2, dropout=0.4),
    "three_outputs": lambda: TreeNet(),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("options", [{}, {"nodes": True}], ids=["roots", "nodes"])
def test_networks(name, options):
    forest = words(1, 4, 6)
    net = started(NETS[name](), forest, **options)
    check(net, [forest], options=options)


def test_loops_over_children_and_fields():
    random = np.random.RandomState(1)

    def tree(depth):
        children = [tree(depth - 1) for _ in range(random.randint(4))] if depth else []
        return rg.Tree(children, x=random.normal(size=2))

    forest = rg.Forest([tree(3) for _ in range(3)], dtype="float64")
    net = started(ChildSum(), forest)
    forest["x"].attach_grad()
    check(net, [forest], [*variables(net), forest["x"]])
    check(net, [forest], [forest["x"]])


def test_graphs_with_shared_nodes_and_computed_parameters():
    forest = diamonds()
    net = started(Shared(), forest)
    forest["x"].attach_grad()
    check(net, [forest], [*variables(net), forest["x"]])


def test_arguments_and_decisions_on_tensors():
    forest = words(1, 5, 7, 6)
    state = mx.nd.array(np.random.normal(size=(4, 2)), dtype="float64")
    net = started(Downwards(), forest, state)
    state.attach_grad()
    check(net, [forest, state], [*variables(net), state])


def test_grown_structures():
    class Grow(rg.RecursiveBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.step = nn.Dense(3, in_units=3)

        def hybrid_forward(self, F, h, depth):
            h = F.tanh(self.step(h))
            if depth >= 3:
                return h
            if h.sum() > 0.1:
                self(h * 0.5, depth + 1)
                self(h * -0.7, depth + 1)
            return h

    h = mx.nd.array(np.random.normal(size=(4, 3)), dtype="float64")
    net = started(Grow(), h, 0, max_nodes=20)
    h.attach_grad()
    check(net, [h, 0], [*variables(net), h], options={"max_nodes": 20})


@pytest.mark.parametrize("flags", [{"recompute": True}, {"executor": "native"}], ids=str)
def test_flags(flags):
    forest = words(3, 5)
    check(started(rg.nn.TreeLSTM(12, 4, 3, 2), forest), [forest], flags=flags)


def test_single_precision():
    forest = forest_of(0, (3, 6), dtype="float32")
    net = rg.nn.TreeLSTM(12, 4, 3, 2)
    ready(net, "float32").hybridize()
    net(forest)
    xs = variables(net)
    net.hybridize(second_order=True)
    recorded(net, [forest], xs, {}).backward()
    single = [numbers(x.grad) for x in xs]
    net.cast("float64")
    net.hybridize(second_order=True)
    xs, forest = variables(net), forest_of(0, (3, 6))
    recorded(net, [forest], xs, {}).backward()
    for a, x in zip(single, xs):
        b = numbers(x.grad)
        assert np.linalg.norm(a - b) <= 1e-4 * (1 + np.linalg.norm(b))


# -- on the tape ------------------------------------------------------------------------------------------------------
def test_first_order_is_as_without_the_flag():
    forest = words(1, 4, 6)
    net = started(rg.nn.TreeLSTM(12, 4, 3, 2), forest)
    found = []
    for flag in (False, True):
        net.hybridize(second_order=flag)
        net.collect_params().zero_grad()
        with autograd.record():
            out = net(forest)
            loss = penalty_of([], out)
        loss.backward()
        found.append([*(numbers(x.grad) for x in variables(net)), *(numbers(x) for x in flat(out))])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_gradients_are_added_where_that_is_asked_for():
    forest = words(1, 4, 6)
    net = started(rg.nn.TreeLSTM(12, 4, 3, 2, sparse_grad=False), forest)
    once = check(net, [forest])
    for p in net.collect_params().values():
        p.grad_req = "add"
    net.collect_params().zero_grad()
    net.hybridize(second_order=True)
    xs = variables(net)
    for _ in range(3):
        recorded(net, [forest], xs, {}).backward()
    for x, grad in zip(xs, once):
        np.testing.assert_allclose(numbers(x.grad), 3 * grad, rtol=1e-9, atol=1e-12)


def calls(count):
    forests = [words(i + 1, 3, seed=i) for i in range(count)]

    def run(net, inputs, options):
        return [out for forest in forests for out in flat(net(forest))]

    return started(rg.nn.TreeRNN(12, 3, 2), forests[0]), run


def test_several_calls_in_one_loss():
    net, run = calls(7)
    check(net, [], run=run)


def test_more_calls_than_mxnet_sums():
    net, run = calls(8)
    net.hybridize(second_order=True)
    with pytest.raises(mx.MXNetError, match="all trees in one call"):
        recorded(net, [], variables(net), {}, run).backward()


def test_a_call_on_what_a_call_gave():
    """A loss is a block too: what MXNet's operators cannot derive twice, a body can."""
    class Loss(rg.RecursiveBlock):
        def hybrid_forward(self, F, logits, label):
            return F.negative(F.pick(F.log_softmax(logits, axis=-1), label, axis=1, keepdims=True))

    forest = words(2, 4, 6)
    net, loss = started(rg.nn.TreeRNN(12, 3, 2), forest), Loss()
    label = mx.nd.array([0, 1, 1], dtype="float64")
    loss.hybridize()

    def run(net, inputs, options):
        loss.hybridize(second_order=net._second_order)
        return loss(net(forest)[1], label)

    check(net, [], run=run)


def test_a_tape_may_be_walked_again():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.hybridize(second_order=True)
    xs = variables(net)
    loss = recorded(net, [forest], xs, {})
    loss.backward(retain_graph=True)
    first = [numbers(x.grad).copy() for x in xs]
    for x in xs:  # the tape has what the call has seen
        x[:] = x * 2
    loss.backward()
    for x, grad in zip(xs, first):
        np.testing.assert_array_equal(numbers(x.grad), grad)


def test_nothing_is_held_after_the_tape():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.hybridize(second_order=True)
    for _ in range(3):
        recorded(net, [forest], variables(net), {}).backward()
    mx.nd.waitall()
    gc.collect()
    assert not second_order._calls


def test_calls_without_a_record_are_ordinary_ones():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.hybridize(second_order=True)
    net(forest)
    assert not second_order._calls


def test_frozen_parameters():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.embed.collect_params().setattr("grad_req", "null")
    check(net, [forest])


def test_paths_met_later():
    """A path that is first met by a recorded call is traced then."""
    class Arity(rg.RecursiveBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.weight = self.params.get("weight", shape=(1, 2))

        def hybrid_forward(self, F, node, weight):
            total = node["x"]
            for i in range(len(node.children)):
                total = F.tanh(total * weight) + self(node.children[i])
            return total

    random = np.random.RandomState(0)

    def star(n):
        return rg.Tree([rg.Tree(x=random.normal(size=2)) for _ in range(n)], x=random.normal(size=2))

    net = started(Arity(), rg.Forest([star(1)], dtype="float64"))
    check(net, [rg.Forest([star(2), star(5)], dtype="float64")])


# -- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("executor", ["native", "mxnet"])
@pytest.mark.parametrize("make", [lambda: rg.nn.TreeRNN(12, 3, 2), ChildSum], ids=["words", "fields"])
def test_without_the_flag_the_error_says_what_to_do(executor, make):
    forest = words(2, 4)
    net = started(make(), forest)
    net.hybridize(executor=executor)
    with pytest.raises(mx.MXNetError, match=r"hybridize\(second_order=True\)"):
        recorded(net, [forest], variables(net), {}).backward()


def test_a_third_order_is_refused():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3), forest)
    net.hybridize(second_order=True)
    xs = variables(net)
    with autograd.record():
        grads = autograd.grad(heads_of(net(forest)), xs, create_graph=True, retain_graph=True)
        again = autograd.grad([mx.nd.square(g) for g in grads], xs, create_graph=True, retain_graph=True)
        loss = sum((g ** 2).sum() for g in again)
    with pytest.raises(SecondOrderError, match="third-order"):
        loss.backward()


def test_an_operator_without_second_order_is_an_error_of_the_call():
    class Selu(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            if node.is_leaf:
                return node["x"]
            return F.LeakyReLU(self(node.left) + self(node.right), act_type="selu")

    forest, net = words(3), Selu()
    net.hybridize(second_order=True)
    net(forest)  # without a gradient it is nobody's concern
    with pytest.raises(SecondOrderError, match=r"test_second_order\.py:\d+: LeakyReLU has no second-order"):
        with autograd.record():
            net(forest)


def test_a_program_outside_of_the_core_is_an_error_of_the_call():
    class Outside(rg.RecursiveBlock):
        def hybrid_forward(self, F, node):
            if node.is_leaf:
                return node["x"]
            return F.sort(self(node.left) + self(node.right), axis=1)

    forest, net = words(3), Outside()
    net.hybridize(second_order=True)
    with pytest.raises(SecondOrderError, match=r"sort"):
        with autograd.record():
            net(forest)


def test_what_tangents_compute_from_parameters_alone_is_refused():
    class Normal(rg.RecursiveBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.norm = nn.BatchNorm(use_global_stats=True, in_channels=2)

        def hybrid_forward(self, F, node):
            return self.norm(node["x"]) if node.is_leaf else F.tanh(self(node.left) + self(node.right))

    forest = words(3)
    net = started(Normal(), forest)
    net.hybridize(second_order=True)
    with pytest.raises(SecondOrderError, match="from parameters alone .*rsqrt"):
        with autograd.record():
            net(forest)


@pytest.mark.parametrize("executor", ["mxnet", "reference"])
def test_other_executors(executor):
    net = TreeNet()
    with pytest.raises(SecondOrderError, match=f"native core, and executor='{executor}'"):
        net.hybridize(second_order=True, executor=executor)
    assert not net._second_order and net._executor == "auto"


def test_no_core(monkeypatch):
    forest = words(2)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.hybridize(second_order=True)
    monkeypatch.setattr(second_programs, "why_not", lambda call: "there is no native core on this machine")
    with pytest.raises(SecondOrderError, match="need the native core, which cannot run this: there is no native core"):
        with autograd.record():
            net(forest)


def test_mxnets_operators_without_second_order():
    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3), forest)
    net.hybridize(second_order=True)
    with autograd.record():
        grads = autograd.grad(net(forest).sum(), variables(net), create_graph=True, retain_graph=True)
        loss = sum((g ** 2).sum() for g in grads)
    with pytest.raises(mx.MXNetError, match="_backward_sum.*\n.*a loss, can be a RecursiveBlock too"):
        loss.backward()


def test_mistakes_in_the_data_are_errors_of_the_call():
    net = started(rg.nn.TreeRNN(12, 3, 2), words(3))
    net.hybridize(second_order=True)
    with pytest.raises(ArityError, match="root"):
        with autograd.record():
            net(rg.Forest([rg.Tree([random_tree(np.random, 1)], word=-1, x=np.zeros(2))], dtype="float64"))


@pytest.mark.parametrize("what", ["gradient", "second"])
def test_errors_in_an_operator_reach_the_user(monkeypatch, what):
    def fail(*args):
        raise ZeroDivisionError("of the test")

    forest = words(2, 4)
    net = started(rg.nn.TreeRNN(12, 3, 2), forest)
    net.hybridize(second_order=True)
    monkeypatch.setattr(second_order._TapeCall, what, fail)
    with pytest.raises(ZeroDivisionError, match="of the test"):
        recorded(net, [forest], variables(net), {}).backward()
        mx.nd.waitall()
