"""Work that was put off, made up: calls on arrays that exist, with random structure."""
from hypothesis import strategies as st

from recursive_gluon._compat import mx
from recursive_gluon.bridge.work import Work
from recursive_gluon.capture.calls import array_aval, call, operator_handle

X = mx.nd.ones((2, 2))
UNARY = [call(operator_handle(name), (), (), False, False) for name in ("tanh", "sigmoid", "exp")]
BINARY = [call(operator_handle(name), (), (), False, False) for name in ("broadcast_add", "broadcast_mul")]
SPLIT = call(operator_handle("SliceChannel"), ("num_outputs", "axis"), (2, 0), False, True)
SAMPLER = call(operator_handle("_random_normal_like"), (), (), False, False)


def work_of(ops, externals):
    """Work of these (call, how many values, *reads), of which all draw whose call is the sampler."""
    work = Work((1, 1, 0), False)
    work.externals = [X + i for i in range(externals)]
    work.external_avals = [array_aval(X)] * externals
    for op in ops:
        if op[0] is SAMPLER:
            work.draws.append(len(work.avals))
        work.ops.append(op)
        work.avals += [array_aval(X)] * op[1]
        work.arrays += [None] * op[1]
    return work


@st.composite
def works(draw, samplers=True):
    """Work, the values of it that Python holds, and a part of its calls."""
    externals = draw(st.integers(1, 4))
    ops, values = [], 0
    kinds = [UNARY, BINARY, [SPLIT]] + [[SAMPLER]] * samplers
    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(kinds))
        op = draw(st.sampled_from(kind))
        reads = draw(st.lists(st.integers(-externals, values - 1), min_size=1 + (kind is BINARY),
                              max_size=1 + (kind is BINARY)))
        ops.append((op, 1 + (op is SPLIT), *reads))
        values += ops[-1][1]
    needed = draw(st.sets(st.integers(0, values - 1), min_size=1))
    start = draw(st.integers(0, len(ops) - 1))
    return work_of(ops, externals), needed, range(start, draw(st.integers(start + 1, len(ops))))
