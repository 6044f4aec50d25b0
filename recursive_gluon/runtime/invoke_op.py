"""The InvokeOp of the symbol graph: one operator that runs a whole recursive Program.

It is an ``mx.sym.Custom`` of type ``recursive_gluon_invoke`` with the Program in its attributes; why this route and
not another is in docs/design/0002. Inputs, in order: parameters with row_sparse gradients (the operator's sparse
outputs must come first, or MXNet updates the wrong array), the packed structure, the fields, the tensors passed to
the roots, a seed where the Program draws, the other parameters, auxiliary states.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Dict, List, Optional, Sequence, Tuple
from weakref import WeakValueDictionary

import numpy as np

from .._compat import mx
from ..errors import FieldError, NativeCoreError, TraceError, UnseenPath
from ..program.infer import Types
from ..program.ir import Program
from ..program.serial import load, to_json
from ..schedule.faults import Unseen
from ..structure import Structure, unpack
from . import batched, reference
from .arrays import assign, host_copy
from .core import executor as native
from .core.programs import why_not
from .executor import NODES, ROOTS, Call, Result
from .failures import failing_clearly, one_at_a_time
from .indices import check_indices
from .recipes import infer_cached

__all__ = ["OP_TYPE", "EXECUTORS", "Options", "Live", "invoke_symbol", "input_order"]

OP_TYPE = "recursive_gluon_invoke"


def _best(call: Call) -> Result:
    """The native core where it can run the call, else MXNet's operators."""
    return native.run(call) if not why_not(call) else batched.run(call)


def _native(call: Call) -> Result:
    why = why_not(call)
    if why:
        raise NativeCoreError(f"executor='native', but the core cannot run this: {why}")
    return native.run(call)


EXECUTORS = {"auto": _best, "native": _native, "mxnet": batched.run, "reference": reference.run}


class Live:
    """A Program that can grow: while its source is at hand, paths met at run time are traced and added.

    `extend(program, unseen)` returns the larger Program, `adds(name)` says whether a parameter has grad_req='add';
    `block` installs both.
    """

    #: by the text that is in a graph: graphs made before a Program grew find the grown one
    _by_text: "WeakValueDictionary[str, Live]" = WeakValueDictionary()

    def __init__(self, program: Program, extend, adds=lambda name: False):
        self.extend, self.adds = extend, adds
        self._versions: Dict[str, Program] = {}
        self.update(program)

    def update(self, program: Program) -> None:
        self.text = to_json(program)
        self.program = self._versions[self.text] = program
        Live._by_text[self.text] = self

    def at(self, text: str) -> Program:
        """The Program as it was when `text` was written: the inputs of a graph are those of that time."""
        return self._versions[text]

    @classmethod
    def find(cls, text: str) -> Optional["Live"]:
        return cls._by_text.get(text)


@dataclass(frozen=True)
class Options:
    """What an InvokeOp is told beside the Program."""

    fields: Tuple[str, ...]
    num_args: int
    ints: Tuple[int, ...] = ()
    returns: str = ROOTS
    executor: str = "auto"
    max_nodes: int = 0
    max_depth: int = 10_000
    #: inputs, auxiliary states and outputs of the operator: known where its Program cannot be read
    counts: Tuple[int, int, int] = (0, 0, 0)

    def to_attrs(self) -> Dict[str, str]:
        return {"options": json.dumps(self.__dict__, sort_keys=True)}

    @staticmethod
    @lru_cache(maxsize=256)
    def from_text(text: str) -> "Options":
        data: Dict[str, Any] = json.loads(text)
        values: Dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Options(**values)


def input_order(program: Program) -> Tuple[List[str], List[str], List[str]]:
    """Names of parameters by place: with row_sparse gradients, dense, auxiliary states."""
    sparse = [p.name for p in program.params if p.sparse_grad and not p.state]
    dense = [p.name for p in program.params if not p.sparse_grad and not p.state]
    return sparse, dense, [p.name for p in program.params if p.state]


def invoke_symbol(program: Program, text: str, options: Options, structure, fields: Sequence[Any], args: Sequence[Any],
                  params: Dict[str, Any], name: Optional[str] = None):
    """The InvokeOp on symbols; its outputs are those of the Program's root (and counts for grown structures)."""
    sparse, dense, states = input_order(program)
    seed = [mx.sym.random.uniform(shape=(2,))] if program.random else []
    inputs = [*(params[n] for n in sparse), structure, *fields, *args, *seed, *(params[n] for n in dense),
              *(params[n] for n in states)]
    counts = (len(inputs) - len(states), len(states), program.num_outputs + bool(options.max_nodes))
    attrs = replace(options, counts=counts).to_attrs()
    return mx.sym.Custom(*inputs, op_type=OP_TYPE, program=text, name=name, **attrs)


@dataclass(frozen=True)
class _Places:
    """Where each input of the operator is."""

    sparse: Tuple[str, ...]
    dense: Tuple[str, ...]
    states: Tuple[str, ...]
    structure: int
    fields: slice
    args: slice
    seed: Optional[int]
    first_dense: int

    @property
    def params(self) -> List[Tuple[str, int]]:
        return [*((n, i) for i, n in enumerate(self.sparse)),
                *((n, self.first_dense + i) for i, n in enumerate(self.dense))]


def _places(program: Program, options: Options) -> _Places:
    sparse, dense, states = input_order(program)
    s = len(sparse)
    fields = slice(s + 1, s + 1 + len(options.fields))
    args = slice(fields.stop, fields.stop + options.num_args)
    return _Places(tuple(sparse), tuple(dense), tuple(states), s, fields, args,
                   args.stop if program.random else None, args.stop + int(program.random))


class _Invoke(mx.operator.CustomOp):
    """One operator instance: a forward, and the backward that belongs to it."""

    def __init__(self, text: str, options: Options, places: _Places):
        super().__init__()
        self.text, self.options, self.places = text, options, places
        self._train = False
        self._last: Optional[Result] = None

    @property
    def program(self) -> Program:
        live = Live.find(self.text)
        return live.program if live is not None else load(self.text)

    @failing_clearly
    @one_at_a_time
    def forward(self, is_train, req, in_data, out_data, aux):
        if self._last is not None:
            self._last.release()
        self._train = bool(is_train)
        result = self._run(in_data, aux, self._train, keep=self._train)
        self._last = result if self._train else None
        outputs = list(result.outputs) + ([result.count] if self.options.max_nodes else [])
        for target, how, value in zip(out_data, req, outputs):
            assign(target, how, value)

    @failing_clearly
    @one_at_a_time
    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        # Nothing was kept where the call was recorded in prediction mode, or a first backward has used it up (MXNet
        # frees operators late, and what they hold with them): the forward is run again, as it was.
        result, self._last = self._last or self._run(in_data, aux, self._train, keep=True), None
        self._check_sums(req)
        gradients = result.backward(out_grad[:self.program.num_outputs])
        result.release()
        places = self.places
        found: List[Any] = [None] * len(in_grad)
        for name, at in places.params:
            found[at] = gradients.params.get(name)
        for name, at in zip(self.options.fields, range(places.fields.start, places.fields.stop)):
            found[at] = gradients.fields.get(name)
        for value, at in zip(gradients.args, range(places.args.start, places.args.stop)):
            found[at] = value
        for target, how, value in zip(in_grad, req, found):
            assign(target, how, value)
        for name, array in zip(places.states, aux):
            if name in gradients.states:
                gradients.states[name].copyto(array)

    def _check_sums(self, req) -> None:
        # MXNet sums the row_sparse gradients of several uses by itself, and then writes where it should add.
        live = Live.find(self.text)
        for name, how in zip(self.places.sparse, req):
            if how == "write" and live is not None and live.adds(name):
                raise TraceError(f"parameter {name} has a row_sparse gradient, grad_req='add' and several uses in one "
                                 f"graph, which MXNet sums wrongly; make the gradient dense (sparse_grad=False), or "
                                 f"use grad_req='write'")

    def _check_inputs(self, program: Program) -> None:
        places = self.places
        new = [p.name for p in program.params if p.name not in (*places.sparse, *places.dense, *places.states)]
        if new or (program.random and places.seed is None):
            raise UnseenPath(f"{program.root}: the data takes a path that was traced just now, and the graph of this "
                             f"call was made without what the path needs ({', '.join(new) or 'random numbers'}); call "
                             f"again; inside another hybridized block: hybridize(), call {program.root} itself on such "
                             f"data, and then the other block")

    def _run(self, in_data, aux, train: bool, keep: bool) -> Result:
        options = self.options
        while True:
            program, places = self.program, self.places
            self._check_inputs(program)
            packed = host_copy(in_data[places.structure])
            structure = unpack(packed)
            params = {name: in_data[at] for name, at in places.params}
            params.update(zip(places.states, aux))
            seed = 0
            if places.seed is not None:
                high, low = (host_copy(in_data[places.seed]) * (1 << 24)).astype(np.int64).tolist()
                seed = (high << 24) | low
            call = Call(program, structure, _fields(structure, in_data[places.fields], program), params,
                        in_data[places.structure].context, in_data[places.args], options.ints, train, keep, seed,
                        options.returns, options.max_nodes, options.max_depth, packed.tobytes())
            try:
                result = EXECUTORS[options.executor](call)
                if isinstance(result, batched.BatchedRun):
                    check_indices(call, result.recipe, result.plan)
                return result
            except Unseen as unseen:
                live = Live.find(self.text)
                if live is None:
                    raise unseen.as_error() from None
                live.update(live.extend(live.program, unseen))


def _fields(structure: Structure, arrays: Sequence[Any], program: Program) -> Dict[str, Any]:
    found = dict(zip(structure.fields, arrays))
    for name in program.fields:
        if name not in found:
            raise FieldError.unknown(name, structure.fields)
    return found


class _InvokeProp(mx.operator.CustomOpProp):
    """Shapes and types of the InvokeOp, for MXNet."""

    def __init__(self, program: str, options: str):
        super().__init__(need_top_grad=True)
        self._shapes: Optional[List[List[int]]] = None
        self._error: Optional[Exception] = None
        self.text, self.options = program, Options.from_text(options)
        try:
            live = Live.find(program)
            self.program = live.at(program) if live is not None else load(program)
            self.places = _places(self.program, self.options)
        except Exception as error:  # noqa: BLE001  here MXNet would end the process: raised when it asks for shapes
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def list_arguments(self):
        if self._error is not None:
            return [f"input{i}" for i in range(self.options.counts[0])]
        p = self.places
        return [*p.sparse, "structure", *(f"field_{n}" for n in self.options.fields),
                *(f"arg{i}" for i in range(self.options.num_args)), *(["seed"] if p.seed is not None else []), *p.dense]

    def list_auxiliary_states(self):
        if self._error is not None:
            return [f"state{i}" for i in range(self.options.counts[1])]
        return list(self.places.states)

    def list_outputs(self):
        if self._error is not None:
            return [f"output{j}" for j in range(self.options.counts[2])]
        count = ["count"] if self.options.max_nodes else []
        return [f"output{j}" for j in range(self.program.num_outputs)] + count

    @failing_clearly
    def infer_shape(self, in_shape):
        self._check()
        p, options = self.places, self.options
        shapes = [list(s) for s in in_shape]
        if p.seed is not None:
            shapes[p.seed] = [2]
        structure, fields, args = shapes[p.structure], shapes[p.fields], shapes[p.args]
        types = self._types(fields, args, {n: tuple(shapes[i]) for n, i in p.params})
        for name, at in p.params:
            if name in types.params:
                shapes[at] = list(types.params[name])
        states = [list(types.params.get(n, ())) for n in p.states]
        if not structure or not all(structure):
            return shapes, [[] for _ in self.list_outputs()], states
        rows = [structure[0]]
        if options.max_nodes:
            rows = [structure[0], options.max_nodes]
        elif options.returns == NODES:
            rows = [next((f[0] for f in fields if f), 0)]
        outputs = []
        for shape, _ in types.outputs[self.program.root]:
            rest = shape[1:] if shape[:1] == (1,) else shape
            outputs.append([*rows, *rest] if shape else [])
        if options.max_nodes:
            outputs.append([structure[0]])
        self._shapes = shapes
        return shapes, outputs, states

    def _types(self, fields, args, params) -> Types:
        """Shapes alone: MXNet asks for types later."""
        known = {n: ((1, *s[1:]), None) for n, s in zip(self.options.fields, fields) if s and all(s)}
        return infer_cached(self.program, known, [((1, *s[1:]), None) for s in args if s],
                            {n: (s, None) for n, s in params.items() if s})

    @failing_clearly
    def infer_type(self, in_type):
        self._check()
        p, types = self.places, list(in_type)
        declared = {q.name: np.dtype(q.dtype).type for q in self.program.params}
        floating = next((types[i] for _, i in p.params if types[i] is not None), None)
        for name, i in p.params:
            if types[i] is None:
                types[i] = floating or declared[name]
        floating = next((t for t in [*(types[i] for _, i in p.params), *types[p.args]] if t is not None), np.float32)
        types = [floating if t is None else t for t in types]
        types[p.structure] = np.int32
        if p.seed is not None:
            types[p.seed] = np.float32
        outputs = self._output_types(types) or [floating] * self.program.num_outputs
        return types, outputs + ([np.int32] if self.options.max_nodes else []), [floating] * len(p.states)

    def _output_types(self, types) -> Optional[list]:
        """Types of the outputs; None while the shapes are not known, which MXNet infers first."""
        if self._shapes is None:
            return None
        p, shapes = self.places, self._shapes
        dtype = [np.dtype(t).name for t in types]
        known = {n: (tuple([1, *shapes[i][1:]]), dtype[i])
                 for n, i in zip(self.options.fields, range(p.fields.start, p.fields.stop))}
        args = [(tuple([1, *shapes[i][1:]]), dtype[i]) for i in range(p.args.start, p.args.stop)]
        params = {n: (tuple(shapes[i]), dtype[i]) for n, i in p.params}
        found = infer_cached(self.program, known, args, params).outputs[self.program.root]
        return [np.dtype(t).type if t else np.float32 for _, t in found]

    def infer_storage_type_backward(self, ograd_stype, in_stype, out_stype, igrad_stype, aux_stype):
        sparse = len(self.places.sparse) if self._error is None else 0
        known = [s if s != "undefined" else "row_sparse" for s in igrad_stype[:sparse]]
        igrad = known + ["default"] * (len(igrad_stype) - sparse)
        return (["default"] * len(ograd_stype), ["default"] * len(in_stype), ["default"] * len(out_stype), igrad,
                ["default"] * len(aux_stype))

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return _Invoke(self.text, self.options, self.places)


mx.operator.register(OP_TYPE)(_InvokeProp)
