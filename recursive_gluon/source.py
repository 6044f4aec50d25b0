"""A RecursiveBlock's body, traced: what it takes to put it into a graph, and to trace more of it when data asks."""
from __future__ import annotations

from typing import Any

from ._compat import mx
from .capture.build import build_program
from .capture.nodes import Layout, SymbolicNode
from .capture.tracer import FunctionTrace, Tracer, regroup_outputs
from .program import Program, verify
from .program.expr import NODE
from .runtime.invoke_op import Live, Options, invoke_symbol
from .schedule.faults import Unseen

__all__ = ["Source"]


class Source:
    """A body traced for one kind of arguments, with what it takes to trace more of it."""

    def __init__(self, block: Any, kinds: tuple, has_node: bool, layout: Layout):
        self.block, self.kinds = block, kinds
        self.tracer = Tracer(_candidates)
        arguments = [mx.sym.var("arg") if k == "tensor" else 0 if k == "int" else k for k in kinds]
        node = SymbolicNode(NODE, layout) if has_node else None
        self.root: FunctionTrace = self.tracer.function(block._body(), node, tuple(arguments))
        self.tracer.explore(self.root)
        self.live = Live(self._build(), self._extend, self._adds)

    @property
    def num_args(self) -> int:
        return sum(k == "tensor" for k in self.kinds)

    @property
    def inputs(self) -> tuple:
        """What the Program needs so far; a path met later may need more, and so another graph."""
        program = self.live.program
        return program.random, tuple(p.name for p in program.params)

    def _build(self) -> Program:
        program = build_program(self.tracer, self.root, self.block._params_of())
        verify(program)
        return program

    def _adds(self, name: str) -> bool:
        return self.block.collect_params()[name].grad_req == "add"

    def _extend(self, program: Program, unseen: Unseen) -> Program:
        """Trace the path that frames took at run time."""
        function = next((f for f in self.tracer.functions.values() if f.name == unseen.block.function), None)
        if function is None:
            raise unseen.as_error()
        answers = [_answer(text) for text in unseen.block.path.split("/")[1:]]
        self.tracer.extend(function, [*answers, unseen.answer])
        return self._build()

    def on_symbols(self, structure, fields, tensors, names, ints, returns, max_nodes, depth):
        """The InvokeOp, with outputs nested as the body returns them."""
        program = self.live.program
        params = {p.name: p.var() for p in self.block._parameters()}
        options = Options(tuple(names), len(tensors), tuple(ints), returns, self.block._executor, max_nodes, depth)
        out = invoke_symbol(
            program, self.live.text, options, structure, fields, tensors, params, name=self.block.name + "_invoke"
        )
        outputs = list(out) if len(out.list_outputs()) > 1 else [out]
        assert self.root.signature is not None
        result = regroup_outputs(outputs[: program.num_outputs], self.root.signature.structure)
        return (result, outputs[-1]) if max_nodes else result


def _answer(text: str) -> Any:
    return text == "True" if text in ("True", "False") else int(text)


def _candidates(_expr) -> list:
    """Numbers to try first where a body asks for an exact one; others are traced when met."""
    return [0, 1, 2, 3]
