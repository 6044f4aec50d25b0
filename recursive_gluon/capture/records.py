"""Where in the user's code something happened, and why something could not be converted."""
from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Optional

__all__ = ["Record", "short_path", "user_location"]

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: cells are written as a user writes them: a place in one of them is worth naming
_CELLS = os.path.join(_HERE, "nn") + os.sep
_MXNET = os.sep + "mxnet" + os.sep


@dataclass(frozen=True)
class Record:
    """One thing that could not be converted or batched: `kind`, the user's `where`, what was `seen`, a `hint`."""

    kind: str
    where: str
    seen: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where or '<unknown>'}: {self.kind}: {self.seen}" + (f" ({self.hint})" if self.hint else "")


def user_location() -> str:
    """``file:line`` of the innermost frame that is neither MXNet's nor this machinery's."""
    frame: Optional[FrameType] = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        ours = name.startswith(_HERE) and not name.startswith(_CELLS)
        if not (ours or _MXNET in name or name.startswith("<")):
            return f"{short_path(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def short_path(path: str) -> str:
    # Paths end up in exported files: what lies outside the working folder keeps only its last two parts.
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else os.path.join(*path.split(os.sep)[-2:])
