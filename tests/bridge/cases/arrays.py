"""Writing into arrays: in place, by slices, through views, into `out`, and operators that Symbols lack."""
import functools

import mxnet as mx
import numpy as np
from mxnet import autograd

from . import common
from .branches import Cell, TwoArms
from .common import attempt, fit, normal, ready, state, trainer_of
from .registry import case

steps = functools.partial(common.steps, changes=(4,) * 9 + (5, 4, 3))


@case(32, "in place, +=")
def in_place(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            total = F.zeros_like(x)
            for power in (1, 2, 3):
                total += x ** power  # no parameter has been used yet, so this is allowed while recording
                total *= 0.5
            return self.head(F.tanh(self.cell(total)))

    net = convert(ready(Net()))
    yield from steps(net)
    x = normal(3, 3)
    y = net(x)
    y += 1
    y -= x[:, :2]
    yield x, y, net(x)


@case(33, "slice assignment")
def slice_assignment(convert):
    class Net(Cell):
        width = 1

        def hybrid_forward(self, F, x):
            mask = F.ones_like(x)
            mask[:, :self.width] = 0
            mask[1] = 0.5
            mask[0, 2] = x[1, 1]
            return self.head(F.tanh(self.cell(x * mask)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(14):
        net.width = 1 if step < 7 else step % 4
        yield fit(net, trainer, normal(4, 3), normal(4, 2)), state(net)


@case(65, "x[0] and its assignment to the caller's array")
def first_row(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            x[0] = 2
            return self.head(h + x[0]) + x[1:2].mean()

    net = convert(ready(Net()))
    for rows in (3,) * 9 + (5, 3, 4):
        x = normal(rows, 3)
        yield net(x), x


@case(66, "writing through a view")
def view_write(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            board = F.zeros((4, 3))
            middle, flat = board[1:3], board.reshape((-1,))
            middle[:] = x[:2]
            before = board.sum()
            middle[0] += 1
            flat[5:8] = before
            board[3] = flat[:3]
            return self.head(F.tanh(self.cell(board))), board, middle, before

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (2, 3, 4, 3):
        x = normal(rows, 3)
        with autograd.record():
            out, *more = net(x)
            value = (out ** 2).mean()
        value.backward()
        trainer.step(1)
        yield out, more, x, state(net)
        more[1][:] = 9  # the view is still one
        yield more


@case(67, "in place under recording is an error")
def in_place_error(convert):
    class Net(Cell):
        wrong = False

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if self.wrong:
                h += 1
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(14):
        net.wrong = step in (6, 7, 10)
        yield attempt(fit, net, trainer, normal(4, 3), normal(4, 2)), state(net)
        yield net(normal(4, 3)), autograd.is_recording()


@case(68, "slice assignment under recording is an error")
def slice_error(convert):
    class Net(Cell):
        where = None

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if self.where is not None:
                h[self.where] = 0
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(14):
        net.where = {6: 0, 8: (slice(None), 1), 11: slice(1, 3)}.get(step)
        yield attempt(fit, net, trainer, normal(4, 3), normal(4, 2)), state(net)
        yield net(normal(4, 3))


@case(69, "results written with out=")
def out_argument(convert):
    class Net(Cell):
        def __init__(self):
            super().__init__()
            self.buffer = mx.nd.zeros((4, 3))

        def hybrid_forward(self, F, x):
            F.broadcast_mul(x, F.ones((1, 3)) * 2, out=self.buffer)
            if x[0, 0] > 0:
                F.exp(self.buffer, out=self.buffer)
            h = F.tanh(self.cell(self.buffer))
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for sign in (-1, -1, -1, -1, -1, -1, 1, -1, 1, 1, -1, 1):
        x = normal(4, 3)
        x[0, 0] = sign
        with autograd.pause():
            yield net(x), net.buffer
        yield fit(net, trainer, x, normal(4, 2)), net.buffer, state(net)


@case(70, "advanced indexing")
def advanced_indexing(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, rows):
            h = F.tanh(self.cell(x))
            picked = h[rows]
            corner = h[[0, 1], [2, 1]].reshape((1, 2))
            return self.head(picked) + corner + h[:, 1:2][rows] + h[::2][0, 1] + h[-1].sum()

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in ([0, 1],) * 7 + ([2, 0], [0, 1], [3, 3, 1], [1], [0, 1]):
        rows = mx.nd.array(rows, dtype="int32")
        yield fit(net, trainer, normal(4, 3), normal(len(rows), 2), rows), state(net)


@case(71, "+ that needs broadcasting")
def broadcasting(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.cell(x)
            h = (h - h.mean(axis=1, keepdims=True)) / (h.norm(axis=1, keepdims=True) + 1)
            return self.head(h + x[:1]) * (x.sum(axis=1, keepdims=True) > 0)

    yield from steps(convert(ready(Net())))


@case(72, "mx.nd instead of F")
def nd_instead_of_f(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = mx.nd.tanh(self.cell(x))
            return self.head(mx.nd.concat(h, mx.nd.ones((1, 3)), dim=0))[:-1]

    yield from steps(convert(ready(Net())))


@case(73, "a captured array")
def captured_array(convert):
    table = normal(6, 3)

    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x)) * table[:x.shape[0]])

    net = convert(ready(Net()))
    for step, shown in enumerate(steps(net, changes=(4,) * 12)):
        yield shown
        if step == 6:
            table *= 2
        if step == 9:
            table = normal(6, 3)


@case(74, "a net that returns its input, a constant, and one array twice")
def odd_outputs(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = self.head(x)
            return x, h, h, F.ones((2, 2)), self.head.bias.data(), x.reshape((-1,)), 3, None

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (5, 3, 4, 3):
        x = normal(rows, 3)
        x.attach_grad()
        with autograd.record():
            out = net(x)
            value = ((out[1] + out[2]) ** 2).mean() + (out[0] * 3).sum() + out[5].sum()
        value.backward()
        trainer.step(1, ignore_stale_grad=True)
        yield out, out[0] is x, out[1] is out[2], x.grad, state(net)


@case(75, "dtypes and numbers of many kinds")
def dtypes(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, k):
            h = self.cell(x).astype("float16").astype(np.float64)
            h = (h * k + True).astype(np.float32) - np.float32(0.5) * np.int64(2)
            small = F.one_hot(F.argmax(h, axis=1), 3, dtype="int32")
            return self.head(h * small.astype("float32")), small.sum(axis=0), F.cast(h, "uint8")

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for k in (1, 1, 1, 1, 1, 1, 2, 0.5, 1, -3, 1e-3, 1):
        with autograd.record():
            out = net(normal(3, 3), k)
            value = (out[0] ** 2).mean()
        value.backward()
        trainer.step(1)
        yield out, state(net)


@case(76, "empty loops and arrays of no rows")
def nothing(convert):
    class Net(TwoArms):
        def forward(self, parts):
            outs = [self.up(part) for part in parts if part.shape[0] > 1]
            return mx.nd.concat(*outs, dim=0) if outs else mx.nd.zeros((1, 4))

    net = convert(ready(Net()))
    for sizes in [(2, 2)] * 6 + [(), (2, 2), (1,), (3, 1, 2), (2, 2), (1, 1)]:
        yield net([normal(n, 3) for n in sizes])
