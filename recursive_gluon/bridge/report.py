"""What a converted program did: in numbers while it runs, and told to people afterwards."""
from __future__ import annotations

import html
import json
from collections import Counter, deque
from dataclasses import asdict, dataclass
from time import perf_counter
from types import FrameType
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple

from ..capture.locations import describe, user_frame
from ..capture.records import Record

__all__ = ["ConversionReport", "Report", "break_record"]

_CALLS = 16  # the calls that tell how a program runs by now

class Report:
    """Counts while a program runs."""

    def __init__(self) -> None:
        self.calls = self.eager = self.replayed = self.graphs = self.ahead = self.diverged = 0
        self.stacked = self.stacks = 0
        self.total = self.launching = self.waiting = 0.0
        self._launches: Dict[Tuple[str, int, int], List[Any]] = {}  # count and place; a place keeps its code alive
        self._recent: Deque[Tuple[int, int, int]] = deque(maxlen=_CALLS)
        self._before = (0, 0, 0)
        self._entered = 0.0

    def enter(self) -> None:
        """A call of the program begins; what ran since the last one began was of that one."""
        now = (self.graphs, self.replayed, self.eager)
        if self.calls:
            self._recent.append(_less(now, self._before))
        self._before = now
        self.calls += 1
        self._entered = perf_counter()

    def leave(self) -> None:
        self.total += perf_counter() - self._entered
        self._entered = 0.0

    def launched(self, seconds: float) -> None:
        """Work was launched; what a call left to be launched later counts as time of the program too."""
        self.launching += seconds
        if not self._entered:
            self.total += seconds

    def ran(self, steps: Sequence[Tuple[Any, Any]]) -> None:
        """Pieces were run: from their graphs, or replayed where they have none."""
        for piece, segment in steps:
            if segment is None:
                self.replayed += len(piece.ops)
            else:
                self.graphs += len(piece.ops)

    def launch(self, why: str, frame: Optional[FrameType]) -> None:
        frame = user_frame(frame)
        key = (why, 0, 0) if frame is None else (why, id(frame.f_code), frame.f_lasti)
        found = self._launches.get(key)
        if found is None:
            found = self._launches[key] = [0, "" if frame is None else (frame.f_code, frame.f_lineno)]
        found[0] += 1

    @property
    def launches(self) -> Counter:
        """How often there was a launch, by why and where."""
        counts: Counter = Counter()
        for (why, _, _), (count, place) in self._launches.items():
            counts[why, place] += count
        return counts

    def recent(self) -> Tuple[int, int, int]:
        """Operators of the last calls: from graphs, replayed, run by themselves."""
        calls = [*self._recent, _less((self.graphs, self.replayed, self.eager), self._before)]
        return sum(c[0] for c in calls), sum(c[1] for c in calls), sum(c[2] for c in calls)


def _less(a: Tuple[int, int, int], b: Tuple[int, int, int]) -> Tuple[int, int, int]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@dataclass(frozen=True)
class ConversionReport:
    """How a converted program has run; ``str()`` and `to_html` for people, ``to_json`` for programs.

    Attributes
    ----------
    calls, operators : int
        Calls of the program, and operator calls in them.
    fraction : float
        Of the operators of the last calls, the part that ran from graphs.
    segments, captures, recaptures : int
        Graphs that are kept; graphs that were made; how often a settled program did something new.
    nodes, forks, traces : int
        Of the trace graph.
    ahead, diverged : int
        Launches ahead of Python, and those of them that Python did not follow.
    seconds : dict
        'total' in the program, of which 'launching' graphs and 'waiting' for values; the rest is Python.
    breaks : tuple of (Record, int)
        Why work was launched, where, and how often.
    """

    name: str
    calls: int
    operators: int
    fraction: float
    segments: int
    captures: int
    recaptures: int
    nodes: int
    forks: int
    traces: int
    ahead: int
    diverged: int
    twice: bool
    seconds: Dict[str, float]
    breaks: Tuple[Tuple[Record, int], ...]

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "breaks": [{**asdict(r), "times": n} for r, n in self.breaks]}, indent=1,
                          sort_keys=True)

    def rows(self) -> List[Tuple[str, str]]:
        """What is told, as names and texts."""
        total = self.seconds["total"]
        parts = {"Python": total - self.seconds["launching"] - self.seconds["waiting"],
                 **{k: self.seconds[k] for k in ("launching", "waiting")}}
        share = ", ".join(f"{name} {1e3 * value:.1f} ms ({value / (total or 1):.0%})" for name, value in parts.items())
        return [
            ("calls", f"{self.calls}, {self.operators} operators"),
            ("from graphs", f"{self.fraction:.1%} of the operators of the last calls"),
            ("segments", f"{self.segments} kept, {self.captures} compiled; {self.recaptures} times something new "
                         "after the program had settled"),
            ("trace graph", f"{self.nodes} operators at their places, {self.forks} forks, of {self.traces} traces"),
            ("ahead", f"{self.ahead} launches before Python had got there, {self.diverged} dropped because it went "
                      "another way"),
            ("time", share if total else "none"),
            *([("gradients", "differentiated again: calls under record() are replayed, not from graphs")]
              if self.twice else []),
        ]

    def __str__(self) -> str:
        lines = [f"{self.name}: its operators from graphs, its Python kept"]
        lines += [f"  {name:<12}{text}" for name, text in self.rows()]
        lines += ["", "  launched because"] + [f"    {count:6}x {record}" for record, count in self.breaks]
        return "\n".join(lines) + "\n"

    def to_html(self) -> str:
        """A page of its own."""
        rows = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in self.rows())
        breaks = "".join(
            f"<tr><td>{count}</td><td>{html.escape(r.where)}</td><td>{html.escape(r.kind)}</td>"
            f"<td>{html.escape(r.seen)}</td><td>{html.escape(r.hint)}</td></tr>" for r, count in self.breaks)
        return (
            f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(self.name)}</title><style>"
            "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:2em}"
            "td,th{text-align:left;padding:.2em .8em;border-bottom:1px solid #ddd}</style></head><body>"
            f"<h1>{html.escape(self.name)}</h1><table>{rows}</table>"
            "<table><tr><th>times</th><th>where</th><th>kind</th><th>seen</th><th>hint</th></tr>"
            f"{breaks}</table></body></html>\n")


_TOLD = {
    "asnumpy": ("read", "the value is read", "what follows is put off again; read later, or several values at once"),
    "a write": ("write", "an array is written in place", "a new array (x = x + 1, concat, where) stays in the graph"),
    "MXNDArraySyncCopyFromCPU": ("write", "NumPy values are copied into an array", ""),
    "MXAutogradBackwardEx": ("gradient", "a gradient is computed", ""),
    "MXAutogradMarkVariables": ("gradient", "a gradient is attached", ""),
    "MXCustomFunctionRecord": ("function", "an autograd.Function is called", "it runs as it is"),
    "MXInvokeCachedOpEx": ("child", "a hybridized block is called", "it is a graph by itself; left unhybridized "
                           "it would be joined"),
    "MXNDArrayWaitAll": ("read", "everything is waited for", ""),
    "MXRandomSeed": ("seed", "the random generator is seeded", ""),
    "the end of the call": ("end", "the call ends", ""),
    "another device": ("device", "an operator on another context", "what runs on one context is launched together"),
}


def break_record(why: str, place: Any) -> Record:
    """A reason for launching, in words."""
    where = "" if not place else describe(*place)
    if why in _TOLD:
        kind, seen, hint = _TOLD[why]
    elif why.endswith("met for the first time"):
        kind, seen, hint = "first", why, "with inputs of these shapes; from then on it is put off"
    elif why.endswith("not put off"):
        kind, seen, hint = "operator", why, "it writes, its shape depends on values, or no graph can hold it"
    elif "turned" in why:
        kind, seen, hint = "mode", why, ""
    else:
        kind, seen, hint = "use", f"{why} needs the array", ""
    return Record(kind, where, seen, hint)
