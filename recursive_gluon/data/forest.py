"""Forests: trees as a tuple of NDArrays, which is what Gluon hands on."""
from __future__ import annotations

import collections.abc
import ctypes
from typing import Any, Callable, Optional, Sequence

import numpy as np
from mxnet.base import _LIB, check_call

from .._compat import mx
from ..errors import ArityError, EmptyForestError, FieldError, StructureError
from ..native.forests import NativeStructure, join
from ..structure import Structure, pack, unpack
from ._columns import on_all
from ._joining import join_field, join_structure
from ._layout import JoinLayout
from .objects import trees_from_objects
from .tree import Tree

__all__ = ['Forest', 'latest_layout']

#: for each number of fields the names in the last forest that was made; see `latest_layout`
_latest: dict[int, Structure | JoinLayout] = {}


def latest_layout(num_fields: int) -> Structure | JoinLayout | None:
    """What the last forest with so many fields looked like.

    An outer HybridBlock hands on symbols without names; the fields they stand for are those of the forest that it
    was called on. Names serve the inference of shapes alone: a call reads them from the structure itself.
    """
    return _latest.get(num_fields)


def _type_of_objects(trees: Any) -> Optional[type]:
    """The class of a user's own objects, whose properties and methods a body may use."""
    first = trees[0] if isinstance(trees, (list, tuple)) and len(trees) else trees
    plain = (Tree, list, tuple, dict, int, float, str, np.ndarray, type(None))
    return None if isinstance(first, plain) else type(first)


class Forest(tuple):
    """Trees packed into a tuple of NDArrays: the structure, then one array for each field, in the order of
    names.

    Being a tuple of arrays of fixed number and order, a forest passes through stock Gluon: a block takes it
    as one argument, an outer HybridBlock hands on its arrays as a list, and an imported graph is called with
    ``*forest``.

    Parameters
    ----------
    trees : Tree, list of Tree, or any objects
        One or more trees. Objects other than Trees go through `Tree.from_object`.
    vocab : mapping, callable or dict of these, optional
        Turns strings into numbers: applied to the field ``word`` where it holds strings, or, given as a dict
        from field names to mappings, to these fields. Strings of any other field become
        ``string_code(text)``, so that a comparison with a string can be decided.
    ctx : Context, optional
        Where the arrays lie; the current context by default.
    dtype : str, default 'float32'
        Of the fields that hold floats. Integers are int32.

    Attributes
    ----------
    num_trees, num_nodes : int
        How many trees, and how many nodes in all of them.

    Raises
    ------
    EmptyForestError
        There is no tree.
    FieldError
        Trees differ in their fields.
    UnknownTokenError
        `vocab` lacks an entry for a string.

    Notes
    -----
    Nodes keep each tree's order, tree after tree. A missing number is -1 among integers and 0 among floats; a
    missing string is -1.

    Examples
    --------
    >>> forest = Forest([Tree.from_ptb('(3 (2 It) (4 works))')], vocab={'It': 0, 'works': 1})
    >>> forest
    Forest(1 tree, 3 nodes, fields: label, word)
    >>> forest['word'].asnumpy()
    array([ 0,  1, -1], dtype=int32)
    """

    num_trees: int
    num_nodes: int
    object_type: Optional[type]
    _names: Structure | JoinLayout
    _dag: bool
    _ctx: mx.Context
    _structure: Structure | None = None
    _native: NativeStructure | None = None

    def __new__(cls, trees: Any, vocab: Any = None, ctx: mx.Context | None = None,
                dtype: Any = 'float32') -> Forest:
        ctx = ctx or mx.current_context()
        if dtype == 'float32' and ctx.device_type == 'cpu':
            forest = cls._joined([trees] if type(trees) is Tree else trees, ctx)
            if forest is not None:
                return forest
        object_type = _type_of_objects(trees)
        trees = _as_trees(trees)
        slots, list_slot = _common_slots(trees)
        trees = [_with_slots(tree, slots, list_slot) for tree in trees]
        mappings = _mappings(vocab)
        fields = _common_fields(trees)
        if not fields:  # at least one array tells the number of nodes
            trees = [Tree.from_arrays(t.child_offsets, t.children, {'index': np.arange(len(t), dtype=np.int32)},
                                      slots=t.slots, list_slot=t.list_slot) for t in trees]
            fields = ('index',)
        structure = join_structure(trees, fields, slots, list_slot)
        arrays = [_on_device(pack(structure), ctx, 'int32')]
        for name in fields:
            values = join_field(name, trees, mappings.get(name))
            arrays.append(_on_device(values, ctx, dtype if values.dtype.kind == 'f' else 'int32'))
        return cls._make(arrays, structure, object_type)

    @classmethod
    def _joined(cls, trees: Any, ctx: mx.Context) -> Forest | None:
        """The forest of trees that are alike, made by the native core; None where it cannot, or is not in use."""
        layout: JoinLayout | None = None
        addresses = []
        for tree in trees if type(trees) in (list, tuple) else ():
            found = tree._joinable() if type(tree) is Tree else None
            if found is None or found[0] is not (layout or found[0]):
                return None
            layout = found[0]
            addresses.append(found[1])
        if layout is None:
            return None
        made = join(addresses, layout.native, ctx.device_id)
        if made is None:
            return None
        arrays, native, nodes, dag = made
        self = super().__new__(cls, arrays)
        self._names, self._native, self._dag, self._ctx = layout, native, dag, ctx
        self.num_trees, self.num_nodes, self.object_type = len(addresses), nodes, None
        _latest[len(layout.fields)] = layout
        return self

    @classmethod
    def _make(cls, arrays: Sequence[mx.nd.NDArray], structure: Structure,
              object_type: Optional[type] = None) -> Forest:
        self = super().__new__(cls, arrays)
        self._names = self._structure = structure
        self._ctx = arrays[0].context
        self.num_trees, self.num_nodes, self.object_type = structure.num_trees, structure.num_nodes, object_type
        _latest[len(structure.fields)] = structure
        return self

    @classmethod
    def from_arrays(cls, arrays: Sequence[mx.nd.NDArray]) -> Forest:
        """Make a forest of the arrays of one, as a block inside another block receives them.

        Parameters
        ----------
        arrays : sequence of NDArray
            The arrays of a forest, in order. A Forest is returned as it is.

        Returns
        -------
        Forest

        Raises
        ------
        StructureError
            These are not the arrays of a forest.

        Notes
        -----
        Reads the first array, and so waits until it is computed.
        """
        if isinstance(arrays, Forest):
            return arrays
        if not arrays or not all(isinstance(array, mx.nd.NDArray) for array in arrays):
            kinds = ', '.join(type(array).__name__ for array in arrays) or 'nothing'
            raise StructureError(f'the arrays of a forest are NDArrays, got {kinds}. Make a Forest(trees) '
                                 'first')
        structure = unpack(arrays[0].asnumpy())
        if len(arrays) != 1 + len(structure.fields):
            raise StructureError(f'a forest with the fields {", ".join(structure.fields) or "(none)"} has '
                                 f'{1 + len(structure.fields)} arrays, got {len(arrays)}. Hand on all of '
                                 'them')
        for name, array in zip(structure.fields, arrays[1:]):
            if array.shape[0] != structure.num_nodes:
                raise StructureError(f'field {name!r} has {array.shape[0]} rows, expected one for each of '
                                     f'{structure.num_nodes} nodes. Hand on the arrays of a forest in their '
                                     'order')
        return cls._make(arrays, structure)

    @property
    def structure(self) -> Structure:
        """How the nodes hang together, in host memory; reading it never waits for a device."""
        if self._structure is None:
            names, native = self._names, self._native
            assert native is not None
            self._structure = Structure(*native.arrays(), names.fields, self._dag, names.slots, names.list_slot)
        return self._structure

    def in_core(self, library: Any) -> NativeStructure | None:
        """The structure as the native core holds it; None where the core refuses it (its error says why)."""
        if self._native is None:
            self._native = NativeStructure.of(library, self.structure)
        return self._native

    @property
    def alike(self) -> JoinLayout | None:
        """What it has in common with forests of the same fields and names: one object for all; None if that is not
        known without looking."""
        return self._names if isinstance(self._names, JoinLayout) else None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the arrays."""
        return self._names.fields

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the first children of every node, where they have names."""
        return self._names.slots

    @property
    def list_slot(self) -> str | None:
        """Name of the list that the other children came from."""
        return self._names.list_slot

    @property
    def roots(self) -> np.ndarray:
        """The number of each tree's root, in host memory: shape (num_trees,)."""
        return self.structure.roots

    @property
    def context(self) -> mx.Context:
        """Where the arrays lie."""
        return self._ctx

    ctx = context

    def as_in_context(self, context: mx.Context) -> Forest:
        """The forest on a device; itself if it lies there."""
        if context == self.context:
            return self
        return self._make([array.as_in_context(context) for array in self], self.structure, self.object_type)

    def split(self, ctx_list: Sequence[mx.Context]) -> list[Forest]:
        """Share out the trees over devices, in order and balanced by nodes; stands where ``split_and_load``
        would.

        Parameters
        ----------
        ctx_list : list of Context
            One or more.

        Returns
        -------
        list of Forest
            One for each context; every one has a tree or more.

        Raises
        ------
        EmptyForestError
            There are fewer trees than contexts.
        """
        ctx_list = [ctx_list] if isinstance(ctx_list, mx.Context) else list(ctx_list)
        parts, trees = len(ctx_list), self.num_trees
        if not 1 <= parts <= trees:
            raise EmptyForestError(f'cannot share {trees} trees over {parts} contexts, expected one tree or '
                                   'more for each. Use larger batches or fewer contexts')
        offsets, cuts = self.structure.tree_offsets, [0]
        for part in range(1, parts):
            target = self.num_nodes * part / parts
            cut = int(np.abs(offsets - target).argmin())
            cuts.append(min(max(cut, cuts[-1] + 1), trees - parts + part))
        return [self._slice(first, last).as_in_context(ctx)
                for first, last, ctx in zip(cuts, cuts[1:] + [trees], ctx_list)]

    def _slice(self, first: int, last: int) -> Forest:
        whole = self.structure
        if (first, last) == (0, whole.num_trees):
            return self
        start, end = int(whole.tree_offsets[first]), int(whole.tree_offsets[last])
        low, high = int(whole.child_offsets[start]), int(whole.child_offsets[end])
        children = whole.children[low:high]
        real = children >= 0
        children = np.where(real, children - np.int32(start), np.int32(-1))
        part = Structure(whole.tree_offsets[first:last + 1] - np.int32(start),
                         whole.roots[first:last] - np.int32(start),
                         whole.child_offsets[start:end + 1] - np.int32(low), children, whole.fields,
                         whole.dag and _shares(children), whole.slots, whole.list_slot)
        header = mx.nd.array(pack(part), ctx=self.context, dtype='int32')
        return self._make([header] + [array[start:end] for array in self[1:]], part, self.object_type)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            try:
                return tuple.__getitem__(self, 1 + self.fields.index(key))
            except ValueError:
                raise FieldError.unknown(key, self.fields) from None
        return tuple.__getitem__(self, key)

    def __reduce__(self) -> tuple:
        return _rebuild, (tuple(self), self.structure)

    def __repr__(self) -> str:
        return (f'Forest({self.num_trees} tree{"s"[self.num_trees == 1:]}, '
                f'{self.num_nodes} node{"s"[self.num_nodes == 1:]}, fields: '
                f'{", ".join(self.fields) or "none"})')


def _rebuild(arrays: tuple[mx.nd.NDArray, ...], structure: Structure) -> Forest:
    return Forest._make(arrays, structure)


def _as_trees(trees: Any) -> list[Tree]:
    if isinstance(trees, Forest):
        raise FieldError('this is a Forest already. Use it as it is, or forest.as_in_context(ctx)')
    if isinstance(trees, Tree):
        return [trees]
    if not isinstance(trees, (list, tuple)) or hasattr(trees, '_fields'):  # one object; may be a namedtuple
        trees = list(trees) if isinstance(trees, collections.abc.Iterator) else [trees]
    if not len(trees):
        raise EmptyForestError('a forest needs one tree or more, got none. Skip the empty batch')
    if all(isinstance(tree, Tree) for tree in trees):
        return list(trees)
    if any(isinstance(tree, Tree) for tree in trees):
        return [tree if isinstance(tree, Tree) else Tree.from_object(tree) for tree in trees]
    return trees_from_objects(list(trees))


def _common_slots(trees: list[Tree]) -> tuple[tuple[str, ...], str | None]:
    """The names of children that all trees share; a tree of leaves only takes those of the others."""
    slots, list_slot = trees[0].slots, trees[0].list_slot
    if all(tree.slots == slots and tree.list_slot == list_slot for tree in trees):
        return slots, list_slot
    slots = tuple(sorted({name for tree in trees for name in tree.slots}))
    lists = sorted({tree.list_slot for tree in trees if tree.list_slot is not None})
    if len(lists) > 1:
        raise ArityError(f'trees keep their children in lists of different names, {", ".join(lists)}; '
                         'expected one. Use one name')
    for number, tree in enumerate(trees):
        if not tree.slots and tree.list_slot is None and len(tree.children):
            raise ArityError(f'the children of tree {number} have no names, those of others do '
                             f'({", ".join(slots + tuple(lists))}). Make all trees of a forest in the same '
                             'way')
    return slots, (lists[0] if lists else None)


def _with_slots(tree: Tree, slots: tuple[str, ...], list_slot: str | None) -> Tree:
    """The tree with these slots in place of fewer."""
    if tree.slots == slots and tree.list_slot == list_slot:
        return tree
    old, more = len(tree.slots), len(slots) - len(tree.slots)
    offsets = tree.child_offsets + np.arange(len(tree) + 1, dtype=np.int32) * np.int32(more)
    children = np.full(offsets[-1], -1, np.int32)
    arity = np.diff(tree.child_offsets)
    within = np.arange(len(tree.children)) - np.repeat(tree.child_offsets[:-1], arity)
    place = np.append(np.array([slots.index(name) for name in tree.slots], np.int64), 0)
    moved = np.where(within < old, place[np.minimum(within, old)], within + more)
    children[np.repeat(offsets[:-1], arity) + moved] = tree.children
    return Tree._make(offsets, children, tree.fields, slots, list_slot)


def _common_fields(trees: list[Tree]) -> tuple[str, ...]:
    names = trees[0].fields.keys()
    for tree in trees:
        if tree.fields.keys() != names:
            every = set().union(*(other.fields for other in trees))
            lacking = next(index for index, other in enumerate(trees) if every - other.fields.keys())
            name = min(every - trees[lacking].fields.keys())
            raise FieldError.unknown(name, sorted(trees[lacking].fields), f'tree {lacking} differs from '
                                                                          'others: ')
    return tuple(sorted(names))


def _mappings(vocab: Any) -> dict[str, Callable[[list[str]], list[Any]]]:
    if vocab is None:
        return {}
    if isinstance(vocab, dict) and vocab and all(isinstance(value, collections.abc.Mapping) or callable(value)
                                                 for value in vocab.values()):
        return {name: on_all(mapping) for name, mapping in vocab.items()}
    return {'word': on_all(vocab)}


def _on_device(values: np.ndarray, ctx: mx.Context, dtype: Any) -> mx.nd.NDArray:
    """A new array on a device. On the CPU nobody else knows it yet, so it is filled without MXNet's engine."""
    if ctx.device_type != 'cpu' or not values.size:
        return mx.nd.array(values, ctx=ctx, dtype=dtype)
    values = np.ascontiguousarray(values, dtype)
    array = mx.nd.empty(values.shape, ctx, dtype)
    memory = ctypes.c_void_p()
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(memory)))
    ctypes.memmove(memory, values.ctypes.data, values.nbytes)
    return array


def _shares(children: np.ndarray) -> bool:
    real = children[children >= 0]
    return bool(len(real)) and int(np.bincount(real).max()) > 1
