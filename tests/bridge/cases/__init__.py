"""Gluon programs with the features that defeat conversion, written as users write them.

Each is a generator function of `convert`, which takes a net (or a plain function) and gives the one to run; after each
step it yields what a user could see. The steps settle on one path and then leave it. Numbers up to 45 are those of the
published coverage tables of graph converters; the others are Gluon's own traps.
"""
from . import arrays as arrays
from . import branches as branches
from . import effects as effects
from . import gradients as gradients
from . import language as language
from . import lifecycle as lifecycle
from . import novelty as novelty
from . import numpy_interface as numpy_interface
from . import operators as operators
from . import recursion as recursion
from . import reuse as reuse
from . import training as training
from . import values as values
from .registry import CASES as CASES
from .registry import Case as Case
