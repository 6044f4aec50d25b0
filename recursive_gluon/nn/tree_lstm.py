"""The binary Tree-LSTM over trees of words."""
from __future__ import annotations

from typing import Any

from ._tree_network import TreeNetwork
from .binary_tree_lstm_cell import BinaryTreeLSTMCell

__all__ = ['TreeLSTM']


class TreeLSTM(TreeNetwork):
    """A binary Tree-LSTM over trees with words at their leaves, and a classifier at every node.

    Reference and formula: see `BinaryTreeLSTMCell`. A leaf reads its embedded word, an inner node the states
    of ``node.left`` and ``node.right``; with classes, every node has ``logits = W h + b``.

    Parameters
    ----------
    vocab_size : int
        Number of words.
    embed_size : int
        Columns of the embedding.
    hidden : int
        Units of `h` and of `c`.
    num_classes : int, optional
        Classes of each node; without it there are no logits.
    dropout : float, default 0.0
        Part of the embedded word, and of `h` on its way to the logits, that is dropped in training.
    sparse_grad : bool, default True
        Whether the gradient of the embedding has only the rows that were used.
    forget_bias : float, default 0.0
        See `BinaryTreeLSTMCell`.
    prefix, params
        See ``gluon.Block``.

    Inputs:
        - **forest**: a forest of binary trees with the field `word`, at leaves a number below `vocab_size`.

    Outputs:
        - **h**: tensor of shape `(num_trees, hidden)`, or `(num_nodes, hidden)` with ``nodes=True``; so all.
        - **c**: tensor of shape `(num_trees, hidden)`.
        - **logits**: tensor of shape `(num_trees, num_classes)`; only with `num_classes`.

    Raises
    ------
    ValueError
        A size is not a whole number above 0, or `dropout` is not in [0, 1).

    Examples
    --------
    The loss of the Stanford Sentiment Treebank, over all nodes::

        net = TreeLSTM(len(vocab), 300, 150, num_classes=5)
        net.initialize()
        net.hybridize()
        with autograd.record():
            h, c, logits = net(forest, nodes=True)
            loss = SoftmaxCrossEntropyLoss()(logits, forest['label'])
        loss.backward()
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden: int, num_classes: int | None = None,
                 dropout: float = 0.0, sparse_grad: bool = True, forget_bias: float = 0.0, prefix: Any = None,
                 params: Any = None) -> None:
        def make_cell() -> BinaryTreeLSTMCell:
            return BinaryTreeLSTMCell(hidden, embed_size, forget_bias=forget_bias, prefix='cell_')

        super().__init__(vocab_size, embed_size, hidden, num_classes, dropout, sparse_grad, make_cell, prefix,
                         params)

    def hybrid_forward(self, F: Any, node: Any) -> Any:
        if node.is_leaf:
            h, c = self.cell.leaf(self._word(F, node))
        else:
            left, right = self(node.left), self(node.right)
            h, c = self.cell(left[:2], right[:2])
        return (h, c) if self.output is None else (h, c, self._logits(F, h))
