import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dags, trees

from recursive_gluon import native
from recursive_gluon._compat import mx
from recursive_gluon.data.forest import Forest
from recursive_gluon.data.tree import Tree
from recursive_gluon.data.vocab import Vocab
from recursive_gluon.errors import ArityError, EmptyForestError, FieldError, StructureError, UnknownTokenError
from recursive_gluon.structure import string_code, unpack

TEXTS = ["(3 (2 It) (4 works))", "(1 no)", "(0 (1 (2 It) (2 is)) (0 bad))"]
VOCAB = {"It": 0, "works": 1, "no": 2, "is": 3, "bad": 4}


def read():
    return [Tree.from_ptb(text) for text in TEXTS]


class Node:
    def __init__(self, value, left=None, right=None):
        self.value, self.left, self.right = value, left, right


def test_a_forest_is_a_tuple_of_arrays():
    forest = Forest(read(), vocab=VOCAB)
    assert isinstance(forest, tuple) and len(forest) == 3
    header, label, word = forest
    assert header.dtype == label.dtype == word.dtype == np.int32
    assert forest["label"] is label is forest[1] and forest[-1] is word and forest[1:] == (label, word)
    assert label.asnumpy().tolist() == [2, 4, 3, 1, 2, 2, 1, 0, 0]
    assert word.asnumpy().tolist() == [0, 1, -1, 2, 0, 3, -1, 4, -1]
    assert forest.fields == ("label", "word")
    assert (forest.num_trees, forest.num_nodes) == (3, 9) and forest.roots.tolist() == [2, 3, 8]
    assert forest.structure.children.tolist() == [0, 1, 4, 5, 6, 7]
    assert forest.structure.tree_offsets.tolist() == [0, 3, 4, 9]
    assert unpack(header.asnumpy()) == forest.structure
    assert repr(forest) == "Forest(3 trees, 9 nodes, fields: label, word)"


def test_what_makes_a_forest():
    tree = read()[0]
    assert Forest(tree).num_trees == 1
    assert Forest(Node(1)).num_nodes == 1
    assert Forest(iter(read())).num_trees == 3
    assert Forest([tree, Tree(label=0, word="x")]).num_nodes == 4


@pytest.mark.parametrize("vocab", [VOCAB, VOCAB.__getitem__, {"word": VOCAB}, {"word": VOCAB.get}])
def test_vocabularies(vocab):
    assert Forest(read()[0], vocab)["word"].asnumpy().tolist() == [0, 1, -1]


def test_a_vocab_object():
    forest = Forest(read(), Vocab({"It": 1}))
    assert forest["word"].asnumpy().tolist() == [1, 0, -1, 0, 1, 0, -1, 0, -1]


def test_strings_without_a_vocabulary_are_codes():
    forest = Forest(Tree.from_ptb("(S (NP It) (VP works))", label=str), vocab=VOCAB)
    assert forest["label"].asnumpy().tolist() == [string_code("NP"), string_code("VP"), string_code("S")]
    assert forest["word"].asnumpy().tolist() == [0, 1, -1]


def test_types():
    float_trees = [Tree(x=1, y=[1, 2]), Tree(x=0.5, y=[3, 4])]
    forest = Forest(float_trees, dtype="float16")
    assert forest["x"].dtype == np.float16 and forest["x"].asnumpy().tolist() == [1, 0.5]
    assert forest["y"].shape == (2, 2) and forest["y"].dtype == np.int32
    missing = Forest([Tree(x=1, y=0.5), Tree(x=None, y=None)])
    assert missing["x"].asnumpy().tolist() == [1, -1] and missing["y"].asnumpy().tolist() == [0.5, 0]


@pytest.mark.parametrize("build, error, message", [
    (lambda: Forest([]), EmptyForestError, "one tree or more"),
    (lambda: Forest(read()[0], vocab={"It": 0}), UnknownTokenError, "no entry for 'works'"),
    (lambda: Forest(read()[0], vocab=str.upper), FieldError, "expected numbers"),
    (lambda: Forest([*read(), Tree(label=0)]), FieldError,
     "tree 3 .*no field 'word'; the fields are: label"),
    (lambda: Forest([Tree(x=[1, 2]), Tree(x=[1, 2, 3])]), FieldError,
     r"\(2,\) in tree 0 and \(3,\) in tree 1"),
    (lambda: Forest([Tree(x=1), Tree(x="a")]), FieldError, "strings in tree 1"),
    (lambda: Forest(read())["lable"], FieldError, "no field 'lable'; the fields are: label, word"),
    (lambda: Forest(Forest(read())), FieldError, "a Forest already"),
    (lambda: Forest([Tree.from_object(Node(1, Node(2))), Tree(value=1, children=[Tree(value=2)])]),
     ArityError, "tree 1 have no names"),
    (lambda: Forest(read()).split([mx.cpu()] * 4), EmptyForestError, "3 trees over 4 contexts"),
])
def test_errors(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_trees_of_objects_share_their_slots():
    forest = Forest([Node(1), Node(2, Node(3)), Node(4, None, Node(5))])
    assert forest.slots == ("left", "right") and forest.list_slot is None
    assert forest.structure.children.tolist() == [-1, -1, -1, -1, 1, -1, -1, -1, -1, 3]
    apart = Forest([Tree.from_object(node) for node in (Node(1), Node(2, Node(3)), Node(4, None, Node(5)))])
    assert apart.structure == forest.structure


def test_from_arrays():
    forest = Forest(read(), VOCAB)
    again = Forest.from_arrays(list(forest))
    assert again.structure == forest.structure and again["word"] is forest["word"]
    assert Forest.from_arrays(forest) is forest
    for arrays, message in [(list(forest)[:-1], "has 3 arrays, got 2"),
                            (list(forest)[1:], "does not hold"),
                            ([forest[0], forest[1][:3], forest[2]], "'label' has 3 rows"),
                            ([], "got nothing"),
                            ([1], "got int")]:
        with pytest.raises(StructureError, match=message):
            Forest.from_arrays(arrays)


def test_pickling_and_contexts():
    forest = Forest(read(), VOCAB)
    again = pickle.loads(pickle.dumps(forest))
    assert again.structure == forest.structure
    assert all((a.asnumpy() == b.asnumpy()).all() for a, b in zip(again, forest))
    assert forest.as_in_context(mx.cpu()) is forest and forest.context == forest.ctx == mx.cpu()
    moved = forest.as_in_context(mx.cpu(1))
    assert all(array.context == mx.cpu(1) for array in moved) and moved.structure is forest.structure


@given(st.lists(st.one_of(trees(max_nodes=9), dags(max_nodes=9)), min_size=1, max_size=6), st.data())
def test_split(some, data):
    forest = Forest(some)
    parts = forest.split([mx.cpu(i) for i in range(data.draw(st.integers(1, len(some))))])
    first = 0
    for number, part in enumerate(parts):
        alone = Forest(some[first:first + part.num_trees])
        first += part.num_trees
        assert part.context == mx.cpu(number)
        assert part.structure == alone.structure == unpack(part[0].asnumpy())
        assert part["label"].asnumpy().tolist() == alone["label"].asnumpy().tolist()
    assert first == len(some)


def test_split_balances_nodes():
    sizes = [30, 1, 1, 1, 30, 30]
    forest = Forest([Tree.from_object(list(range(size))) for size in sizes])
    assert [part.num_nodes for part in forest.split([mx.cpu()] * 3)] == [33, 35, 31]  # of 31, 2, 2, 2, 31, 31


def test_a_block_hands_on_its_arrays():
    class Outer(mx.gluon.Block):
        def forward(self, arrays):
            return Forest.from_arrays(arrays)["label"]

    assert Outer()(Forest(read())).shape == (9,)


# -- joined by the native core --------------------
def numeric(seed, nodes):
    random = np.random.RandomState(seed)
    children = [[] for _ in range(nodes)]
    for child in range(nodes - 1):  # a parent comes later: post-order is made of it
        children[random.randint(child + 1, nodes)].append(child)
    offsets = np.cumsum([0] + [len(c) for c in children])
    return Tree.from_arrays(offsets, [c for each in children for c in each], {
        "word": random.randint(0, 9, nodes), "x": random.randn(nodes, 2).astype(np.float32)})


@pytest.mark.skipif(native.library() is None, reason="no native core on this machine")
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 99))
def test_the_core_joins_trees_as_numpy_does(sizes, seed):
    trees = [numeric(seed + i, n) for i, n in enumerate(sizes)]
    joined, wanted = Forest(trees), Forest(trees, dtype=np.float32)  # any other spelling takes NumPy's way
    assert joined.alike is not None and wanted.alike is None
    assert joined.structure == wanted.structure and repr(joined) == repr(wanted)
    for ours, theirs in zip(joined, wanted):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())
    assert unpack(joined[0].asnumpy()) == wanted.structure  # checksum included
    part = pickle.loads(pickle.dumps(joined))
    assert part.structure == wanted.structure


@pytest.mark.skipif(native.library() is None, reason="no native core on this machine")
def test_the_core_joins_only_trees_that_are_alike():
    trees = [numeric(0, 5), numeric(1, 6)]
    assert Forest(trees).alike is Forest(trees[:1]).alike
    assert Forest([*trees, trees[0].map(word=float)], dtype="float32").alike is None
    assert Forest(read(), vocab=VOCAB).alike is None
