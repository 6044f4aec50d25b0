"""The InvokeOp in every mode of MXNet and Gluon, against the eager twin."""
import numpy as np
import pytest
from nets import TreeNet, assert_close, flat, forest_of, gradients, loss_of, numbers, random_tree, ready, step, twins

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.data import ForestBatchify
from recursive_gluon.errors import TraceError

gluon, nn, autograd = mx.gluon, mx.gluon.nn, mx.autograd

FLAGS = [{}, {"static_alloc": True}, {"static_alloc": True, "static_shape": True}, {"inline_limit": 0},
         {"forward_bulk_size": 0, "backward_bulk_size": 0}, {"forward_bulk_size": 50, "static_alloc": True}]


class Mixed(gluon.HybridBlock):
    """Dense layers on a field, then recursion, then more layers; `calls` times the same recursion."""

    def __init__(self, calls=1, sparse=False, tree=None, **kwargs):
        super().__init__(**kwargs)
        self.calls = calls
        with self.name_scope():
            self.before, self.after = nn.Dense(2, flatten=False), nn.Dense(3)
            self.tree = tree or Both(sparse=sparse)

    def hybrid_forward(self, F, forest):
        structure, word, x = forest
        total = None
        for k in range(self.calls):
            out = self.tree([structure, word, F.tanh(self.before(x + k))])
            total = out if total is None else total + out * (k + 1)
        return self.after(total), total


class Both(rg.RecursiveBlock):
    """Reads both fields."""

    def __init__(self, sparse=False, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embed, self.dense = nn.Embedding(12, 2, sparse_grad=sparse), nn.Dense(2)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.embed(node["word"]) * node["x"]
        return F.tanh(self.dense(F.concat(self(node.left), self(node.right), node["x"], dim=1)))


# -- CachedOp ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("sparse", [False, True])
def test_hybridized(flags, sparse):
    net = ready(TreeNet(sparse=sparse))
    for nodes in (False, True):
        twins(net, forest_of(), flags=flags, nodes=nodes)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dtypes(dtype):
    net = ready(Mixed(), dtype)
    out, _ = twins(net, forest_of(dtype=dtype), dtype=dtype)
    assert all(x.dtype == np.dtype(dtype) for x in net(forest_of(dtype=dtype)))


@pytest.mark.parametrize("flags", FLAGS, ids=str)
@pytest.mark.parametrize("sparse", [False, True])
def test_inside_a_hybridized_block(flags, sparse):
    net, forest = ready(Mixed(sparse=sparse)), forest_of()
    forest["x"].attach_grad()
    got = []
    for active in (False, True):
        net.hybridize(active, **flags)
        outputs, grads = step(net, forest)
        got.append((outputs, {**grads, "x": numbers(forest["x"].grad)}))
    assert_close(got[1][0], got[0][0])
    assert_close(got[1][1], got[0][1])
    twins(net, forest, flags=flags)


@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_one_parameter_used_by_many_calls(flags):
    twins(ready(Mixed(calls=9)), forest_of(), flags=flags)


@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_a_sparse_parameter_used_by_many_calls(flags):
    for calls in (3, 9):
        twins(ready(Mixed(calls, sparse=True)), forest_of(), flags=flags)


@pytest.mark.parametrize("calls, sparse, flags", [(1, False, {}), (1, False, {"static_alloc": True}), (9, False, {}),
                                                  (9, False, {"static_alloc": True}), (1, True, {}),
                                                  (1, True, {"static_alloc": True})])
def test_grad_req_add(calls, sparse, flags):
    net, forest = ready(Mixed(calls, sparse)), forest_of()
    net.hybridize(False)
    _, once = step(net, forest)
    net.hybridize(**flags)
    params = net.collect_params()
    params.setattr("grad_req", "add")
    params.zero_grad()
    for times in (1, 2, 3):
        assert_close(step(net, forest)[1], {k: g * times for k, g in once.items()}, what=f"backward {times}, gradient")


@pytest.mark.parametrize("calls", [2, 3, 9])
@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_what_mxnet_sums_wrongly_is_refused(calls, flags):
    net, forest = ready(Mixed(calls, sparse=True)), forest_of()
    net(forest)
    net.hybridize(**flags)
    net.tree.embed.weight.grad_req = "add"
    with pytest.raises(TraceError, match="several uses in one graph"):
        step(net, forest)
    while True:  # every use said so, and MXNet keeps what nobody asked for until the process ends
        try:
            mx.nd.waitall()
            break
        except TraceError:
            pass
    net.tree.embed.weight.grad_req = "write"
    twins(net, forest, flags=flags)


def test_grad_req_by_parameter():
    net, forest = ready(Mixed(2)), forest_of()
    net.hybridize(False)
    _, once = step(net, forest)
    net.hybridize()
    params = net.collect_params()
    for i, p in enumerate(params.values()):
        p.grad_req = ("write", "add", "null")[i % 3]
    params.zero_grad()
    for _ in range(2):
        got = step(net, forest)[1]
    assert set(got) < set(once)
    times = {"write": 1, "add": 2}
    assert_close(got, {k: once[k] * times[params[k].grad_req] for k in got})


# -- autograd ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forwards_before_their_backwards(flags, order):
    net, forests = ready(TreeNet(sparse=True)), [forest_of(1), forest_of(2, sizes=(3, 8))]
    net.hybridize(False)
    wanted = [step(net, f)[1] for f in forests]
    net.hybridize(**flags)
    with autograd.record():
        losses = [loss_of(net(f)) for f in forests]
    for i in order:
        losses[i].backward()
        assert_close(gradients(net), wanted[i])


def test_several_losses_at_once():
    net, forests = ready(TreeNet()), [forest_of(1), forest_of(2, sizes=(3, 8))]
    net.hybridize(False)
    wanted = [step(net, f)[1] for f in forests]
    net.hybridize()
    with autograd.record():
        losses = [loss_of(net(f)) for f in forests]
    autograd.backward(losses)
    assert_close(gradients(net), {k: wanted[0][k] + wanted[1][k] for k in wanted[0]})


def test_retain_graph():
    net, forest = ready(TreeNet()), forest_of()
    net.hybridize(False)
    _, wanted = step(net, forest)
    net.hybridize()
    with autograd.record():
        loss = loss_of(net(forest))
    loss.backward(retain_graph=True)
    assert_close(gradients(net), wanted)
    net.collect_params().zero_grad()
    loss.backward()
    assert_close(gradients(net), wanted)


def test_autograd_grad():
    net, forest = ready(Mixed()), forest_of()
    forest["x"].attach_grad()
    got = []
    for active in (False, True):
        net.hybridize(active)
        with autograd.record():
            loss = loss_of(net(forest))
        wanted = [forest["x"], net.tree.dense.weight.data(), net.tree.embed.weight.data()]
        got.append([numbers(g) for g in autograd.grad(loss, wanted)])
    assert_close(got[1], got[0])


def test_gradients_of_one_output():
    net, forest = ready(TreeNet()), forest_of()
    got = []
    for active in (False, True):
        net.hybridize(active)
        with autograd.record():
            h, c, scores = net(forest)
        scores.backward()
        got.append(gradients(net))
    assert_close(got[1], got[0])


@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_recorded_in_predict_mode(flags):
    twins(ready(TreeNet(dropout=0.5)), forest_of(), train=False, flags=flags)


def test_pause_and_modes():
    net, forest = ready(TreeNet(dropout=0.5)), forest_of(sizes=(9, 9))
    net(forest)
    net.hybridize()
    with autograd.predict_mode():
        calm = numbers(net(forest)[0])
    assert_close([numbers(net(forest)[0])], [calm])  # outside of record
    with autograd.train_mode():
        assert not np.allclose(numbers(net(forest)[0]), calm)
    with autograd.record():
        with autograd.pause():
            out = net(forest)
        assert_close([numbers(out[0])], [calm])
    with pytest.raises(mx.MXNetError, match="not in a computational graph"):
        out[0].backward()


# -- Dropout and BatchNorm --------------------------------------------------------------------------
class Noisy(rg.RecursiveBlock):
    """Dropout of ones at every leaf: the sum of all of them."""

    def __init__(self, p=0.25, **kwargs):
        super().__init__(**kwargs)
        self.drop = nn.Dropout(p)
        self.scale = self.params.get("scale", shape=(1, 50), init="one")

    def hybrid_forward(self, F, node, scale):
        if node.is_leaf:
            return self.drop(scale)
        return self(node.left) + self(node.right)


def test_dropout_draws():
    net, forest = ready(Noisy()), forest_of(sizes=(20, 20))
    net.hybridize()
    drawn = []
    for _ in range(2):
        mx.random.seed(7)
        with autograd.record():
            first, second = net(forest), net(forest)
        first.backward()
        drawn.append([numbers(first), numbers(second), gradients(net)])
    assert np.array_equal(drawn[0][0], drawn[1][0]) and np.array_equal(drawn[0][1], drawn[1][1])
    assert not np.array_equal(drawn[0][0], drawn[0][1])
    assert not np.array_equal(drawn[0][0][0], drawn[0][0][1])  # two trees, and two calls, have nothing in common
    np.testing.assert_allclose(drawn[0][0].sum(axis=0), drawn[0][2][net.scale.name].ravel())  # same draws backward
    np.testing.assert_allclose(drawn[0][0].mean(), 20, rtol=0.05)
    levels = drawn[0][0] * 0.75
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)
    assert numbers(net(forest)).tolist() == [[20.0] * 50] * 2  # predicting drops nothing


@pytest.mark.parametrize("executor", ["mxnet", "reference"])
def test_executors_draw_alike(executor):
    net, forest = ready(TreeNet(dropout=0.5)), forest_of(sizes=(5, 9))
    net(forest)  # initializes
    got = []
    for which in ("mxnet", executor):
        net.hybridize(executor=which)
        mx.random.seed(3)
        got.append(step(net, forest))
    assert_close(got[1][0], got[0][0])
    assert_close(got[1][1], got[0][1])


class Normed(rg.RecursiveBlock):
    """BatchNorm within a body: over the positions of one node's matrix."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense, self.norm = nn.Dense(6), nn.BatchNorm(axis=1, momentum=0.7)

    def hybrid_forward(self, F, node):
        x = self.norm(F.reshape(self.dense(node["x"]), shape=(1, 2, 3)))
        x = F.reshape(x, shape=(1, 6))
        if node.is_leaf:
            return x
        return F.tanh(x + self(node.left) * self(node.right))


def statistics(net):
    return [numbers(net.norm.running_mean.data()), numbers(net.norm.running_var.data())]


def norm_steps(flags, sizes):
    """Outputs, gradients, running statistics after a step, and a prediction with them; for each of some flags."""
    net, forest = ready(Normed()), forest_of(sizes=sizes)
    net(forest)
    net.norm.gamma.set_data(net.norm.gamma.data() * 1.3)
    before, got = statistics(net), []
    for kwargs in flags:
        net.norm.running_mean.set_data(mx.nd.array(before[0]))
        net.norm.running_var.set_data(mx.nd.array(before[1]))
        net.hybridize(**kwargs)
        with autograd.record():
            out = net(forest)
            loss = loss_of(out)
        assert_close(statistics(net), before)  # MXNet updates them in backward
        loss.backward()
        got.append([numbers(out), *(g for _, g in sorted(gradients(net).items())), *statistics(net)])
        assert not np.allclose(got[-1][-1], before[1])
        got[-1].append(numbers(net(forest)))  # predicting uses them and leaves them alone
        assert_close(statistics(net), got[-1][-3:-1])
    return got


def test_batch_norm_within_a_body():
    eager, ours = norm_steps([{"active": False}, {}], sizes=(1,))
    assert_close(ours, eager)
    eager, ours, static, reference = norm_steps(
        [{"active": False}, {}, {"static_alloc": True, "static_shape": True}, {"executor": "reference"}], sizes=(1, 3))
    # Eagerly, the order of several updates is that of MXNet's tape: only what does not depend on it is equal.
    assert_close(ours[:-3], eager[:-3])
    assert_close(ours, reference)
    assert_close(static, reference)


# -- parameters -------------------------------------------------------------------------------------
def test_parameters_shared_by_two_blocks():
    first = ready(TreeNet(prefix="shared_"), "float32")
    second = TreeNet(prefix="shared_", params=first.collect_params())
    forest = forest_of(dtype="float32")
    first(forest), second(forest)

    class Two(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.first, self.second = first, second

        def hybrid_forward(self, F, forest):
            return F.concat(*self.first(forest), *self.second(forest), dim=1)

    net = Two()
    twins(net, forest, dtype="float32")
    wanted = step(first, forest)[0]
    assert_close([numbers(net(forest))], [np.concatenate(wanted * 2, axis=1)], "float32")
    assert list(net.collect_params()) == list(first.collect_params())


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_a_large_sparse_table(optimizer):
    tables = []
    for active in (False, True):
        mx.random.seed(1)
        net, forest = ready(TreeNet(words=20_000, sparse=True), "float32"), forest_of(words=20_000, dtype="float32")
        net(forest)  # initializes
        net.hybridize(active)
        table = net.embed.weight
        before = None
        trainer = gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.1})
        for _ in range(3):
            step(net, forest)
            if before is None:
                before = numbers(table.data())
            trainer.step(1)
        words = forest["word"].asnumpy()
        used = np.unique(words[words >= 0])
        assert table.grad().stype == "row_sparse"
        assert table.grad().indices.asnumpy().tolist() == used.tolist()
        changed = np.flatnonzero((numbers(table.data()) != before).any(axis=1))
        assert changed.tolist() == used.tolist()
        tables.append(numbers(table.data()))
    assert_close([tables[1]], [tables[0]], "float32")


class Own(rg.RecursiveBlock):
    """Parameters of its own, shapes to be found out, and Dense children."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(3, 0), allow_deferred_init=True)
            self.bias = self.params.get("bias", shape=(3,), init="zeros")
            self.dense = nn.Dense(3)

    def hybrid_forward(self, F, node, weight, bias):
        x = F.FullyConnected(node["x"], weight, bias, num_hidden=3)
        if node.is_leaf:
            return x
        return F.tanh(self.dense(F.concat(self(node.left), self(node.right), dim=1)) + x)


class Outside(gluon.HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.tree, self.dense = Own(), nn.Dense(2)

    def hybrid_forward(self, F, forest):
        return self.dense(self.tree(forest))


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("make", [Own, Outside])
def test_deferred_initialization(make, active):
    forest = forest_of()
    net = make()
    net.initialize(mx.init.Constant(0.3))
    net.cast("float64")
    net.hybridize(active)
    first = numbers(net(forest))
    tree = net if make is Own else net.tree
    assert tree.weight.shape == (3, 2) and tree.dense.weight.shape == (3, 6)
    net.hybridize(not active)
    assert_close([numbers(net(forest))], [first])
    twins(net, forest)


def test_changing_parameters_between_calls(tmp_path):
    net, forest = ready(Mixed(), "float32"), forest_of(dtype="float32")
    net.hybridize()
    net(forest)
    for p in net.collect_params().values():
        p.set_data(p.data() * 1.5)
    twins(net, forest, dtype="float32")
    net.cast("float64")
    double = forest_of()
    net(double)
    assert net(double)[0].dtype == np.float64
    twins(net, double)
    net.collect_params().reset_ctx([mx.cpu(1)])
    other = forest_of(ctx=mx.cpu(1))
    assert net(other)[0].context == mx.cpu(1)
    twins(net, other)
    net.collect_params().reset_ctx([mx.cpu(0)])
    wanted = [numbers(x) for x in net(double)]
    net.save_parameters(str(tmp_path / "a.params"))
    net.collect_params().save(str(tmp_path / "b.params"))
    for load in (lambda: net.load_parameters(str(tmp_path / "a.params")),
                 lambda: net.collect_params().load(str(tmp_path / "b.params"))):
        for p in net.collect_params().values():
            p.set_data(p.data() * 0)
        load()
        assert_close([numbers(x) for x in net(double)], wanted)


@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_changing_batches(flags):
    net = ready(Mixed())
    for seed, sizes in enumerate([(3,), (1, 5, 2), (9, 9), (1,), (2, 2, 2, 2)]):
        twins(net, forest_of(seed, sizes), flags=flags)


def test_several_contexts():
    contexts, forest = [mx.cpu(0), mx.cpu(1)], forest_of(sizes=(5, 3, 6, 2))
    after = []
    for used in (contexts[:1], contexts):
        mx.random.seed(5)
        net = ready(TreeNet(prefix="split_", sparse=True), ctx=used)
        net.hybridize()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}, update_on_kvstore=False)
        for _ in range(2):
            with autograd.record():
                losses = [sum((x * x).sum() for x in net(part)) for part in forest.split(used)]
            autograd.backward(losses)
            trainer.step(1)
        after.append({n: numbers(p.data(used[-1])) for n, p in net.collect_params().items()})
    assert_close(after[1], after[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers):
    random = np.random.RandomState(0)
    trees = [random_tree(random, n) for n in (1, 4, 2, 6, 3)]
    data = gluon.data.SimpleDataset(list(zip(trees, np.arange(5.0))))
    loader = gluon.data.DataLoader(data, batch_size=2, batchify_fn=ForestBatchify(), num_workers=workers)
    net = ready(TreeNet(), "float32")
    wanted = [numbers(x) for x in net(trees)]
    net.hybridize()
    got = [[numbers(x) for x in net(forest)] for forest, _ in loader]
    assert [len(g[0]) for g in got] == [2, 2, 1]
    assert_close([np.concatenate(parts) for parts in zip(*got)], wanted, "float32")


# -- arguments at the root --------------------------------------------------------------------------
class Down(rg.RecursiveBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(2)

    def hybrid_forward(self, F, node, state, depth):
        state = F.tanh(self.dense(state) + node["x"])
        if node.is_leaf or depth == 0:
            return state, state * depth
        (a, b), (c, d) = self(node.left, state, depth - 1), self(node.right, state * 2, depth - 1)
        return a * c + state, b + d


@pytest.mark.parametrize("flags", FLAGS[:3], ids=str)
def test_arguments_at_the_root(flags):
    net, forest = ready(Down()), forest_of(sizes=(1, 5, 8))
    state = mx.nd.array(np.random.normal(size=(3, 2)), dtype="float64")
    state.attach_grad()
    for depth in (0, 3, 20):
        got = []
        for active in (False, True):
            net.hybridize(active, **flags)
            outputs, grads = step(net, forest, state, depth)
            got.append(outputs + [numbers(state.grad)] + [grads[k] for k in sorted(grads)])
        assert_close(got[1], got[0])


class DownOutside(gluon.HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.tree, self.dense = Down(), nn.Dense(2)

    def hybrid_forward(self, F, forest, state):
        return F.concat(*self.tree(forest, self.dense(state), 3), dim=1)


def test_arguments_inside_a_hybridized_block():
    state = mx.nd.array(np.random.normal(size=(3, 4)), dtype="float64")
    twins(ready(DownOutside()), forest_of(sizes=(1, 5, 8)), state)


class NodesInside(gluon.HybridBlock):
    """Values at every node, and a loss on all of them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.tree, self.head = TreeNet(), nn.Dense(2)

    def hybrid_forward(self, F, forest):
        h, c, _ = self.tree(forest, nodes=True)
        return self.head(h), c, self.tree(forest)[0]


def test_nodes_inside_a_hybridized_block():
    twins(ready(NodesInside()), forest_of())


# -- symbols ----------------------------------------------------------------------------------------
def as_symbols(net, forest):
    """The net on variables, and its arguments."""
    inputs = [mx.sym.var("structure"), *(mx.sym.var(f"field_{n}") for n in forest.fields)]
    out = net(inputs)
    symbol = mx.sym.Group(list(flat(out)))
    values = dict(zip(["structure", *(f"field_{n}" for n in forest.fields)], forest))
    values.update({n: p.data() for n, p in net.collect_params().items()})
    arguments, states = symbol.list_arguments(), symbol.list_auxiliary_states()
    return symbol, {n: values[n] for n in arguments}, {n: values[n] for n in states}


def eager_gradients(net, forest):
    net.hybridize(False)
    with autograd.record():
        out = flat(net(forest))
    autograd.backward(out)
    return [numbers(x) for x in out], gradients(net)


def test_symbol_infers_shapes_and_types():
    net, forest = ready(Mixed(), "float32"), forest_of(dtype="float32")
    net(forest)
    symbol, values, _ = as_symbols(net, forest)
    args, outs, _ = symbol.infer_shape(**{n: v.shape for n, v in values.items() if n.startswith(("struct", "field"))})
    assert dict(zip(symbol.list_arguments(), args)) == {n: v.shape for n, v in values.items()}
    assert outs == [(3, 3), (3, 2)]
    assert symbol.infer_type(structure=np.int32, field_x=np.float32, field_word=np.int32)[1] == [np.float32] * 2
    again = mx.sym.load_json(symbol.tojson())
    assert again.list_arguments() == symbol.list_arguments()
    outputs = again.bind(mx.cpu(), values).forward()
    assert_close([numbers(x) for x in outputs], [numbers(x) for x in net(forest)], "float32")


@pytest.mark.parametrize("make", [Mixed, TreeNet, Normed])
@pytest.mark.parametrize("how", ["write", "add", "null", "mixed"])
def test_bind(make, how):
    net, forest = ready(make()), forest_of()
    wanted, grads = eager_gradients(net, forest)
    if make is Normed:
        net.norm.running_mean.set_data(net.norm.running_mean.data() * 0)
        net.norm.running_var.set_data(mx.nd.ones_like(net.norm.running_var.data()))
    symbol, values, states = as_symbols(net, forest)
    names = [n for n in values if n in grads]
    req = {n: how if n in grads else "null" for n in values}
    if how == "mixed":
        req.update({n: ("write", "add", "null")[i % 3] for i, n in enumerate(names)})
    stores = {n: mx.nd.ones_like(values[n]) for n in names}
    executor = symbol.bind(mx.cpu(), values, args_grad=stores, grad_req=req, aux_states=states)
    for times in (1, 2):
        outputs = executor.forward(is_train=True)
        assert_close([numbers(x) for x in outputs], wanted, what="output")
        executor.backward([mx.nd.ones_like(x) for x in outputs])
        expected = {n: {"write": grads[n], "add": 1 + times * grads[n], "null": np.ones_like(grads[n])}[req[n]]
                    for n in names}
        assert_close({n: numbers(g) for n, g in stores.items()}, expected, what=f"gradient, time {times}")


def test_simple_bind():
    net, forest = ready(Mixed(9), "float32"), forest_of(dtype="float32")
    wanted, grads = eager_gradients(net, forest)
    symbol, values, _ = as_symbols(net, forest)
    inputs = {n: v for n, v in values.items() if n not in grads}
    executor = symbol.simple_bind(mx.cpu(), grad_req={n: "write" if n in grads else "null" for n in values},
                                  type_dict={"structure": "int32", "field_word": "int32"},
                                  **{n: v.shape for n, v in inputs.items()})
    executor.copy_params_from({n: v for n, v in values.items() if n in grads})
    for _ in range(2):
        outputs = executor.forward(is_train=True, **inputs)
        assert_close([numbers(x) for x in outputs], wanted, "float32")
        executor.backward([mx.nd.ones_like(x) for x in outputs])
        assert_close({n: numbers(executor.grad_dict[n]) for n in grads}, grads, "float32")


def test_summaries(capsys):
    net, forest = ready(Mixed(), "float32"), forest_of(dtype="float32")
    net.summary(forest)
    text = capsys.readouterr().out
    assert "Dense" in text and "Both" in text and "Total params" in text
    net.hybridize()
    net(forest)
    symbol, values, _ = as_symbols(net, forest)
    mx.viz.print_summary(symbol, shape={n: v.shape for n, v in values.items() if n.startswith(("struct", "field"))})
    assert "Custom" in capsys.readouterr().out


def test_repr_and_names_of_inputs():
    net, forest = ready(TreeNet(prefix="tree_")), forest_of()
    net(forest)
    symbol, _, _ = as_symbols(net, forest)
    assert symbol.list_outputs()[0].startswith("tree_")
    assert "Embedding" in repr(net)
