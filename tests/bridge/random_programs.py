"""Random Gluon programs: from a seed, the text of a Block that uses features which defeat conversion, and its run.

Every variable of a program is an array of `(rows, 4)`, so that whatever is written has shapes that agree; rows vary
from step to step. Loops are bounded. An error that MXNet raises, say for writing in place while recording, is part of
what is observed.
"""
import linecache
import random
import sys

import mxnet as mx
import numpy as np
from cases import Case
from cases.common import attempt, normal, ready, state, trainer_of
from mxnet import autograd, gluon
from observe import compare, difference, identity, observe

STEPS = 16
ROUNDINGS = 1 + 1e-7, 1 - 1e-7
LOOSEST = 1_000  # times the tolerance

HEAD = '''
def mix(a, b=None, *, share=0.5):
    return a * share if b is None else a * share + b * (1 - share)


def choose(a, b):
    return mx.nd.where(a > 0, a, b)


def descend(net, h, depth):
    if depth == 0:
        return h
    return mx.nd.tanh(net.first(descend(net, h * 0.9, depth - 1))) + h


def pieces(h, count):
    for i in range(count):
        yield h * (i + 1) / count


class Net(gluon.Block):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first = nn.Dense(4, in_units=4)
            self.second = nn.Dense(4, in_units=4, activation="tanh")
            self.norm = nn.BatchNorm(in_channels=4)
            self.drop = nn.Dropout(0.3)
            self.body = nn.HybridSequential()
            with self.body.name_scope():
                self.body.add(nn.Dense(6, in_units=4, activation="relu"), nn.Dense(4, in_units=6))
            self.shift = self.params.get("shift", shape=(1, 4))
        self.count, self.memory, self.log = 0, None, []

    def forward(self, x):
        h = x
        g = mx.nd.ones_like(x)
'''

# Two things crash unconverted MXNet 1.9.1, and no program does them. A gradient that reaches some layers through a
# comparison alone, which is why choose() has what it compares in its result too. And a softmax of
# mx.nd.concat(a[:, :1], a[:, 1:], dim=1), which is in a layout of oneDNN's; one with a temperature does without.
UNARY = ["mx.nd.tanh({a})", "mx.nd.sigmoid({a})", "mx.nd.relu({a})", "{a} * 0.5", "1 - {a}", "{a}.abs()", "-{a}",
         "mx.nd.softmax({a}, temperature=1.5)", "mx.nd.clip({a}, -1, 1)", "mx.nd.sin({a} * 2)", "mix({a}, share=0.7)",
         "{a}.detach()",
         "{a} - {a}.mean(axis=0, keepdims=True)", "{a}.reshape((-1, 2)).reshape((-1, 4))", "{a}.T.T", "{a}[:]",
         "mx.nd.log(1 + mx.nd.exp({a}))", "mx.nd.concat({a}[:, 2:], {a}[:, :2], dim=1)", "{a}.astype('float64').astype("
         "'float32')", "mx.nd.stack(*[row for row in {a}])", "{a} + {a}[-1]", "sum(pieces({a}, 3)) / 4",
         "mx.nd.sort({a}.detach(), axis=1)", "{a}[mx.nd.arange({a}.shape[0])]"]
LAYERS = ["self.first({a})", "self.second({a})", "self.body({a})", "self.drop({a})", "self.norm({a})",
          "mx.nd.broadcast_add({a}, self.shift.data())", "descend(self, {a}, 2)"]
BINARY = ["{a} + {b}", "{a} - 0.5 * {b}", "{a} * mx.nd.sigmoid({b})", "mix({a}, {b})", "choose({a}, {b})",
          "mx.nd.maximum({a}, {b})", "mx.nd.concat({a}[:, :1], {b}[:, 1:], dim=1)",
          "{a} + {b}.sum(axis=1, keepdims=True)", "{a} / (1 + {b}.abs())",
          "mx.nd.dot({a}, {b}, transpose_b=True).mean() + {a}"]
RANDOM = ["{a} + mx.nd.random.normal(0, 0.1, shape={a}.shape)", "{a} * mx.nd.random.uniform(0.5, 1.5, shape=(1, 4))",
          "mx.nd.Dropout({a}, p=0.2, mode='always')", "{a} * float(mx.nd.random.uniform(shape=(1,)).asscalar())"]
TESTS = ["{a}.sum() > {c}", "{a}.mean().asscalar() > {c}", "bool({a}[0, 0] > {c})", "{a}.max().asscalar() < 1 + {c}",
         "len({a}) > 3", "{a}.shape[0] % 2 == 0", "self.count % 3 == 0", "self.count > 9", "autograd.is_training()",
         "autograd.is_recording()", "random.random() < 0.5", "np.random.rand() < 0.3",
         "{a}.argmax(axis=1)[0].asscalar() == 1"]


class Writer:
    """Writes one program; `scope` holds the names of the arrays that are known at a place."""

    def __init__(self, seed):
        self._choose = random.Random(seed)
        self._lines = []
        self._fresh = 0
        scope = ["x", "h", "g"]
        for _ in range(self._choose.randint(4, 9)):
            self._statement(scope, 2, 0)
        self._return(scope)
        self.source = HEAD.lstrip() + "\n".join(self._lines) + "\n"

    def _put(self, level, text):
        self._lines.append("    " * level + text)

    def _name(self, kind):
        self._fresh += 1
        return f"{kind}{self._fresh}"

    def _expression(self, scope, depth=0):
        pick = self._choose.random()
        kind = LAYERS if pick < 0.3 else UNARY if pick < 0.6 else BINARY if pick < 0.9 else RANDOM

        def argument():
            return self._choose.choice(scope) if depth or pick < 0.5 else f"({self._expression(scope, depth + 1)})"
        return self._choose.choice(kind).format(a=argument(), b=argument())

    def _test(self, scope):
        number = round(self._choose.uniform(-0.5, 0.5), 2)
        return self._choose.choice(TESTS).format(a=self._choose.choice(scope), c=number)

    def _block(self, scope, level, depth, most=2):
        inner = list(scope)  # what is first named inside may be missing afterwards
        for _ in range(self._choose.randint(1, most)):
            self._statement(inner, level, depth + 1)
        return inner

    def _statement(self, scope, level, depth):
        simple = [self._assign, self._assign, self._count, self._numpy, self._scalar, self._print, self._remember]
        writing = [self._slices, self._in_place, self._view]
        compound = [self._if, self._while, self._for, self._list, self._dict, self._closure, self._try, self._recursion,
                    self._generator, self._pause, self._early]
        self._choose.choice(simple + writing + compound if depth < 3 else simple)(scope, level, depth)

    def _target(self, scope):
        return self._choose.choice([name for name in scope if name != "x"])

    def _assign(self, scope, level, depth):
        if depth == 0 and self._choose.random() < 0.3:
            name = self._name("v")
            self._put(level, f"{name} = {self._expression(scope)}")
            scope.append(name)
        else:
            self._put(level, f"{self._target(scope)} = {self._expression(scope)}")

    def _count(self, scope, level, depth):
        self._put(level, "self.count += 1")

    def _numpy(self, scope, level, depth):
        a, name = self._choose.choice(scope), self._name("n")
        self._put(level, f"{name} = {a}.asnumpy()")
        self._put(level, f"{name} = np.sort({name}, axis=1) + np.random.uniform(-0.1, 0.1, {name}.shape)")
        self._put(level, f"{self._target(scope)} = {self._choose.choice(scope)} + mx.nd.array(np.tanh({name}))")

    def _scalar(self, scope, level, depth):
        name = self._name("s")
        self._put(level, f"{name} = {self._choose.choice(scope)}.abs().max().asscalar()")
        self._put(level, f"{self._target(scope)} = {self._choose.choice(scope)} / (1 + {name})")

    def _print(self, scope, level, depth):
        self._put(level, f'print(f"{{self.count}} {{{self._choose.choice(scope)}.mean().asscalar():.2f}}")')

    def _remember(self, scope, level, depth):
        h = self._choose.choice(scope)
        self._put(level, f"mean = {h}.mean(axis=0, keepdims=True).detach()")
        # Detached: MXNet has even what is never used on its tape, and one that reaches into the last step fails there.
        self._put(level, "self.memory = mean if self.memory is None else (0.9 * self.memory + 0.1 * mean).detach()")
        self._put(level, f"{self._target(scope)} = {h} - self.memory")

    def _slices(self, scope, level, depth):
        name = self._name("w")
        self._put(level, f"{name} = mx.nd.ones({self._choose.choice(scope)}.shape)")
        value = self._choose.choice(["0.5", f"{self._choose.choice(scope)}[:, 1:3].detach()", "self.count"])
        self._put(level, f"{name}[:, 1:3] = {value}")
        self._put(level, f"{name}[0] = {self._choose.choice(['2', 'x[-1].detach()'])}")
        self._put(level, f"{self._target(scope)} = {self._choose.choice(scope)} * {name}")

    def _in_place(self, scope, level, depth):
        name, h = self._name("t"), self._choose.choice(scope)
        self._put(level, f"{name} = mx.nd.zeros({h}.shape)")
        for _ in range(self._choose.randint(1, 2)):
            detach = ".detach()" if self._choose.random() < 0.95 else ""
            self._put(level, f"{name} {self._choose.choice(['+=', '-='])} ({self._expression(scope)}){detach}")
        self._put(level, f"{self._target(scope)} = {name} + {h}")

    def _view(self, scope, level, depth):
        name, view = self._name("w"), self._name("view")
        self._put(level, f"{name} = {self._choose.choice(scope)}.detach().copy()")
        self._put(level, f"{view} = {name}[{self._choose.choice(['0', '-1:', ':1'])}]")
        self._put(level, f"{view}[:] = {self._choose.choice(['0.25', 'self.count * 0.1', 'x[0]'])}")
        self._put(level, f"{self._target(scope)} = {name} + {self._choose.choice(scope)}")

    def _if(self, scope, level, depth):
        self._put(level, f"if {self._test(scope)}:")
        self._block(scope, level + 1, depth)
        if self._choose.random() < 0.6:
            self._put(level, "else:")
            self._block(scope, level + 1, depth)

    def _while(self, scope, level, depth):
        turns = self._name("i")
        self._put(level, f"{turns} = 0")
        self._put(level, f"while {self._choose.choice(scope)}.norm().asscalar() > {self._choose.choice([0.5, 1, 2])}:")
        self._block(scope, level + 1, depth)
        self._put(level + 1, f"{turns} += 1")
        self._put(level + 1, f"if {turns} >= {self._choose.randint(1, 3)} or {self._test(scope)}:")
        self._put(level + 2, "break")

    def _for(self, scope, level, depth):
        count = self._choose.choice(["2", "3", "self.count % 3", "x.shape[0] % 4",
                                     "int(x[0, 0].abs().asscalar() * 2) % 4"])
        self._put(level, f"for {self._name('i')} in range({count}):")
        if self._choose.random() < 0.4:
            self._put(level + 1, f"if {self._test(scope)}:")
            self._put(level + 2, "continue")
        self._block(scope, level + 1, depth)

    def _list(self, scope, level, depth):
        name, i = self._name("parts"), self._name("i")
        self._put(level, f"{name} = [{self._choose.choice(scope)}]")
        self._put(level, f"for {i} in range({self._choose.choice(['2', '1 + self.count % 3'])}):")
        self._put(level + 1, f"{name}.append({self._expression(scope)} * {name}[-1])")
        self._put(level, f"{self._target(scope)} = " + self._choose.choice([
            f"sum({name}) / len({name})", f"mx.nd.stack(*{name}).mean(axis=0)", f"{name}.pop()",
            f"sorted({name}, key=lambda part: part.sum().asscalar())[0]"]))

    def _dict(self, scope, level, depth):
        name, key = self._name("table"), self._name("key")
        items = ", ".join(f'"{k}": {self._expression(scope)}' for k in "abc"[:self._choose.randint(2, 3)])
        self._put(level, f"{name} = {{{items}}}")
        target = self._target(scope)
        self._put(level, f"for {key} in {name}:")
        self._put(level + 1, f"{target} = {target} * 0.5 + {name}[{key}]")

    def _closure(self, scope, level, depth):
        name, calls = self._name("inner"), self._name("calls")
        a = self._choose.choice(scope)
        self._put(level, f"{calls} = [0]")
        self._put(level, f"def {name}(z, outer={a}):")
        self._put(level + 1, f"{calls}[0] += 1")
        self._put(level + 1, f"return {self._expression(['z', 'outer'])} * {calls}[0]")
        self._put(level, f"{self._target(scope)} = {name}({name}({self._choose.choice(scope)}))")

    def _try(self, scope, level, depth):
        kind = self._choose.choice(["ValueError", "KeyError", "ZeroDivisionError"])
        self._put(level, "try:")
        self._block(scope, level + 1, depth)
        self._put(level + 1, f"if {self._test(scope)}:")
        self._put(level + 2, f'raise {kind}("{self._name("trouble")}")')
        self._block(scope, level + 1, depth, most=1)
        caught = kind if self._choose.random() < 0.95 else "IndexError"  # then the step fails
        self._put(level, f"except {caught} as error:")
        self._put(level + 1, "self.log.append(str(error))")
        self._block(scope, level + 1, depth, most=1)
        if self._choose.random() < 0.3:
            self._put(level, "finally:")
            self._put(level + 1, "self.count += 1")

    def _recursion(self, scope, level, depth):
        times = self._choose.choice(["1", "3", "self.count % 4", "len(x) % 3"])
        self._put(level, f"{self._target(scope)} = mx.nd.tanh(descend(self, {self._choose.choice(scope)}, {times}))")

    def _generator(self, scope, level, depth):
        target, name = self._target(scope), self._name("piece")
        self._put(level, f"for {name} in pieces({self._choose.choice(scope)}, {self._choose.randint(1, 3)}):")
        self._block(scope + [name], level + 1, depth)
        self._put(level + 1, f"{target} = {self._choose.choice(scope)} + {name}")

    def _pause(self, scope, level, depth):
        self._put(level, f"with autograd.{self._choose.choice(['pause()', 'predict_mode()', 'train_mode()'])}:")
        self._block(scope, level + 1, depth)

    def _early(self, scope, level, depth):
        self._put(level, f"if {self._test(scope)} and {self._choose.choice(scope)}.sum().asscalar() > 2:")
        self._return(scope, level + 1)

    def _return(self, scope, level=2):
        # A parameter is on every path, so that there is something to differentiate.
        a, b = f"self.second({self._choose.choice(scope)}) + {self._expression(scope)}", self._choose.choice(scope)
        self._put(level, "return " + self._choose.choice([a, f"{a}, {b}", f"[{a}, self.count]",
                                                          f'{{"out": {a}, "more": ({b}, None)}}']))


def first_array(out):
    while not isinstance(out, mx.nd.NDArray):
        out = next(iter(out.values())) if isinstance(out, dict) else out[0]
    return out


def running(seed, scale=1.0):
    """The generator function of a case: some steps that are alike, then steps that are not, training and inference.

    All inputs are multiplied by `scale`.
    """
    source = Writer(seed).source

    def program(convert):
        name = f"<program {seed}>"
        linecache.cache[name] = len(source), None, source.splitlines(True), name  # for tracebacks, and who reads source
        known = {"mx": mx, "np": np, "random": random, "autograd": autograd, "gluon": gluon, "nn": gluon.nn,
                 "__name__": f"program_{seed}"}
        exec(compile(source, name, "exec"), known)
        net = convert(ready(known["Net"]()))
        trainer = trainer_of(net, momentum=0.5)

        def train(x):
            with autograd.record():
                out = net(x)
                value = ((first_array(out) - 0.3) ** 2).mean()
            value.backward()
            gluon.utils.clip_global_norm([p.grad() for p in net.collect_params().values() if p.grad_req != "null"], 1)
            trainer.step(1, ignore_stale_grad=True)
            return out, value

        for step in range(STEPS):
            x = normal(3, 4) * 0.1 + 1 if step < 7 else normal(random.randint(1, 5), 4) * random.choice([0.5, 1, 3])
            x = x * scale
            run = net if step % 5 == 4 else train
            yield attempt(run, x), x, net.count, net.memory, net.log, state(net)

    return program


def program(seed, scale=1.0):
    return Case(seed, f"random program {seed}", running(seed, scale))


def judge(seed, convert):
    """Compare a random program with itself converted, as (verdict, words, steps that could be compared).

    Some programs make large differences of the least ones: a graph that sums in another order is then no error. So
    where there is a difference, the unconverted program runs again with the last bit of its inputs changed. Ten times
    what that shows in a step, to the next power of ten, the converted program may differ too: it rounds otherwise in
    all of its operators. From the step on where it shows in more than the third digit, or in what is printed, decided
    or raised, nothing can be compared.
    """
    expected, seen = observe(program(seed), identity), observe(program(seed), convert)
    verdict, words = compare(expected, seen)
    if verdict == "right":
        return verdict, words, len(expected)
    rounded = [observe(program(seed, scale), identity) for scale in ROUNDINGS]
    loose = 1
    for number, step in enumerate(expected):
        while any(difference(step, run[number], loose=loose / 10) for run in rounded):
            loose *= 10
            if loose > LOOSEST:
                return "right", f"a rounding decides step {number}", number
        found = difference(step, seen[number], f"step {number} ", loose=loose)
        if found:
            return verdict, found, number
    return "right", "", len(expected)


if __name__ == "__main__":  # judges the seeds from ... up to ..., a line each, for who wants that in another process
    import warnings

    import recursive_gluon as rg

    warnings.simplefilter("ignore")
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        print(seed, end=" ", flush=True)
        print(*judge(seed, rg.hybridize), sep="\t", flush=True)
