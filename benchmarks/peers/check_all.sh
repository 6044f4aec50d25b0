#!/bin/bash
# The losses of 4 training steps (batch 25, equal weights and trees) and the first root's logits, every peer: must agree.
cd "$(dirname "$0")"
for m in treelstm treernn rntn; do
  venvs/th/bin/python peer_torch_naive.py --model $m --check 4
  for v in cat carry manual; do venvs/th/bin/python peer_torch_level.py --variant $v --model $m --check 4; done
  venvs/dgl/bin/python peer_dgl.py --model $m --check 4
  venvs/dy/bin/python peer_dynet.py --model $m --check 4 2>/dev/null
  venvs/mx/bin/python peer_mxnet.py --model $m --check 4
  venvs/mx/bin/python peer_mxnet.py --hybridize --model $m --check 4
  venvs/mx/bin/python peer_mxnet_level.py --model $m --check 4
  venvs/mx/bin/python peer_rg.py --model $m --check 4
  venvs/mx/bin/python peer_rg.py --executor reference --model $m --check 4
  venvs/jax/bin/python peer_jax.py --model $m --check 4
  venvs/tf/bin/python peer_tf.py --style eager --model $m --check 4 2>/dev/null
  venvs/tf/bin/python peer_tf.py --style while --model $m --check 4 2>/dev/null
done
