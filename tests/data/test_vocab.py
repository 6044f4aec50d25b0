import pytest

from recursive_gluon.data.tree import Tree
from recursive_gluon.data.vocab import Vocab
from recursive_gluon.errors import FieldError, IndexRangeError, UnknownTokenError

COUNTS = {"b": 2, "a": 2, "c": 5, "rare": 1}


def test_order_is_by_count_then_text():
    vocab = Vocab(COUNTS, reserved_tokens=["<pad>"])
    assert vocab.idx_to_token == ["<unk>", "<pad>", "c", "a", "b", "rare"]
    assert Vocab(dict(reversed(list(COUNTS.items()))), reserved_tokens=["<pad>"]) == vocab
    assert vocab.reserved_tokens == ["<pad>"] and vocab.token_to_idx["c"] == 2
    assert repr(vocab) == "Vocab(6 tokens, unknown_token='<unk>')"


def test_limits():
    assert Vocab(COUNTS, max_size=2).idx_to_token == ["<unk>", "c", "a"]
    assert Vocab(COUNTS, min_freq=2).idx_to_token == ["<unk>", "c", "a", "b"]
    assert len(Vocab()) == 1 and len(Vocab(unknown_token=None)) == 0


def test_looking_up():
    vocab = Vocab(COUNTS)
    assert vocab["c"] == vocab("c") == vocab.to_indices("c") == 1
    assert vocab[["a", "never seen"]] == [2, 0]
    assert "a" in vocab and "never seen" not in vocab
    assert vocab.to_tokens(1) == "c" and vocab.to_tokens([1, 0]) == ["c", "<unk>"]


def test_from_trees():
    trees = [Tree.from_ptb("(3 (2 It) (4 works))"), Tree.from_ptb("(3 (2 it) (4 WORKS))")]
    assert len(Vocab.from_trees(trees)) == 5
    vocab = Vocab.from_trees(trees, lower=True)
    assert vocab.idx_to_token == ["<unk>", "it", "works"]
    assert vocab["WoRkS"] == 2 and "IT" in vocab
    with pytest.raises(FieldError, match="no field 'text'"):
        Vocab.from_trees(trees, field="text")


def test_json_round_trip():
    vocab = Vocab({"é": 1, "A": 2}, reserved_tokens=["<pad>"], lower=True)
    again = Vocab.from_json(vocab.to_json())
    assert again == vocab and hash(again) == hash(vocab) and again.reserved_tokens == ["<pad>"]


def test_errors():
    with pytest.raises(UnknownTokenError, match="no entry for 'x'"):
        Vocab(COUNTS, unknown_token=None)["x"]
    for index in (-1, 5):
        with pytest.raises(IndexRangeError, match=f"no token {index}, expected 0 to 4"):
            Vocab(COUNTS).to_tokens(index)
    with pytest.raises(FieldError, match="no token twice"):
        Vocab(COUNTS, reserved_tokens=["<unk>"])
