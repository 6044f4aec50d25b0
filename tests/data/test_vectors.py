import pickle

import numpy as np
import pytest

from recursive_gluon.data.vectors import load_vectors
from recursive_gluon.data.vocab import Vocab
from recursive_gluon.errors import VectorsError

VOCAB = Vocab({"the": 3, "cat": 2, "2\xa01/2": 1, "lost": 1})


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "vectors.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path
    return write


def test_reading(write):
    path = write("the 1 2 3\nother 9 9 9\n2\xa01/2 0.5 -1e-1 3\r\n\ncat 0 0 0 \ncat 7 7 7\nunk 4 5 6\n")
    vectors, found = load_vectors(path, VOCAB)
    assert vectors.shape == (5, 3) and vectors.dtype == np.float32 and found == 3
    assert vectors[VOCAB["the"]].tolist() == [1, 2, 3]
    assert vectors[VOCAB["cat"]].tolist() == [0, 0, 0]  # the first counts
    assert np.allclose(vectors[VOCAB["2\xa01/2"]], [0.5, -0.1, 3])
    assert np.isfinite(vectors).all() and vectors[VOCAB["lost"]].any()
    again, _ = load_vectors(path, VOCAB)
    other, _ = load_vectors(path, VOCAB, seed=1)
    assert (again == vectors).all() and (other != vectors).any()
    named, found = load_vectors(path, VOCAB, unknown="unk")
    assert named[0].tolist() == [4, 5, 6] and found == 4
    shared, found = load_vectors(path, VOCAB, unknown="the")
    assert shared[0].tolist() == shared[VOCAB["the"]].tolist() == [1, 2, 3] and found == 4


def test_nothing_found(write):
    vectors, found = load_vectors(write("x 1 2\n"), VOCAB)
    assert found == 0 and vectors.shape == (5, 2) and 0 < np.abs(vectors).max() < 1


@pytest.mark.parametrize("text, message", [
    ("the 1 2\ncat 1\n", r"vectors\.txt:2: expected 2 numbers after the token 'cat'.*got 1"),
    ("the 1 2\ncat 1 2 3\n", r"vectors\.txt:2: .*got 3"),
    ("the 1 2\nx 1 nan\n", r"vectors\.txt:2: value 2 is 'nan'"),
    ("the 1 -inf\n", r"vectors\.txt:1: value 2 is '-inf'"),
    ("the 1 two\n", r"vectors\.txt:1: value 2 is 'two'"),
    ("the 1 1e99\n", r"vectors\.txt:1: value 2 is '1e99'"),
    ("400000 50\nthe 1 2\n", r"vectors\.txt:1: .*header of word2vec"),
    ("the\n", r"vectors\.txt:1: expected a token and two numbers"),
    ("\n", r"vectors\.txt: expected a token"),
    (b"the 1 2\n\xff 1 2\n", r"vectors\.txt:2: expected UTF-8 text, got the byte 0xff"),
])
def test_errors_say_where(write, text, message):
    with pytest.raises(VectorsError, match=message) as caught:
        load_vectors(write(text), VOCAB)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
