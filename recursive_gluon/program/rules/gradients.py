"""Gradients of MXNet operators, as MXNet operators.

`gradient` builds the gradient of one site out of nodes that an `Emit` makes; nothing runs here. For a row
input the result is a per-frame value; for a shared input it is the sum over all frames.
"""

from typing import Callable, Dict, List, Optional, Sequence

from . import gradients_elementwise, gradients_layers, gradients_second, gradients_shapes
from .gradient_case import Case, Emit, Value, join_slices, reduce_to
from .site import Site

__all__ = ['Emit', 'gradient', 'HAS_RULE', 'join_slices', 'reduce_to']

#: Operators whose gradient is zero everywhere, or that are made to stop it.
NO_GRADIENT = (
    '''
    BlockGrad zeros_like ones_like sign floor ceil round rint fix trunc logical_not one_hot argmax argmin
    argsort shape_array size_array argmax_channel
'''.split()
    + [
        prefix + name
        for name in '''
    equal not_equal greater greater_equal lesser lesser_equal logical_and logical_or logical_xor
'''.split()
        for prefix in ('_', 'broadcast_')
    ]
    + [
        f'_{name}_scalar'
        for name in '''
    equal not_equal greater greater_equal lesser lesser_equal logical_and logical_or logical_xor
'''.split()
    ]
)


def _none(case: Case) -> list:
    return [None] * len(case.inputs)


RULES: Dict[str, Callable[[Case], list]] = {op: _none for op in NO_GRADIENT}
for _family in (gradients_elementwise, gradients_shapes, gradients_layers, gradients_second):
    RULES.update(_family.RULES)


def HAS_RULE(op: str) -> bool:
    """Whether `gradient` knows an operator; `NotImplementedError` may still refuse some uses of it."""
    return op in RULES


def gradient(
    site: Site,
    emit: Emit,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    ograds: Sequence[Optional[Value]],
    wanted: Sequence[bool],
) -> List[Optional[Value]]:
    """Build the gradient of a site.

    Parameters
    ----------
    site : Site
        The operator as used.
    emit : Emit
        Where nodes go.
    inputs, outputs : sequence of value
        The site's inputs and visible outputs.
    ograds : sequence of value or None
        Gradient of each output; None is zero.
    wanted : sequence of bool
        Which inputs' gradients are needed.

    Returns
    -------
    list of value or None
        One entry an input; None is zero or not wanted.

    Raises
    ------
    NotImplementedError
        If the operator has no rule, or none for these attributes.
    """
    rule = RULES.get(site.op)
    if rule is None:
        raise NotImplementedError(f'no gradient rule for operator {site.op}')
    if not any(wanted) or all(ograd is None for ograd in ograds):
        return [None] * len(inputs)
    result = rule(Case(site, emit, inputs, outputs, ograds, wanted))
    return [value if wanted[i] else None for i, value in enumerate(result)]
