"""The journey of somebody who has the wheel and nothing else: install, init, run, look.

The environment is new and holds what the wheel requires and no more; the packages come from this one instead of from
the network.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.servers import free_port, listens
from support.strategies import RULES
from support.waiting import until

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    """`packages` is written out because notebooks are mapped into the package: a new folder must not be forgotten."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    modules = {
        ".".join(("algo_research", *p.parent.relative_to(ROOT / "algo_research").parts))
        for p in (ROOT / "algo_research").rglob("*.py")
    }
    assert modules <= listed
    assert listed - modules == {f"algo_research.{p}" for p in ("pages", "templates", "tutorials")}


def required(package: Distribution) -> list[Distribution]:
    """What a package requires, and what that requires, as it is installed here; what is not, is left to pip to miss."""
    queue, seen, found = [(package, "")], set(), {}
    while queue:
        package, extra = queue.pop()
        for requirement in map(Requirement, package.requires or ()):
            if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
                with suppress(PackageNotFoundError):
                    name, needed = canonicalize_name(requirement.name), distribution(requirement.name)
                    queue += [(needed, more) for more in ("", *requirement.extras) if (name, more) not in seen]
                    seen |= {(name, more) for more in ("", *requirement.extras)}
                    found[name] = needed
    return list(found.values())


def put(found: Distribution, environment: Path) -> None:
    """A package's files into another environment, as links where that is possible;
    but not its commands, which name the environment they belong to.
    """
    for file in found.files or ():
        source = Path(found.locate_file(file)).resolve()
        target = environment / os.path.relpath(source, sys.prefix)
        if (
            source.is_relative_to(sys.prefix)
            and source.is_file()
            and source.parent != Path(sys.prefix, "bin")
            and not target.exists()
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except OSError:  # another file system
                shutil.copy2(source, target)


@pytest.mark.process
@pytest.mark.slow
def test_a_wheel_is_enough_for_a_workspace_with_runs_and_a_dashboard(tmp_path):
    source, clean = (
        tmp_path / "source",
        {k: v for k, v in os.environ.items() if not k.startswith(("ALGO_", "PYTHON", "JUPYTER"))},
    )
    ignore = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc", ".ipynb_checkpoints")
    for name in ("algo_research", "nbs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)

    def call(*command: str | Path, cwd: Path = tmp_path, **options) -> subprocess.CompletedProcess:
        done = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, **options)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done

    call(sys.executable, "-m", "build", "--wheel", "-o", tmp_path / "dist", source)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    shutil.rmtree(source)
    call(sys.executable, "-m", "venv", tmp_path / "venv")
    python, algo = tmp_path / "venv/bin/python", tmp_path / "venv/bin/algo"
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = required(PathDistribution(zipfile.Path(archive, about.removesuffix("METADATA"))))
    for needed in needs:
        put(needed, tmp_path / "venv")
    call(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "-c",
        ROOT / "constraints.txt",
        wheel,
    )  # refuses when a requirement is not met
    assert str(tmp_path / "venv") in call(python, "-c", "import algo_research; print(algo_research.__file__)").stdout

    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert "algo run research" in call(algo, "init", cwd=workspace).stdout
    assert {"settings.ini", "README.md", "templates", "tutorials", "secrets", ".gitignore"} <= {
        p.name for p in workspace.iterdir()
    }
    assert "wrote" not in call(algo, "init", cwd=workspace).stdout  # what is there is left alone
    assert "research" in call(algo, "run", cwd=workspace).stdout
    assert "edge" in call(algo, "run", "research", cwd=workspace).stdout.lower()
    (run,) = workspace.glob("reports/research/*")
    assert (run / "report.html").stat().st_size < 6_000_000
    assert "Reproduced." in call(algo, "reproduce", "last", cwd=workspace).stdout
    (workspace / "my_rules.py").write_text(RULES)
    told = ("-p", "dataset=arch/NASDAQ/1d", "-p", "strategy=my_rules:Dip")
    assert "edge" in call(algo, "run", "research", *told, cwd=workspace).stdout.lower()
    run = max(workspace.glob("reports/research/*"), key=lambda folder: folder.name)
    assert (run / "report.html").is_file() and '"strategy": "dip"' in (run / "artifacts/verdict.json").read_text()
    call(algo, "run", "compare", cwd=workspace)
    assert "my_rules:Dip" in "".join(call(algo, "runs", cwd=workspace).stdout.split())
    compared = max(workspace.glob("reports/compare/*"), key=lambda folder: folder.name)
    assert "dip" in (compared / "report.html").read_text()

    port, token = free_port(), "of-this-test"
    server = subprocess.Popen(
        [algo, "dashboard", "--no-browser", "--port", str(port), "--warm", "1"],
        cwd=workspace,
        env={**clean, "JUPYTER_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: listens(port) or server.poll() is not None, 90)
        page = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Authorization": f"token {token}"})
        html = urllib.request.urlopen(page, timeout=60).read().decode()
        assert run.name in html and "dip" in html  # the newest run comes first
        static = urllib.request.urlopen(
            f"http://127.0.0.1:{port}/voila/templates/algo/static/plotly.min.js", timeout=60
        )
        assert static.status == 200 and len(static.read()) > 1_000_000
    finally:
        server.terminate()
        server.wait(30)
