"""What a run's code is: the modules it imported, wherever they lie."""

import json
import sys

import pytest

from algo_research.runs.closure import MODULES, code_snapshot, present_code, read_imported


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
