"""The trace graph of a program: the traces of its runs, merged.

A node is an operator with its attributes at a location of the user's code (with call stack). A trace is a walk over
nodes; traces that do the same share nodes, fork where runs part and join where they agree again, and the iterations
of a loop are walks over the same nodes. So the basic blocks of this graph are what runs of any length and path are
made of.

Source of the idea: Terra (NeurIPS 2021), whose TraceGraph merges traces by operator, attributes and location.
"""
from __future__ import annotations

from typing import Dict, Hashable, List, Sequence, Set, Tuple

__all__ = ["TraceGraph"]

_START = -1
_OFTEN = 6  # how often two blocks follow one another before they become one
_LONG = 256  # operators in a block that was joined from several


class TraceGraph:
    """Nodes by what they are, edges by who followed whom.

    Attributes
    ----------
    traces : int
        Traces that were added.
    """

    def __init__(self) -> None:
        self.traces = 0
        self._numbers: Dict[Hashable, int] = {}
        self._after: List[Set[int]] = []
        self._before: List[Set[int]] = []
        self._labels: Dict[Tuple[int, ...], int] = {}
        self._lengths: List[int] = []
        self._pairs: Dict[Tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def forks(self) -> int:
        """Nodes after which runs parted, or a loop ended."""
        return sum(len(after) > 1 for after in self._after)

    def add(self, trace: Sequence[Hashable]) -> Tuple[List[int], bool]:
        """Merge a trace; the numbers of its nodes, and whether it had anything new."""
        self.traces += 1
        nodes, new, last = [], False, _START
        for what in trace:
            node = self._numbers.get(what)
            if node is None:
                node = self._numbers[what] = len(self._numbers)
                self._after.append(set())
                self._before.append(set())
            if last not in self._before[node]:
                new = True
                self._before[node].add(last)
                if last != _START:
                    self._after[last].add(node)
            nodes.append(node)
            last = node
        return nodes, new

    def blocks(self, nodes: Sequence[int]) -> List[Tuple[int, int]]:
        """Cut a trace into (start, stop): basic blocks, joined where they have often followed one another."""
        starts = [i for i, node in enumerate(nodes) if i == 0 or len(self._before[node]) > 1
                  or len(self._after[nodes[i - 1]]) > 1]
        stack: List[Tuple[int, int, int]] = []  # label, start, stop
        for start, stop in zip(starts, starts[1:] + [len(nodes)]):
            block = (self._label(tuple(nodes[start:stop]), stop - start), start, stop)
            while stack and self._follow(stack[-1][0], block[0]):
                label, first, _ = stack.pop()
                block = (self._label((-1, label, block[0]), stop - first), first, stop)
            stack.append(block)
        return [(start, stop) for _, start, stop in stack]

    def _label(self, what: Tuple[int, ...], length: int) -> int:
        label = self._labels.get(what)
        if label is None:
            label = self._labels[what] = len(self._lengths)
            self._lengths.append(length)
        return label

    def _follow(self, first: int, second: int) -> bool:
        """Whether two blocks are one: they were seen one after the other often, as a loop's iterations are."""
        if self._lengths[first] + self._lengths[second] > _LONG:
            return False
        count = self._pairs[first, second] = self._pairs.get((first, second), 0) + 1
        return count > _OFTEN
