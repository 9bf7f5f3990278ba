"""`algo components` and `algo strategies new`: what can be chosen, and how to add one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, console, line, open_workspace, table

if TYPE_CHECKING:
    from rich.text import Text

    from algo_research.core.components import Component, Kind

EXAMPLE = "Example: algo components strategies"
NEW_EXAMPLE = "Example: algo strategies new buy_the_dip; algo run research -p strategy=buy_the_dip"
strategies = typer.Typer(help="Strategies of one's own.\n\n" + NEW_EXAMPLE, no_args_is_help=True, rich_markup_mode=None)


def kinds() -> dict[str, Kind]:
    """Every kind of component, by its plural."""
    from algo_research.data.catalog import PROVIDERS
    from algo_research.execution.costs import COSTS
    from algo_research.features.contract import FEATURES
    from algo_research.models.contract import MODELS
    from algo_research.runs.parameters import TEMPLATES
    from algo_research.strategies.protocol import STRATEGIES

    return {kind.plural: kind for kind in (STRATEGIES, FEATURES, MODELS, COSTS, PROVIDERS, TEMPLATES)}


def components(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="strategies, features, models, costs, providers or templates; all by default.", show_default=False
        ),
    ] = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """What can be chosen by name: from the package, from installed packages, from this workspace."""
    from algo_research.core.components import list_components
    from algo_research.core.errors import unknown_name

    known = kinds()
    if kind is not None and kind not in known:
        raise unknown_name("kind of component", kind, known)
    with open_workspace(root, env, anywhere=True) as workspace:
        folder = workspace.settings.root
        templates = workspace.settings.path(workspace.settings.workspace.templates)
    for plural in [kind] if kind else known:
        rows = table("name", "what it is", "parameters", "from", numbers=0, title=plural)
        if plural == "templates":
            _add_templates(rows, templates)
        else:
            for component in list_components(known[plural], folder):
                rows.add_row(component.name, *described(component), component.origin)
        console().print(rows)


def described(component: Component) -> tuple[str | Text, str]:
    """A component's first line and its parameters, or why it cannot be imported."""
    from algo_research.core.components import component_parameters, load_component
    from algo_research.core.errors import AlgoError

    try:
        made = load_component(component)
    except AlgoError as error:
        return line((str(error), "red")), ""
    if not isinstance(made, type):
        return str(getattr(made, "intuition", "") or getattr(made, "source", "")), ""
    told = [
        f"{p.name}={'must be told' if p.default is ... else repr(p.default)}"
        for p in component_parameters(made).values()
    ]
    return (made.__doc__ or "").strip().split("\n")[0], " ".join(told)


def _add_templates(rows, own: Path) -> None:
    from algo_research.core.errors import AlgoError
    from algo_research.runs.parameters import find_template, list_templates

    for name, path in list_templates(own).items():
        origin = (
            f"workspace, {path.name}"
            if path.is_relative_to(own)
            else "algo-research"
            if "algo_research" in path.parts or "nbs" in path.parts
            else str(path.parent.name)
        )
        try:
            found = find_template(name, own)
            rows.add_row(name, found.promise, " ".join(found.parameters), origin)
        except AlgoError as error:
            rows.add_row(name, line((str(error), "red")), "", origin)


MODULE = '''"""{title}: say here what the idea is, where it comes from, and when it should fail."""

from dataclasses import dataclass

import polars as pl

from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes


@dataclass(frozen=True)
class {cls}(Strategy):
    "Long after a fall of the close over some bars, flat otherwise."

    name = "{module}"
    bars: int = 5       # over which the fall is measured
    drop: float = 0.03  # the fall that is bought, a fraction
    weight: float | None = None # fraction of equity in each symbol; None: in a run an equal share, else all of it

    def targets(self, frame, state=None):
        state = state or {{"last": {{}}, "closes": frame.select("symbol", "close").clear()}}
        closes = pl.concat([state["closes"].with_columns(old=True), frame.select("symbol", "close", old=False)])
        change = pl.col("close") / pl.col("close").shift(self.bars) - 1
        fall = closes.with_columns(fall=change.over("symbol")).filter(~pl.col("old"))["fall"]
        weight = 1.0 if self.weight is None else self.weight
        wish = pl.select(pl.when(fall < -self.drop).then(weight).when(fall.is_not_null()).then(0.0)).to_series()
        targets, last = target_changes(frame.select("symbol", "ts", "known_at").with_columns(wish=wish), state["last"])
        kept = closes.group_by("symbol", maintain_order=True).tail(self.bars).select("symbol", "close")
        return targets, {{"last": last, "closes": kept}}
'''
TEST = '''"""What {cls} promises: it says the same bar by bar as at once, and acts when it should."""

import numpy as np
from {module} import {cls}

from algo_research.data.samples.synthetic import make_market
from algo_research.strategies.protocol import require_stateful


def test_it_says_the_same_bar_by_bar():
    bars = make_market("garch", seed=1, bars=1000).bars
    require_stateful({cls}(drop=0.01, weight=1.0), bars, np.random.default_rng(0))


def test_it_acts():
    targets, _ = {cls}(drop=0.01, weight=1.0).targets(make_market("garch", seed=1, bars=1000).bars)
    assert set(targets["target"].drop_nulls()) == {{0.0, 1.0}}
'''


def _belongs_to_others(name: str, folder: Path) -> bool:
    """Whether a module of this name would hide another one, or could not be imported."""
    import keyword
    import sys
    from importlib.util import find_spec

    if keyword.iskeyword(name) or name == "tests" or name in sys.stdlib_module_names:
        return True
    spec = find_spec(name)
    return spec is not None and not Path(spec.origin or folder).resolve().is_relative_to(folder)


@strategies.command("new", epilog=NEW_EXAMPLE)
def new(
    name: Annotated[str, typer.Argument(help="The module's name, e.g. buy_the_dip.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written and write nothing.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Write a strategy that works, and its test, beside settings.ini; files that are there are left alone."""
    import re

    from algo_research.core.components import list_components
    from algo_research.core.errors import InputError
    from algo_research.core.files import atomic_write
    from algo_research.strategies.protocol import STRATEGIES

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InputError(
            f"{name!r} is no name for a module. Allowed are lower-case letters, digits and underscores: buy_the_dip."
        )
    words = {
        "cls": "".join(part.title() for part in name.split("_")),
        "module": name,
        "title": name.replace("_", " ").capitalize(),
    }
    with open_workspace(root, env) as workspace:
        folder = workspace.settings.root
        if _belongs_to_others(name, folder):
            raise InputError(f"The name {name!r} belongs to Python or to an installed module. Choose another one.")
        if any(component.name == name for component in list_components(STRATEGIES, folder)):
            raise InputError(f"The name {name!r} is taken: `algo components strategies` lists it. Choose another one.")
    files = {folder / f"{name}.py": MODULE, folder / "tests" / f"test_{name}.py": TEST}
    if there := [path for path in files if path.exists()]:
        raise InputError(f"{there[0]} exists. Choose another name, or move it away.")
    for path, text in files.items():
        console().print(f"{'would write' if dry_run else 'wrote'}  {path.relative_to(folder)}")
        if not dry_run:
            with atomic_write(path) as file:
                file.write(text.format(**words).encode())
    if not dry_run:
        console().print(f"Next: algo run research -p strategy={name}; its test: PYTHONPATH=. python -m pytest tests")
