"""What the row-wise rules are made of: the answer `Batch`, and refusal with a reason."""
from dataclasses import dataclass
from typing import Mapping, Optional

from .site import Site

__all__ = ['Batch', 'NotRowwise', 'same', 'rewritten', 'spread', 'need_rank', 'need_shared']


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


def rewritten(site: Site, op: Optional[str] = None, drop: tuple = (), **attrs) -> Batch:
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
            raise NotRowwise('%s needs input %d to have a leading axis of 1 beside inputs that differ from node to '
                             'node, and its shape is %s' % (site.op, i, site.shapes[i]))
    return Batch(batch.op, batch.attrs, todo)


def need_rank(site: Site, rank: int, index: int = 0) -> None:
    """Refuse an input of too few axes."""
    if len(site.shapes[index]) < rank:
        raise NotRowwise('%s of an input of shape %s would work along axis 0, the batch axis'
                         % (site.op, site.shapes[index]))


def need_shared(site: Site, *names: str) -> None:
    """Refuse rows among the inputs after the first; `names` are what a user calls them."""
    for i, row in enumerate(site.rows[1:], 1):
        if row:
            name = names[i - 1] if i <= len(names) else 'input %d' % i
            raise NotRowwise('the %s of %s differs from node to node' % (name, site.op))
    if not site.rows[0]:
        raise NotRowwise('the data of %s is the same for all nodes' % site.op)
