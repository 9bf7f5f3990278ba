"""A notebook's page shows 133 characters: lines of code stay within 120, and an exported cell holds one idea."""

import ast
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 120, 40


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


def long_lines(module: Path) -> list[str]:
    """Lines of a module that are too long, without `__all__`, which nbdev breaks later."""
    text = module.read_text()
    exports = [n for n in ast.parse(text).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    listed = {number for node in exports for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(text.split("\n"), 1)
    return [f"{module.name}:{n}: {line[:60]}" for n, line in lines if len(line) > WIDTH and n not in listed]


def test_cells_fit():
    notebooks = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
    assert len(notebooks) > 70
    assert [c for p in notebooks for c in complaints(p)] == []


def test_modules_fit():
    """Plain ones are measured by ruff, too; nbdev's index is not read by anybody."""
    modules = [p for p in sorted((ROOT / "algo_research").rglob("*.py")) if p.name != "_modidx.py"]
    assert len(modules) > 90
    assert [line for p in modules for line in long_lines(p)] == []


def test_what_does_not_fit_is_found(tmp_path):
    wide, high = "#| export\nx = '" + "a" * WIDTH + "'", "#| export\n" + "x = 1\n" * (HEIGHT + 1)
    cells = [nbformat.v4.new_code_cell(text) for text in (wide, high, "y = 2")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "planted.ipynb")
    first, second = complaints(tmp_path / "planted.ipynb")
    assert "126 characters" in first and f"an exported cell of {HEIGHT + 1} lines" in second
    (tmp_path / "planted.py").write_text(f"__all__ = ['{'a' * WIDTH}']\n" + wide)
    assert long_lines(tmp_path / "planted.py") == [f"planted.py:3: x = '{'a' * 55}"]
