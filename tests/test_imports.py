"""import_block: an exported net without its source."""
import json

import mxnet as mx
import pytest
from mxnet.gluon import nn

import recursive_gluon as rg
from recursive_gluon.errors import MissingParamsError, ProgramFormatError


class Height(rg.RecursiveBlock):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.combine = nn.Dense(3, in_units=3)
            self.embed = nn.Embedding(10, 3)

    def hybrid_forward(self, F, node):
        if node.is_leaf:
            return self.embed(node['value'])
        return F.tanh(self.combine(sum(self(child) for child in node.children)))


def leaf(value):
    return rg.Tree(value=value)


@pytest.fixture
def exported(tmp_path):
    net = Height()
    net.initialize(mx.init.Normal(1))
    net.hybridize()
    forest = rg.Forest([rg.Tree([leaf(1), leaf(2)], value=0), rg.Tree([leaf(3), leaf(4), leaf(5)], value=0)])
    out = net(forest)
    net.export(str(tmp_path / 'net'))
    return tmp_path, forest, out


def test_a_forest_goes_in_as_it_is(exported):
    folder, forest, out = exported
    block = rg.import_block(str(folder / 'net-symbol.json'))
    assert (block(forest) == out).asnumpy().all()
    assert (block(*forest) == out).asnumpy().all()


def test_without_parameters(exported):
    folder = exported[0]
    (folder / 'net-0000.params').unlink()
    with pytest.raises(MissingParamsError, match='no parameter file beside it; it needs .*weight'):
        rg.import_block(str(folder / 'net-symbol.json'))


def test_with_the_parameters_of_another_net(exported):
    folder = exported[0]
    mx.nd.save(str(folder / 'other.params'), {'arg:something': mx.nd.zeros((1,))})
    with pytest.raises(MissingParamsError, match='other.params lacks'):
        rg.import_block(str(folder / 'net-symbol.json'), str(folder / 'other.params'))


def test_a_symbol_file_cut_short(exported):
    path = exported[0] / 'net-symbol.json'
    text = path.read_text()
    path.write_text(text[:len(text) // 2])
    with pytest.raises(ProgramFormatError, match='cut short'):
        rg.import_block(str(path))


def test_a_program_cut_short(exported):
    path = exported[0] / 'net-symbol.json'
    graph = json.loads(path.read_text())
    for node in graph['nodes']:
        if 'program' in node.get('attrs', {}):
            node['attrs']['program'] = node['attrs']['program'][:200]
    path.write_text(json.dumps(graph))
    with pytest.raises(ProgramFormatError):
        rg.import_block(str(path))
