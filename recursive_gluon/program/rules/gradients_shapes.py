"""Gradients of operators that move, cut, join, repeat or reduce axes."""

from typing import Any, Callable, Dict, List

from .gradient_case import Case, join_slices
from .site import as_axes, as_axis, flag, integer, numbers, size, text

__all__ = ['RULES']


def _first(formula: Callable[..., Any]) -> Callable[[Case], list]:
    """A rule for the gradient of the first input; others (a shape to be like) have none."""

    def rule(c):
        return [formula(c, c.ograds[0])] + [None] * (len(c.inputs) - 1)

    return rule


def _reshaped(c, g):
    # reduced too: with reshape_like a shared tensor may take a row's shape
    return c.reduce(0, c.reshape(g, c.site.shapes[0]))


def _reduced(c, g):
    return c.reduce(0, g)


# -- reductions ----------------------------------------------------------------------------------------------


def _reduction(formula: Callable[..., Any]) -> Callable[[Case], list]:
    """A rule from a formula of the case, gradient, input, output and count of what is reduced.

    Gradient and output come with the reduced axes kept as 1.
    """

    def rule(c):
        shape = c.site.shapes[0]
        given = numbers(c.attrs, 'axis')
        axes = set(as_axes(given, len(shape)))
        if given and flag(c.attrs, 'exclude'):
            axes = set(range(len(shape))) - axes
        kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
        count = size(shape) // max(1, size(kept))
        return [formula(c, c.reshape(c.ograds[0], kept), c.inputs[0], c.reshape(c.outputs[0], kept), count)]

    return rule


def _like(c, value, x):
    # broadcast_like: its kernel is three times faster than broadcast_axis
    return (
        value if tuple(c.emit.shape(value)) == tuple(c.emit.shape(x)) else c.row('broadcast_like', value, x)
    )


def _mean(c, g, x, y, count):
    return _like(c, c.row('_mul_scalar', g, scalar=1 / count), x)


def _extreme(c, g, x, y, count):
    # every element that ties takes the whole gradient, as in MXNet
    return c.row('broadcast_mul', c.row('broadcast_equal', x, y), g)


def _prod(c, g, x, y, count):
    return c.row('broadcast_div', c.row('broadcast_mul', g, y), x)


def _nansum(c, g, x, y, count):
    return c.row('broadcast_mul', c.row('_equal', x, x), g)


def _nanprod(c, g, x, y, count):
    return c.row('where', c.row('_equal', x, x), _prod(c, g, x, y, count), c.row('zeros_like', x))


def _norm(c, g, x, y, count):
    if integer(c.attrs, 'ord', 2) == 1:
        return c.row('broadcast_mul', c.row('sign', x), g)
    return c.row('broadcast_mul', x, c.row('elemwise_div', g, y))


# -- order ---------------------------------------------------------------------------------------------------


def _transpose(c, g):
    rank = len(c.site.shapes[0])
    axes = numbers(c.attrs, 'axes')
    order = [as_axis(axis, rank) for axis in axes] if axes else list(range(rank))[::-1]
    return c.row('transpose', g, axes=tuple(order.index(axis) for axis in range(rank)))


def _swap_axis(c, g):
    return c.row('SwapAxis', g, dim1=integer(c.attrs, 'dim1', 0), dim2=integer(c.attrs, 'dim2', 0))


def _reverse(c, g):
    return c.row('reverse', g, axis=numbers(c.attrs, 'axis'))


# -- cutting and joining -------------------------------------------------------------------------------------


def _span(begin, end, step, extent):
    """Begin and end of a slice with step 1, counted from the front."""
    if step not in (None, 1):
        raise NotImplementedError(f'no gradient rule for a slice with step {step}')
    begin, end, _ = slice(begin, end, 1).indices(extent)
    return begin, max(begin, end)


def _slice_axis(c, g):
    shape = c.site.shapes[0]
    axis = as_axis(integer(c.attrs, 'axis'), len(shape))
    begin, end = _span(integer(c.attrs, 'begin', 0), integer(c.attrs, 'end'), 1, shape[axis])
    return join_slices(c.emit, c.inputs[0], axis, [(begin, end, g)])


def _place(c, g, spans):
    """Put a block back: cut the input at `spans` (axis, begin, end), and retrace the cuts."""
    wholes, whole = [], c.inputs[0]
    for axis, begin, end in spans:
        wholes.append(whole)
        whole = c.row('slice_axis', whole, axis=axis, begin=begin, end=end)
    for (axis, begin, end), whole in list(zip(spans, wholes))[::-1]:
        g = join_slices(c.emit, whole, axis, [(begin, end, g)])
    return g


def _slice(c, g):
    shape = c.site.shapes[0]
    begins, ends, steps = (
        tuple(numbers(c.attrs, name) or ()) + (None,) * len(shape) for name in ('begin', 'end', 'step')
    )
    spans = [
        (axis,) + _span(begins[axis], ends[axis], steps[axis], extent) for axis, extent in enumerate(shape)
    ]
    return _place(c, g, [span for span in spans if span[1:] != (0, shape[span[0]])])


def _slice_like(c, g):
    shape, cut = c.site.shapes[0], c.site.out_shapes[0]
    return _place(c, g, [(axis, 0, end) for axis, end in enumerate(cut) if end != shape[axis]])


def _pad(c, g):
    if text(c.attrs, 'mode', 'constant') != 'constant':
        raise NotImplementedError("no gradient rule for Pad(mode='{}')".format(c.attrs['mode']))
    widths = numbers(c.attrs, 'pad_width')
    for axis, extent in enumerate(c.site.shapes[0]):
        before, after = widths[2 * axis : 2 * axis + 2]
        if before or after:
            g = c.row('slice_axis', g, axis=axis, begin=before, end=before + extent)
    return g


def _concat(c: Case) -> list:
    axis, place, result = as_axis(integer(c.attrs, 'dim', 1), len(c.site.shapes[0])), 0, []
    for i, shape in enumerate(c.site.shapes):
        piece = None
        if c.wanted[i]:
            piece = c.row('slice_axis', c.ograds[0], axis=axis, begin=place, end=place + shape[axis])
            piece = c.reduce(i, piece)
        result.append(piece)
        place += shape[axis]
    return result


def _stack(c: Case) -> list:
    axis, result = as_axis(integer(c.attrs, 'axis', 0), len(c.site.out_shapes[0])), []
    for i, shape in enumerate(c.site.shapes):
        piece = None
        if c.wanted[i]:
            piece = c.row('slice_axis', c.ograds[0], axis=axis, begin=i, end=i + 1)
            piece = c.reduce(i, c.reshape(piece, shape))
        result.append(piece)
    return result


def _split(c: Case) -> list:
    shape = c.site.shapes[0]
    axis = as_axis(integer(c.attrs, 'axis', 1), len(shape))
    parts = [c.zeros_or(i) for i in range(len(c.ograds))]
    if flag(c.attrs, 'squeeze_axis'):
        parts = [c.reshape(part, shape[:axis] + (1,) + shape[axis + 1 :]) for part in parts]
    return [parts[0] if len(parts) == 1 else c.row('Concat', *parts, dim=axis, num_args=len(parts))]


# -- repeating -----------------------------------------------------------------------------------------------


def _folded(c, g, extents, axes):
    """Sum over the copies: view the gradient as `extents`, of which `axes` count copies."""
    if axes:
        g = c.row('sum', c.reshape(g, extents), axis=tuple(axes), keepdims=True)
    return c.reshape(g, c.site.shapes[0])


def _tile(c, g):
    shape = c.site.shapes[0]
    reps = tuple(numbers(c.attrs, 'reps') or ())
    rank = max(len(shape), len(reps))
    extents: List[int] = []
    axes: List[int] = []
    for extent, rep in zip((1,) * (rank - len(shape)) + tuple(shape), (1,) * (rank - len(reps)) + reps):
        if rep > 1:
            axes.append(len(extents))
            extents.append(rep)
        extents.append(extent)
    return _folded(c, g, tuple(extents), axes)


def _repeat(c, g):
    shape = tuple(c.site.shapes[0])
    times, axis = integer(c.attrs, 'repeats'), integer(c.attrs, 'axis')
    if axis is None:
        return _folded(c, g, (size(shape), times), (1,))
    axis = as_axis(axis, len(shape))
    return _folded(c, g, shape[: axis + 1] + (times,) + shape[axis + 1 :], (axis + 1,))


def _blocks(name: str) -> Callable[..., Any]:
    def formula(c, g):
        return c.row(name, g, block_size=integer(c.attrs, 'block_size'))

    return formula


RULES: Dict[str, Callable[[Case], list]] = {}
RULES.update(
    (op, _first(_reshaped)) for op in ('Reshape', 'reshape_like', 'Flatten', 'expand_dims', 'squeeze')
)
RULES.update((op, _first(_reduced)) for op in ('broadcast_to', 'broadcast_axis', 'broadcast_like'))
RULES.update(
    (op, _reduction(formula))
    for op, formula in {
        'sum': lambda c, g, x, y, count: _like(c, g, x),
        'mean': _mean,
        'max': _extreme,
        'min': _extreme,
        'prod': _prod,
        'nansum': _nansum,
        'nanprod': _nanprod,
        'norm': _norm,
    }.items()
)
RULES.update(
    (op, _first(formula))
    for op, formula in {
        'transpose': _transpose,
        'SwapAxis': _swap_axis,
        'reverse': _reverse,
        'slice_axis': _slice_axis,
        'slice': _slice,
        'slice_like': _slice_like,
        'Pad': _pad,
        'tile': _tile,
        'repeat': _repeat,
        'depth_to_space': _blocks('space_to_depth'),
        'space_to_depth': _blocks('depth_to_space'),
    }.items()
)
RULES.update({'Concat': _concat, 'stack': _stack, 'SliceChannel': _split, '_split_v2': _split})
