"""The documentation site, from `docs/` and the notebooks, with Sphinx and without a network.

    python tools/docs.py [--out _docs] [--work _proc] [--no-build]

Notebooks are not executed: the site shows the outputs they were committed with. Their exported cells become the
reference: signature, docstring, and the source folded away. What changed is written to `_proc/`, so that a second
build is quick.
"""

import argparse
import ast
import html
import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from algo_research.core.imports import GRAMMAR, unseen

with unseen(GRAMMAR):
    import nbformat

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "dashboards": (11, "The widget, and a module for each page."),
    "runs": (10, "Papermill runs and their records, reports."),
    "research": (8, "The plan of a piece of research, the road in one call, its artifacts."),
    "workspace": (7, "The settings of a workspace, and what every process opens."),
    "backtest": (6, "Targets become a result, the result a verdict; the ledger of trials."),
    "strategies": (5, "The protocol, its gate, and the strategies."),
    "models": (4, "Walk-forward training, tracking."),
    "features": (3, "The contract of a feature, the indicators, the gates."),
    "execution": (3, "The only place where targets become fills."),
    "views": (3, "Key figures, tables and pictures."),
    "data": (2, "Bars, instruments, sources, imports, the store, checks."),
    "stats": (2, "Metrics, Sharpe ratios, bootstrap, labels, splits."),
    "core": (1, "Settings, errors, hashing, logging, clock, services."),
}


# Names: what the library's notebooks define, and where the site explains it


@dataclass(frozen=True)
class Name:
    """A public function or class, or a method added to one with `@patch`."""

    module: str  # data.bars
    name: str  # Dataset, or TrialLedger.record
    node: ast.FunctionDef | ast.ClassDef

    @property
    def label(self) -> str:
        kind = "class-" if isinstance(self.node, ast.ClassDef) else ""  # labels have no upper case
        return f"api-{kind}{self.module}-{self.name}".replace(".", "-").replace("_", "-").lower()

    @property
    def promise(self) -> str:
        """The docstring's first line."""
        return (ast.get_docstring(self.node) or "").strip().split("\n")[0]


def names_of(source: str, module: str) -> list[Name]:
    """The public functions, classes and patched methods of a piece of code."""
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        patched = isinstance(node, ast.FunctionDef) and any("patch" in ast.unparse(d) for d in node.decorator_list)
        owner = ast.unparse(node.args.args[0].annotation) + "." if patched else ""  # type: ignore[arg-type, union-attr]
        if not owner.startswith(
            "_"
        ):  # a private base has no entry: its methods are explained where the interface declares them
            found.append(Name(module, owner + node.name, node))
    return found


def _header(node: ast.FunctionDef | ast.ClassDef, lines: list[str]) -> str:
    """The source from `def` or `class` to the colon, with the comments that explain each parameter."""
    first = node.body[0]
    head = lines[node.lineno - 1 : first.lineno]
    head[-1] = head[-1].encode()[: first.col_offset].decode().rstrip()
    return textwrap.dedent("\n".join(head)).strip()


def signature(name: Name, source: str) -> str:
    """How a function is called, or which fields a class has; parameters keep their comments."""
    lines, node = source.split("\n"), name.node
    if isinstance(node, ast.FunctionDef):
        return _header(node, lines)
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign | ast.Assign) and not ast.unparse(n).startswith("_")]
    shown = [line for n in fields for line in lines[n.lineno - 1 : n.end_lineno]]
    decorators = [f"@{ast.unparse(d)}" for d in node.decorator_list]
    return "\n".join([*decorators, _header(node, lines), *shown])


def _methods(name: Name) -> list[str]:
    """A line for each public method or property of a class."""
    rows = []
    for node in name.node.body if isinstance(name.node, ast.ClassDef) else []:
        doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or not doc:
            continue
        is_property = any("property" in ast.unparse(d) for d in node.decorator_list)
        arguments = (
            "" if is_property else f"({', '.join(a.arg for a in node.args.args if a.arg not in ('self', 'cls'))})"
        )
        rows.append(f"- `.{node.name}{arguments}`: {doc.strip().splitlines()[0]}")
    return rows


def explain(name: Name, source: str, level: int = 3) -> str:
    """The reference entry of a name, in MyST markdown."""
    doc = textwrap.dedent(ast.get_docstring(name.node) or "").strip()
    parts = [
        f"({name.label})=\n{'#' * level} `{name.name}`",
        f"```python\n{signature(name, source)}\n```",
        doc,
        "\n".join(_methods(name)),
    ]
    return "\n\n".join(part for part in parts if part)


# Notebooks: from the tree, through nbdev, to pages

_DIRECTIVE = re.compile(r"^#\|.*\n?", re.MULTILINE)


def _only_imports(source: str) -> bool:
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


def unfold_exports(notebook: nbformat.NotebookNode, module: str) -> list[Name]:
    """Put the reference entry of every exported name before its cell, fold the cell, and leave out exported imports."""
    cells, names, level = [], [], 2
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE):
            level = 3
        if cell.cell_type != "code" or not re.search(r"^#\|\s*export", cell.source, re.MULTILINE):
            cells.append(cell)
            continue
        source = _DIRECTIVE.sub("", cell.source)
        if _only_imports(source):
            continue
        for i, name in enumerate(names_of(source, module)):
            names.append(name)
            cells.append(nbformat.v4.new_markdown_cell(explain(name, source, level), id=f"{cell.id}-{i}"))
        cell.source, cell.metadata["tags"] = source, ["hide-input"]
        cells.append(cell)
    notebook.cells = cells
    return names


def module_of(notebook: nbformat.NotebookNode) -> str | None:
    """Which module a notebook exports."""
    found = (
        re.search(r"^#\|\s*default_exp\s+(\S+)", c.source, re.MULTILINE)
        for c in notebook.cells
        if c.cell_type == "code"
    )
    return next((match[1] for match in found if match), None)


def _is_page(path: Path) -> bool:
    """Dashboards are not read, and tutorials without a number (the start page of JupyterLab) speak of one's own
    workspace.
    """
    if any(part.startswith((".", "_")) for part in path.parts) or path.parts[0] == "pages":
        return False
    return path.parts[0] != "tutorials" or path.name[0].isdigit()


def process_notebooks(root: Path) -> tuple[dict[Path, nbformat.NotebookNode], dict[Path, str], list[Name]]:
    """Every notebook of the tree after nbdev's processors, by its path in `nbs/`; the modules they export;
    all names.
    """
    from nbdev.serve import proc_nbs

    modules, names, before = {}, [], Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        # nbdev parses its configuration for each cell, so it gets no more than its own section
        section = re.search(r"^\[tool\.nbdev\]\n(?:.+\n)*", (root / "pyproject.toml").read_text(), re.MULTILINE)
        # Exported cells are explained from their source, so nothing needs to be executed.
        skip = 'skip_procs = "FrontmatterProc,add_show_docs,insert_warning,exec_show_docs,rm_export,add_links"'
        (copy / "pyproject.toml").write_text(f"{section[0]}{skip}\n")  # type: ignore[index]
        for path in sorted((root / "nbs").rglob("*.ipynb")):
            relative = path.relative_to(root / "nbs")
            if not _is_page(relative):
                continue
            notebook = nbformat.read(path, 4)
            if module := module_of(notebook):
                modules[relative] = module
                names += unfold_exports(notebook, module)
            notebook.cells = [
                c
                for c in notebook.cells
                if c.cell_type != "code" or not re.search(r"^#\|\s*(hide|default_exp)\b(?!_)", c.source, re.MULTILINE)
            ]
            target = copy / "nbs" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, target)
        os.chdir(copy)
        try:
            done = proc_nbs(n_workers=0, force=True)
            notebooks = {p.relative_to(done): nbformat.read(p, 4) for p in sorted(done.rglob("*.ipynb"))}
        finally:
            os.chdir(before)
    return notebooks, modules, names


def figure_html(figure: dict) -> str:
    """A plotly figure without its library, which the page loads once."""
    data = json.dumps(figure, sort_keys=True).replace("</", "<\\/")
    height = figure.get("layout", {}).get("height") or 450
    return f'<div class="plotly-figure" style="height:{height}px"><script type="application/json">{data}</script></div>'


def diagram_html(svg: str, kind: str = "") -> str:
    """A drawing inside the page, so that it takes the page's colours."""
    return f'<figure class="diagram {kind}">{re.sub(r"<[?].*?[?]>", "", svg).strip()}</figure>'


def _page_output(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    data = output.get("data", {})
    if "application/vnd.plotly.v1+json" in data:
        output.data = {"text/html": figure_html(data["application/vnd.plotly.v1+json"])}
    elif "image/svg+xml" in data:
        output.data = {"text/html": diagram_html(data["image/svg+xml"])}
    return output


def to_page(
    notebook: nbformat.NotebookNode, link: Callable[[str], str], module: str | None = None, path: str = ""
) -> nbformat.NotebookNode:
    """A notebook as Sphinx should see it."""
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    for i, cell in enumerate(notebook.cells):
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "markdown":
            cell.source = to_markdown(cell.source, link)
            if i == 0 and module:
                cell.source += f"\n\nModule `algo_research.{module}`, exported from `nbs/{path}`."
        elif cell.cell_type == "code":
            cell.source = _DIRECTIVE.sub("", cell.source)
            cell.outputs = [_page_output(o) for o in cell.outputs]
            cell.execution_count = None
    # a cell that is nothing but a short assertion or import still teaches; an empty one does not
    notebook.cells = [c for c in notebook.cells if c.source.strip()]
    return notebook


def to_markdown(text: str, link: Callable[[str], str]) -> str:
    """nbdev's markdown as MyST: the promise under the title, callouts, no rules, links to names."""
    text = re.sub(
        r"\A(# [^\n]+\n+)((?:>[^\n]*\n?)+)",
        lambda m: m[1] + "\n{.lead}\n" + re.sub(r"^> ?", "", m[2], flags=re.MULTILINE),
        text,
    )
    text = re.sub(r"^::: *\{\.callout-(note|tip|warning|important)[^}]*\}", r":::{\1}", text, flags=re.MULTILINE)
    text = re.sub(r"^---$", "", text, flags=re.MULTILINE)
    return link_names(text, link)


def link_names(text: str, link: Callable[[str], str]) -> str:
    """`name` becomes a link to its explanation, except in code and headings."""
    parts = re.split(
        r"(^(?:```|~~~|:::).*?^(?:```|~~~|:::)[ \t]*$|^#+ [^\n]*$|\[[^\]\n]*\]\([^)\n]*\))",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )
    return "".join(
        part if i % 2 else re.sub(r"(?<![`\[\\])`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)", lambda m: link(m[1]) or m[0], part)
        for i, part in enumerate(parts)
    )


def linker(names: list[Name]) -> Callable[[str], str]:
    """Links to names that only one module has, and that nobody would take for a plain word."""
    known = defaultdict(list)
    for name in names:
        known[name.name].append(name)
        known[f"{name.module}.{name.name}"].append(name)
        known[f"algo_research.{name.module}.{name.name}"].append(name)

    def link(text: str) -> str:
        found = known.get(text, [])
        telling = "_" in text or "." in text or text != text.lower()
        return f"[`{text}`](#{found[0].label})" if len(found) == 1 and telling else ""

    return link


# Pages made from the code: names, commands, settings


def _toctree(entries: list[str], *options: str) -> str:
    return "\n".join(["```{toctree}", *(f":{o}:" for o in options), "", *entries, "```"])


def _first_lines(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Title and promise."""
    lines = notebook.cells[0].source.split("\n")
    return lines[0].removeprefix("# "), " ".join(line.lstrip("> ") for line in lines[1:] if line.startswith(">"))


def _place_in_package(module: str) -> str:
    """data.market.bars -> market/bars"""
    return module.partition(".")[2].replace(".", "/")


def package_pages(
    root: Path, notebooks: dict[Path, nbformat.NotebookNode], modules: dict[Path, str]
) -> Iterator[tuple[str, str]]:
    """A page for each package, and the reference's home."""
    for package, (layer, text) in LAYERS.items():
        mine = [(p, m) for p, m in modules.items() if m.split(".")[0] == package and p in notebooks]
        rows = [
            f"[{_first_lines(notebooks[p])[0]}]({_place_in_package(m)}.ipynb)\n: {_first_lines(notebooks[p])[1]}"
            for p, m in mine
        ]
        body = [
            f"# `{package}`",
            f"Layer {layer}. {text}",
            *rows,
            _toctree([_place_in_package(m) for _, m in mine], "hidden"),
        ]
        yield f"api/{package}/index.md", "\n\n".join(body) + "\n"
    rows = [f"[`algo_research.{p}`]({p}/index.md)\n: Layer {layer}. {text}" for p, (layer, text) in LAYERS.items()]
    intro = [
        "# Reference",
        "{.lead}\nEach module is a notebook: what it promises, why, its code, and demonstrations that are executed "
        "and compared by the tests.",
        "A package may use only packages in lower layers. Lists of their own: [public names](names.md), "
        "[commands](commands.md), [settings](settings.md), [templates](templates/index.md).",
    ]
    entries = ["names", "commands", "settings", "templates/index", *(f"{p}/index" for p in LAYERS)]
    yield "api/index.md", "\n\n".join([*intro, *rows, _toctree(entries, "hidden")]) + "\n"


def names_page(names: list[Name]) -> str:
    """Every public function and class, by module."""
    parts = [
        "# Public names",
        "{.lead}\nFunctions, classes and their methods, with the first line of their docstrings.",
    ]
    for package in LAYERS:
        parts.append(f"## {package}")
        for module in sorted({n.module for n in names if n.module.split(".")[0] == package}):
            rows = [
                "<tr><td><a "
                f'href="{module.replace(".", "/")}.html#{n.label}"><code>{n.name}</code></a></td>'
                f"<td>{html.escape(n.promise)}</td></tr>"
                for n in names
                if n.module == module
            ]
            parts += [f"### `{module}`", '<table class="names table">\n' + "\n".join(rows) + "\n</table>"]
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """The help of every command, as the terminal shows it."""
    import typer

    from algo_research.cli.main import app

    parts = ["# Commands", "{.lead}\nWhat `algo --help` says, command by command."]

    def walk(command, context, path: str) -> None:
        parts.append(f"## `{path}`\n\n```text\n{command.get_help(context).rstrip()}\n```")
        for name, sub in getattr(command, "commands", {}).items():
            walk(
                sub,
                type(context)(sub, info_name=name, parent=context, terminal_width=96, max_content_width=96),
                f"{path} {name}",
            )

    group = typer.main.get_command(app)
    walk(
        group,
        group.make_context("algo", ["--help"], resilient_parsing=True, terminal_width=96, max_content_width=96),
        "algo",
    )
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Every setting with its default, as declared."""
    from algo_research.core.settings import PREFIX, SEPARATOR
    from algo_research.workspace.settings import settings_class

    parts = [
        "# Settings",
        "{.lead}\nEvery setting, its default and its meaning. `algo settings` shows the values in force and where "
        "each came from.",
    ]
    parts.append(
        f"In the environment and in `.env` the key `fees` of `[costs]` is `{PREFIX}COSTS{SEPARATOR}FEES`. [How to "
        "set them](../howto/settings.md)."
    )
    for section, made in settings_class().sections().items():
        rows = [
            f"<tr><td><code>{key}</code></td><td><code>{html.escape(str(f.default)) or '&nbsp;'}</code></td>"
            f"<td>{html.escape(f.description or '')}</td></tr>"
            for key, f in made.model_fields.items()
        ]
        table = (
            '<table class="settings '
            'table">\n<thead><tr><th>key</th><th>default</th><th>meaning</th></tr></thead>\n<tbody>'
            + "\n".join(rows)
            + "</tbody>\n</table>"
        )
        parts += [f"## `[{section}]`", (made.__doc__ or "").strip(), table]
    return "\n\n".join(parts) + "\n"


# Putting the pages together


def hand_written(root: Path) -> Iterator[tuple[str, str | bytes]]:
    """The pages of `docs/`, with decisions, changelog and contributing guide; drawings are put into the pages."""
    docs = root / "docs"
    for path in sorted(p for p in docs.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        relative = path.relative_to(docs).as_posix()
        if relative.startswith("adr/"):
            continue
        yield relative, _with_drawings(path.read_text(), path.parent) if path.suffix == ".md" else path.read_bytes()
    decisions = sorted(p for p in (docs / "adr").glob("0*.md"))
    yield (
        "decisions/index.md",
        (docs / "adr/README.md").read_text() + "\n" + _toctree([p.stem for p in decisions], "hidden") + "\n",
    )
    for path in decisions:
        yield f"decisions/{path.name}", path.read_text()
    for name in ("CHANGELOG", "CONTRIBUTING"):
        yield f"{name.lower()}.md", (root / f"{name}.md").read_text()


def _with_drawings(text: str, folder: Path) -> str:
    def inline(match: re.Match) -> str:
        return diagram_html((folder / match[2]).read_text(), match[3] or "")

    return re.sub(r"^!\[([^\]]*)\]\(([^)]+\.svg)\)(?:\{\.(\w+)\})?$", inline, text, flags=re.MULTILINE)


def pages(root: Path) -> Iterator[tuple[str, str | bytes]]:
    """Everything Sphinx reads, by path."""
    import plotly

    notebooks, modules, names = process_notebooks(root)
    link = linker(names)
    for path, text in hand_written(root):
        yield path, to_markdown(text, link) if isinstance(text, str) else text
    yield from package_pages(root, notebooks, modules)
    yield "api/names.md", names_page(names)
    yield "api/commands.md", commands_page()
    yield "api/settings.md", settings_page()
    yield "_static/plotly.min.js", (Path(plotly.__file__).parent / "package_data/plotly.min.js").read_bytes()
    for path, notebook in notebooks.items():
        module = modules.get(path)
        if path.as_posix() == "index.ipynb":  # its title is the project's; here it stands among explanations
            notebook.cells[0].source = notebook.cells[0].source.replace("# algo_research", "# The road by hand", 1)
        target = f"api/{module.replace('.', '/')}.ipynb" if module else _place(path)
        yield target, nbformat.writes(to_page(notebook, link, module, path.as_posix())) + "\n"
    templates = sorted(p.stem for p in notebooks if p.parts[0] == "templates")
    yield "api/templates/index.md", templates_page(templates, notebooks)


def _place(path: Path) -> str:
    """Where a notebook that exports nothing stands."""
    if path.as_posix() == "index.ipynb":
        return "explanation/by_hand.ipynb"
    return f"api/{path.as_posix()}" if path.parts[0] == "templates" else path.as_posix()


def templates_page(templates: list[str], notebooks: dict[Path, nbformat.NotebookNode]) -> str:
    """The templates as they ship, without outputs."""
    rows = [f"[`{t}`]({t}.ipynb)\n: {_first_lines(notebooks[Path(f'templates/{t}.ipynb')])[1]}" for t in templates]
    intro = (
        "{.lead}\nThe notebooks that `algo run TEMPLATE` executes. The cell after the imports holds the parameters "
        "and their defaults."
    )
    return "\n\n".join(["# Templates", intro, *rows, *([_toctree(templates, "hidden")] if templates else [])]) + "\n"


def write_pages(root: Path, folder: Path) -> tuple[int, int]:
    """Write what changed, remove what is gone, and say how many pages changed and how many went."""
    folder.mkdir(parents=True, exist_ok=True)
    kept, changed = set(), 0
    for path, content in pages(root):
        target = folder / path
        data = content.encode() if isinstance(content, str) else content
        kept.add(target)
        if target.is_file() and target.read_bytes() == data:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        changed += 1
    stale = [p for p in folder.rglob("*") if p.is_file() and p not in kept and "__pycache__" not in p.parts]
    for path in stale:
        path.unlink()
    return changed, len(stale)


# Checking the site

_LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
    "input": "src",
    "use": "href",
    "image": "href",
}
_OUTSIDE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")
_SCRIPT = re.compile(
    r"""(?:\bfetch\(|\bimport\(|\bimportScripts\(|\.src\s*=|\bfrom\s+|\bopen\(\s*["'`]GET["'`]\s*,)"""
    r"""\s*["'`]((?:https?:)?//[^"'`]+)"""
)
# plotly asks for these icons when it draws a map of places, which no page has
_MAPS_ONLY = "https://cdn.jsdelivr.net/npm/@mapbox/maki"


@dataclass
class _Page(HTMLParser):
    """Anchors, links and resources of one page."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    code: list[tuple[str, str]] = field(default_factory=list)  # (script or style, text)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[k] for k in ("id", "name") if given.get(k)}
        if tag in ("a", "area") and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and "href" in given and not set(given.get("rel", "").split()) & {"canonical", "alternate"}:
            (
                self.links
                if set(given.get("rel", "").split())
                <= {"index", "search", "next", "prev", "author", "copyright", "help"}
                else self.loads
            ).append(given["href"])
        self.loads += [given[key] for key in {_LOADS.get(tag, ""), "poster"} & set(given)]
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        self.code += [("style", given["style"])] if "style" in given else []
        if tag in ("script", "style"):
            self.code.append(
                (tag if given.get("type") not in ("application/json", "application/ld+json") else "data", "")
            )

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in ("script", "style"):
            self.code[-1] = (self.code[-1][0], self.code[-1][1] + data)


def _outside_in(kind: str, text: str) -> list[str]:
    found = (_STYLE if kind == "style" else _SCRIPT).findall(text) if kind in ("style", "script") else []
    return [url for url in found if _OUTSIDE.match(url)]


def check_site(folder: Path) -> list[str]:
    """Dead links, anchors and images, and every resource that would be loaded from elsewhere."""
    folder = Path(folder).resolve()
    parsed = {}
    for path in sorted(folder.rglob("*.html")):
        parsed[path] = _Page()
        parsed[path].feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in parsed.items():
        here = path.relative_to(folder)
        found += [f"{here}: loads {url} from elsewhere" for url in page.loads if _OUTSIDE.match(url)]
        found += [f"{here}: loads {url} from elsewhere" for kind, text in page.code for url in _outside_in(kind, text)]
        for url in [*page.links, *(u for u in page.loads if not _OUTSIDE.match(u))]:
            if problem := _dead(url, path, folder, parsed):
                found.append(f"{here}: {problem}")
    for path in sorted([*folder.rglob("*.css"), *folder.rglob("*.js")]):
        kind = "style" if path.suffix == ".css" else "script"
        found += [
            f"{path.relative_to(folder)}: loads {url} from elsewhere"
            for url in _outside_in(kind, path.read_text(encoding="utf-8"))
            if not url.startswith(_MAPS_ONLY)
        ]
    return list(dict.fromkeys(found))


def _dead(url: str, path: Path, folder: Path, parsed: dict[Path, _Page]) -> str | None:
    """What is wrong with a link inside the site."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
        return None
    if parts.path.startswith("/"):
        return f"{url} starts at the server's root; write it relative"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(folder) or not target.is_file():
        return f"{url} leads nowhere"
    if parts.fragment and target in parsed and unquote(parts.fragment) not in parsed[target].ids:
        return f"{url} leads to a place that is not in {target.name}"
    return None


# The command


def build(work: Path, out: Path, tell: Callable[[str], None] = print) -> list[str]:
    """Prepare, run Sphinx, check: what is wrong, empty when all is well."""
    from sphinx.cmd.build import build_main

    tell("pages: notebooks through nbdev, reference, hand-written pages")
    changed, gone = write_pages(ROOT, work / "pages")
    if gone:
        shutil.rmtree(work / "site", ignore_errors=True)
    tell(f"sphinx: {changed} pages changed, {gone} gone")
    quiet = [] if sys.stdout.isatty() else ["-q"]
    if build_main(
        [
            "-n",
            "-W",
            "--keep-going",
            *quiet,
            "-j",
            "2",
            "-d",
            str(work / "doctrees"),
            "-b",
            "html",
            str(work / "pages"),
            str(work / "site"),
        ]
    ):
        shutil.rmtree(work / "doctrees")  # the next build reads every page again, or it would not repeat the warnings
        return ["sphinx: warnings, see above"]
    (work / "site/_static/webpack-macros.html").unlink(missing_ok=True)  # a template the theme leaves among its files
    tell("links: inside the site, and whether anything is loaded from elsewhere")
    found = check_site(work / "site")
    if not found:
        _mirror(work / "site", out)
    return found


def _mirror(site: Path, out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        if not (out / ".buildinfo").is_file():
            raise SystemExit(f"{out} is not empty and holds no site. Name another folder.")
        shutil.rmtree(out)
    shutil.copytree(site, out, dirs_exist_ok=True)
    (out / ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with an underscore


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="where the site goes (default: _docs)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "_proc", help="where the prepared pages go (default: _proc)"
    )
    parser.add_argument("--no-build", action="store_true", help="prepare the pages only")
    given = parser.parse_args(arguments)
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:5.1f} s  {text}", flush=True)

    sys.path.insert(0, str(ROOT))
    if given.no_build:
        tell(f"{write_pages(ROOT, given.work / 'pages')[0]} pages changed in {given.work / 'pages'}")
        return 0
    problems = build(given.work.resolve(), given.out.resolve(), tell)
    for problem in problems:
        print(problem)
    tell(f"{len(problems)} problems" if problems else f"done: {given.out / 'index.html'}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
