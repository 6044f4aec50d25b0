"""Everything is in setup.cfg, but for what it cannot do: refuse a wrong Python early, read the version."""
import sys
from pathlib import Path

from setuptools import setup

# python_requires alone is not enough: on 3.12 pip and uv first try to build NumPy 1.23, and die of it.
if not (3, 8) <= sys.version_info[:2] <= (3, 11):
    sys.exit("recursive_gluon needs Python 3.8-3.11 (MXNet 1.9.1 needs numpy<1.24, which has no wheels "
             "for {}.{}). Run `make setup`, or: uv venv --python 3.11".format(*sys.version_info[:2]))

# Not by `attr:` in setup.cfg: before setuptools 61 (Python 3.8, 3.9) that imports the package, and so mxnet.
about = {}
exec((Path(__file__).parent / "recursive_gluon" / "__about__.py").read_text(encoding="utf-8"), about)
setup(version=about["__version__"])
