import pickle

import pytest

from recursive_gluon.data.ptb import read_ptb, write_ptb
from recursive_gluon.data.tree import Tree
from recursive_gluon.errors import FieldError, StructureError, TreeFormatError

TEXT = "(3 (2 It) (4 (2 really) (3 works)))"


def test_reading_text():
    tree = Tree.from_ptb(TEXT)
    assert tree["label"].tolist() == [2, 2, 3, 4, 3]
    assert tree["word"] == ["It", "really", "works", None, None]
    assert tree.to_ptb() == TEXT
    assert Tree.from_ptb("  ( 3 (2 It)( 4(2 really )(3 works) ) ) ") == tree


def test_only_ascii_space_separates():
    tree = Tree.from_ptb("(3 (2 2\xa01\\/2) (2 a\u2028b\tc))")
    assert tree["word"][:2] == ["2\xa01\\/2", "a\u2028b\tc"]


def test_labels_that_are_names():
    tree = Tree.from_ptb("(S (NP It) (VP works))", label=str)
    assert tree["label"] == ["NP", "VP", "S"] and tree.to_ptb() == "(S (NP It) (VP works))"


@pytest.mark.parametrize("text, column, expected, got", [
    ("(3 (2 It) (4 works)", 20, r"'\)' or '\('", "the end of the line"),
    ("(3 (2 It)) )", 12, "the end of the line", r"'\)'"),
    ("(3 (2 It)) (2 x)", 12, "the end of the line", r"'\('"),
    ("(3 (2 It)) rest", 12, "the end of the line", "'rest'"),
    ("", 1, "a tree", "nothing"),
    ("()", 2, "a label", r"'\)'"),
    ("( (2 It))", 3, "a label", r"'\('"),
    ("(3 (2 It) (", 12, "a label", "the end of the line"),
    ("(3)", 3, r"a word or '\('", r"'\)'"),
    ("(3 one two)", 8, r"'\)' after the word", "'two'"),
    ("(3 (2 It) word)", 11, r"'\(' or '\)'", "'word'"),
    ("(3 (x It) (4 works))", 5, "an integer label", "'x'"),
    ("(99999999999 It)", 2, "an integer label", "'99999999999'"),
    ("word", 1, r"'\('", "'word'"),
    (")", 1, r"'\('", r"'\)'"),
])
def test_errors_say_where(text, column, expected, got):
    with pytest.raises(TreeFormatError, match=f"<text>:1:{column}: expected {expected}, got {got}") as caught:
        Tree.from_ptb(text)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.path, error.line, error.column) == ("<text>", 1, column)


def test_files(tmp_path):
    path = tmp_path / "trees.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode() + b"\r\n\n   \n(1 (2 caf\xc3\xa9) (0 no\xc2\x85))")
    trees = read_ptb(path)
    assert [tree.to_ptb() for tree in trees] == [TEXT, "(1 (2 café) (0 no\x85))"]
    write_ptb(tmp_path / "again.txt", trees)
    assert read_ptb(str(tmp_path / "again.txt")) == trees
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.txt", "trees.txt"]


def test_errors_name_the_line_of_a_file(tmp_path):
    path = tmp_path / "trees.txt"
    path.write_text(TEXT + "\n\n(3 (2 It)\n")
    with pytest.raises(TreeFormatError, match=r"trees\.txt:3:10: expected") as caught:
        read_ptb(path)
    assert (caught.value.path, caught.value.line, caught.value.column) == (str(path), 3, 10)
    path.write_bytes(b"(3 \xc3\xa9\xff)")
    with pytest.raises(TreeFormatError, match=r"trees\.txt:1:5: expected UTF-8 text, got the byte 0xff"):
        read_ptb(path)


def test_trees_that_cannot_be_written(tmp_path):
    leaf = Tree(label=1, word="x")
    with pytest.raises(StructureError, match="a DAG cannot be written"):
        Tree(label=1, children=[leaf, leaf]).to_ptb()
    for word in ("a b", "(", "", None):
        with pytest.raises(FieldError, match="word of node 0"):
            Tree(label=1, word=word).to_ptb()
    path = tmp_path / "trees.txt"
    path.write_text(TEXT)
    with pytest.raises(FieldError, match="no field 'word'"):
        write_ptb(path, [leaf, Tree(label=1)])
    assert path.read_text() == TEXT and len(list(tmp_path.iterdir())) == 1
