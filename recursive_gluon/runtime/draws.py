"""Random numbers as a function of (call seed, frame key, stream, position): the same in every executor and order."""
from __future__ import annotations

from typing import Tuple

import numpy as np

from ..program.ir import Random
from ..schedule.keys import mix

__all__ = ["draw"]


def draw(node: Random, seed: int, keys: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of a Random node for frames with `keys`: shape (frames, *shape without the leading 1).

    A counter generator (SplitMix64's finalizer over key and position): no state, so no order. 'dropout' gives 0 or
    1/(1-p), 'uniform' [low, high), 'normal' by Box and Muller.
    """
    shape: Tuple[int, ...] = node.shape[1:] if node.shape[:1] == (1,) else node.shape
    size = int(np.prod(shape, dtype=np.int64))
    base = mix(mix(keys, np.uint64(seed & 0xFFFFFFFFFFFFFFFF)), np.uint64(node.stream + 1))
    uniform = _uniform(base, size, 0)
    if node.kind == "dropout":
        p = float(node.attrs["p"])
        out = (uniform >= p) / (1.0 - p)
    elif node.kind == "uniform":
        low, high = float(node.attrs.get("low", 0)), float(node.attrs.get("high", 1))
        out = low + (high - low) * uniform
    else:
        radius = np.sqrt(-2.0 * np.log1p(-uniform))
        out = radius * np.cos(2.0 * np.pi * _uniform(base, size, size))
        out = float(node.attrs.get("loc", 0)) + float(node.attrs.get("scale", 1)) * out
    return out.astype(dtype).reshape(len(keys), *shape)


def _uniform(base: np.ndarray, size: int, offset: int) -> np.ndarray:
    bits = mix(base[:, None], np.arange(offset, offset + size, dtype=np.uint64)[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * (1.0 / (1 << 53))
