"""recursive_gluon: recursive models, graph speed, ordinary Gluon. A plug-in for Apache MXNet 1.9.1."""

from . import data as data
from . import nn as nn
from .__about__ import __version__ as __version__
from .block import RecursiveBlock as RecursiveBlock
from .bridge.check import check as check
from .data import Forest as Forest
from .data import Tree as Tree
from .explain import explain as explain
from .hybridize import hybridize as hybridize
from .imports import import_block as import_block
from .structure import string_code as string_code
from .subgraph import SubGraph as SubGraph
from .trace import trace as trace
from .trainer import Trainer as Trainer

__all__ = [
    "Forest",
    "RecursiveBlock",
    "SubGraph",
    "Trainer",
    "Tree",
    "check",
    "data",
    "explain",
    "hybridize",
    "import_block",
    "nn",
    "string_code",
    "trace",
    "__version__",
]
