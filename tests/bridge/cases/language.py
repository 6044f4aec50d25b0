"""What Python offers: containers, closures, generators, try blocks, arguments of every kind."""
import functools
from dataclasses import dataclass

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from . import common
from .branches import Cell, TwoArms
from .common import L2, attempt, fit, normal, ready, state, trainer_of
from .registry import case

steps = functools.partial(common.steps, changes=(4,) * 9 + (2, 4, 6))


@case(8, "a dict of arrays")
def dict_of_arrays(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            parts = {"plain": x, "squared": x ** 2}
            parts["both"] = parts["plain"] + F.tanh(self.cell(parts.pop("squared")))
            parts.update(scaled=parts["both"] * 0.5)
            return self.head(sum(parts[key] for key in sorted(parts)))

    yield from steps(convert(ready(Net())))


@case(9, "a closure with nonlocal state")
def closure(convert):
    def counter():
        calls = 0

        def weight():
            nonlocal calls
            calls += 1
            return 1.0 if calls <= 7 else 1.0 / calls

        return weight

    class Net(Cell):
        def __init__(self, weight):
            super().__init__()
            self._weight = weight

        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x)) * self._weight())

    yield from steps(convert(ready(Net(counter()))))


@case(10, "a generator")
def generator(convert):
    class Net(Cell):
        def states(self, F, h):
            for _ in range(3):
                h = F.tanh(self.cell(h))
                yield h

        def hybrid_forward(self, F, x):
            return self.head(sum(h * (i + 1) for i, h in enumerate(self.states(F, x))))

    yield from steps(convert(ready(Net())))


@case(11, "try and except on a value")
def try_except(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x):
            h = self.up(x)
            try:
                h = h / int(x.abs().max().asscalar())
                h = F.relu(h) + 1
            except ZeroDivisionError:
                h = F.tanh(self.down(x))
            return h

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for scale in (5, 5, 5, 5, 5, 5, 0.1, 5, 0.1, 0.1, 2, 9, 0.1):
        yield fit(net, trainer, normal(4, 3) * scale, normal(4, 4)), state(net)


@case(12, "an effect in finally")
def try_finally(convert):
    class Net(Cell):
        def __init__(self):
            super().__init__()
            self.log = []

        def hybrid_forward(self, F, x):
            try:
                return self.head(F.tanh(self.cell(x)))
            finally:
                self.log.append(len(self.log))

    net = convert(ready(Net()))
    for shown in steps(net):
        yield shown, net.log


@case(13, "a context manager of the user")
def context_manager(convert):
    class Scope:
        def __init__(self):
            self.open, self.entered = 0, 0

        def __enter__(self):
            self.open, self.entered = self.open + 1, self.entered + 1
            return self

        def __exit__(self, *error):
            self.open -= 1

    scope = Scope()

    class Net(Cell):
        def hybrid_forward(self, F, x):
            with scope as inner:
                h = self.cell(x) * inner.open
                with scope:
                    h = F.tanh(h) / scope.open
            return self.head(h) * (1 if scope.entered < 16 else 2)

    for shown in steps(convert(ready(Net()))):
        yield shown, scope.open, scope.entered


@case(27, "map, reduce and lambda")
def functional(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            views = map(lambda power: F.tanh(self.cell(x) * power), (0.5, 1.0, 2.0))
            return self.head(functools.reduce(lambda a, b: a * 0.9 + b, views))

    yield from steps(convert(ready(Net())))


@case(28, "star arguments and keywords")
def star_arguments(convert):
    class Net(Cell):
        def mix(self, F, *parts, scale=1.0, **options):
            total = sum(parts) * scale
            return F.clip(total, **options) if options else total

        def hybrid_forward(self, F, x, *more):
            h = self.mix(F, self.cell(x), *more, scale=0.5, a_min=-1, a_max=1)
            return self.head(self.mix(F, h, x))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (5, 3, 4, 3):
        yield fit(net, trainer, normal(rows, 3), normal(rows, 2), normal(rows, 3), normal(rows, 3)), state(net)


@case(29, "values in dataclasses")
def dataclass_values(convert):
    @dataclass
    class State:
        hidden: mx.nd.NDArray
        steps: int = 0

        def then(self, hidden):
            return State(hidden, self.steps + 1)

    class Net(Cell):
        def hybrid_forward(self, F, x):
            now = State(x)
            while now.steps < 3:
                now = now.then(F.tanh(self.cell(now.hidden)) + now.steps)
            return self.head(now.hidden)

    yield from steps(convert(ready(Net())))


@case(40, "a number as an argument")
def number_argument(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, temperature):
            return F.softmax(self.head(self.cell(x)) / temperature)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for temperature in (1, 1, 1, 1, 1.0, 1.0, 0.5, 2, 1, 0.25, 0.125, 1e-3, 1, float("inf")):
        yield fit(net, trainer, normal(4, 3), normal(4, 2), temperature), state(net)


@case(41, "None and text as arguments")
def none_and_text(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, mask, activation="tanh"):
            h = self.cell(x)
            if isinstance(activation, str):
                h = F.Activation(h, act_type=activation)
            if mask is not None:
                h = F.broadcast_mul(h, mask)
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    mask = mx.nd.array([[1], [0], [1]])
    for more in [(None,)] * 6 + [(mask,), (None, "relu"), (mask, "sigmoid"), (None,), (mask, None), (None, "relu")]:
        yield fit(net, trainer, normal(3, 3), normal(3, 2), *more), state(net)


@case(44, "properties and __getattr__")
def attributes(convert):
    class Net(Cell):
        def __init__(self):
            super().__init__()
            self._options = {"gain": 2.0}

        @property
        def half_gain(self):
            return self.gain / 2

        def __getattr__(self, name):
            options = self.__dict__.get("_options", {})
            if name in options:
                return options[name]
            raise AttributeError(name)

        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x) * self.half_gain) * self.gain)

    yield from steps(convert(ready(Net())))


@case(51, "a dict as the result")
def returned_dict(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            return {"scores": self.head(h), "hidden": h, "sizes": (2, [h.sum(), None])}

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (5, 3, 4, 3):
        with mx.autograd.record():
            out = net(normal(rows, 3))
            value = L2(out["scores"], normal(rows, 2)) + 0.1 * out["hidden"].mean()
        value.backward()
        trainer.step(rows)
        yield out, value, state(net)


@case(52, "an exception of the user in the middle of a step")
def exception_mid_step(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, labels):
            h = F.tanh(self.cell(x))
            self.seen = self.seen + 1
            scores = self.head(h)
            if labels and labels[-1] not in self.known:
                raise KeyError(f"label {labels[-1]!r} is unknown")
            return scores * len(labels)

    net = ready(Net())
    net.seen, net.known = 0, {"a", "b"}
    net = convert(net)
    trainer = trainer_of(net)
    for labels in ["ab"] * 6 + ["ac", "ab", "b", "c", "c", "ab", "aab", ""]:
        yield attempt(fit, net, trainer, normal(4, 3), normal(4, 2), labels), net.seen, state(net)


@case(53, "Ctrl-C in the middle of a step")
def keyboard_interrupt(convert):
    class Net(Cell):
        impatient = False

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if self.impatient:
                self.impatient = False
                raise KeyboardInterrupt
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(14):
        net.impatient = step in (0, 7, 8, 11)
        yield attempt(fit, net, trainer, normal(4, 3), normal(4, 2)), mx.autograd.is_recording(), state(net)


@case(54, "a plain Block as child")
def plain_child(convert):
    class Scale(gluon.Block):
        def __init__(self):
            super().__init__()
            self.factor, self.calls = 1.0, []

        def forward(self, x):
            self.calls.append(x.shape)
            return x * self.factor

    net = nn.Sequential()
    with net.name_scope():
        net.add(nn.Dense(4, in_units=3, activation="relu"), Scale(), nn.Dense(2, in_units=4))
    net = convert(ready(net))
    trainer = trainer_of(net)
    for step, factor in enumerate((1, 1, 1, 1, 1, 1, 3, 1, 1, -2, 1, 1)):
        net[1].factor = factor
        yield fit(net, trainer, normal(3 + step // 9, 3), normal(3 + step // 9, 2)), net[1].calls, state(net)


@case(55, "a function instead of a net")
def plain_function(convert):
    w, b = normal(3, 2), mx.nd.zeros(2)
    for p in (w, b):
        p.attach_grad()

    def step(x, y, rate):
        with mx.autograd.record():
            value = ((mx.nd.dot(x, w) + b - y) ** 2).mean()
        value.backward()
        for p in (w, b):
            p[:] = p - rate * p.grad
        return value.asscalar()

    step = convert(step)
    for i in range(14):
        x = normal(6 if i < 9 else 3 + i % 2, 3)
        yield step(x, normal(x.shape[0], 2), 0.1 if i < 7 else 0.1 / i), w, b, w.grad, b.grad
