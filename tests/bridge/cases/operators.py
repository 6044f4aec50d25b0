"""Operators and calls that graphs treat differently: samplers, operators without a gradient, waiting, Python's own."""
import os
import pickle
import tempfile

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell, TwoArms
from .common import attempt, fit, normal, ready, state, steps, trainer_of
from .registry import case


@case(116, "samplers that are used in another order than they are called")
def sampler_order(convert):
    class Net(Cell):
        seeded = False

        def hybrid_forward(self, F, x):
            first = F.random.uniform(shape=(1, 2))
            second = F.random.normal(shape=(1, 2))
            third = F.random.randint(0, 9, shape=(1, 2)).astype("float32")
            if self.seeded:
                mx.random.seed(3)
            unused = F.random.uniform(shape=(5,))
            h = F.broadcast_add(F.broadcast_mul(self.head(F.tanh(self.cell(x))), third) - third, second)
            self.last = F.random.exponential(shape=(2,)), unused
            return F.broadcast_mul(h, first)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(13):
        net.seeded = step in (8, 10)
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), net.last, state(net)
        yield net(normal(3, 3)), net.last


@case(117, "operators without a gradient")
def without_gradient(convert):
    class Net(Cell):
        shuffled = False

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            order = F.argsort(h.detach().sum(axis=1)).astype("int32")
            top = F.topk(h.detach(), k=1, ret_typ="mask")
            if self.shuffled:
                order = F.shuffle(order)
            drawn = F.sample_multinomial(F.softmax(h.detach()))
            return self.head(F.take(h, order) * top) + F.one_hot(drawn, 2) + F.sort(x, axis=1)[:, :1].round()

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(13):
        net.shuffled = step in (6, 9, 10)
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)


class Softsign(mx.operator.CustomOp):
    def __init__(self, slope):
        super().__init__()
        self._slope = slope

    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], self._slope * in_data[0] / (1 + in_data[0].abs()))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], self._slope * out_grad[0] / (1 + in_data[0].abs()) ** 2)


@mx.operator.register("case_softsign")
class SoftsignProp(mx.operator.CustomOpProp):
    def __init__(self, slope="1"):
        super().__init__(need_top_grad=True)
        self._slope = float(slope)

    def create_operator(self, ctx, shapes, dtypes):
        return Softsign(self._slope)


@case(118, "an operator written in Python")
def custom_operator(convert):
    class Net(Cell):
        slope = 1.0

        def hybrid_forward(self, F, x):
            return self.head(F.Custom(self.cell(x), op_type="case_softsign", slope=self.slope))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(12):
        net.slope = 1.0 if step < 8 else 0.5
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)


@case(119, "MXNet's own foreach, while_loop and cond")
def control_flow(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            outs, h = F.contrib.foreach(lambda row, h: (F.tanh(self.cell(row.expand_dims(0)) + h),) * 2, x,
                                        F.zeros((1, 3)))
            _, (_, h) = F.contrib.while_loop(lambda i, h: i < x.shape[0], lambda i, h: ([], [i + 1, F.sin(h) + h]),
                                             [F.zeros((1,)), h], max_iterations=6)
            return F.contrib.cond(h.sum() > 0, lambda: self.head(h), lambda: self.head(outs.sum(axis=0)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (5, 3, 4, 1):
        yield fit(net, trainer, normal(rows, 3), normal(1, 2)), state(net)


@case(120, "NumPy data written into an array under recording")
def numpy_written(convert):
    class Net(Cell):
        fill = None

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if self.fill is not None:
                h[:] = np.full(h.shape, self.fill)  # MXNet takes this, and its gradient ignores it
            board = F.zeros((3, 3))
            board[:] = np.arange(9).reshape(3, 3)
            return self.head(h * board)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(13):
        net.fill = 0.5 if step in (6, 9, 10) else None
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)


@case(121, "waiting, pickling, saving and exchanging arrays")
def waiting(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            h.wait_to_read()
            h = h + pickle.loads(pickle.dumps(h.detach())) * 0.5
            mx.nd.waitall()
            with tempfile.TemporaryDirectory() as folder:
                mx.nd.save(os.path.join(folder, "h"), {"h": h})
                h = h * mx.nd.load(os.path.join(folder, "h"))["h"].sum().tanh()
            shared = mx.nd.from_dlpack(h.detach().copy().to_dlpack_for_read())
            return self.head(h + shared) + mx.nd.from_numpy(np.ones((1, 2), np.float32), zero_copy=False)

    yield from steps(convert(ready(Net())))


@case(122, "arrays made in every way")
def made(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            empty = F.empty((3, 3))
            empty[:] = 2
            full = F.full((3, 3), 0.5) + F.arange(3) + F.eye(3) + F.zeros((1,)) + F.linspace(0, 1, 3)
            as_np = (x * empty).as_np_ndarray()
            with mx.util.np_shape(True):
                as_np = mx.np.tanh(as_np) + mx.np.zeros((3, 3)) + mx.np.array([1, 2, 3])
            copies = x.copy(), x.copyto(mx.cpu()), x.zeros_like(), x.ones_like(), mx.nd.array(x), mx.nd.array([[1] * 3])
            return self.head(self.cell(as_np.as_nd_ndarray() + full + sum(copies)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for _ in range(12):
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), state(net)


@case(123, "Python's own functions on arrays")
def python_functions(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            rows = list(h)
            best = max(rows, key=lambda row: row.norm().asscalar())
            first, *rest = rows
            pairs = [a * b for a, b in zip(rows, reversed(rows))]
            self.text = f"{len(rest)} {first.shape} {h.size} {h.ndim} {h.context} {h.dtype.__name__} {bool(first[0])}"
            return self.head(F.stack(*pairs) + best) + sum(rows).sum() + float(np.array(h.asnumpy()).max())

    net = convert(ready(Net()))
    for shown in steps(net):
        yield shown, net.text


@case(124, "a parameter used, written and used again")
def codebook(convert):
    class Quantize(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.encode = nn.Dense(3, in_units=3)
            self.codes = self.params.get("codes", shape=(4, 3), grad_req="null")

        def forward(self, x):
            h = self.encode(x)
            codes = self.codes.data()
            nearest = ((h.expand_dims(1) - codes.expand_dims(0)) ** 2).sum(axis=2).argmin(axis=1)
            before = codes[nearest]
            if autograd.is_training():
                with autograd.pause():
                    chosen = mx.nd.one_hot(nearest, 4)
                    sums = mx.nd.dot(chosen, h, transpose_a=True)
                    codes[:] = 0.8 * codes + 0.2 * sums / (chosen.sum(axis=0).expand_dims(1) + 1)
            return h + (self.codes.data()[nearest] - h).detach(), before

    net = convert(ready(Quantize()))
    trainer = trainer_of(net)
    for rows in (4,) * 8 + (2, 4, 6, 1):
        x = normal(rows, 3)
        with autograd.record():
            out, before = net(x)
            value = ((out - x) ** 2).mean()
        value.backward()
        trainer.step(1)
        yield out, before, value, state(net)
        yield net(x)


@case(125, "attach_grad in the middle, and variables marked by hand")
def marked(convert):
    class Net(TwoArms):
        cut = False

        def hybrid_forward(self, F, x):
            h = F.tanh(self.up(x))
            if self.cut:
                h.attach_grad()  # from here on it is a variable of its own
            self.kept = h
            return F.relu(h) + self.down(x)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(13):
        net.cut = step in (6, 9, 10)
        x, grad = normal(3, 3), mx.nd.zeros((3, 3))
        autograd.mark_variables([x], [grad])
        yield fit(net, trainer, x, normal(3, 4)), net.kept.grad, grad, state(net)


@case(126, "an assertion of the user that fails at a value")
def assertion(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            assert (h.abs().max() < 50).asscalar(), "the net explodes"
            for _ in range(2):
                h = F.tanh(h) + x
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net, learning_rate=0.01)
    for scale in (1, 1, 1, 1, 1, 1, 1e4, 1, 1e5, 1, 1, 1e4, 1):
        yield attempt(fit, net, trainer, normal(3, 3) * scale, normal(3, 2)), state(net)
