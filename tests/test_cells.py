"""A notebook's page shows 133 characters: lines of code stay within 120, and an exported cell holds one idea."""

from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent / "nbs"
WIDTH, HEIGHT = 120, 40
# Not straightened out yet; take a folder or a notebook away when it is.
LEFT = (
    "backtest/",
    "core/09_components",
    "data/",
    "execution/",
    "features/",
    "models/",
    "research/",
    "runs/00_parameters",
    "runs/01_record",
    "runs/02_engine",
    "runs/03_runner",
    "runs/04_batch",
    "runs/05_report",
    "runs/07_closure",
    "strategies/",
    "templates/",
    "tutorials/01_my_csv",
    "tutorials/02_feature_and_strategy",
    "tutorials/start",
    "workspace/",
)


def complaints(path: Path) -> list[str]:
    """Lines of code that are too long, and exported cells that are."""
    found = []
    for cell in nbformat.read(path, 4).cells:
        lines = [line for line in cell.source.split("\n") if line.strip()]
        if cell.cell_type != "code" or not lines:
            continue
        where = f"{path.name}, cell {cell.id}"
        found += [f"{where}: {len(line)} characters: {line.strip()[:60]}" for line in lines if len(line) > WIDTH]
        if lines[0].startswith("#| export") and len(lines) - 1 > HEIGHT:
            found.append(f"{where}: an exported cell of {len(lines) - 1} lines")
    return found


def test_cells_fit():
    notebooks = [p for p in sorted(ROOT.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    looked_at = [p for p in notebooks if not p.relative_to(ROOT).as_posix().startswith(LEFT)]
    assert len(looked_at) > 30
    assert [c for p in looked_at for c in complaints(p)] == []


def test_what_does_not_fit_is_found(tmp_path):
    wide, high = "#| export\nx = '" + "a" * WIDTH + "'", "#| export\n" + "x = 1\n" * (HEIGHT + 1)
    cells = [nbformat.v4.new_code_cell(text) for text in (wide, high, "y = 2")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "planted.ipynb")
    first, second = complaints(tmp_path / "planted.ipynb")
    assert "126 characters" in first and f"an exported cell of {HEIGHT + 1} lines" in second
