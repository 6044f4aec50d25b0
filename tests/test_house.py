"""The house keeps its shape: who may import whom, how long a file is, what a folder says, what is pinned."""
import ast
import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "recursive_gluon"

GROUND = {"errors", "_compat", "__about__", "structure"}
# A part (a folder or a module of the package), and the parts that it may import. The door may import all.
ARROWS = {
    **{part: GROUND for part in GROUND},
    "program": GROUND,
    "capture": GROUND | {"program"},
    "schedule": GROUND | {"program"},
    "native": GROUND,
    "runtime": GROUND | {"program", "schedule", "native"},
    "bridge": GROUND | {"program", "schedule", "capture", "runtime", "native"},
    "data": GROUND | {"native"},
    "_progress": GROUND,
    "trainer": GROUND | {"capture", "native"},
    "trace": GROUND | {"runtime", "block"},
    "__main__": GROUND | {"native", "runtime"},
    "eager": GROUND | {"capture", "data"},
    "source": GROUND | {"program", "capture", "schedule", "runtime"},
    "core_calls": GROUND | {"capture", "schedule", "runtime"},
    "block": GROUND | {"program", "capture", "schedule", "runtime", "data", "eager", "source", "core_calls"},
    "subgraph": GROUND | {"capture", "block"},
    "imports": GROUND | {"program", "runtime", "data"},
    "hybridize": GROUND | {"bridge", "block"},
    "explain": GROUND | {"program", "capture", "schedule", "runtime", "data", "bridge", "block"},
    "nn": GROUND | {"program", "capture", "schedule", "runtime", "data", "block"},
    "tune": GROUND - {"structure"},
    "viz": GROUND - {"structure"} | {"program", "data"},
}


def part_of(path, package):
    """The part that a file belongs to: its top folder, or the module itself."""
    top = path.relative_to(package).parts[0]
    return top[:-3] if top.endswith(".py") else top


def is_type_checking(test):
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def imports(tree):
    """Every import of a module that runs, in functions too; those for the type checker alone do not count."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def imported_parts(path, package):
    """(line, part) for each import of our own; the part is '__init__' where the door itself is imported."""
    here = path.relative_to(package.parent).with_suffix("").parts
    for node in imports(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            base = list(here[:len(here) - node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [base + [alias.name] for alias in node.names]
        for target in targets:
            if target[0] != package.name:
                continue
            top = target[1] if len(target) > 1 else "__init__"
            is_part = (package / top).is_dir() or (package / f"{top}.py").is_file()
            yield node.lineno, top if is_part else "__init__"


def wrong_arrows(package):
    for path in sorted(package.rglob("*.py")):
        part = part_of(path, package)
        if part == "__init__":
            continue
        if part not in ARROWS:
            yield f"{path.relative_to(package)}: ARROWS has no rule for {part}"
            continue
        for line, imported in imported_parts(path, package):
            if imported != part and imported not in ARROWS[part]:
                yield f"{path.relative_to(package)}:{line}: {part} may not import {imported}"


def test_import_arrows():
    assert list(wrong_arrows(PACKAGE)) == []


@pytest.mark.parametrize("where, code, seen", [
    ("program/a.py", "from ..schedule import x", "schedule"),
    ("program/a.py", "from .. import schedule", "schedule"),
    ("program/passes/a.py", "from ...schedule.b import x", "schedule"),
    ("program/passes/__init__.py", "from ...schedule import b", "schedule"),
    ("program/a.py", "import pkg.schedule.b", "schedule"),
    ("program/a.py", "from pkg.schedule import b", "schedule"),
    ("program/a.py", "from pkg import schedule as s", "schedule"),
    ("program/a.py", "def f():\n    from ..schedule import b", "schedule"),
    ("program/a.py", "import pkg", "__init__"),
    ("program/a.py", "from .. import Name", "__init__"),
    ("errors.py", "from .program import x", "program"),
    ("tune/a.py", "from ..structure import x", "structure"),
    ("program/a.py", "if TYPE_CHECKING:\n    from ..schedule import b", None),
    ("program/a.py", "if t.TYPE_CHECKING:\n    from ..schedule import b", None),
    ("program/a.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from ..schedule import b", "schedule"),
    ("program/a.py", "from . import b\nfrom .passes.a import x\nfrom ..errors import E\nimport numpy", None),
    ("__init__.py", "from .tune import study\nfrom .block import B", None),
])
def test_arrow_checker(tmp_path, where, code, seen):
    package = tmp_path / "pkg"
    for folder in ("program/passes", "schedule", "tune"):
        (package / folder).mkdir(parents=True)
    for module in ("errors.py", "structure.py", "block.py"):
        (package / module).touch()
    (package / where).write_text(code)
    wrong = list(wrong_arrows(package))
    assert len(wrong) == (seen is not None)
    assert all(line.endswith(f"may not import {seen}") for line in wrong)


def test_a_new_part_needs_a_rule(tmp_path):
    (tmp_path / "novel.py").touch()
    assert list(wrong_arrows(tmp_path)) == ["novel.py: ARROWS has no rule for novel"]


def sources():
    kinds = {".py", ".cc", ".cpp", ".h", ".cu", ".cuh", ".def", ".md"}
    inside = (path for path in PACKAGE.rglob("*") if "build" not in path.relative_to(PACKAGE).parts)
    return sorted(path for path in inside if path.suffix in kinds)


def test_files_are_short():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in sources()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_folders_say_what_they_are_for():
    """A README.md, or a docstring in __init__.py: what, why, and what always holds."""
    silent = []
    for folder in sorted({path.parent for path in sources()}):
        readme, init = folder / "README.md", folder / "__init__.py"
        text = readme.read_text(encoding="utf-8") if readme.exists() else ""
        if init.exists():
            text += ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        if len(text.split()) < 12:  # fewer words cannot say what, why and what holds
            silent.append(str(folder.relative_to(ROOT)))
    assert silent == []


def declared():
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    return [Requirement(line) for text in lists for line in text.splitlines() if line]


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.8", "3.9", "3.10", "3.11"])
def test_constraints_agree_with_setup_cfg(python):
    """Each requirement has exactly one pin for each Python, and admits it."""
    machine = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux",
               "platform_python_implementation": "CPython"}
    pinned = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(machine):
            assert pin.name not in pinned
            pinned[pin.name] = re.fullmatch("==([^,*]+)", str(pin.specifier))[1]
    for requirement in declared():
        if requirement.marker and not requirement.marker.evaluate(machine):
            continue
        assert requirement.specifier.contains(pinned[requirement.name]), str(requirement)


def test_constraints_name_no_place():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*-|index", text, re.MULTILINE)


def test_version_is_the_same_everywhere():
    about = {}
    exec((PACKAGE / "__about__.py").read_text(encoding="utf-8"), about)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {about['__version__']}\n" in citation
