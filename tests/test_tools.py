"""The checks of the repository itself must be able to fail."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECRET_SCAN = load("secret_scan")  # what it imports asks for a socket once, to see which addresses there are


@pytest.fixture
def tree(tmp_path):
    """A small project with one exported notebook."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("nbs/core", "algo_research/core"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "nbs/core/00_errors.ipynb", tmp_path / "nbs/core")
    for name in ("core/__init__.py", "core/errors.py"):
        shutil.copy(ROOT / "algo_research" / name, tmp_path / "algo_research" / name)
    # the package's own lists modules that are not here
    (tmp_path / "algo_research/__init__.py").write_text('__version__ = "0.1.0"\n')
    return tmp_path


def drift(tree, tmp_path_factory):
    module, copy = load("drift"), tmp_path_factory.mktemp("copy")
    module.remake(tree, copy)
    return [line for line in module.differences(tree, copy) if "_modidx" not in line]


@pytest.mark.process
def test_drift_is_silent_when_all_agrees_and_sees_each_difference(tree, tmp_path_factory):
    assert drift(tree, tmp_path_factory) == []
    errors = tree / "algo_research/core/errors.py"
    errors.write_text(errors.read_text() + "\nEDITED = True\n")
    assert drift(tree, tmp_path_factory) == ["algo_research/core/errors.py: run nbdev-export"]
    errors.unlink()
    assert drift(tree, tmp_path_factory) == ["algo_research/core/errors.py: not exported; run nbdev-export"]


@pytest.mark.process
def test_drift_sees_an_orphan_and_an_unclean_notebook(tree, tmp_path_factory):
    orphan = tree / "algo_research/core/gone.py"
    orphan.write_text((tree / "algo_research/core/errors.py").read_text())
    notebook = tree / "nbs/core/00_errors.ipynb"
    content = json.loads(notebook.read_text())
    next(c for c in content["cells"] if c["cell_type"] == "code")["execution_count"] = 7
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    found = drift(tree, tmp_path_factory)
    assert "algo_research/core/gone.py: no notebook exports it; delete it" in found
    assert "nbs/core/00_errors.ipynb: run nbdev-clean" in found


def test_the_secret_scan_finds_a_planted_secret(tmp_path):
    scan = SECRET_SCAN.scan
    clean, planted = tmp_path / "clean.py", tmp_path / "planted.py"
    clean.write_text("fees = 0.001\n")
    planted.write_text("key = '" + "AKIA" + "QYLPMN5HFIQR7XYA" + "'\n" + "-----BEGIN RSA " + "PRIVATE KEY-----\n")
    assert scan(clean) == []
    assert len(scan(planted)) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_is_small_and_opens_with_its_promise(path):
    if ".ipynb_checkpoints" in path.parts:
        pytest.skip("a checkpoint")
    assert path.stat().st_size < 250_000
    cells = json.loads(path.read_text())["cells"]
    assert re.match(r"# .+\n\n> .+", "".join(cells[0]["source"]))
    assert len({c["id"] for c in cells}) == len(cells)
    assert not any(c.get("execution_count") for c in cells)
