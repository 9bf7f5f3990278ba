"""A layer imports only layers below it, the lower ones load no heavy library, and no private name crosses a module."""

import ast
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import algo_research

PACKAGE = Path(algo_research.__file__).parent
LINT = Path(sys.executable).parent / "lint-imports"
LIGHT = ("core", "data", "stats", "features", "execution", "views")
HEAVY = ("pandas", "vectorbt", "mlflow", "torch", "sklearn", "talib")


def layers(container: str) -> list[list[str]]:
    """The layers of the configuration, highest first; those of one line are siblings."""
    configuration = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    contracts = configuration["tool"]["importlinter"]["contracts"]
    lines = next(c["layers"] for c in contracts if c.get("containers") == [container])
    return [line.split(" | ") for line in lines]


def upward_imports(container: str) -> list[tuple[str, str]]:
    """For each layer a module above it that it must not import, and each pair of siblings both ways."""
    lines = layers(container)
    up = [(low, high) for above, below in itertools.pairwise(lines) for high in above for low in below]
    beside = [(one, other) for line in lines for one in line for other in line if one != other]
    return [(f"{container}.{one}", f"{container}.{other}") for one, other in up + beside]


def lint(folder: Path) -> subprocess.CompletedProcess:
    """import-linter on the package in `folder`."""
    return subprocess.run([LINT, "--no-cache"], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path) -> Path:
    """A folder with a copy of the package and of its configuration."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "algo_research", ignore=ignore)
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    return tmp_path


def plant(folder: Path, importer: str, imported: str, how: str) -> str:
    """Make one module import another, in new files where the layers are packages; what import-linter says of it."""
    for layer, name in ((importer, "planted"), (imported, "target")):
        path = folder / layer.replace(".", "/")
        if path.is_dir():
            (path / f"{name}.py").touch()
    module = f"{importer}.planted" if (folder / importer.replace(".", "/")).is_dir() else importer
    target = f"{imported}.target" if (folder / imported.replace(".", "/")).is_dir() else imported
    with (folder / f"{module.replace('.', '/')}.py").open("a") as file:
        file.write(how.format(target=target))
    return f"{module} -> {target}"


HOW = ("import {target}\n", "def late():\n    import {target}\n")


@pytest.mark.process
def test_no_layer_looks_up():
    done = lint(PACKAGE.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.process
def test_an_upward_import_from_each_layer_is_reported(copy):
    pairs = upward_imports("algo_research") + upward_imports("algo_research.data")
    planted = [plant(copy, *pair, HOW[i % 2]) for i, pair in enumerate(pairs)]
    done = lint(copy)
    assert len(planted) > 30 and done.returncode == 1
    assert [p for p in planted if p not in done.stdout] == []


@pytest.mark.process
def test_the_sandbox_stands_apart(copy):
    planted = [
        plant(copy, "algo_research.cli", "algo_research.sandbox", HOW[1]),
        plant(copy, "algo_research.sandbox", "algo_research.strategies", HOW[0]),
    ]
    done = lint(copy)
    assert done.returncode == 1
    assert [p for p in planted if p not in done.stdout] == []


@pytest.mark.process
def test_a_package_on_no_layer_is_reported(copy):
    (copy / "algo_research" / "attic").mkdir()
    (copy / "algo_research" / "attic" / "__init__.py").touch()
    done = lint(copy)
    assert done.returncode == 1 and "- algo_research.attic" in done.stdout


LOAD = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    for heavy in sys.argv[1].split(","):
        if heavy in sys.modules:
            sys.exit(f"{name} loads {heavy}")
"""


def heavy_import(modules: list[str], folder: Path) -> str:
    """The first of these modules that loads a heavy library, in a fresh interpreter; empty when none does."""
    command = [sys.executable, "-c", LOAD, ",".join(HEAVY), *modules]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stderr.strip()


@pytest.mark.process
def test_the_lower_layers_are_light():
    paths = [p.relative_to(PACKAGE.parent) for name in LIGHT for p in sorted((PACKAGE / name).rglob("*.py"))]
    modules = [".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in paths]
    assert len(modules) > 50 and heavy_import(modules, PACKAGE.parent) == ""


@pytest.mark.process
def test_a_heavy_module_is_caught(tmp_path):
    (tmp_path / "light.py").write_text("import math\ndef late():\n    import pandas\n")
    (tmp_path / "planted.py").write_text("import pandas\n")
    assert heavy_import(["light"], tmp_path) == ""
    assert heavy_import(["light", "planted"], tmp_path) == "planted loads pandas"


def private_imports(package: Path) -> list[tuple[str, str]]:
    """Names with a leading underscore that a module of the package takes from another one of it."""
    found = []
    for path in sorted(package.rglob("*.py")):
        if path.name == "_modidx.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            own = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith(package.name))
            names = [alias.name for alias in node.names] if own else []
            found += [
                (str(path.relative_to(package)), n) for n in names if n.startswith("_") and not n.startswith("__")
            ]
    return found


def test_no_private_name_crosses_a_module():
    assert private_imports(PACKAGE) == []


def test_a_planted_private_import_is_caught(tmp_path):
    package = tmp_path / "algo_research"
    package.mkdir()
    (package / "a.py").write_text("from .b import _hidden, shown\nfrom . import __version__\n")
    (package / "b.py").write_text("from os import _exit\ndef late():\n    from algo_research.c import _late as late\n")
    assert private_imports(package) == [("a.py", "_hidden"), ("b.py", "_late")]


def defined(path: Path) -> set[str]:
    """What a module gives away: names it binds at its top, also inside `if` and `with`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def sources(root: Path) -> list[tuple[str, tuple[str, ...], str]]:
    """Name, package and text of every module, test, tool and code cell."""
    found = []
    for folder in ("algo_research", "tests", "tools", "benchmarks"):
        for path in sorted((root / folder).rglob("*.py")):
            package = path.relative_to(root).parent.parts if folder == "algo_research" else ()
            found.append((path.relative_to(root).as_posix(), package, path.read_text()))
    for path in sorted((root / "nbs").rglob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        text = "\n".join(re.sub(r"^[%!].*$", "pass", cell, flags=re.MULTILINE) for cell in cells)
        found.append((path.relative_to(root).as_posix(), (), text))
    return found


def broken_imports(root: Path) -> list[str]:
    """Imports from the package, wherever in a module or notebook, of what is not there."""
    found, known = [], {}
    for name, package, text in sources(root):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1] if node.level else ()
            parts = (*base, *(node.module or "").split("."))
            folder = root.joinpath(*filter(None, parts))
            if not folder.is_relative_to(root / "algo_research"):
                continue
            path = folder.with_suffix(".py") if folder.with_suffix(".py").is_file() else folder / "__init__.py"
            if not path.is_file() and not folder.is_dir():
                found.append(f"{name}: no module {'.'.join(filter(None, parts))}")
                continue
            if path not in known:
                known[path] = defined(path) if path.is_file() else set()
            for alias in node.names:
                inner = folder / alias.name
                if alias.name not in known[path] and not inner.is_dir() and not inner.with_suffix(".py").is_file():
                    found.append(f"{name}: {'.'.join(filter(None, parts))} has no {alias.name}")
    return found


def test_every_import_from_the_package_leads_somewhere():
    assert broken_imports(PACKAGE.parent) == []


def test_a_broken_import_is_found(tmp_path):
    package = tmp_path / "algo_research"
    (package / "core").mkdir(parents=True)
    (package / "core/errors.py").write_text("class InputError(Exception): pass\n")
    late = "def late():\n    from ..core.errors import (\n        InputError,\n        OutputError,\n    )\n"
    (package / "core/late.py").write_text(late)
    (package / "gone.py").write_text("from .core.missing import x\n")
    cell = nbformat.v4.new_code_cell("%matplotlib inline\nfrom algo_research.core import errors, absent")
    (tmp_path / "nbs").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "nbs/page.ipynb")
    assert broken_imports(tmp_path) == [
        "algo_research/core/late.py: algo_research.core.errors has no OutputError",
        "algo_research/gone.py: no module algo_research.core.missing",
        "nbs/page.ipynb: algo_research.core has no absent",
    ]
