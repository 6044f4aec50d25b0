"""Tracing a recursive body: every path once, a base path first, functions discovered as they are called.

A body runs with a *script* of answers. Where the script ends, the first candidate is taken, and every other candidate
makes a longer script for later. A path that calls a function whose number of outputs is not known waits until some
path of that function has returned: that path is a base case.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

from .._compat import mx
from ..errors import NoBaseCaseError, TraceError
from ..program.expr import NO_NODE, NODE, Expr
from .nodes import Layout, SymbolicInt, SymbolicNode
from .records import Record, user_location
from .symbols import TracedSymbol, current_trace, traced, tracing
from .trace import PathTooLong, Trace, Unresolved

__all__ = ["Body", "FunctionTrace", "Signature", "Tracer", "MAX_PATHS", "flatten_outputs",
           "regroup_outputs"]

#: paths of one function; more of them mean that Python decides what tensors should
MAX_PATHS = 256


@dataclass(frozen=True)
class Signature:
    """What a function returns: how many tensors, in which nesting (None for a single tensor)."""

    num_outputs: int
    structure: Any


@dataclass(frozen=True)
class Body:
    """What can be traced: `key` tells bodies apart, `run(node, arguments)` calls the user's code.

    `num_outputs` is given where it was declared before the body; else a base path tells it.
    """

    key: Any
    name: str
    run: Callable[..., Any]
    num_outputs: Optional[int] = None


@dataclass
class FunctionTrace:
    """A body for one kind of arguments, and its paths so far."""

    body: Body
    name: str
    has_node: bool
    arguments: Tuple[Any, ...]  # 'int', 'tensor' or ('constant', value), in order
    layout: Layout
    signature: Optional[Signature] = None
    todo: List[list] = field(default_factory=lambda: [[]])
    blocked: List[list] = field(default_factory=list)
    paths: List[Trace] = field(default_factory=list)
    waits_for: Dict[str, None] = field(default_factory=dict)
    failed: Optional[Exception] = None  # every path raises: this, on the first one

    @property
    def num_ints(self) -> int:
        return sum(a == "int" for a in self.arguments)

    @property
    def num_args(self) -> int:
        return sum(a == "tensor" for a in self.arguments)


class Tracer:
    """Functions by key, traced until nothing is left to try."""

    def __init__(self, counts: Callable[[Expr], list], shape_of: Optional[Callable] = None):
        self.functions: Dict[Any, FunctionTrace] = {}
        self.candidates = counts
        self._shape_of = shape_of
        self.records: List[Record] = []

    def shape_of(self, trace: Trace, symbol: TracedSymbol):
        return self._shape_of(trace, symbol) if self._shape_of is not None else None

    # -- functions --------------------
    def function(self, body: Body, node: Any, arguments: Tuple[Any, ...]) -> FunctionTrace:
        """The function for `body` called with such arguments; made when it is new."""
        kinds = tuple(_kind(a) for a in arguments)
        key = (body.key, node is not None, kinds)
        found = self.functions.get(key)
        if found is None:
            taken = {f.name for f in self.functions.values()}
            name, n = body.name, 1
            while name in taken:
                name, n = f"{body.name}_{n}", n + 1
            layout = node._layout if node is not None else Layout()
            found = self.functions[key] = FunctionTrace(body, name, node is not None, kinds, layout)
            if body.num_outputs is not None:
                n = body.num_outputs
                found.signature = Signature(n, None if n == 1 else (None,) * n)
        return found

    def call(self, body: Body, node: Optional[SymbolicNode], arguments: Tuple[Any, ...]):
        """A call of a body from inside a trace."""
        arguments = tuple(a._symbol() if hasattr(a, "_symbol") else a for a in arguments)
        function = self.function(body, node, arguments)
        if function.failed is not None:
            raise function.failed
        ints = [a.expr if isinstance(a, SymbolicInt) else Expr("const", (int(a),))
                for a, kind in zip(arguments, function.arguments) if kind == "int"]
        args = [a for a, kind in zip(arguments, function.arguments) if kind == "tensor"]
        outputs = current_trace().call(function, NO_NODE if node is None else node._ref, ints, args)
        assert function.signature is not None  # or Trace.call would not have returned
        return regroup_outputs(outputs, function.signature.structure)

    # -- exploring --------------------
    def explore(self, root: FunctionTrace) -> None:
        """Trace `root` and everything that it calls, every path."""
        stack = [root]
        while True:
            work = [f for f in stack if f.todo] or [f for f in self.functions.values() if f.todo]
            if not work:
                if self._fail(root):
                    continue
                break
            function = work[-1]
            missing = self._step(function)
            if missing is not None:
                if missing in stack:
                    stack.remove(missing)
                stack.append(missing)
                if not missing.todo and function.todo:
                    stack.append(function)
        unresolved = [f for f in self.functions.values() if f.signature is None and f.failed is None]
        if unresolved:
            failed = [t.error for f in unresolved for t in f.paths if t.error is not None]
            if failed:
                raise failed[0]
            names = ", ".join(f.name for f in unresolved)
            raise NoBaseCaseError(
                f"every path through {names} calls {unresolved[0].body.name} again (or runs on without an end), so "
                f"it could never return; give it a path that returns without a call, such as `if node.is_leaf: ...`")

    def _fail(self, root: FunctionTrace) -> bool:
        """Functions of which every path raises: so do the paths that call them."""
        failed = [f for f in self.functions.values() if f is not root and f.signature is None and f.failed is None
                  and f.paths and not f.blocked]
        for f in failed:
            f.failed = f.paths[0].error
        for f in self.functions.values() if failed else ():
            f.todo.extend(f.blocked)
            f.blocked.clear()
        return bool(failed)

    def extend(self, function: FunctionTrace, answers: list) -> None:
        """Trace the path that begins with `answers` (and what branches off behind it), met at run time."""
        function.todo.append(list(answers))
        self.explore(function)

    def _step(self, function: FunctionTrace) -> Optional[FunctionTrace]:
        script = function.todo.pop()
        trace = Trace(self, function, script)
        missing = None
        with tracing(trace):
            try:
                trace.outputs, structure = flatten_outputs(self._run(function))
            except Unresolved as wait:
                missing = wait.function
            except PathTooLong:
                self.records.append(Record("path too long", trace.decisions[-1].where,
                                           f"more than {len(trace.decisions)} decisions on one path of {function.name}",
                                           "a loop over an integer passed down is a recursion: call self instead"))
            except TraceError:
                raise
            except Exception as error:  # noqa: BLE001  the user's code raises on this path: so will the Program
                trace.error, trace.error_where = error, _raised_at(error)
        taken = [d.answer for d in trace.decisions]
        for i in range(len(script), len(taken)):
            for other in self._alternatives(trace.decisions[i]):
                function.todo.append(taken[:i] + [other])
        if missing is not None:
            function.blocked.append(taken)
        elif trace.outputs is not None:
            self._settle(function, trace, structure)
            function.paths.append(trace)
        elif trace.error is not None:
            function.paths.append(trace)
        if len(function.paths) + len(function.todo) + len(function.blocked) > MAX_PATHS:
            tests = sorted({f"{d.test if isinstance(d.test, Expr) else 'a tensor'} at {d.where}"
                            for d in trace.decisions})
            raise TraceError(f"{function.name} has more than {MAX_PATHS} paths; it decides on {'; '.join(tests)}. "
                             f"Decide on fewer things, or move parts into functions (RecursiveBlocks) of their own")
        return missing

    def _alternatives(self, decision) -> list:
        if decision.kind == "if":
            return [not decision.answer]
        from .trace import TRIAL_COUNTS
        options = TRIAL_COUNTS if decision.kind == "loop" else self.candidates(decision.test)
        return [n for n in options if n != decision.answer]

    def _run(self, function: FunctionTrace):
        node = SymbolicNode(NODE, function.layout) if function.has_node else None
        arguments, ints, tensors = [], 0, 0
        for kind in function.arguments:
            if kind == "int":
                arguments.append(SymbolicInt(Expr("int", (ints,))))
                ints += 1
            elif kind == "tensor":
                arguments.append(traced(mx.sym.var(f"arg{tensors}")))
                tensors += 1
            else:
                arguments.append(kind[1])
        return function.body.run(node, tuple(arguments))

    def _settle(self, function: FunctionTrace, trace: Trace, structure) -> None:
        assert trace.outputs is not None
        signature = Signature(len(trace.outputs), structure)
        if function.signature is None:
            function.signature = signature
            for f in self.functions.values():
                f.todo.extend(f.blocked)
                f.blocked.clear()
        elif function.signature != signature:
            from ..errors import PathMismatchError
            path = ", ".join(f"{d.test if isinstance(d.test, Expr) else 'tensor'} is {d.answer}"
                             for d in trace.decisions)
            raise PathMismatchError(
                f"{function.name} returns {signature.num_outputs} outputs where {path or 'nothing is decided'}, but "
                f"{function.signature.num_outputs} on its base path; return the same number in the same nesting")


def _kind(argument) -> Any:
    if isinstance(argument, SymbolicInt) or (isinstance(argument, int) and not isinstance(argument, bool)):
        return "int"
    if isinstance(argument, mx.sym.Symbol):
        return "tensor"
    if argument is None or isinstance(argument, (bool, float, str)):
        return ("constant", argument)
    raise TraceError(f"{user_location()}: a call inside a body passes {type(argument).__name__}; expected one node, "
                     f"tensors, integers, or constants (None, bool, float, str)")


def _raised_at(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}" if trace is not None else ""


def flatten_outputs(value) -> Tuple[list, Any]:
    """Nested tuples and lists of tensors, flat, and their nesting."""
    if isinstance(value, (mx.sym.Symbol, mx.nd.NDArray)):
        if isinstance(value, mx.sym.Symbol) and len(value.list_outputs()) > 1:
            return flatten_outputs(list(value))
        return [value], None
    if isinstance(value, (list, tuple)):
        flat, structure = [], []
        for item in value:
            items, inner = flatten_outputs(item)
            flat += items
            structure.append(inner)
        return flat, tuple(structure)
    if isinstance(value, SymbolicInt):
        return [value.as_tensor()], None
    raise TraceError(f"a body returned {type(value).__name__} ({value!r}); expected a tensor, or a tuple of tensors")


def regroup_outputs(flat: list, structure):
    """The inverse of :func:`flatten_outputs`."""
    rest = list(flat)

    def take(shape):
        return rest.pop(0) if shape is None else tuple(take(s) for s in shape)

    return take(structure)


