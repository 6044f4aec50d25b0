"""Cells and networks over trees, written as any Gluon block is."""
from .binary_tree_lstm_cell import BinaryTreeLSTMCell
from .rntn import RNTN
from .rntn_cell import RNTNCell
from .top_down_tree_lstm import TopDownTreeLSTM
from .tree_lstm import TreeLSTM
from .tree_rnn import TreeRNN
from .tree_rnn_cell import TreeRNNCell

__all__ = ['RNTN', 'BinaryTreeLSTMCell', 'RNTNCell', 'TopDownTreeLSTM', 'TreeLSTM', 'TreeRNN', 'TreeRNNCell']
