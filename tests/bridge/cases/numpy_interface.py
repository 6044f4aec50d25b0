"""Nets on the NumPy interface, `mx.np` and `mx.npx`."""
import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .common import normal, state, trainer_of
from .registry import case


def on_numpy(program):
    """Run a case under `npx.set_np()`, and undo it."""
    def run(convert):
        mx.npx.set_np()
        try:
            yield from program(convert)
        finally:
            mx.npx.reset_np()
    return run


def data(*shape):
    return normal(*shape).as_np_ndarray()


def fit(net, trainer, x, y):
    with autograd.record():
        out = net(x)
        value = ((out - y) ** 2).mean()
    value.backward()
    trainer.step(1, ignore_stale_grad=True)
    return out, value


@case(111, "mx.np: a branch, a loop and a scalar")
@on_numpy
def np_branch(convert):
    class Net(nn.Block):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.Dense(3, in_units=3), nn.Dense(2, in_units=3)

        def forward(self, x):
            h = mx.np.tanh(self.cell(x))
            while mx.np.abs(h).max() > 0.8:
                h = h * 0.7
            if h.sum() > 0:
                h = h + float(h.mean())
            return self.head(h)

    net = Net()
    net.initialize(mx.init.Uniform(0.5))
    net = convert(net)
    trainer = trainer_of(net)
    for scale in (1, 1, 1, 1, 1, 1, 5, 1, 0.1, 9, 1, 3, 1):
        yield fit(net, trainer, data(3, 3) * scale, data(3, 2)), state(net)


@case(112, "mx.np: indexing, masks and assignment")
@on_numpy
def np_indexing(convert):
    class Net(nn.Block):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.Dense(3, in_units=3), nn.Dense(2, in_units=3)

        def forward(self, x):
            mask = mx.np.ones_like(x)
            mask[x[:, 0] > 1] = 0
            mask[0, 1:] = 0.5
            h = self.cell(x * mask)
            return self.head(mx.np.concatenate([h[:2], h[2:][::-1]])) + x[..., None, 0]

    net = Net()
    net.initialize(mx.init.Uniform(0.5))
    net = convert(net)
    trainer = trainer_of(net)
    for rows in (4,) * 8 + (5, 4, 3, 4):
        yield fit(net, trainer, data(rows, 3), data(rows, 2)), state(net)


@case(113, "mx.np: einsum, tensordot, where, scalars of no dimension")
@on_numpy
def np_functions(convert):
    class Net(nn.Block):
        def __init__(self):
            super().__init__()
            self.query, self.key = nn.Dense(3, in_units=3, flatten=False), nn.Dense(3, in_units=3, flatten=False)

        def forward(self, x):
            scores = mx.np.einsum("bik,bjk->bij", self.query(x), self.key(x)) / 3 ** 0.5
            weights = mx.npx.softmax(mx.np.where(scores > -1, scores, mx.np.zeros(())), axis=-1)
            self.weights = weights
            total = mx.np.tensordot(weights, mx.np.ones((x.shape[1],)), axes=1).sum()
            return mx.npx.batch_dot(weights, x) * total / total.item()

    net = Net()
    net.initialize(mx.init.Uniform(0.5))
    net = convert(net)
    trainer = trainer_of(net)
    for length in (4, 4, 4, 4, 4, 4, 6, 4, 2, 1, 6, 4):
        yield fit(net, trainer, data(2, length, 3), data(2, length, 3)), net.weights, state(net)


@case(114, "mx.np: random numbers and the mode")
@on_numpy
def np_random(convert):
    class Net(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.cell = nn.Dense(3, in_units=3)
            self.drop = nn.Dropout(0.3)

        def hybrid_forward(self, F, x):
            h = self.drop(self.cell(x))
            if autograd.is_training():
                h = h + F.np.random.normal(0, 0.1, size=(1, 3)) * F.np.random.uniform(size=(1, 3))
            return F.npx.relu(h)

    net = Net()
    net.initialize(mx.init.Uniform(0.5))
    net = convert(net)
    trainer = trainer_of(net)
    for step in range(12):
        yield fit(net, trainer, data(3, 3), data(3, 3)), state(net)
        if step % 3 == 2:
            yield net(data(2, 3))


@case(115, "mx.np: a recurrent net from scratch, as in a book")
@on_numpy
def np_from_scratch(convert):
    w, u, b, out = (data(3, 4) * 0.5, data(4, 4) * 0.5, mx.np.zeros(4), data(4, 2) * 0.5)
    for p in (w, u, b, out):
        p.attach_grad()

    class Scratch(gluon.Block):
        def forward(self, xs, h):
            ys = []
            for x in xs:
                h = mx.np.tanh(mx.np.dot(x, w) + mx.np.dot(h, u) + b)
                ys.append(mx.np.dot(h, out))
            return mx.np.concatenate(ys, axis=0), h

    net = convert(Scratch())
    h = mx.np.zeros((2, 4))
    for length in (3, 3, 3, 3, 3, 3, 5, 3, 1, 5, 2, 3):
        h = h.detach()
        with autograd.record():
            y, h = net(data(length, 2, 3), h)
            value = (y ** 2).mean()
        value.backward()
        norm = sum((p.grad ** 2).sum() for p in (w, u, b, out)) ** 0.5
        if norm > 0.05:
            for p in (w, u, b, out):
                p.grad[:] *= 0.05 / norm
        for p in (w, u, b, out):
            p[:] = p - 0.5 * p.grad
        yield y, h, value, norm, w, u, b, out
