"""A Trainer whose step costs one native call."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from . import native
from ._compat import mx
from .capture.interception import barrier

__all__ = ["Trainer"]

_p, _i32 = ctypes.c_void_p, ctypes.c_int32

# The numbers of native/src/optimizers.h.
_SGD, _MOMENTUM, _ADAM, _ADAGRAD, _SGD_ALONE = range(5)
#: optimizer -> states a parameter
_STATES = {_SGD: 0, _MOMENTUM: 1, _ADAM: 2, _ADAGRAD: 1}


class Trainer(mx.gluon.Trainer):
    """``gluon.Trainer`` with little overhead: all parameters are updated by one call of the native core.

    The interface, the results and the files of states are those of ``gluon.Trainer``. The native core serves float32
    parameters of one or two dimensions on one CPU context, with dense or row_sparse gradients, updated by SGD, Adam or
    AdaGrad without a kvstore. Whatever else there is (another optimizer, a GPU, mixed precision, some gradients
    that are stale, a machine without the native core) is updated by ``gluon.Trainer``.

    Parameters
    ----------
    params, optimizer, optimizer_params, kvstore, compression_params, update_on_kvstore
        As for ``gluon.Trainer``.

    Attributes
    ----------
    native_steps : int
        Steps that the native core has done.

    Examples
    --------
    >>> net = mx.gluon.nn.Dense(2, in_units=3)
    >>> net.initialize()
    >>> trainer = Trainer(net.collect_params(), 'adam', {'learning_rate': 0.01})
    >>> with mx.autograd.record():
    ...     loss = net(mx.nd.ones((1, 3))).sum()
    >>> loss.backward()
    >>> trainer.step(1)
    """

    native_steps = 0
    _plan: Optional["_Plan"] = None

    def _update(self, ignore_stale_grad: bool = False) -> None:
        plan = self._plan
        if plan is None or not plan.valid(self):
            plan = self._plan = _plan_of(self)
        # Gluon's own path says which gradient is stale, or leaves those parameters out.
        if plan is None or getattr(self, "_amp_loss_scaler", None) is not None or not plan.fresh():
            super()._update(ignore_stale_grad)
        else:
            plan.step()
            self.native_steps += 1


def _kind(optimizer: Any) -> Optional[int]:
    """The optimizer's number, or None where the native core does not know it with these options."""
    kind, clip = type(optimizer), optimizer.clip_gradient
    if optimizer.multi_precision:
        return None
    if kind is mx.optimizer.SGD:
        return None if optimizer.momentum < 0 else _MOMENTUM if optimizer.momentum else _SGD
    if kind is mx.optimizer.Adam:
        return _ADAM
    if kind is mx.optimizer.AdaGrad and (clip is None or clip > 0):
        return _ADAGRAD
    return None


def _plan_of(trainer: Trainer) -> Optional["_Plan"]:
    """A plan, or None where Gluon is to update."""
    if trainer._kvstore or len(trainer._updaters) != 1:
        return None
    updater = trainer._updaters[0]
    kind = _kind(updater.optimizer)
    params = [(i, p) for i, p in enumerate(trainer._params) if p.grad_req != "null"]
    if kind is None or not params or len({id(p) for _, p in params}) < len(params):
        return None
    arrays: List[Tuple[int, Any, Any]] = []
    for i, p in params:
        if p._data is None or p._grad is None or len(p._data) != 1:
            return None
        data, grad = p._data[0], p._grad[0]
        # An array of more dimensions may be in a layout of MKL-DNN, which only MXNet's operators know.
        if not _plain(data) or data.ndim > 2 or not data._fresh_grad:
            return None
        if not _plain(grad) and getattr(grad, "stype", "") != "row_sparse":
            return None
        arrays.append((i, data, grad))
    library = native.library()
    if library is None or not _make_states(updater, kind, arrays):
        return None
    return _Plan(library, trainer, kind, arrays)


def _plain(array: Any) -> bool:
    return type(array) is mx.nd.NDArray and array.context.device_type == "cpu" and array.dtype == np.float32


def _make_states(updater: Any, kind: int, arrays: Sequence[Tuple[int, Any, Any]]) -> bool:
    """Make the states that there are not yet, as the updater would; whether all are what the native core expects."""
    for i, data, _ in arrays:
        if i not in updater.states:
            updater.states[i] = updater.optimizer.create_state_multi_precision(i, data)
        elif not updater.states_synced[i]:
            updater.states[i] = updater.sync_state_context(updater.states[i], data.context)
        updater.states_synced[i] = True
        states = _listed(updater.states[i])
        if len(states) != _STATES[kind] or not all(_plain(s) and s.shape == data.shape for s in states):
            return False
    return True


def _listed(state: Any) -> List[Any]:
    return [] if state is None else list(state) if isinstance(state, (tuple, list)) else [state]


class _Plan:
    """What does not change from step to step: the arrays, their handles, who is updated how."""

    def __init__(self, library: ctypes.CDLL, trainer: Trainer, kind: int, arrays: Sequence[Tuple[int, Any, Any]]):
        self.updater = updater = trainer._updaters[0]
        self.optimizer, self.states, self.kind = updater.optimizer, updater.states, kind
        self.device = arrays[0][1].context.device_id
        self.indices = [i for i, *_ in arrays]
        sparse = [grad.stype == "row_sparse" for *_, grad in arrays]
        self.dense = [k for k, is_sparse in enumerate(sparse) if not is_sparse]
        self.sparse = [k for k, is_sparse in enumerate(sparse) if is_sparse]
        size = self.optimizer.aggregate_num if updater.aggregate_updates else 1
        self.groups = [self.indices[at:at + size] for at in range(0, len(self.indices), size)]
        self.held = [(p, p._data, p._grad, p._grad_req) for p in trainer._params]
        self.held_states = [(i, updater.states[i]) for i in self.indices]
        self.held_arrays = arrays  # the native core has the weights' handles
        # A row_sparse gradient makes MXNet update its whole group one by one, which rounds otherwise.
        alone = {k // size for k in self.sparse}
        kinds = [_SGD_ALONE if kind == _SGD and k // size in alone else kind for k in range(len(arrays))]
        handles: List[Optional[int]] = []
        for i, data, grad in arrays:
            four = [data, grad, *_listed(updater.states[i])]
            handles += [a.handle.value for a in four] + [None] * (4 - len(four))
        numbers = np.array([kinds, sparse, [data.size for _, data, _ in arrays]], np.int64)
        self._declare(library)
        self.library = library
        self.handle = library.rg_trainer_new(len(arrays), *(row.ctypes.data for row in numbers),
                                             (_p * len(handles))(*handles))
        if not self.handle:
            raise self.failure()
        weakref.finalize(self, library.rg_trainer_free, self.handle)
        self.rates = ctypes.c_float * (7 * len(self.dense))
        self.last: Any = None  # what the arguments of the native call were made of
        self.step_args: Tuple[Any, ...] = ()

    @staticmethod
    def _declare(library: ctypes.CDLL) -> None:
        library.rg_trainer_new.restype = _p
        library.rg_trainer_new.argtypes = [_i32, _p, _p, _p, _p]
        library.rg_trainer_free.argtypes = library.rg_trainer_fresh.argtypes = [_p]
        library.rg_trainer_step.argtypes = [_p, _p, _i32, _i32, _p, _p]

    def failure(self) -> Exception:
        kind, text, none = ctypes.c_int32(), ctypes.create_string_buffer(1 << 14), ctypes.c_int64(0)
        self.library.rg_error(ctypes.byref(kind), text, ctypes.c_int64(len(text)), None, ctypes.byref(none), None,
                              ctypes.byref(none))
        return mx.base.MXNetError(text.value.decode(errors="replace"))

    def valid(self, trainer: Trainer) -> bool:
        updater = trainer._updaters[0]
        optimizer = updater.optimizer
        if updater is not self.updater or optimizer is not self.optimizer or updater.states is not self.states:
            return False
        if trainer._kvstore or _kind(optimizer) != self.kind or len(self.held) != len(trainer._params):
            return False
        for p, data, grad, req in self.held:
            if p._data is not data or p._grad is not grad or p._grad_req != req:
                return False
        get = self.states.get
        for i, state in self.held_states:
            if get(i) is not state:
                return False
        return True

    def fresh(self) -> bool:
        fresh = self.library.rg_trainer_fresh(self.handle)
        if fresh < 0:
            raise self.failure()
        return bool(fresh)

    def step(self) -> None:
        optimizer, kind = self.optimizer, self.kind
        optimizer._set_current_context(self.device)
        lrs, wds = self._multiplied()
        clip, rescale = optimizer.clip_gradient or -1.0, optimizer.rescale_grad
        a = b = epsilon = 0.0
        if kind == _ADAM:
            a, b, epsilon = optimizer.beta1, optimizer.beta2, optimizer.epsilon
            counts = optimizer._index_update_count
            lrs = [lr * (math.sqrt(1.0 - b**t) / (1.0 - a**t))
                   for lr, t in zip(lrs, (counts[i] for i in self.indices))]
        elif kind == _ADAGRAD:
            epsilon = optimizer.float_stable_eps
        elif kind == _MOMENTUM:
            a = optimizer.momentum
        what = (lrs, wds, rescale, clip, a, b, epsilon, getattr(optimizer, "lazy_update", None))
        if what != self.last:  # rates of a constant step are made once
            rates: List[float] = []
            for k in self.dense:
                rates += (lrs[k], wds[k], rescale, clip, a, b, epsilon)
            options = self._options(lrs, wds) if self.sparse else (0, None, None)
            self.last, self.step_args = what, (self.rates(*rates), self.device, *options)
        barrier("rg.Trainer.step")
        if self.library.rg_trainer_step(self.handle, *self.step_args) != 0:
            raise self.failure()

    def _multiplied(self) -> Tuple[List[float], List[float]]:
        """Learning rates and weight decays of this step, after counting it."""
        optimizer, indices = self.optimizer, self.indices
        counts = optimizer._index_update_count
        groups = self.groups
        if len({counts.get(i) for i in indices}) == 1:
            groups = [indices]  # none can see another number of updates than the others
        lrs: List[float] = []
        for group in groups:
            optimizer._update_count(group)
            lrs += optimizer._get_lrs(group)
        return lrs, optimizer._get_wds(indices)

    def _options(self, lrs: Sequence[float], wds: Sequence[float]) -> Tuple[int, Any, Any]:
        """Options of MXNet's operator for row_sparse gradients: how many, their keys, each parameter's values."""
        optimizer = self.optimizer
        common: Dict[str, Any] = {"rescale_grad": optimizer.rescale_grad}
        if optimizer.clip_gradient:
            common["clip_gradient"] = optimizer.clip_gradient
        if self.kind == _ADAGRAD:
            common["epsilon"] = optimizer.float_stable_eps
        else:
            common["lazy_update"] = optimizer.lazy_update
        if self.kind == _ADAM:
            common.update(beta1=optimizer.beta1, beta2=optimizer.beta2, epsilon=optimizer.epsilon)
        if self.kind == _MOMENTUM:
            common["momentum"] = optimizer.momentum
        keys = [key.encode() for key in (*common, "lr", "wd")]
        shared = [str(value).encode() for value in common.values()]
        values: List[bytes] = []
        for k in self.sparse:
            values += (*shared, str(lrs[k]).encode(), str(wds[k]).encode())
        return len(keys), (ctypes.c_char_p * len(keys))(*keys), (ctypes.c_char_p * len(values))(*values)
