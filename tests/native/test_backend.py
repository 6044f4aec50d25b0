"""Backends: the CUDA kernels beside the processor's, on the processor or a device where there is one; lanes, events."""
import ctypes

import numpy as np
import pytest
from backends import Backend, LanePlan, Program, cuda_library, cuda_on_cpu
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_gluon.errors import NativeCoreError
from recursive_gluon.runtime.core import binding

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")
SEEDS = st.integers(0, 10**6)
TYPES = [np.float32, np.float64]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return cuda_on_cpu(tmp_path_factory.mktemp("cuda"))


CUDA = ["on_cpu", pytest.param("device", marks=pytest.mark.gpu(mxnet=False))]


def library_of(request):
    """None for the processor, else the library of the CUDA backend."""
    if request.param == "processor":
        return None
    if request.param == "on_cpu":
        return request.getfixturevalue("compiled")[0]
    return cuda_library() or pytest.skip("no nvcc or no device")


@pytest.fixture(scope="module", params=CUDA)
def cuda(request):
    return library_of(request)


@pytest.fixture(scope="module", params=["processor", *CUDA])
def library(request):
    return library_of(request)


# -- every kernel, beside the processor's --------------------
def source(backend, random, rows, cols, dtype, kind=None):
    """Rows of a kind, by lot: in place, gathered, summed, one for all."""
    kind = kind or random.choice(["plain", "gathered", "summed", "one"])
    table = random.normal(size=(rows if kind == "plain" else 7, cols + random.randint(3))).astype(dtype)
    if kind == "one":
        return backend.source(table, stride=0)
    if kind == "gathered":
        return backend.source(table, random.randint(0, 7, size=rows))
    if kind == "summed":
        start = np.concatenate([[0], np.cumsum(random.randint(0, 4, size=rows))])
        return backend.source(table, random.randint(0, 7, size=start[-1]), start)
    return backend.source(table)


class Out:
    """Rows that are written, with columns between them that must not be."""

    def __init__(self, backend, random, rows, cols, dtype, gap=None):
        self.shape, self.dtype = (rows, cols + (random.randint(3) if gap is None else gap)), dtype
        self.block = backend.put(random.normal(size=self.shape).astype(dtype))
        self.target = (self.block, self.shape[1])


def beside(cuda, seed, dtype, build, rtol=0.0):
    """What `build(backend, random)` launches on both, downloaded and compared; the processor's result."""
    results = []
    for library in (None, cuda):
        backend = Backend(library)
        args, outs = build(backend, np.random.RandomState(seed))
        backend.launch(args)
        results.append([backend.get(out.block, out.shape, dtype) for out in outs])
        backend.close()
    for one, other in zip(*results):
        np.testing.assert_allclose(other, one, rtol=rtol, atol=rtol)
    return results[0][0]


def close(dtype):
    return 2e-5 if dtype == np.float32 else 1e-12


#: operators of two operands
TWO = {"add", "sub", "mul", "div", "power", "maximum", "minimum", "mod", "hypot", "equal", "not_equal", "greater",
       "greater_equal", "lesser", "lesser_equal", "logical_and", "logical_or", "logical_xor", "dtanh", "dsigmoid",
       "drelu"}
#: the processor has functions of its own for these in single precision
OWN = {"exp", "sigmoid", "tanh", "dtanh"}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", sorted(binding.ew_names()) if binding.core() else [])
def test_every_operator(cuda, request, name, dtype):
    count = 3 if name == "where" else 2 if name in TWO else 1
    special = np.array([0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 30.0, -2.5, 1e-30])
    grid = np.stack([x.ravel() for x in np.meshgrid(special, special)])

    def build(backend, random):
        values = [np.concatenate([g, random.uniform(-3, 3, 400)]).astype(dtype)[None] for g in (*grid, grid[0])]
        cols = values[0].shape[1]
        program = Program(cols, [(k, 0) for k in range(count)], [(name, 0, 1, 2, 1.7)], [(count, 0)])
        out = Out(backend, random, 1, cols, dtype)
        sources = [backend.source(v) for v in values[:count]]
        return backend.args("ew", dtype, 1, sources, [out.target], ew=program), [out]

    exact = name not in OWN and "device" not in request.node.name
    beside(cuda, 0, dtype, build, 0.0 if exact else close(dtype))


@given(SEEDS, st.sampled_from(TYPES))
def test_programs(cuda, seed, dtype):
    """Some instructions on sources of all kinds, cells among them; several results."""
    def build(backend, random):
        rows, cols, ins = random.randint(1, 20), random.randint(1, 120), random.randint(1, 6)
        cells = random.randint(0, 2, size=ins)
        sources = [source(backend, random, rows, 1 if cell else cols, dtype) for cell in cells]
        code = []
        for value in range(ins, ins + random.choice([0, 3, 30])):
            name = random.choice(["add", "mul", "tanh", "sigmoid", "maximum", "dtanh", "where", "mul_S", "copy",
                                  "fill_S"])
            code.append((name, *random.randint(0, value, size=3), random.uniform(-1, 1)))
        values = ins + len(code)
        outs = [Out(backend, random, rows, cols, dtype) for _ in range(random.randint(1, 4))]
        program = Program(cols, list(enumerate(cells)), code, [(random.randint(values), k) for k in range(len(outs))])
        return backend.args("ew", dtype, rows, sources, [o.target for o in outs], ew=program), outs
    beside(cuda, seed, dtype, build, close(dtype))


@pytest.mark.parametrize("values", [16, 17, 128, 129, 500])
def test_programs_with_many_values_at_once(cuda, values):
    """All are needed until the sums at the end: as many buffers, around the sizes that kernels are made for."""
    def build(backend, random):
        code = [("tanh", 0, 0, 0, 0.0)]
        code += [("add_S", k % 3, 0, 0, float(k)) for k in range(1, values)]
        first = 3 + values
        code += [("add", first + k - 1, 3 + k, 0, 0.0) for k in range(values)]
        out = Out(backend, random, 3, 5, np.float64)
        sources = [source(backend, random, 3, 5, np.float64) for _ in range(3)]
        program = Program(5, [(k, 0) for k in range(3)], code, [(2 + len(code), 0)])
        return backend.args("ew", np.float64, 3, sources, [out.target], ew=program), [out]
    beside(cuda, values, np.float64, build, 1e-12)


@given(SEEDS, st.sampled_from(TYPES))
def test_map(cuda, seed, dtype):
    def build(backend, random):
        rows, cols = random.randint(1, 20), random.randint(1, 40)
        chosen = random.randint(-1, cols, size=random.randint(1, 50)).astype(np.int32)
        out = Out(backend, random, rows, len(chosen), dtype)
        given_ = source(backend, random, rows, cols, dtype)
        return backend.args("map", dtype, rows, [given_], [out.target], cols=len(chosen), map=chosen), [out]
    beside(cuda, seed, dtype, build)


@given(SEEDS, st.sampled_from(TYPES), st.integers(0, 8))
def test_reduce(cuda, seed, dtype, reduction):
    def build(backend, random):
        rows, groups, length = random.randint(1, 9), random.randint(1, 5), random.choice([0, 1, 3, 16, 40])
        out = Out(backend, random, rows, groups, dtype)
        given_ = source(backend, random, rows, groups * length, dtype)
        return backend.args("reduce", dtype, rows, [given_], [out.target], groups=groups, length=length,
                            reduction=reduction), [out]
    beside(cuda, seed, dtype, build, close(dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_reduce_of_wide_sums(cuda, dtype):
    """Rows that are summed and too wide to be summed in one piece."""
    def build(backend, random):
        table = random.randint(-8, 8, size=(3, 20000)).astype(dtype)
        out = Out(backend, random, 2, 1, dtype)
        given_ = backend.source(table, [0, 1, 2, 2], [0, 3, 4])
        build.wanted = [table.sum(), table[2].sum()]
        return backend.args("reduce", dtype, 2, [given_], [out.target], groups=1, length=20000), [out]
    np.testing.assert_array_equal(beside(cuda, 0, dtype, build)[:, 0], build.wanted)


@given(SEEDS, st.sampled_from(TYPES), st.integers(0, 2))
def test_soft(cuda, seed, dtype, soft):
    def build(backend, random):
        rows, groups, length = random.randint(1, 9), random.randint(1, 5), random.choice([1, 3, 16, 40])
        out = Out(backend, random, rows, groups * length, dtype)
        given_ = source(backend, random, rows, groups * length, dtype)
        return backend.args("soft", dtype, rows, [given_], [out.target], groups=groups, length=length, soft=soft,
                            temperature=random.choice([1.0, 0.5])), [out]
    beside(cuda, seed, dtype, build, close(dtype))


@given(SEEDS, st.sampled_from(TYPES), st.booleans(), st.booleans())
def test_bdot(cuda, seed, dtype, turn_a, turn_b):
    def build(backend, random):
        rows = random.randint(1, 6)
        m, n, k = random.choice([1, 2, 5, 20], size=3)
        out = Out(backend, random, rows, m * n, dtype)
        sources = [source(backend, random, rows, size, dtype) for size in (m * k, k * n)]
        return backend.args("bdot", dtype, rows, sources, [out.target], m=m, n=n, k=k, turn_a=turn_a,
                            turn_b=turn_b), [out]
    beside(cuda, seed, dtype, build, close(dtype))


@given(SEEDS, st.sampled_from(TYPES), st.booleans())
def test_pick_and_one_hot(cuda, seed, dtype, wrap):
    def index(backend, random, rows, groups):
        values = [-9.0, -1.0, 0.0, 1.0, 2.0, 2.5, 7.0, np.nan, np.inf, -np.inf, 1e30]
        return backend.source(random.choice(values, size=(rows, groups)).astype(dtype))

    def pick(backend, random):
        rows, groups, length = random.randint(1, 9), random.randint(1, 5), random.randint(1, 7)
        out = Out(backend, random, rows, groups, dtype)
        sources = [source(backend, random, rows, groups * length, dtype), index(backend, random, rows, groups)]
        return backend.args("pick", dtype, rows, sources, [out.target], groups=groups, length=length, wrap=wrap), [out]

    def one_hot(backend, random):
        rows, groups, length = random.randint(1, 9), random.randint(1, 5), random.randint(1, 7)
        out = Out(backend, random, rows, groups * length, dtype)
        return backend.args("one_hot", dtype, rows, [index(backend, random, rows, groups)], [out.target], groups=groups,
                            length=length, on=1.5, off=-0.25), [out]
    beside(cuda, seed, dtype, pick)
    beside(cuda, seed, dtype, one_hot)


@given(SEEDS, st.sampled_from(TYPES), st.sampled_from([0.0, 1.0]))
def test_column_sums(cuda, seed, dtype, beta):
    def build(backend, random):
        rows, cols = random.randint(0, 50), random.randint(1, 40)
        table = random.normal(size=(rows + 1, cols + random.randint(3))).astype(dtype)
        out = Out(backend, random, 1, cols, dtype)
        return backend.args("column_sums", dtype, rows, [backend.source(table)], [out.target], cols=cols,
                            beta=beta), [out]
    beside(cuda, seed, dtype, build)


@given(SEEDS, st.sampled_from(TYPES))
def test_transpose(cuda, seed, dtype):
    def build(backend, random):
        rows, cols = random.randint(1, 30, size=2)
        first, last = sorted(random.randint(0, cols + 1, size=2))
        out = Out(backend, random, cols, rows, dtype, gap=0)
        table = random.normal(size=(rows, cols)).astype(dtype)
        return backend.args("transpose", dtype, rows, [backend.source(table)], [out.target], cols=cols, first=first,
                            last=last), [out]
    beside(cuda, seed, dtype, build)


@pytest.fixture(scope="module", params=["kernel", "cublas", CUDA[1]])
def multiplying(request, tmp_path_factory):
    """The CUDA backend on the processor, without and with a library of matrix products; on a device."""
    if request.param == "device":
        return library_of(request)
    backend, cublas = cuda_on_cpu(tmp_path_factory.mktemp(request.param))
    assert ctypes.CDLL(str(backend)).rg_cuda_blas_open(b"no-such-library") == 0
    if request.param == "cublas":
        assert ctypes.CDLL(str(backend)).rg_cuda_blas_open(str(cublas).encode()) == 1
    return backend


@given(SEEDS, st.sampled_from(TYPES), st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0]))
def test_gemm(multiplying, seed, dtype, turn_a, turn_b, beta):
    def build(backend, random):
        m, n, k = random.choice([0, 1, 2, 5, 20], size=3)
        a = random.normal(size=(k, m + 1) if turn_a else (m, k + 1)).astype(dtype)
        b = random.normal(size=(n, k + 2) if turn_b else (k, n + 2)).astype(dtype)
        one = not turn_a and k > 0 and m > 0 and random.rand() < 0.2  # one row of a for all
        out = Out(backend, random, m, n, dtype)
        before = backend.get(out.block, out.shape, dtype).astype(np.float64)
        product = (a[:, :m].T if turn_a else a[:1 if one else m, :k]) @ (b[:, :k].T if turn_b else b[:, :n])
        before[:, :n] = product + beta * before[:, :n]
        build.wanted = before
        return backend.args("gemm", dtype, m, [backend.source(a), backend.source(b)], [out.target], m=m, n=n, k=k,
                            turn_a=turn_a, turn_b=turn_b, lda=0 if one else a.shape[1], ldb=b.shape[1],
                            ldc=out.shape[1], beta=beta), [out]
    made = beside(multiplying, seed, dtype, build, close(dtype))
    np.testing.assert_allclose(made, build.wanted, rtol=close(dtype), atol=close(dtype))


# -- lanes and events --------------------
@st.composite
def graphs(draw):
    n = draw(st.integers(2, 20))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    after = [set() for _ in range(n)]
    for a, b in draw(st.lists(pairs, min_size=1, max_size=50)):
        after[a].add(b)
    return [sorted(a) for a in after]


WIDTH = 3


class Chained:
    """Chains that each write a row: half the sum of the rows of the chains before, and a number of its own. Rows that
    are not there yet are NaN. Some chains come late."""

    def __init__(self, backend, after, seed):
        random = np.random.RandomState(seed)
        n = len(after)
        before = [[c for c in range(n) if d in after[c]] for d in range(n)]
        own = random.normal(size=(n, WIDTH))
        self.backend, self.shape = backend, (n, WIDTH)
        self.rows = backend.put(np.full(self.shape, np.nan))
        ours = backend.put(own)
        halve = Program(WIDTH, [(0, 0), (1, 0)], [("mul_S", 0, 0, 0, 0.5), ("add", 2, 1, 0, 0.0)], [(3, 0)])
        slow = Program(64, [(0, 0)], [("tanh", 0, 0, 0, 0.0), ("gamma", 1, 0, 0, 0.0)], [(2, 0)])
        junk = backend.source(random.normal(size=(20, 64)))
        self.chains, self.wanted = [], np.zeros(self.shape)
        for c in range(n):
            late = backend.args("ew", np.float64, 20, [junk], [(backend.alloc(20 * 64 * 8), 64)], ew=slow)
            index = backend.put(np.array(before[c], np.int64))
            start = backend.put(np.array([0, len(before[c])], np.int64))
            sources = [(self.rows, WIDTH, index, start), (ours + c * WIDTH * 8, WIDTH, 0, 0)]
            args = backend.args("ew", np.float64, 1, sources, [(self.rows + c * WIDTH * 8, WIDTH)], ew=halve)
            self.chains.append([late] * random.randint(0, 3) + [args])
            total = np.zeros(WIDTH)
            for k, b in enumerate(before[c]):
                total = self.wanted[b] + (total if k else -0.0)
            self.wanted[c] = total * 0.5 + own[c]

    def seen(self):
        return self.backend.get(self.rows, self.shape, np.float64)


@given(graphs(), st.integers(1, 4), SEEDS)
@settings(max_examples=40)
def test_lanes_wait_for_one_another(library, after, lanes, seed):
    """Several runs are handed over before the first has ended: they use the same events again."""
    backend = Backend(library, lanes)
    plan = LanePlan(after, None, lanes)
    runs = [Chained(backend, after, seed + k) for k in range(3)]
    for run in runs:
        backend.issue(plan, run.chains)
    backend.synchronise()
    for run in runs:
        np.testing.assert_array_equal(run.seen(), run.wanted)
    backend.close()


def test_a_missing_wait_would_be_seen(compiled):
    """A line of chains that is planned as if they were independent."""
    backend = Backend(compiled[0], 3)
    run = Chained(backend, [[c + 1] if c < 11 else [] for c in range(12)], 0)
    backend.issue(LanePlan([[]] * 12, None, 3), run.chains)
    backend.synchronise()
    assert np.isnan(run.seen()).any()
    backend.close()


def test_copies_are_ordered_in_their_lane(library):
    backend = Backend(library, 2)
    a = np.arange(6.0)
    block, other = backend.put(a), backend.put(a * 0)
    backend.copy(other, block, a.nbytes)
    backend.copy(block, other + 8, 8)
    np.testing.assert_array_equal(backend.get(other, 6, np.float64), a)
    np.testing.assert_array_equal(backend.get(block, 6, np.float64), [1, 1, 2, 3, 4, 5])
    backend.close()


# -- what goes wrong --------------------
def test_launches_that_cannot_run(library):
    backend = Backend(library)
    rows = backend.source(np.ones((2, 3)))
    out = (rows[0], 3)
    program = Program(3, [(1, 0)], [], [(0, 0)])
    for said, args in [
        ("a launch of kMap has 2 sources, expected 1", backend.args("map", np.float64, 1, [rows, rows], [out])),
        ("a launch of kMap has no map", backend.args("map", np.float64, 1, [rows], [out])),
        ("a launch of kGemm has 0 targets, expected 1", backend.args("gemm", np.float64, 1, [rows, rows], [])),
        ("a launch of kEw has no program", backend.args("ew", np.float64, 1, [rows], [out])),
        ("a launch of kEw has 1 sources, expected 2", backend.args("ew", np.float64, 1, [rows], [out], ew=program)),
        ("more than 64 operands", backend.args("ew", np.float64, 1, [rows] * 65, [out], ew=program)),
        ("a negative size", backend.args("reduce", np.float64, -1, [rows], [out])),
    ]:
        with pytest.raises(NativeCoreError, match=f"^program: .*{said}"):
            backend.launch(args)
    with pytest.raises(NativeCoreError, match="^internal: lane 1 of 1"):
        backend.launch(backend.args("reduce", np.float64, 1, [rows], [out]), lane=1)
    with pytest.raises(NativeCoreError, match="event 3 of 0; ask for it with events"):
        backend.record(0, 3)
    with pytest.raises(NativeCoreError, match="at least one lane"):
        Backend(library, 0)
    backend.close()


def test_no_memory(library):
    backend = Backend(library)
    with pytest.raises(NativeCoreError, match="^memory: (no memory for|CUDA cannot get) [0-9]+ bytes"):
        backend.alloc(1 << 50)
    backend.close()


def test_no_such_library(tmp_path, compiled):
    with pytest.raises(NativeCoreError, match="the CUDA backend cannot be opened: .*build_cuda"):
        Backend(tmp_path / "none.so")
    with pytest.raises(NativeCoreError, match="has no rg_cuda_backend; it is not the library of this version"):
        Backend(compiled[1])
