"""Trees, forests of trees, and the readers that make them."""
from __future__ import annotations

from .forest import Forest as Forest
from .objects import trees_from_objects as trees_from_objects
from .ptb import parse_ptb as parse_ptb
from .ptb import read_ptb as read_ptb
from .ptb import write_ptb as write_ptb
from .tree import Tree as Tree

__all__ = ['Forest', 'Tree', 'parse_ptb', 'read_ptb', 'trees_from_objects', 'write_ptb']
