"""Execute the notebooks and compare their outputs with the stored ones (nbval), two at a time.

    python tools/notebooks.py [nbs/data ...]

Cleaned notebooks carry no execution counts, which nbval wants, so it works on a copy. A cell marked `#| eval: false`
is skipped; a cell tagged `nbval-ignore-output` runs and is not compared.
"""

import os
import sys
import tempfile
from pathlib import Path

# jsonschema, behind nbformat, compiles a grammar of addresses when it finds it, which takes seconds in every process.
# pytest loads this module first (`-p notebooks`), and so do its workers.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).parent.parent
# What may differ between machines and runs: addresses, digits past the fifth (sums are made in another order by other
# processors), and hashes of 16 or 64 digits, in which the last one counts.
SANITISE = r"""
[addresses]
regex: at 0x[0-9a-f]+
replace: at an address

[digits]
regex: (?<=\.\d{5})\d+
replace: ~

[hashes]
regex: \b(?=[0-9]*[a-f])[0-9a-f]{16}(?:[0-9a-f]{48})?\b
replace: a hash
"""


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
        for notebook in notebooks:
            prepare(notebook, copy := Path(folder) / notebook.relative_to(ROOT))
            (copy.parent / "settings.ini").touch()  # notebooks of a folder run in a workspace of their own
        os.environ |= {
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "JUPYTER_PLATFORM_DIRS": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        sanitise = Path(folder) / "sanitise.cfg"
        sanitise.write_text(SANITISE)
        options = {
            "-n": "2",
            "--dist": "loadfile",
            "-c": os.devnull,
            "--rootdir": folder,
            "--nbval-sanitize-with": str(sanitise),
            "--durations": "5",
        }
        words = [word for pair in options.items() for word in pair]
        return pytest.main(
            ["--nbval", "--nbval-current-env", "-p", "notebooks", "-p", "no:cacheprovider", *words, folder]
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
