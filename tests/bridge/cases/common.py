"""What the programs share: data, a training step, and the state that is compared."""
import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

L2 = gluon.loss.L2Loss()


def normal(*shape):
    """An NDArray of normal numbers, from NumPy's generator, so that making data draws nothing from MXNet's."""
    return mx.nd.array(np.random.standard_normal(shape))


def ready(net, **kwargs):
    """The net with parameters that differ from layer to layer."""
    net.initialize(mx.init.Uniform(0.5), **kwargs)
    return net


def trainer_of(net, kind="sgd", **options):
    return gluon.Trainer(net.collect_params(), kind, {"learning_rate": 0.1, **options})


def fit(net, trainer, x, y, *more, loss=L2):
    """One training step; a parameter that was not on the path stays as it is."""
    with autograd.record():
        out = net(x, *more)
        value = loss(out, y)
    value.backward()
    trainer.step(x.shape[0], ignore_stale_grad=True)
    return out, value


def steps(net, changes=(3,) * 9 + (5, 3, 4), outputs=2):
    """Training steps with these numbers of rows."""
    trainer = trainer_of(net)
    for rows in changes:
        yield fit(net, trainer, normal(rows, 3), normal(rows, outputs)), state(net)


def attempt(function, *args):
    """What the call returns, or else the exception that it raises, with what was still under way."""
    try:
        return function(*args)
    except BaseException as error:  # a KeyboardInterrupt is part of some programs
        return error


def state(net):
    """Data and gradients of all parameters that have any, on every context."""
    return {name: (p.list_data(), p.list_grad() if p.grad_req != "null" else None)
            for name, p in net.collect_params().items() if p._data is not None}
