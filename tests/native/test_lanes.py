"""The plan of lanes and events: every dependency is kept, with no more events than it takes."""
import itertools

import pytest
from backends import LAUNCH, RECORD, WAIT, LanePlan
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_gluon.errors import NativeCoreError
from recursive_gluon.runtime.core import binding

pytestmark = pytest.mark.skipif(binding.core() is None, reason="no native core on this machine")


@st.composite
def graphs(draw):
    """(after, cost): edges go any way but never in a circle, some of them twice."""
    n = draw(st.integers(1, 24))
    edges_at_least = draw(st.sampled_from([0, n, 2 * n]))  # many, or hypothesis likes few
    names = draw(st.permutations(range(n)))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    after = [[] for _ in range(n)]
    if n > 1:
        for a, b in draw(st.lists(pairs, min_size=edges_at_least, max_size=3 * n)):
            after[names[a]].append(names[b])
    cost = draw(st.none() | st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]), min_size=n, max_size=n))
    return after, cost


LANES = st.integers(1, 6)


def edges(after):
    return {(c, d) for c, list_ in enumerate(after) for d in list_}


def replayed(lanes, without=None, first=0):
    """Run the operations as lanes would, beginning with lane `first`: for each chain, the chains that are sure to have
    ended when it begins. `without` is a (lane, position) that is left out. Fails where the lanes wait forever."""
    known, marks, begun = [set() for _ in lanes], {}, {}
    at, moved = [0] * len(lanes), True
    while moved:
        moved = False
        for lane in (*range(first, len(lanes)), *range(first)):
            while at[lane] < len(lanes[lane]):
                step, number = lanes[lane][at[lane]]
                if step == LAUNCH:
                    assert number not in begun, "a chain is launched twice"
                    begun[number] = set(known[lane])
                    known[lane].add(number)
                elif step == RECORD:
                    assert number not in marks, "an event is recorded twice"
                    marks[number] = set(known[lane])
                elif (lane, at[lane]) != without:
                    if number not in marks:
                        break
                    known[lane] |= marks[number]
                at[lane] += 1
                moved = True
    assert at == [len(ops) for ops in lanes], "the lanes wait forever"
    return begun


def broken(after, begun):
    return {(c, d) for c, d in edges(after) if c not in begun[d]}


@given(graphs(), LANES)
def test_every_dependency_is_kept(graph, lanes):
    after, cost = graph
    plan = LanePlan(after, cost, lanes)
    for first in range(lanes):
        begun = replayed(plan.lanes, first=first)
        assert sorted(begun) == list(range(len(after)))
        assert broken(after, begun) == set()


@given(graphs(), LANES)
def test_no_event_is_for_nothing(graph, lanes):
    after, cost = graph
    plan = LanePlan(after, cost, lanes)
    waits = [(lane, i) for lane, ops in enumerate(plan.lanes) for i, op in enumerate(ops) if op[0] == WAIT]
    for wait in waits:
        assert broken(after, replayed(plan.lanes, without=wait)), "without this wait all is as before"
    recorded = [i for ops in plan.lanes for step, i in ops if step == RECORD]
    assert sorted(recorded) == list(range(plan.events)) == sorted({plan.lanes[lane][i][1] for lane, i in waits})
    for ops in plan.lanes:  # an event is of the chain just before it, and a chain has one at most
        assert all(before[0] == LAUNCH for before, op in zip(ops, ops[1:]) if op[0] == RECORD)


@given(graphs(), LANES)
def test_handed_over_in_an_order_that_keeps_all(graph, lanes):
    """A host can hand the operations over one by one: records before waits, chains before those after."""
    after, cost = graph
    plan = LanePlan(after, cost, lanes)
    chains, records = [], set()
    for _, step, number in plan.issue:
        assert step != WAIT or number in records
        if step == RECORD:
            records.add(number)
        if step == LAUNCH:
            chains.append(number)
    assert len(plan.issue) == sum(map(len, plan.lanes))
    assert all(chains.index(c) < chains.index(d) for c, d in edges(after))


@given(graphs(), LANES)
def test_figures(graph, lanes):
    after, cost = graph
    plan = LanePlan(after, cost, lanes)
    cost = cost or [1.0] * len(after)
    longest = [0.0] * len(after)
    for c in reversed([number for _, step, number in plan.issue if step == LAUNCH]):
        longest[c] = cost[c] + max((longest[d] for d in after[c]), default=0)
    assert plan.critical_path == max(longest)
    assert plan.lane_cost == [sum(cost[i] for step, i in ops if step == LAUNCH) for ops in plan.lanes]
    assert max(plan.critical_path, sum(cost) / lanes) - 1e-9 <= plan.makespan
    assert plan.makespan <= sum(cost) / lanes + (1 - 1 / lanes) * plan.critical_path + 1e-9  # Graham's bound
    # The makespan is what the plan takes, with events for free.
    ends, last = {}, [0.0] * lanes
    before = {d: [c for c, e in edges(after) if e == d] for d in range(len(after))}
    for lane, step, c in plan.issue:
        if step == LAUNCH:
            last[lane] = ends[c] = max([last[lane], *(ends[b] for b in before[c])]) + cost[c]
    assert max(ends.values()) <= plan.makespan


@given(graphs(), LANES)
def test_the_same_plan_every_time(graph, lanes):
    after, cost = graph
    one, other = LanePlan(after, cost, lanes), LanePlan([sorted(set(a)) for a in after], cost, lanes)
    assert one.issue == other.issue == LanePlan(after, cost, lanes).issue


@given(graphs())
def test_one_lane_needs_no_events(graph):
    after, cost = graph
    plan = LanePlan(after, cost, 1)
    assert plan.events == 0 and {step for step, _ in plan.lanes[0]} == {LAUNCH}
    assert plan.makespan == sum(cost or [1.0] * len(after))


@given(st.integers(1, 40), LANES)
def test_independent_chains_spread(chains, lanes):
    plan = LanePlan([[]] * chains, None, lanes)
    assert plan.events == 0
    assert sorted(map(len, plan.lanes)) == sorted((chains + lane) // lanes for lane in range(lanes))


@given(st.integers(1, 12), st.integers(1, 12), LANES)
def test_long_lines_stay_in_their_lanes(lines, length, lanes):
    """Lines beside one another that do not depend on each other: with a lane for each, no events."""
    after = [[line * length + i + 1] if i + 1 < length else [] for line in range(lines) for i in range(length)]
    plan = LanePlan(after, None, max(lanes, lines))
    assert plan.events == 0 and plan.makespan == length


def test_a_diamond():
    """0 before 1 and 2, both before 3: two lanes, an event each way."""
    plan = LanePlan([[1, 2], [3], [3], []], None, 2)
    assert plan.lanes == [[(LAUNCH, 0), (RECORD, 0), (LAUNCH, 1), (WAIT, 1), (LAUNCH, 3)],
                          [(WAIT, 0), (LAUNCH, 2), (RECORD, 1)]]
    assert (plan.critical_path, plan.makespan, plan.lane_cost) == (3, 3, [3, 1])


def test_one_wait_for_a_line():
    """0 before 1, both before 3: whoever waits for 1 need not wait for 0."""
    plan = LanePlan([[1, 3], [2, 3], [], []], None, 2)
    assert plan.lanes == [[(LAUNCH, 0), (LAUNCH, 1), (RECORD, 0), (LAUNCH, 2)], [(WAIT, 0), (LAUNCH, 3)]]


def test_the_longest_path_goes_first():
    plan = LanePlan([[], [2], []], [1, 1, 5], 1)
    assert [number for _, _, number in plan.issue] == [1, 2, 0]


@settings(max_examples=3)
@given(st.integers(0, 2))
def test_a_large_graph(seed):
    """A hundred thousand chains are planned in well under a second."""
    n = 100_000
    after = [[c + 1 + (c * 7919 + seed + k) % 50 for k in range(2) if c + 51 < n] for c in range(n)]
    plan = LanePlan(after, None, 16)
    assert len([1 for _, step, _ in plan.issue if step == LAUNCH]) == n
    assert plan.makespan <= n / 16 + plan.critical_path


@pytest.mark.parametrize("after, cost, lanes, said", [
    ([[1], [2], [0]], None, 2, "chains wait for one another in a circle, which chain 0 leads into"),
    ([[0]], None, 2, "in a circle"),
    ([[], [7]], None, 2, "chain 7 is to wait, but there are chains 0 to 1"),
    ([[-1]], None, 2, "chain -1 is to wait"),
    ([[]], None, 0, "at least one lane"),
    ([[]], [float("nan")], 1, "a chain costs -?nan; expected a number that is finite and not negative"),
    ([[]], [-1.0], 1, "a chain costs -1"),
])
def test_what_cannot_be_planned(after, cost, lanes, said):
    with pytest.raises(NativeCoreError, match=said):
        LanePlan(after, cost, lanes)


def test_no_chains():
    plan = LanePlan([], None, 3)
    assert list(itertools.chain(*plan.lanes)) == [] and plan.makespan == plan.critical_path == 0
