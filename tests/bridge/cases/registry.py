"""The cases by number, and the decorator that adds one."""
from dataclasses import dataclass
from typing import Callable, Dict

CASES: Dict[int, "Case"] = {}


@dataclass(frozen=True)
class Case:
    """A program to convert: `program(convert)` is a generator that yields what is to be compared after each step."""

    number: int
    name: str
    program: Callable

    def __str__(self):
        return f"{self.number} {self.name}"


def case(number, name):
    """Add the decorated generator function to CASES."""
    def add(program):
        assert number not in CASES, f"two cases with number {number}"
        CASES[number] = Case(number, name, program)
        return program
    return add
