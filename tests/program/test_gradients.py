"""Gradient rules against MXNet's own autograd, run frame by frame and summed over frames for shared inputs."""
import mxnet as mx
import numpy as np
import pytest
from mxnet.symbol.register import _symbol_creator
from rule_cases import (BINARY, BROADCAST, FRAMES, OTHERS, PLAIN_UNARY, SCALARS, SINGLE_ONLY, UNARY_DOMAIN, R, S, draw, frame,
                        handle, invoke, strings)

from recursive_gluon.program.rules.gradients import HAS_RULE, gradient, join_slices, reduce_to
from recursive_gluon.program.rules.rowwise import Batch, rowwise
from recursive_gluon.program.rules.site import Site

BUILT = set()


def check_buildable(op, attrs, count):
    """A CachedOp must take the operator: it asks each for a gradient of its own."""
    key = (op, tuple(sorted(attrs.items())), count)
    if key not in BUILT:
        variables = [mx.sym.var('v%d' % i) for i in range(count)]
        symbol = _symbol_creator(handle(op), variables, None, list(attrs), list(attrs.values()), 'node', False)
        mx.nd.CachedOp(symbol) if hasattr(mx.nd, 'CachedOp') else mx._ctypes.ndarray.CachedOp(symbol)
        BUILT.add(key)


class Val:
    def __init__(self, array, kind):
        self.array, self.kind = array, kind     # kind: 'row', 'shared', or 'total' for what over_rows gives


class NumericEmit:
    """Runs each node at once on stacked rows."""

    def __init__(self, rowwise_site=True):
        self.rowwise_site, self.ops = rowwise_site, []

    def shape(self, value):
        shape = value.array.shape
        return (1,) + shape[1:] if value.kind == 'row' else shape

    def dtype(self, value):
        return np.dtype(value.array.dtype).name

    def row(self, op, *values, **attrs):
        assert all(isinstance(v, str) for v in attrs.values())
        self.ops.append(op)
        check_buildable(op, attrs, len(values))
        rows = tuple(v.kind == 'row' for v in values)
        if any(rows):
            assert all(v.kind != 'total' for v in values), 'a sum over rows feeds a per-frame node'
            shapes = tuple(self.shape(v) for v in values)
            outs = invoke(op, [v.array[:1] if r else v.array for v, r in zip(values, rows)], attrs)
            batch = rowwise(Site(op, attrs, shapes, rows, tuple(out.shape for out in outs)))
            assert isinstance(batch, Batch), (op, attrs, shapes, rows, batch)
            arrays = [mx.nd.concat(*[v.array] * FRAMES, dim=0) if i in batch.spread else v.array for i, v in enumerate(values)]
            return Val(invoke(batch.op, arrays, batch.attrs)[0], 'row')
        kind = 'total' if any(v.kind == 'total' for v in values) else 'shared'
        return Val(invoke(op, [v.array for v in values], attrs)[0], kind)

    def over_rows(self, op, *values, **attrs):
        assert all(isinstance(v, str) for v in attrs.values())
        self.ops.append(op)
        arrays = [v.array for v in values]
        if op == '_rg_embedding_grad':
            assert set(attrs) == {'input_dim', 'output_dim', 'sparse_grad', 'dtype'}
            total = np.zeros((int(attrs['input_dim']), int(attrs['output_dim'])), arrays[1].dtype)
            index = np.clip(arrays[0].asnumpy().astype(int).ravel(), 0, len(total) - 1)
            np.add.at(total, index, arrays[1].asnumpy().reshape(-1, total.shape[1]))
            return Val(mx.nd.array(total, dtype=total.dtype), 'total')
        check_buildable(op, attrs, len(values))
        return Val(invoke(op, arrays, attrs)[0], 'total')


def reference(op, attrs, rows, values, heads, used):
    """Gradients by autograd, frame by frame."""
    frames = FRAMES if any(rows) else 1
    index = {'Embedding': 0, 'take': 1}.get(op)         # MXNet gives its indices no gradient
    requests = ['null' if i == index else 'write' if row else 'add' for i, row in enumerate(rows)]
    for value, request in zip(values, requests):
        value.attach_grad(request)
    grads = [[] for _ in values]
    for b in range(frames):
        inputs = [frame(v, r, b).copy() if r else v for v, r in zip(values, rows)]
        for value, row, request in zip(inputs, rows, requests):
            if row:
                value.attach_grad(request)
        with mx.autograd.record():
            outs = invoke(op, inputs, attrs)
        picked = [k for k in range(len(outs)) if used[k]]
        mx.autograd.backward([outs[k] for k in picked], [frame(heads[k], any(rows), b) for k in picked])
        for i, (value, row) in enumerate(zip(inputs, rows)):
            if row:
                grads[i].append(np.zeros(value.shape) if i == index else value.grad.asnumpy())
    return [np.concatenate(grads[i]) if row else np.zeros(values[i].shape) if i == index else values[i].grad.asnumpy()
            for i, row in enumerate(rows)]


def close(got, expected, dtype):
    if not np.isfinite(expected).all():
        return np.allclose(got, expected, rtol=1e-6, equal_nan=True)
    return np.linalg.norm(got - expected) <= {'float64': 1e-9, 'float32': 1e-5}[dtype] * max(1, np.linalg.norm(expected))


def check(op, attrs, shapes, rows, kinds='', dtype='float64', seed=0, used=None, values=None):
    rng = np.random.default_rng(seed)
    kinds = kinds or 'f' * len(shapes)
    if values is None:
        values = [draw(rng, s, k, FRAMES if r else 1, dtype) for s, k, r in zip(shapes, kinds, rows)]
    row = any(rows)
    outs = invoke(op, [frame(v, r, 0) for v, r in zip(values, rows)], attrs)
    site = Site(op, strings(attrs), tuple(tuple(s) for s in shapes), tuple(rows), tuple(out.shape for out in outs))
    used = used or [True] + [op in ('SliceChannel', '_split_v2')] * (len(outs) - 1)
    heads = [draw(rng, out.shape, 'f', FRAMES if row else 1, np.dtype(out.dtype).name) for out in outs]
    expected = reference(op, attrs, rows, values, heads, used)
    emit = NumericEmit()
    inputs = [Val(v, 'row' if r else 'shared') for v, r in zip(values, rows)]
    frames = [invoke(op, [frame(v, r, b) for v, r in zip(values, rows)], attrs) for b in range(FRAMES if row else 1)]
    kind = 'row' if row else 'shared'
    outputs = [Val(mx.nd.concat(*[f[k] for f in frames], dim=0) if row else frames[0][k], kind) for k in range(len(outs))]
    ograds = [Val(head, kind) if use else None for head, use in zip(heads, used)]
    everything = gradient(site, emit, inputs, outputs, ograds, [True] * len(shapes))
    for i in range(len(shapes)):
        alone = gradient(site, emit, inputs, outputs, ograds, [j == i for j in range(len(shapes))])
        assert all(alone[j] is None for j in range(len(shapes)) if j != i)
        for value in (everything[i], alone[i]):
            if value is None:
                assert not np.any(expected[i]), 'input %d of %s has a gradient' % (i, op)
                continue
            got = value.array.asnumpy()
            assert got.dtype == expected[i].dtype
            assert value.kind == 'row' if rows[i] else value.kind in ('shared', 'total')
            assert got.shape == expected[i].shape, (op, attrs, shapes, rows, i)
            assert close(got, expected[i], dtype), (op, attrs, shapes, rows, i, got, expected[i])
    return emit


def variants(op, attrs, shapes, rows, kinds=''):
    check(op, attrs, shapes, rows, kinds)
    check(op, attrs, shapes, [False] * len(shapes), kinds)
    check(op, attrs, shapes, rows, kinds, dtype='float32')


UNCOVERED = {'gamma', 'gammaln', 'sort', 'topk', 'batch_take', 'moments', 'LRN', 'InstanceNorm', 'GroupNorm', 'Convolution',
             'Deconvolution', 'Pooling', 'SoftmaxActivation', 'amp_multicast'}


def covered(cases):
    return [case for case in cases if not case[0].startswith('_backward_') and case[0] not in UNCOVERED
            and not (case[0] == 'take' and case[3][0])
            and not (case[0] == 'slice' and case[1].get('step') == '(1, -1)')]


@pytest.mark.parametrize('op', sorted(UNCOVERED))
def test_uncovered_have_no_rule(op):
    assert not HAS_RULE(op)


@pytest.mark.parametrize('op', [op for op in PLAIN_UNARY if op not in UNCOVERED])
def test_unary(op):
    for shape in [(1,), (1, 5), (1, 2, 3)]:
        variants(op, {}, [shape], [R], UNARY_DOMAIN.get(op, 'f'))
    if UNARY_DOMAIN.get(op, 'f') == 'f':
        check(op, {}, [(1, 5)], [R], 'i')       # zeros, where many have an edge


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
        check(op, {}, [(1, 30), (1, 30)], rows, 'ii')       # ties


@pytest.mark.parametrize('op', BROADCAST)
@pytest.mark.parametrize('shapes,rows', [
    ([(1, 4), (1, 4)], (R, R)), ([(1, 4), (1, 1)], (R, R)), ([(1, 4), (4,)], (R, S)), ([(4,), (1, 4)], (S, R)),
    ([(1, 4), (1,)], (R, S)), ([(1, 3, 4), (3, 1)], (R, S)), ([(1, 1, 4), (1, 3, 1)], (S, R)), ([(1,), (1,)], (R, S)),
    ([(1, 1), (4,)], (R, S)), ([(1, 1), (1, 4)], (R, S)), ([(1, 3, 4), (1, 4)], (R, S))])
def test_broadcast(op, shapes, rows):
    variants(op, {}, shapes, rows, 'pp')


@pytest.mark.parametrize('op,attrs,shapes,rows,kinds', covered(OTHERS),
                         ids=lambda v: str(v) if isinstance(v, (str, dict, list)) else '')
def test_others(op, attrs, shapes, rows, kinds):
    if not HAS_RULE(op):
        pytest.fail('no gradient rule for %s' % op)
    if op not in SINGLE_ONLY:
        check(op, attrs, shapes, rows, kinds)
        check(op, attrs, shapes, [False] * len(shapes), kinds)
    check(op, attrs, shapes, rows, kinds, dtype='float32')
