"""Row-wise rules of operators that move, cut, join or reduce axes.

Most trouble comes from uses that name axis 0, which has size 1 for one node. Where only the label of a
size-1 axis matters (a sum over all axes, `expand_dims(axis=0)`), the attributes are rewritten so that axis 0
stays and another axis of size 1 plays its part.
"""

from typing import Callable, Dict, Set

from .batch import Batch, NotRowwise, need_few_reduced, rewritten, same, spread
from .site import Site, as_axes, as_axis, flag, integer, numbers

__all__ = ['RULES']

_COPY = Batch('_copy', {})


def _drop_axes(site: Site, axes: Set[int]) -> Set[int]:
    """Axes to remove instead of `axes` so that axis 0 stays.

    The output has a leading axis of 1, so axis 0 and the first axis that stays are both of size 1 and can
    change places; where none stays MXNet gives shape (1,), which axis 0 then is.
    """
    if 0 not in axes:
        return axes
    stay = [axis for axis in range(len(site.shapes[0])) if axis not in axes]
    if stay and site.shapes[0][stay[0]] != 1:
        raise NotRowwise(f'{site.op} removes axis 0, the batch axis')
    return (axes - {0}) | set(stay[:1])


def _reduce(site: Site) -> Batch:
    rank = len(site.shapes[0])
    axes = set(as_axes(numbers(site.attrs, 'axis'), rank))
    if flag(site.attrs, 'exclude'):
        axes = set(range(rank)) - axes if numbers(site.attrs, 'axis') else axes
    small = [1 if axis in axes else extent for axis, extent in enumerate(site.shapes[0])]
    need_few_reduced(site, site.shapes[0][1:], small[1:])
    if 0 not in axes:
        return same(site)
    axes = axes - {0} if flag(site.attrs, 'keepdims') else _drop_axes(site, axes)
    if axes:
        return rewritten(site, drop=('exclude',), axis=tuple(sorted(axes)))
    if site.op in ('nansum', 'nanprod'):
        raise NotRowwise(f'{site.op} over axis 0, the batch axis, only')
    return Batch('abs', {}) if site.op == 'norm' else _COPY


def _moments(site: Site) -> Batch:
    if 0 in as_axes(numbers(site.attrs, 'axes'), len(site.shapes[0])):
        raise NotRowwise('moments over axis 0, the batch axis')
    return same(site)


def _arg_reduce(site: Site) -> Batch:
    rank = len(site.shapes[0])
    axis = integer(site.attrs, 'axis')
    if axis is None:
        if rank == 2:
            return rewritten(site, axis=1)
        raise NotRowwise(f'{site.op} without an axis, of shape {site.shapes[0]}, counts over the batch axis')
    if as_axis(axis, rank) == 0:
        raise NotRowwise(f'{site.op} along axis 0, the batch axis')
    return same(site)


def _reshape(site: Site) -> Batch:
    # The special codes (0, -1, -2, -3, -4, reverse) are all resolved for one node; only the leading axis is
    # free.
    return Batch('Reshape', {'shape': str((-1,) + tuple(site.out_shapes[0][1:]))})


def _reshape_like(site: Site) -> Batch:
    spans = [numbers(site.attrs, name) for name in ('lhs_begin', 'lhs_end', 'rhs_begin', 'rhs_end')]
    begins = [span[0] if span else None for span in spans[::2]]
    if any(span for span in spans) and not all(begin and begin > 0 for begin in begins):
        raise NotRowwise('reshape_like of a part that holds axis 0, the batch axis')
    return spread(site, inputs=(0,) if begins[0] else (0, 1))


def _expand_dims(site: Site) -> Batch:
    axis = as_axis(integer(site.attrs, 'axis', 0), len(site.shapes[0]) + 1)
    return same(site) if axis else rewritten(site, axis=1)


def _squeeze(site: Site) -> Batch:
    shape = site.shapes[0]
    axes = numbers(site.attrs, 'axis')
    if axes is None:
        removed = {i for i, extent in enumerate(shape) if extent == 1}
    else:
        removed = {as_axis(axis, len(shape)) for axis in axes}  # of () nothing, unlike a reduction
    axes = _drop_axes(site, removed)
    return rewritten(site, axis=tuple(sorted(axes))) if axes else _COPY


def _permutation(site: Site, order: list) -> Batch:
    place = order[0]
    if place:
        if site.shapes[0][place] != 1:
            raise NotRowwise(f'{site.op} moves axis 0, the batch axis')
        order = [{0: place, place: 0}.get(axis, axis) for axis in order]
    if order == sorted(order):
        return _COPY
    return Batch('transpose', {'axes': str(tuple(order))})


def _transpose(site: Site) -> Batch:
    rank = len(site.shapes[0])
    axes = numbers(site.attrs, 'axes')
    return _permutation(site, [as_axis(axis, rank) for axis in axes] if axes else list(range(rank))[::-1])


def _swap_axis(site: Site) -> Batch:
    # as a transpose, whose kernel is many times faster
    rank = len(site.shapes[0])
    first, second = (as_axis(integer(site.attrs, name, 0), rank) for name in ('dim1', 'dim2'))
    order = list(range(rank))
    order[first], order[second] = second, first
    return _permutation(site, order)


def _reverse(site: Site) -> Batch:
    axes = {as_axis(axis, len(site.shapes[0])) for axis in numbers(site.attrs, 'axis') or ()} - {0}
    return rewritten(site, axis=tuple(sorted(axes))) if axes else _COPY


def _tile(site: Site) -> Batch:
    shape, reps = site.shapes[0], tuple(numbers(site.attrs, 'reps') or ())
    if len(reps) > len(shape):
        raise NotRowwise('tile adds axes in front of axis 0, the batch axis')
    pairs = list(zip((1,) * (len(shape) - len(reps)) + reps, shape))[1:]
    big = [part for pair in pairs for part in pair]
    need_few_reduced(site, big, [part for _, extent in pairs for part in (1, extent)])
    return same(site)


def _repeat(site: Site) -> Batch:
    axis = integer(site.attrs, 'axis')
    if axis is None or as_axis(axis, len(site.shapes[0])) == 0:
        raise NotRowwise('repeat along axis 0, the batch axis')
    return same(site)


def _pad(site: Site) -> Batch:
    if any(numbers(site.attrs, 'pad_width')[:2]):
        raise NotRowwise('Pad along axis 0, the batch axis')
    return same(site)


def _join(name: str, default: int, extra: int) -> Callable[[Site], Batch]:
    def rule(site):
        axis = as_axis(integer(site.attrs, name, default), len(site.shapes[0]) + extra)
        if axis == 0:
            raise NotRowwise(f'{site.op} along axis 0, the batch axis')
        return spread(site)

    return rule


def _split(default: int) -> Callable[[Site], Batch]:
    def rule(site):
        if as_axis(integer(site.attrs, 'axis', default), len(site.shapes[0])) == 0:
            raise NotRowwise(f'{site.op} along axis 0, the batch axis')
        return same(site)

    return rule


def _slice_axis(site: Site) -> Batch:
    if as_axis(integer(site.attrs, 'axis'), len(site.shapes[0])):
        return same(site)
    return _COPY  # the one row there is: an output without it is refused for its shape


def _slice(site: Site) -> Batch:
    attrs = {}
    for name in ('begin', 'end', 'step'):
        entries = numbers(site.attrs, name)
        if entries:
            attrs[name] = (None,) + entries[1:]
    if all(entry is None for entries in attrs.values() for entry in entries):
        return _COPY
    return rewritten(site, **attrs)


def _slice_like(site: Site) -> Batch:
    if not site.rows[0]:
        raise NotRowwise('the data of slice_like is the same for all nodes')
    shape, like = site.shapes
    axes = numbers(site.attrs, 'axes')
    axes = [as_axis(axis, len(shape)) for axis in axes] if axes else list(range(len(shape)))
    axes = [axis for axis in axes if axis and axis < len(like)]
    if not axes:
        raise NotRowwise('slice_like along axis 0, the batch axis, only')
    return rewritten(site, axes=tuple(axes))


def _need_broadcast(site: Site) -> None:
    need_few_reduced(site, site.out_shapes[0][1:], site.shapes[0][1:])


def _broadcast_to(site: Site) -> Batch:
    _need_broadcast(site)
    target = numbers(site.attrs, 'shape')
    if len(target) != len(site.shapes[0]):
        raise NotRowwise('broadcast_to adds axes in front of axis 0, the batch axis')
    return rewritten(site, shape=(0,) + target[1:])


def _broadcast_axis(site: Site) -> Batch:
    _need_broadcast(site)
    rank = len(site.shapes[0])
    given = zip(numbers(site.attrs, 'axis', ()) or (), numbers(site.attrs, 'size', ()) or ())
    pairs = [(as_axis(axis, rank), extent) for axis, extent in given]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        return _COPY
    axes, extents = zip(*pairs)
    return rewritten(site, axis=axes, size=extents)


def _broadcast_like(site: Site) -> Batch:
    _need_broadcast(site)
    left, right = (numbers(site.attrs, name) for name in ('lhs_axes', 'rhs_axes'))
    if not left:
        if len(site.shapes[0]) != len(site.shapes[1]):
            raise NotRowwise('broadcast_like of shapes {} and {}'.format(*site.shapes))
        return spread(site)
    pairs = [(as_axis(a, len(site.shapes[0])), as_axis(b, len(site.shapes[1]))) for a, b in zip(left, right)]
    # an axis that takes the size of the batch axis takes size 1, which it has
    pairs = [(a, b) for a, b in pairs if a and (b or not site.rows[1])]
    if not pairs:
        raise NotRowwise('broadcast_like along axis 0, the batch axis, only')
    left, right = zip(*pairs)
    return spread(site, rewritten(site, lhs_axes=left, rhs_axes=right), inputs=(0,))


RULES: Dict[str, Callable[[Site], Batch]] = {}
RULES.update((op, _reduce) for op in ('sum', 'mean', 'max', 'min', 'prod', 'nansum', 'nanprod', 'norm'))
RULES.update(
    {
        'moments': _moments,
        'argmax': _arg_reduce,
        'argmin': _arg_reduce,
        'Reshape': _reshape,
        'reshape_like': _reshape_like,
        'Flatten': same,
        'expand_dims': _expand_dims,
        'squeeze': _squeeze,
        'transpose': _transpose,
        'SwapAxis': _swap_axis,
        'reverse': _reverse,
        'tile': _tile,
        'repeat': _repeat,
        'Pad': _pad,
        'Concat': _join('dim', 1, 0),
        'stack': _join('axis', 0, 1),
        'SliceChannel': _split(1),
        '_split_v2': _split(1),
        'slice_axis': _slice_axis,
        'slice': _slice,
        'slice_like': _slice_like,
        'broadcast_to': _broadcast_to,
        'broadcast_axis': _broadcast_axis,
        'broadcast_like': _broadcast_like,
    }
)
