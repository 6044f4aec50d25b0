"""Small recursive nets, and what it takes to compare two runs of one."""
import numpy as np

import recursive_gluon as rg
from recursive_gluon._compat import mx

autograd, nn = mx.autograd, mx.gluon.nn

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


class TreeNet(rg.RecursiveBlock):
    """A binary Tree-LSTM with a head: returns h, c and scores."""

    def __init__(self, words=12, hidden=3, sparse=False, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embed = nn.Embedding(words, 4, sparse_grad=sparse)
            self.leaf, self.inner, self.head = nn.Dense(3 * hidden), nn.Dense(5 * hidden), nn.Dense(2)
            self.drop = nn.Dropout(dropout)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            i, o, u = F.split(self.leaf(self.drop(self.embed(node["word"]))), num_outputs=3, axis=1)
            c = F.sigmoid(i) * F.tanh(u)
        else:
            (hl, cl, _), (hr, cr, _) = self(node.left), self(node.right)
            i, o, u, f, g = F.split(self.inner(F.concat(hl, hr, dim=1)), num_outputs=5, axis=1)
            c = F.sigmoid(i) * F.tanh(u) + F.sigmoid(f) * cl + F.sigmoid(g) * cr
        h = F.sigmoid(o) * F.tanh(c)
        return h, c, self.head(h)


class Even(rg.RecursiveBlock):
    """One half of a mutual recursion; the other is a block of its own. Each knows the other."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.odd = Odd(lambda: self, prefix="odd_")  # a function: were each a child of the other, it would not end
            self.dense = nn.Dense(3, in_units=3)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return F.concat(node["x"], node["x"][:, :1], dim=1)
        return F.tanh(self.dense(self.odd(node.left) * self.odd(node.right)))


class Odd(rg.RecursiveBlock):
    def __init__(self, even, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.dense = nn.Dense(3)
        self.even = even

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.dense(node["x"])
        return F.sigmoid(self.even()(node.left) - self.even()(node.right))


def random_tree(random, leaves, words=12, **fields):
    """A binary tree of random shape with the fields ``word`` (-1 inside) and ``x`` (two floats)."""
    x = random.normal(size=2)
    if leaves == 1:
        return rg.Tree(word=int(random.randint(words)), x=x)
    left = int(random.randint(1, leaves))
    return rg.Tree([random_tree(random, left, words), random_tree(random, leaves - left, words)], word=-1, x=x)


def forest_of(seed=0, sizes=(1, 4, 7), words=12, dtype="float64", ctx=None):
    """A forest of trees with so many leaves."""
    random = np.random.RandomState(seed)
    return rg.Forest([random_tree(random, n, words) for n in sizes], dtype=dtype, ctx=ctx)


def flat(value):
    """Arrays in nested lists and tuples, in order."""
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in flat(item)]
    return [value]


def ready(net, dtype="float64", ctx=None, scale=0.7):
    """Initialized with numbers that are large enough to matter."""
    net.initialize(mx.init.Uniform(scale), ctx=ctx, force_reinit=True)
    net.cast(dtype)
    return net


def loss_of(outputs):
    """A number that weighs every output and every element differently."""
    total = 0
    for j, x in enumerate(flat(outputs)):
        weights = mx.nd.array(1 + np.arange(x.size).reshape(x.shape) % 5 / 3, ctx=x.context, dtype=x.dtype)
        total = total + (x * x * weights * (j + 1) + x).sum()
    return total


def numbers(array):
    return array.tostype("default").asnumpy().astype(np.float64)


def gradients(net):
    return {name: numbers(p.grad()) for name, p in net.collect_params().items() if p.grad_req != "null"}


def step(net, *inputs, train=True, **options):
    """One forward and backward: outputs, and gradients by name."""
    with autograd.record(train_mode=train):
        out = net(*inputs, **options)
        loss = loss_of(out)
    loss.backward()
    return [numbers(x) for x in flat(out)], gradients(net)


def assert_close(got, wanted, dtype="float64", what=""):
    """Norm-wise."""
    if isinstance(wanted, dict):
        assert sorted(got) == sorted(wanted)
        got, wanted = [got[k] for k in sorted(got)], [wanted[k] for k in sorted(wanted)]
    assert len(got) == len(wanted)
    largest = max((np.linalg.norm(b) for b in wanted), default=0)
    for i, (a, b) in enumerate(zip(got, wanted)):
        assert a.shape == b.shape, f"{what} {i}: shape {a.shape} instead of {b.shape}"
        error, allowed = np.linalg.norm(a - b), TOLERANCE[dtype] * max(np.linalg.norm(b), 1e-3 * largest)
        assert error <= allowed, f"{what} {i}: off by {error:.3g} of {np.linalg.norm(b):.3g}"


def twins(net, *inputs, dtype="float64", flags=None, train=True, **options):
    """Compare a step of `net` hybridized with one of its eager twin; returns outputs and gradients."""
    net.hybridize(False)
    net.collect_params().zero_grad()  # eagerly, a parameter that this forest does not reach keeps its gradient
    wanted = step(net, *inputs, train=train, **options)
    net.hybridize(**(flags or {}))
    for _ in range(2):  # the second call finds everything made
        got = step(net, *inputs, train=train, **options)
        assert_close(got[0], wanted[0], dtype, "output")
        assert_close(got[1], wanted[1], dtype, "gradient")
    with autograd.predict_mode():
        net.hybridize(False)
        calm = [numbers(x) for x in flat(net(*inputs, **options))]
        net.hybridize(**(flags or {}))
        assert_close([numbers(x) for x in flat(net(*inputs, **options))], calm, dtype, "prediction")
    return wanted
