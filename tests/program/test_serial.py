"""What to_json() writes, from_json() reads back exactly; whatever else it is given, it says so."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_strategies import IS_LEAF, programs, tree_lstm

from recursive_gluon.errors import ProgramFormatError, ProgramVersionError
from recursive_gluon.program import (
    NODE,
    VERSION,
    Block,
    Branch,
    Expr,
    Function,
    Op,
    Program,
    Random,
    Return,
    const,
    from_json,
    integer,
    load,
    replace,
    to_json,
    verify,
)


def answers(program):
    """All answers with their types: True == 1 in Python, so that equal Programs may differ in them."""
    return [
        [(type(a), a) for a in sorted(b.end.arms)]
        for _, f in sorted(program.functions.items())
        for b in f.blocks()
        if isinstance(b.end, Branch)
    ]


def sealed(content, version=VERSION):
    """`content` as a text whose checksum is right."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({"version": version, "content": content, "checksum": zlib.crc32(text.encode())})


def program(body, num_ints=0, num_outputs=0):
    return Program({"f": Function("f", num_ints, (), num_outputs, body)}, "f", (), num_outputs)


@given(program=programs())
def test_round_trip(program):
    verify(program)
    text = to_json(program)
    again = from_json(text)
    assert again == program
    assert str(again) == str(program)  # where True and 1, 0.0 and -0.0 differ
    assert to_json(again) == text


@given(program=programs(), order=st.randoms(use_true_random=False))
def test_the_order_of_functions_and_arms_does_not_show(program, order):
    def shuffled(mapping):
        items = list(mapping.items())
        order.shuffle(items)
        return dict(items)

    def mixed(block):
        if not isinstance(block.end, Branch):
            return block
        return replace(
            block, end=replace(block.end, arms={a: mixed(b) for a, b in shuffled(block.end.arms).items()})
        )

    functions = {n: replace(f, body=mixed(f.body)) for n, f in shuffled(program.functions).items()}
    assert to_json(replace(program, functions=functions)) == to_json(program)


@pytest.mark.parametrize("arms", [(True, False), (1, 0), (0,), (1,), (True,), (-1, 0, 1, 2, 100000)])
def test_answers_keep_their_types(arms):
    end = Branch(Expr("arity", (NODE,)), {a: Block((), Return(())) for a in arms})
    first = program(Block((), end))
    assert answers(from_json(to_json(first))) == answers(first)


def test_numpy_numbers_become_plain():
    body = Block(
        (Random("normal", ("%0",), (np.int64(1), 2), {}, np.int32(7)),),
        Branch(
            Expr("eq", (integer(0), Expr("const", (np.int64(3),)))), {np.bool_(True): Block((), Return(()))}
        ),
    )
    first = program(body, num_ints=1)
    again = from_json(to_json(first))
    assert again == first
    assert answers(again) == [[(bool, True)]]
    verify(again)


def test_long_chains_of_decisions_use_no_stack():
    block = Block((), Return(()))
    for _ in range(5000):
        block = Block((), Branch(IS_LEAF, {False: block}))
    again = from_json(to_json(program(block)))
    verify(again)
    assert len(again.functions["f"].blocks()) == 5001


def test_ascii_and_compact():
    text = to_json(tree_lstm())
    assert text.isascii() and " " not in text and "\n" not in text


def test_laid_out_anew():
    data = json.loads(to_json(tree_lstm()))
    assert from_json(json.dumps(data, indent=2, ensure_ascii=False)) == tree_lstm()


def test_load_keeps_the_program():
    text = to_json(tree_lstm())
    assert load(text) is load(text)
    assert load(text) == tree_lstm()
    with pytest.raises(ProgramFormatError):
        load(text[1:])


def test_truncation_at_every_length():
    text = to_json(tree_lstm())
    for length in range(len(text)):
        with pytest.raises(ProgramFormatError, match="export the net again|give what to_json"):
            from_json(text[:length])


@given(program=programs(), data=st.data())
def test_any_truncation(program, data):
    text = to_json(program)
    with pytest.raises(ProgramFormatError):
        from_json(text[: data.draw(st.integers(0, len(text) - 1))])


@given(data=st.data())
def test_a_changed_character_is_noticed_or_harmless(data):
    text = to_json(tree_lstm())
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    try:
        assert from_json(changed) == tree_lstm()
    except ProgramFormatError:
        pass


@given(text=st.text())
def test_other_text(text):
    with pytest.raises(ProgramFormatError):
        from_json(text)


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "not the text of a Program"),
        ("[1, 2]", "expected an object with version, checksum and content"),
        ('{"nodes": [], "heads": []}', r"it begins with '\{\"nodes\""),
        ("[" * 100000, "nested too deeply"),
        (sealed({}, True), "its version is True"),
        (sealed({}, "1"), "its version is '1'"),
        (b"{}", "got bytes; read the file as text"),
        (None, "got NoneType"),
    ],
)
def test_not_a_program(text, match):
    with pytest.raises(ProgramFormatError, match=match):
        from_json(text)


def test_altered():
    data = json.loads(to_json(tree_lstm()))
    data["content"]["num_outputs"] = 1
    with pytest.raises(ProgramFormatError, match=r"altered .* its checksum is \d+, that of its content \d+"):
        from_json(json.dumps(data))


@pytest.mark.parametrize(
    "version, match",
    [
        (VERSION + 1, r"version 2, written by a newer recursive_gluon; this one reads version 1: upgrade"),
        (VERSION - 1, r"version 0, written by an older recursive_gluon"),
    ],
)
def test_version(version, match):
    # a later version may compute its checksum and lay out its content as it likes
    text = json.dumps({"version": version, "checksum": "sha", "content": None})
    with pytest.raises(ProgramVersionError, match=match):
        from_json(text)


def content(**changes):
    """The content of a small Program whose block is changed."""
    block = {
        "nodes": [{"is": "Op", "op": "tanh", "inputs": ["@w"], "outputs": ["%0"]}],
        "end": {"is": "Return", "values": ["%0"]},
    }
    block.update(changes)
    blocks = changes.pop("blocks", [block])
    function = {"name": "f", "num_ints": 0, "args": [], "num_outputs": 1, "blocks": blocks}
    return {"root": "f", "num_outputs": 1, "params": [{"name": "w"}], "functions": {"f": function}}


LEAF = {"nodes": [], "end": {"is": "Return", "values": []}}


def fork(*arms, test="%0", **more):
    return {"nodes": [], "end": {"is": "Branch", "test": test, "arms": list(arms), **more}}


@pytest.mark.parametrize(
    "changes, match",
    [
        (
            {"nodes": [{"is": "Loop"}]},
            r"function 'f': block 0: node 0: unknown node kind 'Loop', expected one of Field",
        ),
        ({"nodes": [{"is": "Return", "values": []}]}, "unknown node kind 'Return'"),
        ({"nodes": [{"is": ["Op"]}]}, r"unknown node kind \['Op'\]"),
        ({"nodes": [{"op": "tanh"}]}, "node lacks 'is'"),
        ({"nodes": [7]}, "expected a node, got 7"),
        ({"nodes": {}}, "expected a list"),
        ({"nodes": [{"is": "Op", "op": "tanh", "inputs": []}]}, "Op lacks 'outputs'"),
        ({"nodes": [{"is": "Op", "op": 1, "inputs": [], "outputs": []}]}, "expected a string, got 1"),
        ({"nodes": [{"is": "Op", "op": "tanh", "inputs": "%0", "outputs": []}]}, "expected a list, got '%0'"),
        (
            {"nodes": [{"is": "Op", "op": "tanh", "inputs": [], "outputs": [], "attrs": []}]},
            "expected attributes",
        ),
        (
            {"nodes": [{"is": "Op", "op": "tanh", "inputs": [], "outputs": [], "device": "gpu"}]},
            "Op has no 'device'",
        ),
        (
            {"nodes": [{"is": "Field", "name": "x", "node": ["root"], "outputs": []}]},
            "unknown structural operator 'root'",
        ),
        ({"nodes": [{"is": "Field", "name": "x", "node": "node", "outputs": []}]}, "an expression is a list"),
        ({"end": {"is": "Goto"}}, "unknown end kind 'Goto'"),
        ({"end": None}, "expected the end of a block, got None"),
        ({"note": ""}, "a block has no 'note'"),
        ({"blocks": []}, "the function has no blocks"),
        ({"blocks": [LEAF, LEAF]}, "a block is no arm of another"),
        ({"blocks": [fork([True, 0])]}, "the arm True of the Branch points to block 0"),
        ({"blocks": [fork([True, 1])]}, "the arm True of the Branch points to block 1"),
        ({"blocks": [fork([True, 1], [False, 1]), LEAF]}, "block of its own"),
        ({"blocks": [fork([True, 1], [1, 2]), LEAF, LEAF]}, "the answer occurs twice"),
        ({"blocks": [fork([0.5, 1]), LEAF]}, "expected a whole number, got 0.5"),
        ({"blocks": [fork([True]), LEAF]}, "expected an answer and the number of a block"),
        ({"blocks": [fork([True, 1], label=""), LEAF]}, "Branch has no 'label'"),
        (
            {"blocks": [fork([True, 1], test=5), LEAF]},
            "an expression is a list that starts with an operator, got 5",
        ),
    ],
)
def test_malformed_content(changes, match):
    assert from_json(sealed(content())).root == "f"
    with pytest.raises(ProgramFormatError, match=match):
        from_json(sealed(content(**changes)))


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"params": [{"name": "w", "state": 1}]}, "expected true or false, got 1"),
        ({"params": [{"name": "w", "shape": [True]}]}, "expected a whole number, got True"),
        ({"functions": []}, "expected functions by name"),
        ({"functions": {"f": None}}, "function 'f': expected a function, got None"),
        ({"plans": []}, "a Program has no 'plans'"),
        ({"root": None}, "expected a string, got None"),
    ],
)
def test_malformed_program(changes, match):
    with pytest.raises(ProgramFormatError, match=match):
        from_json(sealed({**content(), **changes}))


def test_an_expression_nested_too_deeply():
    deep = ["node"]
    for _ in range(900):
        deep = ["child", deep, ["const", 0]]
    nodes = [{"is": "Field", "name": "x", "node": deep, "outputs": ["%0"]}]
    with pytest.raises(ProgramFormatError, match="nested too deeply"):
        from_json(sealed(content(nodes=nodes)))


@pytest.mark.parametrize(
    "body, match",
    [
        (Block((Op("tanh", ("@w",), ("%0",), {"axis": 1}),), Return(())), "expected a string, got 1"),
        (Block(("tanh",), Return(())), "expected one of .* got 'tanh'"),
        (Block((), Branch(IS_LEAF, {"yes": Block((), Return(()))})), "expected a whole number, got 'yes'"),
        (
            Block((), Branch(const({1}), {True: Block((), Return(()))})),
            r"expected numbers and strings, got \{1\}",
        ),
    ],
)
def test_what_cannot_be_written(body, match):
    with pytest.raises(ProgramFormatError, match=f"cannot be written: {match}"):
        to_json(program(body))
