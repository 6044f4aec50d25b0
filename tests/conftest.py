"""What every test gets: its seeds, and Hypothesis settings that repeat."""
import os
import random

import numpy as np
import pytest
from hypothesis import settings

from recursive_gluon._compat import mx

DEFAULT_SEED = 20180423

# 'ci' says the same thing every time; HYPOTHESIS_PROFILE=explore looks for new trouble.
# No deadline: the first call of an operator takes long for reasons of its own.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def function_scope_seed(request):
    """Seed Python, NumPy and MXNet, from @pytest.mark.seed(n), MXNET_TEST_SEED or the default."""
    marker = request.node.get_closest_marker("seed")
    seed = marker.args[0] if marker else int(os.environ.get("MXNET_TEST_SEED", DEFAULT_SEED))
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
    # pytest shows the sections of a report only where the test failed.
    request.node.add_report_section("setup", "seed", f"to repeat: MXNET_TEST_SEED={seed}")
    return seed


def pytest_collection_modifyitems(items):
    gpu = [item for item in items if any(mark.kwargs.get("mxnet", True) for mark in item.iter_markers("gpu"))]
    if gpu and mx.context.num_gpus() == 0:
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="MXNet sees no GPU"))
