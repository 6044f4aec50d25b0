"""What goes wrong while frames are found: the errors, and the call path that they name."""
from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from .. import errors
from ..errors import MaxNodesError, RecursiveGluonError, TraceError, UnseenPath
from ..program.ir import ForEach, Raise

__all__ = ["Unseen", "call_path", "call_step", "check_count", "deciding", "endless", "raised"]


class Unseen(RecursiveGluonError):
    """Frames took an arm that does not exist. Caught by whoever can trace it; else it becomes UnseenPath.

    `block` says where (its ``function`` and ``path``), `answer` which arm.
    """

    def __init__(self, block, answer, message: str):
        super().__init__(message)
        self.block, self.answer = block, answer

    def as_error(self) -> UnseenPath:
        """The user's error, where nobody can trace the path."""
        return UnseenPath(f"{self}; call the net on such data before export()")


def call_path(function: str, steps: List[str], limit: int = 12) -> str:
    """How a frame of `function` was reached; `steps` lead from it to the root."""
    return f"{function}[{'root' if len(steps) <= limit else '...'}{''.join(reversed(steps[:limit]))}]"


def raised(end: Raise, path: str) -> RecursiveGluonError:
    """The error of a path on which the body raises: what it raised where that is ours, else a TraceError."""
    kind: Any = getattr(errors, end.kind, None)
    ours = isinstance(kind, type) and issubclass(kind, RecursiveGluonError)
    return (kind if ours else TraceError)(f"{path}: the body raises {end.kind} at {end.where}: {end.message}")


def endless(path: str) -> str:
    """What is wrong with a frame that waits for itself."""
    return (
        f"{path}: waits for a call on the same node with the same integers as a call that it is part of, which is "
        f"the same call, so it could never return; is there a base case, and does every call come nearer to it?"
    )


def call_step(node) -> str:
    """A call's step in a call path."""
    if isinstance(node, ForEach):
        return ".children[*]"
    text = str(node.node)
    for plain, short in ((".child(0)", ".left"), (".child(1)", ".right")):
        text = text.replace(plain, short)
    return text[len("node") :] if text.startswith("node") else ""


def check_count(counts: Sequence[int], most: int) -> None:
    """Refuse trees that grew larger than was declared."""
    largest = max(range(len(counts)), key=lambda tree: counts[tree])
    if counts[largest] > most:
        raise MaxNodesError(
            f"tree {largest} grew to {int(counts[largest])} nodes, declared were max_nodes={most}; declare more, or "
            f"stop the growth at a depth"
        )


def deciding(name: str, values: np.ndarray) -> np.ndarray:
    """The values of a field that decides: one number a node, as NDArray asks for it too."""
    if values.size != len(values):
        raise TraceError(
            f"field {name!r} decides, and its rows have the shape {values.shape[1:]}: the truth of several elements is "
            f"ambiguous; decide on a field of single numbers, or reduce the row to one element first"
        )
    return values.reshape(-1)
