"""The recursive neural tensor network over trees of words."""
from __future__ import annotations

from typing import Any

from ._tree_network import TreeNetwork
from .rntn_cell import RNTNCell

__all__ = ['RNTN']


class RNTN(TreeNetwork):
    """A recursive neural tensor network over binary trees with words at their leaves, and a classifier at
    every node.

    Reference and formula: see `RNTNCell`. Everything else is as in `TreeRNN`.

    Parameters
    ----------
    vocab_size : int
        Number of words.
    hidden : int
        Units of `h`, and columns of the embedding. The tensor has ``4 * hidden ** 3`` entries.
    num_classes : int, optional
        Classes of each node; without it there are no logits.
    dropout : float, default 0.0
        Part of the embedded word, and of `h` on its way to the logits, that is dropped in training.
    sparse_grad : bool, default True
        Whether the gradient of the embedding has only the rows that were used.
    prefix, params
        See ``gluon.Block``.

    Inputs:
        - **forest**: a forest of binary trees with the field `word`, at leaves a number below `vocab_size`.

    Outputs:
        - **h**: tensor of shape `(num_trees, hidden)`, or `(num_nodes, hidden)` with ``nodes=True``; the only
          output where there are no classes.
        - **logits**: tensor of shape `(num_trees, num_classes)`, or a row a node; only with `num_classes`.

    Raises
    ------
    ValueError
        A size is not a whole number above 0, or `dropout` is not in [0, 1).
    """

    def __init__(self, vocab_size: int, hidden: int, num_classes: int | None = None, dropout: float = 0.0,
                 sparse_grad: bool = True, prefix: Any = None, params: Any = None) -> None:
        super().__init__(vocab_size, hidden, hidden, num_classes, dropout, sparse_grad,
                         lambda: RNTNCell(hidden, prefix='cell_'), prefix, params)
