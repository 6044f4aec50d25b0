"""Trees, forests of trees, the readers that make them, and what goes with them: vocabularies, vectors,
batches.

A leaf of the package: it needs the layout of the packed structure and nothing else of ours. A `Tree` is
immutable and numbered children first; a `Forest` is a tuple of arrays with the nodes of its trees in order,
tree after tree.
"""
from __future__ import annotations

from .batchify import ForestBatchify as ForestBatchify
from .forest import Forest as Forest
from .objects import trees_from_objects as trees_from_objects
from .ptb import parse_ptb as parse_ptb
from .ptb import read_ptb as read_ptb
from .ptb import write_ptb as write_ptb
from .tree import Tree as Tree
from .vectors import load_vectors as load_vectors
from .vocab import Vocab as Vocab

__all__ = ['Forest', 'ForestBatchify', 'Tree', 'Vocab', 'load_vectors', 'parse_ptb', 'read_ptb',
           'trees_from_objects', 'write_ptb']


# Late, so that `python -m recursive_gluon.data.treebank` does not find its module imported already.
def __getattr__(name: str) -> object:
    if name == 'generate_treebank':
        from .treebank import generate_treebank
        return generate_treebank
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
