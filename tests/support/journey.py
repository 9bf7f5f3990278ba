"""`algo` in workspaces of its own: what the tests of runs share."""

import json
from pathlib import Path

import nbformat
import psutil

import algo_research

from .command import SETTINGS
from .waiting import until

PACKAGE = Path(algo_research.__file__).parent
KERNEL = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}


def write_template(folder: Path, name: str, *cells: tuple[str, str]) -> Path:
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": tags.split()}) for tags, source in cells]
    path = folder / "templates" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(f"# {name}\n> for a test"), *made], metadata=KERNEL
        ),
        path,
    )
    return path


def ended(workspace: Path) -> None:
    """Wait until no process is left that has to do with a workspace."""

    def left() -> list[str]:
        seen = [process.info for process in psutil.process_iter(["cmdline", "cwd"])]
        return [about["cmdline"] for about in seen if str(workspace) in f"{about['cmdline']} {about['cwd']}"]

    until(lambda: not left(), pause=0.1)


def manifests(workspace: Path) -> dict[str, dict]:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(workspace.glob("reports/*/*/run.json"))}


def dice_workspace(folder: Path) -> Path:
    """A workspace with a small template."""
    (folder / "settings.ini").write_text(SETTINGS)
    write_template(
        folder,
        "dice",
        (
            "",
            "import numpy as np, polars as pl\nfrom algo_research.runs.record import current_run\nfrom "
            "algo_research.runs.parameters import DatasetId",
        ),
        ("parameters", "throws: int = 10  # how often\nseed: int = 0\ndataset: DatasetId = 'synthetic/noise:0/1h'"),
        (
            "step:throw",
            "run = current_run()\nfaces = pl.DataFrame({'face': np.random.default_rng(seed).integers(1, 7, "
            "throws)})\nrun.save('faces', faces)\nfaces.head(3)",
        ),
        ("step:count", "run.metrics({'mean': faces['face'].mean()})"),
    )
    return folder
