"""Gradients of the backward operators that the gradient rules emit: what second-order gradients are made of.

``_backward_f(g, a)`` is g times f'(a), where `a` is the operator's input or, for some, its output. It is linear in g,
and its derivative by `a` is g times f''(a), of which the table holds the second factor.
"""

import math
from typing import Any, Callable, Dict, Optional

from .gradient_case import Case, Value

__all__ = ['RULES']


def _scaled(c: Case, value: Value, scalar: float) -> Value:
    return c.row('_mul_scalar', value, scalar=scalar)


def _plus(c: Case, value: Value, scalar: float) -> Value:
    return c.row('_plus_scalar', value, scalar=scalar)


def _product(c: Case, *values: Value) -> Value:
    result = values[0]
    for value in values[1:]:
        result = c.row('broadcast_mul', result, value)
    return result


def _power(c: Case, value: Value, exponent: float) -> Value:
    return c.row('_power_scalar', value, scalar=exponent)


def _times_power(scale: float, exponent: float) -> Callable[..., Any]:
    """scale * a ** exponent."""
    return lambda c, a: _scaled(c, _power(c, a, exponent), scale)


def _over_square(sign: float, offset: float, exponent: float) -> Callable[..., Any]:
    """a * (offset + sign * a ** 2) ** exponent."""

    def formula(c, a):
        inner = _plus(c, _scaled(c, c.row('square', a), sign), offset)
        return _product(c, a, _power(c, inner, exponent))

    return formula


def _times(scale: float, formula: Callable[..., Any]) -> Callable[..., Any]:
    return lambda c, a: _scaled(c, formula(c, a), scale)


# of the output, as MXNet's operators are: f'(y) derived by y
_OF_OUTPUT: Dict[str, Callable[..., Any]] = {
    'tanh': lambda c, y: _scaled(c, y, -2),
    'sigmoid': lambda c, y: _plus(c, _scaled(c, y, -2), 1),
    'sqrt': _times_power(-0.5, -2),
    'cbrt': _times_power(-2 / 3, -3),
    'tan': lambda c, y: _scaled(c, y, 2),
}
_OF_INPUT: Dict[str, Callable[..., Any]] = {
    'log': _times_power(-1, -2),
    'log2': _times_power(-1 / math.log(2), -2),
    'log10': _times_power(-1 / math.log(10), -2),
    'log1p': lambda c, x: c.row('negative', _power(c, _plus(c, x, 1), -2)),
    'expm1': lambda c, x: c.row('exp', x),
    'rsqrt': _times_power(0.75, -2.5),
    # by cbrt: a power of a negative number with a fraction would be no number
    'rcbrt': lambda c, x: _scaled(c, _power(c, c.row('cbrt', x), -7), 4 / 9),
    'square': lambda c, x: _scaled(c, c.row('ones_like', x), 2),
    'sin': lambda c, x: c.row('negative', c.row('sin', x)),
    'cos': lambda c, x: c.row('negative', c.row('cos', x)),
    'sinh': lambda c, x: c.row('sinh', x),
    'cosh': lambda c, x: c.row('cosh', x),
    'arcsin': _over_square(-1, 1, -1.5),
    'arccos': _times(-1, _over_square(-1, 1, -1.5)),
    'arctan': _times(-2, _over_square(1, 1, -2)),
    'arcsinh': _times(-1, _over_square(1, 1, -1.5)),
    'arccosh': _times(-1, _over_square(1, -1, -1.5)),
    'arctanh': _times(2, _over_square(-1, 1, -2)),
    'reciprocal': _times_power(2, -3),
}
#: piecewise linear: the second derivative is zero
_STRAIGHT = ('relu', 'abs')


def _rule(formula: Optional[Callable[..., Any]]) -> Callable[[Case], list]:
    def rule(c: Case) -> list:
        u, (g, a) = c.ograds[0], c.inputs
        result = [None, None]
        if c.wanted[0]:
            result[0] = c.reduce(0, c.row(c.site.op, u, a))
        if c.wanted[1] and formula is not None:
            result[1] = c.reduce(1, _product(c, u, g, formula(c, a)))
        return result

    return rule


RULES: Dict[str, Callable[[Case], list]] = {
    f'_backward_{name}': _rule(formula)
    for name, formula in {**_OF_OUTPUT, **_OF_INPUT}.items()
}
RULES.update((f'_backward_{name}', _rule(None)) for name in _STRAIGHT)
