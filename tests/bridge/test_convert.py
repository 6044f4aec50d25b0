"""What a converted program does is seen: nothing passes by what was put off, and all operators are counted."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES

AUDIT = Path(__file__).with_name("audit.py")  # not imported: it would watch this process


@pytest.fixture(scope="module")
def told():
    process = subprocess.run([sys.executable, str(AUDIT), *map(str, sorted(CASES))], text=True, capture_output=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_nothing_passes_by_what_was_put_off(told):
    assert {number: one["past"] for number, one in told.items() if one["past"]} == {}


def test_every_operator_that_runs_by_itself_is_counted(told):
    """Each is one that was put off and then replayed, or ran at once, or is no part of a program."""
    ran = {number: one["seen"].get("MXImperativeInvokeEx program", 0) for number, one in told.items()}
    assert ran == {number: one["eager"] for number, one in told.items()}
    # A launch also runs what was launched ahead for nothing, and what stacking and views add.
    few = {number: one for number, one in told.items()
           if one["seen"].get("MXImperativeInvokeEx launch", 0) < one["replayed"]}
    assert few == {}


def test_the_spies_see_what_there_is_to_see(told):
    seen = set().union(*(one["seen"] for one in told.values()))
    assert {f"{name} outside" for name in ("MXAutogradBackwardEx", "MXNDArraySyncCopyFromCPU", "MXRandomSeed")} <= seen
    assert {f"MXImperativeInvokeEx {where}" for where in ("launch", "program", "outside")} <= seen
    assert sum(one["graphs"] for one in told.values()) > sum(one["replayed"] for one in told.values())
