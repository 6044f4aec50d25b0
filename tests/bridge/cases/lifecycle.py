"""What happens to a net while it is trained: initialization, casting, moving, saving, copying, errors, threads."""
import copy
import os
import tempfile
import threading

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell, TwoArms
from .common import L2, attempt, fit, normal, ready, state, trainer_of
from .registry import case


def tower(inputs=0):
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Dense(5, in_units=inputs, activation="tanh"), nn.Dense(2, in_units=5 if inputs else 0))
    return net


class Doubler(gluon.Block):
    """A plain Block around a tower, which looks at a value."""

    def __init__(self, inputs=3):
        super().__init__()
        with self.name_scope():
            self.body = tower(inputs)

    def forward(self, x):
        h = self.body(x)
        return h * 2 if h[0, 0].asscalar() > 0 else h - 1


@case(85, "deferred initialization on the first call")
def deferred(convert):
    net = Doubler(inputs=0)
    net.initialize(mx.init.Xavier())
    net = convert(net)
    yield attempt(state, net)
    trainer = trainer_of(net)
    for rows in (3,) * 9 + (5, 3, 4):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)
    yield attempt(net, normal(3, 4))  # the wrong width
    yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)


@case(86, "never initialized")
def uninitialized(convert):
    net = convert(Doubler(inputs=0))
    yield attempt(net, normal(3, 3))
    net.initialize(mx.init.Uniform(0.5))
    for step in range(12):
        yield attempt(net, normal(3, 3))
        if step == 8:
            net.initialize(mx.init.Uniform(0.3), force_reinit=True)


@case(87, "set_data in the middle of training")
def set_data(convert):
    net = convert(ready(Doubler()))
    trainer = trainer_of(net, momentum=0.9)
    for step in range(14):
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)
        if step in (5, 6, 9):
            for p in net.collect_params().values():
                p.set_data(normal(*p.shape) * 0.5)
        if step == 11:
            net.body[0].weight.data()[:] = 0.1


@case(88, "cast in the middle of training")
def cast(convert):
    net = convert(ready(Doubler()))
    kind = "float32"
    trainer = trainer_of(net)
    for step in range(14):
        if step in (6, 10):
            kind = "float64" if step == 6 else "float32"
            net.cast(kind)
            trainer = trainer_of(net)
        yield fit(net, trainer, normal(3, 3).astype(kind), normal(3, 2).astype(kind)), state(net)
    yield attempt(lambda: net(normal(3, 3).astype("float64")).asnumpy())


@case(89, "reset_ctx in the middle of training")
def reset_ctx(convert):
    net = convert(ready(Doubler()))
    trainer = trainer_of(net)
    ctx = mx.cpu(0)
    for step in range(14):
        if step in (6, 10):
            ctx = mx.cpu(1) if step == 6 else mx.cpu(0)
            net.collect_params().reset_ctx(ctx)
            trainer = trainer_of(net)
        x, y = normal(3, 3).as_in_context(ctx), normal(3, 2).as_in_context(ctx)
        yield fit(net, trainer, x, y), state(net)


@case(90, "several contexts")
def contexts(convert):
    both = [mx.cpu(0), mx.cpu(1)]
    net = convert(ready(Doubler(), ctx=both))
    trainer = trainer_of(net)
    for step, rows in enumerate((4,) * 9 + (6, 4, 8)):
        xs = gluon.utils.split_and_load(normal(rows, 3), both)
        ys = gluon.utils.split_and_load(normal(rows, 2), both)
        with autograd.record():
            outs = [net(x) for x in xs]
            values = [L2(out, y) for out, y in zip(outs, ys)]
        for value in values:
            value.backward()
        trainer.step(rows)
        yield outs, values, state(net)
        if step % 4 == 3:
            yield net(xs[1])


@case(91, "saved and loaded in the middle of training")
def saved(convert):
    net = convert(ready(Doubler()))
    trainer = trainer_of(net, "adam", learning_rate=0.05)
    with tempfile.TemporaryDirectory() as folder:
        where, how = os.path.join(folder, "net.params"), os.path.join(folder, "trainer.states")
        for step in range(14):
            yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)
            if step == 6:
                net.save_parameters(where)
                trainer.save_states(how)
            if step in (8, 11):
                net.load_parameters(where)
                trainer.load_states(how)
        other = Doubler()
        other.load_parameters(where)
        yield other(mx.nd.ones((2, 3)))


@case(92, "copied, and trained on")
def copied(convert):
    net = convert(ready(Doubler()))
    trainer = trainer_of(net)
    for step in range(12):
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)
        if step == 7:
            best = copy.deepcopy(net)
    x = normal(3, 3)
    yield net(x), best(x), state(best)


@case(93, "an error that comes when a value is read")
def late_error(convert):
    class Net(Cell):
        deviation = 1.0

        def hybrid_forward(self, F, x):
            return self.head(self.cell(x) + F.random.normal(0, self.deviation, shape=(3,)))

    def step(net, trainer):
        out, value = fit(net, trainer, normal(3, 3), normal(3, 2))
        return out.asnumpy(), value.asnumpy()

    net = convert(ready(Net()))
    for p in net.collect_params().values():
        p.grad_req = "null"
    for number in range(14):
        net.deviation = -1.0 if number in (6, 10) else 1.0
        yield attempt(lambda: net(normal(3, 3)).asnumpy())


@case(94, "an error of shapes")
def shape_error(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x, z):
            self.before = self.up(x)
            h = F.elemwise_add(self.before, z)
            return h - self.down(x)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for columns in (4, 4, 4, 4, 4, 4, 3, 4, 1, 4, 5, 4):
        yield attempt(fit, net, trainer, normal(3, 3), normal(3, 4), normal(3, columns)), net.before, state(net)


@case(95, "threads that call the net")
def threads(convert):
    class Net(TwoArms):
        def forward(self, x):
            h = self.up(x)
            for _ in range(3):
                h = mx.nd.tanh(h) + (1 if h[0, 0].asscalar() > 0 else h)
            return h

    net = convert(ready(Net()))
    data = [normal(3, 3) for _ in range(4)]
    for _ in range(5):
        yield net(data[0])
    for step in range(8):
        found = [None] * 4

        def work(i, found=found, step=step):
            for _ in range(3):
                found[i] = net(data[i] * (1 if step < 4 else -1)).asnumpy(), autograd.is_recording()

        workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        with autograd.record():
            mine = net(data[step % 4])
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        mine.backward()
        yield found, mine, state(net)


@case(96, "a hybridized child inside the net")
def hybridized_child(convert):
    net = Doubler()
    net.body.hybridize(static_alloc=True)
    net = convert(ready(net))
    trainer = trainer_of(net)
    for step, rows in enumerate((3,) * 8 + (5, 3, 4, 3)):
        if step == 6:
            net.body.hybridize(False)
        if step == 9:
            net.hybridize()
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(97, "the default context and scopes of attributes")
def default_context(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            noise = F.ones((1, 3))  # made where the default context says
            return self.head(self.cell(x) + noise.as_in_context(x.ctx)), noise

    net = convert(ready(Net(), ctx=[mx.cpu(0), mx.cpu(1)]))
    for step in range(12):
        ctx = mx.cpu(1 if step in (6, 7, 10) else 0)
        with ctx:
            yield net(mx.nd.ones((2, 3)) * step)


@case(98, "an unused parameter and a frozen layer")
def stale(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x):
            return self.up(x)

    net = convert(ready(Net()))
    trainer = trainer_of(net)

    def strict(rows):
        with autograd.record():
            value = L2(net(normal(rows, 3)), normal(rows, 4))
        value.backward()
        trainer.step(rows)  # complains about a gradient that no backward has written

    for step in range(14):
        if step in (6, 9):
            net.up.weight.grad_req = "null" if step == 6 else "write"
        yield attempt(strict, 3) if step in (0, 11) else fit(net, trainer, normal(3, 3), normal(3, 4)), state(net)
