"""Converted programs show what unconverted ones show: the oracle is MXNet as it is."""
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import random_programs as programs
from cases import CASES
from observe import compare, identity, observe
from random_programs import STEPS, Writer, judge

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.bridge.convert import conversion_of

EVERY = pytest.mark.parametrize("case", [CASES[number] for number in sorted(CASES)], ids=str)
nd, gluon, autograd = mx.nd, mx.gluon, mx.autograd


@EVERY
@pytest.mark.parametrize("late", [False, True], ids=["each step", "late"])
def test_cases(case, late):
    assert compare(observe(case, identity, late), observe(case, rg.hybridize, late)) == ("right", "")


@pytest.mark.parametrize("seed", range(10))
def test_random_programs(seed):
    print(f"the random program of seed {seed}\n{Writer(seed).source}")
    verdict, words, steps = judge(seed, rg.hybridize)
    print(f"{steps} of {STEPS} steps could be compared")
    assert (verdict, words) == ("right", "") and steps > STEPS / 2


def judged(seeds):
    """The verdicts of a few random programs, from a process of their own; one that MXNet or we crash is judged too."""
    found, at = {}, seeds[0]
    while at <= seeds[-1]:
        process = subprocess.run([sys.executable, "-X", "faulthandler", programs.__file__, str(at), str(seeds[-1] + 1)],
                                 env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, text=True,
                                 capture_output=True)
        assert process.stdout, process.stderr
        for line in process.stdout.splitlines():
            seed, told = line.split(" ", 1)
            verdict, words, steps = told.split("\t") if told else ("crashed", process.stderr, 0)
            found[int(seed)] = verdict, words, int(steps)
        at = max(found) + 1
    return found


@pytest.mark.long
def test_a_thousand_random_programs():
    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for verdicts in pool.map(judged, [range(first, first + 50) for first in range(10, 1010, 50)]):
            found.update(verdicts)
    compared = sum(steps for _, _, steps in found.values())
    print(f"{compared} of {STEPS * len(found)} steps could be compared")
    assert len(found) == 1000
    assert {seed: told for seed, told in found.items() if told[0] != "right"} == {}
    assert compared > 0.97 * STEPS * len(found)


class Net(gluon.Block):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.body, self.head = gluon.nn.Dense(4, activation="tanh"), gluon.nn.Dense(2)

    def forward(self, x, times=1):
        for _ in range(times):
            x = self.body(x) + x
        return self.head(x)


@pytest.fixture
def net():
    made = Net()
    made.initialize()
    return made


def test_a_block_is_changed_in_place_and_back(net):
    kind = type(net)
    assert rg.hybridize(net) is net and isinstance(net, kind) and type(net).__name__ == "Net"
    assert rg.hybridize(net) is net
    assert rg.hybridize(net, active=False) is net and type(net) is kind


def test_a_function_is_wrapped(net):
    def step(x):
        """A step."""
        return net(x).sum()

    made = rg.hybridize(step)
    assert made is not step and made.__doc__ == "A step." and rg.hybridize(made, active=False) is step
    x = nd.ones((3, 4))
    assert [made(x).asscalar() for _ in range(6)] == pytest.approx([step(x).asscalar()] * 6)


def test_what_cannot_be_converted():
    with pytest.raises(rg.errors.ConversionError, match="got list"):
        rg.hybridize([])
    with pytest.raises(rg.errors.ConversionError, match="rg.hybridize"):
        rg.explain(gluon.nn.Dense(1))


def test_results_are_arrays_of_their_class(net):
    rg.hybridize(net)
    x = nd.ones((3, 4))
    with autograd.record():
        for _ in range(5):
            out = net(x)  # not computed yet
            assert type(out) == nd.NDArray and isinstance(out, nd.NDArray)  # noqa: E721 - as users write it
            assert (out.shape, out.dtype, out.context, out.stype, out.size, len(out)) == (
                (3, 2), mx.np.float32, mx.cpu(), "default", 6, 3)
    assert type(out) is nd.NDArray  # computed


def test_steady_state_runs_from_graphs(net):
    rg.hybridize(net)
    for _ in range(30):
        with autograd.record():
            loss = (net(nd.ones((3, 4)), 3) ** 2).sum()
        loss.backward()
    told = rg.explain(net)
    assert told.fraction == 1.0 and told.recaptures == 0 and told.segments > 0


def test_launched_ahead_of_python(net):
    rg.hybridize(net)
    for _ in range(20):
        net(nd.ones((3, 4)), 3).asnumpy()
    told = rg.explain(net)
    assert told.ahead > 10 and told.diverged == 0


def test_diverging_settles(net):
    """Paths that alternate against every expectation: launching ahead stops, results are right."""
    plain = [net(nd.ones((3, 4)), 1 + i * i % 3).asnumpy() for i in range(40)]
    rg.hybridize(net)
    for i in range(40):
        assert net(nd.ones((3, 4)), 1 + i * i % 3).asnumpy() == pytest.approx(plain[i])
    assert rg.explain(net).diverged < 12


def test_explain_and_its_forms(net):
    rg.hybridize(net)
    for _ in range(5):
        if net(nd.ones((3, 4))).sum().asscalar() > 1e9:
            raise AssertionError
    told = rg.explain(net, nd.ones((3, 4)))
    text = str(told)
    assert "from graphs" in text and "test_conversion.py:" in text and told.calls == 6
    assert "<table>" in told.to_html() and '"breaks"' in told.to_json()


def test_an_error_of_the_users_leaves_the_net_working(net):
    class Trouble(Exception):
        pass

    def step(x, fail):
        out = net(x) * 2
        if fail:
            raise Trouble("mine")
        return out

    made, x = rg.hybridize(step), nd.ones((3, 4))
    expected = step(x, False).asnumpy()
    for i in range(12):
        if i in (4, 9):
            with pytest.raises(Trouble, match="mine"):
                made(x, True)
        assert made(x, False).asnumpy() == pytest.approx(expected)


def test_an_array_is_computed_by_another_thread(net):
    rg.hybridize(net)
    x = nd.ones((3, 4))
    expected = net(x).asnumpy()
    seen = []
    with autograd.record():
        for _ in range(5):
            out = net(x)
            thread = threading.Thread(target=lambda: seen.append(out.asnumpy()))  # noqa: B023 - joined here
            thread.start()
            thread.join()
            assert autograd.is_recording()
    assert all(one == pytest.approx(expected) for one in seen) and len(seen) == 5


def test_check_finds_equal_and_different(net):
    assert str(rg.check(net, nd.ones((3, 4)), steps=6)) == "equal over 6 steps"

    class Counting(Net):
        calls = 0

        def forward(self, x):
            Counting.calls += 1  # shared by the two: they cannot be equal
            return super().forward(x) * Counting.calls

    other = Counting()
    other.initialize()
    found = rg.check(other, nd.ones((3, 4)))
    assert not found and str(found).startswith("step 0, output 0: differs by")


def test_a_converted_program_is_told_apart(net):
    assert conversion_of(net) is None
    assert conversion_of(rg.hybridize(net)).name == net.name
