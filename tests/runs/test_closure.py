"""What a run's code is: the modules it imported, wherever they lie."""

import json
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from algo_research.runs.closure import (
    MODULES,
    _component_packages,
    code_snapshot,
    dependency_versions,
    present_code,
    read_imported,
)


def imported(root, **files) -> dict[str, str]:
    (root / MODULES).write_text(json.dumps({name: str(path) for name, path in files.items()}))
    return read_imported(root / MODULES, root, code_snapshot(root))


def test_a_module_in_a_folder_called_reports_is_still_code(tmp_path):
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports/rules.py"
    path.write_text("x = 1")
    ran = imported(tmp_path, **{"reports.rules": path})
    assert present_code(ran, code_snapshot(tmp_path), tmp_path) == ran
    path.write_text("x = 2")
    assert present_code(ran, code_snapshot(tmp_path), tmp_path) != ran


def test_a_module_of_a_namespace_package_is_found_again(tmp_path, monkeypatch):
    (tmp_path / "lib/acme_ns/algo").mkdir(parents=True)
    path = tmp_path / "lib/acme_ns/algo/rules.py"
    path.write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    ran = imported(workspace, **{"acme_ns.algo.rules": path})
    assert list(ran) == ["module acme_ns.algo.rules"]
    assert present_code(ran, code_snapshot(workspace), workspace) == ran
    path.write_text("x = 2")
    assert present_code(ran, code_snapshot(workspace), workspace) != ran


@pytest.mark.parametrize("name", ["pytest"])
def test_a_library_that_the_package_does_not_require_is_told_by_its_version(tmp_path, name):
    ran = imported(tmp_path, **{name: sys.modules[name].__file__, "polars": sys.modules["numpy"].__file__})
    assert ran == {f"distribution {name}": pytest.__version__}
    assert present_code(ran, code_snapshot(tmp_path), tmp_path) == ran


def test_an_entry_point_that_makes_no_sense_breaks_no_record(tmp_path, monkeypatch):
    about = tmp_path / "lib/odd-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[algo_research.strategies]\nmine = my-rules:Mine\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setattr("algo_research.runs.closure._component_packages", _component_packages.__wrapped__)
    (tmp_path / "rules.py").write_text("x = 1")
    assert list(imported(tmp_path, rules=tmp_path / "rules.py")) == ["./rules.py"]


def test_a_package_that_is_not_installed_has_no_dependencies(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("algo_research.runs.closure.distribution", missing)
    assert list(dependency_versions.__wrapped__()) == ["python"]
