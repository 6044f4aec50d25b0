"""rg.Trainer updates as gluon.Trainer does, in one native operation where it can."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recursive_gluon as rg
from recursive_gluon import native
from recursive_gluon._compat import mx

OPTIMIZERS = st.one_of(
    st.tuples(st.just("sgd"), st.fixed_dictionaries({"momentum": st.sampled_from([0.0, 0.9]),
                                                     "lazy_update": st.booleans()})),
    st.tuples(st.just("adam"), st.fixed_dictionaries({"beta1": st.sampled_from([0.9, 0.5]),
                                                      "lazy_update": st.booleans()})),
    st.tuples(st.just("adagrad"), st.fixed_dictionaries({"eps": st.sampled_from([1e-7, 1e-3])})),
    st.tuples(st.just("rmsprop"), st.just({})),
)
KNOWN = [("sgd", {}), ("sgd", {"momentum": 0.9}), ("adam", {}), ("adagrad", {})]
needs_native = pytest.mark.skipif(native.library() is None, reason="there is no native core")
SHAPES = {"weight": (7, 33), "bias": (7,), "table": (40, 5), "frozen": (3,)}


def parameters(sparse):
    params = mx.gluon.ParameterDict()
    for name, shape in SHAPES.items():
        stype = "row_sparse" if sparse and name == "table" else "default"
        params.get(name, shape=shape, grad_stype=stype, grad_req="null" if name == "frozen" else "write", init="zeros")
    params.initialize()
    random = np.random.RandomState(3)
    for p in params.values():
        p.set_data(mx.nd.array(random.normal(size=p.shape)))
    params["bias"].lr_mult, params["weight"].wd_mult = 0.5, 2.0
    return params


def loss_of(params, random):
    x = mx.nd.array(random.normal(size=(4, 33)))
    words = mx.nd.array(random.randint(0, 40, size=(6,)))
    sparse = params["table"]._grad_stype == "row_sparse"
    with mx.autograd.record():
        rows = mx.nd.Embedding(words, params["table"].data(), input_dim=40, output_dim=5, sparse_grad=sparse)
        out = mx.nd.FullyConnected(x, params["weight"].data(), params["bias"].data(), num_hidden=7)
        return (out * out).sum() + (rows * rows * 3).sum() + params["frozen"].data().sum()


def train(make, sparse, name, options, steps, hook=lambda step, trainer: None):
    params, random = parameters(sparse), np.random.RandomState(5)
    trainer = make(params, name, dict(options), kvstore=None)
    for step in range(steps):
        loss_of(params, random).backward()
        trainer.step(4)
        hook(step, trainer)
    return {n: p.data().asnumpy() for n, p in params.items()}, trainer


def assert_equal(got, wanted):
    """But for the order of roundings."""
    for name, value in wanted.items():
        error = np.linalg.norm(got[name] - value)
        assert error <= 3e-6 * np.linalg.norm(value), f"{name}: off by {error:.3g} of {np.linalg.norm(value):.3g}"


@given(OPTIMIZERS, st.booleans(), st.sampled_from([0.0, 1e-2]), st.sampled_from([None, 0.05]))
@settings(max_examples=30, deadline=None)
def test_as_gluon(optimizer, sparse, wd, clip):
    name, options = optimizer
    wd = 0.0 if name == "adagrad" and sparse else wd
    options = {**options, "wd": wd, "learning_rate": 0.1, "clip_gradient": clip}
    if name == "rmsprop" and sparse:
        sparse = False
    wanted, _ = train(mx.gluon.Trainer, sparse, name, options, 5)
    got, trainer = train(rg.Trainer, sparse, name, options, 5)
    assert_equal(got, wanted)
    assert trainer.native_steps == (5 if name != "rmsprop" and native.library() is not None else 0)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_learning_rates(name):
    def hook(step, trainer):
        trainer.set_learning_rate(0.1 / (step + 1))

    def scheduled():  # a scheduler has a state of its own
        return {"learning_rate": 0.1, "lr_scheduler": mx.lr_scheduler.FactorScheduler(2, 0.5)}
    for options, action in ((lambda: {"learning_rate": 0.1}, hook), (scheduled, lambda step, trainer: None)):
        wanted, _ = train(mx.gluon.Trainer, True, name, options(), 6, action)
        got, trainer = train(rg.Trainer, True, name, options(), 6, action)
        assert_equal(got, wanted)


@pytest.mark.parametrize("name, options", [("sgd", {"momentum": 0.9}), ("adam", {}), ("adagrad", {})])
@pytest.mark.parametrize("first, second", [(rg.Trainer, mx.gluon.Trainer), (mx.gluon.Trainer, rg.Trainer)])
def test_states_are_gluons(name, options, first, second, tmp_path):
    """States written by one are read by the other, and training goes on as if nothing had happened."""
    file = str(tmp_path / "states")
    wanted, _ = train(mx.gluon.Trainer, False, name, options, 6)
    params, random = parameters(False), np.random.RandomState(5)
    for make, steps in ((first, 3), (second, 3)):
        trainer = make(params, name, dict(options), kvstore=None)
        if make is second:
            trainer.load_states(file)
        for _ in range(steps):
            loss_of(params, random).backward()
            trainer.step(4)
        if make is first:
            trainer.save_states(file)
    assert_equal({n: p.data().asnumpy() for n, p in params.items()}, wanted)


def test_a_stale_gradient():
    params = parameters(False)
    trainer = rg.Trainer(params, "sgd", {"learning_rate": 0.1}, kvstore=None)
    loss_of(params, np.random.RandomState(0)).backward()
    trainer.step(1)
    with pytest.raises(UserWarning, match="has not been updated by backward"):
        trainer.step(1)
    before = params["weight"].data().asnumpy()
    trainer.step(1, ignore_stale_grad=True)
    np.testing.assert_array_equal(params["weight"].data().asnumpy(), before)


def test_new_arrays():
    """Parameters that were made anew are the ones that are updated."""
    params = parameters(False)
    trainer = rg.Trainer(params, "sgd", {"learning_rate": 0.1}, kvstore=None)
    for _ in range(2):
        loss_of(params, np.random.RandomState(0)).backward()
        before = params["weight"].data().asnumpy()
        trainer.step(1)
        assert np.abs(params["weight"].data().asnumpy() - before).max() > 0
        params["weight"].initialize(init="ones", force_reinit=True)


def test_a_gradient_that_adds():
    def run(make):
        params, random = parameters(False), np.random.RandomState(1)
        params["weight"].grad_req = "add"
        trainer = make(params, "sgd", {"learning_rate": 0.1}, kvstore=None)
        for _ in range(3):
            params.zero_grad()
            for _ in range(2):
                loss_of(params, random).backward()
            trainer.step(8)
        return {n: p.data().asnumpy() for n, p in params.items()}
    assert_equal(run(rg.Trainer), run(mx.gluon.Trainer))


@needs_native
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name, options", KNOWN)
def test_the_native_core_is_used(name, options, sparse, monkeypatch):
    """Gluon's updater is never asked, with Gluon's own default of a kvstore too."""
    monkeypatch.setattr(mx.optimizer.Updater, "__call__", lambda *args: pytest.fail("Gluon's updater"))
    params, random = parameters(sparse), np.random.RandomState(5)
    trainer = rg.Trainer(params, name, {"learning_rate": 0.1, **options})
    for _ in range(3):
        loss_of(params, random).backward()
        trainer.step(4, ignore_stale_grad=True)
    assert trainer.native_steps == 3


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name, options", KNOWN)
def test_some_stale_gradients(name, options, sparse):
    """Parameters that are left out now and then: their own counts of updates, and a scheduler's, are Gluon's."""
    def run(make):
        params, random = parameters(sparse), np.random.RandomState(5)
        scheduler = mx.lr_scheduler.FactorScheduler(1, 0.7, base_lr=0.1)
        trainer = make(params, name, {"learning_rate": 0.1, "lr_scheduler": scheduler, **options}, kvstore=None)
        for step in range(7):
            if step in (0, 3):
                with mx.autograd.record():
                    loss = (params["weight"].data() ** 2).sum()
            else:
                loss = loss_of(params, random)
            loss.backward()
            trainer.step(4, ignore_stale_grad=True)
        optimizer = trainer.optimizer
        return {n: p.data().asnumpy() for n, p in params.items()}, (optimizer.num_update, optimizer._index_update_count)
    (got, counts), (wanted, wanted_counts) = run(rg.Trainer), run(mx.gluon.Trainer)
    assert counts == wanted_counts
    assert_equal(got, wanted)


def test_the_stale_gradient_leaves_gluons_flags():
    """Those before the stale one count as used, those after it do not."""
    def run(make):
        params = parameters(False)
        trainer = make(params, "sgd", {"learning_rate": 0.1}, kvstore=None)
        loss_of(params, np.random.RandomState(0)).backward()
        trainer.step(1)
        with mx.autograd.record():
            loss = (params["bias"].data() ** 2).sum() + (params["weight"].data() ** 2).sum()
        loss.backward()
        with pytest.raises(UserWarning) as error:
            trainer.step(1)
        return str(error.value), {n: p.data()._fresh_grad for n, p in params.items()}, trainer.optimizer.num_update
    assert run(rg.Trainer) == run(mx.gluon.Trainer)


@pytest.mark.parametrize("name, options", KNOWN)
def test_states_loaded_midway(name, options, tmp_path):
    """Training goes back to states that were saved, arrays of weights the same."""
    file = str(tmp_path / "states")

    def run(make):
        def hook(step, trainer):
            if step == 1:
                trainer.save_states(file)
            if step == 3:
                trainer.load_states(file)
                trainer.set_learning_rate(0.03)
        return train(make, True, name, {"learning_rate": 0.1, **options}, 6, hook)
    (got, ours), (wanted, gluons) = run(rg.Trainer), run(mx.gluon.Trainer)
    assert_equal(got, wanted)
    assert ours.optimizer.num_update == gluons.optimizer.num_update
    assert ours.native_steps == (6 if native.library() is not None else 0)


def test_options_changed_midway():
    """Whatever is assigned to the optimizer or to a parameter takes effect at the next step."""
    def hook(step, trainer):
        o, p = trainer.optimizer, trainer._params[0]
        if step == 0:
            o.wd, o.clip_gradient = 0.1, 0.2
        elif step == 1:
            o.momentum, p.lr_mult = 0.5, 0.3
        elif step == 2:
            p.grad_req = "null"
        elif step == 3:
            p.grad_req = "write"
        elif step == 4:
            o.momentum = 0.0  # there are states, which Gluon leaves alone
    for sparse in (False, True):
        options = {"momentum": 0.9, "learning_rate": 0.1}
        wanted, _ = train(mx.gluon.Trainer, sparse, "sgd", options, 7, hook)
        got, trainer = train(rg.Trainer, sparse, "sgd", options, 7, hook)
        assert_equal(got, wanted)


@pytest.mark.parametrize("dtype, shape", [("float64", (3, 4)), ("float32", (2, 3, 3, 3))])
def test_what_gluon_updates(dtype, shape):
    def run(make):
        params = mx.gluon.ParameterDict()
        w = params.get("w", shape=shape, dtype=dtype, init="ones")
        params.initialize()
        trainer = make(params, "adam", {"learning_rate": 0.1}, kvstore=None)
        for _ in range(2):
            with mx.autograd.record():
                loss = (w.data() * w.data()).sum()
            loss.backward()
            trainer.step(2)
        return w.data().asnumpy(), getattr(trainer, "native_steps", 0)
    (got, steps), (wanted, _) = run(rg.Trainer), run(mx.gluon.Trainer)
    np.testing.assert_array_equal(got, wanted)
    assert steps == 0


@pytest.mark.parametrize("make", [rg.Trainer, mx.gluon.Trainer])
def test_a_parameter_twice(make):
    w = mx.gluon.Parameter("w", shape=(2,), init="ones")
    w.initialize()
    trainer = make([w, w], "sgd", {"learning_rate": 0.1}, kvstore=None)
    with mx.autograd.record():
        loss = w.data().sum()
    loss.backward()
    with pytest.raises(UserWarning, match="has not been updated by backward"):
        trainer.step(1)


@pytest.mark.parametrize("make", [rg.Trainer, mx.gluon.Trainer])
def test_gluons_error(make):
    """What MXNet's operator for row_sparse gradients refuses, is refused in its words."""
    with pytest.raises(mx.MXNetError, match="_sparse_adagrad_update|sparse adagrad"):
        train(make, True, "adagrad", {"learning_rate": 0.1, "wd": 0.1}, 1)


def test_after_inference():
    """Inference may lay weights out in another way; nobody notices."""
    def run(make):
        net = mx.gluon.nn.Dense(64, in_units=128)
        net.initialize(mx.init.Constant(0.01))
        trainer = make(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9}, kvstore=None)
        x = mx.nd.array(np.random.RandomState(0).normal(size=(32, 128)))
        for _ in range(4):
            with mx.autograd.record():
                loss = (net(x) ** 2).sum()
            loss.backward()
            net(x)
            trainer.step(32)
        return {n: p.data().asnumpy() for n, p in zip("wb", net.collect_params().values())}
    assert_equal(run(rg.Trainer), run(mx.gluon.Trainer))
