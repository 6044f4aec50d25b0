"""What the networks over binary trees share: words at leaves, a classifier at every node."""
from __future__ import annotations

from typing import Any, Callable

from .._compat import mx
from ..block import RecursiveBlock
from ._settings import check_fraction, check_positive

__all__ = ['TreeNetwork']


class TreeNetwork(RecursiveBlock):
    """Embedding, recursion, dropout and classifier; subclasses choose the cell, TreeLSTM also the recursion.

    The children are ``embed``, ``cell`` and, if there are classes, ``output``. `make_cell` is called inside
    the network's name scope.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden: int, num_classes: int | None,
                 dropout: float, sparse_grad: bool, make_cell: Callable[[], Any], prefix: Any,
                 params: Any) -> None:
        super().__init__(prefix=prefix, params=params)
        check_positive(self, vocab_size=vocab_size, embed_size=embed_size, hidden=hidden)
        check_fraction(self, dropout=dropout)
        if num_classes is not None:
            check_positive(self, num_classes=num_classes)
        self._dropout = dropout
        nn = mx.gluon.nn
        with self.name_scope():
            self.embed = nn.Embedding(vocab_size, embed_size, sparse_grad=sparse_grad, prefix='embed_')
            self.cell = make_cell()
            self.output: Any = None
            if num_classes:
                self.output = nn.Dense(num_classes, in_units=hidden, prefix='output_')

    def hybrid_forward(self, F: Any, node: Any) -> Any:
        if node.is_leaf:
            h = self._word(F, node)
        else:
            h = self.cell(self._state(node.left), self._state(node.right))
        return h if self.output is None else (h, self._logits(F, h))

    def _state(self, child: Any) -> Any:
        return self(child) if self.output is None else self(child)[0]

    def _word(self, F: Any, node: Any) -> Any:
        """The embedded word of a leaf: (1, embed_size)."""
        return self._drop(F, self.embed(node['word']))

    def _logits(self, F: Any, h: Any) -> Any:
        return self.output(self._drop(F, h))

    def _drop(self, F: Any, x: Any) -> Any:
        return F.Dropout(x, p=self._dropout) if self._dropout else x
