"""Uses of operators on which the row-wise and the gradient rules are tried, and how to run them."""

import ctypes

import mxnet as mx
from mxnet.base import _LIB, check_call
from mxnet.ndarray.register import _imperative_invoke

from recursive_gluon.program.rules.rowwise import RULES

FRAMES = 3
R, S = True, False  # a row input, a shared input


def handle(op):
    found = ctypes.c_void_p()
    check_call(_LIB.NNGetOpHandle(ctypes.c_char_p(op.encode()), ctypes.byref(found)))
    return found.value


def invoke(op, inputs, attrs):
    """Run an operator by its Symbol JSON name; a list of outputs."""
    outs = _imperative_invoke(
        handle(op), list(inputs), list(attrs), [str(v) for v in attrs.values()], None, False, False
    )
    return list(outs) if isinstance(outs, (list, tuple)) else [outs]


def strings(attrs):
    return {key: str(value) for key, value in attrs.items()}


def draw(rng, shape, kind, frames=1, dtype='float64'):
    """Values for an input, of one kind.

    'f' real, 'p' positive, 'u' within (-1, 1), 'g' above 1, 'i' small whole numbers, 'n' as int32, 'b' 0 or
    1.
    """
    shape = (frames * shape[0],) + tuple(shape[1:]) if frames > 1 else tuple(shape)
    value = {
        'f': lambda: rng.standard_normal(shape),
        'p': lambda: rng.uniform(0.3, 2, shape),
        'u': lambda: rng.uniform(-0.9, 0.9, shape),
        'g': lambda: rng.uniform(1.1, 3, shape),
        'i': lambda: rng.integers(0, 4, shape),
        'n': lambda: rng.integers(0, 4, shape),
        'b': lambda: rng.integers(0, 2, shape),
    }[kind]()
    return mx.nd.array(value, dtype='int32' if kind == 'n' else dtype)


def frame(value, row, index):
    return value[index : index + 1] if row else value


UNARY_DOMAIN = {
    'arccosh': 'g',
    'arcsin': 'u',
    'arccos': 'u',
    'arctanh': 'u',
    'erfinv': 'u',
    'log': 'p',
    'log2': 'p',
    'log10': 'p',
    'log1p': 'p',
    'sqrt': 'p',
    'rsqrt': 'p',
    'cbrt': 'p',
    'rcbrt': 'p',
    'gamma': 'p',
    'gammaln': 'p',
    'reciprocal': 'p',
}
PLAIN_UNARY = '''
    abs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees erf erfinv exp expm1 fix
    floor gamma gammaln hard_sigmoid log log10 log1p log2 logical_not negative radians rcbrt reciprocal
    relu rint round rsqrt sign sin sinh softsign sqrt square tan tanh sigmoid trunc smooth_l1 _copy
    BlockGrad make_loss zeros_like ones_like
'''.split()
SCALARS = [op for op in RULES if op.endswith('_scalar')]
BINARY = [
    'elemwise_add',
    'elemwise_sub',
    'elemwise_mul',
    'elemwise_div',
    '_power',
    '_maximum',
    '_minimum',
    '_mod',
    '_hypot',
    '_equal',
    '_not_equal',
    '_greater',
    '_greater_equal',
    '_lesser',
    '_lesser_equal',
    '_logical_and',
    '_logical_or',
    '_logical_xor',
]
BROADCAST = [
    op
    for op in RULES
    if op.startswith('broadcast_') and op not in ('broadcast_to', 'broadcast_axis', 'broadcast_like')
]

# operator, attributes, per-frame shapes, rows, kinds of values (see `draw`)
OTHERS = [
    ('clip', dict(a_min=-0.5, a_max=0.5), [(1, 5)], (R,), ''),
    ('Cast', dict(dtype='float32'), [(1, 5)], (R,), ''),
    ('Activation', dict(act_type='softrelu'), [(1, 5)], (R,), ''),
    ('Activation', dict(act_type='relu'), [(1, 5)], (R,), ''),
    ('LeakyReLU', dict(act_type='leaky', slope=0.1), [(1, 5)], (R,), ''),
    ('LeakyReLU', dict(act_type='elu', slope=0.3), [(1, 5)], (R,), ''),
    ('LeakyReLU', dict(act_type='selu'), [(1, 5)], (R,), ''),
    ('LeakyReLU', dict(act_type='gelu'), [(1, 5)], (R,), ''),
    ('LeakyReLU', dict(act_type='prelu'), [(1, 5), (5,)], (R, S), ''),
    ('LeakyReLU', dict(act_type='prelu'), [(1, 5), (1,)], (R, S), ''),
    ('add_n', dict(num_args=3), [(1, 4)] * 3, (R, S, R), ''),
    ('add_n', dict(num_args=2), [(1, 4)] * 2, (R, S), ''),
    ('where', {}, [(1, 4)] * 3, (R, R, R), 'bff'),
    ('where', {}, [(1, 4)] * 3, (R, S, S), 'bff'),
    ('where', {}, [(1,), (1, 4), (1, 4)], (R, S, R), 'bff'),
    ('where', {}, [(1,), (1, 4), (1, 4)], (S, R, R), 'bff'),
    ('where', {}, [(1, 4)] * 3, (S, R, R), 'bff'),
    ('FullyConnected', dict(num_hidden=3), [(1, 4), (3, 4), (3,)], (R, S, S), ''),
    ('FullyConnected', dict(num_hidden=3), [(1, 2, 4), (3, 8), (3,)], (R, S, S), ''),
    ('FullyConnected', dict(num_hidden=3, flatten=False, no_bias=True), [(1, 2, 4), (3, 4)], (R, S), ''),
    ('dot', {}, [(1, 4), (4, 3)], (R, S), ''),
    ('dot', {}, [(1, 2, 4), (4, 3)], (R, S), ''),
    ('dot', dict(transpose_b=True), [(1, 4), (3, 4)], (R, S), ''),
    ('dot', dict(transpose_b=1), [(1, 2, 4), (3, 4)], (R, S), ''),
    ('batch_dot', {}, [(1, 2, 3), (1, 3, 4)], (R, R), ''),
    ('batch_dot', dict(transpose_a=True), [(1, 3, 2), (1, 3, 4)], (S, R), ''),
    ('batch_dot', dict(transpose_b=True), [(1, 2, 3), (1, 4, 3)], (R, S), ''),
    ('Embedding', dict(input_dim=4, output_dim=3), [(1,), (4, 3)], (R, S), 'if'),
    ('Embedding', dict(input_dim=4, output_dim=3), [(1, 2), (4, 3)], (R, S), 'if'),
    ('take', {}, [(4, 3), (1,)], (S, R), 'fi'),
    ('take', dict(axis=0, mode='wrap'), [(3, 2, 2), (1, 2)], (S, R), 'fi'),
    ('take', dict(axis=1), [(1, 5), (2,)], (R, S), 'fi'),
    ('take', dict(axis=-1), [(1, 2, 5), (2, 2)], (R, S), 'fi'),
    ('pick', dict(axis=1), [(1, 5), (1,)], (R, R), 'fi'),
    ('pick', dict(axis=-1, keepdims=True), [(1, 5), (1, 1)], (R, S), 'fi'),
    ('pick', dict(axis=1), [(1, 4, 2), (1, 2)], (S, R), 'fi'),
    ('batch_take', {}, [(1, 4), (1,)], (R, R), 'fn'),
    ('one_hot', dict(depth=5), [(1,)], (R,), 'i'),
    ('one_hot', dict(depth=5), [(1, 2)], (R,), 'i'),
    ('Concat', dict(dim=1, num_args=3), [(1, 2), (1, 3), (1, 2)], (R, S, R), ''),
    ('Concat', dict(dim=-1, num_args=2), [(1, 2, 2), (1, 2, 3)], (S, R), ''),
    ('stack', dict(axis=1, num_args=2), [(1, 2)] * 2, (R, S), ''),
    ('stack', dict(axis=-1, num_args=2), [(1, 2)] * 2, (R, R), ''),
    ('SliceChannel', dict(num_outputs=2, axis=1), [(1, 4)], (R,), ''),
    ('SliceChannel', dict(num_outputs=2, axis=-1, squeeze_axis=True), [(1, 3, 2)], (R,), ''),
    ('_split_v2', dict(indices=(0, 1, 2), axis=1, squeeze_axis=False), [(1, 4)], (R,), ''),
    ('slice_axis', dict(axis=1, begin=1, end=3), [(1, 4)], (R,), ''),
    ('slice_axis', dict(axis=-1, begin=-2, end=None), [(1, 2, 4)], (R,), ''),
    ('slice_axis', dict(axis=0, begin=0, end=1), [(1, 4)], (R,), ''),
    ('slice', dict(begin='(None, 1)', end='(None, 3)'), [(1, 4)], (R,), ''),
    ('slice', dict(begin='(0, 1)', end='(1, None)'), [(1, 4)], (R,), ''),
    ('slice', dict(begin='(0, 3)', end='(1, 0)', step='(1, -1)'), [(1, 4)], (R,), ''),
    ('slice', dict(begin='(0,)', end='(1,)'), [(1, 4)], (R,), ''),
    ('slice', dict(begin='[-1]', end='[None]'), [(1, 4)], (R,), ''),
    ('slice_like', dict(axes='(1,)'), [(1, 5), (1, 3)], (R, S), ''),
    ('slice_like', {}, [(1, 5), (1, 3)], (R, R), ''),
    ('Reshape', dict(shape='(1, -1)'), [(1, 2, 3)], (R,), ''),
    ('Reshape', dict(shape='(0, -1)'), [(1, 2, 3)], (R,), ''),
    ('Reshape', dict(shape='(-1, 0)'), [(1, 6)], (R,), ''),
    ('Reshape', dict(shape='(-3, 0)'), [(1, 1, 3)], (R,), ''),
    ('Reshape', dict(shape='(0, -4, 2, -1)'), [(1, 6)], (R,), ''),
    ('Reshape', dict(shape='(-1, 0)', reverse=True), [(1, 2, 3, 4)][:0] or [(1, 4)], (R,), ''),
    ('Reshape', dict(shape='(1, 1, 6)'), [(1, 6)], (R,), ''),
    ('reshape_like', {}, [(1, 6), (1, 2, 3)], (R, R), ''),
    ('reshape_like', {}, [(1, 6), (1, 2, 3)], (R, S), ''),
    ('reshape_like', {}, [(1, 6), (1, 2, 3)], (S, R), ''),
    ('reshape_like', dict(lhs_begin=1, rhs_begin=1), [(1, 6), (4, 2, 3)], (R, S), ''),
    ('Flatten', {}, [(1, 2, 3)], (R,), ''),
    ('Flatten', {}, [(1,)], (R,), ''),
    ('expand_dims', dict(axis=1), [(1, 3)], (R,), ''),
    ('expand_dims', dict(axis=-1), [(1, 3)], (R,), ''),
    ('expand_dims', dict(axis=0), [(1, 3)], (R,), ''),
    ('expand_dims', dict(axis=-1), [(1,)], (R,), ''),
    ('squeeze', dict(axis=1), [(1, 1, 3)], (R,), ''),
    ('squeeze', dict(axis='(0, 2)'), [(1, 1, 1, 3)], (R,), ''),
    ('squeeze', {}, [(1, 1)], (R,), ''),
    ('squeeze', dict(axis=0), [(1, 1, 3)], (R,), ''),
    ('transpose', dict(axes='(0, 2, 1)'), [(1, 2, 3)], (R,), ''),
    ('transpose', dict(axes='(1, 0, 2)'), [(1, 1, 3)], (R,), ''),
    ('transpose', {}, [(1, 1)], (R,), ''),
    ('transpose', dict(axes='(2, 1, 0, 3)'), [(1, 2, 1, 3)], (R,), ''),
    ('SwapAxis', dict(dim1=1, dim2=2), [(1, 2, 3)], (R,), ''),
    ('SwapAxis', dict(dim1=0, dim2=-1), [(1, 2, 1)], (R,), ''),
    ('reverse', dict(axis=1), [(1, 4)], (R,), ''),
    ('reverse', dict(axis='(0, 1)'), [(1, 4)], (R,), ''),
    ('tile', dict(reps='(1, 2)'), [(1, 3)], (R,), ''),
    ('tile', dict(reps='(2,)'), [(1, 3)], (R,), ''),
    ('repeat', dict(repeats=2, axis=1), [(1, 3)], (R,), ''),
    ('Pad', dict(mode='constant', pad_width='(0, 0, 0, 0, 1, 2, 0, 1)'), [(1, 2, 3, 3)], (R,), ''),
    ('softmax', {}, [(1, 4)], (R,), ''),
    ('softmax', dict(axis=1, temperature=2.0), [(1, 4, 2)], (R,), ''),
    ('softmax', dict(use_length=True, axis=-1), [(1, 4), (1,)], (R, R), 'fn'),
    ('log_softmax', dict(axis=-1), [(1, 4)], (R,), ''),
    ('softmin', {}, [(1, 4)], (R,), ''),
    ('SoftmaxActivation', {}, [(1, 4)], (R,), ''),
    ('LayerNorm', {}, [(1, 4), (4,), (4,)], (R, S, S), ''),
    ('LayerNorm', dict(axis=1), [(1, 4, 2), (4,), (4,)], (R, S, S), ''),
    ('InstanceNorm', {}, [(1, 2, 4), (2,), (2,)], (R, S, S), ''),
    ('GroupNorm', dict(num_groups=2), [(1, 4, 4), (4,), (4,)][:1] + [(2,), (2,)], (R, S, S), ''),
    ('L2Normalization', {}, [(1, 4)], (R,), ''),
    ('L2Normalization', dict(mode='channel'), [(1, 4, 2)], (R,), ''),
    ('LRN', dict(nsize=3), [(1, 4, 2, 2)], (R,), ''),
    (
        'BatchNorm',
        dict(use_global_stats=True, fix_gamma=False),
        [(1, 4)] + [(4,)] * 4,
        (R, S, S, S, S),
        'ffffp',
    ),
    ('Convolution', dict(kernel='(2,)', num_filter=2), [(1, 3, 5), (2, 3, 2), (2,)], (R, S, S), ''),
    ('Convolution', dict(kernel='(2, 2)', num_filter=2, no_bias=1), [(1, 3, 4, 4), (2, 3, 2, 2)], (R, S), ''),
    ('Deconvolution', dict(kernel='(2, 2)', num_filter=2), [(1, 3, 4, 4), (3, 2, 2, 2)], (R, S), ''),
    ('Pooling', dict(kernel='(2, 2)', pool_type='max'), [(1, 2, 4, 4)], (R,), ''),
    ('Pooling', dict(global_pool=True, pool_type='avg', kernel='(1,)'), [(1, 2, 4)], (R,), ''),
    ('sort', dict(axis=-1), [(1, 5)], (R,), ''),
    ('argsort', {}, [(1, 5)], (R,), ''),
    ('topk', dict(k=2, ret_typ='both'), [(1, 5)], (R,), ''),
    ('moments', dict(axes='(1,)'), [(1, 5)], (R,), ''),
    ('argmax', dict(axis=1), [(1, 5)], (R,), ''),
    ('argmax', {}, [(1, 5)], (R,), ''),
    ('argmin', dict(axis=-1, keepdims=True), [(1, 5)], (R,), ''),
    ('broadcast_to', dict(shape='(1, 4)'), [(1, 1)], (R,), ''),
    ('broadcast_to', dict(shape='(0, 4)'), [(1, 1)], (R,), ''),
    ('broadcast_axis', dict(axis=1, size=4), [(1, 1)], (R,), ''),
    ('broadcast_axis', dict(axis='(0, 2)', size='(1, 4)'), [(1, 2, 1)], (R,), ''),
    ('broadcast_like', {}, [(1, 1), (1, 4)], (R, R), ''),
    ('broadcast_like', {}, [(1, 1), (1, 4)], (R, S), ''),
    ('broadcast_like', {}, [(1, 1), (1, 4)], (S, R), ''),
    ('broadcast_like', dict(lhs_axes='(1,)', rhs_axes='(0,)'), [(1, 1), (4, 2)], (R, S), ''),
    ('depth_to_space', dict(block_size=2), [(1, 4, 2, 2)], (R,), ''),
    ('_contrib_div_sqrt_dim', {}, [(1, 4)], (R,), ''),
    ('_contrib_gradientmultiplier', dict(scalar=-1), [(1, 4)], (R,), ''),
    ('_contrib_quadratic', dict(a=1, b=2, c=3), [(1, 4)], (R,), ''),
]
for _op in ('sum', 'mean', 'max', 'min', 'prod', 'nansum', 'norm'):
    OTHERS += [
        (_op, attrs, [shape], (R,), 'p')
        for attrs, shape in [
            ({}, (1, 4)),
            ({}, (1, 2, 3)),
            (dict(axis='(1,)'), (1, 4)),
            (dict(axis=-1, keepdims=True), (1, 4)),
            (dict(keepdims=True), (1, 4)),
            (dict(axis='(0, 2)', keepdims=1), (1, 3, 2)),
            (dict(axis='()'), (1, 4)),
            (dict(axis='(0, 1)'), (1, 4)),
            (dict(axis=2), (1, 2, 3)),
        ]
    ]
    if _op != 'nansum':
        OTHERS += [(_op, {}, [(1,)], (R,), 'f'), (_op, dict(axis=0), [(1, 1, 3)], (R,), 'f')]
    if _op != 'norm':
        OTHERS += [
            (_op, dict(axis=1, exclude=True), [(1, 1, 3)], (R,), 'f'),
            (_op, dict(axis='(0,)', exclude=True), [(1, 2, 3)], (R,), 'f'),
        ]
SINGLE_ONLY = {'SoftmaxActivation', 'InstanceNorm', 'LRN'}  # MXNet has no float64 kernel
BACKWARDS = [op for op in RULES if op.startswith('_backward_')]
OTHERS += [(op, {}, [(1, 4)] * 2, rows, 'pu') for op in BACKWARDS for rows in [(R, R), (R, S), (S, R)]]
