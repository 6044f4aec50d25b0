import numpy as np
import pytest

from recursive_gluon._compat import mx
from recursive_gluon.data.batchify import ForestBatchify
from recursive_gluon.data.forest import Forest
from recursive_gluon.data.tree import Tree
from recursive_gluon.data.vocab import Vocab
from recursive_gluon.errors import EmptyForestError

TREES = [Tree.from_ptb(f"({i % 5} (2 a{i}) (3 works))") for i in range(10)]
VOCAB = Vocab.from_trees(TREES)


def load(samples, workers):
    return list(mx.gluon.data.DataLoader(mx.gluon.data.SimpleDataset(samples), batch_size=4,
                                         batchify_fn=ForestBatchify(VOCAB), num_workers=workers, timeout=60))


@pytest.mark.parametrize("workers", [0, 2])
def test_trees(workers):
    batches = load(TREES, workers)
    assert [batch.num_trees for batch in batches] == [4, 4, 2]
    for start, batch in zip((0, 4, 8), batches):
        alone = Forest(TREES[start:start + 4], VOCAB)
        assert isinstance(batch, Forest) and batch.structure == alone.structure
        assert all((a.asnumpy() == b.asnumpy()).all() for a, b in zip(batch, alone))
        assert Forest.from_arrays(list(batch)).structure == alone.structure
        assert batch.as_in_context(mx.cpu())["word"].context == mx.cpu()


@pytest.mark.parametrize("workers", [0, 2])
def test_tuples(workers):
    samples = [(tree, number, np.full(3, number, np.float32)) for number, tree in enumerate(TREES)]
    batches = load(samples, workers)
    forest, numbers, rows = batches[1]
    assert forest.num_trees == 4
    assert numbers.asnumpy().tolist() == [4, 5, 6, 7]
    assert rows.shape == (4, 3) and rows.asnumpy()[:, 0].tolist() == [4, 5, 6, 7]


def test_no_sample():
    with pytest.raises(EmptyForestError, match="one sample or more"):
        ForestBatchify()([])
    assert repr(ForestBatchify()) == "ForestBatchify(vocab=None, dtype='float32')"
