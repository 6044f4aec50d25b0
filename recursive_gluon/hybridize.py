"""hybridize(): graph speed for any Gluon program, with its Python kept."""
from __future__ import annotations

from typing import Any

from .block import RecursiveBlock
from .bridge.convert import convert, restore
from .errors import ConversionError

__all__ = ["hybridize"]


def hybridize(program: Any, active: bool = True, **kwargs: Any) -> Any:
    """Have the operators of a Gluon program run from graphs.

    The Python of the program runs as it always did, at every call. Its operators are put off: they return arrays whose
    shape, type and context are known, and run together, as graphs made of what earlier calls did, when a value is asked
    for. Where Python goes another way than before, what it did so far is computed and the new way is learned. What an
    unconverted program shows (outputs, gradients, state, printed text, exceptions, random numbers) is what is shown.

    Parameters
    ----------
    program : gluon.Block or function
        A block is changed in place: calling it or its public methods runs the converted program. A RecursiveBlock is
        hybridized as one. Of a function (a training step, say) a converted one is returned.
    active : bool, default True
        False gives the program as it was.
    **kwargs
        What ``HybridBlock.hybridize`` takes; used for a RecursiveBlock, elsewhere there is nothing to choose.

    Returns
    -------
    gluon.Block or function
        `program` itself if it is a block.

    Examples
    --------
    >>> net = rg.hybridize(net)
    >>> with autograd.record():
    ...     loss = loss_function(net(x), y)
    >>> loss.backward()
    >>> print(rg.explain(net))

    Notes
    -----
    The idea is Terra's (NeurIPS 2021): imperative-symbolic co-execution. ``type(x) is mx.nd.NDArray`` is False for an
    array that is not computed yet; ``==`` and ``isinstance`` hold.
    """
    if isinstance(program, RecursiveBlock):
        program.hybridize(active, **kwargs)
        return program
    if not callable(program):
        raise ConversionError(f"hybridize() takes a gluon.Block or a function, and got {type(program).__name__}")
    return convert(program) if active else restore(program)
