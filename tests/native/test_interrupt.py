"""Ctrl-C ends a long run, on Python's thread and on MXNet's, and the process goes on; other signals change nothing."""
import os
import signal
import subprocess
import sys

import pytest

from recursive_gluon.runtime.core import binding

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")

PROGRAM = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
import recursive_gluon as rg
from recursive_gluon._compat import mx
import numpy as np
from nets import forest_of

net = rg.nn.TreeLSTM(30, 32, {hidden}, num_classes=5)
net.initialize(mx.init.Xavier())
net.hybridize(executor="native", **{options})
def forest(trees):
    return forest_of(0, [100] * trees, words=30, dtype="float32")
def step(trees):
    with mx.autograd.record():
        loss = net(trees)[0].sum()
    mx.nd.waitall()
    return loss
small = forest(3)
step(small).backward()
mx.nd.waitall()
wanted = net.output.weight.grad().asnumpy()
loss = step(forest({trees}))
began = time.perf_counter()
loss.backward()
mx.nd.waitall()
whole = time.perf_counter() - began
{handler}
loss = step(forest({trees}))
began = time.perf_counter()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    loss.backward()
    mx.nd.waitall()
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
took = time.perf_counter() - began
print(whole, took)
mx.nd.waitall()
step(small).backward()
mx.nd.waitall()
np.testing.assert_array_equal(net.output.weight.grad().asnumpy(), wanted)
print("a later call works")
"""


#: of 199 nodes each: two chunks
CHUNKS = {"hidden": 900, "trees": 90}


def ran(handler="", hidden=1200, trees=40, **options):
    """What the program said: what happened, seconds of a gradient and of the interrupted one, what came after."""
    code = PROGRAM.format(hidden=hidden, trees=trees, handler=handler, options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "RECURSIVE_GLUON_WORKERS": "1",
                               "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr
    happened, times, after = done.stdout.splitlines()
    return happened, [float(t) for t in times.split()], after


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no POSIX signals")
@pytest.mark.parametrize("options", [{}, {"recompute": 100}, {"lanes": 2}, CHUNKS], ids=str)
def test_control_c_ends_a_gradient(options):
    """Also one of many parts, each shorter than the time after which the core asks, one on lanes, and one of chunks."""
    happened, (whole, took), after = ran(**options)
    assert happened == "interrupted" and took < whole, (whole, took)
    assert after == "a later call works"


FORWARD = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
import recursive_gluon as rg
from recursive_gluon._compat import mx
import numpy as np
from nets import forest_of

net = rg.nn.TreeLSTM(30, 32, {hidden}, num_classes=5)
net.initialize(mx.init.Xavier())
net.hybridize(executor="native", **{options})
trees = forest_of(0, [100] * {trees}, words=30, dtype="float32")
wanted = net(trees)[0].asnumpy()
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
for _ in range(3):
    np.testing.assert_array_equal(net(trees)[0].asnumpy(), wanted)
signal.setitimer(signal.ITIMER_REAL, 0)
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        net(trees)
except KeyboardInterrupt:
    print("interrupted")
np.testing.assert_array_equal(net(trees)[0].asnumpy(), wanted)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no POSIX signals")
@pytest.mark.parametrize("size, options", [((1200, 20), {}), ((1200, 20), {"lanes": 2}), (tuple(CHUNKS.values()), {})],
                         ids=["workers", "lanes", "chunks"])
def test_signals_during_a_forward(size, options):
    """They change no number, whatever runs when they come; Ctrl-C ends it."""
    code = FORWARD.format(hidden=size[0], trees=size[1], options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_handler_that_does_not_raise_lets_it_go_on():
    happened, _, _ = ran("signal.signal(signal.SIGINT, lambda *_: None)")
    assert happened == "went on"
