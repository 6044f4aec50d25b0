"""What an executor is: something that runs a Program on a forest, and then its gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..program.ir import Program
from ..structure import Structure

__all__ = ["Call", "Result", "NODES", "ROOTS"]

#: which values of the root function are returned
ROOTS, NODES = "roots", "nodes"


@dataclass
class Call:
    """One call of a Program.

    Parameters
    ----------
    program : Program
        As traced (not specialised).
    structure : Structure
        Of the forest.
    fields : mapping of str to NDArray
        Rows in node order.
    args : sequence of NDArray
        Tensors passed to the roots, a row a tree.
    ints : tuple of int
        Integers passed to every root.
    params : mapping of str to NDArray
        Parameters and auxiliary states.
    train : bool
        Mode of Dropout and BatchNorm.
    keep : bool
        Whether a gradient may be asked for.
    seed : int
        Of the random numbers of this call.
    returns : str
        ROOTS or NODES.
    max_nodes : int
        For a structure that grows: outputs at all frames of a tree, padded to this number; 0 otherwise.
    max_depth : int
        Calls nested deeper raise DepthLimitError.
    packed : bytes
        The packed structure, by which a schedule that was made ahead is found; empty: none was.
    """

    program: Program
    structure: Structure
    fields: Mapping[str, Any]
    params: Mapping[str, Any]
    ctx: Any
    args: Sequence[Any] = ()
    ints: Tuple[int, ...] = ()
    train: bool = False
    keep: bool = False
    seed: int = 0
    returns: str = ROOTS
    max_nodes: int = 0
    max_depth: int = 10_000
    packed: bytes = b""


@dataclass
class Result:
    """What a call returned, and what its gradient needs. ``count``: frames of each tree (grown structures)."""

    outputs: List[Any]
    count: Optional[Any] = None
    statistics: Dict[str, Any] = field(default_factory=dict)

    def backward(self, ograds: Sequence[Any]) -> "Gradients":
        """Gradients of everything that the call read."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop what was kept for the gradient."""


@dataclass
class Gradients:
    """Gradients by name (parameters, fields) and position (arguments); None is zero. `states` are new values of
    auxiliary states."""

    params: Dict[str, Any] = field(default_factory=dict)
    fields: Dict[str, Any] = field(default_factory=dict)
    args: List[Any] = field(default_factory=list)
    states: Dict[str, Any] = field(default_factory=dict)


__all__.append("Gradients")
