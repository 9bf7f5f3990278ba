"""The files that say what to install agree with each other and with what the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GIVEN = [
    "jupyterlab",
    "papermill",
    "nbdev",
    "pandas",
    "polars",
    "ta-lib",
    "torch",
    "stable-baselines3",
    "mlflow",
    "vectorbt",
    "optuna",
    "ccxt",
    "voila",
    "pytest",
    "nbval",
]


def pins(text: str) -> dict[str, str]:
    found = re.findall(r"^[\s-]*([A-Za-z0-9._-]+)==(\S+)$", text, re.M)
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())


def test_environment_yml_agrees_with_the_constraints():
    named = pins((ROOT / "environment.yml").read_text())
    assert named == {name: CONSTRAINTS[name] for name in named}
    assert set(GIVEN) <= set(named)
    extras = re.search(r"-e \.\[(.*)\]", (ROOT / "environment.yml").read_text())[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"])


def test_every_requirement_is_pinned_within_its_range():
    wanted = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)]), requirement


def test_every_import_is_a_declared_dependency():
    extras = PROJECT["optional-dependencies"]
    declared = {
        canonicalize_name(Requirement(r).name)
        for r in [*PROJECT["dependencies"], *extras["postgres"], *extras["redis"], *extras["s3"]]
    }
    provides = packages_distributions()
    for path in sorted((ROOT / "algo_research").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for top in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"algo_research"}:
                assert {canonicalize_name(d) for d in provides.get(top, [])} & declared, (
                    f"{path.name} imports {top}, which pyproject.toml does not name"
                )


def test_the_readme_names_targets_and_files_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", readme)) - {"make"}:
        if target in ("And", "and"):
            continue
        assert re.search(rf"^{target}:", makefile, re.M), target
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", readme):
        assert (ROOT / link).exists(), link


@pytest.mark.process
def test_the_project_names_no_machine_and_no_index():
    import subprocess

    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    forbidden = re.compile("|".join(["/work" + "/main", "/root" + "/", "py" + "pi.org", "files.python" + "hosted"]))
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".ipynb", ".md", ".txt", ".toml", ".yml", ".ini", ".svg"}:
            assert not forbidden.search(path.read_text()), name
