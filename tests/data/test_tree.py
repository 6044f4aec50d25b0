import copy
import pickle
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given
from strategies import dags, trees

from recursive_gluon.data.tree import Tree
from recursive_gluon.errors import (
    ArityError,
    CycleError,
    FieldError,
    IndexRangeError,
    StructureError,
    UnknownTokenError,
)

DEEP = 100_000


def small():
    return Tree(label=3, children=[Tree(label=2, word="It"), Tree(label=4, word="works")])


def test_composing():
    tree = Tree(label=1, children=[small(), None, Tree(label=0, word="x")])
    assert tree.child_offsets.tolist() == [0, 0, 0, 2, 2, 5]
    assert tree.children.tolist() == [0, 1, 2, -1, 3]
    assert tree["label"].dtype == np.int32 and tree["label"].tolist() == [2, 4, 3, 0, 1]
    assert tree["word"] == ["It", "works", None, "x", None]
    assert (len(tree), tree.num_leaves, tree.depth, tree.root) == (5, 3, 2, 4)
    assert tree.heights.tolist() == [0, 0, 1, 0, 2]


def test_composing_trees_made_of_arrays():
    read = Tree.from_ptb("(3 (2 It) (4 works))")
    assert Tree(label=1, children=[read, read.map()])["label"].tolist() == [2, 4, 3, 2, 4, 3, 1]


def test_one_object_in_two_places_is_shared():
    leaf = Tree(label=0, word="x")
    inner = Tree(label=1, children=[leaf])
    assert len(inner) == 2  # laid out or not, the leaf stays the same object
    tree = Tree(label=2, children=[leaf, inner, leaf])
    assert tree.is_dag and len(tree) == 3
    assert tree.children.tolist() == [0, 0, 1, 0]
    assert not small().is_dag


def test_missing_values():
    tree = Tree(children=[Tree(a=1, b=0.5, row=[1.0, 2.0]), Tree(c="x")])
    assert tree["a"].tolist() == [1, -1, -1]
    assert tree["b"].tolist() == [0.5, 0, 0] and tree["b"].dtype == np.float32
    assert tree["row"].tolist() == [[1, 2], [0, 0], [0, 0]]
    assert tree["c"] == [None, "x", None]


@pytest.mark.parametrize("build, error, message", [
    (lambda: Tree(children=small()), ArityError, "a list of Trees"),
    (lambda: Tree(children=[1]), ArityError, "a child is 1"),
    (lambda: Tree(label={}), FieldError, "expected numbers"),
    (lambda: Tree(label=[[1], [2, 3]]), FieldError, "rows of numbers"),
    (lambda: Tree(label=2 ** 40), IndexRangeError, "32 bits"),
    (lambda: Tree(label=2 ** 99), IndexRangeError, "32 bits"),
    (lambda: len(Tree(label=1, children=[Tree(label="a")])), FieldError, "strings and 1"),
    (lambda: small()["lable"], FieldError, "no field 'lable'; the fields are: label, word"),
    (lambda: small().map(word={"It": 0}), UnknownTokenError, "no entry for 'works'"),
    (lambda: small().map(word=3), FieldError, "a mapping or a callable"),
    (lambda: small().map(text=len), FieldError, "no field 'text'"),
])
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_map():
    tree = small().map(word=len, label=lambda label: label / 2)
    assert tree["word"].tolist() == [2, 5, -1] and tree["word"].dtype == np.int32
    assert tree["label"].tolist() == [1, 2, 1.5] and tree["label"].dtype == np.float32
    assert small().map(word={"It": "a", "works": "b"})["word"] == ["a", "b", None]
    assert small().map(word=lambda word: [0.5, 1])["word"].tolist() == [[0.5, 1], [0.5, 1], [0, 0]]


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        small()["label"][0] = 1


def test_text():
    assert repr(small()) == "Tree(3 nodes, 2 leaves, depth 1, fields: label, word)"
    assert str(small()) == "[2] label=3\n  [0] label=2 word='It'\n  [1] label=4 word='works'"
    assert str(Tree.from_object(list(range(500)))).endswith("... (501 nodes)")


@given(trees(words=True))
def test_equality_and_copies(tree):
    for other in (pickle.loads(pickle.dumps(tree)), copy.deepcopy(tree)):
        assert other == tree and hash(other) == hash(tree)
    assert tree != tree.map(label=lambda label: label + 1)
    assert tree != "tree"


@given(trees(words=True))
def test_ptb_round_trip(tree):
    assert Tree.from_ptb(tree.to_ptb()) == tree


@given(dags())
def test_numbering(tree):
    parents = np.repeat(np.arange(len(tree)), np.diff(tree.child_offsets))
    assert (tree.children < parents).all()
    again = Tree.from_arrays(tree.child_offsets, tree.children, tree.fields)
    assert again == tree
    for node in range(len(tree)):
        below = tree.children[tree.child_offsets[node]:tree.child_offsets[node + 1]]
        assert tree.heights[node] == (1 + tree.heights[below].max() if len(below) else 0)


@given(trees())
def test_arrays_in_another_order(tree):
    order = np.random.RandomState(0).permutation(len(tree))  # node order[i] becomes node i
    number = np.argsort(order)
    rows = [number[tree.children[tree.child_offsets[i]:tree.child_offsets[i + 1]]] for i in order]
    offsets = np.cumsum([0] + [len(row) for row in rows])
    assert Tree.from_arrays(offsets, np.concatenate(rows), {"label": tree["label"][order]}) == tree


@pytest.mark.parametrize("offsets, children, root, error, message", [
    ([0, 1, 2], [1, 0], None, CycleError, "nodes 0 -> 1 -> 0|nodes 1 -> 0 -> 1"),
    ([0, 1, 2, 3], [1, 2, 1], 0, CycleError, "nodes 1 -> 2 -> 1"),
    ([0, 1, 1, 2], [1, 2], None, CycleError, "nodes 2 -> 2|does not reach"),
    ([0, 0, 0], [], None, StructureError, "2 nodes have no parent: 0, 1"),
    ([0, 0, 0], [], 0, StructureError, "does not reach 1 of 2 nodes: 1"),
    ([0, 1], [5], None, StructureError, "number 5, expected 0 to 0"),
    ([0, 2], [0], None, StructureError, "must rise from 0"),
    ([0], [], None, StructureError, "one node or more"),
    ([0, 0], [], 3, StructureError, "the root has the number 3"),
])
def test_arrays_that_are_no_tree(offsets, children, root, error, message):
    with pytest.raises((error, StructureError), match=message):
        Tree.from_arrays(offsets, children, {}, root)


def test_a_field_of_another_length():
    with pytest.raises(FieldError, match="1 values for 2 nodes"):
        Tree.from_arrays([0, 1, 1], [1], {"label": [1]})


@dataclass
class Node:
    value: float
    left: Optional["Node"] = None
    right: Optional["Node"] = None
    name: Optional[str] = None
    owner: Any = None


class Slotted:
    __slots__ = ("kids", "weight", "parent")

    def __init__(self, weight, kids=()):
        self.kids, self.weight, self.parent = list(kids), weight, None


class Both(Node):
    def __init__(self, value, left=None, extra=()):
        super().__init__(value, left)
        self.extra = tuple(extra)


Pair = namedtuple("Pair", "first second size")


def test_objects_with_slots():
    tree = Tree.from_object(Node(1.5, Node(2, None, Node(3, name="deep")), owner=object()))
    assert tree.slots == ("left", "right") and tree.list_slot is None
    assert tree.children.tolist() == [-1, -1, -1, 0, 1, -1]
    assert tree["value"].tolist() == [3, 2, 1.5]
    assert tree["name"] == ["deep", None, None]
    assert sorted(tree.fields) == ["name", "value"]
    assert str(tree).splitlines()[1].strip().startswith("left: [1]")


def test_objects_with_lists():
    tree = Tree.from_object(Slotted(1, [Slotted(2), None, Slotted(3)]))
    assert tree.slots == () and tree.list_slot == "kids"
    assert tree.children.tolist() == [0, -1, 1] and tree["weight"].tolist() == [2, 3, 1]


def test_slots_come_before_the_list():
    tree = Tree.from_object(Both(1, Node(2), [Both(3), Both(4, Node(5))]))
    assert tree.slots == ("left",) and tree.list_slot == "extra"
    assert tree["value"].tolist() == [2, 3, 5, 4, 1]
    assert tree.children.tolist() == [-1, -1, -1, 2, 0, 1, 3]


def test_named_tuples_and_shared_objects():
    leaf = Pair(None, None, 1)
    tree = Tree.from_object(Pair(leaf, leaf, 2))
    assert tree.is_dag and tree.slots == ("first", "second") and tree["size"].tolist() == [1, 2]


def test_a_cycle_names_the_attributes():
    low = Node(1)
    low.right = Node(2, low)
    with pytest.raises(CycleError, match=r"root\.left\.right\.left is root\.left again.*ignore=\('left',\)"):
        Tree.from_object(Node(0, low))
    kid = Slotted(1)
    top = Slotted(0, [Slotted(2), kid])
    kid.parent = top
    with pytest.raises(CycleError, match=r"root\.kids\[1\]\.parent is root again"):
        Tree.from_object(top)
    assert len(Tree.from_object(top, ignore=("parent",))) == 3


def test_objects_that_are_no_tree():
    with pytest.raises(FieldError, match="cannot make a tree of"):
        Tree.from_object(object())
    node = Both(1, None, [Both(2), 3])
    with pytest.raises(ArityError, match="holds nodes and 3"):
        Tree.from_object(node)
    node = Both(1, None, [Both(2)])
    node.others = [Both(3)]
    with pytest.raises(ArityError, match="extra and others"):
        Tree.from_object(node)
    other = Both(1, None, [Both(2)])
    other.extra[0].others = [Both(3)]
    with pytest.raises(ArityError, match="extra, others"):
        Tree.from_object(other)


def test_sequences():
    chain = Tree.from_object([1, 2, 3])
    assert chain["value"].tolist() == [0, 3, 2, 1]  # the end, then from the last to the first
    assert chain.children.tolist() == [0, 1, 2] and chain.child_offsets.tolist() == [0, 0, 1, 2, 3]
    assert Tree.from_object(np.eye(2))["value"].tolist() == [[0, 0], [0, 1], [1, 0]]
    assert Tree.from_object(())["value"].tolist() == [0]
    assert Tree.from_object(7)["value"].tolist() == [7]
    for bad in ([[1], [2, 3]], ["a", "b"], [1, [2]], [[1, [2]], [3, 4]]):
        with pytest.raises(FieldError, match="cannot make a chain of"):
            Tree.from_object(bad)


def test_deep_trees():
    composed, linked = Tree(label=0, word="x"), None
    for number in range(DEEP):
        composed = Tree(label=number % 5, children=[composed])
        linked = Node(number, linked)
    assert composed.depth == DEEP
    assert Tree.from_ptb(composed.to_ptb()) == composed
    assert pickle.loads(pickle.dumps(composed)) == composed
    assert len(str(composed)) < 20_000
    assert Tree.from_object(linked).depth == DEEP - 1
    assert Tree.from_arrays(composed.child_offsets, composed.children, composed.fields) == composed
