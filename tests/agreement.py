"""What it takes to compare two results of the executors: their gradients by name, and how close they must be."""
import numpy as np


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
