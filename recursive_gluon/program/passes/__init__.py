"""Passes: pure functions from a Program to a Program, or from a body's operators to operators.

`specialize` decides what depends on the mode (dropout becomes a keyed draw), `substitute` replaces operators by faster
equals, `prune` leaves out what nobody uses, `autodiff` differentiates a run of operators by the rule table, `lift`
takes out what follows from parameters alone, `tangents` gives every value its derivative in a direction beside it (of
one operator: `tangent_ops`), which is what second-order gradients are gradients of. A pass changes nothing in place,
keeps the meaning of every function and the order of its call sites and random streams (keys of random numbers count
them), and runs no operator.
"""
