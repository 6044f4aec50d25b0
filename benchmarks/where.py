#!/usr/bin/env python3
"""Where a step of recursive_gluon spends its time: parts of the step, and kernels by kind.

The parts are timed with MXNet's engine at rest in between, so that they add up to more than a step of a loop, where
they overlap. Kernels are timed in a traced run of the core: the sum over its workers.

    python benchmarks/where.py --model treelstm --batch 25 [--threads 2]
"""
import collections
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]
import common  # noqa: E402
import peer_rg  # noqa: E402  reads the command line, sets the threads
from mxnet import autograd, nd  # noqa: E402

from recursive_gluon.runtime.core.executor import NativeRun  # noqa: E402
from recursive_gluon.runtime.core.scheduling import batches_of, spans_of  # noqa: E402

KINDS = {"gemm": "matrix products", "gemm_rows": "matrix products", "ew": "element-wise"}
STEPS = 100
args = peer_rg.args


def parts(peer, batches):
    """{part: median microseconds}"""
    times = collections.defaultdict(list)

    def lap(name, start):
        nd.waitall()
        times[name].append((time.perf_counter() - start) * 1e6)

    for step in range(STEPS + 5):
        trees = batches[step % len(batches)]
        start = time.perf_counter()
        forest = peer.forest(trees)
        lap("Forest", start)
        with autograd.record():
            start = time.perf_counter()
            logits = peer.net(forest, nodes=True, only=-1)
            lap("call", start)
            start = time.perf_counter()
            loss = nd.softmax_cross_entropy(logits, forest["label"])
            lap("loss", start)
        start = time.perf_counter()
        loss.backward()
        lap("backward", start)
        start = time.perf_counter()
        peer.trainer.step(len(trees))
        lap("update", start)
        start = time.perf_counter()
        peer.infer(trees)
        lap("inference", start)
    return {name: statistics.median(found[5:]) for name, found in times.items()}


def kernels(peer, batches):
    """{(phase, kind): median microseconds of all workers}, of a run that keeps what its gradient needs."""
    found = collections.defaultdict(list)
    for trees in batches[:20]:
        _, call = peer.net._prepare(peer.forest(trees), (), True, "nodes")
        run = NativeRun(call, trace=True)
        outputs = run.forward().outputs
        run.backward([nd.ones(o.shape) for o in outputs])
        segments, batches_run, total = run.program.encoded.segments, batches_of(run.run), collections.Counter()
        for number, step, _, begin, end in spans_of(run.run).tolist():
            if step >= 2000:
                phase, kind = "backward", "matrix products"  # sums over all rows: gradients of matrices, most of all
            else:
                segment = segments[batches_run[number].segment]
                code = segment.backward[step - 1000] if step >= 1000 else segment.forward[step]
                phase = "backward" if step >= 1000 else "forward"
                kind = KINDS.get(code.code, "other kernels")
                if kind == "element-wise" and not code.ops:
                    kind = "gathering"
            total[phase, kind] += (end - begin) / 1e3
        for key, value in total.items():
            found[key].append(value)
        run.release()
    return {key: statistics.median(values) for key, values in sorted(found.items())}


def main():
    pool, batches = common.batches(args)
    peer = peer_rg.Peer(args.model, common.make_params(args.model), args.lr, args)
    peer.dataset(pool)
    for trees in batches[:20]:
        peer.train_step(trees)
    peer.sync()
    print(f"{args.model}, batch {args.batch}, {args.threads} workers: microseconds of a step")
    print("parts: " + ", ".join(f"{name} {value:.0f}" for name, value in parts(peer, batches).items()))
    print("kernels, all workers: " + ", ".join(f"{phase} {kind} {value:.0f}"
                                               for (phase, kind), value in kernels(peer, batches).items()))


if __name__ == "__main__":
    main()
