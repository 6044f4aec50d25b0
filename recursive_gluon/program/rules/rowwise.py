"""Which operator uses are row-wise, and how each is run once over the stacked rows of many frames.

A body is written for one node, with a leading batch axis of 1. `rowwise` decides for one operator *as used
there* whether a single run on stacked inputs gives, row for row, what frame-by-frame runs give. The table is
a whitelist: an operator without a rule is never batched.
"""

from typing import Callable, Dict, Union

from . import rowwise_shapes
from .batch import Batch, NotRowwise, need_few_groups, need_rank, need_shared, same, spread
from .site import Site, as_axis, flag, integer, text

__all__ = ['Batch', 'rowwise']


def rowwise(site: Site) -> Union[Batch, str]:
    """Decide how a site runs over B frames at once.

    Parameters
    ----------
    site : Site
        The operator as used; at least one input varies from frame to frame.

    Returns
    -------
    Batch or str
        The operator to run on row inputs stacked to (B, ...), whose outputs are (B, ...); or the reason, in
        a user's words, why the site is not row-wise as used.
    """
    rule = RULES.get(site.op)
    if rule is None:
        return f'no row-wise rule for operator {site.op}'
    for i, (shape, row) in enumerate(zip(site.shapes, site.rows)):
        if row and (not shape or shape[0] != 1):
            return (
                f'input {i} of {site.op} has shape {tuple(shape)} for one node: rows can be stacked only '
                f'along a leading axis of 1'
            )
    try:
        batch = rule(site)
    except NotRowwise as refusal:
        return str(refusal)
    for shape in site.out_shapes:
        if not shape or shape[0] != 1:
            return (
                f'the output of {site.op} has shape {tuple(shape)} for one node: it has no leading axis of 1 '
                f'to stack along'
            )
    return batch


# -- elementwise ---------------------------------------------------------------------------------------------


def _refuse(reason: str) -> Callable[[Site], Batch]:
    def rule(site: Site) -> Batch:
        raise NotRowwise(reason.format(op=site.op))

    return rule


def _activation(site: Site) -> Batch:
    # The plain operators run one element at a time; Activation runs the same function vectorised, 20 to 40
    # times faster.
    return Batch('Activation', {'act_type': site.op})


def _broadcast(site: Site, op: str = '') -> Batch:
    rank = len(site.out_shapes[0])
    for shape, row in zip(site.shapes, site.rows):
        if row and len(shape) != rank:
            raise NotRowwise(
                '{} of shapes {}: broadcasting aligns the last axes, which would match the batch axis of the '
                'shorter one with another axis'.format(site.op, ' and '.join(map(str, site.shapes)))
            )
    left, right = ((1,) * (rank - len(shape)) + tuple(shape) for shape in site.shapes)
    need_few_groups(
        site,
        tuple(not row for row in site.rows),
        [(max(a, b), (a == 1, b == 1)) for a, b in zip(left[1:], right[1:])],
    )
    return Batch(op or site.op, site.attrs)


def _elementwise(site: Site) -> Batch:
    return same(site) if all(site.rows) else _broadcast(site, BROADCAST[site.op])


def _add_n(site: Site) -> Batch:
    if len(site.rows) == 2 and not all(site.rows):
        return Batch('broadcast_add', {})
    return spread(site)


def _all_rows(site: Site) -> Batch:
    if not all(site.rows):
        raise NotRowwise(f'{site.op} has inputs that are the same for all nodes')
    return same(site)


def _leaky_relu(site: Site) -> Batch:
    kind = text(site.attrs, 'act_type', 'leaky')
    if kind == 'rrelu':
        raise NotRowwise("LeakyReLU(act_type='rrelu') draws random slopes")
    if kind == 'prelu':
        need_shared(site, 'gamma')
        need_rank(site, 2)
    return same(site)


# -- matrices, look-ups, layers ------------------------------------------------------------------------------


def _fully_connected(site: Site) -> Batch:
    need_shared(site, 'weight', 'bias')
    need_rank(site, 2)
    return same(site)


def _dot(site: Site) -> Batch:
    if not site.rows[0] or site.rows[1]:
        raise NotRowwise('the second operand of dot differs from node to node: use batch_dot')
    need_rank(site, 2)
    if flag(site.attrs, 'transpose_a'):
        raise NotRowwise('dot(transpose_a=True) sums over axis 0, the batch axis')
    if not flag(site.attrs, 'transpose_b'):
        return same(site)
    if len(site.shapes[1]) != 2:
        raise NotRowwise(f'dot(transpose_b=True) of a second operand of shape {site.shapes[1]}')
    # the layout FullyConnected wants, which takes the faster matrix library
    return Batch(
        'FullyConnected', {'num_hidden': str(site.shapes[1][0]), 'no_bias': 'True', 'flatten': 'False'}
    )


def _batch_dot(site: Site) -> Batch:
    return spread(site)


def _embedding(site: Site) -> Batch:
    if not site.rows[0] or site.rows[1]:
        raise NotRowwise('the weight of Embedding differs from node to node')
    return same(site)


def _take(site: Site) -> Batch:
    axis = as_axis(integer(site.attrs, 'axis', 0), len(site.shapes[0]))
    if site.rows[0] and site.rows[1]:
        raise NotRowwise(
            'take of a table and of indices that both differ from node to node: use pick or batch_dot'
        )
    if site.rows[0] and axis == 0:
        raise NotRowwise('take along axis 0, the batch axis')
    if site.rows[1] and axis != 0:
        raise NotRowwise(f'take along axis {axis} with indices that differ from node to node')
    return same(site)


def _pick(site: Site) -> Batch:
    axis = integer(site.attrs, 'axis', -1)
    if axis is None or as_axis(axis, len(site.shapes[0])) == 0:
        raise NotRowwise('pick along axis 0, the batch axis')
    return spread(site)


def _not_axis0(default: int, *shared: str) -> Callable[[Site], Batch]:
    """Operators that work along one axis of their data; other inputs are shared parameters."""

    def rule(site: Site) -> Batch:
        axis = integer(site.attrs, 'axis', default)
        if axis is None or as_axis(axis, len(site.shapes[0])) == 0:
            raise NotRowwise(f'{site.op} of shape {site.shapes[0]} works along axis 0, the batch axis')
        need_shared(site, *shared)
        return same(site)

    return rule


def _softmax(site: Site) -> Batch:
    if as_axis(integer(site.attrs, 'axis', -1), len(site.shapes[0])) == 0:
        raise NotRowwise(f'{site.op} of shape {site.shapes[0]} normalises along axis 0, the batch axis')
    return spread(site)


def _batch_norm(site: Site) -> Batch:
    if not flag(site.attrs, 'use_global_stats'):
        raise NotRowwise('BatchNorm normalises over the batch, and the batch of one node is the node itself')
    return _not_axis0(1, 'gamma', 'beta', 'moving mean', 'moving variance')(site)


def _data_first(rank: int, *shared: str) -> Callable[[Site], Batch]:
    """Layers whose first input holds samples along axis 0 and whose other inputs are parameters."""

    def rule(site: Site) -> Batch:
        need_shared(site, *shared)
        need_rank(site, rank)
        return same(site)

    return rule


# -- the table -----------------------------------------------------------------------------------------------

UNARY = '''
    abs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees erf erfinv exp expm1 fix
    floor gamma gammaln hard_sigmoid log log10 log1p log2 logical_not negative radians rcbrt reciprocal relu
    rint round rsqrt sign sin sinh softsign sqrt square tan trunc clip smooth_l1 Cast amp_cast _copy
    BlockGrad make_loss zeros_like ones_like Activation one_hot _contrib_quadratic
    _contrib_gradientmultiplier _contrib_round_ste _contrib_sign_ste
'''.split()

SCALAR = [
    f'_{name}_scalar'
    for name in '''
    plus minus rminus mul div rdiv power rpower mod rmod maximum minimum hypot equal not_equal greater
    greater_equal lesser lesser_equal logical_and logical_or logical_xor
'''.split()
]

#: Elementwise operators, which want equal shapes, and the broadcasting ones that let a shared operand stay
#: one row.
BROADCAST = {'elemwise_' + name: 'broadcast_' + name for name in ('add', 'sub', 'mul', 'div')}
BROADCAST.update(
    ('_' + name, 'broadcast_' + name)
    for name in '''
    power maximum minimum mod hypot equal not_equal greater greater_equal lesser lesser_equal logical_and
    logical_or logical_xor
'''.split()
)

#: Backward operators that have a gradient of their own (so a CachedOp can hold them): the gradient rules use
#: them.
UNARY_BACKWARD = [
    '_backward_' + name
    for name in '''
    tanh sigmoid relu log log2 log10 log1p expm1 sqrt rsqrt cbrt rcbrt square sin cos tan sinh cosh arcsin
    arccos arctan arcsinh arccosh arctanh reciprocal abs
'''.split()
]

RULES: Dict[str, Callable[[Site], Batch]] = {}
RULES.update((op, same) for op in UNARY + SCALAR)
RULES.update((op, _activation) for op in ('tanh', 'sigmoid'))
RULES.update((op, _elementwise) for op in BROADCAST)
RULES.update((op, _broadcast) for op in BROADCAST.values())
RULES.update((op, spread) for op in UNARY_BACKWARD + ['where', 'batch_take'])
RULES.update(
    {
        'add_n': _add_n,
        'amp_multicast': _all_rows,
        'LeakyReLU': _leaky_relu,
        'FullyConnected': _fully_connected,
        'dot': _dot,
        'batch_dot': _batch_dot,
        'Embedding': _embedding,
        'take': _take,
        'pick': _pick,
        'softmax': _softmax,
        'log_softmax': _softmax,
        'softmin': _softmax,
        'SoftmaxActivation': _data_first(2),
        'LayerNorm': _not_axis0(-1, 'gamma', 'beta'),
        'InstanceNorm': _data_first(3, 'gamma', 'beta'),
        'GroupNorm': _data_first(3, 'gamma', 'beta'),
        'L2Normalization': _data_first(2),
        'LRN': _data_first(4),
        'BatchNorm': _batch_norm,
        'Convolution': _data_first(3, 'weight', 'bias'),
        'Deconvolution': _data_first(3, 'weight', 'bias'),
        'Pooling': _data_first(3),
        'sort': _not_axis0(-1),
        'argsort': _not_axis0(-1),
        'topk': _not_axis0(-1),
        'depth_to_space': _data_first(4),
        'space_to_depth': _data_first(4),
        '_contrib_div_sqrt_dim': _data_first(2),
        '_contrib_AdaptiveAvgPooling2D': _data_first(4),
        'Dropout': _refuse('Dropout draws random numbers'),
        'Custom': _refuse('a Custom operator may mix the rows of a batch'),
        'RNN': _refuse('{op} runs along axis 0, its time axis'),
        'softmax_cross_entropy': _refuse('{op} sums over the batch'),
    }
)
RULES.update(
    (op, _refuse('{op} works along a time axis and takes its batch from axis 1'))
    for op in ('SequenceMask', 'SequenceLast', 'SequenceReverse')
)
RULES.update(rowwise_shapes.RULES)
