"""The tape: functions of the user's own, gradients inside and of gradients, accumulation, sparse gradients."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell, TwoArms
from .common import L2, attempt, fit, normal, ready, state, trainer_of
from .registry import case


@case(35, "an autograd.Function of the user")
def custom_function(convert):
    class Clipped(autograd.Function):  # straight through, the gradient clipped
        def __init__(self, bound):
            super().__init__()
            self._bound = bound

        def forward(self, x):
            self.save_for_backward(x)
            return mx.nd.round(x)

        def backward(self, dy):
            x, = self.saved_tensors
            return mx.nd.clip(dy, -self._bound, self._bound) * (x.abs() < 2)

    class Net(Cell):
        bound = 0.1

        def hybrid_forward(self, F, x):
            return self.head(Clipped(self.bound)(self.cell(x) * 2) + x)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(12):
        net.bound = 0.1 if step < 8 else 0.01
        yield fit(net, trainer, normal(4, 3), normal(4, 2)), state(net)


@case(36, "a gradient inside forward")
def gradient_inside(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            point = x.copy()
            for _ in range(2):  # two steps uphill on an energy
                point.attach_grad()
                with autograd.record():
                    energy = F.tanh(self.cell(point)).sum()
                energy.backward()
                point = (point + 0.1 * point.grad).detach()
            return self.head(point)

    net = convert(ready(Net()))
    for p in net.cell.collect_params().values():
        p.grad_req = "null"
    trainer = trainer_of(net)
    for rows in (3,) * 8 + (5, 3, 4, 3):
        x, y = normal(rows, 3), normal(rows, 2)
        yield net(x)
        yield fit(net, trainer, x, y), state(net)


@case(77, "the gradient of a gradient")
def double_backward(convert):
    class Energy(gluon.Block):
        def __init__(self):
            super().__init__()
            self.hidden = self.params.get("hidden", shape=(5, 3))
            self.out = self.params.get("out", shape=(1, 5))

        def forward(self, x):  # of operators that can be differentiated twice
            h = mx.nd.FullyConnected(x, self.hidden.data(), num_hidden=5, no_bias=True)
            return mx.nd.FullyConnected(mx.nd.sigmoid(h), self.out.data(), num_hidden=1, no_bias=True)

    net = convert(ready(Energy()))
    trainer = trainer_of(net)
    for step, rows in enumerate((4,) * 8 + (2, 4, 5, 4)):
        x, force = normal(rows, 3), normal(rows, 3)
        x.attach_grad()
        with autograd.record():
            energy = net(x)
            slope, = autograd.grad(energy, [x], head_grads=mx.nd.ones_like(energy), create_graph=True,
                                   retain_graph=True)
            value = ((slope + force) ** 2).mean() + (energy ** 2).mean() * (step % 3 == 0)
        value.backward()
        trainer.step(1)
        yield energy, slope, value, x.grad, state(net)


@case(78, "grad_req='add' over several batches")
def accumulated(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            return self.head(F.tanh(self.cell(x)) + self.cell(x ** 2))

    net = ready(Net())
    for p in net.collect_params().values():
        p.grad_req = "add"
    net = convert(net)
    trainer = trainer_of(net)
    for step in range(13):
        for _ in range(2 if step < 8 else 1 + step % 3):
            x, y = normal(3, 3), normal(3, 2)
            with autograd.record():
                value = L2(net(x), y)
            value.backward()
        trainer.step(6)
        yield value, state(net)
        for p in net.collect_params().values():
            p.zero_grad()


@case(79, "sparse gradients of an embedding")
def sparse_gradients(convert):
    class Bag(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.embed = nn.Embedding(20, 4, sparse_grad=True)
                self.head = nn.Dense(2, in_units=4)

        def forward(self, words):
            return self.head(self.embed(words).mean(axis=0, keepdims=True))

    net = convert(ready(Bag()))
    trainer = trainer_of(net, "adam", learning_rate=0.05, lazy_update=True)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for step, length in enumerate((3,) * 8 + (5, 3, 1, 3, 7)):
        words = mx.nd.array(np.random.randint(0, 20, length))
        yield fit(net, trainer, words, mx.nd.array([step % 2]), loss=loss), state(net)
        yield net.embed.weight.grad().stype, net.embed.weight.grad().indices


@case(80, "gradients of the inputs, of one in the middle, and of several heads")
def gradients_of_inputs(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, z):
            self.middle = F.tanh(self.cell(x)) * z
            return self.head(self.middle), self.middle.sum(axis=1)

    net = convert(ready(Net()))
    for step, rows in enumerate((3,) * 8 + (5, 3, 4, 3)):
        x, z = normal(rows, 3), normal(1, 3)
        x.attach_grad()
        z.attach_grad(grad_req="add" if step % 4 == 3 else "write")
        with autograd.record():
            out, sums = net(x, z)
        if step % 3 == 2:
            autograd.backward([out, sums], [mx.nd.ones_like(out) * 2, None])
        else:
            out.backward(retain_graph=True)
            sums.backward()
        yield out, sums, x.grad, z.grad, state(net), net.middle.grad


@case(81, "pause, predict mode and a target net inside a step")
def paused(convert):
    class Critic(Cell):
        def hybrid_forward(self, F, x):
            return self.head(F.Dropout(F.relu(self.cell(x)), p=0.3))

    online, target = ready(Critic()), ready(Critic())
    online, target = convert(online), convert(target)
    trainer = trainer_of(online)
    for step in range(13):
        x, then = normal(4, 3), normal(4, 3)
        with autograd.record():
            q = online(x)
            with autograd.pause():
                goal = target(then).max(axis=1, keepdims=True) * 0.9
            with autograd.predict_mode():
                sure = online(x).max(axis=1, keepdims=True)
            value = L2(q, goal.broadcast_like(q)) + 0.1 * L2(sure, goal)
        value.backward()
        trainer.step(4)
        if step % (5 if step < 10 else 2) == 4:
            for mine, its in zip(target.collect_params().values(), online.collect_params().values()):
                mine.set_data(its.data())
        yield q, goal, sure, value, state(online), state(target)


@case(82, "two forwards before one backward, and backward twice")
def two_forwards(convert):
    class Net(TwoArms):
        def hybrid_forward(self, F, x):
            return F.tanh(self.up(x)) if x.shape[0] < 5 else F.relu(self.down(x))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step, rows in enumerate((3,) * 8 + (6, 3, 6, 3)):
        with autograd.record():
            a, b = net(normal(rows, 3)), net(normal(3, 3))
            value = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
        value.backward(retain_graph=True)
        first = net.up.weight.grad().copy()
        value.backward()
        again = attempt(value.backward) if step % 4 == 3 else None
        trainer.step(2, ignore_stale_grad=True)
        yield a, b, value, first, isinstance(again, mx.base.MXNetError), state(net)


@case(83, "the tape ends at a detach, and at a loss of constants")
def cut_tape(convert):
    class Net(TwoArms):
        cut = "none"

        def hybrid_forward(self, F, x):
            h = F.tanh(self.up(x))
            if self.cut == "first":
                h = h.detach()
            elif self.cut == "both":
                return (h * F.sigmoid(self.down(x))).detach()
            return h * F.sigmoid(self.down(x))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for cut in ["none"] * 6 + ["first", "none", "both", "first", "none", "both"]:
        net.cut = cut
        yield attempt(fit, net, trainer, normal(3, 3), normal(3, 4)), state(net)


@case(84, "backward through the state of earlier steps")
def truncated_bptt(convert):
    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.rnn = gluon.rnn.LSTMCell(4, input_size=3)
                self.head = nn.Dense(1, in_units=4)

        def forward(self, xs, states):
            out = []
            for x in xs:
                h, states = self.rnn(x, states)
                out.append(self.head(h))
            return mx.nd.stack(*out), states

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    states = net.rnn.begin_state(batch_size=2)
    for step, length in enumerate((4,) * 8 + (2, 4, 1, 6)):
        states = [s.detach() for s in states]
        with autograd.record():
            out, states = net([normal(2, 3) for _ in range(length)], states)
            value = ((out - 0.1 * step) ** 2).mean()
        value.backward()
        gluon.utils.clip_global_norm([p.grad() for p in net.collect_params().values()], 0.05)
        trainer.step(1)
        yield out, states, value, state(net)
