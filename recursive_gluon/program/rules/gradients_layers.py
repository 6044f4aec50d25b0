"""Gradients of matrix products, look-ups, soft maxima and normalisations."""

from typing import Any, Callable, Dict

from .gradient_case import Case, Value
from .site import as_axis, flag, integer, number, size, text

__all__ = ['RULES']


# -- matrix products -----------------------------------------------------------------------------------------


def _fully_connected(c: Case) -> list:
    g, (data, weight) = c.ograds[0], c.inputs[:2]
    shape, (units, features) = c.site.shapes[0], c.site.shapes[1]
    flatten = flag(c.attrs, 'flatten', True)
    result = [None] * len(c.inputs)
    if c.wanted[0]:
        # the transpose of a shared weight is itself shared: it is made once, for all levels
        value = c.row(
            'FullyConnected',
            g,
            c.row('transpose', weight, axes=(1, 0)),
            num_hidden=features,
            no_bias=True,
            flatten=flatten,
        )
        result[0] = c.reduce(0, c.reshape(value, shape))
    if c.wanted[1]:
        flat = data
        if flatten and len(shape) > 2:
            flat = c.on(1, 'Reshape', data, shape=(-1, features))
        elif len(shape) > 2:
            flat = c.matrix(1, data)
        columns = c.transposed(1, g)
        result[1] = c.on(
            1,
            'FullyConnected',
            columns,
            c.on(1, 'transpose', flat, axes=(1, 0)),
            num_hidden=features,
            no_bias=True,
        )
        if len(result) == 3 and c.wanted[2] and c.shared(1) == c.shared(2):
            # summed by a product with ones, from the transpose at hand: faster than any sum of MXNet's
            ones = c.on(2, 'ones_like', c.on(2, 'slice_axis', columns, axis=0, begin=0, end=1))
            total = c.on(2, 'FullyConnected', ones, columns, num_hidden=units, no_bias=True)
            result[2] = c.on(2, 'Reshape', total, shape=(units,))
            return result
    if len(result) == 3 and c.wanted[2]:
        result[2] = c.reduce(2, g)
    return result


def _product(c: Case, op: str) -> list:
    """Per-frame gradients of a matrix product, `dot` of matrices or `batch_dot`."""
    g, (a, b) = c.ograds[0], c.inputs
    turn_a, turn_b = flag(c.attrs, 'transpose_a'), flag(c.attrs, 'transpose_b')
    result = [None, None]
    if c.wanted[0]:
        value = (
            c.row(op, b, g, transpose_a=turn_b, transpose_b=True)
            if turn_a
            else c.row(op, g, b, transpose_b=not turn_b)
        )
        result[0] = c.reduce(0, value)
    if c.wanted[1]:
        value = (
            c.row(op, g, a, transpose_a=True, transpose_b=turn_a)
            if turn_b
            else c.row(op, a, g, transpose_a=not turn_a)
        )
        result[1] = c.reduce(1, value)
    return result


def _rows_times_matrix(c: Case) -> list:
    """Gradients of rows of vectors times one shared matrix, whatever the operator's name."""
    g, (a, b), (rows, matrix) = c.ograds[0], c.inputs, c.site.shapes
    turned = flag(c.attrs, 'transpose_b')
    result = [None, None]
    if c.wanted[0]:
        flat = c.reshape(b, matrix[-2:])
        weight = c.row('transpose', flat, axes=(1, 0)) if turned else flat
        result[0] = c.row('FullyConnected', g, weight, num_hidden=rows[-1], no_bias=True, flatten=False)
    if c.wanted[1]:
        value = c.outer(1, g, a) if turned else c.outer(1, a, g)
        result[1] = value if len(matrix) == 2 else c.on(1, 'Reshape', value, shape=tuple(matrix))
    return result


def _dot(c: Case) -> list:
    ranks = [len(shape) for shape in c.site.shapes]
    if not c.site.rows[1] and ranks[0] >= 2 and ranks[1] == 2 and not flag(c.attrs, 'transpose_a'):
        return _rows_times_matrix(c)
    if ranks == [2, 2]:
        return _product(c, 'dot')
    if ranks == [1, 1]:
        g, (a, b) = c.ograds[0], c.inputs
        return [
            c.reduce(i, c.row('broadcast_mul', other, g)) if c.wanted[i] else None
            for i, other in enumerate((b, a))
        ]
    raise NotImplementedError('no gradient rule for dot of shapes {} and {}'.format(*tuple(c.site.shapes)))


def _batch_dot(c: Case) -> list:
    if c.shared(1) and c.site.shapes[1][0] == 1 and not flag(c.attrs, 'transpose_a'):
        return _rows_times_matrix(c)
    return _product(c, 'batch_dot')


# -- look-ups ------------------------------------------------------------------------------------------------


def _embedding(c: Case) -> list:
    if c.site.rows[1]:
        raise NotImplementedError(
            'no gradient rule for Embedding with a weight that differs from node to node'
        )
    rows, columns = c.site.shapes[1]
    return [
        None,
        c.emit.over_rows(
            '_rg_embedding_grad',
            c.inputs[0],
            c.ograds[0],
            input_dim=str(rows),
            output_dim=str(columns),
            sparse_grad=text(c.attrs, 'sparse_grad', 'False'),
            dtype=text(c.attrs, 'dtype', 'float32'),
        ),
    ]


def _bounded(c, indices, extent):
    """Indices as take and pick read them."""
    if text(c.attrs, 'mode', 'clip') == 'wrap':
        return c.row('_mod_scalar', indices, scalar=extent)
    return c.row('clip', indices, a_min=0, a_max=extent - 1)


def _take(c: Case) -> list:
    table = tuple(c.site.shapes[0])
    if c.site.rows[0] or as_axis(integer(c.attrs, 'axis', 0), len(table)) != 0:
        raise NotImplementedError(
            'no gradient rule for take but along axis 0 of a table that all nodes share'
        )
    if not c.wanted[0]:
        return [None, None]
    g, indices, columns = c.ograds[0], _bounded(c, c.inputs[1], table[0]), size(table[1:])
    attrs = dict(input_dim=str(table[0]), output_dim=str(columns), sparse_grad='False', dtype='float32')
    if len(table) == 2:
        return [c.emit.over_rows('_rg_embedding_grad', indices, g, **attrs), None]
    indices = c.emit.over_rows('Reshape', indices, shape='(-1,)')
    g = c.emit.over_rows('Reshape', g, shape=str((-1, columns)))
    value = c.emit.over_rows('_rg_embedding_grad', indices, g, **attrs)
    return [c.emit.over_rows('Reshape', value, shape=str(table)), None]


def _pick(c: Case) -> list:
    shape = tuple(c.site.shapes[0])
    if integer(c.attrs, 'axis', -1) is None:
        raise NotImplementedError('no gradient rule for pick without an axis')
    axis = as_axis(integer(c.attrs, 'axis', -1), len(shape))
    rest = shape[:axis] + shape[axis + 1 :]
    x, indices = c.inputs
    indices = c.reshape(_bounded(c, indices, shape[axis]), rest or (1,))
    chosen = c.row('one_hot', indices, depth=shape[axis])
    if axis != len(shape) - 1:
        order = list(range(len(shape) - 1))
        chosen = c.row('transpose', chosen, axes=tuple(order[:axis] + [len(shape) - 1] + order[axis:]))
    chosen = c.reshape(chosen, shape)
    # `where` and not a product: one_hot has a type of its own
    g = c.row('broadcast_like', c.reshape(c.ograds[0], shape[:axis] + (1,) + shape[axis + 1 :]), chosen)
    return [c.reduce(0, c.row('where', chosen, g, c.row('zeros_like', g))), None]


# -- soft maxima ---------------------------------------------------------------------------------------------


def _soft(formula: Callable[..., Any]) -> Callable[[Case], list]:
    def rule(c: Case) -> list:
        if text(c.attrs, 'dtype', 'None') != 'None':
            raise NotImplementedError(f'no gradient rule for {c.site.op} with a dtype')
        axis = integer(c.attrs, 'axis', -1)
        value = formula(c, c.ograds[0], c.outputs[0], lambda v: c.row('sum', v, axis=axis, keepdims=True))
        temperature = (
            number(c.attrs, 'temperature', 1.0) if text(c.attrs, 'temperature', 'None') != 'None' else 1.0
        )
        if temperature != 1:
            value = c.row('_div_scalar', value, scalar=temperature)
        return [c.reduce(0, value)] + [None] * (len(c.inputs) - 1)

    return rule


def _softmax(c, g, y, total):
    return c.row('elemwise_mul', c.row('broadcast_sub', g, total(c.row('elemwise_mul', g, y))), y)


def _softmin(c, g, y, total):
    return c.row('elemwise_mul', c.row('broadcast_sub', total(c.row('elemwise_mul', g, y)), g), y)


def _log_softmax(c, g, y, total):
    if flag(c.attrs, 'use_length'):
        raise NotImplementedError('no gradient rule for log_softmax with lengths')
    return c.row('elemwise_sub', g, c.row('broadcast_mul', c.row('exp', y), total(g)))


# -- normalisations ------------------------------------------------------------------------------------------


def _along(c: Case, index: int, axis: int) -> Value:
    """A parameter that lies along one axis of the data, shaped so that it broadcasts."""
    rank = len(c.site.shapes[0])
    return c.reshape(c.inputs[index], (1,) * axis + (c.site.shapes[0][axis],) + (1,) * (rank - axis - 1))


def _parameter(c: Case, index: int, axis: int, value: Value) -> Value:
    """The gradient of such a parameter: a sum over all other axes."""
    rank = len(c.site.shapes[0])
    if axis == rank - 1:
        return c.reduce(index, value)
    others = tuple(i for i in range(1, rank) if i != axis)
    if others:
        value = c.reshape(
            c.row('sum', value, axis=others, keepdims=True), (c.site.shapes[0][0], c.site.shapes[0][axis])
        )
    return c.reduce(index, value)


def _layer_norm(c: Case) -> list:
    if len(c.ograds) > 1 and any(g is not None for g in c.ograds[1:]):
        raise NotImplementedError('no gradient rule for the mean and the deviation that LayerNorm gives')
    g, x = c.ograds[0], c.inputs[0]
    axis = as_axis(integer(c.attrs, 'axis', -1), len(c.site.shapes[0]))
    result = [None, None, None]

    def mean(value):
        return c.row('mean', value, axis=axis, keepdims=True)

    if c.wanted[0] or c.wanted[1]:
        centred = c.row('broadcast_sub', x, mean(x))
        variance = mean(c.row('square', centred))
        inverse = c.row('rsqrt', c.row('_plus_scalar', variance, scalar=number(c.attrs, 'eps', 1e-5)))
        normal = c.row('broadcast_mul', centred, inverse)
    if c.wanted[0]:
        scaled = c.row('broadcast_mul', g, _along(c, 1, axis))
        along = c.row('broadcast_mul', normal, mean(c.row('elemwise_mul', scaled, normal)))
        across = c.row('broadcast_sub', scaled, mean(scaled))
        result[0] = c.row('broadcast_mul', c.row('elemwise_sub', across, along), inverse)
    if c.wanted[1]:
        result[1] = _parameter(c, 1, axis, c.row('elemwise_mul', g, normal))
    if c.wanted[2]:
        result[2] = _parameter(c, 2, axis, g)
    return result


def _batch_norm(c: Case) -> list:
    if not flag(c.attrs, 'use_global_stats'):
        raise NotImplementedError('no gradient rule for BatchNorm with the statistics of the batch')
    g, axis, fixed = (
        c.ograds[0],
        as_axis(integer(c.attrs, 'axis', 1), len(c.site.shapes[0])),
        flag(c.attrs, 'fix_gamma', True),
    )
    inverse = c.row('rsqrt', c.row('_plus_scalar', _along(c, 4, axis), scalar=number(c.attrs, 'eps', 1e-3)))
    result = [None] * 5
    if c.wanted[0]:
        scale = inverse if fixed else c.row('elemwise_mul', inverse, _along(c, 1, axis))
        result[0] = c.row('broadcast_mul', g, scale)
    if c.wanted[1] and not fixed:
        centred = c.row('broadcast_sub', c.inputs[0], _along(c, 3, axis))
        result[1] = _parameter(c, 1, axis, c.row('elemwise_mul', g, c.row('broadcast_mul', centred, inverse)))
    if c.wanted[2]:
        result[2] = _parameter(c, 2, axis, g)
    return result


def _l2_normalization(c: Case) -> list:
    rank, mode = len(c.site.shapes[0]), text(c.attrs, 'mode', 'instance')
    axes = {'instance': range(1, rank), 'channel': (1,), 'spatial': range(2, rank)}[mode]
    g, x, y = c.ograds[0], c.inputs[0], c.outputs[0]

    def total(value):
        return c.row('sum', value, axis=tuple(axes), keepdims=True)

    square = c.row('_plus_scalar', total(c.row('square', x)), scalar=number(c.attrs, 'eps', 1e-10))
    tangent = c.row('elemwise_sub', g, c.row('broadcast_mul', y, total(c.row('elemwise_mul', g, y))))
    return [c.row('broadcast_mul', tangent, c.row('rsqrt', square))]


RULES: Dict[str, Callable[[Case], list]] = {
    'FullyConnected': _fully_connected,
    'dot': _dot,
    'batch_dot': _batch_dot,
    'Embedding': _embedding,
    'take': _take,
    'pick': _pick,
    'softmax': _soft(_softmax),
    'softmin': _soft(_softmin),
    'log_softmax': _soft(_log_softmax),
    'LayerNorm': _layer_norm,
    'BatchNorm': _batch_norm,
    'L2Normalization': _l2_normalization,
}
