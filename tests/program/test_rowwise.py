"""Row-wise rules: what `rowwise` says runs at once must equal, row for row, runs frame by frame."""

import ctypes

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from mxnet.base import _LIB, MXNetError, check_call
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

from recursive_gluon.program.rules.rowwise import RULES, Batch, rowwise
from recursive_gluon.program.rules.site import Site, flag, integer, numbers


def run_batched(op, attrs, rows, values, frames=FRAMES):
    """(Batch or reason, outputs of the run at once, outputs of the frame-by-frame runs)."""
    singles = [invoke(op, [frame(v, r, b) for v, r in zip(values, rows)], attrs) for b in range(frames)]
    site = Site(
        op,
        strings(attrs),
        tuple(frame(v, r, 0).shape for v, r in zip(values, rows)),
        tuple(rows),
        tuple(out.shape for out in singles[0]),
    )
    batch = rowwise(site)
    if isinstance(batch, str):
        return batch, None, singles
    values = [mx.nd.concat(*[v] * frames, dim=0) if i in batch.spread else v for i, v in enumerate(values)]
    return batch, invoke(batch.op, values, batch.attrs), singles


def check(op, attrs, shapes, rows, kinds='', seed=0, dtype='float64'):
    rng = np.random.default_rng(seed)
    kinds = kinds or 'f' * len(shapes)
    values = [draw(rng, s, k, FRAMES if r else 1, dtype) for s, k, r in zip(shapes, kinds, rows)]
    batch, outs, singles = run_batched(op, attrs, rows, values)
    assert isinstance(batch, Batch), batch
    tolerance = {'float64': 1e-12, 'float32': 2e-6, 'float16': 5e-3}[dtype]
    assert len(outs) == len(singles[0])
    for k, out in enumerate(outs):
        assert out.shape == (FRAMES,) + singles[0][k].shape[1:], (op, attrs, shapes, batch)
        assert out.dtype == singles[0][k].dtype
        expected = np.concatenate([single[k].asnumpy() for single in singles])
        np.testing.assert_allclose(
            out.asnumpy(), expected, rtol=tolerance, atol=tolerance, err_msg=f'{op} {batch}'
        )
    return batch


def test_names_are_those_of_symbol_json():
    for op in RULES:
        name = [
            ctypes.c_char_p(),
            ctypes.c_char_p(),
            ctypes.c_uint(),
            ctypes.POINTER(ctypes.c_char_p)(),
            ctypes.POINTER(ctypes.c_char_p)(),
            ctypes.POINTER(ctypes.c_char_p)(),
            ctypes.c_char_p(),
            ctypes.c_char_p(),
        ]
        check_call(
            _LIB.MXSymbolGetAtomicSymbolInfo(
                ctypes.c_void_p(handle(op)), *[ctypes.byref(part) for part in name]
            )
        )
        assert name[0].value.decode() == op


@pytest.mark.parametrize('dtype', ['float64', 'float32'])
@pytest.mark.parametrize('op', PLAIN_UNARY)
def test_unary(op, dtype):
    for shape in [(1,), (1, 5), (1, 2, 3)]:
        check(op, {}, [shape], [R], UNARY_DOMAIN.get(op, 'f'), dtype=dtype)


@pytest.mark.parametrize('op', ['tanh', 'sigmoid'])
def test_fast_equal_keeps_special_values(op):
    value = mx.nd.array([[np.nan, np.inf, -np.inf, 0, -0.0, 1e-30, 800, -800]])
    for dtype in ('float32', 'float64', 'float16'):
        x = value.astype(dtype)
        site = Site(op, {}, (x.shape,), (True,), (x.shape,))
        batch = rowwise(site)
        np.testing.assert_allclose(
            invoke(batch.op, [x], batch.attrs)[0].asnumpy(),
            invoke(op, [x], {})[0].asnumpy(),
            rtol=1e-3 if dtype == 'float16' else 1e-6,
        )


@pytest.mark.parametrize('op', SCALARS)
def test_scalar(op):
    check(op, {'scalar': 1.5}, [(1, 5)], [R], 'p')


@pytest.mark.parametrize('op', BINARY)
@pytest.mark.parametrize('rows', [(R, R), (R, S), (S, R)])
def test_elementwise(op, rows):
    for shape in [(1,), (1, 4), (1, 2, 3)]:
        check(op, {}, [shape, shape], rows, 'pp' if op == '_power' else 'ff')
    check(op, {}, [(1, 30), (1, 30)], rows, 'ii' if op != '_power' else 'pp')


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
    ],
)
def test_broadcast(op, shapes, rows):
    check(op, {}, shapes, rows, 'pp')


@pytest.mark.parametrize(
    'op,attrs,shapes,rows,kinds', OTHERS, ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else ''
)
def test_batched_equals_frame_by_frame(op, attrs, shapes, rows, kinds):
    check(op, attrs, shapes, rows, kinds, dtype='float32' if op in SINGLE_ONLY else 'float64')


def test_mixed_precision():
    check('amp_cast', dict(dtype='float16'), [(1, 5)], [R], dtype='float32')
    check('amp_multicast', dict(num_outputs=2), [(1, 4), (1, 2)], [R, R], dtype='float32')


REFUSED = [
    ('softmax', {}, [(1,)], (R,), 'batch axis'),
    ('softmax', dict(axis=0), [(1, 4)], (R,), 'batch axis'),
    ('mean', dict(axis=0), [(1, 4)], (R,), 'batch axis'),
    ('sum', dict(axis=1, exclude=True), [(1, 4)], (R,), 'batch axis'),
    ('sum', {}, [(2, 4)], (R,), 'shape (2, 4)'),
    ('Concat', dict(dim=0, num_args=2), [(1, 4), (1, 4)], (R, R), 'axis 0'),
    ('Concat', dict(dim=-2, num_args=2), [(1, 4), (1, 4)], (R, R), 'axis 0'),
    ('stack', dict(axis=0, num_args=2), [(1, 4), (1, 4)], (R, R), 'axis 0'),
    ('stack', dict(num_args=1), [(1, 4)], (R,), 'axis 0'),
    ('Reshape', dict(shape='(2, 2)'), [(1, 4)], (R,), 'leading axis of 1'),
    ('Reshape', dict(shape='(-1,)'), [(1, 4)], (R,), 'leading axis of 1'),
    ('transpose', {}, [(1, 4)], (R,), 'batch axis'),
    ('SwapAxis', dict(dim1=0, dim2=1), [(1, 4)], (R,), 'batch axis'),
    ('squeeze', dict(axis=0), [(1, 4)], (R,), 'batch axis'),
    ('squeeze', {}, [(1, 4)], (R,), 'batch axis'),
    ('BatchNorm', {}, [(1, 4)] + [(4,)] * 4, (R, S, S, S, S), 'normalises over the batch'),
    ('Dropout', dict(p=0.5), [(1, 4)], (R,), 'random'),
    ('LeakyReLU', dict(act_type='rrelu'), [(1, 4)], (R,), 'random'),
    ('FullyConnected', dict(num_hidden=1, no_bias=True), [(1, 4), (1, 4)], (R, R), 'weight'),
    ('FullyConnected', dict(num_hidden=1, no_bias=True), [(1, 4), (1, 4)], (S, R), 'weight'),
    ('FullyConnected', dict(num_hidden=1, flatten=False, no_bias=True), [(1,), (1, 1)], (R, S), 'batch axis'),
    ('dot', {}, [(1, 1), (1, 3)], (R, R), 'batch_dot'),
    ('dot', dict(transpose_a=True), [(1, 1), (1, 3)], (R, S), 'transpose_a'),
    ('dot', {}, [(1,), (1, 3)], (R, S), 'batch axis'),
    ('broadcast_add', {}, [(1,), (1, 4)], (R, R), 'batch axis'),
    ('broadcast_add', {}, [(1,), (1, 4)], (R, S), 'batch axis'),
    ('broadcast_add', {}, [(1, 4), (3, 4)], (R, S), 'leading axis of 1'),
    ('where', {}, [(3,), (3, 4), (3, 4)], (S, R, S), 'leading axis of 1'),
    ('batch_dot', {}, [(2, 3, 4), (2, 4, 5)], (R, S), 'leading axis of 1'),
    ('take', dict(axis=1), [(1, 4), (1,)], (S, R), 'axis 1'),
    ('take', {}, [(1, 4), (1,)], (R, S), 'batch axis'),
    ('pick', dict(axis=0), [(1, 4), (4,)], (R, S), 'batch axis'),
    ('Embedding', dict(input_dim=1, output_dim=3), [(1,), (1, 3)], (R, R), 'weight'),
    ('SliceChannel', dict(num_outputs=1, axis=0), [(1, 4)], (R,), 'axis 0'),
    ('tile', dict(reps='(2, 1, 1)'), [(1, 4)], (R,), 'axis 0'),
    ('tile', dict(reps='(2, 1)'), [(1, 4)], (R,), 'leading axis of 1'),
    ('repeat', dict(repeats=2), [(1, 4)], (R,), 'axis 0'),
    ('argmax', {}, [(1, 4, 2)], (R,), 'batch axis'),
    ('argmax', dict(axis=0), [(1, 4)], (R,), 'batch axis'),
    ('LayerNorm', dict(axis=0), [(1, 4), (1,), (1,)], (R, S, S), 'batch axis'),
    ('LayerNorm', {}, [(1, 4), (4,), (4,)], (S, R, S), 'leading axis'),
    ('Convolution', dict(kernel='(1,)', num_filter=1, no_bias=1), [(1, 1, 4), (1, 1, 1)], (R, R), 'weight'),
    ('SequenceReverse', {}, [(1, 1, 4)], (R,), 'time axis'),
    ('broadcast_axis', dict(axis=0, size=3), [(1, 4)], (R,), 'leading axis of 1'),
    ('tile', dict(reps='(2, 2, 2)'), [(1, 1, 2, 2)], (R,), 'groups of axes'),
    ('sum', dict(axis='(1, 3, 5)'), [(1, 2, 2, 2, 2, 2)], (R,), 'groups of axes'),
    ('broadcast_add', {}, [(1, 2, 1, 2, 1, 2), (1, 1, 2, 1, 2, 1)], (R, R), 'groups of axes'),
    ('shape_array', {}, [(1, 4)], (R,), 'no row-wise rule for operator shape_array'),
]


@pytest.mark.parametrize(
    'op,attrs,shapes,rows,reason', REFUSED, ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else ''
)
def test_refused(op, attrs, shapes, rows, reason):
    outs = invoke(op, [mx.nd.zeros(shape) for shape in shapes], attrs)
    site = Site(op, strings(attrs), tuple(shapes), rows, tuple(out.shape for out in outs))
    answer = rowwise(site)
    assert isinstance(answer, str) and reason in answer


@pytest.mark.parametrize(
    'spelling,value',
    [
        ('(1, 2)', (1, 2)),
        ('[1,2]', (1, 2)),
        ('1', (1,)),
        ('(1,)', (1,)),
        ('(None, -1)', (None, -1)),
        ('None', None),
        ('()', ()),
        ('(1L, 2L)', (1, 2)),
        ('[]', ()),
    ],
)
def test_spellings_of_shapes(spelling, value):
    assert numbers({'x': spelling}, 'x') == value


def test_spellings_of_scalars():
    assert [flag({'x': text}, 'x') for text in ('True', '1', 'true', 'False', '0')] == [True] * 3 + [
        False
    ] * 2
    assert flag({}, 'x', True) and integer({'x': '(3,)'}, 'x') == 3 and integer({'x': 'None'}, 'x', 2) is None


def random_use(data):
    """(operator, attributes) at random, not always a valid one."""
    draw_one = data.draw
    axis = st.integers(-4, 3)
    axes = st.lists(axis, max_size=3, unique=True).map(tuple)
    entry = st.one_of(st.none(), st.integers(-2, 3))
    op = draw_one(
        st.sampled_from(
            [
                'transpose',
                'SwapAxis',
                'sum',
                'mean',
                'max',
                'norm',
                'prod',
                'squeeze',
                'expand_dims',
                'slice',
                'slice_axis',
                'Reshape',
                'reverse',
                'tile',
                'repeat',
                'argmax',
                'softmax',
                'SliceChannel',
                'broadcast_axis',
                'Flatten',
                'log_softmax',
                'topk',
            ]
        )
    )
    if op == 'transpose':
        return op, dict(axes=tuple(draw_one(st.permutations(range(draw_one(st.integers(1, 4)))))))
    if op == 'SwapAxis':
        return op, dict(dim1=draw_one(st.integers(0, 3)), dim2=draw_one(st.integers(0, 3)))
    if op in ('sum', 'mean', 'max', 'prod'):
        return op, dict(
            axis=draw_one(axes), keepdims=draw_one(st.booleans()), exclude=draw_one(st.booleans())
        )
    if op == 'norm':
        return op, dict(
            axis=draw_one(axes), keepdims=draw_one(st.booleans()), ord=draw_one(st.sampled_from([1, 2]))
        )
    if op in ('squeeze', 'reverse'):
        return op, dict(axis=draw_one(axes))
    if op == 'slice':
        part = st.lists(entry, min_size=1, max_size=3).map(tuple)
        return op, dict(begin=draw_one(part), end=draw_one(part))
    if op == 'slice_axis':
        return op, dict(axis=draw_one(axis), begin=draw_one(st.integers(0, 2)), end=draw_one(entry))
    if op == 'Reshape':
        codes = st.lists(st.sampled_from([0, -1, -2, -3, 1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)
        return op, dict(shape=draw_one(codes), reverse=draw_one(st.booleans()))
    if op == 'tile':
        return op, dict(reps=draw_one(st.lists(st.integers(1, 2), min_size=1, max_size=4).map(tuple)))
    if op == 'repeat':
        return op, dict(repeats=draw_one(st.integers(1, 2)), axis=draw_one(st.one_of(st.none(), axis)))
    if op == 'SliceChannel':
        return op, dict(
            num_outputs=draw_one(st.integers(1, 3)), axis=draw_one(axis), squeeze_axis=draw_one(st.booleans())
        )
    if op == 'broadcast_axis':
        return op, dict(axis=draw_one(axis), size=draw_one(st.integers(1, 3)))
    return op, {} if op == 'Flatten' else dict(axis=draw_one(axis))


@settings(max_examples=400)
@given(st.data())
def test_random_uses(data):
    """Whatever the attributes: refused, or equal to runs frame by frame."""
    op, attrs = random_use(data)
    shape = (1,) + tuple(data.draw(st.lists(st.integers(1, 3), max_size=3)))
    values = [mx.nd.array(np.random.default_rng(0).uniform(0.3, 2, (FRAMES,) + shape[1:]), dtype='float64')]
    try:
        invoke(op, [values[0][:1]], attrs)[0].wait_to_read()
        batch, outs, singles = run_batched(op, attrs, [R], values)
    except (MXNetError, ValueError):
        reject()  # MXNet does not accept the use for one node
    if isinstance(batch, str):
        assert len(batch.split()) > 3
        return
    for k, out in enumerate(outs):
        assert out.shape == (FRAMES,) + singles[0][k].shape[1:]
        np.testing.assert_allclose(
            out.asnumpy(), np.concatenate([single[k].asnumpy() for single in singles]), rtol=1e-12
        )
