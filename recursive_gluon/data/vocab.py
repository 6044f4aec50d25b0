"""Vocabularies: tokens and the numbers that stand for them."""
from __future__ import annotations

import json
from collections import Counter
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from ..errors import FieldError, IndexRangeError, UnknownTokenError
from .tree import Tree

__all__ = ['Vocab']


class Vocab:
    """Tokens by number and numbers by token, after GluonNLP's ``Vocab``.

    Numbers are the same for the same counts: the unknown token, the reserved tokens, then tokens by count
    from the highest and, among equals, by text.

    Parameters
    ----------
    counter : mapping of str to int, optional
        How often each token occurs.
    max_size : int, optional
        How many of the counted tokens to keep at most; unknown and reserved tokens come on top.
    min_freq : int, default 1
        Tokens that occur less often are left out.
    unknown_token : str or None, default '<unk>'
        Stands for tokens that are not in the vocabulary; with None such a token is an error.
    reserved_tokens : sequence of str, optional
        Further tokens that have a number whatever their count.
    lower : bool, default False
        Tokens are looked up in lower case.

    Raises
    ------
    FieldError
        A reserved token occurs twice, or is the unknown token.

    Examples
    --------
    >>> vocab = Vocab({'it': 2, 'works': 1})
    >>> vocab['it'], vocab[['works', 'never']], len(vocab)
    (1, [2, 0], 3)
    >>> vocab.to_tokens([1, 2])
    ['it', 'works']
    """

    def __init__(self, counter: Mapping[str, int] | None = None, max_size: int | None = None,
                 min_freq: int = 1, unknown_token: str | None = '<unk>',
                 reserved_tokens: Sequence[str] | None = None, lower: bool = False) -> None:
        first = [] if unknown_token is None else [unknown_token]
        first += list(reserved_tokens or ())
        if len(set(first)) < len(first):
            raise FieldError(f'the unknown and reserved tokens are {first}, expected no token twice. Remove '
                             'the second one')
        counted = sorted((counter or {}).items(), key=lambda pair: (-pair[1], pair[0]))
        kept = [token for token, count in counted if count >= min_freq and token not in first]
        self._fill(first + kept[:max_size], unknown_token, len(first), lower)

    def _fill(self, tokens: list[str], unknown_token: str | None, num_reserved: int, lower: bool) -> None:
        self._tokens, self.unknown_token, self.lower = tokens, unknown_token, lower
        self._num_first = num_reserved
        self._numbers = {token: number for number, token in enumerate(tokens)}
        self._unknown = None if unknown_token is None else self._numbers[unknown_token]

    @classmethod
    def from_trees(cls, trees: Iterable[Tree], field: str = 'word', lower: bool = False,
                   **kwargs: Any) -> Vocab:
        """Count the strings of a field.

        Parameters
        ----------
        trees : iterable of Tree
            What to count.
        field : str, default 'word'
            The field.
        lower : bool, default False
            Count, and later look up, in lower case.
        **kwargs
            As for `Vocab`.

        Returns
        -------
        Vocab

        Raises
        ------
        FieldError
            A tree lacks the field.
        """
        counter: Counter[str] = Counter()
        for tree in trees:
            counter.update(text for text in tree[field] if text is not None)
        if lower:
            folded: Counter[str] = Counter()
            for text, count in counter.items():
                folded[text.lower()] += count
            counter = folded
        return cls(counter, lower=lower, **kwargs)

    @property
    def idx_to_token(self) -> list[str]:
        """The tokens in the order of their numbers."""
        return list(self._tokens)

    @property
    def token_to_idx(self) -> dict[str, int]:
        """The number of each token."""
        return dict(self._numbers)

    @property
    def reserved_tokens(self) -> list[str]:
        """The reserved tokens."""
        return self._tokens[0 if self._unknown is None else 1:self._num_first]

    def __getitem__(self, tokens: str | Sequence[str]) -> Any:
        if isinstance(tokens, str):
            return self(tokens)
        return [self(token) for token in tokens]

    def __call__(self, token: str) -> int:
        if self.lower and token not in self._numbers:
            token = token.lower()
        number = self._numbers.get(token, self._unknown)
        if number is None:
            raise UnknownTokenError(f'the vocabulary has no entry for {token!r} and no unknown token. Make '
                                    'it with '
                                    "unknown_token='<unk>'")
        return number

    def to_indices(self, tokens: str | Sequence[str]) -> Any:
        """The number of a token, or those of a list of tokens; the same as ``vocab[tokens]``."""
        return self[tokens]

    def to_tokens(self, indices: Any) -> Any:
        """The token of a number, or those of a list of numbers.

        Raises
        ------
        IndexRangeError
            There is no token of that number.
        """
        if np.ndim(indices) == 0:
            index = int(indices)
            if not 0 <= index < len(self._tokens):
                raise IndexRangeError(f'the vocabulary has no token {index}, expected 0 to '
                                      f'{len(self._tokens) - 1}. Leave out -1, which stands for a missing '
                                      'word')
            return self._tokens[index]
        return [self.to_tokens(index) for index in indices]

    def to_json(self) -> str:
        """The vocabulary as text; the inverse of `from_json`."""
        return json.dumps({'tokens': self._tokens, 'unknown_token': self.unknown_token,
                           'num_reserved': self._num_first, 'lower': self.lower}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Vocab:
        """Read a vocabulary that `to_json` wrote."""
        data = json.loads(text)
        vocab = cls.__new__(cls)
        vocab._fill(data['tokens'], data['unknown_token'], data['num_reserved'], data['lower'])
        return vocab

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        if self.lower and isinstance(token, str) and token.lower() in self._numbers:
            return True
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.unknown_token, len(self._tokens)))

    def __repr__(self) -> str:
        return f'Vocab({len(self)} tokens, unknown_token={self.unknown_token!r})'
