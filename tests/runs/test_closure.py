"""What a run's code is: the modules it imported, wherever they lie."""

import json
import sys
from importlib.metadata import PackageNotFoundError

import nbformat
import pytest
from support.command import algo
from support.journey import KERNEL, write_template

from algo_research.core.hashing import hash_file
from algo_research.runs.closure import (
    _component_packages,
    code_snapshot,
    dependency_versions,
    present_code,
    read_imported,
)


def imported(root, **files) -> dict[str, str]:
    return read_imported({name: str(path) for name, path in files.items()}, [], root, code_snapshot(root))


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


def test_a_module_in_an_archive_and_one_that_is_compiled_count_as_their_files(tmp_path):
    root, apart = tmp_path / "workspace", tmp_path / "apart"
    root.mkdir()
    apart.mkdir()
    for folder in (root, apart):
        (folder / "tools.zip").write_bytes(b"PK1")
        (folder / "fast.so").write_bytes(b"1")
    zipped = {"a": root / "tools.zip/a.py", "c": apart / "tools.zip/c/d.py"}
    ran = imported(root, **zipped, b=root / "fast.so", d=apart / "fast.so")
    assert list(ran) == ["./fast.so", "./tools.zip", f"file {apart}/fast.so", f"file {apart}/tools.zip"]
    assert present_code(ran, code_snapshot(root), root) == ran
    (apart / "tools.zip").write_bytes(b"PK2")
    (root / "fast.so").unlink()
    now = present_code(ran, code_snapshot(root), root)
    assert now["./fast.so"] is None and [n for n in ran if now[n] != ran[n]] == ["./fast.so", f"file {apart}/tools.zip"]


WAYS = {
    "imported": "import helper",
    "in a sub-folder": "import deep.under.helper",
    "by its path": "import importlib.util as u\ns = u.spec_from_file_location('h', 'helper.py')\n"
    "m = u.module_from_spec(s)\ns.loader.exec_module(m)",
    "run": "%run helper.py",
    "run elsewhere": "%run {outside}/helper.py",
    "run as a module": "import runpy\nrunpy.run_module('helper')",
    "run as a path": "import runpy\nrunpy.run_path('helper.py')",
    "executed": "exec(open('helper.py').read())",
    "executed by another way": "from pathlib import Path\nexec(compile(Path('helper.py').read_bytes(), 'x', 'exec'))",
    "a notebook": "%run helper.ipynb",
    "forgotten": "import sys, helper\ndel sys.modules['helper']",
    "of a fork": "import os\npid = os.fork()\nif not pid:\n    import helper\n    os._exit(0)\nos.waitpid(pid, 0)",
    "of a pool": "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool: "
    "pool.map(exec, ['import helper'])",
    "of a spawned pool": "import multiprocessing\nwith multiprocessing.get_context('spawn').Pool(1) as pool: "
    "pool.map(exec, ['import helper'])",
    "of a child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import helper'], check=True)",
    "of a shell": "import os\nassert os.system('python3 helper.py') == 0",
    "of a magic": "!python3 helper.py",
    "of a shell in a folder": "import subprocess\nsubprocess.run('cd deep/under && python3 helper.py', shell=True, "
    "check=True)",
    "of a shell with a variable": "import subprocess\nsubprocess.run(['bash', '-c', 'PYTHONPATH=. python3 -m helper'], "
    "check=True)",
    "of a list of bytes": "import os, subprocess\nsubprocess.run([b'python3', b'helper.py'], check=True)",
    "of a name that is none": "import subprocess, sys\n"
    "subprocess.run(['x', '-c', 'import helper'], executable=sys.executable, check=True)",
    "of a shell in brackets": "import os\nassert os.system('(python3 helper.py)') == 0",
    "beside a name of ours": "import sys\nsys.path.insert(0, '{outside}/of')\nimport beside\nopen = str = list = 1",
}
HELPER = "VALUE = {n}  # what a run executes\n"


def write_helpers(workspace, outside, n: int) -> None:
    for path in ("helper.py", "deep/under/helper.py", outside / "helper.py"):
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(HELPER.format(n=n))
    (outside / "of").mkdir(exist_ok=True)
    (outside / "of" / "beside.py").write_text(HELPER.format(n=n))
    cell = nbformat.v4.new_code_cell(HELPER.format(n=n), id="helper")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), workspace / "helper.ipynb")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("way", WAYS)
def test_a_change_of_code_that_a_run_executes_however_it_does_runs_again(tmp_path, way):
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    workspace.mkdir()
    write_helpers(workspace, outside, 1)
    (workspace / "other.py").write_text("")
    made = "import pathlib\npathlib.Path('made.py').write_text('x = 1')\nimport made"
    source = WAYS[way].replace("{outside}", str(outside))
    write_template(workspace, "t", ("parameters", "x: int = 0"), ("step:a", source), ("step:b", made))

    def runs(expected: int) -> None:
        algo(workspace, "run", "t")
        assert len(list(workspace.glob("reports/t/*"))) == expected

    runs(1)
    runs(1)  # it is done
    write_helpers(workspace, outside, 2)
    runs(2)
    if "of a" not in way:  # another Python may import whatever there is
        (workspace / "other.py").write_text("x = 1")
        runs(2)


CHANGES = {
    "after it ran": ("exec(open('{file}').read())", "open('{file}', 'a').write('# changed')"),
    "before it ran": ("import os\nos.system(\"echo '# changed' >> {file}\")", "exec(open('{file}').read())"),
}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("when", CHANGES)
def test_code_elsewhere_that_changes_during_a_run_is_told_by_what_ran(tmp_path, when):
    workspace, file = tmp_path / "workspace", tmp_path / "elsewhere.py"
    workspace.mkdir()
    file.write_text("VALUE = 1\n")
    first, second = (source.replace("{file}", str(file)) for source in CHANGES[when])
    write_template(workspace, "t", ("parameters", "x: int = 0"), ("step:a", first), ("step:b", second))
    done = algo(workspace, "run", "t", code=None)
    (manifest,) = [json.loads(p.read_text()) for p in workspace.glob("reports/t/*/run.json")]
    if when == "after it ran":
        assert done.returncode == 1 and "elsewhere.py" in manifest["error"]["message"]
    else:
        assert manifest["inputs"]["code"][f"file {file}"] == hash_file(file)
