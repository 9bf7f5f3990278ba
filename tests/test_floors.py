"""A floor imports only floors below it, and floors 1 to 3 load no heavy library (table in the design's section on the house)."""

import ast
import subprocess
import sys
from pathlib import Path

import algo_research

ROOT = Path(algo_research.__file__).parent
FLOORS = {
    "core": 1,
    **dict.fromkeys(("data", "stats"), 2),
    **dict.fromkeys(("features", "portfolio", "risk", "execution"), 3),
    **dict.fromkeys(("models", "rl"), 4),
    "strategies": 5,
    "backtest": 6,
    **dict.fromkeys(("runs", "trading"), 7),
    **dict.fromkeys(("serving", "monitoring"), 8),
    "cli": 9,
    "sandbox": 10,  # a process of its own: nothing may import it
}
HEAVY = ("pandas", "vectorbt", "mlflow", "torch", "sklearn", "talib")


def imported_names(path: Path, root: Path) -> list[tuple[int, str]]:
    """Line and full name of everything a module imports, wherever in it, relative imports resolved."""
    package = (root.name, *path.relative_to(root).parent.parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join((*base, *(node.module or "").split("."))).strip(".")
            found += [(node.lineno, f"{prefix}.{alias.name}") for alias in node.names]
    return found


def violations(root: Path) -> list[str]:
    """Every import of a package that is not on a lower floor."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        own = parts[0] if len(parts) > 1 else None
        floor = FLOORS.get(own, 0)  # modules beside the packages belong to no floor and may import none
        if own and own not in FLOORS:
            found.append(f"{own} is on no floor")
        for line, name in imported_names(path, root):
            top, _, rest = name.partition(".")
            other = rest.split(".")[0]
            is_package = other in FLOORS or (other and (root / other).is_dir())
            if top == root.name and is_package and other != own and not FLOORS.get(other, 99) < floor:
                found.append(f"{'/'.join(parts)}:{line} imports {name}")
    return found


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
    done = subprocess.run([sys.executable, "-c", LOAD, ",".join(HEAVY), *modules], cwd=folder, capture_output=True, text=True)
    return done.stderr.strip()


def test_no_floor_looks_up():
    assert violations(ROOT) == []


def test_the_lower_floors_are_light():
    paths = [p for name, floor in FLOORS.items() if floor <= 3 for p in sorted((ROOT / name).glob("*.py"))]
    modules = [".".join((ROOT.name, p.parent.name, p.stem)).removesuffix(".__init__") for p in paths]
    assert len(modules) > 20 and heavy_import(modules, ROOT.parent) == ""


def test_a_heavy_module_is_caught(tmp_path):
    (tmp_path / "light.py").write_text("import math\ndef late():\n    import pandas\n")
    (tmp_path / "planted.py").write_text("import pandas\n")
    assert heavy_import(["light"], tmp_path) == ""
    assert heavy_import(["light", "planted"], tmp_path) == "planted loads pandas"


def test_planted_violations_are_caught(tmp_path):
    planted = {
        "core/a.py": "from ..data.market.bars import Dataset",
        "data/b.py": "from ..stats import sharpe",
        "data/c.py": "def late():\n    import algo_research.features.contract",
        "features/d.py": "from .. import core, models",
        "stats/e.py": "from algo_research.execution.accounting import run",
        "runs/f.py": "from .. import trading as t",
        "cli/g.py": "from algo_research import sandbox",
        "cli/h.py": "from ..sandbox.server import main",
        "attic/i.py": "import os",
        "core/deep/j.py": "from ...data import bars",
        "_k.py": "from .core import errors",
        "cli/l.py": "from ..attic import i",
        # and what is allowed
        "data/m.py": "from .bars import Dataset\nfrom . import store\nfrom ..core.errors import InputError\nimport polars, data.other\nfrom os import path",
        "cli/n.py": "from algo_research.research.road import walk\nfrom .. import __version__\nfrom algo_research.cli.common import x",
        "sandbox/o.py": "from ..core import clock",
    }
    for name, text in planted.items():
        path = tmp_path / "algo_research" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert violations(tmp_path / "algo_research") == [
        "_k.py:1 imports algo_research.core.errors",
        "attic is on no floor",
        "cli/g.py:1 imports algo_research.sandbox",
        "cli/h.py:1 imports algo_research.sandbox.server.main",
        "cli/l.py:1 imports algo_research.attic.i",
        "core/a.py:1 imports algo_research.data.market.bars.Dataset",
        "core/deep/j.py:1 imports algo_research.data.market.bars",
        "data/b.py:1 imports algo_research.stats.sharpe",
        "data/c.py:2 imports algo_research.features.contract",
        "features/d.py:1 imports algo_research.models",
        "runs/f.py:1 imports algo_research.trading",
        "stats/e.py:1 imports algo_research.execution.accounting.run",
    ]
