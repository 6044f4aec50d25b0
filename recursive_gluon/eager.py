"""The eager twin: a body as plain Python recursion over real nodes, before ``hybridize()``."""
from __future__ import annotations

import threading
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ._compat import mx
from .capture.nodes import EagerNode, Layout
from .capture.tracer import flatten_outputs, regroup_outputs
from .data.forest import Forest
from .errors import DepthLimitError, VisitError

__all__ = ["EagerRun", "current_run"]

_local = threading.local()


def current_run() -> Optional["EagerRun"]:
    """The eager run of this thread, or None."""
    return getattr(_local, "run", None)


class EagerRun:
    """One eager call: the forest, and what was computed so far (a shared sub-tree is computed once)."""

    def __init__(self, forest: Forest, layout: Layout):
        self.forest, self.layout = forest, layout
        self.structure = forest.structure
        self.leaves = self.structure.is_leaf
        self._memo: Dict[tuple, Tuple[Any, tuple]] = {}
        self._visits: Dict[int, Dict[int, List[Any]]] = {}

    def field(self, name: str):
        return self.forest[name]

    def tree_start(self, node: int) -> int:
        offsets = self.structure.tree_offsets
        return int(offsets[np.searchsorted(offsets, node, side="right") - 1])

    def call(self, block, node: Optional[EagerNode], arguments: tuple):
        """A call of a body; the same body on the same node with the same arguments is computed once."""
        marks = tuple(id(a) if isinstance(a, mx.nd.NDArray) else a for a in arguments)
        key = (id(block), None if node is None else node._number, marks)
        if key not in self._memo:
            try:
                result = block._run_body(mx.nd, node, arguments)
            except RecursionError:
                raise DepthLimitError(
                    f"{block.name}: plain Python recursion is nested deeper than Python allows; does a base case come? "
                    f"If the trees are that deep, call hybridize(), which needs no stack") from None
            self._memo[key] = (result, arguments)  # arguments are held: ids stay theirs
            if node is not None:
                self._visits.setdefault(id(block), {}).setdefault(node._number, []).append(result)
        return self._memo[key][0]

    def run(self, block, has_node: bool, tensors: List[Any], arguments, nodes: bool):
        """All trees, one after another; results stacked by tree or by node."""
        before = current_run()
        _local.run = self
        try:
            results = []
            for i, root in enumerate(self.structure.roots):
                rows = iter([t[i:i + 1] for t in tensors])
                mine = tuple(next(rows) if isinstance(a, mx.nd.NDArray) else a for a in arguments)
                results.append(self.call(block, EagerNode(self, int(root)) if has_node else None, mine))
        finally:
            _local.run = before
        if nodes:
            results = self._by_node(block)
        dtype = self._floating(block, tensors)
        flat = [flatten_outputs(self._tensors(r, dtype)) for r in results]
        stacked = [mx.nd.concat(*parts, dim=0) if len(parts) > 1 else parts[0]
                   for parts in ([f[0][j] for f in flat] for j in range(len(flat[0][0])))]
        return regroup_outputs(stacked, flat[0][1])

    def _tensors(self, result, dtype: str):
        """Numbers that a body returned as the tensors that a Program makes of them."""
        if isinstance(result, (list, tuple)):
            return tuple(self._tensors(r, dtype) for r in result)
        if isinstance(result, (int, np.integer)) and not isinstance(result, bool):
            return mx.nd.full((1,), int(result), ctx=self.forest.context, dtype=dtype)
        return result

    def _floating(self, block, tensors) -> str:
        """What an integer is among tensors, as `program.infer` has it."""
        params = [p.dtype for p in block.collect_params().values()]
        arrays = [a.dtype for a in (*tensors, *list(self.forest)[1:])]
        return next((np.dtype(t).name for t in (*params, *arrays) if np.dtype(t).kind == "f"), "float32")

    def _by_node(self, block) -> List[Any]:
        visits = self._visits.get(id(block), {})
        for node in range(self.structure.num_nodes):
            if len(visits.get(node, ())) != 1:
                start = self.tree_start(node)
                tree = int(np.searchsorted(self.structure.tree_offsets, node, side="right")) - 1
                raise VisitError(f"nodes=True needs exactly one visit of every node, but node {node - start} of tree "
                                 f"{tree} was visited {len(visits.get(node, ()))} times by {block.name}; ask for the "
                                 f"roots alone, or visit it once")
        return [visits[node][0] for node in range(self.structure.num_nodes)]
