"""Random programs run, repeat themselves, and use what they are there for."""
import ast

import pytest
from observe import compare, identity, observe
from random_programs import STEPS, Writer, program

from recursive_gluon._compat import mx

SEEDS = range(10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("late", [False, True], ids=["each step", "late"])
def test_unconverted_twice_is_equal(seed, late):
    print(f"the random program of seed {seed}\n{Writer(seed).source}")
    case = program(seed)
    first = observe(case, identity, late)
    assert len(first) == STEPS and "raised" not in first[-1]
    assert compare(first, observe(case, identity, late)) == ("right", "")


def test_the_same_seed_gives_the_same_text():
    assert Writer(3).source == Writer(3).source != Writer(4).source


def test_all_features_occur():
    kinds = {type(node) for seed in SEEDS for node in ast.walk(ast.parse(Writer(seed).source))}
    wanted = {ast.If, ast.While, ast.For, ast.Break, ast.Continue, ast.Try, ast.Raise, ast.With, ast.Yield, ast.Dict,
              ast.List, ast.AugAssign, ast.FunctionDef, ast.Slice, ast.JoinedStr}
    assert {kind.__name__ for kind in wanted - kinds} == set()


def test_most_steps_succeed():
    """A program that only fails would show nothing."""
    steps = [step for seed in SEEDS for step in observe(program(seed), identity)]
    failed = sum(type(step["shown"][0]).__name__ == "Raised" for step in steps)
    assert failed < 0.2 * len(steps)
    assert all(not step["recording"] for step in steps) and not mx.autograd.is_recording()
