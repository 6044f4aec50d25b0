"""Work that was put off: what is needed of it, and its pieces."""
import numpy as np
import pytest
from hypothesis import given
from works import SPLIT, UNARY, X, work_of, works

from recursive_gluon._compat import mx
from recursive_gluon.bridge.segments import Segment, replay
from recursive_gluon.bridge.work import Piece, held

TANH = UNARY[0]


def test_held():
    arrays = [object(), object(), None, object()]
    mine = arrays[1]
    assert held(arrays) == {1} and mine is arrays[1]


def test_views_need_their_bases():
    work = work_of([(TANH, 1, -1), (TANH, 1, 0), (TANH, 1, 1)], 1)
    work.arrays[:] = [object(), object(), object()]
    work.makers += [(1, 0, "first"), (2, 1, "second")]
    assert work.held() == (set(), {})
    mine = work.arrays[2]
    assert work.held() == ({0}, {1: (0, "first"), 2: (1, "second")}) and mine


def test_reach():
    work = work_of([(TANH, 1, -1), (SPLIT, 2, -3), (TANH, 1, 2), ("add", 1, 0, 3)], 3)
    assert work.reach() == [0b1, 0b100, 0b100, 0b101]


def test_draws_are_outputs_in_the_order_of_the_program():
    work = work_of([(TANH, 1, -1)] * 5, 1)
    work.draws = [3, 1]
    assert work.outputs({4, 1, 0}) == [3, 1, 0, 4]


def test_a_key_tells_work_apart():
    def key(*ops, outputs=(0,)):
        return work_of(list(ops), 2).key(outputs)

    one = key((TANH, 1, -1))
    assert one == key((TANH, 1, -1)) and hash(one) == hash(key((TANH, 1, -1)))
    others = [key((UNARY[1], 1, -1)), key((TANH, 1, -2)), key((TANH, 1, -1), outputs=()),
              key((TANH, 1, -1), (TANH, 1, 0))]
    assert one not in others and len(set(others)) == 4


def test_a_piece_has_numbers_of_its_own():
    work = work_of([(TANH, 1, -1), (SPLIT, 2, 0), (TANH, 1, 2), ("add", 1, 3, -2)], 2)
    first, second = work.pieces([[0, 1], [2, 3]], {4})
    assert first.ops == ((TANH, 1, -1), (SPLIT, 2, 0)) and first.inputs == [-1]
    assert first.outputs == [2] and first.own == [2]
    assert second.ops == ((TANH, 1, -1), ("add", 1, 0, -2)) and second.inputs == [2, -2]
    assert second.outputs == [4] and second.own == [1]


def test_what_nobody_needs_is_no_piece():
    work = work_of([(TANH, 1, -1), (TANH, 1, -2)], 2)
    (piece,) = work.pieces([[0], [1]], {1})
    assert piece.outputs == [1]


def computed(pieces, work):
    values = {}
    for piece in pieces:
        assert isinstance(piece, Piece)
        inputs = [values[n] if n >= 0 else work.externals[~n] for n in piece.inputs]
        values.update(zip(piece.outputs, arrays_of(replay(piece.ops, inputs, piece.own))))
    return values


def arrays_of(handles):
    return [mx.nd.NDArray(mx.base.NDArrayHandle(handle)) for handle in handles]


@given(works(samplers=False))
def test_pieces_compute_what_the_whole_does(made):
    work, needed, cut = made
    work.ops = [op for op in work.ops if op[0] is not SPLIT]  # shapes stay (2, 2)
    count = len(work.ops)
    work.ops = [(op[0], 1, *(min(read, at - 1) if read >= 0 else read for read in op[2:]))
                if at else (op[0], 1, *(-1 for _ in op[2:])) for at, op in enumerate(work.ops)]
    needed = {n for n in needed if n < count}
    work.avals = work.avals[:count]
    whole = arrays_of(replay(work.ops, work.externals, range(count)))
    start, stop = min(cut.start, count), min(cut.stop, count)
    groups = [range(0, start), range(start, stop), range(stop, count)]
    values = computed(work.pieces([group for group in groups if group], needed), work)
    assert all(np.array_equal(values[n].asnumpy(), whole[n].asnumpy(), equal_nan=True) for n in needed)


@pytest.mark.parametrize("mode", [(0, 0, 0), (1, 1, 0)], ids=["predicting", "recording"])
@pytest.mark.parametrize("fixed", [False, True], ids=["any shapes", "these shapes"])
def test_a_segment_computes_what_its_calls_do(mode, fixed):
    work = work_of([(TANH, 1, -1), (TANH, 1, 0), (UNARY[1], 1, 0)], 1)
    work.mode = mode
    (piece,) = work.pieces([range(3)], {1, 2})
    segment = Segment(piece, set(), {}, fixed)
    made = arrays_of(segment([X]))
    assert [m.asnumpy().tolist() for m in made] == [
        X.tanh().tanh().asnumpy().tolist(), X.tanh().sigmoid().asnumpy().tolist()]
