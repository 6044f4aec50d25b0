"""One tree (or DAG) as arrays."""
from __future__ import annotations

from types import MappingProxyType
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from ..errors import ArityError, FieldError
from ..native.forests import TreeView
from ._columns import Column, as_column, column, on_all, same, take
from ._layout import JoinLayout, join_layout
from ._numbering import heights, postorder, renumber

__all__ = ['Tree']

_LINES = 60  # print(tree) shows that many nodes


class Tree:
    """An immutable ordered tree (or DAG) with named fields.

    Nodes are numbered in post-order: children before their parents, from left to right, the root last.
    Children and fields are arrays over these numbers.

    Parameters
    ----------
    children : sequence of Tree or None, default ()
        The sub-trees; None is an empty slot. One Tree object used in two places is one shared sub-tree: the
        result is a DAG.
    **fields : number, str, row of numbers or None
        The root's fields. A node without a field that others have holds None (strings), -1 (integers) or 0
        (floats).

    Attributes
    ----------
    slots : tuple of str
        Names of the first children of every node, where they have names; see `from_object`.
    list_slot : str or None
        Name of the list that the other children came from.

    Examples
    --------
    >>> tree = Tree(label=3, children=[Tree(label=2, word='It'), Tree(label=4, word='works')])
    >>> tree
    Tree(3 nodes, 2 leaves, depth 1, fields: label, word)
    >>> tree['label']
    array([2, 4, 3], dtype=int32)
    >>> tree['word']
    ['It', 'works', None]
    """

    __slots__ = ('_parts', '_child_offsets', '_children', '_fields', 'slots', 'list_slot', '_cache',
                 '__weakref__')

    slots: tuple[str, ...]
    list_slot: str | None

    def __init__(self, children: Sequence[Tree | None] = (), **fields: Any) -> None:
        if isinstance(children, (str, Tree)) or not isinstance(children, Iterable):
            raise ArityError(f'children is {children!r}, expected a list of Trees. Write children=[...]')
        parts = tuple(children)
        for child in parts:
            if child is not None and not isinstance(child, Tree):
                raise ArityError(f'a child is {child!r}, expected a Tree, or None for an empty slot. Other '
                                 'objects become Trees by Tree.from_object')
        self._parts: tuple[tuple[Tree | None, ...], dict[str, Any]] | None = (parts, fields)
        self._child_offsets: np.ndarray | None = None
        self.slots, self.list_slot = (), None
        self._cache: dict[Any, Any] = {}
        for name, value in fields.items():
            column(name, [value])  # a wrong value is reported here, where it was given

    @classmethod
    def _make(cls, child_offsets: np.ndarray, children: np.ndarray, fields: Mapping[str, Column],
              slots: tuple[str, ...] = (), list_slot: str | None = None) -> Tree:
        """A tree of arrays that are known to be in post-order and to fit together."""
        self = cls.__new__(cls)
        self._parts, self._cache = None, {}
        self.slots, self.list_slot = tuple(slots), list_slot
        self._settle(child_offsets, children, fields)
        return self

    def _settle(self, child_offsets: np.ndarray, children: np.ndarray, fields: Mapping[str, Column]) -> None:
        for array in (child_offsets, children, *fields.values()):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
        self._child_offsets, self._children, self._fields = child_offsets, children, dict(fields)

    @classmethod
    def from_arrays(cls, child_offsets: Any, children: Any, fields: Mapping[str, Any],
                    root: int | None = None, slots: Sequence[str] = (),
                    list_slot: str | None = None) -> Tree:
        """Make a tree of arrays in any numbering; it is renumbered in post-order.

        Parameters
        ----------
        child_offsets : array of int
            Shape (num_nodes + 1,). Node ``i`` has ``children[child_offsets[i]:child_offsets[i + 1]]``.
        children : array of int
            Shape (num_edges,). Node numbers; -1 is an empty slot.
        fields : dict of str to array or list
            One entry for each node.
        root : int, optional
            The root; by default the only node without a parent.
        slots : sequence of str, default ()
            Names of the first children of every node.
        list_slot : str, optional
            Name of the list of the others.

        Returns
        -------
        Tree

        Raises
        ------
        CycleError
            A node is its own descendant.
        StructureError
            Numbers out of range, several roots, or nodes that the root does not reach.
        FieldError
            A field does not fit.

        Examples
        --------
        >>> Tree.from_arrays([0, 2, 2, 2], [1, 2], {'label': [5, 6, 7]})['label']
        array([6, 7, 5], dtype=int32)
        """
        child_offsets = np.asarray(child_offsets, np.int32)
        children = np.asarray(children, np.int32)
        order = postorder(child_offsets, children, root)
        columns = {name: take(as_column(name, values, len(order)), order) for name, values in fields.items()}
        return cls._make(*renumber(child_offsets, children, order), columns, tuple(slots), list_slot)

    @classmethod
    def from_ptb(cls, text: str, label: Callable[[str], Any] = int) -> Tree:
        """Read a bracketed tree, ``(3 (2 It) (4 works))``.

        Parameters
        ----------
        text : str
            One tree. Tokens are split at ASCII spaces and brackets only.
        label : callable, default int
            Makes a label of its text; ``str`` keeps it (``(S (NP ...))``).

        Returns
        -------
        Tree
            With the fields ``label`` on every node and ``word`` on the leaves.

        Raises
        ------
        TreeFormatError
            The text is not well formed.
        """
        from .ptb import parse_ptb
        return parse_ptb(text, label)

    def to_ptb(self) -> str:
        """Write the tree in brackets; the inverse of `from_ptb`.

        Raises
        ------
        FieldError
            There is no field ``label`` or ``word``, or a value cannot stand between brackets.
        StructureError
            The tree is a DAG.
        """
        from .ptb import format_ptb
        return format_ptb(self)

    @classmethod
    def from_object(cls, obj: Any, node_type: Any = None, ignore: Sequence[str] = ()) -> Tree:
        """Make a tree of any Python object, or of a sequence of numbers; see `trees_from_objects`.

        Examples
        --------
        >>> Tree.from_object([1, 2, 3])['value']
        array([0, 3, 2, 1], dtype=int32)
        """
        from .objects import trees_from_objects
        return trees_from_objects([obj], node_type, ignore)[0]

    def _arrays(self) -> None:
        """Lay out a tree that was composed of others, on first use."""
        if self._child_offsets is None:
            from ._compose import flatten
            self._settle(*flatten(self))

    @property
    def child_offsets(self) -> np.ndarray:
        """Shape (num_nodes + 1,): node ``i`` has ``children[child_offsets[i]:child_offsets[i + 1]]``."""
        self._arrays()
        assert self._child_offsets is not None
        return self._child_offsets

    @property
    def children(self) -> np.ndarray:
        """Shape (num_edges,): node numbers; -1 is an empty slot."""
        self._arrays()
        return self._children

    @property
    def fields(self) -> Mapping[str, Column]:
        """The fields by name: an array, or a list of strings and None, with one entry a node."""
        self._arrays()
        return MappingProxyType(self._fields)

    @property
    def root(self) -> int:
        """The root's number, the highest."""
        return len(self) - 1

    @property
    def heights(self) -> np.ndarray:
        """The longest way down from each node, in edges; 0 at leaves. Shape (num_nodes,)."""
        return self._cached('heights', lambda: heights(self.child_offsets, self.children))

    @property
    def depth(self) -> int:
        """The longest way from the root to a leaf, in edges."""
        return int(self.heights[-1])

    @property
    def num_leaves(self) -> int:
        """The number of nodes without a child."""
        return int((self.heights == 0).sum())

    @property
    def is_dag(self) -> bool:
        """Whether some node has two parents, or is twice a child of one."""
        def find() -> bool:
            real = self.children[self.children >= 0]
            return len(real) >= len(self)  # a tree has one edge less than nodes
        return self._cached('dag', find)

    def map(self, **functions: Any) -> Tree:
        """Apply functions to fields.

        Parameters
        ----------
        **functions : callable or mapping
            By field; called with each value that is not None. Numbers (or rows of them) come back as an int32
            or float32 array, with -1 or 0 where there was None.

        Returns
        -------
        Tree
            The same nodes with these fields replaced.

        Raises
        ------
        FieldError
            There is no such field, or the results do not fit together.

        Examples
        --------
        >>> Tree.from_ptb('(3 (2 It) (4 works))').map(word=len)['word']
        array([ 2,  5, -1], dtype=int32)
        """
        fields = dict(self.fields)
        for name, function in functions.items():
            values = list(self[name])
            results = iter(on_all(function)([value for value in values if value is not None]))
            fields[name] = column(name, [None if value is None else next(results) for value in values])
        tree = self._make(self.child_offsets, self.children, fields, self.slots, self.list_slot)
        for key in ('heights', 'dag'):
            if key in self._cache:
                tree._cache[key] = self._cache[key]
        return tree

    def _joinable(self) -> tuple[JoinLayout, int, TreeView] | None:
        """The tree as the native core joins it: layout, address of the view, the view; None where a field holds
        strings or there is none."""
        def find() -> tuple[JoinLayout, int, TreeView] | None:
            names = tuple(sorted(self.fields))
            columns = [self.fields[name] for name in names]
            if not columns or any(isinstance(values, list) for values in columns):
                return None
            layout = join_layout(names, tuple((values.dtype.name, values.shape[1:]) for values in columns),
                                 self.slots, self.list_slot)
            view = TreeView.of(self.child_offsets, self.children, columns, self.is_dag)
            return layout, view.address, view
        return self._cached('joinable', find)

    def _cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        cache = self._cache
        if key not in cache:
            cache[key] = compute()
        return cache[key]

    def __len__(self) -> int:
        return len(self.child_offsets) - 1

    def __getitem__(self, name: str) -> Column:
        try:
            return self.fields[name]
        except (KeyError, TypeError):
            raise FieldError.unknown(name, sorted(self.fields)) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        return (self.slots == other.slots and self.list_slot == other.list_slot
                and np.array_equal(self.child_offsets, other.child_offsets)
                and np.array_equal(self.children, other.children)
                and self.fields.keys() == other.fields.keys()
                and all(same(values, other.fields[name]) for name, values in self.fields.items()))

    def __hash__(self) -> int:
        return hash((self.child_offsets.tobytes(), self.children.tobytes(), frozenset(self.fields)))

    def __reduce__(self) -> tuple:
        return _rebuild, (self.child_offsets, self.children, dict(self.fields), self.slots, self.list_slot)

    def __repr__(self) -> str:
        leaves = self.num_leaves
        return (f'Tree({len(self)} node{"s"[len(self) == 1:]}, {leaves} lea{"f" if leaves == 1 else "ves"}, '
                f'depth {self.depth}, fields: {", ".join(sorted(self.fields)) or "none"})')

    def __str__(self) -> str:
        offsets, children, names = self.child_offsets, self.children, sorted(self.fields)
        lines: list[str] = []
        stack: list[tuple[int, int, str]] = [(self.root, 0, '')]
        while stack and len(lines) < _LINES:
            node, indent, prefix = stack.pop()
            values = [] if node < 0 else [f'{name}={_shown(self.fields[name][node])}' for name in names
                                          if self.fields[name][node] is not None]
            lines.append('  ' * indent + prefix + ('-' if node < 0 else ' '.join([f'[{node}]', *values])))
            below = [] if node < 0 else children[offsets[node]:offsets[node + 1]].tolist()
            for place in reversed(range(len(below))):
                named = f'{self.slots[place]}: ' if place < len(self.slots) else ''
                stack.append((below[place], indent + 1, named))
        if stack:
            lines.append(f'... ({len(self)} nodes)')
        return '\n'.join(lines)


def _rebuild(child_offsets: np.ndarray, children: np.ndarray, fields: dict[str, Column],
             slots: tuple[str, ...], list_slot: str | None) -> Tree:
    return Tree._make(child_offsets, children, fields, slots, list_slot)


def _shown(value: str | np.generic | np.ndarray) -> str:
    if isinstance(value, str):
        return repr(value)
    return str(value) if np.ndim(value) == 0 else f'<{"x".join(map(str, np.shape(value)))}>'
