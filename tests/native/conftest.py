"""What the tests of the native core share."""
import pytest

from recursive_gluon.runtime.core import binding


@pytest.fixture
def workers():
    """Sets the number of workers; as before afterwards."""
    lib = binding.core()
    before = lib.rg_workers(0)
    yield lib.rg_workers
    lib.rg_workers(before)
