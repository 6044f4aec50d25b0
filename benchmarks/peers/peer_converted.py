"""recursive_gluon.hybridize() on peer_mxnet.py as it is: naive recursion, one tree at a time, its operators batched on the
fly. The command line is that of peer_mxnet.py."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
import common

import recursive_gluon as rg

main = common.main


def converted(name, peer, args, info=None):
    peer.train_step, peer.infer = rg.hybridize(peer.train_step), rg.hybridize(peer.infer)
    main("rg-converted", peer, args, {"version": rg.__version__})


common.main = converted
import peer_mxnet  # noqa: E402, F401 - runs
