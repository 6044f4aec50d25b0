"""The cell of recursive neural networks."""
from __future__ import annotations

from typing import Any

from .._compat import mx
from ._settings import check_positive

__all__ = ['TreeRNNCell']


class TreeRNNCell(mx.gluon.HybridBlock):
    r"""The recursive neural network of Socher et al. (2011): one layer over both children.

    Reference: Socher, Lin, Ng and Manning, "Parsing Natural Scenes and Natural Language with Recursive Neural
    Networks", ICML 2011.

    .. math::
        h = \tanh(W [h_l; h_r] + b)

    Parameters
    ----------
    hidden : int
        Units of `h`, and of both children.
    activation : str, default 'tanh'
        What ``F.Activation`` offers: 'tanh', 'relu', 'sigmoid', 'softrelu', 'softsign'.
    weight_initializer : str or Initializer, optional
        Of ``node_weight`` (hidden, 2 * hidden), whose columns are hl, hr.
    bias_initializer : str or Initializer, default 'zeros'
        Of ``node_bias`` (hidden,).
    prefix, params
        See ``gluon.Block``.

    Inputs:
        - **left**: tensor of shape `(batch_size, hidden)`.
        - **right**: tensor of shape `(batch_size, hidden)`.

    Outputs:
        - **h**: tensor of shape `(batch_size, hidden)`.

    Raises
    ------
    ValueError
        `hidden` is not a whole number above 0, or the activation is unknown.

    Examples
    --------
    >>> cell = TreeRNNCell(4)
    >>> cell.initialize()
    >>> cell(mx.nd.ones((1, 4)), mx.nd.zeros((1, 4))).shape
    (1, 4)
    """

    ACTIVATIONS = ('tanh', 'relu', 'sigmoid', 'softrelu', 'softsign')

    def __init__(self, hidden: int, activation: str = 'tanh', weight_initializer: Any = None,
                 bias_initializer: Any = 'zeros', prefix: Any = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        check_positive(self, hidden=hidden)
        if activation not in self.ACTIVATIONS:
            raise ValueError(f'{type(self).__name__} got activation={activation!r}, expected one of '
                             f'{", ".join(self.ACTIVATIONS)}. Use one of these')
        self._hidden, self._activation = hidden, activation
        with self.name_scope():
            self.node_weight = self.params.get('node_weight', shape=(hidden, 2 * hidden),
                                               init=weight_initializer)
            self.node_bias = self.params.get('node_bias', shape=(hidden,), init=bias_initializer)

    def hybrid_forward(self, F: Any, left: Any, right: Any, node_weight: Any, node_bias: Any) -> Any:
        children = F.concat(left, right, dim=1)  # (N, 2H)
        product = F.FullyConnected(children, node_weight, node_bias, num_hidden=self._hidden)
        return F.Activation(product, act_type=self._activation)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self._hidden}, {self._activation})'
