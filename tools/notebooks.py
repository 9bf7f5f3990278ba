"""Execute the notebooks and compare their outputs with the stored ones (nbval), two at a time.

    python tools/notebooks.py [nbs/data ...]

Cleaned notebooks carry no execution counts, which nbval wants, so it works on a copy. A cell marked `#| eval: false`
is skipped; a cell tagged `nbval-ignore-output` runs and is not compared.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent


def prepare(notebook: Path, target: Path) -> None:
    """A copy that nbval accepts."""
    nb = nbformat.read(notebook, 4)
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        cell.execution_count = 1
        if "#| eval: false" in cell.source:
            cell.metadata.setdefault("tags", []).append("nbval-skip")
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, target)


def main(arguments: list[str]) -> int:
    wanted = [Path(a) for a in arguments] or [ROOT / "nbs"]
    notebooks = sorted(
        {
            n.resolve()
            for w in wanted
            for n in ([w] if w.suffix == ".ipynb" else w.rglob("*.ipynb"))
            if ".ipynb_checkpoints" not in n.parts
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "settings.ini").touch()  # notebooks run in a workspace, of their own
        for notebook in notebooks:
            prepare(notebook, Path(folder) / notebook.relative_to(ROOT))
        environment = {
            **os.environ,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "JUPYTER_PLATFORM_DIRS": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        sanitise = Path(folder) / "sanitise.cfg"
        sanitise.write_text("[addresses]\nregex: ?at 0x[0-9a-f]+\nreplace:\n")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-c",
            os.devnull,
            "--rootdir",
            folder,
            "--nbval-sanitize-with",
            str(sanitise),
            "-p",
            "no:cacheprovider",
            "--durations",
            "5",
            folder,
        ]
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
