"""What trees that the native core joins have in common."""
from __future__ import annotations

from functools import lru_cache

from ..native.forests import ForestLayout
from ..structure import encode_names

__all__ = ['JoinLayout', 'join_layout']


class JoinLayout:
    """Names, types and shapes of rows of the fields, names of the children; one object for all trees alike."""

    def __init__(self, fields: tuple[str, ...], types: tuple[tuple[str, tuple[int, ...]], ...],
                 slots: tuple[str, ...], list_slot: str | None) -> None:
        self.fields, self.slots, self.list_slot = fields, slots, list_slot
        self.native = ForestLayout(types, encode_names(fields, slots, list_slot))


@lru_cache(maxsize=None)
def join_layout(fields: tuple[str, ...], types: tuple[tuple[str, tuple[int, ...]], ...], slots: tuple[str, ...],
                list_slot: str | None) -> JoinLayout:
    """The layout, made once."""
    return JoinLayout(fields, types, slots, list_slot)
