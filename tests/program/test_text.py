"""The text of a Program is what people read and compare: it changes only on purpose."""

from pathlib import Path

from hypothesis import given
from program_strategies import LEFT, programs, tree_lstm

import recursive_gluon.program
from recursive_gluon.program import (
    NO_NODE,
    NODE,
    Block,
    Branch,
    Expr,
    Field,
    ForEach,
    Function,
    Integer,
    Invoke,
    Op,
    Param,
    Program,
    Raise,
    Random,
    Return,
    const,
    integer,
    to_text,
    verify,
)

GOLDEN = """\
program grow -> 1 outputs
  param @w: float32[2x?]
  param @table: float16[?] row_sparse
  param @mean: float32[] state

function grow(node, i0, %a0) -> 1:
  %0 = node.child(0)['word']
  %1 = tensor((i0 + 1))
  %2 = random.uniform(shape=(1, 2), high=1, low=0, stream=0)
  %3 = _zeros(shape=(1,))
  %4 = FullyConnected(%0, @w, no_bias=True, num_hidden=2)
  if %4 is True:
    %5 = invoke grow(none, (i0 - 1), %4)
    return %5
  if %4 is False:
    %6, %7 = for each child of node: grow.loop0(child, i0, position, %1) carry (%3)
    if node.arity is 2:
      return %7
    if node.arity is 10:
      raise ValueError: too many\\nchildren

function grow.loop0(node, i0, i1, %a0, %a1) -> 2:
  return %a1, %a0
"""


def grow():
    switch = Branch(
        Expr("arity", (NODE,)),
        {10: Block((), Raise("ValueError", "too many\nchildren", "a.py:1")), 2: Block((), Return(("%7",)))},
    )
    no = Block((ForEach("grow.loop0", NODE, (integer(0),), ("%1",), ("%3",), ("%6", "%7")),), switch)
    yes = Block(
        (Invoke("grow", NO_NODE, (Expr("sub", (integer(0), const(1))),), ("%4",), ("%5",)),), Return(("%5",))
    )
    body = Block(
        (
            Field("word", LEFT, ("%0",)),
            Integer(Expr("add", (integer(0), const(1))), ("%1",)),
            Random("uniform", ("%2",), (1, 2), {"low": "0", "high": "1"}, 0),
            Op("_zeros", (), ("%3",), {"shape": "(1,)"}),
            Op("FullyConnected", ("%0", "@w"), ("%4",), {"num_hidden": "2", "no_bias": "True"}, "a.py:2"),
        ),
        Branch("%4", {False: no, True: yes}),
    )
    loop = Function("grow.loop0", 2, ("%a0", "%a1"), 2, Block((), Return(("%a1", "%a0"))))
    params = (
        Param("w", (2, 0)),
        Param("table", None, "float16", sparse_grad=True),
        Param("mean", (), state=True),
    )
    return Program({"grow.loop0": loop, "grow": Function("grow", 1, ("%a0",), 1, body)}, "grow", params, 1)


def test_golden():
    verify(grow())
    assert str(grow()) == to_text(grow()) == GOLDEN


def test_the_readme_shows_what_is_printed():
    readme = Path(recursive_gluon.program.__file__).with_name("README.md").read_text(encoding="utf-8")
    verify(tree_lstm())
    assert f"```text\n{tree_lstm()}```\n" in readme


@given(program=programs())
def test_a_line_for_every_node_and_end(program):
    blocks = [b for f in program.functions.values() for b in f.blocks()]
    arms = sum(len(b.end.arms) for b in blocks if isinstance(b.end, Branch))
    ends = sum(not isinstance(b.end, Branch) for b in blocks)
    lines = str(program).split("\n")
    heads = 1 + len(program.params) + 2 * len(program.functions)
    assert len(lines) == heads + sum(len(b.nodes) for b in blocks) + arms + ends + 1
