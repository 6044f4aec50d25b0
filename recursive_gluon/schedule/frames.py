"""Frames: every call of a function on a node, found for all trees at once, wave by wave, before any arithmetic.

Structural decisions are evaluated over whole waves. A decision on a tensor stops its frames; they go on when the
executor has read the value. Calls of a function without tensor arguments on the same node with the same integers are
one frame, so shared sub-trees of a DAG are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

import numpy as np

from ..errors import ArityError, DepthLimitError, RecursiveGluonError
from ..program.expr import Expr, evaluate
from ..program.ir import Branch, ForEach, Invoke, Raise, Return
from ..structure import Structure
from .faults import Unseen, call_path, call_step, deciding, raised
from .grow import Grow
from .keys import frame_keys, mix
from .recipe import BlockInfo, CallSite, Recipe, Segment

__all__ = ["Frames", "FrameTable"]


class FrameTable:
    """The frames of one function, column by column."""

    def __init__(self, index: int, num_ints: int, num_args: int, num_outputs: int, num_nodes: int):
        self.index = index
        self.node, self.tree = Grow(np.int64), Grow(np.int32)
        self.ints = Grow(np.int64, (num_ints,))
        self.key, self.depth = Grow(np.uint64), Grow(np.int32)
        self.caller, self.site = Grow(np.int64), Grow(np.int32)
        self.arg_unit = [Grow(np.int64) for _ in range(num_args)]
        self.out_unit = [Grow(np.int64) for _ in range(num_outputs)]
        self.shared = not num_args
        self._by_node = np.full(num_nodes + 1, -1, np.int64) if self.shared and not num_ints else None
        self._runs: List[Tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.node)

    def find_or_make(self, nodes: np.ndarray, ints: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Frames for calls without tensor arguments: their ids, and for each new frame the position of its call."""
        base = len(self)
        if self._by_node is not None:
            ids = self._by_node[nodes]  # node -1 (no node) is the last entry
            missing = np.flatnonzero(ids < 0)
            if not len(missing):
                return ids, missing
            _, first = np.unique(nodes[missing], return_index=True)
            first = missing[np.sort(first)]
            self._by_node[nodes[first]] = np.arange(base, base + len(first))
            return self._by_node[nodes], first
        keys = nodes.astype(np.uint64)
        for column in ints.T:
            keys = mix(keys, column)
        ids = np.full(len(keys), -1, np.int64)
        for run_keys, run_ids in self._runs:
            at = np.minimum(np.searchsorted(run_keys, keys), len(run_keys) - 1)
            hit = run_keys[at] == keys
            ids[hit] = run_ids[at[hit]]
        known = np.flatnonzero(ids >= 0)
        if len(known) and not (
            (self.node.view()[ids[known]] == nodes[known]).all() and (self.ints.view()[ids[known]] == ints[known]).all()
        ):
            raise RecursiveGluonError(
                "two calls with different arguments have one 64-bit key; call with other integers"
            )
        missing = np.flatnonzero(ids < 0)
        if not len(missing):
            return ids, missing
        unique, first, inverse = np.unique(keys[missing], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        ids[missing] = base + rank[inverse]
        self._runs.append((unique, base + rank))
        if len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(unique):
            self._merge()
        return ids, missing[first[order]]

    def _merge(self) -> None:
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            (k1, i1), (k2, i2) = self._runs.pop(), self._runs.pop()
            keys, ids = np.concatenate([k1, k2]), np.concatenate([i1, i2])
            order = np.argsort(keys, kind="stable")
            self._runs.append((keys[order], ids[order]))


@dataclass
class _View:
    """What :func:`evaluate` sees of some frames of a function."""

    frames: "Frames"
    function: str
    ids: np.ndarray

    @property
    def node(self):
        return self.frames.tables[self.function].node.view()[self.ids]

    @property
    def ints(self):
        return self.frames.tables[self.function].ints.view()[self.ids]

    def child(self, nodes, positions, text):
        s = self.frames.structure
        self._present(nodes, text)
        start = s.child_offsets[nodes]
        bad = np.flatnonzero((positions < 0) | (positions >= s.child_offsets[nodes + 1] - start))
        if len(bad):
            i = int(bad[0])
            path = self.frames.call_path(self.function, int(self.ids[i]))
            arity = int(s.child_offsets[nodes[i] + 1] - start[i])
            raise ArityError(
                f"{path}: child {int(positions[i])} was asked of a node that has {arity} children; test "
                f"`node.is_leaf` or `node.arity` before asking, or give the tree that child"
            )
        return s.children[start + positions].astype(np.int64)

    def _present(self, nodes, text):
        if len(nodes) and nodes.min() < 0:
            i = int(np.argmin(nodes))
            path = self.frames.call_path(self.function, int(self.ids[i]))
            raise ArityError(f"{path}: {text} looks at an empty slot (None); test the slot with `is None` before")

    def arity(self, nodes):
        self._present(nodes, "the arity")
        return self.frames.arity[nodes]

    def leaf(self, nodes):
        self._present(nodes, "is_leaf")
        return self.frames.leaves[nodes]

    def index(self, nodes):
        s = self.frames.structure
        return nodes - s.tree_offsets[np.searchsorted(s.tree_offsets, nodes, side="right") - 1]

    def field(self, nodes, name):
        self._present(nodes, f"field {name!r}")
        return self.frames.host_field(name)[nodes]


class Frames:
    """All frames of a call, and the *units* (a segment on a frame) that they make.

    Parameters
    ----------
    recipe : Recipe
    structure : Structure
    host_field : callable
        Name to host array of a field; asked only for fields that decide.
    max_depth : int
        Calls nested deeper raise DepthLimitError.
    """

    def __init__(self, recipe: Recipe, structure: Structure, host_field: Callable[[str], np.ndarray], max_depth: int):
        self.recipe, self.structure, self.max_depth = recipe, structure, max_depth
        self.arity, self.leaves = structure.arity, structure.is_leaf
        self._host_field = host_field
        self._fields: Dict[str, np.ndarray] = {}
        functions = recipe.program.functions
        # Keys are for random numbers, and for the order in which frames update auxiliary states.
        self.keyed = recipe.program.random or any(p.state for p in recipe.program.params)
        self.tables = {
            name: FrameTable(i, f.num_ints, len(f.args), f.num_outputs, structure.num_nodes)
            for i, (name, f) in enumerate(functions.items())
        }
        blocks = len(recipe.blocks)
        self.block_frames = [Grow(np.int64) for _ in range(blocks)]
        self.parent_entry = [Grow(np.int64) for _ in range(blocks)]
        self.callee = {s.id: Grow(np.int64) for s in recipe.sites}
        self.callee_count = {s.id: Grow(np.int64) for s in recipe.sites if isinstance(s.node, ForEach)}
        self.seg_units = [Grow(np.int64) for _ in recipe.segments]
        self.unit_seg, self.unit_entry = Grow(np.int32), Grow(np.int64)
        self.waiting: List[Tuple[int, np.ndarray]] = []  # (block, entries) stopped at a decision on a tensor
        self._entries: List[Tuple[int, np.ndarray, np.ndarray]] = []
        self._new: Dict[str, List[np.ndarray]] = {}

    def host_field(self, name: str) -> np.ndarray:
        if name not in self._fields:
            self._fields[name] = deciding(name, self._host_field(name))
        return self._fields[name]

    # -- growing --------------------
    def start(self, ints: Tuple[int, ...], num_args: int) -> np.ndarray:
        """Frames of the roots; their tensor arguments are the first units. Returns the frames' ids."""
        s, root = self.structure, self.recipe.program.root
        n = s.num_trees
        args = []
        for _ in range(num_args):
            args.append(np.arange(len(self.unit_seg), len(self.unit_seg) + n))
            self.unit_seg.extend(n, -1)
            self.unit_entry.append(np.arange(n))
        ids = self._frames(
            root,
            s.roots.astype(np.int64),
            np.tile(np.array(ints, np.int64), (n, 1)).reshape(n, len(ints)),
            args,
            np.arange(n, dtype=np.int32),
            np.zeros(n, np.int32),
            np.full(n, -1),
            -1,
            None,
        )
        self.grow()
        return ids

    def start_everywhere(self) -> bool:
        """Frames of the root function on every node at once, if that is what the roots reach; False if it is not.

        A body without arguments that visits the whole forest needs no waves: all its frames are known beforehand, and
        that they are reached is checked afterwards. Every node but the roots is called by some frame, and nodes are
        numbered children first, so by induction from the roots every frame is one that the waves would have found.
        """
        s, root = self.structure, self.recipe.program.root
        n = s.num_nodes
        trees = np.repeat(np.arange(s.num_trees, dtype=np.int32), np.diff(s.tree_offsets))
        self._frames(
            root, np.arange(n), np.empty((n, 0), np.int64), [], trees, np.zeros(n, np.int32), np.full(n, -1), -1, None
        )
        self.grow()
        reached = np.zeros(n, bool)
        reached[s.roots] = True
        below = True
        for site in self.recipe.sites:
            if isinstance(site.node, Invoke) and site.node.function == root:
                called = self.callee[site.id].view()
                reached[called] = True
                below = below and bool((called < self._root_callers(site, root)).all())
        return below and len(self.tables[root]) == n and bool(reached.all()) and not self.waiting

    def _root_callers(self, site: CallSite, root: str) -> np.ndarray:
        """The root function's frames from which the calls of a site come, through a loop's body at most; else -1."""
        frames = self.block_frames[site.block].view()
        if site.function == root:
            return frames
        table = self.tables[site.function]
        direct = np.array([s.function == root for s in self.recipe.sites])
        return np.where(direct[table.site.view()[frames]], table.caller.view()[frames], -1)

    def _frames(self, function: str, nodes, ints, args, trees, depths, callers, site: int, caller_keys) -> np.ndarray:
        table = self.tables[function]
        if table.shared:
            ids, new = table.find_or_make(nodes, ints)
        else:
            new = np.arange(len(nodes))
            ids = new + len(table)
        if not len(new):
            return ids
        if depths[0] > self.max_depth or depths.max() > self.max_depth:
            raise DepthLimitError(
                f"{self._path_of_call(site, int(callers[np.argmax(depths)]))}: calls are nested deeper "
                f"than {self.max_depth}; does a base case come? If the depth is meant, raise the limit "
                f"with hybridize(max_depth=...)"
            )
        table.node.append(nodes[new])
        table.tree.append(trees[new])
        table.ints.append(ints[new])
        table.depth.append(depths[new])
        table.caller.append(callers[new])
        table.site.extend(len(new), site)
        if self.keyed:
            table.key.append(
                frame_keys(
                    table.index,
                    table.shared,
                    self.structure,
                    nodes[new],
                    ints[new],
                    trees[new],
                    site,
                    None if caller_keys is None else caller_keys[new],
                )
            )
        for column, units in zip(table.arg_unit, args):
            column.append(units[new])
        for column in table.out_unit:
            column.extend(len(new), -1)
        self._new.setdefault(function, []).append(
            ids if len(new) == len(ids) and not table.shared else np.arange(len(table) - len(new), len(table))
        )
        return ids

    def grow(self) -> None:
        """Enter blocks until nothing is left but decisions on tensors."""
        while self._entries or self._new:
            while self._entries:
                self._enter(*self._entries.pop())
            new, self._new = self._new, {}
            for function, chunks in new.items():
                ids = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
                self._entries.append((self.recipe.entry[function], ids, np.full(len(ids), -1)))

    def _enter(self, b: int, frames: np.ndarray, parents: np.ndarray) -> None:
        info = self.recipe.blocks[b]
        n, first = len(frames), len(self.block_frames[b])
        self.block_frames[b].append(frames)
        self.parent_entry[b].append(parents)
        entries = np.arange(first, first + n)
        for segment in info.segments:
            units = np.arange(len(self.unit_seg), len(self.unit_seg) + n)
            self.seg_units[segment.id].append(units)
            self.unit_seg.extend(n, segment.id)
            self.unit_entry.append(entries)
        for site in info.sites:
            self._call(site, b, frames, entries)
        end = info.end
        if isinstance(end, Return):
            table = self.tables[info.function]
            for column, value in zip(table.out_unit, end.values):
                column.view()[frames] = self.value_unit(info.function, value, b, entries)
        elif isinstance(end, Raise):
            raise raised(end, self.call_path(info.function, int(frames[0])))
        elif isinstance(end, Branch):
            if isinstance(end.test, str):
                self.waiting.append((b, entries))
            else:
                answers = np.broadcast_to(evaluate(end.test, _View(self, info.function, frames)), (n,))
                self._split(info, frames, entries, answers)

    def _split(self, info: BlockInfo, frames, entries, answers) -> None:
        arms = info.arms
        exact = not all(isinstance(a, bool) for a in arms)
        left = n = len(frames)
        for answer, arm in arms.items():
            chosen = np.flatnonzero(answers == answer) if exact else np.flatnonzero(answers if answer else ~answers)
            if len(chosen):
                left -= len(chosen)
                every = len(chosen) == n
                self._entries.append((arm, frames if every else frames[chosen], entries if every else entries[chosen]))
        if left:
            known = np.isin(answers, list(arms)) if exact else np.isin(answers.astype(bool), list(arms))
            i = int(np.flatnonzero(~known)[0])
            answer = int(answers[i]) if exact else bool(answers[i])
            test = info.end.test if isinstance(info.end.test, Expr) else f"the tensor at {info.end.where}"
            raise Unseen(
                info,
                answer,
                f"{self.call_path(info.function, int(frames[i]))}: {test} is {answer}, a path "
                f"that was never traced (traced: {', '.join(map(str, arms))})",
            )

    def decide(self, b: int, entries: np.ndarray, answers: np.ndarray) -> None:
        """Go on with frames that waited for a value."""
        info = self.recipe.blocks[b]
        self._split(info, self.block_frames[b].view()[entries], entries, answers)
        self.grow()

    def _call(self, site: CallSite, b: int, frames: np.ndarray, entries: np.ndarray) -> None:
        node, table = site.node, self.tables[site.function]
        callee = self.tables[node.function]
        view = _View(self, site.function, frames)
        nodes = evaluate(node.node, view)
        ints = [np.broadcast_to(evaluate(e, view), frames.shape) for e in node.ints]
        trees, depths = table.tree.view()[frames], table.depth.view()[frames] + 1
        keys = table.key.view()[frames] if self.keyed else None
        if isinstance(node, Invoke):
            columns = np.stack(ints, 1) if ints else np.empty((len(frames), 0), np.int64)
            args = [self.value_unit(site.function, v, b, entries) for v in node.args]
            self._check_nodes(site, nodes, frames)
            self.callee[site.id].append(
                self._frames(node.function, nodes, columns, args, trees, depths, frames, site.id, keys)
            )
            return
        counts = self.arity[nodes].astype(np.int64)
        total = int(counts.sum())
        owner = np.repeat(np.arange(len(frames)), counts)
        start = np.cumsum(counts) - counts
        position = np.arange(total) - start[owner]
        children = self.structure.children[self.structure.child_offsets[nodes][owner] + position].astype(np.int64)
        columns = np.stack([*(c[owner] for c in ints), position], 1)
        # A loop's frames are its own, in order: never shared, so that a frame and its successor are neighbours.
        first = len(callee)
        args = [self.value_unit(site.function, v, b, entries)[owner] for v in node.captures]
        for v in node.carries:  # -1: what the frame before returned
            args.append(np.where(position == 0, self.value_unit(site.function, v, b, entries)[owner], -1))
        shared, callee.shared = callee.shared, False
        self._frames(
            node.function,
            children,
            columns,
            args,
            trees[owner],
            depths[owner],
            frames[owner],
            site.id,
            None if keys is None else mix(keys[owner], position),
        )
        callee.shared = shared
        self.callee[site.id].append(first + start)
        self.callee_count[site.id].append(counts)

    def _check_nodes(self, site: CallSite, nodes, frames) -> None:
        if site.node.node.op != "none" and len(nodes) and nodes.min() < 0:
            i = int(np.argmin(nodes))
            raise ArityError(
                f"{self.call_path(site.function, int(frames[i]))}: {site.node.function} is called at "
                f"{site.node.where} on {site.node.node}, which is an empty slot (None)"
            )

    # -- looking up --------------------
    def entries_in(self, block: int, b: int, entries: np.ndarray) -> np.ndarray:
        """Entries of block `b` as entries of its ancestor `block`."""
        while b != block:
            entries = self.parent_entry[b].view()[entries]
            b = self.recipe.blocks[b].parent
        return entries

    def value_unit(self, function: str, value: str, b: int, entries: np.ndarray) -> np.ndarray:
        """The units that make `value` for entries of block `b`."""
        segment: Segment = self.recipe.producer[function, value]
        return self.seg_units[segment.id].view()[self.entries_in(segment.block, b, entries)]

    def call_path(self, function: str, frame: int, limit: int = 12) -> str:
        """How a frame was reached, as ``TreeLSTM[root.left.right]`` (the last steps of a long way)."""
        steps: List[str] = []
        name = function
        while True:
            table = self.tables[name]
            site = int(table.site.view()[frame])
            if site < 0 or len(steps) > limit:
                break
            caller = self.recipe.sites[site]
            frame = int(table.caller.view()[frame])
            steps.append(call_step(caller.node))
            name = caller.function
        return call_path(function, steps, limit)

    def _path_of_call(self, site: int, caller: int) -> str:
        if site < 0:
            return self.recipe.program.root
        info = self.recipe.sites[site]
        return self.call_path(info.function, caller)[:-1] + call_step(info.node) + "]"
