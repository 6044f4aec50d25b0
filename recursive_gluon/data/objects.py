"""Making Trees of the objects that a user's program has already."""
from __future__ import annotations

import numbers
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from ..errors import ArityError, CycleError, FieldError
from ._columns import as_column, as_rectangle, column
from .tree import Tree

__all__ = ['trees_from_objects']

_PLAIN = {'builtins', 'abc', 'typing', 'typing_extensions', 'enum', 'collections', 'numpy'}
_SHOWN_PATH = 12  # steps of an attribute path in a message


class _Node(NamedTuple):
    """What the walk found at one object: its values, and its children: those in slots, and those in a
    list."""

    values: dict[str, Any]
    slots: list[tuple[str, Any]]
    list_name: str | None
    items: Sequence[Any]


def trees_from_objects(objects: Sequence[Any], node_type: Any = None,
                       ignore: Sequence[str] = ()) -> list[Tree]:
    """Make a Tree of each object.

    An object's attributes (its ``__dict__``, ``__slots__`` or named-tuple fields) are sorted by what they
    hold:

    * a node: a *slot*, a child with a name. In every node the slots come first, in the order of names; one
      that holds None, or is missing, is empty. (An attribute that is None everywhere is no slot.)
    * a list or tuple of nodes: the children after the slots. There is at most one such attribute.
    * a number, a NumPy array of numbers, or a string: a field.
    * anything else is ignored.

    An object that two nodes hold is one shared node: the result is a DAG.

    A list, tuple or array of numbers, or of rows of numbers of one shape, becomes a chain: the node of
    position ``i`` has the field ``value`` and one child, that of position ``i + 1``; an end node without a
    child, value 0, closes it. A number becomes one node with the field ``value``.

    Parameters
    ----------
    objects : sequence
        The roots. Slots and fields are the same in all trees, whichever tree they were seen in.
    node_type : type or tuple of types, optional
        What counts as a node. By default the root's class, and classes that share a base class with it.
    ignore : sequence of str, default ()
        Attributes to leave out, such as a pointer to the parent.

    Returns
    -------
    list of Tree

    Raises
    ------
    CycleError
        A node is its own descendant; it names the path of attributes.
    ArityError
        Two attributes hold lists of nodes, or a list holds nodes and other things.
    FieldError
        A field's values do not fit together, or a sequence is neither of numbers nor of equal rows.
    """
    if all(_is_sequence(obj) or isinstance(obj, numbers.Number) for obj in objects):
        return [_chain(obj) for obj in objects]
    walks = []
    for obj in objects:
        kind = node_type or _family(type(obj))
        if not kind or not isinstance(obj, kind):
            raise FieldError(f'cannot make a tree of {obj!r}, expected an object with attributes, a Tree, or '
                             'a sequence of numbers. Build a Tree of it')
        walks.append(_walk(obj, kind, frozenset(ignore)))
    nodes = [node for walk in walks for node, _ in walk]
    slots = sorted({name for node in nodes for name, _ in node.slots})
    lists = sorted({node.list_name for node in nodes if node.list_name is not None})
    if len(lists) > 1:
        raise ArityError(f'the attributes {", ".join(lists)} hold lists of nodes, expected one such '
                         f'attribute. Leave the others out: Tree.from_object(obj, ignore=({lists[1]!r},))')
    names = sorted({name for node in nodes for name in node.values})
    return [_lay_out(walk, tuple(slots), lists[0] if lists else None, names) for walk in walks]


def _walk(root: Any, kind: Any, ignore: frozenset) -> list[tuple[_Node, list[int]]]:
    """The nodes in post-order, each with the numbers of its children, slots first; no recursion."""
    found: list[tuple[_Node, list[int]]] = []
    number: dict[int, int] = {}
    on_path: dict[int, int] = {id(root): 0}
    first = _look(root, kind, ignore)
    path = [(root, first, _edges(first))]
    steps = ['root']
    numbers_: list[list[int]] = [[]]
    while path:
        obj, node, edges = path[-1]
        for step, child in edges:
            if child is None:
                numbers_[-1].append(-1)
            elif id(child) in number:
                numbers_[-1].append(number[id(child)])
            elif id(child) in on_path:
                raise _cycle(steps + [step], on_path[id(child)])
            else:
                on_path[id(child)] = len(path)
                below = _look(child, kind, ignore)
                path.append((child, below, _edges(below)))
                steps.append(step)
                numbers_.append([])
                break
        else:
            number[id(obj)] = len(found)
            found.append((node, numbers_.pop()))
            path.pop()
            steps.pop()
            del on_path[id(obj)]
            if numbers_:
                numbers_[-1].append(number[id(obj)])
    return found


def _edges(node: _Node) -> Iterator[tuple[str, Any]]:
    for name, child in node.slots:
        yield f'.{name}', child
    for index, child in enumerate(node.items):
        yield f'.{node.list_name}[{index}]', child


def _look(obj: Any, kind: Any, ignore: frozenset) -> _Node:
    values: dict[str, Any] = {}
    slots: list[tuple[str, Any]] = []
    list_name: str | None = None
    items: Sequence[Any] = ()
    for name, value in sorted(_attributes(obj).items()):
        if name in ignore or value is None:
            continue
        if isinstance(value, kind):
            slots.append((name, value))
        elif isinstance(value, (str, numbers.Real)) or (isinstance(value, np.ndarray)
                                                        and value.dtype.kind in 'biuf'):
            values[name] = value
        elif isinstance(value, (list, tuple)) and any(isinstance(item, kind) for item in value):
            other = next((item for item in value if item is not None and not isinstance(item, kind)), None)
            if other is not None:
                raise ArityError(f'the list .{name} holds nodes and {other!r}, expected nodes only. Leave it '
                                 f'out with ignore=({name!r},), or name the classes of nodes with node_type')
            if list_name is not None:
                raise ArityError(f'the attributes {list_name} and {name} hold lists of nodes, expected one '
                                 f'such attribute. Leave one out: Tree.from_object(obj, ignore=({name!r},))')
            list_name, items = name, value
    return _Node(values, slots, list_name, items)


def _attributes(obj: Any) -> dict[str, Any]:
    if isinstance(obj, tuple) and hasattr(obj, '_fields'):
        return dict(zip(obj._fields, obj))
    found = {}
    for base in type(obj).__mro__:
        names = base.__dict__.get('__slots__', ())
        for name in (names,) if isinstance(names, str) else names:
            if name.startswith('__') and not name.endswith('__'):
                name = f'_{base.__name__.lstrip("_")}{name}'
            if name not in ('__dict__', '__weakref__') and hasattr(obj, name):
                found[name] = getattr(obj, name)
    found.update(getattr(obj, '__dict__', {}))
    return found


def _family(root: type) -> tuple[type, ...]:
    """The classes that the root's class has in common with others, itself included."""
    return tuple(base for base in root.__mro__ if base.__module__.split('.')[0] not in _PLAIN)


def _lay_out(walk: list[tuple[_Node, list[int]]], slots: tuple[str, ...], list_slot: str | None,
             names: list[str]) -> Tree:
    offsets: list[int] = [0]
    children: list[int] = []
    for node, below in walk:
        filled = dict(zip([name for name, _ in node.slots], below))
        children.extend(filled.get(name, -1) for name in slots)
        children.extend(below[len(filled):])
        offsets.append(len(children))
    fields = {name: column(name, [node.values.get(name) for node, _ in walk]) for name in names}
    return Tree._make(np.array(offsets, np.int32), np.array(children, np.int32), fields, slots, list_slot)


def _cycle(steps: list[str], start: int) -> CycleError:
    shown = steps if len(steps) <= _SHOWN_PATH else steps[:_SHOWN_PATH - 3] + ['...'] + steps[-2:]
    back = ''.join(steps[:start + 1] if start < _SHOWN_PATH else steps[:_SHOWN_PATH] + ['...'])
    name = steps[-1].split('[')[0].lstrip('.')
    return CycleError(f'{"".join(shown)} is {back} again: a cycle. A tree or DAG has none; if .{name} is no '
                      f'child, leave it out: Tree.from_object(obj, ignore=({name!r},))')


def _is_sequence(obj: Any) -> bool:
    return isinstance(obj, (list, tuple, np.ndarray)) and not hasattr(obj, '_fields')


def _chain(obj: Any) -> Tree:
    if isinstance(obj, numbers.Number):
        return Tree(value=obj)
    rows = as_rectangle(obj) if len(obj) else np.zeros(0, np.int32)
    if rows.dtype.kind not in 'biuf':
        raise FieldError(f'cannot make a chain of {obj!r:.80}, expected numbers, or rows of numbers of one '
                         'shape. Compose nested lists of Tree(children=[...]), or pad the rows')
    rows = as_column('value', rows, len(rows))
    values = np.concatenate((rows, np.zeros_like(rows, shape=(1,) + rows.shape[1:])))[::-1].copy()
    offsets = np.maximum(np.arange(-1, len(values), dtype=np.int32), 0)
    return Tree._make(offsets, np.arange(len(values) - 1, dtype=np.int32), {'value': values})
