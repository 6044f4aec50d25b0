"""Trees in brackets, as in the Penn and the Stanford sentiment treebanks: ``(3 (2 It) (4 works))``."""
from __future__ import annotations

import os
import re
from typing import Any, Callable, Iterable

import numpy as np

from ..errors import FieldError, IndexRangeError, StructureError, TreeFormatError
from ._columns import column
from .tree import Tree

__all__ = ['read_ptb', 'write_ptb', 'parse_ptb', 'format_ptb']

_TOKEN = re.compile(r'[()]|[^() ]+')
_CLOSE_HINT = 'Close every bracket that was opened'


class _Stop(Exception):
    """Parsing stopped at a token: (its index, what was expected, a hint)."""


def parse_ptb(text: str, label: Callable[[str], Any] = int, path: str = '<text>', line: int = 1) -> Tree:
    """Read one bracketed tree from a string; see `Tree.from_ptb`.

    Parameters
    ----------
    text : str
        One tree.
    label : callable, default int
        Makes a label of its text.
    path : str, default '<text>'
        Named in errors.
    line : int, default 1
        Named in errors.

    Returns
    -------
    Tree

    Raises
    ------
    TreeFormatError
        The text is not well formed.
    """
    tokens = _TOKEN.findall(text)
    try:
        offsets, children, labels, words = _parse(tokens)
    except _Stop as found:
        raise _located(text, found, path, line) from None
    known: dict[str, Any] = {}
    try:
        for name in set(labels):
            known[name] = label(name)
        values = column('label', [known[name] for name in labels])
    except (ValueError, IndexRangeError):
        index = _first_bad_label(tokens, label)
        stop = _Stop(index, 'an integer label' if label is int else 'another label',
                     'Read labels that are names with label=str' if label is int else '')
        raise _located(text, stop, path, line) from None
    return Tree._make(np.array(offsets, np.int32), np.array(children, np.int32),
                      {'label': values, 'word': words})


def _parse(tokens: list[str]) -> tuple[list[int], list[int], list[str], list[str | None]]:
    offsets: list[int] = [0]
    children: list[int] = []
    labels: list[str] = []
    words: list[str | None] = []
    done: list[int] = []  # roots of finished sub-trees whose parent is open
    open_: list[tuple[str, int]] = []  # label of each open node, and where its children start in `done`
    count, at, end = 0, 0, len(tokens)
    while at < end:
        token = tokens[at]
        if token == '(':
            if not open_ and done:
                raise _Stop(at, 'the end of the line', 'Write one tree a line')
            if at + 1 == end or tokens[at + 1] in '()':
                raise _Stop(at + 1, 'a label', 'Every node starts with its label, (3 ...)')
            open_.append((tokens[at + 1], len(done)))
            at += 2
            if at < end and tokens[at] not in '()':
                if at + 1 == end or tokens[at + 1] != ')':
                    raise _Stop(at + 1, "')' after the word", 'A leaf has one word; replace spaces and '
                                                              'brackets in it')
                words.append(tokens[at])
                at += 1
            elif at < end and tokens[at] == ')':
                raise _Stop(at, "a word or '('", 'A node has a word or children')
            else:
                continue
        elif token == ')':
            if not open_:
                raise _Stop(at, 'the end of the line' if done else "'('", _CLOSE_HINT)
            words.append(None)
        elif not open_:
            raise _Stop(at, 'the end of the line' if done else "'('", 'Write one tree a line, in brackets')
        else:
            raise _Stop(at, "'(' or ')'", 'A node has a word or children, not both')
        label, first = open_.pop()
        children.extend(done[first:])
        del done[first:]
        offsets.append(len(children))
        labels.append(label)
        done.append(count)
        count += 1
        at += 1
    if open_:
        raise _Stop(end, "')' or '('", _CLOSE_HINT)
    if not done:
        raise _Stop(end, 'a tree', 'Leave the line out')
    return offsets, children, labels, words


def _first_bad_label(tokens: list[str], label: Callable[[str], Any]) -> int:
    for index, token in enumerate(tokens):
        if index and tokens[index - 1] == '(':
            try:
                column('label', [label(token)])
            except (ValueError, IndexRangeError):
                return index
    return 1


def _located(text: str, stop: _Stop, path: str, line: int) -> TreeFormatError:
    index, expected, hint = stop.args
    tokens = list(_TOKEN.finditer(text))
    if index < len(tokens):
        got, column_ = repr(tokens[index].group()), tokens[index].start() + 1
    else:
        got, column_ = 'the end of the line' if text.strip(' ') else 'nothing', len(text.rstrip(' ')) + 1
    return TreeFormatError(expected, got, hint, path, line, column_)


def read_ptb(path: str | os.PathLike[str], label: Callable[[str], Any] = int) -> list[Tree]:
    """Read a file of bracketed trees, one a line.

    Parameters
    ----------
    path : str or path
        UTF-8 text. Blank lines are skipped. Tokens are split at ASCII spaces and brackets only: a token may
        hold other white space, such as U+00A0.
    label : callable, default int
        Makes a label of its text; ``str`` keeps it.

    Returns
    -------
    list of Tree
        With the fields ``label`` on every node and ``word`` on the leaves.

    Raises
    ------
    TreeFormatError
        A line is not well formed, or not UTF-8; it names file, line and column.
    """
    name = os.fspath(path)
    trees = []
    with open(path, 'rb') as file:
        for number, data in enumerate(file, 1):
            if number == 1 and data.startswith(b'\xef\xbb\xbf'):
                data = data[3:]
            data = data.rstrip(b'\r\n')
            try:
                text = data.decode('utf-8')
            except UnicodeDecodeError as error:
                before = len(data[:error.start].decode('utf-8'))
                raise TreeFormatError('UTF-8 text', f'the byte {data[error.start]:#04x}', 'Convert the file '
                                                                                          'to UTF-8',
                                      name, number, before + 1) from None
            if text.strip(' \t'):
                trees.append(parse_ptb(text, label, name, number))
    return trees


def write_ptb(path: str | os.PathLike[str], trees: Iterable[Tree]) -> None:
    """Write trees in brackets, one a line; the file appears whole or not at all.

    Parameters
    ----------
    path : str or path
        The file, replaced if it exists.
    trees : iterable of Tree
        With the fields ``label`` and ``word``.

    Raises
    ------
    FieldError, StructureError
        A tree cannot be written in brackets; see `Tree.to_ptb`.
    """
    temporary = f'{os.fspath(path)}.{os.getpid()}.part'
    try:
        with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
            for tree in trees:
                file.write(format_ptb(tree) + '\n')
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def format_ptb(tree: Tree) -> str:
    """Write one tree in brackets; see `Tree.to_ptb`."""
    if tree.is_dag:
        raise StructureError('a DAG cannot be written in brackets: a shared node has one place only. Write '
                             'its arrays, or pickle it')
    labels, words = tree['label'], tree['word']
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    offsets, children = tree.child_offsets.tolist(), tree.children.tolist()
    pieces: list[str] = []
    stack: list[int | str] = [tree.root]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            pieces.append(item)
            continue
        below = [child for child in children[offsets[item]:offsets[item + 1]] if child >= 0]
        pieces.append(f'{" " if pieces else ""}({_token(labels[item], "label", item)}')
        if not below:
            pieces.append(f' {_token(words[item], "word", item)})')
            continue
        stack.append(')')
        stack.extend(reversed(below))
    return ''.join(pieces)


def _token(value: Any, field: str, node: int) -> str:
    text = '' if value is None else str(value)
    if not text or any(char in text for char in ' ()\r\n'):
        raise FieldError(f'{field} of node {node} is {value!r}, expected text without spaces, brackets and '
                         f'line ends. Replace it first with tree.map({field}=...)')
    return text
