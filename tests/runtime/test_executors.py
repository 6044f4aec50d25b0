"""Executors agree: the batched one gives what the reference gives, outputs and every gradient."""
from __future__ import annotations

import numpy as np
import pytest
from bodies import BODIES
from programs import Weights, call_of, structure, trace

from recursive_gluon._compat import mx
from recursive_gluon.runtime import batched, reference

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}


def numbers(array):
    return array.tostype("default").asnumpy().astype(np.float64)


def gradients_of(result, ograds):
    """All gradients of a result by name."""
    g = result.backward(ograds)
    named = {**{f"@{n}": v for n, v in g.params.items()}, **{f"field {n}": v for n, v in g.fields.items()},
             **{f"arg {i}": v for i, v in enumerate(g.args)}, **{f"state {n}": v for n, v in g.states.items()}}
    return {name: numbers(v) for name, v in named.items() if v is not None}


def assert_close(kind, got, wanted, tolerance):
    """Norm-wise; what is missing is zero. What is small beside the largest is compared with the largest: it may be the
    difference of large numbers, of which single precision leaves nothing."""
    largest = max([np.linalg.norm(v) for v in wanted.values()] + [1e-300])
    for name in sorted({*got, *wanted}):
        a, b = got.get(name, np.zeros(())), wanted.get(name, np.zeros(()))
        if name in got and name in wanted:
            assert a.shape == b.shape, f"{kind} {name}: shape {a.shape} instead of {b.shape}"
        error = np.linalg.norm(a - b)
        allowed = tolerance * max(np.linalg.norm(b), (1e-3 if tolerance < 1e-6 else 1) * largest)
        assert error <= allowed, f"{kind} {name}: off by {error:.3g} of {np.linalg.norm(b):.3g}"


def assert_same(call, random, tolerance):
    """Run a call in both executors and compare; returns the reference's result."""
    got, wanted = batched.run(call), reference.run(call)
    assert_close("output", {str(j): numbers(x) for j, x in enumerate(got.outputs)},
                 {str(j): numbers(x) for j, x in enumerate(wanted.outputs)}, tolerance)
    if call.keep:
        ograds = [mx.nd.array(random.normal(size=x.shape), dtype=x.dtype) for x in wanted.outputs]
        assert_close("gradient", gradients_of(got, ograds), gradients_of(wanted, ograds), tolerance)
    return wanted


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(BODIES))
def test_bodies(name, dtype):
    case = BODIES[name]
    if case.only and case.only != dtype:
        pytest.skip(f"for {case.only}")
    weights = Weights(dtype)
    program, _ = trace(case.make(weights), weights, case.args, case.counts)
    random = np.random.RandomState(5)
    for trees, nodes, kind, dag in [(1, 1, "random", False), (3, case.nodes, "random", False), (2, 8, "chain", False),
                                    (4, case.nodes, "random", True)]:
        s = structure(random, trees, min(nodes, case.nodes), case.arities, kind, dag and case.dags)
        call = call_of(program, weights, random, s, dtype, case.args, **case.options)
        assert_same(call, random, TOLERANCE[dtype])
        call.keep = call.train = False
        assert_same(call, random, TOLERANCE[dtype])
