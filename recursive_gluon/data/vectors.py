"""Word vectors in the text format of GloVe: a token and its numbers on each line, separated by single
spaces."""
from __future__ import annotations

import os

import numpy as np

from ..errors import VectorsError
from .vocab import Vocab

__all__ = ['load_vectors']

_STAND_IN = -1  # row of a token that is not in the vocabulary and lends its vector to the unknown token


def load_vectors(path: str | os.PathLike[str], vocab: Vocab, unknown: str | None = None,
                 seed: int = 0) -> tuple[np.ndarray, int]:
    """Read the vectors of a vocabulary's tokens.

    Parameters
    ----------
    path : str or path
        UTF-8 text. Tokens are split from numbers at ASCII spaces only; blank lines are skipped.
    vocab : Vocab
        Whose tokens to look for. Of a token that the file holds twice, the first vector counts.
    unknown : str, optional
        The token in the file whose vector the vocabulary's unknown token takes.
    seed : int, default 0
        Of the draw for tokens that the file lacks: normal, with the mean and the standard deviation of each
        column of the vectors found (0 and 0.1 where none was).

    Returns
    -------
    vectors : np.ndarray
        float32, shape (len(vocab), dim).
    found : int
        How many tokens have a vector from the file.

    Raises
    ------
    VectorsError
        A line has another number of values than the first, or one that is not a finite number; or there is no
        line.

    Examples
    --------
    ::

        vectors, found = load_vectors('glove.6B.50d.txt', vocab)
        net.embed.weight.set_data(mx.nd.array(vectors))
    """
    name = os.fspath(path)
    wanted = {token: number for number, token in enumerate(vocab.idx_to_token)}
    if unknown is not None and vocab.unknown_token is not None:
        wanted.setdefault(unknown, _STAND_IN)
    rows: dict[int, np.ndarray] = {}
    width = None
    with open(path, 'rb') as file:
        for line, data in enumerate(file, 1):
            data = data.rstrip(b'\r\n').rstrip(b' ')
            if not data:
                continue
            try:
                token, *texts = data.decode('utf-8').split(' ')
            except UnicodeDecodeError as error:
                raise VectorsError(f'expected UTF-8 text, got the byte {data[error.start]:#04x}. Convert the '
                                   'file to UTF-8', name, line) from None
            if width is None:
                width = _first_width(texts, name, line)
            if len(texts) != width:
                raise VectorsError(f'expected {width} numbers after the token {token!r:.40}, as on the first '
                                   f'line, got {len(texts)}. The file is cut short or joins two sets: fetch '
                                   'it again, or remove the line', name, line)
            row = _numbers(texts, name, line)
            number = wanted.get(token)
            if number is not None:
                rows.setdefault(number, row)
    if width is None:
        raise VectorsError('expected a token and its numbers on each line, got no line. Fetch the file '
                           'again', name)
    if unknown is not None and vocab.unknown_token is not None and wanted[unknown] in rows:
        rows[vocab[vocab.unknown_token]] = rows[wanted[unknown]]
    rows.pop(_STAND_IN, None)
    found = sorted(rows)
    known = np.stack([rows[number] for number in found]) if found else np.zeros((0, width), np.float32)
    mean, scale = (known.mean(0), known.std(0)) if found else (0.0, 0.1)
    vectors = np.random.RandomState(seed).normal(mean, scale, (len(vocab), width)).astype(np.float32)
    vectors[found] = known
    return vectors, len(found)


def _first_width(texts: list[str], path: str, line: int) -> int:
    if len(texts) < 2:
        hint = 'This looks like the header of word2vec text files: remove that line' if texts else \
            'Fetch the file again'
        raise VectorsError(f'expected a token and two numbers or more, got {len(texts)} after the token. '
                           f'{hint}',
                           path, line)
    return len(texts)


def _numbers(texts: list[str], path: str, line: int) -> np.ndarray:
    try:
        row = np.array(texts, np.float32)
    except ValueError:
        row = np.array([np.nan], np.float32)
    if not np.isfinite(row).all():
        place, text = next((place, text) for place, text in enumerate(texts, 1) if not _is_finite(text))
        raise VectorsError(f'value {place} is {text!r:.40}, expected a finite number. Remove the line, or '
                           'fetch the file again', path, line)
    return row


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(np.float32(text)))
    except ValueError:
        return False
