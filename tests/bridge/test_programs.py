"""The whole programs run and repeat themselves unconverted."""
import sys
from pathlib import Path

import pytest
from cases import Case
from observe import compare, identity, observe

sys.path.append(str(Path(__file__).resolve().parents[2]))
from benchmarks.programs import PROGRAMS, running  # noqa: E402


@pytest.mark.parametrize("name", PROGRAMS)
def test_unconverted_twice_is_equal(name):
    case = Case(0, name, running(name))
    first = observe(case, identity)
    assert len(first) == 12 and "raised" not in first[-1], first[-1]
    assert compare(first, observe(case, identity)) == ("right", "")
