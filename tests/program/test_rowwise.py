"""Row-wise rules: what `rowwise` says runs at once must equal, row for row, runs frame by frame."""
import ctypes

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, strategies as st
from mxnet.base import _LIB, check_call
from rule_cases import (BINARY, BROADCAST, FRAMES, OTHERS, PLAIN_UNARY, SCALARS, SINGLE_ONLY, UNARY_DOMAIN, R, S, draw, frame,
                        handle, invoke, strings)

from recursive_gluon.program.rules.rowwise import RULES, Batch, rowwise
from recursive_gluon.program.rules.site import Site, flag, integer, numbers


def run_batched(op, attrs, rows, values, frames=FRAMES):
    """(Batch or reason, outputs of the run at once, outputs of the frame-by-frame runs)."""
    singles = [invoke(op, [frame(v, r, b) for v, r in zip(values, rows)], attrs) for b in range(frames)]
    site = Site(op, strings(attrs), tuple(frame(v, r, 0).shape for v, r in zip(values, rows)), tuple(rows),
                tuple(out.shape for out in singles[0]))
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
        np.testing.assert_allclose(out.asnumpy(), expected, rtol=tolerance, atol=tolerance, err_msg='%s %s' % (op, batch))
    return batch


def test_names_are_those_of_symbol_json():
    for op in RULES:
        name = [ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_uint(), ctypes.POINTER(ctypes.c_char_p)(),
                ctypes.POINTER(ctypes.c_char_p)(), ctypes.POINTER(ctypes.c_char_p)(), ctypes.c_char_p(), ctypes.c_char_p()]
        check_call(_LIB.MXSymbolGetAtomicSymbolInfo(ctypes.c_void_p(handle(op)), *[ctypes.byref(part) for part in name]))
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
        np.testing.assert_allclose(invoke(batch.op, [x], batch.attrs)[0].asnumpy(), invoke(op, [x], {})[0].asnumpy(),
                                   rtol=1e-3 if dtype == 'float16' else 1e-6)


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
@pytest.mark.parametrize('shapes,rows', [
    ([(1, 4), (1, 4)], (R, R)), ([(1, 4), (1, 1)], (R, R)), ([(1, 4), (4,)], (R, S)), ([(4,), (1, 4)], (S, R)),
    ([(1, 4), (1,)], (R, S)), ([(1, 3, 4), (3, 1)], (R, S)), ([(1, 1, 4), (1, 3, 1)], (S, R)), ([(1,), (1,)], (R, S))])
def test_broadcast(op, shapes, rows):
    check(op, {}, shapes, rows, 'pp')


@pytest.mark.parametrize('op,attrs,shapes,rows,kinds', OTHERS, ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else '')
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
    ('shape_array', {}, [(1, 4)], (R,), 'no row-wise rule for operator shape_array'),
]


@pytest.mark.parametrize('op,attrs,shapes,rows,reason', REFUSED, ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else '')
def test_refused(op, attrs, shapes, rows, reason):
    outs = invoke(op, [mx.nd.zeros(shape) for shape in shapes], attrs)
    site = Site(op, strings(attrs), tuple(shapes), rows, tuple(out.shape for out in outs))
    answer = rowwise(site)
    assert isinstance(answer, str) and reason in answer
