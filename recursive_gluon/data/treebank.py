"""A generated sentiment treebank, in which composition decides.

Sentences come from a small seeded grammar over the word lists of `lexicon`. Every phrase has a score from -2
to 2, computed from its two parts and nothing else, and a label that is the score in five steps:

* a word of the lexicon has its polarity, every other word 0, and a neutral part passes the other's score on;
* a negation flips and damps what it stands before: *not very good*, *hardly saves the plot*;
* an intensifier or a diminisher scales it: *deeply moving*, *slightly dull*;
* a verb such as *lacks* or *escapes* turns its object round; the predicate counts for more than the subject;
* in a contrast one clause dominates: *although A , B*, *A but B*, *B even though A*.

The same words in another order mean something else, so a model that counts words stays far behind one that
follows the tree; the label is a function of the tree, so nothing but the model limits its accuracy. Written
from scratch, without the sentences or labels of any existing treebank.
"""
from __future__ import annotations

import argparse
import os
import random
from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np

from . import lexicon
from .ptb import write_ptb
from .tree import Tree

__all__ = ['generate_treebank', 'label_of']

MIN_LEAVES, MAX_LEAVES = 4, 40

_NEGATED = -0.6  # a negation flips and damps
_TURNED = -0.9  # what a verb such as 'lacks' makes of its object
_STRONGER, _WEAKER = 1.7, 0.5
_SUBJECT = 0.4  # beside its predicate
_YIELDING = 0.2  # the clause that a contrast plays down
_JOINED = 0.7  # of the sum of two joined phrases


class _Phrase(NamedTuple):
    score: float
    word: str | None
    parts: tuple[_Phrase, ...]


def label_of(score: float) -> int:
    """The label of a score: 0 (below -1.4), 1, 2 (-0.4 to 0.4), 3, 4 (above 1.4)."""
    return int(np.searchsorted((-1.4, -0.4, 0.4, 1.4), score))


def generate_treebank(num_trees: int, seed: int = 0) -> list[Tree]:
    """Generate sentences with a sentiment label on every node.

    Parameters
    ----------
    num_trees : int
        How many; no sentence occurs twice.
    seed : int, default 0
        The same seed gives the same trees, on any machine; the first trees of a longer treebank are those of
        a shorter.

    Returns
    -------
    list of Tree
        Binary trees of 4 to 40 leaves, with the fields ``label`` (0 very negative to 4 very positive) on
        every node and ``word`` on the leaves. Each label is that of a fifth of the roots.

    Examples
    --------
    >>> [len(tree) for tree in generate_treebank(3)] == [len(tree) for tree in generate_treebank(5)[:3]]
    True
    """
    grammar = _Grammar(seed)
    trees: list[Tree] = []
    seen: set[str] = set()
    while len(trees) < num_trees:
        if len(trees) % 5 == 0:
            wanted = grammar.shuffled(range(5))
        phrase = grammar.sentence()
        if label_of(phrase.score) != wanted[len(trees) % 5]:
            continue
        tree = _as_tree(phrase)
        text = ' '.join(word for word in tree['word'] if word is not None)
        if MIN_LEAVES <= tree.num_leaves <= MAX_LEAVES and text not in seen:
            seen.add(text)
            trees.append(tree)
    return trees


class _Grammar:
    """Draws phrases. Only ``random()`` is used of the generator: Python keeps its draws the same in all
    versions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def shuffled(self, items: Sequence[int]) -> list[int]:
        return [item for _, item in sorted((self._random(), item) for item in items)]

    def pick(self, words: Sequence[str]) -> str:
        return words[int(self._random() * len(words))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def choose(self, options: Sequence[tuple[float, Callable[[], _Phrase]]]) -> _Phrase:
        at = self._random() * sum(weight for weight, _ in options)
        for weight, option in options:
            at -= weight
            if at < 0:
                return option()
        return options[-1][1]()

    def filler(self, words: Sequence[str]) -> _Phrase:
        return _word(self.pick(words), 0.0)

    def polar(self, words: Mapping[int, Sequence[str]]) -> _Phrase:
        polarity = (-2, -1, 1, 2)[int(self._random() * 4)]
        return _word(self.pick(words[polarity]), polarity)

    def sentence(self) -> _Phrase:
        body = self.choose([(3, self.clause), (3, self.contrast), (1.5, self.concession),
                            (1.5, self.joined_clauses), (1, self.doubted)])
        if self.chance(0.15):
            opener = _join(0.0, self.filler(lexicon.OPENERS), _word(',', 0.0))
            body = _pass(opener, body)
        return _pass(body, _word('.', 0.0))

    def contrast(self) -> _Phrase:
        """A but B; A , yet B."""
        first, second = self.clause(), self.clause()
        right = _join(second.score, self.filler(lexicon.CONTRASTS), second)
        left = _pass(first, _word(',', 0.0)) if self.chance(0.5) else first
        return _join(second.score + _YIELDING * first.score, left, right)

    def concession(self) -> _Phrase:
        """Although A , B; B although A."""
        weak, strong = self.clause(), self.clause()
        aside = _join(weak.score, self.filler(lexicon.CONCESSIONS), weak)
        score = strong.score + _YIELDING * weak.score
        if self.chance(0.5):
            return _join(score, _pass(aside, _word(',', 0.0)), strong)
        return _join(score, strong, aside)

    def joined_clauses(self) -> _Phrase:
        first, second = self.clause(), self.clause()
        right = _pass(self.filler(lexicon.JOINERS), second)
        return _join(_JOINED * (first.score + second.score), first, right)

    def doubted(self) -> _Phrase:
        """Nobody says that A: a negation whose scope is a whole clause."""
        clause = self.clause()
        opener = _join(0.0, self.filler(lexicon.DOUBTERS), self.filler(lexicon.SAYINGS))
        return _join(_NEGATED * clause.score, opener, _pass(_word('that', 0.0), clause))

    def clause(self) -> _Phrase:
        subject, predicate = self.noun_phrase(0.25), self.verb_phrase()
        return _join(predicate.score + _SUBJECT * subject.score, subject, predicate)

    def noun_phrase(self, polar: float) -> _Phrase:
        phrase = self.filler(lexicon.NOUNS)
        if self.chance(polar):
            adjective = self.adjective_phrase(0.5)
            phrase = _pass(adjective, phrase)
        elif self.chance(0.25):
            phrase = _pass(self.filler(lexicon.NEUTRAL_ADJECTIVES), phrase)
        phrase = _pass(self.filler(lexicon.DETERMINERS), phrase)
        if self.chance(0.2):
            place = _pass(self.filler(lexicon.DETERMINERS), self.filler(lexicon.NOUNS))
            phrase = _pass(phrase, _pass(self.filler(lexicon.PREPOSITIONS), place))
        return phrase

    def verb_phrase(self) -> _Phrase:
        phrase = self.choose([(4, self.copula), (3, self.action), (2, self.turned), (2, self.negated)])
        if self.chance(0.12):
            phrase = _pass(phrase, self.filler(lexicon.ADVERBS))
        return phrase

    def copula(self) -> _Phrase:
        return _pass(self.filler(lexicon.COPULAS), self.adjective_phrase(1.0))

    def action(self) -> _Phrase:
        """A verb and its object, of which one has a polarity."""
        if self.chance(0.5):
            return _pass(self.polar(lexicon.VERBS), self.noun_phrase(0.0))
        return _pass(self.filler(lexicon.NEUTRAL_VERBS), self.noun_phrase(1.0))

    def turned(self) -> _Phrase:
        """Lacks X, avoids X."""
        thing = self.noun_phrase(1.0)
        return _join(_TURNED * thing.score, self.filler(lexicon.TURNERS), thing)

    def negated(self) -> _Phrase:
        """Never loves X, hardly offers X."""
        phrase = self.choose([(1, self.action), (0.4, self.turned)])
        return _join(_NEGATED * phrase.score, self.filler(lexicon.VERB_NEGATIONS), phrase)

    def adjective_phrase(self, more: float) -> _Phrase:
        """An adjective and what stands before it; `more` scales how often something does."""
        if self.chance(0.12 * more):
            first, second = self.adjective_phrase(0.6 * more), self.adjective_phrase(0.6 * more)
            return _join(_JOINED * (first.score + second.score), first, _pass(_word('and', 0.0), second))
        phrase = self.polar(lexicon.ADJECTIVES)
        if self.chance(0.3 * more):
            if self.chance(0.5):
                phrase = _join(_STRONGER * phrase.score, self.filler(lexicon.INTENSIFIERS), phrase)
            else:
                phrase = _join(_WEAKER * phrase.score, self.filler(lexicon.DIMINISHERS), phrase)
        if self.chance(0.4 * more):
            phrase = _join(_NEGATED * phrase.score, self.filler(lexicon.NEGATIONS), phrase)
        return phrase


def _word(word: str, score: float) -> _Phrase:
    return _Phrase(score, word, ())


def _join(score: float, left: _Phrase, right: _Phrase) -> _Phrase:
    return _Phrase(min(max(score, -2.0), 2.0), None, (left, right))


def _pass(left: _Phrase, right: _Phrase) -> _Phrase:
    """Join a phrase with a neutral one: its score passes through."""
    return _join(left.score + right.score, left, right)


def _as_tree(phrase: _Phrase) -> Tree:
    offsets, children, labels, words = [0], [], [], []

    def visit(phrase: _Phrase) -> int:
        children_here = [visit(part) for part in phrase.parts]
        children.extend(children_here)
        offsets.append(len(children))
        labels.append(label_of(phrase.score))
        words.append(phrase.word)
        return len(labels) - 1

    root = visit(phrase)
    return Tree.from_arrays(offsets, children, {'label': np.array(labels), 'word': words}, root)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``train.txt``, ``dev.txt`` and ``test.txt``, none of which shares a sentence with another."""
    parser = argparse.ArgumentParser(prog='python -m recursive_gluon.data.treebank', description=main.__doc__)
    parser.add_argument('--out', required=True, metavar='FOLDER', help='made if it does not exist')
    parser.add_argument('--seed', type=int, default=0)
    for name, count in (('train', 6000), ('dev', 1000), ('test', 1000)):
        parser.add_argument(f'--{name}', type=int, default=count, metavar='TREES')
    options = parser.parse_args(arguments)
    os.makedirs(options.out, exist_ok=True)
    trees = generate_treebank(options.train + options.dev + options.test, options.seed)
    start = 0
    for name in ('train', 'dev', 'test'):
        count = getattr(options, name)
        path = os.path.join(options.out, f'{name}.txt')
        write_ptb(path, trees[start:start + count])
        print(f'{path}: {count} trees')
        start += count


if __name__ == '__main__':
    main()
