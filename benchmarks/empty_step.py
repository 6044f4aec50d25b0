#!/usr/bin/env python3
"""What a step of recursive_gluon costs beside an empty one: one tree a step, the loop that Gluon's users write.

In the empty step the recursive call does nothing: it makes outputs of the same shapes, and records a function on the
same parameters whose gradient is a C function that returns at once. Two of them: "empty" leaves the embedding's sparse
gradient as it was, "looking up" does what MXNet needs to make one, Embedding on the words of the tree. Each line twice:
with the Forest made in the step, and made before, as a DataLoader's worker does. Full and empty steps take turns.

    python benchmarks/empty_step.py [--models treernn rntn] [--trainers stock rg] [--repeats 9]
"""
import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]
import common  # noqa: E402  two threads, unless OMP_NUM_THREADS says otherwise
import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from mxnet import autograd, gluon, nd  # noqa: E402
from mxnet.base import NDArrayHandle, check_call  # noqa: E402

import recursive_gluon as rg  # noqa: E402

TARGET = 1.3
EMPTY = r"""
#include <mxnet/c_api.h>
#include <cstdint>
#include <cstdlib>

namespace {
struct Callbacks { MXCallbackList list; int (*functions[2])(void); void* contexts[2]; };

int backward(int outputs, int inputs, void** arrays, const int*, const int, void*) {
  for (int i = 0; i < outputs + inputs; ++i) MXNDArrayFree(arrays[i]);
  return 1;
}

int forget(void* state) {
  std::free(state);
  return 1;
}
}  // namespace

// Two outputs of so many rows; on the tape as a function of the inputs where there are any.
extern "C" int empty_call(int64_t rows, int64_t hidden, int64_t classes, int inputs, void** in, void** out) {
  int64_t shapes[2][2] = {{rows, hidden}, {rows, classes}};
  for (int i = 0; i < 2; ++i)
    if (MXNDArrayCreateEx64(shapes[i], 2, 1, 0, 0, 0, &out[i]) != 0) return -1;
  if (inputs == 0) return 0;
  auto* made = static_cast<Callbacks*>(std::malloc(sizeof(Callbacks)));
  made->functions[kCustomFunctionBackward] = reinterpret_cast<int (*)(void)>(backward);
  made->functions[kCustomFunctionDelete] = reinterpret_cast<int (*)(void)>(forget);
  made->contexts[0] = made->contexts[1] = made;
  made->list = {2, made->functions, made->contexts};
  return MXCustomFunctionRecord(inputs, in, 2, out, &made->list);
}
"""


def built():
    """The C function, compiled into a folder that is gone afterwards."""
    library = Path(mx.libinfo.find_lib_path()[0]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "libempty.so"
        subprocess.run([os.environ.get("CXX") or "g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-x", "c++", "-",
                        "-o", str(made), f"-I{mx.libinfo.find_include_path()}", "-x", "none", str(library),
                        f"-Wl,-rpath,{library.parent}"], input=EMPTY, text=True, check=True)
        call = ctypes.CDLL(str(made)).empty_call
    call.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return call


class Empty(gluon.Block):
    """A block with the parameters of `net` whose call does nothing."""

    def __init__(self, net, hidden, call, look_up):
        super().__init__()
        self.call, self.hidden, self.look_up, self.net = call, hidden, look_up, net
        self.table = net.embed.weight.data()
        self.arrays = [p.data() for p in net.collect_params().values() if p is not net.embed.weight]
        self.handles = [array.handle.value for array in self.arrays]

    def forward(self, forest, words, nodes):
        recording, handles = autograd.is_recording(), self.handles
        if self.look_up:
            looked_up = self.net.embed(words)  # kept alive during the call
            handles = [looked_up.handle.value, *handles]
        out = (ctypes.c_void_p * 2)()
        count = len(handles) if recording else 0
        rows = forest.num_nodes if nodes else forest.num_trees
        check_call(self.call(rows, self.hidden, common.T.CLASSES, count, (ctypes.c_void_p * len(handles))(*handles), out))
        if recording and not self.look_up:
            self.table._fresh_grad = True  # as if there were a new one
        return tuple(nd.NDArray(NDArrayHandle(handle)) for handle in out)


def tree_of(t):
    """A tree of peers/trees.py as an rg.Tree; both are in post-order."""
    inner = t.left >= 0
    offsets = np.concatenate([[0], np.cumsum(2 * inner)])
    children = np.stack([t.left[inner], t.right[inner]], axis=1).reshape(-1)
    return rg.Tree.from_arrays(offsets, children, {"word": t.word, "label": t.label})


def steps(model, mode, trainer, forest_of, call):
    """{name: a function that takes the number of a tree and does a step}."""
    x, hidden = common.DIMS[model]
    pool = common.T.make_pool()
    trees = [tree_of(t) for t in pool]
    forests = [rg.Forest([tree]) for tree in trees]
    words = [nd.array(t.word[t.left < 0], dtype="int32") for t in pool]
    net = (rg.nn.TreeRNN if model == "treernn" else rg.nn.RNTN)(common.T.VOCAB, hidden, num_classes=common.T.CLASSES,
                                                                sparse_grad=True)
    net.initialize()
    net.hybridize()
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    loss_of.hybridize(static_alloc=True, static_shape=True)
    made = {"stock": gluon.Trainer, "rg": getattr(rg, "Trainer", None)}.get(trainer)
    step = made and made(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.0, "wd": 0.0}, kvstore=None)

    def forest(i):
        return rg.Forest([trees[i]]) if forest_of == "in the step" else forests[i]

    def full(i):
        return net(forest(i), nodes=mode == "train")

    def loop(forward):
        def train(i):
            batch = forest(i)
            with autograd.record():
                logits = forward(batch, i)[-1]
                loss = loss_of(logits, batch["label"]).sum()
            loss.backward()
            step.step(1)

        def infer(i):
            return forward(forest(i), i)[-1].asnumpy()
        return train if mode == "train" else infer

    def recursive(batch, i):
        return net(batch, nodes=True) if mode == "train" else net(batch)

    every = {"full": loop(recursive)}
    every["full"](0)  # makes the parameters, and a sparse gradient
    for name, look_up in (("empty", False), ("looking up", True)):
        block = Empty(net, hidden, call, look_up)
        every[name] = loop(lambda batch, i, block=block: block(batch, words[i], mode == "train"))
    return every


def timed(step, count):
    """Microseconds of a step."""
    start = time.perf_counter()
    for i in range(count):
        step(i)
    nd.waitall()
    return (time.perf_counter() - start) / count * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["treernn", "rntn"], choices=["treernn", "rntn"])
    parser.add_argument("--trainers", nargs="+", choices=["stock", "rg"],
                        default=["stock", "rg"] if hasattr(rg, "Trainer") else ["stock"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--trees", type=int, default=250, help="steps in each repeat, at most 250")
    args = parser.parse_args()
    count = min(args.trees, 250)
    call = built()
    lines = [f"batch 1, us a step (half spread); target: full / empty at most {TARGET}; {rg.native.status().blas}", "",
             "| model | mode | trainer | forest | full | empty | full / empty | looking up | full / looking up |",
             "|---" * 9 + "|"]
    for model in args.models:
        for mode, trainer in [("train", trainer) for trainer in args.trainers] + [("infer", "")]:
            for forest_of in ("in the step", "before"):
                every = steps(model, mode, trainer, forest_of, call)
                for step in every.values():
                    timed(step, count)
                times = {name: [] for name in every}
                for repeat in range(args.repeats):
                    for name in every if repeat % 2 == 0 else reversed(list(every)):
                        times[name].append(timed(every[name], count))
                median = {name: statistics.median(found) for name, found in times.items()}
                shown = {name: f"{median[name]:.0f} ({50 * (max(found) - min(found)) / median[name]:.0f} %)"
                         for name, found in times.items()}
                ratio = {name: f"{median['full'] / median[name]:.2f}" for name in every}
                lines.append(f"| {model} | {mode} | {trainer} | {forest_of} | {shown['full']} | {shown['empty']} "
                             f"| {ratio['empty']} | {shown['looking up']} | {ratio['looking up']} |")
                print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
