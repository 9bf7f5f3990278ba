"""What several commands share: options, the workspace, progress, tables."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import asyncio

    from rich.console import Console
    from rich.status import Status
    from rich.table import Table
    from rich.text import Text

    from algo_research.workspace.bootstrap import Workspace

Root = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", help="Folder of settings.ini; by default the nearest one upwards.", show_default=False
    ),
]
Env = Annotated[str | None, typer.Option("--env", help="Also read settings.<env>.ini.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Any setting, e.g. --set model.num_leaves=15. May be repeated.",
        show_default=False,
    ),
]


def parse_set(assignments: list[str] | None) -> dict[str, dict[str, str]]:
    """`--set` options as overrides by section."""
    from algo_research.core.errors import InputError

    overrides: dict[str, dict[str, str]] = {}
    for text in assignments or []:
        name, equals, value = text.partition("=")
        section, dot, key = name.partition(".")
        if not equals or not dot or not key:
            raise InputError(
                f"--set {text!r} cannot be read. Write --set section.key=value, e.g. --set costs.fees=0.001."
            )
        if key in overrides.setdefault(section, {}):
            raise InputError(f"--set says {name} twice: {overrides[section][key]!r}, then {value!r}. Leave one out.")
        overrides[section][key] = value
    return overrides


def open_workspace(
    root: Path | None,
    env: str | None,
    assignments: list[str] | None = None,
    anywhere: bool = False,
    **options: dict[str, Any],
) -> Workspace:
    """The workspace with the command's own options laid over its settings; options that are None were not given.

    A command that only looks may do so `anywhere`, and says that it found no workspace; any other refuses.
    """
    from algo_research.workspace.bootstrap import open_workspace as open_

    overrides = parse_set(assignments)
    for section, values in options.items():
        overrides.setdefault(section, {}).update({k: v for k, v in values.items() if v is not None})
    if root is None and anywhere:
        root = _nearest_folder()
    return open_(root, env=env, **overrides)  # type: ignore[arg-type]


def _nearest_folder() -> Path:
    """The workspace, or this folder with a word that it is none."""
    from algo_research.core.settings import SETTINGS, find_root

    root = find_root()
    if not (root / SETTINGS).is_file():
        said = f"no workspace here (no {SETTINGS} in {root} or above): only what is built in or installed is seen"
        console(stderr=True).print(line(("Note:", "yellow"), f" {said}. `algo init` makes one."))
    return root


def console(stderr: bool = False) -> Console:
    """Where to print: results on standard output, progress on standard error. Texts are shown as they are."""
    from .plain import PlainConsole

    made = PlainConsole(stderr=stderr, highlight=False, soft_wrap=True)
    if made.is_terminal:
        return made
    return PlainConsole(stderr=stderr, highlight=False, soft_wrap=True, width=max(made.width, 120))


def line(*parts: str | tuple[str, str]) -> Text:
    """A line put together from texts, some of them with a style: (text, style). No text is read as markup."""
    from rich.text import Text

    from algo_research.core.text import visible

    told = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in told))


def table(*columns: str, title: str | None = None, numbers: int = 99) -> Table:
    """A plain table for a `console`, which shows its texts as they are. Columns after the first are right-aligned up to
    `numbers`; the id of a run is not broken.
    """
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if 0 < i <= numbers else "left", overflow="fold", no_wrap=name == "run")
    return made


def tell(status: Status, name: str, text: str) -> None:
    """Say on the terminal how far something has come."""
    status.update(f"{name}: {text}")


def stopped_by_signals(after: float | None) -> asyncio.Event:
    """An event that Ctrl-C, a request to terminate, or so many seconds set; for the running loop."""
    import asyncio
    import signal

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if after is not None:
        loop.call_later(after, stop.set)
    return stop


class Steps:
    """Progress by named step: a line for each finished step, and on a terminal the present one, live."""

    def __init__(self) -> None:
        self.console = console(stderr=True)
        self.status = self.console.status("")
        self.name, self.text, self.begun, self.failed = "", "", time.monotonic(), False

    def __enter__(self) -> Steps:
        self.status.__enter__()
        return self

    def __exit__(self, kind, *rest) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._finish(failed=self.failed or (kind is not None and not stopped))
        if stopped:
            self.console.print(
                line(("interrupted", "yellow"), ": a trial is counted once its step is done, and not before")
            )
        self.status.__exit__(kind, *rest)
        self.console.print(line((f"{time.monotonic() - self.begun:.1f} s", "dim")))

    def _finish(self, failed: bool = False) -> None:
        if self.name:
            mark = ("x", "red") if failed else ("✓", "green")
            self.console.print(line(mark, f" {self.name:<11} {self.text}"))

    def __call__(self, step: str, text: str) -> None:
        """Tell that `step` is under way; the same step again updates its text."""
        if step != self.name:
            self._finish()
        self.name, self.text = step, text or (self.text if step == self.name else "")
        self.status.update(f"{step}: {text} ...")
