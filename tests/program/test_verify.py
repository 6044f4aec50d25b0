"""verify() passes what is well formed, and says of everything else where and what is wrong."""

import re

import pytest
from hypothesis import given
from program_strategies import IS_LEAF, programs, tree_lstm

from recursive_gluon.errors import RecursiveGluonError, VerificationError
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
    replace,
    verify,
)

END = Block((), Return(()))
ARITY = Expr("arity", (NODE,))
ONE, I0 = const(1), integer(0)


def op(inputs, outputs, name="tanh", **attrs):
    return Op(name, tuple(inputs.split()), tuple(outputs.split()), attrs)


def program(*nodes, end=None, num_ints=1, args=("%a0",), num_outputs=0, **more):
    """A Program of f, whose body is given, and g: two integers, two arguments, two outputs."""
    f = Function("f", num_ints, args, num_outputs, Block(nodes, Return(()) if end is None else end))
    g = Function("g", 2, ("%a0", "%a1"), 2, Block((), Return(("%a0", "%a1"))))
    return Program(
        **{
            **dict(functions={"f": f, "g": g}, root="f", params=(Param("w"),), num_outputs=num_outputs),
            **more,
        }
    )


def invoke(function="g", node=NODE, ints=(ONE, I0), args=("%a0", "@w"), outputs=("%0", "%1")):
    return Invoke(function, node, ints, args, outputs)


def each(function="g", node=NODE, ints=(ONE,), captures=("@w",), carries=("%a0",), outputs=("%0", "%1")):
    return ForEach(function, node, ints, captures, carries, outputs)


def random(stream, output, kind="normal", **attrs):
    return Random(kind, (output,), (1, 2), attrs, stream)


@given(program=programs())
def test_well_formed(program):
    verify(program)


@pytest.mark.parametrize(
    "good",
    [
        tree_lstm(),
        program(),
        program(invoke(), each(outputs=("%2", "%3")), invoke(node=NO_NODE, outputs=("%4", "%5"))),
        program(each(captures=(), carries=("%a0", "@w"))),
        program(each(captures=("%a0", "@w"), carries=())),
        program(op("", "%0", "_rg_anything")),
        program(end=Branch(IS_LEAF, {True: END})),  # the other arm was never traced
        program(end=Branch(ARITY, {True: END, False: END})),  # `if node.arity:`
        program(end=Branch("%a0", {0: END, 7: END})),  # `range(int(tensor))`
        program(end=Branch("@w", {True: Block((), Raise("ValueError", ""))})),
        program(op("%a0", "%0"), end=Branch("%0", {True: Block((op("%0", "%1"),), Return(()))})),
        program(random(0, "%0"), random(1, "%1")),
        program(end=Return(("%a0", "%a0")), num_outputs=2),
    ],
)
def test_legal(good):
    verify(good)


CASES = {
    "defined twice": (
        program(op("%a0", "%0"), op("%a0", "%0")),
        "function 'f', body, node 1 (`%0 = tanh(%a0)`): '%0' is defined a second time, the first is body, n",
    ),
    "defined twice in one node": (
        program(op("%a0", "%0 %0")),
        "node 0 (`%0, %0 = tanh(%a0)`): '%0' is defined a s",
    ),
    "defined as an argument": (
        program(op("@w", "%a0")),
        "'%a0' is defined a second time, the first is an argument of the function",
    ),
    "two equal arguments": (program(args=("%a0", "%a0")), "function 'f': '%a0' is defined a second time"),
    "defined in two arms": (
        program(
            end=Branch(
                IS_LEAF,
                {True: Block((op("@w", "%0"),), Return(())), False: Block((op("@w", "%0"),), Return(()))},
            )
        ),
        "function 'f', body/False, node 0 (`%0 = tanh(@w)`): '%0' is defined a second time, the first is bod"
        "y/True, node 0",
    ),
    "named like a parameter": (program(op("%a0", "@w")), "a value is named '@w'"),
    "named by nothing": (program(Op("tanh", (), ("",))), "a value is named ''"),
    "input is no name": (program(Op("tanh", (1,), ("%0",))), "a value is named 1. Names are strings"),
    "not defined": (program(op("%7", "%0")), "node 0 (`%0 = tanh(%7)`): '%7' is not defined"),
    "used too early": (
        program(op("%1", "%0"), op("%a0", "%1")),
        "node 0 (`%0 = tanh(%1)`): '%1' is used before its definition at body, node 1 (`%1 = tanh(%a0)`)",
    ),
    "used by itself": (program(op("%0", "%0")), "'%0' is used before its definition at body, node 0"),
    "used in another arm": (
        program(
            end=Branch(
                IS_LEAF,
                {True: Block((op("@w", "%0"),), Return(())), False: Block((op("%0", "%1"),), Return(()))},
            )
        ),
        "function 'f', body/False, node 0 (`%1 = tanh(%0)`): '%0' is defined outside this block's ances"
        "tors, at body/True, node 0",
    ),
    "used before the arm": (
        program(op("%0", "%1"), end=Branch(IS_LEAF, {True: Block((op("@w", "%0"),), Return(()))})),
        "function 'f', body, node 0 (`%1 = tanh(%0)`): '%0' is defined outside this block's ancestors",
    ),
    "captured": (program(each(captures=("%9",))), "'%9' is not defined"),
    "carried": (program(each(carries=("%9",))), "'%9' is not defined"),
    "returned": (program(end=Return(("%9",)), num_outputs=1), "body, end (`return %9`): '%9' is not defined"),
    "in a deep block": (
        program(
            end=Branch(
                IS_LEAF,
                {
                    True: Block(
                        (),
                        Branch(
                            ARITY,
                            {2: Block((), Branch("%a0", {False: Block((op("%9", "%0"),), Return(()))}))},
                        ),
                    )
                },
            )
        ),
        "function 'f', body/True/2/False, node 0 (`%0 = tanh(%9)`): '%9' is not defined",
    ),
    "unknown parameter": (
        program(op("@v", "%0")),
        "'@v' is an unknown parameter. Add it to the Program's params; the parameters are: w",
    ),
    "parameter twice": (program(params=(Param("w"), Param("w"))), "parameter 'w' is declared twice"),
    "unknown operator": (
        program(op("%a0", "%0", "Tanh")),
        "node 0 (`%0 = Tanh(%a0)`): MXNet has no operator 'Tanh'",
    ),
    "operator without outputs": (program(op("%a0", "")), "the operator has no outputs"),
    "attribute": (program(op("%a0", "%0", axis=1)), "the attribute 'axis' is 1. Attributes are strings"),
    "no node": (program("tanh"), "function 'f', body, node 0 (`'tanh'`): a str is no node"),
    "unknown function": (
        program(invoke("h")),
        "it calls the unknown function 'h'. Add it to the Program; the functions are: f, g",
    ),
    "unknown function of a loop": (program(each("h")), "it calls the unknown function 'h'"),
    "integers": (
        program(invoke(ints=())),
        "(`%0, %1 = invoke g(node, %a0, @w)`): it has 0 integers, but function 'g' has 2",
    ),
    "arguments": (program(invoke(args=("%a0",))), "it has 1 arguments, but function 'g' has 2"),
    "outputs": (program(invoke(outputs=("%0",))), "it has 1 outputs, but function 'g' has 2"),
    "integers of a loop": (
        program(each(ints=())),
        "it has 1 integers with the child's position, but function 'g' has 2",
    ),
    "captures and carries": (
        program(each(captures=())),
        "it has 1 captures and carries, but function 'g' has 2",
    ),
    "outputs of a loop": (program(each(outputs=("%0",))), "it has 1 outputs, but function 'g' has 2"),
    "carries": (
        program(each("f", ints=(), captures=(), outputs=())),
        "(` = for each child of node: f(child, position) carry (%a0)`): it carries 1 values, but has only 0 o"
        "utputs",
    ),
    "outputs of a field": (program(Field("x", NODE, ())), "it has 0 outputs. A Field has exactly one"),
    "name of a field": (program(Field(1, NODE, ("%0",))), "the field is named 1"),
    "returns": (
        program(end=Return(("%a0",))),
        "(`return %a0`): it returns 1 values, but the function has 0 outputs",
    ),
    "raise kind": (program(end=Raise("", "no leaf")), "it raises '' with 'no leaf'"),
    "raise message": (program(end=Raise("ValueError", None)), "it raises 'ValueError' with None"),
    "no end": (program(end="return"), "a str is no end of a block"),
    "branch on nothing": (
        program(end=Branch("%9", {True: END})),
        "body, end (`branch on %9`): '%9' is not defined",
    ),
    "branch on a later value": (
        program(end=Branch("%0", {True: Block((op("@w", "%0"),), Return(()))})),
        "body, end (`branch on %0`): '%0' is defined outside this block's ancestors",
    ),
    "no arms": (program(end=Branch(IS_LEAF, {})), "(`branch on node.isleaf`): the Branch has no arms"),
    "mixed answers": (
        program(end=Branch(ARITY, {True: END, 2: END})),
        "the answers True, 2 mix truth values and num",
    ),
    "odd answers": (
        program(end=Branch(ARITY, {"yes": END})),
        "the answers are 'yes'. An answer is True, False or a",
    ),
    "numbers for a test": (
        program(end=Branch(IS_LEAF, {0: END, 1: END})),
        "the answers are 0, 1, but the test is true or false",
    ),
    "numbers for a comparison": (
        program(end=Branch(Expr("lt", (ARITY, const(2))), {1: END})),
        "(`branch on (node.arity < 2)`): the answers are 1, but the test is",
    ),
    "integer beyond": (program(Integer(integer(1), ("%0",))), "i1 is beyond the 1 integers of the function"),
    "integer below": (program(Integer(integer(-1), ("%0",))), "i-1 is beyond the 1 integers of the function"),
    "integer in a test": (
        program(end=Branch(Expr("gt", (integer(3), const(0))), {True: END})),
        "i3 is beyond the 1",
    ),
    "integer in a call": (program(invoke(ints=(integer(0), integer(4)))), "i4 is beyond the 1 integers"),
    "integer in a reference": (
        program(invoke(node=Expr("child", (NODE, integer(5))))),
        "i5 is beyond the 1 integers",
    ),
    "reference for a number": (program(Integer(NODE, ("%0",))), "expected a number, got `node`"),
    "number for a reference": (
        program(Field("x", ARITY, ("%0",))),
        "expected a reference to a node, got `node.arity`",
    ),
    "number inside": (
        program(Integer(Expr("arity", (const(1),)), ("%0",))),
        "expected a reference to a node, got `1`",
    ),
    "name for an expression": (program(Integer("i0", ("%0",))), "expected a number, got 'i0'"),
    "unknown expression": (
        program(Integer(Expr("depth", (NODE,)), ("%0",))),
        "expected a number, got Expr(op='depth'",
    ),
    "operands": (program(Integer(Expr("add", (const(1),)), ("%0",))), "'add' has 1 operands. It takes 2"),
    "field of an expression": (
        program(Integer(Expr("field", (NODE, 3)), ("%0",))),
        "expected the name of a field, got 3",
    ),
    "constant": (program(Integer(const("1"), ("%0",))), "expected a plain number, got '1'"),
    "stream": (
        program(random(3, "%0"), random(3, "%1", "dropout")),
        "stream 3 is already that of body, node 0 (`%0 = random.normal(shape=(1, 2), stream=3)`)",
    ),
    "stream in another arm": (
        program(random(0, "%0"), end=Branch(IS_LEAF, {True: Block((random(0, "%1"),), Return(()))})),
        "function 'f', body/True, node 0 (`%1 = random.normal(shape=(1, 2), stream=0)`): stream 0 is already",
    ),
    "random kind": (
        program(random(0, "%0", "poisson")),
        "random numbers of kind 'poisson'. The kinds are: dropout, no",
    ),
    "random attribute": (program(random(0, "%0", loc=0.5)), "the attribute 'loc' is 0.5"),
    "no root": (
        program(root="h"),
        "the root is 'h', which is no function of the Program; the functions are: f, g",
    ),
    "no functions": (program(functions={}), "the functions are: (none)"),
    "outputs of the root": (program(root="g"), "the Program has 0 outputs, but its root 'g' has 2"),
    "wrong name": (
        program(functions={"h": Function("f", 0, (), 0, END)}),
        "function 'f' is filed under the name 'h'",
    ),
    "negative": (program(num_ints=-1), "num_ints is -1 and num_outputs 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong(case):
    wrong, message = CASES[case]
    with pytest.raises(VerificationError, match=re.escape(message)):
        verify(wrong)


def test_streams_are_counted_per_function():
    first = program(random(0, "%0"))
    second = replace(first.functions["f"], name="h")
    verify(replace(first, functions={**first.functions, "h": second}))


def test_operators_may_be_given():
    verify(program(op("", "%0", "mine"), op("", "%1", "_rg_own")), operators={"mine"})
    with pytest.raises(VerificationError, match="no operator 'tanh'"):
        verify(program(op("%a0", "%0")), operators={"mine"})


def test_the_error_is_a_value_error():
    assert issubclass(VerificationError, RecursiveGluonError) and issubclass(VerificationError, ValueError)
