"""State that Python sees: globals, attributes, hooks, flags, shared parameters, outer lists, the random generator."""
import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

from .branches import Cell, TwoArms
from .common import fit, normal, ready, state, steps, trainer_of
from .registry import case

calls = 0  # of the net of case 19


@case(19, "a global counter")
def global_counter(convert):
    global calls
    calls = 0

    class Net(Cell):
        def hybrid_forward(self, F, x):
            global calls
            calls += 1
            h = F.tanh(self.cell(x))
            return self.head(h if calls % 5 else -h)  # every fifth call differs

    for shown in steps(convert(ready(Net())), (3,) * 16):
        yield shown, calls


@case(20, "an integer attribute that counts")
def counting_attribute(convert):
    class Net(Cell):
        steps = 0

        def hybrid_forward(self, F, x):
            self.steps += 1
            scale = min(1.0, self.steps / 6)  # a warm-up
            return self.head(F.tanh(self.cell(x))) * scale

    net = convert(ready(Net()))
    for shown in steps(net, (3,) * 12):
        yield shown, net.steps


@case(21, "an array as attribute that is carried on")
def array_attribute(convert):
    class Net(Cell):
        memory = None

        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if self.memory is None:
                self.memory = F.zeros_like(h)
            self.memory = 0.9 * self.memory + 0.1 * h.detach()
            return self.head(h + self.memory)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(14):
        if step == 9:
            net.memory = None  # a new sequence
        if step == 11:
            net.memory = net.memory * 0 + 1
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), net.memory, state(net)


@case(31, "a forward hook with an effect")
def forward_hook(convert):
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Dense(4, in_units=3, activation="tanh"), nn.Dense(2, in_units=4))
    net = convert(ready(net))
    trainer = trainer_of(net)
    seen, shapes = [], []
    handle = None
    for step in range(15):
        if step == 4:
            handle = net[0].register_forward_hook(lambda block, inputs, out: seen.append(out.mean().asscalar()))
        if step == 7:
            net.register_forward_pre_hook(lambda block, inputs: shapes.append(inputs[0].shape))
        if step == 12:
            handle.detach()
        yield fit(net, trainer, normal(3, 3), normal(3, 2)), list(seen), list(shapes), state(net)


@case(37, "shared parameters")
def shared_parameters(convert):
    class Net(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.first = nn.Dense(3, in_units=3)
                self.second = nn.Dense(3, in_units=3, params=self.first.params)
                self.embed = nn.Embedding(5, 3)
                self.out = nn.Dense(5, in_units=3, params=self.embed.params, use_bias=False)

        def hybrid_forward(self, F, words):
            h = F.tanh(self.second(F.tanh(self.first(self.embed(words)))))
            return self.out(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for rows in (4,) * 9 + (2, 4, 6):
        words = mx.nd.arange(rows) % 5
        yield fit(net, trainer, words, (words + 1) % 5, loss=loss), state(net)


@case(38, "the training flag in Python")
def training_flag(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            if autograd.is_training():
                h = h * F.broadcast_greater(h, F.zeros((1, 1)))
            elif autograd.is_recording():
                h = h * 3
            return self.head(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    yield net(normal(3, 3))
    for mode in "tttttttititttiirtrit":
        x = normal(3, 3)
        if mode == "t":
            yield fit(net, trainer, x, normal(3, 2)), state(net)
        elif mode == "r":
            with autograd.record(train_mode=False):
                out = net(x)
            out.backward()
            yield out, state(net)
        else:
            yield net(x)


@case(42, "MXNet's random numbers with the same seed")
def random_numbers(convert):
    class Net(Cell):
        drops = 1

        def hybrid_forward(self, F, x):
            noise = F.random.normal(0, 0.1, shape=(4, 3))
            h = self.cell(x + noise)
            for _ in range(self.drops):
                h = F.Dropout(F.tanh(h), p=0.4)
            if self.drops > 1:
                h = F.broadcast_mul(h, F.random.uniform(0.5, 1.5, shape=(1, 3)))
            return F.broadcast_add(self.head(h), F.random.gamma(2, 1, shape=(1, 2)))

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step, drops in enumerate((1, 1, 1, 1, 1, 1, 2, 1, 1, 3, 2, 1, 1, 1)):
        if step == 11:
            mx.random.seed(7)
        net.drops = drops
        yield fit(net, trainer, normal(4, 3), normal(4, 2)), state(net)
        yield net(normal(4, 3))


@case(45, "arrays kept in an outer list")
def outer_list(convert):
    kept = []

    class Net(Cell):
        def hybrid_forward(self, F, x):
            h = F.tanh(self.cell(x))
            kept.append(h)
            if len(kept) > 4:
                h = h + kept.pop(0).mean()
            return self.head(h)

    for shown in steps(convert(ready(Net()))):
        yield shown, kept


@case(62, "a mutated attribute and the mode: DropBlock")
def scheduled_drop(convert):
    class Drop(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.probability, self.dropped = 0.0, 0

        def hybrid_forward(self, F, x):
            if not autograd.is_training() or self.probability == 0:
                return x
            self.dropped += 1
            mask = F.random.uniform(shape=x.shape) > self.probability
            return x * mask * (mask.size / mask.sum())

    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Dense(6, in_units=3, activation="relu"), Drop(), nn.Dense(2, in_units=6))
    net = convert(ready(net))
    trainer = trainer_of(net)
    yield net(normal(2, 3))
    for step in range(14):
        net[1].probability = 0.0 if step < 4 else 0.3 if step < 11 else 0.05 * step
        yield fit(net, trainer, normal(4, 3), normal(4, 2)), net[1].dropped, state(net)
        if step % 4 == 3:
            yield net(normal(2, 3))


@case(63, "a child, a method and a constant replaced")
def replaced_parts(convert):
    class Net(TwoArms):
        slope = 1.0

        def hybrid_forward(self, F, x):
            return self.act(F, self.up(x)) * self.slope

        def act(self, F, h):
            return F.tanh(h)

    net = convert(ready(Net()))
    trainer = trainer_of(net)
    for step in range(15):
        if step == 6:
            net.slope = 0.5
        if step == 8:
            net.act = lambda F, h: F.relu(h) + 0.1
        if step == 10:
            net.up = nn.Dense(4, in_units=3, prefix="other_")
            net.up.initialize(mx.init.Uniform(0.5))
            trainer = trainer_of(net)
        if step == 12:
            del net.act
        yield fit(net, trainer, normal(3, 3), normal(3, 4)), state(net)


@case(64, "what the net is given is changed later")
def changed_arguments(convert):
    class Net(Cell):
        def hybrid_forward(self, F, x, history):
            history.append(x.shape[0])
            self.last = x
            return self.head(F.tanh(self.cell(x)) * len(history))

    net = convert(ready(Net()))
    history, x = [], normal(3, 3)
    for step in range(14):
        out = net(x, history)
        x += 1  # before anyone has read `out`
        x[step % 3] = -step
        if step in (8, 11):
            x, history = normal(2 + step % 3, 3), []
        yield out, x, history, net.last, net.last is x
