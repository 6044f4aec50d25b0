"""Checks of what users give to constructors."""
from __future__ import annotations

from typing import Any

__all__ = ['check_positive', 'check_fraction']


def check_positive(owner: object, **sizes: Any) -> None:
    """Raise ValueError unless every size is a whole number above 0."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f'{type(owner).__name__} got {name}={value!r}, expected a whole number above 0. '
                             f'Give the number of units as {name}')


def check_fraction(owner: object, **rates: Any) -> None:
    """Raise ValueError unless every rate lies in [0, 1)."""
    for name, value in rates.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ValueError(f'{type(owner).__name__} got {name}={value!r}, expected a number from 0 to '
                             f'below 1. {name} is the part that is dropped; 0 drops nothing')
