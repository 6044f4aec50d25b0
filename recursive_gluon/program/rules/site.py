"""One operator as used at one node of a body, and the reading of its attributes.

Attributes are strings, as in Symbol JSON, and the same value has several spellings there ('(1, 2)', '[1,2]',
'1', 'None', 'True', '1'); the functions here are the only place that knows them.
"""

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

__all__ = ['Site', 'Shape', 'flag', 'integer', 'number', 'text', 'numbers', 'as_axis', 'as_axes', 'size']

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """One operator as used at one node of a body.

    Parameters
    ----------
    op : str
        MXNet operator name as in Symbol JSON, such as 'FullyConnected' or '_plus_scalar'.
    attrs : Mapping[str, str]
        Attributes as in Symbol JSON: all values are strings.
    shapes : tuple of tuple of int
        Per-frame shapes of the inputs.
    rows : tuple of bool
        Which inputs vary from frame to frame.
    out_shapes : tuple of tuple of int
        Per-frame shapes of all visible outputs.
    """

    op: str
    attrs: Mapping[str, str]
    shapes: tuple
    rows: tuple
    out_shapes: tuple


def text(attrs: Mapping[str, str], name: str, default: str) -> str:
    """An attribute as it stands."""
    return str(attrs.get(name, default)).strip()


def flag(attrs: Mapping[str, str], name: str, default: bool = False) -> bool:
    """A boolean attribute: 'True', 'true' and '1' are true."""
    return text(attrs, name, str(default)).lower() in ('true', '1')


def number(attrs: Mapping[str, str], name: str, default: float = 0.0) -> float:
    """A real attribute."""
    return float(text(attrs, name, str(default)))


def integer(attrs: Mapping[str, str], name: str, default: Optional[int] = None) -> Any:
    """A whole-number attribute, or None. A tuple of one number counts as that number."""
    values = numbers(attrs, name, None if default is None else (default,))
    return values[0] if values else None


def numbers(attrs: Mapping[str, str], name: str, default: Optional[tuple] = None) -> Any:
    """A shape-like attribute: a tuple whose entries are int or None, or None for 'None'."""
    if name not in attrs:
        return default
    value = str(attrs[name]).strip()
    if value in ('None', ''):
        return None
    parts = [part.strip().rstrip('L') for part in value.strip('()[] ').split(',')]
    return tuple(None if part == 'None' else int(float(part)) for part in parts if part)


def as_axis(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def as_axes(axes: Optional[tuple], rank: int) -> tuple:
    """Axes counted from the front; None and () mean all of them, as MXNet's reductions read them."""
    return tuple(sorted({as_axis(axis, rank) for axis in axes})) if axes else tuple(range(rank))


def size(shape: Shape) -> int:
    """Number of elements."""
    count = 1
    for extent in shape:
        count *= extent
    return count
