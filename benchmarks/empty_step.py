#!/usr/bin/env python3
"""What a step of recursive_gluon costs beside an empty one: one tree a step, the loop that Gluon's users write.

In the empty step the recursive call is an operator that does nothing, in a hybridized HybridBlock with the same
parameters: the embedding looks up the words of the leaves, the operator takes them and all parameters, makes an output
of the right shape, and has a gradient that does nothing either. So what is left is Gluon's own: the Forest, the call,
the loss, the tape, a sparse gradient, the update. Each line twice: with the Forest made in the step, and made before,
as a DataLoader's worker does. Full and empty steps take turns.

    python benchmarks/empty_step.py [--models treernn rntn] [--trainers stock rg] [--repeats 9]
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of MXNet's operators; the core's workers are its own
import common  # noqa: E402
import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from mxnet import autograd, gluon, nd  # noqa: E402

import recursive_gluon as rg  # noqa: E402

TARGET = 1.3
# (anything, an array with as many rows as the output, anything ...) -> (rows, classes)
EMPTY = r"""
#include <mxnet/lib_api.h>
using namespace mxnet::ext;
using Attributes = std::unordered_map<std::string, std::string>;
using Shapes = std::vector<std::vector<unsigned int>>;
using Tensors = std::vector<MXTensor>;

MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
  *inputs = std::stoi(attributes.at("inputs"));
  *outputs = 1;
  return MX_SUCCESS;
}
MXReturnValue type(const Attributes&, std::vector<int>* inputs, std::vector<int>* outputs) {
  outputs->at(0) = inputs->at(0);
  return MX_SUCCESS;
}
MXReturnValue shape(const Attributes& attributes, Shapes* inputs, Shapes* outputs) {
  outputs->at(0) = {inputs->at(1).at(0), static_cast<unsigned int>(std::stoi(attributes.at("classes")))};
  return MX_SUCCESS;
}
MXReturnValue nothing(const Attributes&, Tensors*, Tensors*, const OpResource&) { return MX_SUCCESS; }
REGISTER_OP(empty_step).setForward(nothing, "cpu").setBackward(nothing, "cpu").setParseAttrs(parse).setInferType(type)
    .setInferShape(shape);
MXReturnValue initialize(int) { return MX_SUCCESS; }
"""


def load_operator():
    """The operator, compiled into a folder that is gone afterwards, known to MXNet."""
    include = mx.libinfo.find_include_path()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "libempty.so"
        subprocess.run([os.environ.get("CXX") or "g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-x", "c++", "-",
                        str(Path(include).parent / "src" / "lib_api.cc"), "-o", str(made), f"-I{include}"],
                       input=EMPTY, text=True, check=True)
        mx.library.load(str(made), verbose=False)


class Empty(gluon.HybridBlock):
    """The parameters of `net`, and an operator that does nothing with them."""

    def __init__(self, net):
        super().__init__()
        self.net, self.embed = net, net.embed  # a child's parameters are those of the block
        for i, parameter in enumerate(net.collect_params().values()):
            if parameter is not net.embed.weight:
                setattr(self, f"p{i}", parameter)

    def hybrid_forward(self, F, words, rows, **params):
        inputs = (self.embed(words), rows, *params.values())
        return F.empty_step(*inputs, inputs=len(inputs), classes=common.T.CLASSES)


def tree_of(t):
    """A tree of peers/trees.py as an rg.Tree; both are in post-order."""
    inner = t.left >= 0
    offsets = np.concatenate([[0], np.cumsum(2 * inner)])
    children = np.stack([t.left[inner], t.right[inner]], axis=1).reshape(-1)
    return rg.Tree.from_arrays(offsets, children, {"word": t.word, "label": t.label})


def steps(model, mode, trainer, forest_of):
    """{name: a function that takes the number of a tree and does a step}."""
    _, hidden = common.DIMS[model]
    pool = common.T.make_pool()
    trees = [tree_of(t) for t in pool]
    forests = [rg.Forest([tree]) for tree in trees]
    words = [nd.array(t.word[t.left < 0], dtype="int32") for t in pool]
    root = nd.zeros((1,))
    net = (rg.nn.TreeRNN if model == "treernn" else rg.nn.RNTN)(common.T.VOCAB, hidden, num_classes=common.T.CLASSES,
                                                                sparse_grad=True)
    net.initialize()
    net.hybridize()
    net(forests[0])  # makes the parameters
    empty = Empty(net)
    empty.hybridize()
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    loss_of.hybridize(static_alloc=True, static_shape=True)
    made = {"stock": gluon.Trainer, "rg": rg.Trainer}.get(trainer)
    # The empty gradient is whatever lies in memory: it must not move the parameters.
    step = made and made(net.collect_params(), "sgd", {"learning_rate": 0.0, "momentum": 0.0, "wd": 0.0}, kvstore=None)

    def loop(forward):
        def forest(i):
            return rg.Forest([trees[i]]) if forest_of == "in the step" else forests[i]

        def train(i):
            batch = forest(i)
            with autograd.record():
                loss = loss_of(forward(batch, i), batch["label"])
            loss.backward()
            step.step(1)

        def infer(i):
            return forward(forest(i), i).asnumpy()
        return train if mode == "train" else infer

    return {
        "full": loop(lambda batch, i: net(batch, nodes=mode == "train", only=-1)),
        "empty": loop(lambda batch, i: empty(words[i], batch["label"] if mode == "train" else root)),
    }


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
    parser.add_argument("--trainers", nargs="+", choices=["stock", "rg"], default=["stock", "rg"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--trees", type=int, default=250, help="steps in each repeat, at most 250")
    args = parser.parse_args()
    count = min(args.trees, 250)
    load_operator()
    lines = [f"batch 1, us a step (half spread); target: full / empty at most {TARGET}; {rg.native.status().blas}", "",
             "| model | mode | trainer | forest | full | empty | full / empty |", "|---" * 7 + "|"]
    for model in args.models:
        for mode, trainer in [("train", trainer) for trainer in args.trainers] + [("infer", "")]:
            for forest_of in ("in the step", "before"):
                every = steps(model, mode, trainer, forest_of)
                for step in every.values():
                    timed(step, count)
                times = {name: [] for name in every}
                for repeat in range(args.repeats):
                    for name in every if repeat % 2 == 0 else reversed(list(every)):
                        times[name].append(timed(every[name], count))
                median = {name: statistics.median(found) for name, found in times.items()}
                shown = {name: f"{median[name]:.0f} ({50 * (max(found) - min(found)) / median[name]:.0f} %)"
                         for name, found in times.items()}
                lines.append(f"| {model} | {mode} | {trainer} | {forest_of} | {shown['full']} | {shown['empty']} "
                             f"| {median['full'] / median['empty']:.2f} |")
                print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
