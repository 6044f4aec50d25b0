"""The *reference* executor: a Program interpreted frame by frame, depth first. Slow, obviously right, the oracle.

Every operator is one call of MXNet's on one frame's values; the gradient is MXNet's own autograd over all of them.
Nothing is planned, and Python's stack is not used by depth.
"""
from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .._compat import mx
from ..errors import ArityError, DepthLimitError, VisitError
from ..program.expr import Expr, evaluate
from ..program.ir import Block, Branch, Field, ForEach, Function, Integer, Invoke, Op, Raise, Random, Return
from ..program.rules.site import flag, number
from ..schedule.faults import Unseen, call_path, call_step, check_count, deciding, endless, raised
from ..schedule.keys import frame_keys, mix
from .arrays import call as call_operator
from .arrays import upload
from .draws import draw
from .executor import NODES, Call, Gradients, Result
from .recipes import specialized

__all__ = ["run"]


def run(call: Call) -> Result:
    """Run a call, one frame after another."""
    return _Run(call).forward()


class _Place(NamedTuple):
    """A block: its function, and the answers that lead to it."""

    function: str
    path: str


class _Frame:
    """One call of a function: what was passed, what is computed so far, where it goes on."""

    def __init__(self, function: Function, node: int, ints: Tuple[int, ...], args: Sequence[Any], tree: int,
                 caller: Optional["_Frame"], site: Any, key):
        self.function, self.node, self.ints, self.tree, self.key = function, node, ints, tree, key
        self.caller, self.site = caller, site
        self.depth: int = 0 if caller is None else caller.depth + 1
        self.values: Dict[str, Any] = dict(zip(function.args, args))
        self.block: Block = function.body
        self.answers = "body"  # given so far
        self.position = 0  # of the next node of the block
        self.callees: List["_Frame"] = []  # what the call at that position has started
        self.started = False
        self.outputs: Optional[List[Any]] = None

    def path(self) -> str:
        """How the frame was reached, as ``TreeLSTM[root.left.right]``."""
        steps, frame = [], self
        while frame.caller is not None:
            steps.append(call_step(frame.site))
            frame = frame.caller
        return call_path(self.function.name, steps)


class _Seen:
    """What :func:`evaluate` sees of one frame."""

    def __init__(self, run: "_Run", frame: _Frame):
        self.run, self.frame = run, frame
        self.node, self.ints = np.array([frame.node]), np.array([frame.ints], np.int64).reshape(1, -1)

    def _present(self, nodes, text: str) -> int:
        node = int(nodes[0])
        if node < 0:
            raise ArityError(f"{self.frame.path()}: {text} looks at an empty slot (None); test the slot with "
                             f"`is None` before")
        return node

    def child(self, nodes, positions, text: str):
        children, position = self.run.children(self._present(nodes, text)), int(positions[0])
        if not 0 <= position < len(children):
            raise ArityError(f"{self.frame.path()}: child {position} was asked of a node that has {len(children)} "
                             f"children; test `node.is_leaf` or `node.arity` before asking, or give the tree that "
                             f"child")
        return np.array([children[position]])

    def arity(self, nodes):
        return np.array([len(self.run.children(self._present(nodes, "the arity")))])

    def leaf(self, nodes):
        return self.run.structure.is_leaf[[self._present(nodes, "is_leaf")]]

    def index(self, nodes):
        return nodes - self.run.structure.tree_offsets[self.frame.tree]

    def field(self, nodes, name: str):
        return self.run.host_field(name)[[self._present(nodes, f"field {name!r}")]]


class _Run(Result):
    """One call: all its frames, and the leaves of MXNet's tape."""

    def __init__(self, call: Call):
        super().__init__([])
        self.call, self.structure, self.ctx = call, call.structure, call.ctx
        self.program, self.types = specialized(call)
        self.frames: List[_Frame] = []
        self.shared: Dict[Tuple[str, int, Tuple[int, ...]], _Frame] = {}
        self.rows: Dict[Tuple[str, int], Any] = {}
        self.states: List[Tuple[tuple, str, Any, float]] = []
        self.normalised: List[Any] = []
        self._host: Dict[str, np.ndarray] = {}
        self._number()

    def _number(self) -> None:
        """Functions, call sites and operators by their place in the text: random numbers and states go by it."""
        self.function_number = {name: i for i, name in enumerate(self.program.functions)}
        self.numbers: Dict[Tuple[int, int], int] = {}
        sites = operators = 0
        for function in self.program.functions.values():
            for block in function.blocks():
                for i, node in enumerate(block.nodes):
                    if isinstance(node, (Invoke, ForEach)):
                        self.numbers[id(block), i], sites = sites, sites + 1
                    else:
                        self.numbers[id(block), i], operators = operators, operators + 1

    # -- what the frames read --------------------
    def children(self, node: int) -> np.ndarray:
        offsets = self.structure.child_offsets
        return self.structure.children[offsets[node]:offsets[node + 1]]

    def host_field(self, name: str) -> np.ndarray:
        if name not in self._host:
            self._host[name] = deciding(name, self.call.fields[name].asnumpy())
        return self._host[name]

    def _leaf(self, array):
        """An array as a leaf of the tape."""
        array = array.detach()
        if self.call.keep and _is_float(array):
            array.attach_grad()
        return array

    def _row(self, name: str, node: int):
        if (name, node) not in self.rows:
            self.rows[name, node] = self._leaf(self.call.fields[name][node:node + 1].copy())
        return self.rows[name, node]

    def _integer(self, expr: Expr, frame: _Frame) -> int:
        return int(np.broadcast_to(evaluate(expr, _Seen(self, frame)), (1,))[0])

    # -- forward --------------------
    def forward(self) -> "_Run":
        call, s = self.call, self.structure
        self.params = {name: self._leaf(array) for name, array in call.params.items()}
        n = s.num_trees
        self.args = [[self._leaf(arg[i:i + 1].copy()) for i in range(n)] for arg in call.args]
        record = mx.autograd.record if call.keep else mx.autograd.pause
        with record(train_mode=call.train):
            roots = []
            for i in range(n):
                roots.append(self._call(self.program.root, int(s.roots[i]), tuple(call.ints),
                                        [arg[i] for arg in self.args], i, None, None, -1, None))
                self._finish(roots[-1])
            returned = self._grown() if call.max_nodes else self._nodes() if call.returns == NODES else roots
            self.heads = self._join(returned)
        self.outputs = [head.detach() for head in self.heads]
        if call.max_nodes:
            self.outputs = [out.reshape((n, call.max_nodes, *out.shape[1:])) for out in self.outputs]
        self.statistics = {"frames": len(self.frames)}
        return self

    def _finish(self, frame: _Frame) -> None:
        stack = [frame]
        while stack:
            callee = self._advance(stack[-1])
            if callee is None:
                stack.pop()
            elif callee.started:
                raise DepthLimitError(endless(stack[-1].path()))
            else:
                callee.started = True
                stack.append(callee)

    def _call(self, function: str, node: int, ints: Tuple[int, ...], args: Sequence[Any], tree: int,
              caller: Optional[_Frame], site: Any, number: int, position: Optional[int]) -> _Frame:
        """The frame of a call; calls without tensor arguments on the same node with the same integers are one."""
        shared = not args and position is None
        if shared and (function, node, ints) in self.shared:
            return self.shared[function, node, ints]
        key = None if caller is None else caller.key
        if key is not None and position is not None:
            key = mix(key, position)
        key = frame_keys(self.function_number[function], shared, self.structure, np.array([node]),
                         np.array([ints], np.int64).reshape(1, -1), np.array([tree]), number, key)
        frame = _Frame(self.program.functions[function], node, ints, args, tree, caller, site, key)
        if frame.depth > self.call.max_depth:
            raise DepthLimitError(f"{frame.path()}: calls are nested deeper than {self.call.max_depth}; does a base "
                                  f"case come? If the depth is meant, raise the limit with hybridize(max_depth=...)")
        if shared:
            self.shared[function, node, ints] = frame
        self.frames.append(frame)
        return frame

    def _advance(self, frame: _Frame) -> Optional[_Frame]:
        """Go on with a frame; returns a call that must return first, or None when the frame has returned."""
        while True:
            while frame.position < len(frame.block.nodes):
                node = frame.block.nodes[frame.position]
                if isinstance(node, (Invoke, ForEach)):
                    waits_for = self._invoke(frame, node) if isinstance(node, Invoke) else self._for_each(frame, node)
                    if waits_for is not None:
                        return waits_for
                    frame.callees = []
                else:
                    frame.values.update(zip(node.outputs, self._compute(frame, node)))
                frame.position += 1
            end = frame.block.end
            if isinstance(end, Return):
                frame.outputs = [self._value(frame, v) for v in end.values]
                frame.values = {}
                return None
            if isinstance(end, Raise):
                raise raised(end, frame.path())
            answer = self._answer(frame, end)
            frame.block, frame.position, frame.answers = end.arms[answer], 0, f"{frame.answers}/{answer}"

    def _invoke(self, frame: _Frame, node: Invoke) -> Optional[_Frame]:
        if not frame.callees:
            at = int(evaluate(node.node, _Seen(self, frame))[0])
            if at < 0 and node.node.op != "none":
                raise ArityError(f"{frame.path()}: {node.function} is called at {node.where} on {node.node}, which is "
                                 f"an empty slot (None)")
            frame.callees = [self._call(node.function, at, tuple(self._integer(e, frame) for e in node.ints),
                                        [self._value(frame, v) for v in node.args], frame.tree, frame, node,
                                        self.numbers[id(frame.block), frame.position], None)]
        callee = frame.callees[0]
        if callee.outputs is None:
            return callee
        frame.values.update(zip(node.outputs, callee.outputs))
        return None

    def _for_each(self, frame: _Frame, node: ForEach) -> Optional[_Frame]:
        children = self.children(int(evaluate(node.node, _Seen(self, frame))[0]))
        carried = [self._value(frame, v) for v in node.carries]
        if frame.callees:
            last = frame.callees[-1].outputs
            if last is None:
                return frame.callees[-1]
            carried = last[:len(carried)]
        k = len(frame.callees)
        if k < len(children):
            ints = (*(self._integer(e, frame) for e in node.ints), k)
            args = [*(self._value(frame, v) for v in node.captures), *carried]
            frame.callees.append(self._call(node.function, int(children[k]), ints, args, frame.tree, frame, node,
                                            self.numbers[id(frame.block), frame.position], k))
            return frame.callees[-1]
        frame.values.update(zip(node.outputs, carried))
        for j in range(len(carried), len(node.outputs)):
            total = None
            for callee in frame.callees:
                value = callee.outputs[j]  # type: ignore[index]  # all have returned
                total = value if total is None else total + value
            frame.values[node.outputs[j]] = self._zeros(frame, node.outputs[j]) if total is None else total
        return None

    def _zeros(self, frame: _Frame, value: str):
        name = frame.function.name
        return mx.nd.zeros(self.types.shapes[name][value], ctx=self.ctx, dtype=self.types.dtypes[name][value])

    def _value(self, frame: _Frame, value: str):
        return self.params[value[1:]] if value.startswith("@") else frame.values[value]

    # -- nodes and decisions --------------------
    def _compute(self, frame: _Frame, node) -> List[Any]:
        if isinstance(node, Field):
            seen = _Seen(self, frame)
            return [self._row(node.name, seen._present(evaluate(node.node, seen), str(node.node)))]
        if isinstance(node, Integer):
            dtype = self.types.dtypes[frame.function.name][node.outputs[0]]
            return [upload(np.array([self._integer(node.value, frame)]), self.ctx, dtype)]
        if isinstance(node, Random):
            dtype = self.types.dtypes[frame.function.name][node.outputs[0]]
            return [upload(draw(node, self.call.seed, frame.key, dtype).reshape(node.shape), self.ctx)]
        assert isinstance(node, Op)
        return self._operator(frame, node)

    def _operator(self, frame: _Frame, node: Op) -> List[Any]:
        # An operator that makes its result from nothing must know where; a row_sparse gradient is made at the end.
        attrs = {k: v for k, v in node.attrs.items() if k not in ("ctx", "sparse_grad")}
        if not node.inputs:
            attrs["ctx"] = str(self.ctx)
        inputs = [self._value(frame, v) for v in node.inputs]
        updates = []
        if self.call.train and not flag(node.attrs, "use_global_stats"):
            for i, v in enumerate(node.inputs):
                if v.startswith("@") and self.program.by_name[v[1:]].state:
                    # MXNet updates states in place in the backward pass: from zero, that is the frame's share.
                    inputs[i] = mx.nd.zeros_like(inputs[i]).detach()
                    updates.append((v[1:], inputs[i]))
        result = call_operator(node.op, inputs, attrs)
        outputs = [result] if isinstance(result, mx.nd.NDArray) else list(result)
        order = (frame.node, int(frame.key[0]), self.numbers[id(frame.block), frame.position])
        momentum = float(np.float32(number(node.attrs, "momentum", 0.9)))  # as the operator keeps it
        self.states += [(order, name, array, momentum) for name, array in updates]
        self.normalised += outputs[:1] if updates else []
        return outputs

    def _answer(self, frame: _Frame, end: Branch):
        if isinstance(end.test, Expr):
            answer = np.broadcast_to(evaluate(end.test, _Seen(self, frame)), (1,))[0]
        else:
            answer = self._value(frame, end.test).asnumpy().reshape(-1)[0] != 0
        answer = bool(answer) if all(isinstance(a, bool) for a in end.arms) else int(answer)
        if answer not in end.arms:
            test = end.test if isinstance(end.test, Expr) else f"the tensor at {end.where}"
            raise Unseen(_Place(frame.function.name, frame.answers), answer, f"{frame.path()}: {test} is {answer}, "
                         f"a path that was never traced (traced: {', '.join(map(str, end.arms))})")
        return answer

    # -- results --------------------
    def _nodes(self) -> List[_Frame]:
        """The root function's frame of every node."""
        visits: List[List[_Frame]] = [[] for _ in range(self.structure.num_nodes)]
        for frame in self.frames:
            if frame.function.name == self.program.root and frame.node >= 0:
                visits[frame.node].append(frame)
        for node, frames in enumerate(visits):
            if len(frames) != 1:
                tree = int(np.searchsorted(self.structure.tree_offsets, node, side="right")) - 1
                where = f" (once at {frames[0].path()})" if frames else ""
                raise VisitError(f"nodes=True needs exactly one visit of every node, but node "
                                 f"{node - int(self.structure.tree_offsets[tree])} of tree {tree} was visited "
                                 f"{len(frames)} times{where}; ask for the roots alone, or visit it once")
        return [frames[0] for frames in visits]

    def _grown(self) -> List[Optional[_Frame]]:
        """For every tree its frames of the root function as they were made, depth first, and None up to max_nodes."""
        most = self.call.max_nodes
        grown: List[List[Optional[_Frame]]] = [[] for _ in range(self.structure.num_trees)]
        for frame in self.frames:
            if frame.function.name == self.program.root:
                grown[frame.tree].append(frame)
        counts = [len(frames) for frames in grown]
        check_count(counts, most)
        self.count = mx.nd.array(counts, ctx=self.ctx, dtype="int32")
        return [frame for frames in grown for frame in frames + [None] * (most - len(frames))]

    def _join(self, frames: Sequence[Optional[_Frame]]) -> List[Any]:
        """The outputs of frames, a row each; zeros where there is no frame."""
        heads = []
        # Autograd refuses heads that depend on no leaf: let all of them hang on one.
        self.anchors = {}
        for j in range(self.program.functions[self.program.root].num_outputs):
            shape, dtype = self.types.outputs[self.program.root][j]
            nothing = mx.nd.zeros(shape, ctx=self.ctx, dtype=dtype)
            rows = [nothing if frame is None else frame.outputs[j] for frame in frames]  # type: ignore[index]
            head = mx.nd.concat(*rows, dim=0) if shape[:1] == (1,) else mx.nd.stack(*rows, axis=0)
            if self.call.keep and _is_float(head):
                self.anchors[j] = self._leaf(mx.nd.zeros((1,) * len(head.shape), ctx=self.ctx, dtype=head.dtype))
                head = mx.nd.broadcast_add(head, self.anchors[j])
            heads.append(head)
        return heads

    def backward(self, ograds: Sequence[Any]) -> Gradients:
        """Gradients by MXNet's autograd. May be called again."""
        leaves = [*self.params.values(), *self.rows.values(), *(row for rows in self.args for row in rows)]
        for leaf in leaves:
            if leaf.grad is not None:
                leaf.grad[:] = 0
        for _, _, array, _ in self.states:
            array[:] = 0
        wanted = [j for j in self.anchors if ograds[j] is not None]
        heads = [self.heads[j] for j in wanted] + self.normalised
        grads = [ograds[j].reshape(self.heads[j].shape) for j in wanted]
        grads += [mx.nd.zeros_like(x).detach() for x in self.normalised]
        if heads:
            mx.autograd.backward(heads, grads, retain_graph=True, train_mode=self.call.train)
        return self._gradients()

    def _gradients(self) -> Gradients:
        result = Gradients()
        for param in self.program.params:
            grad = None if param.state else self.params[param.name].grad
            if grad is not None:
                result.params[param.name] = grad.tostype("row_sparse") if param.sparse_grad else grad.copy()
        for name in sorted({name for name, _ in self.rows}):
            array = self.call.fields[name]
            if _is_float(array):
                grad = result.fields[name] = mx.nd.zeros(array.shape, ctx=self.ctx, dtype=array.dtype)
                for (other, node), row in self.rows.items():
                    if other == name:
                        grad[node:node + 1] = row.grad
        for arg, rows in zip(self.call.args, self.args):
            result.args.append(mx.nd.concat(*[row.grad for row in rows], dim=0) if _is_float(arg) else None)
        for _, name, delta, momentum in sorted(self.states, key=lambda update: update[0]):
            result.states[name] = result.states.get(name, self.call.params[name]) * momentum + delta
        return result


def _is_float(array) -> bool:
    return np.dtype(array.dtype).kind == "f"
