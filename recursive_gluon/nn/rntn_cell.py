"""The cell of recursive neural tensor networks."""
from __future__ import annotations

from typing import Any

from .._compat import mx
from ._settings import check_positive

__all__ = ['RNTNCell']


class RNTNCell(mx.gluon.HybridBlock):
    r"""The recursive neural tensor network of Socher et al. (2013): a layer, and a bilinear form a unit.

    Reference: Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank",
    EMNLP 2013, section 4.3.

    .. math::
        a = [h_l; h_r], \qquad h_k = \tanh(a^T V_k a + (W a + b)_k)

    Parameters
    ----------
    hidden : int
        Units of `h`, and of both children. The tensor has ``4 * hidden ** 3`` entries.
    weight_initializer : str or Initializer, optional
        Of ``node_weight`` (hidden, 2 * hidden), whose columns are hl, hr.
    bias_initializer : str or Initializer, default 'zeros'
        Of ``node_bias`` (hidden,).
    tensor_initializer : str or Initializer, optional
        Of ``tensor_weight`` (hidden * 2 * hidden, 2 * hidden): the matrices :math:`V_1, V_2, ...` below each
        other, so that one matrix product serves all units.
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
        `hidden` is not a whole number above 0.

    Examples
    --------
    >>> cell = RNTNCell(4)
    >>> cell.initialize()
    >>> cell(mx.nd.ones((1, 4)), mx.nd.zeros((1, 4))).shape
    (1, 4)
    """

    def __init__(self, hidden: int, weight_initializer: Any = None, bias_initializer: Any = 'zeros',
                 tensor_initializer: Any = None, prefix: Any = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        check_positive(self, hidden=hidden)
        self._hidden = hidden
        with self.name_scope():
            self.node_weight = self.params.get('node_weight', shape=(hidden, 2 * hidden),
                                               init=weight_initializer)
            self.node_bias = self.params.get('node_bias', shape=(hidden,), init=bias_initializer)
            self.tensor_weight = self.params.get('tensor_weight', shape=(2 * hidden * hidden, 2 * hidden),
                                                 init=tensor_initializer)

    def hybrid_forward(self, F: Any, left: Any, right: Any, node_weight: Any, node_bias: Any,
                       tensor_weight: Any) -> Any:
        n = self._hidden
        a = F.concat(left, right, dim=1)  # (N, 2H)
        rows = F.FullyConnected(a, tensor_weight, no_bias=True, num_hidden=2 * n * n)  # (N, H * 2H): V_k a
        rows = F.reshape(rows, shape=(-1, n, 2 * n))
        forms = F.batch_dot(rows, F.expand_dims(a, axis=2))  # (N, H, 1)
        linear = F.FullyConnected(a, node_weight, node_bias, num_hidden=n)
        return F.Activation(F.reshape(forms, shape=(-1, n)) + linear, act_type='tanh')

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self._hidden})'
