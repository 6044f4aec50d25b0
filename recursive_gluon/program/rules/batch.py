"""What the row-wise rules are made of: the answer `Batch`, and refusal with a reason."""

from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Optional, Sequence

from .site import Site

__all__ = [
    'Batch',
    'NotRowwise',
    'same',
    'rewritten',
    'spread',
    'need_rank',
    'need_shared',
    'need_few_groups',
    'need_few_reduced',
]


@dataclass(frozen=True)
class Batch:
    """How to run a site over B frames at once.

    Parameters
    ----------
    op : str
        The operator to run; not always the site's own.
    attrs : Mapping[str, str]
        Its attributes.
    spread : tuple of int
        Indices of shared inputs, all of leading size 1, that must first be repeated to B rows along axis 0.
    """

    op: str
    attrs: Mapping[str, str]
    spread: tuple = ()


class NotRowwise(Exception):
    """Raised inside a rule; its text is the reason a user reads."""


def same(site: Site) -> Batch:
    """The site's operator as it is."""
    return Batch(site.op, site.attrs)


def rewritten(site: Site, op: Optional[str] = None, drop: tuple = (), **attrs: Any) -> Batch:
    """The site's operator with some attributes replaced (values are turned into strings) or dropped."""
    kept = {key: value for key, value in site.attrs.items() if key not in drop and key not in attrs}
    kept.update((key, str(value)) for key, value in attrs.items())
    return Batch(op or site.op, kept)


def spread(site: Site, batch: Optional[Batch] = None, inputs: Optional[tuple] = None) -> Batch:
    """The site's operator with its shared inputs (or those among `inputs`) repeated to one row a frame."""
    batch = batch or same(site)
    todo = tuple(i for i in (range(len(site.rows)) if inputs is None else inputs) if not site.rows[i])
    for i in todo:
        if not site.shapes[i] or site.shapes[i][0] != 1:
            raise NotRowwise(
                f'{site.op} needs input {i} to have a leading axis of 1 beside inputs that differ from '
                f'node to node, and its shape is {site.shapes[i]}'
            )
    return Batch(batch.op, batch.attrs, todo)


def need_rank(site: Site, rank: int, index: int = 0) -> None:
    """Refuse an input of too few axes."""
    if len(site.shapes[index]) < rank:
        raise NotRowwise(
            f'{site.op} of an input of shape {site.shapes[index]} would work along axis 0, the batch axis'
        )


def need_shared(site: Site, *names: str) -> None:
    """Refuse rows among the inputs after the first; `names` are what a user calls them."""
    for i, row in enumerate(site.rows[1:], 1):
        if row:
            name = names[i - 1] if i <= len(names) else f'input {i}'
            raise NotRowwise(f'the {name} of {site.op} differs from node to node')
    if not site.rows[0]:
        raise NotRowwise(f'the data of {site.op} is the same for all nodes')


def need_few_groups(site: Site, batch_kind: Any, axes: Iterable[tuple]) -> None:
    """Refuse a broadcast of two inputs that MXNet cannot do for many rows.

    Its kernels merge neighbouring axes that are treated alike and take at most five groups. The batch axis of
    one node has size 1 and is no group; that of many is. `axes` are (size, how it is treated) of the others.
    """
    groups, last = 1, batch_kind
    for extent, kind in axes:
        if extent != 1 and kind != last:
            groups, last = groups + 1, kind
    if groups > 5:
        raise NotRowwise(f'{site.op} of many nodes treats more groups of axes apart than MXNet can')


def need_few_reduced(site: Site, big: Sequence[int], small: Sequence[int]) -> None:
    """Refuse a reduction of `big` to `small`, or the broadcast back, that MXNet cannot do for many rows.

    The same limit as in `need_few_groups`, but these kernels also part groups at a kept axis of size 1. `big`
    and `small` are without the batch axis.
    """
    groups, big_count, small_count = 1, 2, 2  # the batch axis, kept, of any size above 1
    for wide, narrow in zip(big, small):
        reduced = wide != narrow
        if (reduced and small_count > 1) or (not reduced and big_count != small_count):
            groups, big_count, small_count = groups + 1, 1, 1
        big_count *= wide
        small_count *= 1 if reduced else wide
    if groups > 5:
        raise NotRowwise(f'{site.op} of many nodes treats more groups of axes apart than MXNet can')
