"""recursive_gluon: the networks of recursive_gluon.nn, which are written for one node, hybridized. Trees are
made once (dataset); a step builds the Forest of its batch, runs net(forest, nodes=True), the loss over all nodes,
backward and rg.Trainer's update. --executor picks what runs the graph, --trainer stock is gluon.Trainer."""
import os
import sys

import common as C


def extra(ap):
    ap.add_argument("--executor", default="auto", help="auto, native, mxnet (batched) or reference (frame by frame)")
    ap.add_argument("--trainer", default="rg", choices=["rg", "stock"])
    ap.add_argument("--emb", default="sparse", choices=["sparse", "dense"])


args = C.parse(extra=extra)
# The threads are the core's workers; MXNet's own small operators have one, or the two kinds of threads would get in one
# another's way.
os.environ["RECURSIVE_GLUON_WORKERS"] = str(args.threads)
if args.executor in ("auto", "native"):
    os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from mxnet import autograd, gluon, nd  # noqa: E402

import recursive_gluon as rg  # noqa: E402
from recursive_gluon import nn  # noqa: E402


def tree_of(t):
    """The arrays of a tree as an rg.Tree; both are in post-order."""
    inner = t.left >= 0
    offsets = np.concatenate([[0], np.cumsum(2 * inner)])
    children = np.stack([t.left[inner], t.right[inner]], axis=1).reshape(-1)
    return rg.Tree.from_arrays(offsets, children, {"word": t.word, "label": t.label.astype(np.float32)})


class Peer:
    def __init__(self, model, p, lr, args):
        x, h = C.DIMS[model]
        kw = dict(num_classes=C.T.CLASSES, sparse_grad=args.emb == "sparse")
        if model == "treelstm":
            self.net = nn.TreeLSTM(C.T.VOCAB, x, h, **kw)
            i, o, u, fl, fr = range(5)                  # rows of U and b there; here: i o fl fr u
            rows = np.concatenate([np.arange(k * h, (k + 1) * h) for k in (i, o, fl, fr, u)])
            cell = self.net.cell
            sets = [(cell.leaf.weight, p["Wx"]), (cell.leaf.bias, p["bx"]),
                    (cell.node.weight, p["U"][rows]), (cell.node.bias, p["b"][rows])]
        else:
            self.net = (nn.TreeRNN if model == "treernn" else nn.RNTN)(C.T.VOCAB, h, **kw)
            sets = [(self.net.cell.node_weight, p["W"]), (self.net.cell.node_bias, p["b"])]
            if model == "rntn":
                sets.append((self.net.cell.tensor_weight, p["V"].reshape(2 * h * h, 2 * h)))
        sets += [(self.net.embed.weight, p["E"]),
                 (self.net.output.weight, p["Wo"]), (self.net.output.bias, p["bo"])]
        self.net.initialize()
        for parameter, value in sets:
            parameter.set_data(nd.array(value))
        self.net.hybridize(executor=args.executor)
        self.trainer = (rg.Trainer if args.trainer == "rg" else gluon.Trainer)(self.net.collect_params(), "sgd",
                                     {"learning_rate": lr, "momentum": 0.0, "wd": 0.0}, kvstore=None)

    def dataset(self, pool):
        self.trees = {id(t): tree_of(t) for t in pool}

    def forest(self, trees):
        return rg.Forest([self.trees[id(t)] for t in trees])

    def train_step(self, trees):
        forest = self.forest(trees)
        with autograd.record():
            logits = self.net(forest, nodes=True, only=-1)
            loss = nd.softmax_cross_entropy(logits, forest["label"])
        loss.backward()
        self.trainer.step(len(trees))
        return loss / len(trees)

    def infer(self, trees):
        return self.net(self.forest(trees), only=-1).asnumpy()

    def sync(self):
        nd.waitall()

    def loss_value(self, loss):
        return loss.asscalar()


if __name__ == "__main__":
    name = "recursive_gluon" + ("" if args.executor == "auto" else "-" + args.executor) + \
           ("-denseemb" if args.emb == "dense" else "")
    C.main(name, Peer, args, {"version": rg.__version__, "mxnet": mx.__version__})
