"""Whole programs of the kinds that are published for Gluon, written in the style that such programs have.

Each module has `make(convert, small)`, which builds the program and returns `(step, state)`. `step(i)` does the i-th
step, of training or of inference, and returns what a user would see; the steps settle and then change. `state()` gives
the nets whose parameters are compared. `small` is for comparing, the other size for timing.
"""
import importlib

# name: what is hard about it
PROGRAMS = {
    "lstm_crf": "loops over tags, Viterbi with asscalar; training does not call forward",
    "actor_critic": "an environment inside record(), asnumpy, several heads",
    "sn_gan": "a parameter that changes in forward, if on a tensor",
    "supernet": "a random path, if on a tensor",
    "transformer": "mx.np, attributes stored, growing states, greedy decoding",
    "tree_lstm": "recursion over Python trees",
    "generation": "a cache that grows, a sampling loop",
    "dropblock": "a branch on the mode, an attribute that is scheduled",
    "detector": "other outputs in inference, images of many sizes, targets by NumPy",
    "two_stage": "samplers as plain Blocks, proposals of varying number",
    "bert": "nothing (a control)",
    "resnet": "nothing (a control)",
}


def program(name):
    """The module of this name."""
    return importlib.import_module(f"{__name__}.{name}")


def running(name, steps=12):
    """The generator function of a case (tests/bridge/cases), for comparing."""
    from cases.common import state as parameters

    def generator(convert):
        step, state = program(name).make(convert, small=True)
        for i in range(steps):
            yield step(i), [parameters(net) for net in state()]
    return generator
