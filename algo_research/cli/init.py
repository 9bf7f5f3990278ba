"""`algo init`: a workspace in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import console, line

EXAMPLE = "Example: algo init my_research"

SETTINGS = """\
# The workspace's settings. `algo settings` shows every one of them, its value and where it came from; what is not
# written here has its default.

[research]
dataset = arch/SP500/1d

[costs]
fees = 0.0005
slippage = 0.0002
"""
IGNORE = """\
.algo/
.env
secrets/
reports/
.ipynb_checkpoints/
"""
README = """\
# A research workspace

    algo run research      # from market data to a verdict: a folder in reports/, with a report one can read
    algo runs              # what was run
    algo dashboard         # look at the runs in a browser
    algo data import bars.csv.gz --id file/MINE/1h
    algo run research -p dataset=file/MINE/1h

`settings.ini` holds the settings, `templates/` your own run templates (a notebook with a cell tagged `parameters`),
`tutorials/` notebooks to begin with (`start.ipynb` first, in JupyterLab), `secrets/` one file a secret (never
committed). Bars, trials and tracking are kept in `.algo/`.
"""


def contents() -> dict[str, bytes]:
    """Every file of a new workspace."""
    from algo_research.runs.parameters import shipped

    notebooks = {f"tutorials/{p.name}": p.read_bytes() for p in sorted(shipped("tutorials").glob("*.ipynb"))}
    texts = {
        "settings.ini": SETTINGS,
        ".gitignore": IGNORE,
        "README.md": README,
        "templates/README.md": "Your own run templates: notebooks with one cell tagged `parameters`.\n",
    }
    return {**{name: text.encode() for name, text in texts.items()}, **notebooks}


def init(
    folder: Annotated[Path, typer.Argument(help="Made when it is not there.")] = Path("."),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written and write nothing.")] = False,
) -> None:
    """Make a workspace: settings, a start notebook, tutorials. Files that are there are left alone."""
    from algo_research.core.errors import InputError
    from algo_research.core.files import atomic_write, ensure_folder

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder, or one that does not exist yet.")
    out = console()
    for name, content in contents().items():
        target = folder / name
        if target.exists():
            out.print(line((f"kept   {name}", "dim")))
            continue
        out.print(f"{'would write' if dry_run else 'wrote'}  {name}")
        if not dry_run:
            with atomic_write(target) as file:
                file.write(content)
    if not dry_run:
        secrets = folder / "secrets"
        ensure_folder(secrets).chmod(0o700)
        where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
        out.print(line("\nA workspace. Next: ", (f"{where}algo run research", "bold")))
