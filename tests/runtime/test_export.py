"""export() and SymbolBlock.imports: a fresh process that knows this package alone computes the same."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import Even, TreeNet, assert_close, flat, forest_of, gradients, loss_of, numbers, ready

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.errors import ProgramFormatError, ProgramVersionError, UnseenPath

gluon, nn, autograd = mx.gluon, mx.gluon.nn, mx.autograd

pytestmark = pytest.mark.filterwarnings("ignore:Cannot decide type")

#: what a user runs elsewhere: nothing of the net's source is there
ELSEWHERE = """
import sys, warnings
import numpy as np
import mxnet as mx
import recursive_gluon
warnings.simplefilter("ignore")
path, data, result, inputs = sys.argv[1:5]
block = mx.gluon.SymbolBlock.imports(path + "-symbol.json", inputs.split(","), path + "-0000.params")
arrays = np.load(data)
args = [mx.nd.array(arrays[k], dtype=arrays[k].dtype) for k in sorted(arrays.files)]
if "static" in sys.argv:
    block.hybridize(static_alloc=True, static_shape=True)
with mx.autograd.record():
    out = block(*args)
    out = list(out) if isinstance(out, (list, tuple)) else [out]
    total = 0
    for j, x in enumerate(out):
        weights = mx.nd.array(1 + np.arange(x.size).reshape(x.shape) % 5 / 3, dtype=x.dtype)
        total = total + (x * x * weights * (j + 1) + x).sum()
if "grad" in sys.argv:
    total.backward()
found = {"out%d" % j: x.asnumpy() for j, x in enumerate(out)}
if "grad" in sys.argv:
    found.update({"grad " + n: p.grad().tostype("default").asnumpy() for n, p in block.collect_params().items()
                  if p.grad_req != "null"})
np.savez(result, **found)
"""


class Loop(rg.RecursiveBlock):
    """A loop over children, with a value that is carried."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.x, self.h = nn.Dense(3), nn.Dense(3)

    def hybrid_forward(self, F, node):
        state = self.x(node["x"])
        for child in node.children:
            state = F.tanh(self.h(state) + self(child))
        return state


class Decides(rg.RecursiveBlock):
    """Goes on or stops by a value that it computed."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.embed, self.dense = nn.Embedding(12, 2, sparse_grad=True), nn.Dense(2)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.embed(node["word"])
        left = self(node.left)
        if left.sum() > 0:
            return F.tanh(self.dense(left)) - 0.4
        return self.dense(F.concat(left, self(node.right), dim=1)[:, 1:3])


class Outer(gluon.HybridBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.before, self.tree, self.after = nn.Dense(2, flatten=False), Even(), nn.Dense(2)

    def hybrid_forward(self, F, forest):
        structure, word, x = forest
        return self.after(self.tree([structure, word, F.tanh(self.before(x))]))


def elsewhere(path, forest, tmp_path, *how, inputs=("data0", "data1", "data2")):
    """Outputs and gradients in a fresh process; the process failed: its last line."""
    script, data, result = tmp_path / "elsewhere.py", tmp_path / "data.npz", tmp_path / "result.npz"
    script.write_text(ELSEWHERE)
    np.savez(data, **{f"a{i}": x.asnumpy() for i, x in enumerate(forest)})
    home = str(Path(rg.__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script), str(path), str(data), str(result), ",".join(inputs), *how],
                          cwd=str(tmp_path), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=300)
    if done.returncode:
        return done.stdout
    found = np.load(result)
    outputs = [found[f"out{j}"] for j in range(sum(k.startswith("out") for k in found.files))]
    return outputs, {k[len("grad "):]: found[k] for k in found.files if k.startswith("grad ")}


SMALL, LARGE = (1, 3), (1, 40, 25, 60)


@pytest.mark.parametrize("make, how", [(TreeNet, "static"), (Even, ""), (Loop, ""), (Decides, ""), (Outer, "static")])
def test_a_fresh_process_computes_the_same(make, how, tmp_path):
    net = ready(make(), "float32")
    net.hybridize()
    for seed in range(4):  # small trees, both sides of every decision
        net(forest_of(seed, SMALL, dtype="float32"))
    net.export(str(tmp_path / "net"))
    large = forest_of(5, LARGE, dtype="float32")
    # The net itself has traced no more than it exported, and its eager twin needs no trace.
    net.hybridize(False)
    with autograd.record():
        out = net(large)
        loss = loss_of(out)
    loss.backward()
    outputs, grads = elsewhere(tmp_path / "net", large, tmp_path, "grad", how)
    assert_close(outputs, [numbers(x) for x in flat(out)], "float32", "output")
    assert_close(grads, gradients(net), "float32", "gradient")


def test_a_net_of_float64(tmp_path):
    net = ready(TreeNet())
    net.hybridize()
    net(forest_of())
    net.export(str(tmp_path / "net"))
    large = forest_of(5, LARGE)
    outputs, _ = elsewhere(tmp_path / "net", large, tmp_path)
    assert all(x.dtype == np.float64 for x in outputs)
    assert_close(outputs, [numbers(x) for x in net(large)])


def imported(path, inputs=("data0", "data1", "data2")):
    return gluon.SymbolBlock.imports(f"{path}-symbol.json", list(inputs), f"{path}-0000.params")


def test_an_import_trains_on(tmp_path):
    net = ready(TreeNet(sparse=True), "float32")
    net.hybridize()
    forest = forest_of(dtype="float32")
    net(forest)
    net.export(str(tmp_path / "net"))
    block = imported(tmp_path / "net")
    losses = {}
    for name, which, args in (("net", net, (forest,)), ("import", block, tuple(forest))):
        trainer = gluon.Trainer(which.collect_params(), "adam", {"learning_rate": 0.05})
        losses[name] = []
        for _ in range(5):
            with autograd.record():
                loss = loss_of(which(*args))
            loss.backward()
            trainer.step(1)
            losses[name].append(loss.asscalar())
    np.testing.assert_allclose(losses["import"], losses["net"], rtol=1e-4)
    assert losses["net"][-1] < losses["net"][0]
    block.hybridize(static_alloc=True)
    block.collect_params().save(str(tmp_path / "trained.params"))
    again = imported(tmp_path / "net")
    again.collect_params().load(str(tmp_path / "trained.params"))
    assert_close([numbers(x) for x in again(*forest)], [numbers(x) for x in block(*forest)], "float32")


class ByArity(rg.RecursiveBlock):
    def hybrid_forward(self, F, node):
        count = len(node.children)
        if count == 0:
            return node["x"] * 1
        return F.add_n(*[self(node.children[i]) for i in range(count)]) / count


def bush(arity):
    return rg.Forest([rg.Tree([rg.Tree(x=[float(i), 1.0]) for i in range(arity)], x=[0.0, 0.0])])


def test_a_path_that_was_never_traced(tmp_path):
    net = ByArity(prefix="arity_")
    net.hybridize()
    for arity in (2, 5):
        net(bush(arity))
    net.export(str(tmp_path / "net"))
    block = imported(tmp_path / "net", ("data0", "data1"))
    for arity in (1, 5):
        assert_close([numbers(block(*bush(arity)))], [numbers(net(bush(arity)))], "float32")
    text = elsewhere(tmp_path / "net", bush(7), tmp_path, inputs=("data0", "data1"))
    assert "UnseenPath: arity[root]: " in text and " is 7, a path that was never traced (traced: " in text
    assert text.rstrip().endswith("call the net on such data before export()")
    net(bush(7))  # has the source: it is traced when met
    net.export(str(tmp_path / "net"))
    outputs, _ = elsewhere(tmp_path / "net", bush(7), tmp_path, inputs=("data0", "data1"))
    assert_close(outputs, [numbers(net(bush(7)))], "float32")


def edit(path, change):
    """Change the Program's text inside an exported file."""
    file = Path(f"{path}-symbol.json")
    symbol = json.loads(file.read_text())
    node = next(n for n in symbol["nodes"] if n["op"] == "Custom")
    node["attrs"]["program"] = change(node["attrs"]["program"])
    file.write_text(json.dumps(symbol))


def newer(text):
    program = json.loads(text)
    assert program["version"] == 1
    return json.dumps({**program, "version": 99})


@pytest.mark.parametrize("change, error, says", [
    (lambda text: text[:len(text) // 2], ProgramFormatError, "cut short or damaged"),
    (lambda text: text[:-1], ProgramFormatError, "cut short or damaged"),
    (lambda text: "", ProgramFormatError, "not the text of a Program"),
    (lambda text: "{}", ProgramFormatError, "Program"),
    (newer, ProgramVersionError, "version 99"),
], ids=["half", "one character less", "nothing", "something else", "newer"])
def test_a_file_that_is_not_whole(change, error, says, tmp_path):
    net = ready(TreeNet(), "float32")
    net.hybridize()
    net(forest_of(dtype="float32"))
    net.export(str(tmp_path / "net"))
    edit(tmp_path / "net", change)
    with pytest.raises(error, match=says):
        imported(tmp_path / "net")(*forest_of(dtype="float32"))
    text = elsewhere(tmp_path / "net", forest_of(dtype="float32"), tmp_path)
    assert f"{error.__name__}: " in text.splitlines()[-1] and says in text


def test_before_the_first_call():
    net = ready(TreeNet(), "float32")
    net.hybridize()
    with pytest.raises(RuntimeError, match="run forward with this block at least once before calling export"):
        net.export("nowhere")


def test_unseen_path_in_the_same_process(tmp_path):
    """A file is a file: the source of the net is at hand here, but what the file lacks is lacking."""
    net = ByArity(prefix="arity_")
    net.hybridize()
    net(bush(2))
    net.export(str(tmp_path / "net"))
    del net
    import gc
    gc.collect()
    block = imported(tmp_path / "net", ("data0", "data1"))
    with pytest.raises(UnseenPath, match=r"arity\[root\]: .* is 7"):
        block(*bush(7)).wait_to_read()
