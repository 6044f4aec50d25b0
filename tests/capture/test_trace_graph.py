"""The trace graph: traces share nodes, are cut where they part and meet, and are joined where they stay together."""
from hypothesis import given
from hypothesis import strategies as st

from recursive_gluon.capture.trace_graph import TraceGraph


def test_traces_share_nodes():
    graph = TraceGraph()
    assert graph.add("abc") == ([0, 1, 2], True)
    assert graph.add("abc") == ([0, 1, 2], False)
    assert graph.add("abd") == ([0, 1, 3], True)
    assert (len(graph), graph.forks, graph.traces) == (4, 1, 3)


def test_one_trace_is_one_block():
    graph = TraceGraph()
    assert graph.blocks(graph.add("abcd")[0]) == [(0, 4)]


def test_blocks_end_where_traces_part_and_meet():
    graph = TraceGraph()
    first, second = graph.add("abxde")[0], graph.add("abyde")[0]
    assert graph.blocks(first) == graph.blocks(second) == [(0, 2), (2, 3), (3, 5)]


def test_a_loop_is_walked_over_the_same_nodes():
    graph = TraceGraph()
    nodes, _ = graph.add("i" + 3 * "ab" + "o")
    assert len(graph) == 4 and graph.forks == 1
    assert graph.blocks(nodes) == [(0, 1), (1, 3), (3, 5), (5, 7), (7, 8)]


def test_blocks_that_follow_one_another_often_become_one():
    graph = TraceGraph()
    for _ in range(60):
        nodes, _ = graph.add("i" + 8 * "ab" + "o")
        blocks = graph.blocks(nodes)
    assert blocks == [(0, 18)]


def test_no_block_grows_without_end():
    graph = TraceGraph()
    for _ in range(40):
        blocks = graph.blocks(graph.add(1000 * "ab")[0])
    assert max(stop - start for start, stop in blocks) <= 256


@given(st.lists(st.text("abcd", min_size=1, max_size=30), min_size=1, max_size=30))
def test_blocks_cover_a_trace(traces):
    graph = TraceGraph()
    for trace in traces:
        nodes, _ = graph.add(trace)
        blocks = graph.blocks(nodes)
        assert [i for start, stop in blocks for i in range(start, stop)] == list(range(len(trace)))
        assert all(start < stop for start, stop in blocks)
    assert not any(graph.add(trace)[1] for trace in traces)
    assert len(graph) == len(set("".join(traces)))
