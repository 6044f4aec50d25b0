"""What the gradient rules are made of: the protocol `Emit`, and `Case`, one site with its values at hand."""

from typing import Any, Callable, List, Optional, Protocol, Sequence

from .site import Shape, Site, size

__all__ = ['Emit', 'Case', 'Value', 'join_slices']

Value = Any


class Emit(Protocol):
    """Where a gradient rule puts the nodes it makes. A value is whatever these functions return."""

    def row(self, op: str, *values: Value, **attrs: Any) -> Value:
        """A per-frame node, batched like any other; of shared values alone it is a shared node, run once."""

    def over_rows(self, op: str, *values: Value, **attrs: Any) -> Value:
        """A node run once over the stacked rows of all frames: row inputs arrive as (R, ...) for all R rows.

        Its value may only feed further `over_rows` nodes.
        """

    def shape(self, value: Value) -> tuple:
        """Per-frame shape of a row value, or the shape of any other."""

    def dtype(self, value: Value) -> str:
        """Name of a value's type; only the gradients of casts ask for it."""


class Case:
    """A site whose gradient is being built, with the values of its inputs, outputs and output gradients.

    Rules write formulas with `row`, as if for one frame, and hand each per-frame result to `reduce`, which
    knows whether the input is broadcast and whether it is shared.
    """

    def __init__(
        self,
        site: Site,
        emit: Emit,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        ograds: Sequence[Optional[Value]],
        wanted: Sequence[bool],
    ):
        self.site, self.emit, self.attrs = site, emit, site.attrs
        self.inputs, self.outputs, self.ograds, self.wanted = inputs, outputs, ograds, wanted

    def row(self, op: str, *values: Value, **attrs: Any) -> Value:
        """A node for one frame."""
        return self.emit.row(op, *values, **_strings(attrs))

    def shared(self, index: int) -> bool:
        """Whether an input's gradient is a sum over frames."""
        return any(self.site.rows) and not self.site.rows[index]

    def on(self, index: int, op: str, *values: Value, **attrs: Any) -> Value:
        """A node in the domain of an input's gradient: over all rows for a shared input, else per frame."""
        return (self.emit.over_rows if self.shared(index) else self.emit.row)(op, *values, **_strings(attrs))

    def reduce(self, index: int, value: Value) -> Value:
        """The gradient of an input from its per-frame one, which may have the shape it was broadcast to."""
        return reduce_to(self.emit, value, not self.shared(index), self.site.shapes[index])

    def reshape(self, value: Value, shape: Shape) -> Value:
        """A per-frame reshape, left out where it changes nothing."""
        shape = tuple(shape)
        return value if tuple(self.emit.shape(value)) == shape else self.row('Reshape', value, shape=shape)

    def matrix(self, index: int, value: Value) -> Value:
        """A value flattened to (rows, last axis), in the domain of an input's gradient."""
        shape = self.emit.shape(value)
        return value if len(shape) == 2 else self.on(index, 'Reshape', value, shape=(-1, shape[-1]))

    def transposed(self, index: int, value: Value) -> Value:
        """`matrix`, transposed."""
        return self.on(index, 'transpose', self.matrix(index, value), axes=(1, 0))

    def outer(self, index: int, left: Value, right: Value) -> Value:
        """Sum over rows of left[r]' right[r], of shape (left's last axis, right's last axis).

        As a FullyConnected of two transposes, which takes a matrix library several times faster than `dot`
        does.
        """
        return self.on(
            index,
            'FullyConnected',
            self.transposed(index, left),
            self.transposed(index, right),
            num_hidden=self.emit.shape(right)[-1],
            no_bias=True,
        )

    def zeros_or(self, index: int) -> Value:
        """An output's gradient, zeros where there is none."""
        given = self.ograds[index]
        return self.row('zeros_like', self.outputs[index]) if given is None else given


def reduce_to(emit: Emit, value: Value, is_row: bool, shape: Shape) -> Value:
    """Sum a per-frame gradient over broadcast axes and, unless `is_row`, over all frames.

    Parameters
    ----------
    emit : Emit
        Where nodes go.
    value : value
        Per-frame gradient, of the shape that the input was broadcast to.
    is_row : bool
        True for a row input, and for any input of a shared computation: no sum over frames is taken.
    shape : tuple of int
        Per-frame shape of the input.
    """
    shape, have = tuple(shape), tuple(emit.shape(value))
    if is_row:
        return _unbroadcast(emit.row, value, have, shape)
    if not have or have[0] != 1:
        value, have = emit.row('expand_dims', value, axis='0'), (1,) + have
    flat, columns = value, size(have[1:])
    if len(have) != 2:
        flat = emit.over_rows('Reshape', value, shape=str((-1, columns)))
    # A product with ones: MXNet's own sum along axis 0 is about eight times slower.
    first = flat if columns == 1 else emit.over_rows('slice_axis', flat, axis='1', begin='0', end='1')
    total = emit.over_rows('dot', emit.over_rows('ones_like', first), flat, transpose_a='True')
    if size(shape) != columns:
        if have != (1, columns):
            total = emit.over_rows('Reshape', total, shape=str(have))
        return _unbroadcast(emit.over_rows, total, have, shape)
    return total if shape == (1, columns) else emit.over_rows('Reshape', total, shape=str(shape))


def _unbroadcast(node: Callable[..., Value], value: Value, have: Shape, shape: Shape) -> Value:
    if have == shape:
        return value
    padded = (1,) * (len(have) - len(shape)) + shape
    axes = tuple(axis for axis, (h, s) in enumerate(zip(have, padded)) if h != s)
    if axes:
        value = node('sum', value, axis=str(axes), keepdims='True')
    return value if padded == shape else node('Reshape', value, shape=str(shape))


def join_slices(emit: Emit, whole: Value, axis: int, pieces: List[tuple]) -> Value:
    """The gradient of a tensor from those of disjoint slices of it: one Concat, zeros in the gaps.

    Parameters
    ----------
    emit : Emit
        Where nodes go; all are `row` nodes.
    whole : value
        The tensor that was sliced.
    axis : int
        The axis, counted from the front.
    pieces : list of (int, int, value)
        Begin, end and gradient of each slice.

    Raises
    ------
    ValueError
        If slices overlap.
    """
    parts, place, end_of_all = [], 0, emit.shape(whole)[axis]

    def gap(begin, end):
        return emit.row(
            'zeros_like', emit.row('slice_axis', whole, axis=str(axis), begin=str(begin), end=str(end))
        )

    for begin, end, value in sorted(pieces, key=lambda piece: piece[:2]):
        if begin < place:
            raise ValueError(f'slices overlap: one begins at {begin}, another ends at {place}')
        if begin > place:
            parts.append(gap(place, begin))
        parts.append(value)
        place = end
    if place < end_of_all:
        parts.append(gap(place, end_of_all))
    return (
        parts[0] if len(parts) == 1 else emit.row('Concat', *parts, dim=str(axis), num_args=str(len(parts)))
    )


def _strings(attrs: dict) -> dict:
    return {key: str(value) for key, value in attrs.items()}
