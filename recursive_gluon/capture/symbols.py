"""Symbols that behave as NDArrays do, so that a traced body computes what its eager twin computes.

Raw ``mx.sym`` differs silently: ``a + b`` does not broadcast, ``x[0]`` picks an output, ``len(x)`` is 1. While a body
is traced, every symbol that an operator makes is a :class:`TracedSymbol`.
"""
from __future__ import annotations

import threading
from contextlib import contextmanager
from numbers import Number
from typing import Optional

import mxnet._ctypes.symbol as _creator  # noqa: E402  (the import gate ran before: see _compat)

from .._compat import mx
from ..errors import TraceError
from ..program.expr import Expr, const
from ..structure import string_code
from .records import user_location

__all__ = ["TracedSymbol", "traced", "tracing", "current_trace"]

_local = threading.local()
_class_lock = threading.RLock()


def current_trace():
    """The trace that runs in this thread, or None."""
    return getattr(_local, "trace", None)


@contextmanager
def tracing(trace):
    """Operators called inside make TracedSymbols that belong to `trace`."""
    # The class that operators instantiate is one global of MXNet's: hold the lock while it is ours.
    with _class_lock:
        before, before_class = current_trace(), _creator._symbol_cls
        _local.trace = trace
        _creator._set_symbol_class(TracedSymbol)
        try:
            with mx.name.NameManager():
                yield trace
        finally:
            _creator._set_symbol_class(before_class)
            _local.trace = before


def traced(symbol, expr: Optional[Expr] = None) -> "TracedSymbol":
    """`symbol` as a TracedSymbol; `expr` is its structural meaning, where it has one."""
    result = TracedSymbol(symbol.handle)
    symbol.handle = None  # the handle has one owner
    result._expr = expr
    return result


def _binary(array_op: str, scalar_op: str, structural: Optional[str] = None, reverse: bool = False):
    def method(self, other):
        if isinstance(other, str) and self._expr is not None:
            other = string_code(other)
        if isinstance(other, (bool, Number)):
            out = getattr(mx.sym._internal, scalar_op)(self, scalar=other)
        elif isinstance(other, mx.sym.Symbol):
            left, right = (other, self) if reverse else (self, other)
            out = getattr(mx.sym, array_op)(left, right)
        elif hasattr(other, "as_tensor"):
            return method(self, other.as_tensor())
        else:
            return NotImplemented
        right_expr = const(other) if isinstance(other, Number) else getattr(other, "_expr", None)
        if structural and self._expr is not None and right_expr is not None:
            pair = (right_expr, self._expr) if reverse else (self._expr, right_expr)
            out._expr = Expr(structural, pair)
        return out
    return method


class TracedSymbol(mx.sym.Symbol):
    """The result of an operator in a body that is being traced. See the module's docstring."""

    __slots__ = ["_expr"]

    def __init__(self, handle):
        super().__init__(handle)
        self._expr = None

    def _compose(self, *args, **kwargs):
        super()._compose(*args, **kwargs)
        trace = current_trace()
        if trace is not None:
            self._set_attr(__where__=user_location(), __made__=str(trace.created()))

    # arithmetic broadcasts, as NDArray's does
    __add__ = _binary("broadcast_add", "_plus_scalar", "add")
    __radd__ = _binary("broadcast_add", "_plus_scalar", "add", reverse=True)
    __iadd__ = __add__
    __sub__ = _binary("broadcast_sub", "_minus_scalar", "sub")
    __rsub__ = _binary("broadcast_sub", "_rminus_scalar", "sub", reverse=True)
    __isub__ = __sub__
    __mul__ = _binary("broadcast_mul", "_mul_scalar", "mul")
    __rmul__ = _binary("broadcast_mul", "_mul_scalar", "mul", reverse=True)
    __imul__ = __mul__
    __truediv__ = _binary("broadcast_div", "_div_scalar")
    __rtruediv__ = _binary("broadcast_div", "_rdiv_scalar", reverse=True)
    __itruediv__ = __truediv__
    __div__, __rdiv__, __idiv__ = __truediv__, __rtruediv__, __truediv__
    __mod__ = _binary("broadcast_mod", "_mod_scalar", "mod")
    __rmod__ = _binary("broadcast_mod", "_rmod_scalar", reverse=True)
    __pow__ = _binary("broadcast_power", "_power_scalar")
    __rpow__ = _binary("broadcast_power", "_rpower_scalar", reverse=True)
    __eq__ = _binary("broadcast_equal", "_equal_scalar", "eq")
    __ne__ = _binary("broadcast_not_equal", "_not_equal_scalar", "ne")
    __gt__ = _binary("broadcast_greater", "_greater_scalar", "gt")
    __lt__ = _binary("broadcast_lesser", "_lesser_scalar", "lt")
    __ge__ = _binary("broadcast_greater_equal", "_greater_equal_scalar", "ge")
    __le__ = _binary("broadcast_lesser_equal", "_lesser_equal_scalar", "le")
    __hash__ = object.__hash__

    def __neg__(self):
        return self * -1.0

    # a decision on a value
    def __bool__(self):
        trace = current_trace()
        if trace is None:
            raise TraceError("the truth of a traced tensor was asked for after its trace had ended; "
                             "do not keep tensors of a body beyond the call")
        return trace.decide(self if self._expr is None else self._expr)

    __nonzero__ = __bool__

    # several outputs are a list, one output is an array
    def _outputs(self) -> int:
        return len(self.list_outputs())

    def __len__(self):
        return self._outputs() if self._outputs() > 1 else self.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        if isinstance(index, int) and self._outputs() > 1:
            return traced(mx.sym.Symbol.__getitem__(self, index))
        return _basic_index(self, index)

    def __setitem__(self, index, value):
        raise _unsupported("assignment to a slice", "build a new array, for example with F.concat or F.where")

    @property
    def shape(self):
        trace = current_trace()
        shape = trace.shape_of(self) if trace is not None else None
        if shape is None:
            raise _unsupported("the shape of a tensor that depends on parameters not initialized yet",
                               "give in_units, or call the block once before hybridize()")
        return shape

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def size(self):
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def T(self):
        return mx.sym.transpose(self)

    def _no_value(self, *_args, **_kwargs):
        raise _unsupported("the value of a tensor, read by Python",
                           "decide with `if tensor > 0:`, or compute with operators")

    asnumpy = asscalar = item = tolist = __int__ = __float__ = __index__ = wait_to_read = _no_value

    def copy(self):
        return mx.sym.identity(self)

    def detach(self):
        return mx.sym.BlockGrad(self)

    def as_in_context(self, _context):
        return self

    as_in_ctx = as_in_context


def _unsupported(what: str, hint: str) -> TraceError:
    return TraceError(f"{user_location()}: a traced body cannot use {what}; {hint}")


def _basic_index(x: TracedSymbol, index):
    """``x[index]`` for integers, slices, None and Ellipsis, as NDArray does it."""
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not (i is None or i is Ellipsis or isinstance(i, (int, slice))) for i in items):
        raise _unsupported(f"the index {index!r}", "use F.take, F.pick or F.gather_nd")
    if Ellipsis in items:
        at = next(k for k, i in enumerate(items) if i is Ellipsis)
        given = sum(i is not None and i is not Ellipsis for i in items)
        items[at:at + 1] = [slice(None)] * (x.ndim - given)
    axis, dropped, out = 0, [], x
    for item in items:
        if item is None:
            continue
        if isinstance(item, int):
            out = mx.sym.slice_axis(out, axis=axis, begin=item, end=item + 1 if item != -1 else None)
            dropped.append(axis)
        elif item != slice(None):
            if item.step in (None, 1):
                out = mx.sym.slice_axis(out, axis=axis, begin=item.start or 0, end=item.stop)
            else:
                full = [None] * axis
                out = mx.sym.slice(out, begin=full + [item.start], end=full + [item.stop], step=full + [item.step])
        axis += 1
    if dropped:
        # MXNet has no 0-dim arrays here: indexing away every axis leaves shape (1,), as NDArray does
        if len(dropped) == axis and x.ndim == axis:
            dropped = dropped[1:]
            out = mx.sym.squeeze(out, axis=tuple(dropped)) if dropped else out
        else:
            out = mx.sym.squeeze(out, axis=tuple(dropped))
    position = 0
    for item in items:
        if item is None:
            out = mx.sym.expand_dims(out, axis=position)
            position += 1
        elif not isinstance(item, int):
            position += 1
    return out
