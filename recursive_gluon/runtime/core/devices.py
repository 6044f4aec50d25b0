"""Where a block's own calls run in the core: workers or lanes of the processor, or lanes of a GPU."""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from typing import Optional, Tuple

from ... import native
from ...errors import NativeCoreWarning
from ..executor import Call
from .binding import Recompute, core, reported
from .programs import WORKERS, Lanes, outside, why_not

__all__ = ["lanes_for"]

#: of a GPU, where the user has not said how many
_LANES = 4


def lanes_for(call: Call, number: int, recompute: Recompute) -> Tuple[Lanes, str]:
    """What such calls are given to; and why the core cannot run them, empty where it can."""
    if call.ctx.device_type != "gpu":
        return Lanes(number), why_not(call)
    why = outside(call)
    if not why and recompute:
        why = f"it runs on {call.ctx}, and recompute={recompute} is for processors"
    if why:
        return WORKERS, why
    device = call.ctx.device_id
    library, why = _gpu(device, number or _LANES)
    if library is None:
        return WORKERS, f"it runs on {call.ctx}, and {why}"
    return Lanes(number or _LANES, library, device), ""


@lru_cache(maxsize=None)
def _gpu(device: int, number: int) -> Tuple[Optional[bytes], str]:
    """The library of a backend that works on a device, or None and why not, after one warning."""
    try:
        built = native.build_cuda()
        native.open_cuda(built)
    except (native.BuildError, OSError) as error:
        why = f"there is no CUDA backend: {error}"
    else:
        lib, library = core(), os.fsencode(str(built.path))
        assert lib is not None
        if lib.rg_try_lanes(library, device, number) == 0:
            return library, ""
        why = f"the CUDA backend does not work there: {reported()}"
    if os.environ.get("RECURSIVE_GLUON_CUDA", "") != "0":
        warnings.warn(NativeCoreWarning(
            f"{why}. Programs on gpu({device}) run on the mxnet executor, which is slower; RECURSIVE_GLUON_CUDA=0 says "
            f"that this is meant"), stacklevel=2)
    return None, why
