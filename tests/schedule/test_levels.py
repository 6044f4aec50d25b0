"""Longest paths and ancestors, against plain recursion on random graphs."""
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recursive_gluon.schedule.levels import ancestors, longest_paths


@st.composite
def graphs(draw):
    """(number of units, edges from smaller to larger units), with repeated edges now and then."""
    size = draw(st.integers(1, 30))
    pairs = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(lambda e: e[0] < e[1])
    edges = draw(st.lists(pairs, max_size=60)) if size > 1 else []
    return size, edges


def as_arrays(edges):
    array = np.array(edges, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


@given(graphs())
def test_longest_paths(graph):
    size, edges = graph
    expected = [0] * size
    for unit in range(size):
        expected[unit] = 1 + max([expected[a] for a, b in edges if b == unit], default=-1)
    units, levels = longest_paths(np.arange(size), *as_arrays(edges), np.zeros(size, bool))
    assert sorted(units.tolist()) == list(range(size))
    assert {u: level for u, level in zip(units.tolist(), levels.tolist())} == dict(enumerate(expected))


@given(graphs(), st.data())
def test_what_waits_for_a_decision_stays_out(graph, data):
    size, edges = graph
    blocked = data.draw(st.integers(0, size - 1))
    source, destination = as_arrays(edges)
    source = np.append(source, -1)
    destination = np.append(destination, blocked)
    reach = {blocked}
    for unit in range(size):
        if any(a in reach and b == unit for a, b in edges):
            reach.add(unit)
    units, _ = longest_paths(np.arange(size), source, destination, np.zeros(size, bool))
    assert set(units.tolist()) == set(range(size)) - reach


@given(graphs(), st.data())
def test_what_is_done_is_not_waited_for(graph, data):
    size, edges = graph
    done = np.array([data.draw(st.booleans()) for _ in range(size)])
    pending = np.flatnonzero(~done)
    units, levels = longest_paths(pending, *as_arrays(edges), done)
    level = dict(zip(units.tolist(), levels.tolist()))
    assert set(level) == set(pending.tolist())
    for a, b in edges:
        if a in level and b in level:
            assert level[a] < level[b]


@given(graphs(), st.data())
def test_ancestors(graph, data):
    size, edges = graph
    goals = set(data.draw(st.lists(st.integers(0, size - 1), max_size=3)))
    expected = set(goals)
    for unit in reversed(range(size)):
        if any(b in expected and a == unit for a, b in edges):
            expected.add(unit)
    found = ancestors(np.array(sorted(goals), np.int64), *as_arrays(edges), size)
    assert set(found.tolist()) == expected
