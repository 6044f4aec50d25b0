"""Programs to Plans, in NumPy alone: nothing here touches an NDArray or runs a model.

`recipe` divides a Program into segments and ports (once per Program, mode and shapes); `frames` finds all calls of all
functions on all trees, wave by wave; `plan` gives units their levels and rows. Invariants: no Python loop over frames;
row 0 of every port is zero; every sum and every order follows from the plan, so that equal inputs give equal bits.
"""
