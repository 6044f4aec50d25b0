"""A run of the native core as a Chrome trace: what ran when on which worker or lane."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from ._compat import mx
from .block import RecursiveBlock
from .errors import NativeCoreError, TraceError
from .runtime.core.devices import lanes_for
from .runtime.core.executor import NativeRun
from .runtime.core.scheduling import batches_of, spans_of
from .runtime.executor import NODES, ROOTS

__all__ = ["trace"]

_BACKWARD = 1000


def trace(net: RecursiveBlock, forest: Any, file: str, *args: Any, train: bool = True, nodes: bool = False) -> None:
    """Run `net` once on the native core and write what its workers did, or its lanes: a row each.

    Parameters
    ----------
    net : RecursiveBlock
        Hybridized, and called once before.
    forest : Forest, list of trees, or a tree
    file : str
        Where to write; opens in Perfetto (ui.perfetto.dev) or chrome://tracing. Times are in microseconds.
    *args
        Further arguments of the call.
    train : bool, default True
        With the gradient, in training mode.
    nodes : bool, default False
        As in ``net(forest, nodes=True)``.

    Raises
    ------
    NativeCoreError
        The core cannot run this program; the message says why.
    """
    if not isinstance(net, RecursiveBlock):
        raise TraceError(f"trace() runs a RecursiveBlock, got {type(net).__name__}")
    _, call = net._prepare(forest, args, train, NODES if nodes else ROOTS)
    lanes, why = lanes_for(call, net._lanes, net._recompute)
    if why:
        raise NativeCoreError(f"{net.name}: the core cannot run this: {why}")
    with call.ctx:
        run = NativeRun(call, net._recompute, trace=True, lanes=lanes)
        run.forward(hold=True)
        if call.keep:
            run.backward([mx.nd.ones(o.shape, dtype=o.dtype) for o in run.outputs])
    with open(file, "w", encoding="utf-8") as out:
        json.dump({"traceEvents": _events(run, "lane" if lanes.number else "worker"), "displayTimeUnit": "ns"}, out)
    run.release()


def _events(run: NativeRun, who: str) -> List[Dict[str, Any]]:
    core, encoded, recipe = run.run, run.program.encoded, run.code.recipe
    spans, batches = spans_of(core), batches_of(core)
    first = int(spans[:, 3].min()) if len(spans) else 0
    events: List[Dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": worker, "args": {"name": f"{who} {worker}"}}
        for worker in sorted(set(spans[:, 2].tolist()))
    ]
    for number, step, worker, begin, end in spans.tolist():
        event = {"ph": "X", "pid": 0, "tid": worker, "ts": (begin - first) / 1e3, "dur": (end - begin) / 1e3}
        if number < 0:
            segment = recipe.segments[-1 - number]
            event.update(name=f"sums of {segment.function}", cat="sums", args={})
        else:
            batch = batches[number]
            segment, code = recipe.segments[batch.segment], encoded.segments[batch.segment]
            backward = step >= _BACKWARD
            instrs = code.backward if backward else code.forward
            at = step - _BACKWARD if backward else step
            what = instrs[at].code if at < len(instrs) else "recompute"
            event.update(name=f"{segment.function}/{recipe.blocks[segment.block].path} {what}",
                         cat="backward" if backward else "forward",
                         args={"batch": number, "segment": batch.segment, "level": batch.level, "shard": batch.shard,
                               "rows": batch.rows, "round": batch.round})
        events.append(event)
    return events
