#!/usr/bin/env python3
"""The arithmetic floor: matrix products of one tree / the machine's measured rate of matrix products.

Each library that is here multiplies float32 matrices, in shapes of the models and in a square one: NumPy's, PyTorch's
(environment th), and the one that recursive_gluon's native core found, which multiplies on one thread in each worker.

    python benchmarks/floor.py [--venvs FOLDER] [--threads 2]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPES = ((25, 300, 750), (500, 300, 750), (2000, 300, 750), (1024, 1024, 1024))  # (m, k, n)
WINDOWS, SECONDS = 5, 0.1  # of each shape in each library


def environment(threads):
    """Of a process with so many threads, whatever is set here."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "OPENBLAS_"))}
    return dict(env, OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
                PYTHONWARNINGS="ignore")


def rate(multiply, flops):
    """GFLOP/s: the median of a few windows."""
    for _ in range(5):
        multiply()
    rates = []
    for _ in range(WINDOWS):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            multiply()
            count += 1
        rates.append(flops * count / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def with_numpy(threads):
    import numpy as np

    def of(m, k, n):
        a, b, c = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
        return rate(lambda: np.matmul(a, b, out=c), 2 * m * k * n)
    return f"NumPy {np.__version__}", of


def with_torch(threads):
    import torch
    torch.set_num_threads(threads)

    def of(m, k, n):
        a, b, c = torch.ones(m, k), torch.ones(k, n), torch.empty(m, n)
        return rate(lambda: torch.mm(a, b, out=c), 2 * m * k * n)
    return f"PyTorch {torch.__version__}", of


def with_core(threads):
    """What the core's workers do: each its own product, on one thread."""
    import ctypes

    import numpy as np
    sys.path.insert(0, str(HERE.parent))
    from recursive_gluon import native
    library, multiply = native.library(), None
    if library is None or not hasattr(library, "rg_gemm"):
        raise ImportError("no native core")
    multiply = library.rg_gemm
    multiply.argtypes = [ctypes.c_int32] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 3

    def of(m, k, n):
        found = []

        def work():
            arrays = [np.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n))]
            a, b, c = (x.ctypes.data for x in arrays)
            found.append(rate(lambda: multiply(0, 0, m, n, k, a, b, c), 2 * m * k * n))
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(found)
    return f"recursive_gluon, {native.status().blas}", of


def here(threads, trees):
    """The rates of the libraries of this interpreter, and the work of a tree."""
    rates = {}
    for make in (with_numpy, with_torch, with_core):
        try:
            name, of = make(threads)
        except Exception:  # not in this environment
            continue
        rates[name] = {"x".join(map(str, shape)): round(of(*shape), 1) for shape in SHAPES}
    sys.path.insert(0, str(HERE / "peers"))
    import common
    pool = common.T.make_pool(trees)
    leaves = sum(int((t.left < 0).sum()) for t in pool) / len(pool)
    work = {model: {mode: common.flops_per_tree(model, leaves, leaves - 1, mode == "train") / 1e6
                    for mode in ("train", "infer")} for model in common.DIMS}
    return {"threads": threads, "gflops": rates, "mflop_per_tree": work}


def measure(venvs, threads, trees="sst"):
    """The rates of all libraries of this interpreter and of PyTorch's, each in a process of its own."""
    found = None
    for python in (sys.executable, str(venvs / "th" / "bin" / "python")):
        if not Path(python).exists():
            continue
        done = subprocess.run([python, __file__, "--here", "--threads", str(threads), "--trees", trees],
                              env=environment(threads), capture_output=True, text=True)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}
        result = json.loads(done.stdout.splitlines()[-1])
        if found is None:
            found = result
        found["gflops"].update({k: v for k, v in result["gflops"].items() if k not in found["gflops"]})
    return found


def medians(found):
    """{(library, shape, threads): GFLOP/s}, medians over the repeats."""
    every = {}
    for result in found:
        for library, shapes in result.get("gflops", {}).items():
            for shape, gflops in shapes.items():
                every.setdefault((library, shape, result["threads"]), []).append(gflops)
    return {key: statistics.median(rates) for key, rates in every.items()}


def best(found):
    """(library, shape, threads, GFLOP/s) of the highest rate."""
    rates = medians(found)
    key = max(rates, key=rates.get)
    return (*key, rates[key])


def table(found):
    rates = medians(found)
    shapes = list(dict.fromkeys(shape for _, shape, _ in rates))
    lines = ["| GFLOP/s | threads | " + " | ".join(shapes) + " |", "|---" * (2 + len(shapes)) + "|"]
    for library, threads in dict.fromkeys((library, threads) for library, _, threads in rates):
        lines.append(f"| {library} | {threads} | "
                     + " | ".join(f"{rates[library, shape, threads]:.0f}" for shape in shapes) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, default=os.environ.get("PEER_VENVS") or HERE / "peers" / "venvs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--trees", default="sst")
    parser.add_argument("--here", action="store_true", help="this interpreter only, as JSON")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(here(args.threads, args.trees)))
        return
    found = measure(Path(args.venvs), args.threads, args.trees)
    if "error" in found:
        sys.exit(found["error"])
    library, shape, threads, gflops = best([found])
    print(table([found]))
    print(f"the best: {gflops:.0f} GFLOP/s, {library}, {shape}, {threads} threads")
    for model, modes in found["mflop_per_tree"].items():
        for mode, mflop in modes.items():
            print(f"{model}, {mode}: {mflop:.2f} MFLOP a tree, at most {gflops * 1e3 / mflop:,.0f} trees/s")


if __name__ == "__main__":
    main()
