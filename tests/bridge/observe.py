"""What a program shows: outputs, state, text, errors and random states, as plain values that can be compared."""
import contextlib
import hashlib
import io
import pickle
import random
import re
import warnings
from dataclasses import dataclass
from typing import Optional

import numpy as np

from recursive_gluon._compat import mx

SEED = 20210422
# Floats are compared by norm: a graph may sum in another order. What is smaller than this in every entry is noise.
TOLERANCE = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}
NOISE = 1e-2  # times the tolerance, an entry
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class Array:
    """An NDArray as it was; `kind` is its interface or its storage."""

    kind: str
    ctx: str
    value: np.ndarray


@dataclass(frozen=True)
class Raised:
    """An exception. MXNet's own come late and carry a C++ trace, so of those only the type counts."""

    kind: str
    text: Optional[str]


def identity(program):
    """The converter that changes nothing: unchanged imperative MXNet."""
    return program


def stock(program):
    """The converter that MXNet has."""
    if isinstance(program, mx.gluon.Block):
        program.hybridize()
    return program


def raised(error):
    kind = type(error).__name__
    return Raised(kind, None if isinstance(error, mx.base.MXNetError) else ADDRESS.sub("0x", str(error)))


def frozen(value):
    """A copy in plain values, of anything that a case yields."""
    if isinstance(value, mx.nd.NDArray):
        kind = "np" if isinstance(value, mx.np.ndarray) else value.stype
        try:
            return Array(kind, str(value.ctx), np.array(value.asnumpy()))
        except mx.base.MXNetError as error:  # an operator that failed is noticed here
            return raised(error)
    if isinstance(value, BaseException):
        return raised(value)
    if isinstance(value, dict):
        return {str(key): frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(frozen(item) for item in value)
    if isinstance(value, np.ndarray):
        return np.array(value)
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return value
    return f"a {type(value).__name__}"  # a Symbol, where a converter let one out


def digest(state):
    return hashlib.sha1(pickle.dumps(state)).hexdigest()


def probe():
    """The state of every random generator. MXNet cannot say its own, so a draw of each kind stands for it."""
    return {"draw": mx.nd.random.uniform(shape=(2,)), "shuffle": mx.nd.shuffle(mx.nd.arange(8)),
            "Python's generator": digest(random.getstate()), "NumPy's generator": digest(np.random.get_state())}


def modes():
    return {"recording": mx.autograd.is_recording(), "training": mx.autograd.is_training(),
            "np shape": mx.util.is_np_shape(), "np array": mx.util.is_np_array(),
            "ctx": str(mx.context.current_context())}


def observe(case, convert, late=False, seed=SEED):
    """Run a case, and list what it shows after each step.

    Parameters
    ----------
    case : Case
        The program.
    convert : callable
        What the case calls with its net or function: `identity`, `stock`, or a converter under test.
    late : bool, default False
        Read nothing before the last step, so that all steps may be under way at once. Both runs must be late then.

    Returns
    -------
    list of dict
        One dict a step: what was yielded, what was printed, a probe of the random generators, MXNet's modes. An
        exception that left the case is the last step.
    """
    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
    steps, text = [], io.StringIO()
    # Names of blocks count from zero, so that the parameters of two runs have the same ones.
    with mx.name.NameManager(), warnings.catch_warnings(), contextlib.redirect_stdout(text):
        warnings.simplefilter("ignore")
        running = case.program(convert)
        while True:
            try:
                shown = next(running)
            except StopIteration:
                break
            except BaseException as error:
                steps.append({"raised": error if late else raised(error)})
                break
            step = {"shown": shown, "printed": text.getvalue(), **probe(), **modes()}
            text.seek(0)
            text.truncate()
            steps.append(step if late else frozen(step))
        return frozen(steps) if late else steps


def close(a, b, loose=1):
    tolerance = TOLERANCE.get(str(a.dtype))
    if tolerance is None:
        return np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return False
    a, b = a[finite], b[finite]
    return np.linalg.norm(a - b) <= loose * tolerance * max(np.linalg.norm(a), NOISE * np.sqrt(a.size))


def short(value):
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def difference(expected, seen, where="", exact=False, loose=1):
    """The first difference in words, or None.

    Integers, text, shapes, types, contexts and random draws must be equal; floats must be close, within `loose` times
    the tolerance.
    """
    if type(expected) is not type(seen):
        return f"{where}: {short(seen)} instead of {short(expected)}"
    if isinstance(expected, (list, tuple)):
        for i, (a, b) in enumerate(zip(expected, seen)):
            found = difference(a, b, f"{where}[{i}]", exact, loose)
            if found:
                return found
        return None if len(expected) == len(seen) else f"{where}: {len(seen)} items instead of {len(expected)}"
    if isinstance(expected, dict):
        for key in expected:
            if key in seen:
                drawn = key in ("draw", "shuffle")
                found = difference(expected[key], seen[key], f"{where}[{key}]", exact or drawn, loose)
                if found:
                    return found
        return None if list(expected) == list(seen) else f"{where}: keys {list(seen)} instead of {list(expected)}"
    if isinstance(expected, Array):
        if (expected.kind, expected.ctx) != (seen.kind, seen.ctx):
            return f"{where}: {seen.kind} on {seen.ctx} instead of {expected.kind} on {expected.ctx}"
        return difference(expected.value, seen.value, where, exact, loose)
    if isinstance(expected, np.ndarray):
        a, b = f"{expected.dtype} {expected.shape}", f"{seen.dtype} {seen.shape}"
        if a != b:
            return f"{where}: {b} instead of {a}"
        same = np.array_equal(expected, seen) if exact else close(expected, seen, loose)
    elif isinstance(expected, (float, np.floating)):
        dtype = expected.dtype if isinstance(expected, np.floating) else "float32"  # most came from an array
        same = close(np.asarray(expected, dtype), np.asarray(seen, dtype), loose)
    else:
        same = expected == seen
    return None if same else f"{where}: {short(seen)} instead of {short(expected)}"


def compare(expected, seen):
    """The first difference between two runs, as (verdict, words).

    The verdict is 'right', 'raises' where the seen run met an exception that the expected one did not, or 'WRONG'.
    """
    for number, (a, b) in enumerate(zip(expected, seen)):
        if "raised" in b and "raised" not in a:
            return "raises", f"step {number}: {b['raised']}"
        found = difference(a, b, f"step {number} ")
        if found:
            return "raises" if "Raised(" in found.split("instead of")[0] else "WRONG", found
    if len(expected) != len(seen):
        return "WRONG", f"{len(seen)} steps instead of {len(expected)}"
    return "right", ""
