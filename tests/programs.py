"""Bodies, traced without a RecursiveBlock, and forests for them: what the tests of executors run."""
from __future__ import annotations

import numpy as np

from recursive_gluon._compat import mx
from recursive_gluon.capture.build import build_program
from recursive_gluon.capture.nodes import Layout, SymbolicNode
from recursive_gluon.capture.symbols import traced
from recursive_gluon.capture.tracer import Body, Tracer
from recursive_gluon.program import verify
from recursive_gluon.program.expr import NODE
from recursive_gluon.program.ir import Param
from recursive_gluon.runtime.executor import Call
from recursive_gluon.structure import Structure

F = mx.sym
WIDTH, WORDS = 4, 7


class Weights:
    """Parameters, made by being used: ``P("w", 4, 8)`` is a symbol in a body."""

    def __init__(self, dtype="float64"):
        self.dtype, self.made = dtype, {}

    def __call__(self, name, *shape, state=False, sparse=False):
        self.made.setdefault(name, Param(name, shape, self.dtype, state, sparse))
        return traced(mx.sym.var(name))

    def arrays(self, seed=0):
        """Values for them: small random numbers, and running statistics as a layer begins with."""
        random = np.random.RandomState(seed)
        arrays = {}
        for name in sorted(self.made):
            p = self.made[name]
            values = random.normal(0, 0.5, p.shape)
            if p.state:
                values = np.abs(values) + 1 if "var" in name else values
            arrays[name] = mx.nd.array(values, dtype=p.dtype)
        return arrays


class Me:
    """What a body calls: itself, and others by ``me.of(other)``."""

    def __init__(self, tracer, body):
        self.tracer, self.body = tracer, body

    def __call__(self, *args):
        node = args[0] if args and isinstance(args[0], SymbolicNode) else None
        return self.tracer.call(self.body, node, args[1:] if node is not None else args)

    def of(self, function, name=None):
        return make(self.tracer, function, name or function.__name__)


def make(tracer, function, name="f"):
    """A body for `function(me, node, ...)`; the same one for the same function."""
    bodies = tracer.__dict__.setdefault("bodies", {})
    if function not in bodies:
        def run(node, arguments):
            me = Me(tracer, bodies[function])
            return function(me, *([] if node is None else [node]), *arguments)
        bodies[function] = Body(function, name, run)
    return Me(tracer, bodies[function])


def trace(function, weights=None, args=(), counts=(0, 1, 2, 3), layout=None, node=True):
    """The Program of a body. `args` are passed to the roots: 'tensor', or an integer. Returns (program, tracer)."""
    tracer = Tracer(lambda expr: list(counts))
    me = make(tracer, function)
    passed = tuple(mx.sym.var("x") if a == "tensor" else a for a in args)
    root = tracer.function(me.body, SymbolicNode(NODE, layout or Layout()) if node else None, passed)
    tracer.explore(root)
    program = build_program(tracer, root, list(weights.made.values()) if weights is not None else [])
    verify(program)
    return program, tracer


# -- forests --------------------------------------------------------------------------------------------------------
def structure(random, trees=3, nodes=12, arities=(1, 2, 3), kind="random", dag=False):
    """Random trees (or DAGs) of at most `nodes` nodes, whose inner nodes have one of `arities` children.

    `kind` is 'random', or 'chain' for trees as deep as they can be.
    """
    offsets, roots, below, starts = [0], [], [], []
    for _ in range(trees):
        start = offsets[-1]
        children = _grown(random, int(random.randint(1, nodes + 1)), arities, kind)
        if dag:
            for i in range(2, len(children)):
                if children[i] and random.rand() < 0.5:
                    children[i][random.randint(len(children[i]))] = int(random.randint(i))
            children = _reached(children)
        below += [[start + c for c in cs] for cs in children]
        offsets.append(start + len(children))
        roots.append(offsets[-1] - 1)
    for cs in below:
        starts.append(len(cs))
    child_offsets = np.concatenate([[0], np.cumsum(starts)]).astype(np.int32)
    return Structure(np.array(offsets, np.int32), np.array(roots, np.int32), child_offsets,
                     np.array([c for cs in below for c in cs], np.int32), dag=dag)


def _grown(random, size, arities, kind):
    """Lists of children, children before parents; grown from the root by giving a leaf children."""
    children, leaves = [[]], [0]
    while True:
        arity = int(arities[random.randint(len(arities))])
        if len(children) + arity > size:
            break
        at = len(leaves) - 1 if kind == "chain" else int(random.randint(len(leaves)))
        parent = leaves.pop(at)
        for _ in range(arity):
            children[parent].append(len(children))
            leaves.append(len(children))
            children.append([])
    last = len(children) - 1
    return [[last - c for c in children[last - i]] for i in range(last + 1)]


def _reached(children):
    """Nodes that the last one reaches, numbered anew."""
    keep, stack = set(), [len(children) - 1]
    while stack:
        node = stack.pop()
        if node not in keep:
            keep.add(node)
            stack += children[node]
    number = {node: i for i, node in enumerate(sorted(keep))}
    return [[number[c] for c in children[node]] for node in sorted(keep)]


def fields(random, s, dtype="float64"):
    """Of every kind: a vector ``x``, a number ``score``, a word, a label, a depth to grow to."""
    n = s.num_nodes
    return {"x": mx.nd.array(random.normal(size=(n, WIDTH)), dtype=dtype),
            "score": mx.nd.array(random.normal(size=n), dtype=dtype),
            "word": mx.nd.array(random.randint(0, WORDS, n), dtype="int32"),
            "label": mx.nd.array(random.randint(0, 3, n), dtype="int32")}


def call_of(program, weights, random, s, dtype="float64", args=(), **options):
    """A call on a structure; `args` as for :func:`trace`."""
    tensors = [mx.nd.array(random.normal(size=(s.num_trees, WIDTH)), dtype=dtype) for a in args if a == "tensor"]
    ints = tuple(a for a in args if a != "tensor")
    arrays = weights.arrays(random.randint(1 << 30))
    options = {"train": True, "keep": True, "seed": int(random.randint(1 << 30)), **options}
    return Call(program, s, {n: v for n, v in fields(random, s, dtype).items() if n in program.fields},
                {p.name: arrays[p.name] for p in program.params}, mx.cpu(), tensors, ints, **options)
