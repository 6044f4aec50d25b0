"""One run of a body with symbols: what it asked, what it called, what it returned or raised."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._compat import mx
from ..program.expr import Expr, const
from .nodes import SymbolicNode
from .records import user_location
from .symbols import TracedSymbol, traced

__all__ = ["Decision", "Call", "Trace", "Unresolved", "PathTooLong", "MAX_DECISIONS"]

#: decisions on one path before it is taken for a loop that does not end
MAX_DECISIONS = 64
#: the two counts for which a loop over children is traced
TRIAL_COUNTS = (2, 3)


class Unresolved(BaseException):
    """The path calls a function whose signature is not known yet. Not an Exception: bodies must not catch it."""

    def __init__(self, function):
        super().__init__(function)
        self.function = function


class PathTooLong(BaseException):
    """The path asks more questions than a path may."""


@dataclass(frozen=True)
class Decision:
    """A question of the body and the answer of this run. `kind` is 'if', 'switch' or 'loop'."""

    test: Any  # Expr, or the TracedSymbol whose truth was asked for
    kind: str
    answer: Any
    where: str


@dataclass
class Call:
    """A call of a function: where it stands among the decisions, and what was passed."""

    function: Any  # capture.tracer.FunctionTrace
    name: str
    node: Expr
    ints: Tuple[Expr, ...]
    args: Tuple[TracedSymbol, ...]
    position: int
    made: int
    where: str


@dataclass
class Trace:
    """The state of one run; `script` holds the answers to give first."""

    tracer: Any
    function: Any
    script: Sequence[Any]
    decisions: List[Decision] = field(default_factory=list)
    calls: List[Call] = field(default_factory=list)
    outputs: Optional[List[TracedSymbol]] = None
    error: Optional[Exception] = None
    error_where: str = ""
    fields: Dict[str, Tuple[str, Expr]] = field(default_factory=dict)
    integers: Dict[str, Expr] = field(default_factory=dict)
    iterations: List[Optional[Tuple[int, int]]] = field(default_factory=list)
    iteration: Optional[Tuple[int, int]] = None
    loops: int = 0

    # -- decisions --------------------
    def _answer(self, test, kind: str, candidates: Sequence[Any]):
        for made in self.decisions:
            if made.kind == kind and isinstance(test, Expr) and isinstance(made.test, Expr) and made.test == test:
                return made.answer
        position = len(self.decisions)
        if position >= MAX_DECISIONS:
            raise PathTooLong
        answer = self.script[position] if position < len(self.script) else candidates[0]
        self.decisions.append(Decision(test, kind, answer, user_location()))
        return answer

    def decide(self, test) -> bool:
        """The truth of a structural expression or of a tensor, on this path."""
        if isinstance(test, Expr):
            if test.op not in ("eq", "ne", "lt", "le", "gt", "ge", "isleaf", "isnone"):
                test = Expr("ne", (test, const(0)))
            known = self._implied(test)
            if known is not None:
                return known
        return self._answer(test, "if", (True, False))

    def _implied(self, test: Expr) -> Optional[bool]:
        """An answer that follows from those given: exact counts decide their comparisons, a leaf has no children."""
        if all(x.op in ("const",) for x in test.operands if isinstance(x, Expr)):
            from ..program.expr import evaluate
            return bool(evaluate(test, None))
        for made in self.decisions:
            if not isinstance(made.test, Expr):
                continue
            if made.kind == "switch" and test.op in ("eq", "ne") and test.operands[0] == made.test \
                    and test.operands[1].op == "const":
                return (test.operands[1].operands[0] == made.answer) == (test.op == "eq")
            if made.kind == "if" and made.test.op == "isleaf" and not made.answer and test.op == "eq" \
                    and test.operands == (Expr("arity", made.test.operands), const(0)):
                return False
        return None

    def switch(self, expr: Expr) -> int:
        """The exact number that `expr` is on this path."""
        return self._answer(expr, "switch", self.tracer.candidates(expr))

    # -- what the body reads --------------------
    def field(self, name: str, ref: Expr) -> TracedSymbol:
        variable = f"field{len(self.fields)}"
        self.fields[variable] = (name, ref)
        return traced(mx.sym.var(variable), Expr("field", (ref, name)))

    def integer(self, expr: Expr) -> TracedSymbol:
        variable = f"integer{len(self.integers)}"
        self.integers[variable] = expr
        return traced(mx.sym.var(variable), expr)

    def created(self) -> int:
        """The serial number of a new operator; the iteration in which it was made is kept."""
        self.iterations.append(self.iteration)
        return len(self.iterations) - 1

    def shape_of(self, symbol: TracedSymbol):
        return self.tracer.shape_of(self, symbol)

    # -- loops over children --------------------
    def each_child(self, node: SymbolicNode, count: Expr):
        """Iterate over the children for a trial count; what happens inside is tagged with loop and iteration."""
        if self.decide(Expr("eq", (count, const(0)))):
            return
        exact = next((d.answer for d in self.decisions if d.kind == "switch" and d.test == count), None)
        trials = exact if exact is not None else self._answer(count, "loop", TRIAL_COUNTS)
        loop, outer = self.loops, self.iteration
        self.loops += 1
        try:
            for k in range(trials):
                self.iteration = (loop, k) if outer is None else outer
                child = SymbolicNode(Expr("child", (node._ref, const(k))), node._layout)
                yield child
        finally:
            self.iteration = outer

    # -- calls --------------------
    def call(self, function, node: Expr, ints, args):
        """Record a call and return symbols for what it will return."""
        if function.signature is None:
            raise Unresolved(function)
        name = f"call{len(self.calls)}"
        self.calls.append(Call(function, name, node, tuple(ints), tuple(args), len(self.decisions), self.created(),
                               user_location()))
        return [traced(mx.sym.var(f"{name}.{j}")) for j in range(function.signature.num_outputs)]
