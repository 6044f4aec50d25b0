"""The binary Tree-LSTM cell."""
from __future__ import annotations

from typing import Any

from .._compat import mx
from ._gates import split_gates
from ._settings import check_positive

__all__ = ['BinaryTreeLSTMCell']


class BinaryTreeLSTMCell(mx.gluon.HybridBlock):
    r"""The N-ary Tree-LSTM of Tai et al. (2015) for N = 2: one forget gate for each child.

    Reference: Tai, Socher and Manning, "Improved Semantic Representations From Tree-Structured Long
    Short-Term Memory Networks", ACL 2015, section 3.2. A leaf reads an input and has no children; an inner
    node has children and no input:

    .. math::
        \begin{array}{lll}
        \text{leaf:} & [i\; o\; u] = W x + b, & c = \sigma(i) \tanh(u) \\
        \text{node:} & [i\; o\; f_l\; f_r\; u] = U [h_l; h_r] + b,
                     & c = \sigma(i) \tanh(u) + \sigma(f_l) c_l + \sigma(f_r) c_r \\
        \text{both:} & & h = \sigma(o) \tanh(c)
        \end{array}

    As in the paper, each forget gate has weights for both children (:math:`U_f^{kl}`).

    ``cell.leaf(x)`` and ``cell((hl, cl), (hr, cr))`` both return ``(h, c)``.

    Parameters
    ----------
    hidden : int
        Units of `h` and of `c`.
    input_size : int, default 0
        Columns of a leaf's input; 0 finds them at the first call.
    weight_initializer : str or Initializer, optional
        Of both weights; by default the one given to ``initialize()``.
    bias_initializer : str or Initializer, default 'zeros'
        Of both biases.
    forget_bias : float, default 0.0
        If not 0, the forget gates' part of ``node_bias`` starts at this value and the rest of it at 0.
    prefix, params
        See ``gluon.Block``.

    Attributes
    ----------
    leaf : HybridBlock
        Holds ``leaf_weight`` (3 * hidden, input_size) and ``leaf_bias`` (3 * hidden,): rows i, o, u.
    node : HybridBlock
        Holds ``node_weight`` (5 * hidden, 2 * hidden) and ``node_bias`` (5 * hidden,): rows i, o, fl, fr, u;
        columns hl, hr. The order is part of saved files and stays.

    Inputs:
        - **left**: pair (h, c) of the left child, each of shape `(batch_size, hidden)`.
        - **right**: pair (h, c) of the right child, each of shape `(batch_size, hidden)`.

    Outputs:
        - **h**: tensor of shape `(batch_size, hidden)`.
        - **c**: tensor of shape `(batch_size, hidden)`.

    Raises
    ------
    ValueError
        A size is not a whole number above 0 (`input_size` may be 0).

    Examples
    --------
    >>> cell = BinaryTreeLSTMCell(4)
    >>> cell.initialize()
    >>> left, right = cell.leaf(mx.nd.ones((1, 3))), cell.leaf(mx.nd.zeros((1, 3)))
    >>> h, c = cell(left, right)
    >>> h.shape, c.shape
    ((1, 4), (1, 4))
    """

    def __init__(self, hidden: int, input_size: int = 0, weight_initializer: Any = None,
                 bias_initializer: Any = 'zeros', forget_bias: float = 0.0, prefix: Any = None,
                 params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        check_positive(self, hidden=hidden)
        if input_size != 0:
            check_positive(self, input_size=input_size)
        node_bias = _ForgetBias(forget_bias) if forget_bias else bias_initializer
        self._hidden = hidden
        with self.name_scope():
            # A part each, so that each hybridizes into a graph that uses all of its parameters.
            self.leaf = _Leaf(hidden, input_size, weight_initializer, bias_initializer, prefix='leaf_')
            self.node = _Node(hidden, weight_initializer, node_bias, prefix='node_')

    def forward(self, left: Any, right: Any) -> Any:
        return self.node(left, right)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.leaf.weight.shape[1] or None} -> {self._hidden})'


@mx.init.register
class _ForgetBias(mx.init.Initializer):
    """The bias of an inner node: `value` at the forget gates (parts 3 and 4 of 5), 0 elsewhere."""

    def __init__(self, value: float) -> None:
        super().__init__(value=value)
        self._value = value

    def _init_weight(self, _name: str, array: Any) -> None:
        units = array.shape[0] // 5
        array[:] = 0
        array[2 * units:4 * units] = self._value


class _Leaf(mx.gluon.HybridBlock):
    """From an input (batch_size, input_size) to (h, c)."""

    def __init__(self, hidden: int, input_size: int, weight_initializer: Any, bias_initializer: Any,
                 prefix: str) -> None:
        super().__init__(prefix=prefix)
        self._hidden = hidden
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(3 * hidden, input_size), init=weight_initializer,
                                          allow_deferred_init=True)
            self.bias = self.params.get('bias', shape=(3 * hidden,), init=bias_initializer)

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        product = F.FullyConnected(x, weight, bias, num_hidden=3 * self._hidden)  # (N, 3H)
        i, o, u = split_gates(F, product, self._hidden, 2)
        c = i * u
        return o * F.Activation(c, act_type='tanh'), c


class _Node(mx.gluon.HybridBlock):
    """From the states of two children to (h, c)."""

    def __init__(self, hidden: int, weight_initializer: Any, bias_initializer: Any, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self._hidden = hidden
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(5 * hidden, 2 * hidden), init=weight_initializer)
            self.bias = self.params.get('bias', shape=(5 * hidden,), init=bias_initializer)

    def hybrid_forward(self, F: Any, left: Any, right: Any, weight: Any, bias: Any) -> Any:
        (hl, cl), (hr, cr) = left, right
        children = F.concat(hl, hr, dim=1)  # (N, 2H)
        product = F.FullyConnected(children, weight, bias, num_hidden=5 * self._hidden)  # (N, 5H)
        i, o, fl, fr, u = split_gates(F, product, self._hidden, 4)
        c = i * u + fl * cl + fr * cr
        return o * F.Activation(c, act_type='tanh'), c
