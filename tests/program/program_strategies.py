"""Programs for tests: one built by hand, and random ones that are well formed."""

from hypothesis import strategies as st

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
)
from recursive_gluon.program.expr import OPERATORS

LEFT, RIGHT = Expr("child", (NODE, const(0))), Expr("child", (NODE, const(1)))
IS_LEAF = Expr("isleaf", (NODE,))


def tree_lstm(vocab=10, embed=3, hidden=2):
    """The binary Tree-LSTM of Tai et al. (2015), as one function: h and c of a node."""

    def op(name, inputs, output, **attrs):
        return Op(name, tuple(inputs.split()), (output,), {k: str(v) for k, v in attrs.items()})

    leaf = Block(
        (
            Field("word", NODE, ("%0",)),
            op("Embedding", "%0 @embed_weight", "%1", input_dim=vocab, output_dim=embed),
            op("FullyConnected", "%1 @c_weight @c_bias", "%2", num_hidden=hidden),
            op("FullyConnected", "%1 @o_weight @o_bias", "%3", num_hidden=hidden),
            op("sigmoid", "%3", "%4"),
            op("tanh", "%2", "%5"),
            op("broadcast_mul", "%4 %5", "%6"),
        ),
        Return(("%6", "%2")),
    )
    inner = Block(
        (
            Invoke("tree_lstm", LEFT, (), (), ("%7", "%8")),
            Invoke("tree_lstm", RIGHT, (), (), ("%9", "%10")),
            op("Concat", "%7 %9", "%11", dim=1, num_args=2),
            op("FullyConnected", "%11 @gates_weight @gates_bias", "%12", num_hidden=5 * hidden),
            Op(
                "SliceChannel",
                ("%12",),
                ("%13", "%14", "%15", "%16", "%17"),
                {"num_outputs": "5", "axis": "1"},
            ),
            op("sigmoid", "%13", "%18"),
            op("sigmoid", "%14", "%19"),
            op("sigmoid", "%15", "%20"),
            op("sigmoid", "%16", "%21"),
            op("tanh", "%17", "%22"),
            op("broadcast_mul", "%18 %22", "%23"),
            op("broadcast_mul", "%19 %8", "%24"),
            op("broadcast_mul", "%20 %10", "%25"),
            op("add_n", "%23 %24 %25", "%26", num_args=3),
            op("tanh", "%26", "%27"),
            op("broadcast_mul", "%21 %27", "%28"),
        ),
        Return(("%28", "%26")),
    )
    params = [Param("embed_weight", (vocab, embed), sparse_grad=True)]
    for name, units, inputs in (
        ("c", hidden, embed),
        ("o", hidden, embed),
        ("gates", 5 * hidden, 2 * hidden),
    ):
        params += [Param(f"{name}_weight", (units, inputs)), Param(f"{name}_bias", (units,))]
    body = Block((), Branch(IS_LEAF, {True: leaf, False: inner}))
    return Program({"tree_lstm": Function("tree_lstm", 0, (), 2, body)}, "tree_lstm", tuple(params), 2)


_TEXTS = st.text(max_size=5)
_WHERES = st.one_of(st.just(""), _TEXTS)
_FIELDS = st.sampled_from(["word", "label", "größe", 'quo"te'])
_NUMBERS = st.one_of(st.integers(-(2**40), 2**40), st.booleans(), st.floats(allow_nan=False))
_ATTRIBUTES = st.dictionaries(st.sampled_from(["axis", "shape", "scalar"]), _TEXTS, max_size=2)
_OPERATORS = {
    "tanh": (1, 1),
    "broadcast_add": (2, 1),
    "_zeros": (0, 1),
    "SliceChannel": (1, 3),
    "_rg_own": (2, 2),
}


def references():
    """References to nodes."""
    children = st.builds(lambda ref, i: Expr("child", (ref, const(i))), st.just(NODE), st.integers(0, 3))
    deeper = st.builds(lambda ref, i: Expr("child", (ref, const(i))), children, st.integers(0, 3))
    return st.one_of(st.just(NODE), children, deeper)


def numbers(num_ints=0):
    """Expressions that are numbers."""
    leaves = [
        st.builds(const, _NUMBERS),
        st.builds(lambda r, n: Expr("field", (r, n)), references(), _FIELDS),
    ]
    leaves += [
        st.builds(
            lambda op, r: Expr(op, (r,)),
            st.sampled_from(["arity", "index", "isleaf", "isnone"]),
            references(),
        )
    ]
    leaves += [st.builds(integer, st.integers(0, num_ints - 1))] if num_ints else []
    binary = st.sampled_from(sorted(set(OPERATORS) - {"neg"}))
    return st.recursive(
        st.one_of(leaves),
        lambda inner: st.one_of(
            st.builds(lambda a: Expr("neg", (a,)), inner),
            st.builds(lambda op, a, b: Expr(op, (a, b)), binary, inner, inner),
        ),
        max_leaves=4,
    )


class _Body:
    """Draws the blocks of one function; `signatures` are (num_ints, args, num_outputs) by function."""

    def __init__(self, draw, signatures, name, params):
        self.draw, self.signatures, self.params = draw, signatures, params
        self.num_ints, self.args, self.num_outputs = signatures[name]
        self.made = self.streams = 0

    def fresh(self, number):
        self.made += number
        return tuple(f"%{k}" for k in range(self.made - number, self.made))

    def values(self, visible, number):
        return tuple(self.draw(st.sampled_from(visible)) for _ in range(number))

    def numbers(self, number):
        return tuple(self.draw(numbers(self.num_ints)) for _ in range(number))

    def node(self, visible):
        kind = self.draw(st.sampled_from([Op, Op, Field, Integer, Random, Invoke, ForEach]))
        where = self.draw(_WHERES)
        if kind is Op:
            name = self.draw(st.sampled_from(sorted(_OPERATORS)))
            inputs, outputs = _OPERATORS[name]
            return Op(name, self.values(visible, inputs), self.fresh(outputs), self.draw(_ATTRIBUTES), where)
        if kind is Field:
            return Field(self.draw(_FIELDS), self.draw(references()), self.fresh(1), where)
        if kind is Integer:
            return Integer(*self.numbers(1), self.fresh(1), where)
        if kind is Random:
            self.streams += 1
            return Random(
                self.draw(st.sampled_from(["uniform", "normal", "dropout"])),
                self.fresh(1),
                self.draw(st.tuples(st.just(1), st.integers(0, 9))),
                self.draw(_ATTRIBUTES),
                self.streams,
                where,
            )
        fitting = sorted(n for n, s in self.signatures.items() if kind is Invoke or s[0])
        if not fitting:
            return Field("word", NODE, self.fresh(1), where)
        callee = self.draw(st.sampled_from(fitting))
        num_ints, args, num_outputs = self.signatures[callee]
        if kind is Invoke:
            node = self.draw(st.one_of(references(), st.just(NO_NODE)))
            return Invoke(
                callee,
                node,
                self.numbers(num_ints),
                self.values(visible, args),
                self.fresh(num_outputs),
                where,
            )
        carries = self.draw(st.integers(0, min(args, num_outputs)))
        return ForEach(
            callee,
            self.draw(references()),
            self.numbers(num_ints - 1),
            self.values(visible, args - carries),
            self.values(visible, carries),
            self.fresh(num_outputs),
            where,
        )

    def block(self, visible, depth):
        nodes = []
        for _ in range(self.draw(st.integers(0, 3))):
            node = self.node(visible)
            nodes.append(node)
            visible = visible + list(node.outputs)
        end = self.draw(
            st.sampled_from(["return", "raise", "decide", "switch", "value"] if depth else ["return"])
        )
        if end == "return":
            return Block(tuple(nodes), Return(self.values(visible, self.num_outputs)))
        if end == "raise":
            return Block(
                tuple(nodes),
                Raise(
                    self.draw(st.sampled_from(["ValueError", "KeyError"])),
                    self.draw(_TEXTS),
                    self.draw(_WHERES),
                ),
            )
        answers = st.integers(-3, 9) if end == "switch" else st.booleans()
        drawn = self.draw(st.lists(answers, min_size=1, max_size=3, unique=True))
        arity = Expr("arity", (NODE,))
        test = {"decide": IS_LEAF, "switch": arity}.get(end) or self.values(visible, 1)[0]
        arms = {answer: self.block(visible, depth - 1) for answer in drawn}
        return Block(tuple(nodes), Branch(test, arms, self.draw(_WHERES)))


@st.composite
def programs(draw):
    """Well-formed Programs of one to three functions, which call each other as they like."""
    names = draw(
        st.lists(st.sampled_from(["tree", "tree.loop0", "größe", "f g"]), min_size=1, max_size=3, unique=True)
    )
    signatures = {n: draw(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))) for n in names}
    shapes = st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3).map(tuple))
    params = tuple(
        draw(
            st.builds(
                Param,
                st.just(f"p{k}"),
                shapes,
                st.sampled_from(["float32", "float16"]),
                st.booleans(),
                st.booleans(),
            )
        )
        for k in range(draw(st.integers(1, 3)))
    )
    functions = {}
    for name in names:
        num_ints, args, num_outputs = signatures[name]
        arguments = tuple(f"%a{k}" for k in range(args))
        body = _Body(draw, signatures, name, params)
        visible = [*arguments, *(f"@{p.name}" for p in params)]
        functions[name] = Function(
            name, num_ints, arguments, num_outputs, body.block(visible, draw(st.integers(0, 2)))
        )
    root = draw(st.sampled_from(names))
    return Program(functions, root, params, signatures[root][2])
