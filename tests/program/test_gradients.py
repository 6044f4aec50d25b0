"""Gradient rules against MXNet's autograd, frame by frame and summed over frames for shared inputs."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet.symbol.register import _symbol_creator
from rule_cases import (
    BINARY,
    BROADCAST,
    FRAMES,
    OTHERS,
    PLAIN_UNARY,
    SCALARS,
    SINGLE_ONLY,
    UNARY_DOMAIN,
    R,
    S,
    draw,
    frame,
    handle,
    invoke,
    strings,
)

from recursive_gluon.program.rules.gradients import HAS_RULE, gradient, join_slices
from recursive_gluon.program.rules.rowwise import Batch, rowwise
from recursive_gluon.program.rules.site import Site

BUILT = set()


def check_buildable(op, attrs, count):
    """A CachedOp must take the operator: it asks each for a gradient of its own."""
    key = (op, tuple(sorted(attrs.items())), count)
    if key not in BUILT:
        variables = [mx.sym.var(f'v{i}') for i in range(count)]
        symbol = _symbol_creator(
            handle(op), variables, None, list(attrs), list(attrs.values()), 'node', False
        )
        mx.nd.CachedOp(symbol) if hasattr(mx.nd, 'CachedOp') else mx._ctypes.ndarray.CachedOp(symbol)
        BUILT.add(key)


class Val:
    """A value: 'row' holds an array a frame, 'shared' and 'total' (what over_rows gives) a single one."""

    def __init__(self, arrays, kind):
        self.arrays, self.kind = list(arrays), kind

    @property
    def stacked(self):
        return mx.nd.concat(*self.arrays, dim=0) if self.kind == 'row' else self.arrays[0]


class NumericEmit:
    """Runs each node at once: on stacked rows where the node is row-wise, which `strict` demands."""

    def __init__(self, strict=True):
        self.strict, self.ops = strict, []

    def shape(self, value):
        return value.arrays[0].shape

    def dtype(self, value):
        return np.dtype(value.arrays[0].dtype).name

    def row(self, op, *values, **attrs):
        assert all(isinstance(v, str) for v in attrs.values())
        self.ops.append(op)
        check_buildable(op, attrs, len(values))
        rows = tuple(v.kind == 'row' for v in values)
        if not any(rows):
            kind = 'total' if any(v.kind == 'total' for v in values) else 'shared'
            return Val(invoke(op, [v.arrays[0] for v in values], attrs), kind)
        assert all(v.kind != 'total' for v in values), 'a sum over rows feeds a per-frame node'
        frames = max(len(v.arrays) for v in values)
        singles = [
            invoke(op, [v.arrays[b if r else 0] for v, r in zip(values, rows)], attrs)[0]
            for b in range(frames)
        ]
        batch = rowwise(Site(op, attrs, tuple(self.shape(v) for v in values), rows, (singles[0].shape,)))
        if not isinstance(batch, Batch):
            assert not self.strict, (op, attrs, [self.shape(v) for v in values], rows, batch)
            return Val(singles, 'row')
        arrays = [
            mx.nd.concat(*v.arrays * frames, dim=0) if i in batch.spread else v.stacked
            for i, v in enumerate(values)
        ]
        out = invoke(batch.op, arrays, batch.attrs)[0]
        return Val([out[b : b + 1] for b in range(frames)], 'row')

    def over_rows(self, op, *values, **attrs):
        assert all(isinstance(v, str) for v in attrs.values())
        self.ops.append(op)
        arrays = [v.stacked for v in values]
        assert all(v.arrays[0].shape[0] == 1 for v in values if v.kind == 'row')
        if op == '_rg_embedding_grad':
            assert set(attrs) == {'input_dim', 'output_dim', 'sparse_grad', 'dtype'}
            total = np.zeros((int(attrs['input_dim']), int(attrs['output_dim'])), arrays[1].dtype)
            index = np.clip(arrays[0].asnumpy().astype(int).ravel(), 0, len(total) - 1)
            np.add.at(total, index, arrays[1].asnumpy().reshape(-1, total.shape[1]))
            return Val([mx.nd.array(total, dtype=total.dtype)], 'total')
        check_buildable(op, attrs, len(values))
        return Val(invoke(op, arrays, attrs), 'total')


def reference(op, attrs, rows, values, heads, used, frames):
    """Gradients by autograd, frame by frame."""
    index = {'Embedding': 0, 'take': 1}.get(op)  # MXNet gives its indices no gradient
    requests = ['null' if i == index else 'write' if row else 'add' for i, row in enumerate(rows)]
    for value, request in zip(values, requests):
        value.attach_grad(request)
    grads = [[] for _ in values]
    for b in range(frames):
        inputs = [frame(v, r and frames > 1, b).copy() if r else v for v, r in zip(values, rows)]
        for value, row, request in zip(inputs, rows, requests):
            if row:
                value.attach_grad(request)
        with mx.autograd.record():
            outs = invoke(op, inputs, attrs)
        picked = [k for k in range(len(outs)) if used[k]]
        mx.autograd.backward([outs[k] for k in picked], [heads[k].arrays[b] for k in picked])
        for i, (value, row) in enumerate(zip(inputs, rows)):
            if row:
                grads[i].append(np.zeros(value.shape) if i == index else value.grad.asnumpy())
    return [
        np.concatenate(grads[i])
        if row
        else np.zeros(values[i].shape)
        if i == index
        else values[i].grad.asnumpy()
        for i, row in enumerate(rows)
    ]


def close(got, expected, tolerance):
    if not np.isfinite(expected).all():
        return np.allclose(got, expected, rtol=1e-6, equal_nan=True)
    return np.linalg.norm(got - expected) <= tolerance * max(1, np.linalg.norm(expected))


def check(op, attrs, shapes, rows, kinds='', dtype='float64', used=None, frames=FRAMES, strict=True):
    rng = np.random.default_rng(0)
    kinds = kinds or 'f' * len(shapes)
    frames = frames if any(rows) else 1
    values = [draw(rng, s, k, frames if r else 1, dtype) for s, k, r in zip(shapes, kinds, rows)]
    kind = 'row' if any(rows) else 'shared'
    singles = [
        invoke(op, [frame(v, r and frames > 1, b) for v, r in zip(values, rows)], attrs)
        for b in range(frames)
    ]
    site = Site(
        op,
        strings(attrs),
        tuple(tuple(s) for s in shapes),
        tuple(rows),
        tuple(out.shape for out in singles[0]),
    )
    used = used or [True] + [op in ('SliceChannel', '_split_v2')] * (len(singles[0]) - 1)
    heads = [
        Val([draw(rng, out.shape, 'f', 1, np.dtype(out.dtype).name) for _ in range(frames)], kind)
        for out in singles[0]
    ]
    expected = reference(op, attrs, rows, values, heads, used, frames)
    emit = NumericEmit(strict)
    inputs = [
        Val([frame(v, r and frames > 1, b) for b in range(frames)] if r else [v], 'row' if r else 'shared')
        for v, r in zip(values, rows)
    ]
    outputs = [Val([outs[k] for outs in singles], kind) for k in range(len(heads))]
    ograds = [head if use else None for head, use in zip(heads, used)]
    tolerance = {'float64': 1e-9, 'float32': 1e-5}[dtype]
    if attrs.get('act_type') == 'gelu':
        tolerance = 1e-6  # MXNet computes it in single precision
    everything = gradient(site, emit, inputs, outputs, ograds, [True] * len(shapes))
    for i in range(len(shapes)):
        alone = gradient(site, emit, inputs, outputs, ograds, [j == i for j in range(len(shapes))])
        assert all(alone[j] is None for j in range(len(shapes)) if j != i)
        for value in (everything[i], alone[i]):
            if value is None:
                assert not np.any(expected[i]), f'input {i} of {op} has a gradient'
                continue
            got = value.stacked.asnumpy()
            assert got.dtype == expected[i].dtype
            assert value.kind == 'row' if rows[i] else value.kind in ('shared', 'total')
            assert got.shape == expected[i].shape, (op, attrs, shapes, rows, i)
            assert close(got, expected[i], tolerance), (op, attrs, shapes, rows, i, got, expected[i])
    return emit


def variants(op, attrs, shapes, rows, kinds=''):
    check(op, attrs, shapes, rows, kinds)
    check(op, attrs, shapes, [False] * len(shapes), kinds)
    check(op, attrs, shapes, rows, kinds, dtype='float32')


UNCOVERED = {
    'gamma',
    'gammaln',
    'sort',
    'topk',
    'batch_take',
    'moments',
    'LRN',
    'InstanceNorm',
    'GroupNorm',
    'Convolution',
    'Deconvolution',
    'Pooling',
    'SoftmaxActivation',
    'amp_multicast',
}


def covered(cases):
    return [
        case
        for case in cases
        if not case[0].startswith('_backward_')
        and case[0] not in UNCOVERED
        and not (case[0] == 'take' and case[3][0])
        and not (case[0] == 'slice' and case[1].get('step') == '(1, -1)')
    ]


@pytest.mark.parametrize('op', sorted(UNCOVERED))
def test_uncovered_have_no_rule(op):
    assert not HAS_RULE(op)


@pytest.mark.parametrize('op', [op for op in PLAIN_UNARY if op not in UNCOVERED])
def test_unary(op):
    for shape in [(1,), (1, 5), (1, 2, 3)]:
        variants(op, {}, [shape], [R], UNARY_DOMAIN.get(op, 'f'))
    if UNARY_DOMAIN.get(op, 'f') == 'f':
        check(op, {}, [(1, 5)], [R], 'i')  # zeros, where many have an edge


@pytest.mark.parametrize('op', SCALARS)
def test_scalar(op):
    for scalar in (1, 2, 1.5, 3):
        variants(op, {'scalar': scalar}, [(1, 5)], [R], 'p')
        if op not in ('_rdiv_scalar', '_rmod_scalar', '_mod_scalar'):
            check(op, {'scalar': scalar}, [(1, 5)], [R], 'i')


@pytest.mark.parametrize('op', BINARY)
@pytest.mark.parametrize('rows', [(R, R), (R, S), (S, R)])
def test_elementwise(op, rows):
    for shape in [(1,), (1, 4), (1, 2, 3)]:
        variants(op, {}, [shape, shape], rows, 'pp')
    if op not in ('_power', '_mod', 'elemwise_div', '_hypot'):
        check(op, {}, [(1, 30), (1, 30)], rows, 'ii')  # ties


@pytest.mark.parametrize('op', BROADCAST)
@pytest.mark.parametrize(
    'shapes,rows',
    [
        ([(1, 4), (1, 4)], (R, R)),
        ([(1, 4), (1, 1)], (R, R)),
        ([(1, 4), (4,)], (R, S)),
        ([(4,), (1, 4)], (S, R)),
        ([(1, 4), (1,)], (R, S)),
        ([(1, 3, 4), (3, 1)], (R, S)),
        ([(1, 1, 4), (1, 3, 1)], (S, R)),
        ([(1,), (1,)], (R, S)),
        ([(1, 1), (4,)], (R, S)),
        ([(1, 1), (1, 4)], (R, S)),
        ([(1, 3, 4), (1, 4)], (R, S)),
    ],
)
def test_broadcast(op, shapes, rows):
    variants(op, {}, shapes, rows, 'pp')


@pytest.mark.parametrize(
    'op,attrs,shapes,rows,kinds',
    covered(OTHERS),
    ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else '',
)
def test_others(op, attrs, shapes, rows, kinds):
    if not HAS_RULE(op):
        pytest.fail(f'no gradient rule for {op}')
    if op not in SINGLE_ONLY:
        check(op, attrs, shapes, rows, kinds)
        check(op, attrs, shapes, [False] * len(shapes), kinds)
    check(op, attrs, shapes, rows, kinds, dtype='float32')


@pytest.mark.parametrize(
    'op,attrs,shapes,rows,kinds',
    [
        ('FullyConnected', dict(num_hidden=3), [(1, 4), (3, 4), (3,)], (R, S, S), ''),
        ('broadcast_mul', {}, [(1, 4), (4,)], (R, S), ''),
        ('broadcast_mul', {}, [(1, 4), (1,)], (R, S), ''),
        ('dot', {}, [(1, 4), (4, 3)], (R, S), ''),
        ('Embedding', dict(input_dim=4, output_dim=3), [(1,), (4, 3)], (R, S), 'if'),
    ],
)
def test_one_row(op, attrs, shapes, rows, kinds):
    check(op, attrs, shapes, rows, kinds, frames=1)


@pytest.mark.parametrize(
    'op,attrs,shapes,rows,kinds',
    [
        ('broadcast_mul', {}, [(1, 4), (3, 4)], (R, S), ''),
        ('broadcast_mul', {}, [(1,), (1, 4)], (R, R), ''),
        ('broadcast_add', {}, [(1,), (3, 4)], (R, S), ''),
        ('transpose', {}, [(1, 4)], (R,), ''),
        ('Reshape', dict(shape='(-1,)'), [(1, 4)], (R,), ''),
        ('mean', dict(axis=0), [(1, 4)], (R,), ''),
        ('softmax', dict(axis=0), [(1, 4)], (R,), ''),
        ('Concat', dict(dim=0, num_args=2), [(1, 4), (2, 4)], (R, S), ''),
        ('stack', dict(axis=0, num_args=2), [(1, 4), (1, 4)], (R, S), ''),
        ('dot', {}, [(1, 1), (1, 4)], (R, R), ''),
        ('dot', {}, [(1,), (1,)], (R, S), ''),
        ('dot', dict(transpose_a=True), [(1, 3), (1, 4)], (R, S), ''),
        ('FullyConnected', dict(num_hidden=3), [(2, 4), (3, 4), (3,)], (S, R, S), ''),
        ('FullyConnected', dict(num_hidden=3), [(1, 4), (3, 4), (3,)], (R, R, R), ''),
        ('tile', dict(reps='(2, 2)'), [(1, 4)], (R,), ''),
        ('tile', dict(reps='(2, 1, 1)'), [(1, 4)], (R,), ''),
        ('repeat', dict(repeats=2), [(1, 4)], (R,), ''),
    ],
)
def test_not_rowwise_frame_by_frame(op, attrs, shapes, rows, kinds):
    """A site that runs frame by frame has right gradients too; its nodes may run frame by frame as well."""
    # one frame is the tensor itself, whatever its leading size
    wide = any(row and shape[0] != 1 for row, shape in zip(rows, shapes))
    check(op, attrs, shapes, rows, kinds, frames=1 if wide else FRAMES, strict=False)


def test_split_with_an_unused_part():
    attrs = dict(num_outputs=3, axis=1)
    emit = check('SliceChannel', attrs, [(1, 6)], [R], used=[True, False, True])
    assert emit.ops.count('Concat') == 2  # one for each of the two times the gradient is built
    check(
        'SliceChannel', dict(num_outputs=2, axis=-1, squeeze_axis=True), [(1, 3, 2)], [R], used=[False, True]
    )


def test_join_slices():
    emit, whole = NumericEmit(), Val([mx.nd.ones((1, 9)) for _ in range(FRAMES)], 'row')
    pieces = [
        (begin, end, Val([mx.nd.full((1, end - begin), b + begin) for b in range(FRAMES)], 'row'))
        for begin, end in [(6, 8), (1, 3), (3, 4)]
    ]
    joined = join_slices(emit, whole, 1, pieces).stacked.asnumpy()
    for b in range(FRAMES):
        np.testing.assert_array_equal(joined[b], [0, 1 + b, 1 + b, 3 + b, 0, 0, 6 + b, 6 + b, 0])
    with pytest.raises(ValueError, match='overlap'):
        join_slices(emit, whole, 1, [(0, 3, pieces[0][2]), (2, 4, pieces[0][2])])


def test_cheap_forms():
    """The forms that were measured to be fast: no transpose of data for rows, no sum along axis 0."""
    emit = check('FullyConnected', dict(num_hidden=3), [(1, 4), (3, 4), (3,)], (R, S, S))
    assert 'sum' not in emit.ops and 'dot' in emit.ops  # dot: the bias alone
    emit = check('broadcast_add', {}, [(1, 4), (4,)], (R, S))
    assert 'sum' not in emit.ops


@pytest.mark.parametrize(
    'op,attrs,shapes,rows',
    [
        ('slice', dict(begin='(None, 3)', end='(None, 0)', step='(None, -1)'), [(1, 4)], (R,)),
        ('Activation', dict(act_type='mish'), [(1, 4)], (R,)),
        ('Pad', dict(mode='edge', pad_width='(0, 0, 0, 0, 1, 1, 0, 0)'), [(1, 1, 2, 2)], (R,)),
        ('take', dict(axis=1), [(1, 4), (2,)], (R, S)),
        ('no_such_operator', {}, [(1, 4)], (R,)),
    ],
)
def test_uses_without_a_rule_say_so(op, attrs, shapes, rows):
    site = Site(op, attrs, tuple(shapes), rows, (shapes[0],))
    values = [
        Val([mx.nd.ones(shape)] * (FRAMES if row else 1), 'row' if row else 'shared')
        for shape, row in zip(shapes, rows)
    ]
    with pytest.raises(NotImplementedError, match='no gradient rule for'):
        gradient(site, NumericEmit(), values, values[:1], values[:1], [True] * len(shapes))


def test_zero_output_gradient_and_unwanted_inputs():
    site = Site('broadcast_mul', {}, ((1, 4), (1, 4)), (True, True), ((1, 4),))
    value = Val([mx.nd.ones((1, 4))] * FRAMES, 'row')
    assert gradient(site, NumericEmit(), [value] * 2, [value], [None], [True, True]) == [None, None]
    assert gradient(site, NumericEmit(), [value] * 2, [value], [value], [False, False]) == [None, None]


@given(st.data())
def test_random_broadcasts(data):
    rank = data.draw(st.integers(1, 4))
    full = (1,) + tuple(data.draw(st.lists(st.integers(1, 3), min_size=rank - 1, max_size=rank - 1)))
    shape = tuple(extent if data.draw(st.booleans()) else 1 for extent in full)
    row = data.draw(st.booleans())
    shape = shape if row else shape[data.draw(st.integers(0, rank - 1)) :]
    op = data.draw(st.sampled_from(['broadcast_mul', 'broadcast_div', 'broadcast_maximum', 'broadcast_sub']))
    pair = [(full, True), (shape, row)]
    if data.draw(st.booleans()):
        pair.reverse()
    check(op, {}, [pair[0][0], pair[1][0]], [pair[0][1], pair[1][1]], 'pp')


@given(st.data())
def test_random_fully_connected(data):
    middle = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    features, units = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    flatten, no_bias = data.draw(st.booleans()), data.draw(st.booleans())
    shape = (1,) + middle + (features,)
    width = int(np.prod(shape)) if flatten else features
    shapes = [shape, (units, width)] + ([] if no_bias else [(units,)])
    attrs = dict(num_hidden=units, flatten=flatten, no_bias=no_bias)
    check('FullyConnected', attrs, shapes, [R] + [S] * (len(shapes) - 1))
    check('FullyConnected', attrs, shapes, [S] * len(shapes))


@given(st.data())
def test_random_reductions(data):
    rank = data.draw(st.integers(2, 4))
    shape = (1,) + tuple(data.draw(st.lists(st.integers(1, 3), min_size=rank - 1, max_size=rank - 1)))
    axes = data.draw(st.lists(st.integers(1, rank - 1), unique=True, min_size=1))
    op = data.draw(st.sampled_from(['sum', 'mean', 'max', 'min', 'prod', 'nansum', 'norm']))
    attrs = dict(axis=tuple(axes)) if op != 'norm' or len(axes) < 3 else {}
    check(op, dict(attrs, keepdims=data.draw(st.booleans())), [shape], [R], 'p')
