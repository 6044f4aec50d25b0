"""Progress of long loops: a bar on a terminal, a line every ten seconds elsewhere."""
from __future__ import annotations

import sys
from typing import Any, Iterable, TextIO

from tqdm import tqdm

_SECONDS = 10.0  # between the lines of a log
_LINE = '{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]'


def progress(iterable: Iterable[Any], what: str, unit: str = 'it', show: bool = True) -> Any:
    """Iterate and show how far.

    Parameters
    ----------
    iterable : iterable
        Whose length is shown if it has one.
    what : str
        Stands before the numbers.
    unit : str, default 'it'
        What one item is.
    show : bool, default True
        False shows nothing.

    Returns
    -------
    tqdm
        Iterates over the same items; ``set_postfix`` adds values.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, what, unit=unit, leave=False, disable=not show)
    return tqdm(iterable, what, unit=unit, leave=False, disable=not show, file=_Lines(sys.stderr),
                bar_format=_LINE, mininterval=_SECONDS, maxinterval=_SECONDS, delay=_SECONDS)


class _Lines:
    """A stream for tqdm that ends lines instead of writing over them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip()
        if text:
            self._stream.write(text + '\n')

    def flush(self) -> None:
        self._stream.flush()
