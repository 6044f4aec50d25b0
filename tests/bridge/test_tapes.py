"""Graphs on the tape: groups of calls that reach the same arrays, and inputs that are left off."""
import numpy as np
import pytest
from hypothesis import given
from works import SAMPLER, UNARY, work_of, works

import recursive_gluon as rg
from recursive_gluon._compat import mx
from recursive_gluon.bridge.tapes import Inputs, classes

nd, gluon, autograd = mx.nd, mx.gluon, mx.autograd
TANH = UNARY[0]
ADD = "broadcast_add"


def makers(work):
    return [at for at, op in enumerate(work.ops) for _ in range(op[1])]


@given(works())
def test_groups_cover_all_calls_in_an_order_that_runs(made):
    work, needed, group = made
    maker, done = makers(work), set()
    found = classes(work, group, needed)
    assert sorted(at for calls in found for at in calls) == list(group)
    for calls in found:
        for at in calls:
            done.add(at)  # a call of the group may be read by a later one of it
            sources = {maker[read] for read in work.ops[at][2:] if read >= 0}
            assert sources & set(group) <= done
    drawn = [at for calls in found for at in calls if work.ops[at][0] is SAMPLER]
    assert drawn == sorted(drawn)


@given(works(samplers=False))
def test_all_outputs_of_a_group_reach_what_the_group_reaches(made):
    work, needed, group = made
    reach, maker = work.reach(), makers(work)
    for calls in classes(work, group, needed):
        home = set(calls)
        outputs = {n for n, at in enumerate(maker) if at in home and n in needed}
        outputs |= {read for at, op in enumerate(work.ops) if at not in home for read in op[2:]
                    if read >= 0 and maker[read] in home}
        whole = 0
        for at in calls:
            whole |= reach[at]
        assert {reach[maker[n]] for n in outputs} <= {whole}


def test_what_only_one_class_reads_joins_it():
    work = work_of([(TANH, 1, -1), (TANH, 1, -2), (ADD, 1, 0, 1)], 2)
    assert classes(work, range(3), {2}) == [[0, 1, 2]]
    assert classes(work, range(3), {0, 2}) == [[0], [1, 2]]


def test_groups_run_as_the_program_did_where_there_is_a_choice():
    work = work_of([(TANH, 1, -2), (TANH, 1, -1)], 2)
    assert classes(work, range(2), {0, 1}) == [[0], [1]]


@pytest.fixture
def arrays():
    """A parameter, and two arrays that are on no tape."""
    weight = nd.ones((2, 2))
    weight.attach_grad()
    return [weight, nd.ones((2, 2)), nd.ones((2, 2))]


def left_off(ops, arrays):
    handed = Inputs(ops, {id(arrays[0]): arrays[0]}).apart(arrays)
    return [i for i, (a, b) in enumerate(zip(handed, arrays)) if a is not b]


@pytest.mark.parametrize("ops, expected", [
    ([(ADD, 1, -2, -3), (ADD, 1, 0, -1)], [1, 2]),  # the first call is not recorded
    ([(ADD, 1, -1, -2), (ADD, 1, 0, -3)], []),
    ([(ADD, 1, -2, -3), (ADD, 1, -1, -2), (ADD, 1, 1, 0)], [2]),
    ([(ADD, 1, -1, -2), (ADD, 1, -2, -3), (ADD, 1, 0, 1)], []),  # the second is: the first has -2 on the tape
], ids=str)
def test_inputs_that_calls_leave_off_the_tape(ops, expected, arrays):
    assert left_off(ops, arrays) == expected


def test_where_nothing_is_recorded_nothing_is_left_off(arrays):
    assert Inputs([(ADD, 1, -1, -2)], {}).apart(arrays[1:]) == arrays[1:]


def test_arrays_that_are_on_the_tape_are_asked_for(arrays):
    ops = [(ADD, 1, -2, -3), (ADD, 1, 0, -1)]
    with autograd.record():
        arrays[1] = arrays[0] * 2
        assert left_off(ops, arrays) == []


def test_a_state_that_is_on_no_tape_stays_off():
    """Else the gradient of the next step would meet the tape of this one, which is gone."""

    class Net(gluon.Block):
        def __init__(self):
            super().__init__()
            self.body, self.memory = gluon.nn.Dense(4, in_units=4), nd.ones((1, 4))

        def forward(self, x):
            h = self.body(nd.broadcast_sub(x, self.memory))
            self.memory = 0.9 * self.memory
            return h

    net = Net()
    net.initialize()
    rg.hybridize(net)
    for _ in range(10):
        with autograd.record():
            loss = (net(nd.ones((3, 4))) ** 2).mean()
        loss.backward()
        with pytest.raises(mx.MXNetError):
            autograd.get_symbol(net.memory)
    assert np.allclose(net.memory.asnumpy(), 0.9 ** 10) and rg.explain(net).fraction > 0.5
