"""The functional form: declare a SubGraph with its outputs, then define its body."""
from __future__ import annotations

from typing import Callable, Iterable, Optional

from mxnet.gluon.block import HybridBlock

from .block import RecursiveBlock
from .errors import TraceError

__all__ = ["SubGraph"]


class SubGraph(RecursiveBlock):
    """A recursive function that is declared first and defined afterwards, so that it may call itself and others.

    Parameters
    ----------
    outputs : int, default 1
        How many tensors the body returns. It is known before the body is traced: bodies may call each other in any
        order, and no base case has to be found first.
    blocks : iterable of HybridBlock
        Layers that the body uses; their parameters become this block's.
    prefix, params
        As for every Gluon block.

    Inputs:
        - as for :class:`RecursiveBlock`.

    Outputs:
        - as the body returns them.

    Examples
    --------
    >>> combine = nn.Dense(8)
    >>> height = SubGraph(outputs=1, blocks=[combine])
    >>> @height.define
    ... def body(F, node):
    ...     if node.is_leaf:
    ...         return node['value']
    ...     return combine(F.concat(height(node.left), height(node.right), dim=1))
    >>> height.hybridize()
    >>> out = height(forest)

    References
    ----------
    Jeong et al., "Improving the Expressiveness of Deep Learning Frameworks with Recursion", EuroSys 2018: a SubGraph
    is declared with inputs and outputs before its body, which makes calls inside the body well typed.
    """

    def __init__(self, outputs: int = 1, blocks: Iterable[HybridBlock] = (), prefix: Optional[str] = None, params=None):
        super().__init__(prefix=prefix, params=params)
        if not isinstance(outputs, int) or outputs < 1:
            raise ValueError(f"outputs={outputs!r}; a SubGraph declares how many tensors it returns, at least one")
        self._declared_outputs = outputs
        self._definition: Optional[Callable] = None
        for block in blocks:
            self.register_child(block)

    def define(self, body: Callable) -> Callable:
        """Give the body, ``body(F, node, ...)``; works as a decorator."""
        if self._definition is not None:
            raise TraceError(f"{self.name} is defined already; a SubGraph has one body")
        self._definition = body
        return body

    def hybrid_forward(self, F, *args, **kwargs):
        """Run the body that was defined."""
        if self._definition is None:
            raise TraceError(f"{self.name} was declared but its body was never given; use @{self.name}.define")
        return self._definition(F, *args, **kwargs)
