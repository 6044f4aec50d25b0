"""Hypothesis strategies: trees and DAGs of every shape."""
from __future__ import annotations

from hypothesis import strategies as st

from recursive_gluon.data.tree import Tree


@st.composite
def trees(draw, max_nodes=20, max_arity=4, words=False):
    """Trees with a field ``label`` on every node, and ``word`` on the leaves where `words` is set."""
    count = draw(st.integers(1, max_nodes))
    children = [[] for _ in range(count)]
    room = [0]
    for node in range(1, count):
        parent = draw(st.sampled_from(room))
        children[parent].append(node)
        if len(children[parent]) == max_arity:
            room.remove(parent)
        room.append(node)
    return _tree(draw, children, words)


@st.composite
def dags(draw, max_nodes=12, max_arity=3):
    """DAGs with a field ``label``: every node is reached from the root, some by several ways."""
    count = draw(st.integers(1, max_nodes))
    children = [[] for _ in range(count)]
    for node in range(1, count):
        children[draw(st.integers(0, node - 1))].append(node)
    for node in range(count - 1):
        children[node] += draw(st.lists(st.integers(node + 1, count - 1), max_size=max_arity))
    return _tree(draw, children, False)


def _tree(draw, children, words):
    offsets, edges = [0], []
    for below in children:
        edges += below
        offsets.append(len(edges))
    fields = {"label": draw(st.lists(st.integers(0, 4), min_size=len(children), max_size=len(children)))}
    if words:
        letters = st.characters(blacklist_characters=" ()\r\n", blacklist_categories=("Cs",))
        token = st.text(letters, min_size=1, max_size=5)
        fields["word"] = [None if below else draw(token) for below in children]
    return Tree.from_arrays(offsets, edges, fields, root=0)
