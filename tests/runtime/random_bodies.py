"""Random bodies: a random graph of operators over fields, arguments and what calls return, on random paths.

A body is drawn once, as a plan that says what to do in each kind of node; tracing it follows the plan. All values are
rows of WIDTH numbers, so that everything fits everything.
"""
from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
from programs import WIDTH, WORDS, F

#: operators of one value and of two
UNARY = ["tanh", "sigmoid", "dense", "softmax", "scale", "normalise", "square", "clip", "log_softmax",
         "reshape", "mean"]
BINARY = ["add", "mul", "sub", "concat_slice", "join_dense", "maximum", "gate", "gather"]


class RandomBody:
    """A body drawn from a seed; call it as ``run(me, node, *args)``."""

    def __init__(self, seed: int, weights):
        self.random, self.P = np.random.RandomState(seed), weights
        r = self.random
        self.outputs = int(r.randint(1, 4))
        self.takes_tensor, self.takes_int = bool(r.rand() < 0.3), bool(r.rand() < 0.25)
        self.arity = str(r.choice(["binary", "branch", "loop", "carry", "len"]))
        counts = {"binary": (2,), "branch": (1, 2, 3), "loop": (1, 2, 4), "carry": (1, 2, 4), "len": (1, 2, 3)}
        self.arities: tuple = counts[self.arity]
        self.decides = str(r.choice(["", "", "", "value", "label", "index"]))
        if self.decides == "value" and self.arity in ("loop", "carry"):
            self.arity, self.arities = "branch", (1, 2, 3)  # a decision behind a loop makes a path of every arity
        self.mutual = bool(r.rand() < 0.2)
        self.plans: Dict[str, List[tuple]] = {}
        self.drawn = np.random.RandomState(seed + 1)

    @property
    def args(self) -> tuple:
        return ("tensor",) * self.takes_tensor + (1,) * self.takes_int

    @property
    def visits_each_once(self) -> bool:
        """Whether the body visits every node of a tree exactly once."""
        return not (self.takes_int or self.mutual or self.decides == "label")

    # -- a graph of operators, drawn when it is first needed and then the same on every path -----------------
    def graph(self, place: str, values: List[Any], results: int) -> List[Any]:
        """Some operators over `values`, and `results` of all values."""
        if (place, len(values)) not in self.plans:
            r, size = self.drawn, len(values)
            steps = []
            for _ in range(int(r.randint(1, 5))):
                op = str(r.choice(UNARY if r.rand() < 0.5 else BINARY))
                # The last values are used most: they would be dead ends otherwise.
                a = size - 1 - min(int(r.exponential(1.5)), size - 1)
                steps.append((op, a, int(r.randint(size)), float(np.round(r.normal(), 2))))
                size += 1
            ends = [size - 1 - min(int(r.exponential(1.0)), size - 1) for _ in range(results)]
            self.plans[place, len(values)] = [steps, ends]
        first = len(values)
        steps, ends = self.plans[place, first]
        values = list(values)
        for k, (op, a, b, number) in enumerate(steps):
            values.append(self.operator(f"{place}{len(ends)}of{first}_{k}", op, values[a], values[b], number))
        return [values[i] for i in ends]

    def operator(self, name: str, op: str, x, y, number: float):
        P = self.P
        if op in ("tanh", "sigmoid", "softmax", "log_softmax", "square"):
            return getattr(F, op)(F.tanh(x) if op == "square" else x)
        if op == "dense":
            return F.FullyConnected(x, P(f"{name}_w", WIDTH, WIDTH), P(f"{name}_b", WIDTH), num_hidden=WIDTH)
        if op == "scale":
            return number * x + 1
        if op == "normalise":
            return F.broadcast_div(x, F.sum(x * x, axis=1, keepdims=True) + 1)
        if op == "clip":
            return F.clip(x, -1.0, 1.0) * P(f"{name}_s", 1, WIDTH)
        if op == "reshape":
            half = WIDTH // 2
            return F.flatten(F.transpose(x.reshape((0, 2, half)), axes=(0, 2, 1)))
        if op == "mean":
            return F.broadcast_sub(x, F.mean(x, axis=1, keepdims=True))
        if op == "add":
            return x + y
        if op == "mul":
            return F.tanh(x) * y
        if op == "sub":
            return x - y * 0.5
        if op == "concat_slice":
            begin = 1 + abs(int(10 * number)) % (WIDTH - 1)
            return F.slice_axis(F.concat(x, y, dim=1), axis=1, begin=begin, end=begin + WIDTH)
        if op == "join_dense":
            return F.FullyConnected(F.concat(x, y, dim=1), P(f"{name}_w", WIDTH, 2 * WIDTH), no_bias=True,
                                    num_hidden=WIDTH)
        if op == "maximum":
            return F.broadcast_maximum(x, y)
        if op == "gate":
            i, o = F.split(F.FullyConnected(x, P(f"{name}_w", 2 * WIDTH, WIDTH), P(f"{name}_b", 2 * WIDTH),
                                            num_hidden=2 * WIDTH), num_outputs=2, axis=1)
            return F.sigmoid(i) * y + F.tanh(o)
        return F.stack(x, y, axis=1).sum(axis=1)

    # -- paths -----------------------------------------------------------------------------------------------
    def inputs(self, place: str, node) -> List[Any]:
        """What a frame starts from."""
        P, n = self.P, sum(place.encode()) % 3
        word = F.Embedding(node["word"], P("table", WORDS, WIDTH, sparse=True), input_dim=WORDS, output_dim=WIDTH,
                           dtype=P.dtype, sparse_grad=True)
        return [[node["x"]], [word, node["x"]], [node["x"] * node["score"].reshape((1, 1)), word]][n]

    def down(self, place: str, values: List[Any], ints: List[Any]) -> List[Any]:
        """What is passed down to a call."""
        tensors = self.graph(f"{place}_down", values, 1) if self.takes_tensor else []
        return [*tensors, *(i + 1 for i in ints)]

    def run(self, me, node, *args):
        tensors = list(args[:1]) if self.takes_tensor else []
        ints = list(args[len(tensors):])
        if node.is_leaf:
            return self.end("leaf", self.inputs("leaf", node) + tensors)
        if ints and ints[0] > 3:
            return self.end("deep", self.inputs("deep", node) + tensors)
        if self.decides == "label" and node["label"] == 1:
            return self.end("label", self.inputs("label", node) + tensors)
        values = self.inputs("inner", node) + tensors
        if self.decides == "index" and node.index % 3 == 1:
            values = self.graph("index", values, len(values))
        other = me.of(self.second) if self.mutual else me
        values += getattr(self, f"_{self.arity}")(me, other, node, values, ints)
        if self.decides == "value":
            gate, = self.graph("test", values, 1)
            if gate.sum() > 0:
                return self.end("positive", values)
        return self.end("inner", values)

    def second(self, me, node, *args):
        """A second body, for mutual recursion: it looks and passes on."""
        if node.is_leaf:
            return self.end("second_leaf", self.inputs("second", node) + list(args[:1] if self.takes_tensor else ()))
        outputs = _list(me.of(self.run)(node, *args))
        return self.end("second", outputs)

    def end(self, place: str, values: List[Any]):
        outputs = self.graph(f"{place}_end", values, self.outputs)
        return tuple(outputs) if self.outputs > 1 else outputs[0]

    def _binary(self, me, other, node, values, ints):
        left = _list(me(node.left, *self.down("left", values, ints)))
        return left + _list(other(node.right, *self.down("right", values, ints)))

    def _branch(self, me, other, node, values, ints):
        if node.arity == 1:
            results = _list(other(node.left, *self.down("only", values, ints)))
        elif node.arity == 2:
            results = self._binary(me, other, node, values, ints)
        else:
            results = self._binary(me, other, node, values, ints)
            results += _list(me(node.children[-1], *self.down("last", values, ints)))
        return self.graph("joined", results, 2)

    def _len(self, me, other, node, values, ints):
        results = []
        for i in range(len(node.children)):
            results += _list((other if i else me)(node.children[i], *self.down(f"child{i}", values, ints)))
        return self.graph("joined", results, 2)

    def _loop(self, me, other, node, values, ints):
        results = [self.graph("each", _list(other(child, *self.down("child", values, ints))) + values[:1], 2)
                   for child in node.children]
        return [F.add_n(*[a for a, _ in results]), sum(b for _, b in results)]

    def _carry(self, me, other, node, values, ints):
        h, total = values[0], values[-1]
        for child in node.children:
            results = _list(other(child, *self.down("child", values, ints)))
            h = F.tanh(self.graph("step", results + [h], 1)[0] + h)
            total = total + results[0]
        return [h, total]


def _list(outputs) -> List[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
