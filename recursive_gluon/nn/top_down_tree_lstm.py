"""The top-down Tree-LSTM, which grows its own tree."""
from __future__ import annotations

from typing import Any

from ..block import RecursiveBlock
from ._gates import split_gates
from ._settings import check_positive

__all__ = ['TopDownTreeLSTM']


class TopDownTreeLSTM(RecursiveBlock):
    r"""A Tree-LSTM that unfolds a state into a binary tree and decides itself where to grow.

    After Zhang, Lu and Lapata, "Top-down Tree Long Short-Term Memory Networks", NAACL 2016, and the
    TD-TreeLSTM of Jeong et al., "Improving the Expressiveness of Deep Learning Frameworks with Recursion",
    EuroSys 2018. The state (h, c) comes from above; every call takes an LSTM step, and a gate decides on the
    children:

    .. math::
        [i\; o\; f\; u] &= W h + b, \quad
        c' = \sigma(f) c + \sigma(i) \tanh(u), \quad h' = \sigma(o) \tanh(c') \\
        g &= \sigma(w_g h' + b_g) \\
        [h_l; h_r] &= \tanh(W_c h' + b_c)
            \quad \text{where } g > 0.5 \text{ and depth} < \text{max\_depth}

    The children are calls with :math:`(h_l, c')` and :math:`(h_r, c')`, one level deeper. A call without
    children is a leaf of the grown tree. No gradient passes through the decisions themselves: train the gate
    on `log_prob`, the logarithm of their probability.

    Parameters
    ----------
    hidden : int
        Units of `h` and of `c`.
    max_depth : int, default 10
        At this depth no node grows.
    weight_initializer : str or Initializer, optional
        Of ``step_weight`` (4 * hidden, hidden; rows i, o, f, u), ``grow_weight`` (1, hidden) and
        ``child_weight`` (2 * hidden, hidden; rows hl, hr).
    bias_initializer : str or Initializer, default 'zeros'
        Of ``step_bias``, ``grow_bias`` and ``child_bias``.
    prefix, params
        See ``gluon.Block``.

    Inputs:
        - **forest**: as many trees as there are states; their nodes are not looked at.
        - **h**: tensor of shape `(num_trees, hidden)`.
        - **c**: tensor of shape `(num_trees, hidden)`.
        - **depth**: int, the depth of the first call, most often 0.

    Outputs:
        - **total**: tensor of shape `(num_trees, hidden)`, the sum of `h'` over the grown leaves.
        - **leaves**: tensor of shape `(num_trees, 1)`, their number; ``total / leaves`` is their mean.
        - **log_prob**: tensor of shape `(num_trees, 1)`, the sum over all decisions of log g where a node
          grew, and of log (1 - g) where it did not; a call at `max_depth` decides nothing.

    Raises
    ------
    ValueError
        `hidden` or `max_depth` is not a whole number above 0.

    Examples
    --------
    ::

        net = TopDownTreeLSTM(64, max_depth=6)
        net.initialize()
        total, leaves, log_prob = net(forest, h, c, 0)
    """

    def __init__(self, hidden: int, max_depth: int = 10, weight_initializer: Any = None,
                 bias_initializer: Any = 'zeros', prefix: Any = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        check_positive(self, hidden=hidden, max_depth=max_depth)
        self._hidden, self._max_depth = hidden, max_depth
        sizes = {'step': 4 * hidden, 'grow': 1, 'child': 2 * hidden}
        with self.name_scope():
            for name, rows in sizes.items():
                weight = self.params.get(f'{name}_weight', shape=(rows, hidden), init=weight_initializer)
                bias = self.params.get(f'{name}_bias', shape=(rows,), init=bias_initializer)
                setattr(self, f'{name}_weight', weight)
                setattr(self, f'{name}_bias', bias)

    def hybrid_forward(self, F: Any, node: Any, h: Any, c: Any, depth: Any, step_weight: Any, step_bias: Any,
                       grow_weight: Any, grow_bias: Any, child_weight: Any, child_bias: Any) -> Any:
        n = self._hidden
        product = F.FullyConnected(h, step_weight, step_bias, num_hidden=4 * n)  # (N, 4H)
        i, o, f, u = split_gates(F, product, n, 3)
        c = f * c + i * u
        h = o * F.Activation(c, act_type='tanh')
        score = F.FullyConnected(h, grow_weight, grow_bias, num_hidden=1)  # (N, 1)
        one = F.ones_like(score)
        if depth < self._max_depth:
            if F.Activation(score, act_type='sigmoid') > 0.5:
                children = F.FullyConnected(h, child_weight, child_bias, num_hidden=2 * n)
                children = F.Activation(children, act_type='tanh')  # (N, 2H)
                left = self(node, F.slice_axis(children, axis=1, begin=0, end=n), c, depth + 1)
                right = self(node, F.slice_axis(children, axis=1, begin=n, end=2 * n), c, depth + 1)
                total, leaves, log_prob = (a + b for a, b in zip(left, right))
                return total, leaves, log_prob - F.Activation(-score, act_type='softrelu')
            return h, one, -F.Activation(score, act_type='softrelu')
        return h, one, F.zeros_like(score)
