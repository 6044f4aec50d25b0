"""One net in several places, several nets in one: what a converter remembers must belong to one of them."""
from concurrent.futures import ThreadPoolExecutor

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell, TwoArms
from .common import L2, fit, normal, ready, state, trainer_of
from .registry import case


@case(105, "the net called several times in one step, on its own output too")
def called_again(convert):
    class Net(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.cell = nn.Dense(3, in_units=3)

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            return h * 2 if h[0, 0] > 0 else h + x

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for times in (3, 3, 3, 3, 3, 3, 2, 3, 1, 5, 3, 4):
        x = normal(3, 3)
        with autograd.record():
            h = x
            for _ in range(times):
                h = net(h)
            value = L2(h + net(x), x)
        value.backward()
        trainer.step(3)
        yield h, value, state(net)


@case(106, "two nets of one class, used in turns")
def two_nets(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x, other=None):
            h = F.tanh(self.up(x))
            if other is not None:
                h = h + other(x)
            return h if h.sum() > 0 else h * self.down(x)

    nets = [ready(Net()) for _ in range(2)]
    nets = [convert(net) for net in nets]
    trainers = [trainer_of(net) for net in nets]
    for turn in (0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1):
        more = () if turn else (nets[1],)
        yield fit(nets[turn], trainers[turn], normal(3, 3), normal(3, 4), *more), [state(net) for net in nets]


@case(107, "a converted net inside a converted net")
def nested(convert):
    class Outer(gluon.Block):
        def __init__(self, inner):
            super().__init__()
            with self.name_scope():
                self.first = nn.Dense(3, in_units=3)
            self.inner = inner

        def forward(self, x):
            h = self.inner(mx.nd.tanh(self.first(x)))
            return h if h.max() > 0.2 else self.inner(h)

    class Inner(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            return F.relu(h) if h.sum() > 0 else h

    inner = convert(ready(Inner()))
    for _ in range(4):
        yield inner(normal(2, 3))
    net = Outer(inner)
    net.first.initialize(mx.init.Uniform(0.5))
    net = convert(net)
    trainer = trainer_of(net)
    for step in range(13):
        yield fit(net, trainer, normal(3, 3), normal(3, 3)), state(net)
        if step in (7, 10):
            yield inner(normal(2, 3))


@case(108, "work outside the net, between its calls")
def between_calls(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    running = mx.nd.zeros((1, 2))
    for step in range(13):
        x = normal(3, 3)
        with autograd.record():
            out = net(x * 2)
            out = out if step < 8 or step % 2 else out + mx.nd.random.uniform(shape=out.shape)
            value = mx.nd.log(mx.nd.exp(out - running).sum(axis=1)).mean()
        value.backward()
        for p in net.collect_params().values():
            p.grad()[:] = mx.nd.clip(p.grad(), -0.1, 0.1)
        trainer.step(1)
        running[:] = 0.9 * running + 0.1 * out.mean(axis=0, keepdims=True)
        yield out, value, running, state(net)


@case(109, "a net whose calls interleave with generators")
def interleaved(convert):
    class Net(Cell):
        def forward(self, xs):
            h = mx.nd.zeros((1, 3))
            for x in xs:  # a generator of the caller, which calls other operators
                h = mx.nd.tanh(self.cell(x + h))
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)

    def stream(length, noisy):
        for i in range(length):
            x = normal(1, 3)
            yield x + mx.nd.random.normal(shape=(1, 3)) if noisy else x * (i + 1)

    for length, noisy in [(3, False)] * 6 + [(3, True), (3, False), (5, False), (1, True), (3, True), (3, False)]:
        with autograd.record():
            value = (net(stream(length, noisy)) ** 2).sum()
        value.backward()
        trainer.step(1)
        yield value, state(net)


@case(110, "many outputs that nobody reads, and late use of one")
def unread(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            parts = F.split(F.tanh(self.cell(x)), num_outputs=3, axis=1)
            return (self.head(x), *parts, F.topk(x, k=2, ret_typ="both"))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    kept = None
    for step in range(13):
        with autograd.record():
            out = net(normal(3, 3))
            value = (out[0] ** 2).mean() + (out[step % 3 + 1].sum() if step > 7 else out[1].sum())
        value.backward()
        trainer.step(1)
        yield value, kept, state(net)
        kept = out[2] if step % 4 == 3 else kept


@case(133, "a whole training step as a function")
def step_function(convert):
    net = ready(Cell())
    net.forward = lambda x: net.head(mx.nd.tanh(net.cell(x)))
    trainer = trainer_of(net, momentum=0.9)

    def step(x, y):
        with autograd.record():
            value = L2(net(x), y).mean()
        value.backward()
        if value.asscalar() > 0.2:
            trainer.step(1)
        return value

    step = convert(step)
    for rows in (3,) * 10 + (5, 3, 4):
        yield step(normal(rows, 3), normal(rows, 2)), state(net)


@case(134, "a forward that is a generator")
def generator_forward(convert):
    class Net(Cell):
        def forward(self, x):
            h = x
            while True:
                h = mx.nd.tanh(self.cell(h))
                yield self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for times in (2, 2, 2, 2, 2, 2, 3, 2, 1, 4, 2, 2):
        with autograd.record():
            outs = [out for out, _ in zip(net(normal(3, 3)), range(times))]
            value = sum((out ** 2).mean() for out in outs)
        value.backward()
        trainer.step(1)
        yield outs, value, state(net)


@case(135, "a pool of threads inside forward")
def pool_inside(convert):
    class Net(Cell):
        def forward(self, xs):
            with ThreadPoolExecutor(2) as pool:
                parts = list(pool.map(lambda x: (mx.nd.tanh(x) * 2, autograd.is_recording()), xs))
            h = mx.nd.concat(*[part for part, _ in parts], dim=0)
            return self.head(mx.nd.tanh(self.cell(h))), [recording for _, recording in parts]

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for count in (2, 2, 2, 2, 2, 2, 3, 2, 1, 4, 3, 2):
        with autograd.record():
            out, flags = net([normal(2, 3) for _ in range(count)])
            value = (out ** 2).mean()
        value.backward()
        trainer.step(1)
        yield out, flags, value, state(net)


@case(136, "a net from a symbol as child, a lambda layer and a constant")
def other_blocks(convert):
    data = mx.sym.var("data")
    body = gluon.SymbolBlock(mx.sym.tanh(mx.sym.FullyConnected(data, num_hidden=4, name="fc")), data)

    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.double = nn.Lambda(lambda x: x * 2)
                self.half = nn.HybridLambda(lambda F, x: F.relu(x) * 0.5)
                self.head = nn.Dense(2, in_units=4)
            self.body = body
            self.scale = self.params.get_constant("scale", mx.nd.array([[1, 2, 3, 4]]))

        def forward(self, x):
            h = self.body(self.double(x)) * self.scale.data()
            return self.head(self.half(h) if h[0, 0] > 0 else h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 9 + (5, 3, 4):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2)), state(net)


@case(137, "summary, apply and collect_params between steps")
def looked_at(convert):
    net = nn.Sequential()
    with net.name_scope():
        net.add(nn.Dense(4, in_units=3, activation="relu"), nn.Dense(2, in_units=4))
    net = convert(ready(net))
    trainer = trainer_of(net)
    for step in range(13):
        if step in (5, 9):
            net.summary(normal(1, 3))
        if step == 7:
            net.apply(lambda block: print(type(block).__name__, block.name, list(block.params)))
            print(net)
        if step == 10:
            net.collect_params(".*bias").setattr("lr_mult", 0.0)
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), sorted(net.collect_params()), state(net)


@case(138, "arrays that the user holds on to")
def held(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            self.h = F.tanh(self.cell(x))
            return self.head(self.h) if self.h.sum() > 0 else self.head(-self.h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    weight, grad, held = net.cell.weight.data(), net.cell.weight.grad(), []
    for step in range(14):
        shown = fit(net, trainer, normal(3, 3), normal(3, 2))
        held = held[-4:] + [net.h]
        yield shown, weight, grad, weight is net.cell.weight.data(), held, weight.grad, state(net)
        if step in (7, 10):
            held[0][:] = 0  # nobody else may notice
