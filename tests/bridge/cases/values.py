"""Programs that look at values: printing, NumPy, other libraries, sorting, raising."""
import json
import math
import statistics

import mxnet as mx
import numpy as np
from mxnet import gluon

from .branches import Cell, TwoArms
from .common import L2, attempt, fit, normal, ready, state, steps, trainer_of
from .registry import case


@case(14, "print a value")
def print_value(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            print(f"mean {h.mean().asscalar():.4f}")
            return self.head(h)

    yield from steps(convert(ready(Net())))


@case(15, "NumPy in the middle")
def numpy_in_the_middle(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            order = np.argsort(h.asnumpy().sum(axis=1))[::-1]
            noise = np.random.uniform(-0.1, 0.1, size=h.shape)
            return self.head(h + mx.nd.array(noise)) * mx.nd.array(order.copy()).reshape((-1, 1))

    yield from steps(convert(ready(Net())))


@case(16, "another library on a value")
def other_library(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            text = json.dumps([round(float(v), 4) for v in h.asnumpy().ravel()])
            middle = statistics.median(json.loads(text))
            return self.head(h) * math.erf(middle) + middle

    yield from steps(convert(ready(Net())))


@case(18, "asscalar as a float")
def asscalar(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            largest = h.abs().max().asscalar()
            return self.head(h / largest) + float(largest)

    yield from steps(convert(ready(Net())))


@case(39, "raise in the middle of the graph, on a value")
def raise_on_value(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.log(self.cell(x) ** 2)
            if not math.isfinite(h.sum().asscalar()):
                raise FloatingPointError("the logarithm of zero")
            return self.head(h)

    net = convert(ready(Net()))
    net.cell.bias.set_data(mx.nd.zeros(3))
    net.cell.bias.grad_req = "null"
    trainer = trainer_of(net, learning_rate=0.01)
    for scale in (1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1):
        yield attempt(fit, net, trainer, normal(3, 3) * scale, normal(3, 2)), state(net)


@case(43, "sort by value, and an f-string")
def sort_by_value(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            rows = [F.tanh(self.cell(x[i:i + 1])) for i in range(x.shape[0])]
            rows.sort(key=lambda row: row.sum().asscalar())
            self.label = f"from {rows[0].sum().asscalar():.3f} to {rows[-1].sum().asscalar():.3f}"
            return self.head(F.concat(*rows, dim=0))

    net = convert(ready(Net()))
    for shown in steps(net, (4,) * 8 + (2, 4, 1, 6)):
        yield shown, net.label


@case(56, "print an array")
def print_array(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.relu(self.cell(x))
            print(h > 0)
            print(repr(F.ones_like(h[0])), str(h.shape))
            return self.head(h)

    yield from steps(convert(ready(Net())))


@case(57, "len of an array")
def length(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x))) / len(x)

    yield from steps(convert(ready(Net())))


@case(58, "the dtype of an array")
def dtype(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            if x.dtype != np.float32:
                x = x.astype("float32") / 255
            return self.head(F.tanh(self.cell(x)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for kind in ("float32",) * 6 + ("uint8", "float32", "float64", "uint8", "int32", "float32"):
        x = mx.nd.array(np.random.randint(0, 255, (4, 3)), dtype=kind)
        yield fit(net, trainer, x / 255 if kind == "float32" else x, normal(4, 2)), state(net)


@case(59, "values read after the step, in another order")
def late_reads(convert):
    net = convert(ready(Cell()))
    net.hybrid_forward = lambda F, x: net.head(F.tanh(net.cell(x)))
    trainer = trainer_of(net)
    kept = []
    for step in range(14):
        x, y = normal(3 + step // 10, 3), normal(3 + step // 10, 2)
        with mx.autograd.record():
            out = net(x)
            value = L2(out, y)
        kept.append(out)
        value.backward()
        trainer.step(3)
        yield [one.asnumpy() for one in reversed(kept[-3:])], state(net)


@case(60, "an integer read from an argmax, fed back")
def greedy(convert):
    class Decoder(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.embed = gluon.nn.Embedding(6, 4)
                self.rnn = gluon.rnn.GRUCell(4, input_size=4)
                self.out = gluon.nn.Dense(6, in_units=4)

        def forward(self, start, longest):
            token, h, words = start, self.rnn.begin_state(batch_size=1), []
            while len(words) < longest:
                o, h = self.rnn(self.embed(mx.nd.array([token])), h)
                token = int(self.out(o).argmax(axis=1).asscalar())
                if token == 0:
                    break
                words.append(token)
            return words, h

    net = convert(ready(Decoder()))
    net.embed.weight.set_data(normal(6, 4) * 4)
    net.out.weight.set_data(normal(6, 4) * 4)
    for start in (1, 1, 1, 1, 1, 2, 1, 3, 4, 5, 1, 2, 3, 4):
        yield net(start, 5 if start < 4 else 9)


@case(61, "a bool, a slice and an index made of values")
def python_protocols(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x):
            first = int(x[0, 0].abs().asscalar() * 10) % 3
            h = self.up(x)[first:]
            picked = [3, 1, 2, 0][int(mx.nd.array([first], dtype="int32").asscalar())]
            return h * picked if bool(h[0, 0] > 0) and not (h[0, 1] > 2) else h

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    with mx.autograd.record():
        yield net(mx.nd.array([[0.11, 0, 0]] * 4))
    for first in (0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.11, 0.01, 0.21, 0.11, 0.01, 0.21):
        x = normal(4, 3)
        x[0, 0] = first
        with mx.autograd.record():
            value = (net(x) ** 2).mean()
        value.backward()
        trainer.step(1, ignore_stale_grad=True)
        yield value, state(net)
