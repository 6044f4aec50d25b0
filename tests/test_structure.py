import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dags, trees

from recursive_gluon.data.forest import Forest
from recursive_gluon.errors import StructureError
from recursive_gluon.structure import MAGIC, Structure, pack, string_code, unpack


def int32(*values):
    return np.array(values, np.int32)


def structure(**changes):
    """Two trees: (0, 1 -> 2) and (3)."""
    given_ = dict(tree_offsets=int32(0, 3, 4), roots=int32(2, 3), child_offsets=int32(0, 0, 0, 2, 2),
                  children=int32(0, 1), fields=("label", "word"))
    return Structure(**{**given_, **changes})


def test_what_a_structure_says():
    one = structure(children=int32(0, -1), child_offsets=int32(0, 0, 1, 2, 2))
    assert (one.num_trees, one.num_nodes) == (2, 4)
    assert one.arity.tolist() == [0, 1, 1, 0]
    assert one.is_leaf.tolist() == [True, False, True, True]  # an empty slot is no child
    assert "2 trees, 4 nodes, fields: label, word" in repr(one)


@given(st.lists(st.one_of(trees(), dags()), min_size=1, max_size=5))
def test_round_trip(forest):
    before = Forest(forest).structure
    packed = pack(before)
    assert packed.dtype == np.int32 and packed.shape[0] == len(forest)
    assert unpack(packed) == before


def test_names_round_trip():
    one = structure(fields=("größe", "x"), slots=("left", "right"), list_slot="kids", dag=True)
    again = unpack(pack(one))
    assert (again.fields, again.slots, again.list_slot, again.dag) == (one.fields, one.slots, "kids", True)
    bare = unpack(pack(structure(fields=())))
    assert (bare.fields, bare.slots, bare.list_slot) == ((), (), None)


@pytest.mark.parametrize("name", ["", "a\0b", "a\1b"])
def test_a_name_that_cannot_be_packed(name):
    with pytest.raises(StructureError, match="Rename it"):
        pack(structure(fields=(name,)))


def test_no_tree_cannot_be_packed():
    with pytest.raises(StructureError, match="without a tree"):
        pack(Structure(int32(0), int32(), int32(0), int32()))


@pytest.mark.parametrize("changes, message", [
    (dict(tree_offsets=int32(0, 4, 4)), "offsets of the trees"),
    (dict(tree_offsets=int32(1, 3, 4)), "offsets of the trees"),
    (dict(child_offsets=int32(0, 2, 1, 2, 2)), "offsets of the children"),
    (dict(child_offsets=int32(0, 0, 0, 2, 3)), "offsets of the children"),
    (dict(roots=int32(2, 2)), "root lies outside"),
    (dict(children=int32(0, 2)), "node 2 has the child 2"),
    (dict(children=int32(0, -2)), "node 2 has the child -2"),
    (dict(child_offsets=int32(0, 0, 0, 1, 2)), "node 3 has the child 1"),
])
def test_broken_structures_are_refused(changes, message):
    with pytest.raises(StructureError, match=message):
        unpack(pack(structure(**changes)))


@pytest.mark.parametrize("change, message", [
    (lambda array: array.astype(np.float32), "float32"),
    (lambda array: array.reshape(-1), "expected int32 of shape"),
    (lambda array: array[:1], "1 rows for 2 trees"),
    (lambda array: array[:, :-1], "words"),
    (lambda array: array[:, :2], "words, expected 8"),
    (lambda array: array[:0], "0 words"),
    (lambda array: array * (array != MAGIC), "starts with 0"),
])
def test_other_arrays_are_refused(change, message):
    with pytest.raises(StructureError, match=message):
        unpack(change(pack(structure())))


def test_another_version_is_named():
    array = pack(structure())
    array[0, 1] = 7
    with pytest.raises(StructureError, match="version 7"):
        unpack(array)


@given(st.integers(0, 10 ** 6), st.integers(-2 ** 31, 2 ** 31 - 1))
def test_any_changed_word_is_noticed(place, value):
    array = pack(structure())
    flat = array.reshape(-1)
    if flat[place % flat.size] == value:
        return
    flat[place % flat.size] = value
    with pytest.raises(StructureError):
        unpack(array)


def test_unpacking_copies():
    array = pack(structure())
    one = unpack(array)
    array[:] = 0
    assert one == structure()
    with pytest.raises(ValueError, match="read-only"):
        one.children[0] = 1


def test_string_codes():
    assert string_code("NP") == string_code("NP") != string_code("VP")
    assert 0 <= string_code("") < 2 ** 31
