"""MXNet's element-wise operators as those of the native core (native/src/ew_ops.def)."""

from __future__ import annotations

import math
import struct
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from ...program.rules.site import number, text

__all__ = ["expand"]

#: makes an operator of the core: emit(name, *values, scalar=0.0)
Emit = Callable[..., Any]
Rule = Callable[[Emit, Mapping[str, str], Sequence[Any]], Any]


def expand(op: str, attrs: Mapping[str, str], inputs: Sequence[Any], emit: Emit) -> Optional[Any]:
    """An operator by operators of the core; None where it is not element-wise or not in the set."""
    rule = _RULES.get(op)
    return None if rule is None else rule(emit, attrs, inputs)


def _single(value: float) -> float:
    """A constant as MXNet holds it: in single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def _plain(name: str) -> Rule:
    return lambda e, attrs, x: e(name, *x)


def _scalar(name: str) -> Rule:
    return lambda e, attrs, x: e(name, x[0], scalar=number(attrs, "scalar", 1.0))


def _chain(*names: str) -> Rule:
    """Unary operators one after another."""

    def rule(e: Emit, attrs: Mapping[str, str], x: Sequence[Any]) -> Any:
        value = x[0]
        for name in names:
            value = e(name, value)
        return value

    return rule


def _clip(e, attrs, x):
    low = e("maximum_S", x[0], scalar=number(attrs, "a_min"))
    return e("minimum_S", low, scalar=number(attrs, "a_max"))


def _activation(e, attrs, x):
    kind = text(attrs, "act_type", "")
    if kind == "softsign":
        return _softsign(e, attrs, x)
    return e(kind, x[0]) if kind in ("relu", "sigmoid", "tanh", "softrelu") else None


def _softsign(e, attrs, x):
    return e("div", x[0], e("add_S", e("abs", x[0]), scalar=1.0))


def _leaky_relu(e, attrs, x):
    kind, slope = text(attrs, "act_type", "leaky"), _single(number(attrs, "slope", 0.25))
    a = x[0]
    if kind == "gelu":
        half = e("mul_S", a, scalar=0.5)
        return e("mul", half, e("add_S", e("erf", e("mul_S", a, scalar=1 / math.sqrt(2))), scalar=1.0))
    positive = e("greater_S", a, scalar=0.0)
    if kind == "leaky":
        return e("where", positive, a, e("mul_S", a, scalar=slope))
    if kind == "elu":
        return e("where", positive, a, e("mul_S", e("expm1", a), scalar=slope))
    if kind == "selu":
        scale, alpha = _single(1.0507009873554804934193349852946), _single(1.6732632423543772848170429916717)
        below = e("mul_S", e("expm1", a), scalar=alpha)
        return e("mul_S", e("where", positive, a, below), scalar=scale)
    return None


def _hard_sigmoid(e, attrs, x):
    alpha, beta = _single(number(attrs, "alpha", 0.2)), _single(number(attrs, "beta", 0.5))
    value = e("add_S", e("mul_S", x[0], scalar=alpha), scalar=beta)
    return e("minimum_S", e("maximum_S", value, scalar=0.0), scalar=1.0)


def _smooth_l1(e, attrs, x):
    square = number(attrs, "scalar", 1.0) ** 2
    size = e("abs", x[0])
    inner = e("mul_S", e("square", x[0]), scalar=0.5 * square)
    outer = e("add_S", size, scalar=-0.5 / square)
    return e("where", e("greater_S", size, scalar=1 / square), outer, inner)


def _add_n(e, attrs, x):
    value = x[0]
    for other in x[1:]:
        value = e("add", value, other)
    return value


def _quadratic(e, attrs, x):
    value = e("mul_S", e("square", x[0]), scalar=number(attrs, "a"))
    value = e("add", value, e("mul_S", x[0], scalar=number(attrs, "b")))
    return e("add_S", value, scalar=number(attrs, "c"))


def _times(factor: Callable[..., Any]) -> Rule:
    """g times something of the other operand: the form of most gradients."""
    return lambda e, attrs, x: e("mul", x[0], factor(e, x[1]))


def _over(divisor: Callable[..., Any]) -> Rule:
    return lambda e, attrs, x: e("div", x[0], divisor(e, x[1]))


def _one_minus_square(e, x):
    return e("rsub_S", e("square", x), scalar=1.0)


def _square_plus(value: float) -> Callable[..., Any]:
    return lambda e, x: e("add_S", e("square", x), scalar=value)


def _root(inner: Callable[..., Any]) -> Callable[..., Any]:
    return lambda e, x: e("sqrt", inner(e, x))


def _scaled(name: str, scale: float) -> Callable[..., Any]:
    return lambda e, x: e("mul_S", e(name, x), scalar=scale)


_RULES: Dict[str, Rule] = {
    name: _plain(name)
    for name in """abs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh erf erfinv exp expm1 floor gamma
    gammaln log log1p logical_not relu rint round reciprocal sign sin sinh sqrt square tan tanh sigmoid trunc where
    """.split()
}
_RULES.update(
    (f"_{mx}_scalar", _scalar(f"{name}_S"))
    for mx, name in {
        **{n: n for n in """mul power rpower mod rmod maximum minimum hypot equal not_equal greater greater_equal lesser
           lesser_equal rdiv""".split()},
        "plus": "add",
        "rminus": "rsub",
    }.items()
)
for _prefixes, _names in (
    (("broadcast_", "elemwise_"), "add sub mul div"),
    (("broadcast_", "_"), """power maximum minimum mod hypot equal not_equal greater greater_equal lesser lesser_equal
     logical_and logical_or logical_xor"""),
):
    _RULES.update((p + n, _plain(n)) for p in _prefixes for n in _names.split())
_RULES.update(
    {
        "negative": _plain("neg"),
        "fix": _plain("trunc"),
        "zeros_like": _plain("zero"),
        "ones_like": lambda e, attrs, x: e("fill_S", x[0], scalar=1.0),
        "_grad_add": _plain("add"),
        "_identity_with_attr_like_rhs": lambda e, attrs, x: x[0],
        "make_loss": lambda e, attrs, x: x[0],
        "identity": lambda e, attrs, x: x[0],
        "_contrib_gradientmultiplier": lambda e, attrs, x: x[0],
        "_contrib_round_ste": _plain("round"),
        "_contrib_sign_ste": _plain("sign"),
        "_contrib_quadratic": _quadratic,
        "_minus_scalar": lambda e, attrs, x: e("add_S", x[0], scalar=-number(attrs, "scalar", 1.0)),
        "_div_scalar": lambda e, attrs, x: e("mul_S", x[0], scalar=1.0 / number(attrs, "scalar", 1.0))
        if number(attrs, "scalar", 1.0) != 0 else e("div", x[0], e("fill_S", x[0], scalar=0.0)),
        "_logical_and_scalar": lambda e, attrs, x: e(
            "mul_S", e("not_equal_S", x[0], scalar=0.0), scalar=float(number(attrs, "scalar", 1.0) != 0)),
        "_logical_or_scalar": lambda e, attrs, x: e(
            "maximum_S", e("not_equal_S", x[0], scalar=0.0), scalar=float(number(attrs, "scalar", 1.0) != 0)),
        "_logical_xor_scalar": lambda e, attrs, x: e(
            "not_equal_S", e("not_equal_S", x[0], scalar=0.0), scalar=float(number(attrs, "scalar", 1.0) != 0)),
        "degrees": lambda e, attrs, x: e("mul_S", x[0], scalar=180 / math.pi),
        "radians": lambda e, attrs, x: e("mul_S", x[0], scalar=math.pi / 180),
        "log2": lambda e, attrs, x: e("mul_S", e("log", x[0]), scalar=1 / math.log(2)),
        "log10": lambda e, attrs, x: e("mul_S", e("log", x[0]), scalar=1 / math.log(10)),
        "rsqrt": _chain("sqrt", "reciprocal"),
        "rcbrt": _chain("cbrt", "reciprocal"),
        "softsign": _softsign,
        "clip": _clip,
        "Activation": _activation,
        "LeakyReLU": _leaky_relu,
        "hard_sigmoid": _hard_sigmoid,
        "smooth_l1": _smooth_l1,
        "add_n": _add_n,
        # gradients: x[0] is the gradient, x[1] the operator's input or output
        "_backward_tanh": _plain("dtanh"),
        "_backward_sigmoid": _plain("dsigmoid"),
        "_backward_relu": _plain("drelu"),
        "_backward_abs": _times(lambda e, x: e("sign", x)),
        "_backward_log": _over(lambda e, x: x),
        "_backward_log2": _over(lambda e, x: e("mul_S", x, scalar=math.log(2))),
        "_backward_log10": _over(lambda e, x: e("mul_S", x, scalar=math.log(10))),
        "_backward_log1p": _over(lambda e, x: e("add_S", x, scalar=1.0)),
        "_backward_expm1": _times(lambda e, x: e("exp", x)),
        "_backward_sqrt": _over(lambda e, y: e("mul_S", y, scalar=2.0)),
        "_backward_rsqrt": _over(lambda e, x: e("mul_S", e("mul", x, e("sqrt", x)), scalar=-2.0)),
        "_backward_cbrt": _over(_scaled("square", 3.0)),
        "_backward_rcbrt": _over(lambda e, x: e("mul_S", e("mul", x, e("cbrt", x)), scalar=-3.0)),
        "_backward_square": _times(lambda e, x: e("mul_S", x, scalar=2.0)),
        "_backward_sin": _times(lambda e, x: e("cos", x)),
        "_backward_cos": _times(lambda e, x: e("neg", e("sin", x))),
        "_backward_tan": _times(_square_plus(1.0)),
        "_backward_sinh": _times(lambda e, x: e("cosh", x)),
        "_backward_cosh": _times(lambda e, x: e("sinh", x)),
        "_backward_arcsin": _over(_root(_one_minus_square)),
        "_backward_arccos": _over(lambda e, x: e("neg", e("sqrt", _one_minus_square(e, x)))),
        "_backward_arctan": _over(_square_plus(1.0)),
        "_backward_arcsinh": _over(_root(_square_plus(1.0))),
        "_backward_arccosh": _over(_root(_square_plus(-1.0))),
        "_backward_arctanh": _over(_one_minus_square),
        "_backward_reciprocal": _over(lambda e, x: e("neg", e("square", x))),
    }
)
