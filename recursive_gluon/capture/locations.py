"""Where in the user's program an operator is called: the frames that are neither MXNet's nor ours, as one number."""
from __future__ import annotations

import linecache
import os
from types import CodeType, FrameType
from typing import Dict, List, Optional, Tuple

from .._compat import mx
from .records import short_path

__all__ = ["describe", "location", "mentioned", "user_frame"]

_LIBRARY = (os.path.dirname(os.path.abspath(mx.__file__)) + os.sep,
            os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)
_DEEP = 24  # frames that tell one call stack from another

_is_users: Dict[str, bool] = {}
_numbers: Dict[Tuple, int] = {}
_codes: List[CodeType] = []  # kept, so that their ids stay theirs


def _users(name: str) -> bool:
    found = _is_users.get(name)
    if found is None:
        found = _is_users[name] = not (name.startswith(_LIBRARY) or name == "<string>" or name.startswith("<frozen "))
    return found


def user_frame(frame: Optional[FrameType]) -> Optional[FrameType]:
    """The innermost frame from `frame` on that is the user's."""
    while frame is not None and not _users(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def location(frame: Optional[FrameType]) -> int:
    """A number for the place in the user's code that is running, with the calls that led there.

    A function that is met again on the way out ends the walk: the levels of a recursion are one place.
    """
    stack: List[int] = []
    codes: List[CodeType] = []
    frame = user_frame(frame)
    while frame is not None and len(codes) < _DEEP and frame.f_code not in codes:
        codes.append(frame.f_code)
        stack += (id(frame.f_code), frame.f_lasti)
        frame = user_frame(frame.f_back)
    key = tuple(stack)
    number = _numbers.get(key)
    if number is None:
        number = _numbers[key] = len(_numbers)
        _codes.extend(codes)
    return number


def mentioned(word: str, frame: Optional[FrameType]) -> bool:
    """Whether the files of the user's functions that are running hold a word."""
    files = set()
    frame = user_frame(frame)
    while frame is not None:
        files.add(frame.f_code.co_filename)
        frame = user_frame(frame.f_back)
    return any(word in line for file in files for line in linecache.getlines(file))


def describe(code: CodeType, line: int) -> str:
    """``file:line``."""
    return f"{short_path(code.co_filename)}:{line}"
