"""Operator calls as MXNet receives them, each once: handle, attributes, and what is known of operators so called.

``mxnet.ndarray.register._imperative_invoke`` gets the handle of an operator, its inputs and its attributes as two
lists; the same handle makes a node of a Symbol, so nothing here depends on the name or the signature of an operator.
"""
from __future__ import annotations

import ctypes
import math
import re
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from .._compat import mx

__all__ = ["Aval", "Call", "PURE", "RANDOM", "STATISTICS", "EAGER", "array_aval", "aval", "call", "operator_handle"]

_BASE = mx.base
_LIB = _BASE._LIB
_create_symbol = mx.symbol.register._symbol_creator

#: what may be done with a call: put off and put into graphs; that in the order of the program; that, but its gradient
#: writes inputs (the running statistics of BatchNorm); nothing of it
PURE, RANDOM, STATISTICS, EAGER = range(4)

# Samplers, by MXNet's naming; a sampler's inputs may be parameters of its distribution.
_RANDOM = re.compile(r"_?(random|sample)_(?!pdf)|_shuffle|_image_random|Dropout|RNN$|_npi_(normal|uniform|bernoulli|"
                     r"choice|exponential|gamma|gumbel|logistic|multinomial|pareto|random_randint|rayleigh|shuffle|"
                     r"weibull)")
# Shapes that depend on values; Python inside (Custom, which is our InvokeOp too); sub-graphs; what is a write by
# nature.
_EAGER = re.compile(r"boolean_mask|_npi_(nonzero|unique|where_index|delete)|Custom|_foreach|_while_loop|_cond|"
                    r".*(_update|_set_value|_assign|_scatter_set|_sparse_|csr|dgl_)|_contrib_(quantize|boolean)|_copyto|"
                    r"_sample_unique_zipfian|_contrib_(Proposal|MultiProposal)|_npi_(insert|eig|svd|qr)|load|cast_storage")


@lru_cache(maxsize=None)
def operator_handle(name: str) -> int:
    """The handle of an operator."""
    handle = ctypes.c_void_p()
    _BASE.check_call(_LIB.NNGetOpHandle(_BASE.c_str(name), ctypes.byref(handle)))
    return handle.value or 0


# In a graph's gradient MXNet cannot tell the storage of what these hand to elemwise_mul where one of their inputs
# needs no gradient ("storage_type_num_unknown_nodes"); their twins compute the same bits of arrays of one shape.
_IN_GRAPHS = {operator_handle(f"elemwise_{name}"): operator_handle(f"broadcast_{name}") for name in ("add", "sub")}


class Aval:
    """What is known of an array without its values; one object for all that are alike, compared by identity."""

    __slots__ = ("shape", "dtype", "context", "stype")

    def __init__(self, shape: Tuple[int, ...], dtype: Any, context: Any, stype: str):
        self.shape, self.dtype, self.context, self.stype = shape, dtype, context, stype

    def __repr__(self) -> str:
        return f"{np.dtype(self.dtype).name}{list(self.shape)}@{self.context}"


_avals: Dict[Tuple, Aval] = {}
_contexts: Dict[Any, Any] = {}


def aval(shape: Tuple[int, ...], dtype: Any, context: Any, stype: str = "default") -> Aval:
    """The one Aval of these properties."""
    key = (shape, dtype, context, stype)
    found = _avals.get(key)
    if found is None:
        found = _avals[key] = Aval(shape, dtype, _contexts.setdefault(context, context), stype)
    return found


def array_aval(array: Any) -> Aval:
    """The Aval of an array that exists. Its dtype is a class of NumPy's, as ``mx.nd`` says it; ``mx.np`` says it as a
    numpy.dtype, of another hash."""
    dtype = array.dtype
    if isinstance(dtype, np.dtype) and dtype.names is None:
        dtype = dtype.type
    return aval(array.shape, dtype, array.context, array.stype)


class Call:
    """An operator with its attributes.

    Attributes
    ----------
    results : dict
        From the Avals of the inputs (and whether NumPy shapes are on) to the Avals of the outputs, or None where such
        calls are not put off.
    draws : tuple of bool
        Whether a call draws random numbers: while predicting, while training.
    """

    __slots__ = ("handle", "name", "keys", "values", "numpy", "as_list", "kind", "draws", "results", "variadic")

    def __init__(self, handle: int, keys: Sequence[str], values: Sequence[Any], numpy: bool, as_list: bool):
        self.handle, self.keys, self.values = handle, tuple(keys), tuple(str(v) for v in values)
        self.numpy, self.as_list = numpy, as_list
        self.name, self.variadic = operator_info(handle)
        self.kind = self._kind()
        self.draws = self._draws(False), self._draws(True)
        self.results: Dict[Tuple, Optional[Tuple[Aval, ...]]] = {}

    def _kind(self) -> int:
        attributes = dict(zip(self.keys, self.values))
        if _EAGER.match(self.name):
            return EAGER
        if "BatchNorm" in self.name:
            return STATISTICS
        if self.name == "LeakyReLU":
            return RANDOM if attributes.get("act_type") == "rrelu" else PURE
        return RANDOM if _RANDOM.match(self.name) else PURE

    def _draws(self, training: bool) -> bool:
        """Dropout, of an RNN too, draws while training, or if mode='always'."""
        if self.kind != RANDOM:
            return False
        attributes = dict(zip(self.keys, self.values))
        if self.name == "Dropout":
            return training or attributes.get("mode") == "always"
        if self.name == "RNN":
            return training and float(attributes.get("p", 0)) > 0
        return training or self.name != "LeakyReLU"

    def symbol(self, inputs: List[Any], name: str, handle: int = 0) -> Any:
        """A Symbol of this call, or of the operator of that handle with the same attributes."""
        keys, values = list(self.keys), list(self.values)
        if self.variadic and self.variadic not in keys:
            keys.append(self.variadic)
            values.append(str(len(inputs)))
        handle = handle or _IN_GRAPHS.get(self.handle, self.handle)
        return _create_symbol(handle, inputs, None, keys, values, name, False)

    def infer(self, numpy_shape: int, inputs: Sequence[Aval]) -> Optional[Tuple[Aval, ...]]:
        """What MXNet's own inference says of the outputs on inputs of these shapes; None where that is not all, or
        where no call of this operator has been seen to make dense arrays of dense ones."""
        if self.handle not in _regular or not inputs:
            return None
        variables = [mx.sym.var(f"x{i}") for i in range(len(inputs))]
        made = self.symbol(variables, "op", self.handle)
        try:
            # infer_shape() and infer_type() print what they do not like
            _, shapes, _ = made._infer_shape_impl(False, **{f"x{i}": a.shape for i, a in enumerate(inputs)})
            _, types, _ = made._infer_type_impl(False, **{f"x{i}": a.dtype for i, a in enumerate(inputs)})
        except (mx.MXNetError, ValueError, TypeError):
            return None  # run, it says in its own words what is wrong
        if not shapes or not types or any(shape is None or 0 in shape or None in shape for shape in shapes):
            return None
        results = tuple(aval(tuple(shape), kind, inputs[0].context) for shape, kind in zip(shapes, types))
        self.results[(numpy_shape, *inputs)] = results
        return results

    def learn(self, numpy_shape: int, inputs: Sequence[Aval], results: Sequence[Aval]) -> None:
        """Such calls make such outputs, so they can be put off, if they are of a kind that can."""
        avals = (*inputs, *results)
        regular = (all(a.stype == "default" for a in avals) and len({a.context for a in avals}) == 1
                   and (inputs or "ctx" in self.keys) and not self.mutates(len(inputs)))
        if self.kind != EAGER and regular:
            self.results[(numpy_shape, *inputs)] = tuple(results)
            _regular.add(self.handle)

    def mutates(self, inputs: int) -> bool:
        """Whether the operator itself writes an input, which a Symbol tells as auxiliary states."""
        variables = [mx.sym.var(f"x{i}") for i in range(inputs)]
        return bool(self.symbol(variables, "op").list_auxiliary_states()) and self.kind != STATISTICS

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in zip(self.keys, self.values))})"


_calls: Dict[Tuple, Call] = {}
_regular: Set[int] = set()  # handles of operators that make dense arrays of dense arrays on one context
_info: Dict[int, Tuple[str, str]] = {}
_BOUND = 100_000  # calls kept: a program with a new number in every call must not fill the memory


def call(handle: int, keys: Sequence[str], values: Sequence[Any], numpy: bool, as_list: bool) -> Call:
    """The one Call with these attributes."""
    try:
        # 1, 1.0 and True are equal and their text is not; so are tuples of them
        types = tuple(map(type, values))
        key = (handle, numpy, *keys, *(map(str, values) if tuple in types else values), *types)
        found = _calls.get(key)
    except TypeError:  # a list among the values
        key = (handle, numpy, *keys, *map(str, values))
        found = _calls.get(key)
    if found is None or 0.0 in values:
        found = _remember(key, handle, keys, values, numpy, as_list)
    return found


def _remember(key: Tuple, handle: int, keys: Sequence[str], values: Sequence[Any], numpy: bool, as_list: bool) -> Call:
    if any(isinstance(v, float) and v == 0.0 and math.copysign(1.0, v) < 0 for v in values):
        key = (handle, numpy, *keys, *map(str, values))  # -0.0 equals 0.0
    found = _calls.get(key)
    if found is None:
        if len(_calls) >= _BOUND:
            _calls.clear()
        found = _calls[key] = Call(handle, keys, values, numpy, as_list)
    return found


def operator_info(handle: int) -> Tuple[str, str]:
    """Name of an operator, and the attribute that holds the number of its inputs ('' where that is fixed)."""
    found = _info.get(handle)
    if found is None:
        name, text, count = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_uint()
        lists = [ctypes.POINTER(ctypes.c_char_p)() for _ in range(3)]
        variadic, returns = ctypes.c_char_p(), ctypes.c_char_p()
        _BASE.check_call(_LIB.MXSymbolGetAtomicSymbolInfo(
            ctypes.c_void_p(handle), ctypes.byref(name), ctypes.byref(text), ctypes.byref(count),
            *map(ctypes.byref, lists), ctypes.byref(variadic), ctypes.byref(returns)))
        found = _info[handle] = (_BASE.py_str(name.value), _BASE.py_str(variadic.value or b""))
    return found
