"""Python to Programs. A body runs with symbolic nodes and symbols that behave as NDArrays; every path is taken once.

Invariants: a trace never changes the user's objects; a body that could not be converted is a `Record` or an error of
`errors.py` with the user's file and line, never a guess; the same body gives the same Program, name by name.
"""
