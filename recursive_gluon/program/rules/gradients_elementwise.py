"""Gradients of elementwise operators, broadcasting or not.

A unary rule is a formula of the case, the output's gradient g, the input x and the output y. Where MXNet has
a one-pass backward operator that a CachedOp accepts it is taken, else the fewest passes over memory.
"""

import math
import struct
from typing import Any, Callable, Dict

from .gradient_case import Case, Value
from .site import number, text

__all__ = ['RULES']


def _single(value: float) -> float:
    """A constant as MXNet holds it: in single precision, whatever the type of the arrays."""
    return struct.unpack('f', struct.pack('f', value))[0]


_PI = _single(math.pi)
_ROOT_PI = _single(math.sqrt(_PI))
_ROOT_2 = _single(math.sqrt(2))
_SELU_SCALE, _SELU_ALPHA = (
    _single(1.0507009873554804934193349852946),
    _single(1.6732632423543772848170429916717),
)


def _mul(c: Case, a: Value, b: Value) -> Value:
    return c.row('broadcast_mul', a, b)


def _times(c: Case, value: Value, scalar: float) -> Value:
    return value if scalar == 1 else c.row('_mul_scalar', value, scalar=scalar)


def _plus(c: Case, value: Value, scalar: float) -> Value:
    return c.row('_plus_scalar', value, scalar=scalar)


# -- one input -----------------------------------------------------------------------------------------------


def _unary(formula: Callable[..., Any]) -> Callable[[Case], list]:
    def rule(c: Case) -> list:
        return [formula(c, c.ograds[0], c.inputs[0], c.outputs[0])]

    return rule


def _from_input(name: str) -> Callable[[Case], list]:
    return _unary(lambda c, g, x, y: c.row('_backward_' + name, g, x))


def _from_output(name: str) -> Callable[[Case], list]:
    return _unary(lambda c, g, x, y: c.row('_backward_' + name, g, y))


def _cast(c, g, x, y):
    return c.row('Cast', g, dtype=c.emit.dtype(x))


def _clip(c, g, x, y):
    # MXNet lets the gradient pass at both bounds, where clip changes nothing
    return _mul(c, c.row('_equal', x, y), g)


def _hard_sigmoid(c, g, x, y):
    inside = _mul(c, c.row('_greater_scalar', y, scalar=0), c.row('_lesser_scalar', y, scalar=1))
    return _mul(c, _times(c, g, _single(number(c.attrs, 'alpha', 0.2))), inside)


def _smooth_l1(c, g, x, y):
    slope = number(c.attrs, 'scalar', 1.0) ** 2
    return _mul(c, c.row('clip', _times(c, x, slope), a_min=-1, a_max=1), g)


def _gaussian(c, x, scale):
    return c.row('exp', _times(c, c.row('square', x), scale))


def _erf(c, g, x, y):
    return _mul(c, _times(c, _gaussian(c, x, -1.0), 2 / _ROOT_PI), g)


def _erfinv(c, g, x, y):
    return _mul(c, _times(c, _gaussian(c, y, 1.0), _ROOT_PI / 2), g)


def _softsign(c, g, x, y):
    return _mul(c, c.row('square', c.row('_rminus_scalar', c.row('abs', y), scalar=1)), g)


def _activation(c, g, x, y):
    kind = text(c.attrs, 'act_type', '')
    if kind in ('tanh', 'sigmoid', 'relu'):
        return c.row('_backward_' + kind, g, y)
    if kind == 'softrelu':
        return _mul(c, c.row('Activation', x, act_type='sigmoid'), g)
    if kind == 'softsign':
        return _softsign(c, g, x, y)
    raise NotImplementedError(f"no gradient rule for Activation(act_type='{kind}')")


def _leaky_relu(c: Case) -> list:
    kind, slope = text(c.attrs, 'act_type', 'leaky'), _single(number(c.attrs, 'slope', 0.25))
    g, x, y = c.ograds[0], c.inputs[0], c.outputs[0]
    if kind == 'gelu':
        phi = _times(c, _gaussian(c, x, -1 / _ROOT_2**2), 1 / (_ROOT_PI * _ROOT_2))
        cdf = _plus(c, _times(c, c.row('erf', _times(c, x, 1 / _ROOT_2)), 0.5), 0.5)
        return [_mul(c, c.row('elemwise_add', cdf, _mul(c, phi, x)), g)]
    positive = c.row('_greater_scalar', x, scalar=0)
    if kind == 'leaky':
        return [c.row('where', positive, g, _times(c, g, slope))]
    if kind == 'elu':
        return [c.row('where', positive, g, _mul(c, _plus(c, y, slope), g))]
    if kind == 'selu':
        # not the derivative, which is y + scale * alpha below zero, but what MXNet 1.9.1 computes
        scaled = _times(c, g, _SELU_SCALE)
        return [c.row('where', positive, scaled, _mul(c, _plus(c, y, _SELU_ALPHA), scaled))]
    if kind == 'prelu':
        return _prelu(c, g, x, positive)
    raise NotImplementedError(f"no gradient rule for LeakyReLU(act_type='{kind}')")


def _prelu(c, g, x, positive):
    shape, gamma = c.site.shapes
    aligned = gamma if len(gamma) != 1 else (1, gamma[0]) + (1,) * (len(shape) - 2)
    slope = c.reshape(c.inputs[1], aligned)
    result = [None, None]
    if c.wanted[0]:
        result[0] = c.row('where', positive, g, _mul(c, g, slope))
    if c.wanted[1]:
        value = _mul(c, c.row('_minimum_scalar', x, scalar=0), g)
        if len(gamma) == 1 and len(shape) > 2:  # gamma lies along axis 1, not along the last
            value = c.reshape(c.row('sum', value, axis=tuple(range(2, len(shape)))), shape[:2])
        result[1] = c.reduce(1, value)
    return result


# -- with a scalar -------------------------------------------------------------------------------------------


def _scalar(formula: Callable[..., Any]) -> Callable[[Case], list]:
    def rule(c: Case) -> list:
        return [formula(c, c.ograds[0], c.inputs[0], c.outputs[0], number(c.attrs, 'scalar', 1.0))]

    return rule


def _power_scalar(c, g, x, y, s):
    if s == 1:
        return g
    if s == 2:
        return c.row('_backward_square', g, x)
    return _mul(c, _times(c, c.row('_power_scalar', x, scalar=s - 1), s), g)


def _rpower_scalar(c, g, x, y, s):
    if s > 0:
        return _times(c, _mul(c, g, y), math.log(s))
    # as MXNet: the logarithm of a base that has none
    return _mul(c, _mul(c, g, y), c.row('log', _times(c, c.row('ones_like', x), s)))


def _rmod_scalar(c, g, x, y, s):
    return c.row('negative', _mul(c, c.row('floor', c.row('_rdiv_scalar', x, scalar=s)), g))


_SCALAR = {
    'plus': lambda c, g, x, y, s: g,
    'minus': lambda c, g, x, y, s: g,
    'rminus': lambda c, g, x, y, s: c.row('negative', g),
    'mul': lambda c, g, x, y, s: _times(c, g, s),
    'div': lambda c, g, x, y, s: c.row('_div_scalar', g, scalar=s),
    'rdiv': lambda c, g, x, y, s: _times(c, c.row('_backward_reciprocal', g, x), s),
    'power': _power_scalar,
    'rpower': _rpower_scalar,
    'mod': lambda c, g, x, y, s: g,
    'rmod': _rmod_scalar,
    'maximum': lambda c, g, x, y, s: _mul(c, c.row('_greater_equal_scalar', x, scalar=s), g),
    'minimum': lambda c, g, x, y, s: _mul(c, c.row('_lesser_equal_scalar', x, scalar=s), g),
    'hypot': lambda c, g, x, y, s: _mul(c, c.row('elemwise_div', x, y), g),
}


# -- two inputs ----------------------------------------------------------------------------------------------
# A formula gives the gradient of one side, already reduced: what is linear (a sign) comes after the sum,
# where it is cheap.


def _negated(c, index, value):
    if not any(c.site.rows):  # then the reduction turned round meets a parameter before the sign does
        return c.reduce(index, c.row('negative', value))
    return c.on(index, 'negative', c.reduce(index, value))


_BINARY = {
    'add': (lambda c, g, a, b, y: c.reduce(0, g), lambda c, g, a, b, y: c.reduce(1, g)),
    'sub': (lambda c, g, a, b, y: c.reduce(0, g), lambda c, g, a, b, y: _negated(c, 1, g)),
    'mul': (
        lambda c, g, a, b, y: c.reduce(0, _mul(c, g, b)),
        lambda c, g, a, b, y: c.reduce(1, _mul(c, g, a)),
    ),
    'div': (
        lambda c, g, a, b, y: c.reduce(0, c.row('broadcast_div', g, b)),
        lambda c, g, a, b, y: _negated(c, 1, _mul(c, c.row('broadcast_div', g, b), y)),
    ),
    'power': (
        lambda c, g, a, b, y: c.reduce(
            0, _mul(c, _mul(c, g, b), c.row('broadcast_power', a, c.row('_minus_scalar', b, scalar=1)))
        ),
        lambda c, g, a, b, y: c.reduce(1, _mul(c, _mul(c, g, y), c.row('log', a))),
    ),
    # where both are equal the left side takes the gradient of maximum and minimum
    'maximum': (
        lambda c, g, a, b, y: c.reduce(0, _mul(c, c.row('broadcast_greater_equal', a, b), g)),
        lambda c, g, a, b, y: c.reduce(1, _mul(c, c.row('broadcast_lesser', a, b), g)),
    ),
    'minimum': (
        lambda c, g, a, b, y: c.reduce(0, _mul(c, c.row('broadcast_lesser_equal', a, b), g)),
        lambda c, g, a, b, y: c.reduce(1, _mul(c, c.row('broadcast_greater', a, b), g)),
    ),
    'mod': (
        lambda c, g, a, b, y: c.reduce(0, g),
        lambda c, g, a, b, y: _negated(c, 1, _mul(c, c.row('floor', c.row('broadcast_div', a, b)), g)),
    ),
    'hypot': (
        lambda c, g, a, b, y: c.reduce(0, _mul(c, c.row('broadcast_div', a, y), g)),
        lambda c, g, a, b, y: c.reduce(1, _mul(c, c.row('broadcast_div', b, y), g)),
    ),
}


def _binary(name: str) -> Callable[[Case], list]:
    def rule(c: Case) -> list:
        values = (c, c.ograds[0], c.inputs[0], c.inputs[1], c.outputs[0])
        return [formula(*values) if want else None for formula, want in zip(_BINARY[name], c.wanted)]

    return rule


def _add_n(c: Case) -> list:
    return [c.reduce(i, c.ograds[0]) if want else None for i, want in enumerate(c.wanted)]


def _where(c: Case) -> list:
    cond, g = c.inputs[0], c.ograds[0]
    zeros = c.row('zeros_like', g)
    sides = ((1, (g, zeros)), (2, (zeros, g)))
    return [None] + [c.reduce(i, c.row('where', cond, *pair)) if c.wanted[i] else None for i, pair in sides]


RULES: Dict[str, Callable[[Case], list]] = {}
RULES.update((op, _from_output(op)) for op in 'tanh sigmoid relu sqrt cbrt tan'.split())
RULES.update(
    (op, _from_input(op))
    for op in '''
    abs log log2 log10 log1p expm1 rsqrt rcbrt square sin cos sinh cosh arcsin arccos arctan arcsinh arccosh
    arctanh
    reciprocal'''.split()
)
RULES.update(
    (op, _unary(lambda c, g, x, y: g)) for op in ('_copy', '_contrib_round_ste', '_contrib_sign_ste')
)
RULES.update((op, _unary(_cast)) for op in ('Cast', 'amp_cast'))
RULES.update(
    (op, _unary(formula))
    for op, formula in {
        'exp': lambda c, g, x, y: _mul(c, g, y),
        'negative': lambda c, g, x, y: c.row('negative', g),
        'make_loss': lambda c, g, x, y: c.row('ones_like', x),
        'degrees': lambda c, g, x, y: _times(c, g, _single(180 / _PI)),
        'radians': lambda c, g, x, y: _times(c, g, math.pi / 180),
        'clip': _clip,
        'hard_sigmoid': _hard_sigmoid,
        'smooth_l1': _smooth_l1,
        'erf': _erf,
        'erfinv': _erfinv,
        'softsign': _softsign,
        'Activation': _activation,
        '_contrib_gradientmultiplier': lambda c, g, x, y: _times(c, g, number(c.attrs, 'scalar', 1.0)),
        '_contrib_quadratic': lambda c, g, x, y: _mul(
            c, g, _plus(c, _times(c, x, 2 * number(c.attrs, 'a')), number(c.attrs, 'b'))
        ),
        '_contrib_div_sqrt_dim': lambda c, g, x, y: _times(c, g, 1 / math.sqrt(c.site.shapes[0][-1])),
    }.items()
)
RULES.update((f'_{name}_scalar', _scalar(formula)) for name, formula in _SCALAR.items())
RULES.update(('broadcast_' + name, _binary(name)) for name in _BINARY)
RULES.update(('elemwise_' + name, _binary(name)) for name in ('add', 'sub', 'mul', 'div'))
RULES.update(('_' + name, _binary(name)) for name in ('power', 'maximum', 'minimum', 'mod', 'hypot'))
RULES.update({'LeakyReLU': _leaky_relu, 'add_n': _add_n, 'where': _where})
