"""A Trainer whose step costs one native call."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from . import native
from ._compat import mx

__all__ = ["Trainer"]

_p = ctypes.c_void_p


def _sgd(o: Any, lr: float, index: int) -> Tuple[float, float, float, float]:
    return lr, o.momentum, 0.0, 0.0


def _adam(o: Any, lr: float, index: int) -> Tuple[float, float, float, float]:
    t = o._index_update_count[index]
    return lr * math.sqrt(1.0 - o.beta2**t) / (1.0 - o.beta1**t), o.beta1, o.beta2, o.epsilon


def _adagrad(o: Any, lr: float, index: int) -> Tuple[float, float, float, float]:
    return lr, 0.0, 0.0, o.float_stable_eps


#: optimizer -> (its number in native/src/optimizers.h, (lr, a, b, epsilon) of a parameter)
_KINDS: Dict[type, Tuple[Callable[[Any], int], Callable[..., Tuple[float, float, float, float]]]] = {
    mx.optimizer.SGD: (lambda o: 1 if o.momentum else 0, _sgd),
    mx.optimizer.Adam: (lambda o: 2, _adam),
    mx.optimizer.AdaGrad: (lambda o: 3, _adagrad),
}


class Trainer(mx.gluon.Trainer):
    """``gluon.Trainer`` with little overhead: all dense parameters are updated by one native operation.

    The interface, the results and the files of states are those of ``gluon.Trainer``. The native operation serves
    float32 parameters on one CPU context, without a kvstore, with SGD, Adam or AdaGrad; whatever else there is (a
    row_sparse gradient, another optimizer, a GPU, a machine without the native core) is updated as Gluon does it.

    Parameters
    ----------
    params, optimizer, optimizer_params, kvstore, compression_params, update_on_kvstore
        As for ``gluon.Trainer``.

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

    _plan: Optional["_Plan"] = None
    #: steps that the native core has done
    native_steps = 0

    def _update(self, ignore_stale_grad: bool = False) -> None:
        plan = self._plan
        if plan is None or not plan.valid(self):
            plan = self._plan = _Plan.of(self)
        if plan is None or ignore_stale_grad or getattr(self, "_amp_loss_scaler", None) is not None:
            super()._update(ignore_stale_grad)
            return
        fresh = [data._fresh_grad for _, _, data, _ in plan.all]
        if not all(fresh):
            super()._update(ignore_stale_grad)  # it says which one is stale
            return
        plan.step(self._updaters[0])
        for _, _, data, _ in plan.all:
            data._fresh_grad = False
        self.native_steps += 1


class _Plan:
    """What does not change from step to step: arrays, their handles, who is updated how."""

    def __init__(self, trainer: Trainer, lib: ctypes.CDLL, kind: int, rule: Callable[..., Any]):
        updater = trainer._updaters[0]
        self.lib, self.optimizer, self.rule, self.states = lib, updater.optimizer, rule, updater.states
        self.all: List[Tuple[int, Any, Any, Any]] = []  # index, parameter, data, gradient
        for i, p in enumerate(trainer._params):
            if p.grad_req != "null":
                self.all.append((i, p, p.list_data()[0], p.list_grad()[0]))
        for i, _, data, _ in self.all:
            if i not in updater.states:
                updater.states[i] = self.optimizer.create_state_multi_precision(i, data)
                updater.states_synced[i] = True
        self.dense = [entry for entry in self.all if entry[3].stype == "default" and entry[2].stype == "default"]
        self.rest = [entry for entry in self.all if entry not in self.dense]
        self.held = [(p, p._data, p._grad, p.grad_req) for p in trainer._params]
        self.held_states = [(i, updater.states[i]) for i, *_ in self.all]
        self.device = self.all[0][2].context.device_id
        first, second = [], []
        for i, *_ in self.dense:
            state = updater.states[i]
            pair = state if isinstance(state, tuple) else (state, None)
            first.append(pair[0])
            second.append(pair[1])
        arrays = [*(d for _, _, d, _ in self.dense), *(g for *_, g in self.dense), *first, *second]
        handles = (_p * max(len(arrays), 1))(*(None if a is None else a.handle.value for a in arrays))
        sizes = np.array([d.size for _, _, d, _ in self.dense], np.int64)
        lib.rg_trainer_new.restype, lib.rg_trainer_new.argtypes = _p, [ctypes.c_int32, ctypes.c_int32, _p, _p]
        lib.rg_trainer_step.argtypes = [_p, _p, ctypes.c_int32]
        lib.rg_trainer_free.argtypes = [_p]
        self.handle = lib.rg_trainer_new(kind, len(self.dense), handles, sizes.ctypes.data)
        weakref.finalize(self, lib.rg_trainer_free, self.handle)
        self.kind = kind

    @classmethod
    def of(cls, trainer: Trainer) -> Optional["_Plan"]:
        """A plan, or None where Gluon is to update."""
        updaters = trainer._updaters
        if (trainer._kvstore and trainer._update_on_kvstore) or not isinstance(updaters, list) or len(updaters) != 1:
            return None
        optimizer = updaters[0].optimizer
        found = _KINDS.get(type(optimizer))
        if found is None or optimizer.multi_precision or getattr(optimizer, "momentum", 0.0) < 0:
            return None
        params = [p for p in trainer._params if p.grad_req != "null"]
        for p in params:
            ready = p._data is not None and p._grad is not None and len(p._data) == 1
            if not ready or p._data[0].context.device_type != "cpu" or p._data[0].dtype != np.float32:
                return None
        lib = native.library()
        if lib is None or not params:
            return None
        plan = cls(trainer, lib, found[0](optimizer), found[1])
        return plan if plan.handle else None

    def valid(self, trainer: Trainer) -> bool:
        updater = trainer._updaters[0]
        if updater.optimizer is not self.optimizer or updater.states is not self.states or \
                len(self.held) != len(trainer._params) or self.kind != _KINDS[type(self.optimizer)][0](self.optimizer):
            return False
        return all(p._data is d and p._grad is g and p.grad_req == req for p, d, g, req in self.held) and all(
            self.states.get(i) is state for i, state in self.held_states)

    def step(self, updater: Any) -> None:
        optimizer = self.optimizer
        if self.dense:
            indices = [i for i, *_ in self.dense]
            optimizer._update_count(indices)
            clip = -1.0 if not optimizer.clip_gradient else optimizer.clip_gradient
            rescale, rule = optimizer.rescale_grad, self.rule
            rates: List[float] = []
            for i, lr, wd in zip(indices, optimizer._get_lrs(indices), optimizer._get_wds(indices)):
                lr, a, b, epsilon = rule(optimizer, lr, i)
                rates += (lr, wd, rescale, clip, a, b, epsilon)
            packed = (ctypes.c_float * len(rates))(*rates)
            if self.lib.rg_trainer_step(self.handle, packed, self.device) != 0:
                raise RuntimeError("native core: MXNet's engine refused the update")
        for i, _, data, grad in self.rest:
            updater(i, grad, data)
