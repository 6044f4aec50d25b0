"""The structure of a forest, and the one int32 array that carries it.

Gluon hands on arrays and nothing else, so the shape of the trees travels as an array too. Its layout, as a
flat list of int32 words::

    MAGIC  VERSION  num_trees  num_nodes  num_edges  name_words  flags  checksum      8 words of header
    names            name_words         UTF-8: fields, slots and the list slot, zero padded
    tree_offsets     num_trees + 1      nodes of tree i: tree_offsets[i] <= node < tree_offsets[i + 1]
    roots            num_trees
    child_offsets    num_nodes + 1      children of node j: children[child_offsets[j]:child_offsets[j + 1]]
    children         num_edges          global node numbers; -1 is an empty slot
    zeros                               up to num_trees * width

The array has the shape (num_trees, width): with that leading axis the shapes of outputs, of which there is a
row a tree, follow from the shapes of inputs. Children are numbered before their parents, which makes the
order of evaluation the order of numbers and leaves no room for a cycle.
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .errors import StructureError

__all__ = ['MAGIC', 'VERSION', 'Structure', 'pack', 'unpack', 'string_code']

MAGIC = 0x52474631  # 'RGF1'
VERSION = 1

_HEADER = 8
_FLAG_DAG = 1
_WITHIN, _BETWEEN = '\x00', '\x01'  # separate the names of a section; separate the sections


@lru_cache(maxsize=65536)
def string_code(text: str) -> int:
    """The number that stands for a string in a field without a vocabulary.

    Parameters
    ----------
    text : str
        Any string.

    Returns
    -------
    int
        CRC-32 of the UTF-8 bytes without its highest bit: 0 to 2**31 - 1, the same in every process. Two
        strings share a code with a chance of one in 2**31.

    Examples
    --------
    >>> string_code('NP')
    1145577856
    """
    return zlib.crc32(text.encode('utf-8', 'surrogatepass')) & 0x7fffffff


@dataclass(frozen=True, eq=False)
class Structure:
    """How the nodes of a forest hang together; host memory, int32 arrays.

    Parameters
    ----------
    tree_offsets : np.ndarray
        Shape (num_trees + 1,). Tree ``i`` has the nodes ``tree_offsets[i]`` to ``tree_offsets[i + 1] - 1``.
    roots : np.ndarray
        Shape (num_trees,). The number of each tree's root.
    child_offsets : np.ndarray
        Shape (num_nodes + 1,). Node ``j`` has the children
        ``children[child_offsets[j]:child_offsets[j + 1]]``.
    children : np.ndarray
        Shape (num_edges,). Node numbers, each smaller than its parent's; -1 is an empty slot.
    fields : tuple of str
        Names of the fields, in the order of the arrays that hold them.
    dag : bool, default False
        Whether some node has two parents.
    slots : tuple of str
        Names of the first children of every node, where they have names (``left``, ``right``).
    list_slot : str, optional
        Name of the list that holds the children after the slots, where it has one.
    """

    tree_offsets: np.ndarray
    roots: np.ndarray
    child_offsets: np.ndarray
    children: np.ndarray
    fields: tuple[str, ...] = ()
    dag: bool = False
    slots: tuple[str, ...] = ()
    list_slot: str | None = None

    @property
    def num_trees(self) -> int:
        """The number of trees."""
        return len(self.roots)

    @property
    def num_nodes(self) -> int:
        """The number of nodes in all trees."""
        return len(self.child_offsets) - 1

    @property
    def arity(self) -> np.ndarray:
        """The number of children of each node, empty slots included: shape (num_nodes,)."""
        return self.child_offsets[1:] - self.child_offsets[:-1]

    @property
    def is_leaf(self) -> np.ndarray:
        """Whether each node is without a child; a node with nothing but empty slots is: shape
        (num_nodes,)."""
        leaf = self.arity == 0
        if len(self.children) and self.children.min() < 0:
            parent = np.repeat(np.arange(self.num_nodes), self.arity)
            leaf = np.bincount(parent[self.children >= 0], minlength=self.num_nodes) == 0
        return leaf

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure):
            return NotImplemented
        return (self.fields == other.fields and self.slots == other.slots
                and self.list_slot == other.list_slot and self.dag == other.dag
                and np.array_equal(self.tree_offsets, other.tree_offsets)
                and np.array_equal(self.roots, other.roots)
                and np.array_equal(self.child_offsets, other.child_offsets)
                and np.array_equal(self.children, other.children))

    def __hash__(self) -> int:
        return hash((self.fields, self.slots, self.tree_offsets.tobytes(), self.children.tobytes()))

    def __repr__(self) -> str:
        shape = 'DAGs' if self.dag else 'trees'
        return (f'Structure({self.num_trees} {shape}, {self.num_nodes} nodes, '
                f'fields: {", ".join(self.fields) or "none"})')


@lru_cache(maxsize=256)
def encode_names(fields: tuple[str, ...], slots: tuple[str, ...], list_slot: str | None) -> np.ndarray:
    """The names of fields and slots as words of a packed structure."""
    for name in (*fields, *slots, *(() if list_slot is None else (list_slot,))):
        if not name or _WITHIN in name or _BETWEEN in name:
            raise StructureError(f'{name!r} cannot name a field or a slot: a name is not empty and holds '
                                 'neither \\x00 nor \\x01. Rename it')
    sections = (_WITHIN.join(fields), _WITHIN.join(slots), list_slot or '')
    data = _BETWEEN.join(sections).encode('utf-8')
    words = np.frombuffer(data + b'\0' * (-len(data) % 4), dtype=np.int32)
    return words


@lru_cache(maxsize=256)
def _decode_names(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    try:
        sections = data.rstrip(b'\0').decode('utf-8').split(_BETWEEN)
    except UnicodeDecodeError as error:
        raise _broken(f'the names are not UTF-8 ({error})') from None
    if len(sections) != 3:
        raise _broken(f'the names have {len(sections)} sections, expected 3')
    fields, slots = (tuple(part.split(_WITHIN)) if part else () for part in sections[:2])
    return fields, slots, sections[2] or None


def _broken(what: str) -> StructureError:
    return StructureError(f'this array does not hold the structure of a forest: {what}. Hand on the arrays '
                          'of a Forest unchanged and in order, block(*forest)')


def pack(structure: Structure) -> np.ndarray:
    """Put a structure into one int32 array.

    Parameters
    ----------
    structure : Structure
        With one tree or more.

    Returns
    -------
    np.ndarray
        int32, shape (num_trees, width).

    Raises
    ------
    StructureError
        There is no tree, or a name is empty or holds a separator.
    """
    trees, nodes, edges = structure.num_trees, structure.num_nodes, len(structure.children)
    if trees == 0:
        raise StructureError('a structure without a tree cannot be packed, expected one tree or more. Skip '
                             'the empty batch')
    names = encode_names(structure.fields, structure.slots, structure.list_slot)
    used = _HEADER + len(names) + trees + 1 + trees + nodes + 1 + edges
    flat = np.zeros(-(-used // trees) * trees, np.int32)
    np.concatenate((names, structure.tree_offsets, structure.roots, structure.child_offsets,
                    structure.children), out=flat[_HEADER:used])
    flat[:_HEADER] = (MAGIC, VERSION, trees, nodes, edges, len(names), _FLAG_DAG * bool(structure.dag), 0)
    flat[_HEADER - 1:_HEADER].view(np.uint32)[0] = zlib.crc32(flat.data)
    return flat.reshape(trees, -1)


def unpack(array: np.ndarray) -> Structure:
    """Read a structure back from the array that `pack` made, checking all of it.

    Parameters
    ----------
    array : np.ndarray
        int32, shape (num_trees, width).

    Returns
    -------
    Structure
        Its arrays are views of a copy of `array` and read-only.

    Raises
    ------
    StructureError
        The array is not what `pack` made: type, magic number, version, sizes, checksum, offsets or node
        numbers.
    """
    array = np.asarray(array)
    if array.ndim != 2 or array.dtype != np.int32:
        raise _broken(f'it is {array.dtype} of shape {array.shape}, expected int32 of shape (num_trees, '
                      'width)')
    flat = np.array(array, order='C').reshape(-1)
    if len(flat) < _HEADER:
        raise _broken(f'it has {len(flat)} words, expected {_HEADER} or more')
    magic, version, trees, nodes, edges, name_words, flags, _ = flat[:_HEADER].tolist()
    if magic != MAGIC:
        raise _broken(f'it starts with {magic}, expected {MAGIC}')
    if version != VERSION:
        raise StructureError(f'this array holds version {version} of the structure of a forest, expected '
                             f'version {VERSION}. Make the forest with the version of recursive_gluon that '
                             'reads it')
    if trees != array.shape[0]:
        raise _broken(f'it has {array.shape[0]} rows for {trees} trees')
    used = _HEADER + name_words + 2 * trees + 1 + nodes + 1 + edges
    if min(trees - 1, nodes, edges, name_words) < 0 or -(-used // trees) * trees != len(flat):
        raise _broken(f'it has {len(flat)} words; {trees} trees, {nodes} nodes, {edges} edges and '
                      f'{name_words} words of names need another number')
    checksum = flat[_HEADER - 1:_HEADER].view(np.uint32)
    stored = int(checksum[0])
    checksum[0] = 0
    computed = zlib.crc32(flat.data)
    if computed != stored:
        raise _broken(f'its checksum is {stored:#010x}, its content has {computed:#010x}; something changed '
                      'it')
    flat.setflags(write=False)
    at = _HEADER + name_words
    tree_offsets = flat[at:at + trees + 1]
    at += trees + 1
    roots = flat[at:at + trees]
    at += trees
    child_offsets = flat[at:at + nodes + 1]
    at += nodes + 1
    children = flat[at:at + edges]
    fields, slots, list_slot = _decode_names(flat[_HEADER:_HEADER + name_words].tobytes())
    structure = Structure(tree_offsets, roots, child_offsets, children, fields, bool(flags & _FLAG_DAG),
                          slots, list_slot)
    _check(structure)
    return structure


def _check(structure: Structure) -> None:
    """Raise StructureError unless offsets rise, numbers are in range, and children come before parents."""
    tree_offsets, child_offsets = structure.tree_offsets, structure.child_offsets
    children = structure.children
    nodes, edges = structure.num_nodes, len(children)
    sizes, arity = tree_offsets[1:] - tree_offsets[:-1], structure.arity
    if tree_offsets[0] != 0 or tree_offsets[-1] != nodes or sizes.min() < 1:
        raise _broken(f'the offsets of the trees do not rise from 0 to {nodes}')
    if child_offsets[0] != 0 or child_offsets[-1] != edges or arity.min() < 0:
        raise _broken(f'the offsets of the children do not rise from 0 to {edges}')
    if ((structure.roots < tree_offsets[:-1]) | (structure.roots >= tree_offsets[1:])).any():
        raise _broken('a root lies outside its tree')
    if not edges:
        return
    first = np.repeat(tree_offsets[:-1], sizes)
    parent = np.repeat(np.arange(nodes, dtype=np.int32), arity)
    bad = (children >= parent) | ((children < first[parent]) & (children != -1))
    if bad.any():
        edge = int(bad.argmax())
        raise _broken(f'node {parent[edge]} has the child {children[edge]}; a child is -1 or a node of the '
                      'same tree with a smaller number')
