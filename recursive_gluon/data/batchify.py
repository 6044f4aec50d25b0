"""Making batches of samples that hold trees."""
from __future__ import annotations

import multiprocessing
from typing import Any, Sequence

from .._compat import mx
from ..errors import EmptyForestError
from .forest import Forest
from .tree import Tree

__all__ = ['ForestBatchify']


class ForestBatchify:
    """A ``batchify_fn`` for ``gluon.data.DataLoader``: trees become a Forest, anything else is stacked as
    Gluon does.

    Parameters
    ----------
    vocab : mapping, callable or dict of these, optional
        As for `Forest`.
    dtype : str, default 'float32'
        As for `Forest`.

    Inputs:
        - **samples**: list of trees, or of tuples such as `(tree, label)`.
    Outputs:
        - **batch**: a Forest, or a list with a Forest or an array for each place in the tuples.

    Raises
    ------
    EmptyForestError
        There is no sample.

    Notes
    -----
    Works with ``num_workers``: in a worker process the arrays are made in shared memory. A ``transform`` of
    the data set that maps words in the worker (``tree.map(word=vocab)``) makes batches cheaper still.

    Examples
    --------
    ::

        loader = gluon.data.DataLoader(gluon.data.SimpleDataset(trees), batch_size=25, shuffle=True,
                                       batchify_fn=ForestBatchify(vocab), num_workers=2)
        for forest in loader: ...
    """

    def __init__(self, vocab: Any = None, dtype: Any = 'float32') -> None:
        self._vocab, self._dtype = vocab, dtype

    def __call__(self, samples: Sequence[Any]) -> Any:
        if not len(samples):
            raise EmptyForestError('a batch needs one sample or more, got none. Skip the empty batch')
        return self._batch(samples)

    def _batch(self, samples: Sequence[Any]) -> Any:
        first = samples[0]
        if isinstance(first, Tree):
            return Forest(samples, self._vocab, _context(), self._dtype)
        if isinstance(first, tuple) and not hasattr(first, '_fields'):
            return [self._batch(column) for column in zip(*samples)]
        if _in_worker():
            return mx.gluon.data.dataloader.default_mp_batchify_fn(samples)
        return mx.gluon.data.dataloader.default_batchify_fn(samples)

    def __repr__(self) -> str:
        return f'ForestBatchify(vocab={self._vocab!r:.60}, dtype={self._dtype!r})'


def _in_worker() -> bool:
    return bool(multiprocessing.current_process().daemon)  # as the pool of a DataLoader makes them


def _context() -> mx.Context:
    return mx.Context('cpu_shared', 0) if _in_worker() else mx.cpu()
