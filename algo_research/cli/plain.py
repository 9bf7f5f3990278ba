"""A terminal that shows texts as they are, and obeys none of them.

Names, headers and messages come from files and from other machines. So a text is never read as markup; what shall be
coloured is put together from parts by `algo_research.cli.common.line`.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console, RenderableType
from rich.status import Status
from rich.text import Text

from algo_research.core.text import visible


def plain(shown: Any) -> Any:
    """A string as a text that is shown literally; anything else as it is."""
    return Text(visible(shown)) if isinstance(shown, str) else shown


class PlainStatus(Status):
    """What is going on at present, in words that are shown as they are."""

    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        """Change the words."""
        super().update(plain(status), **options)


class PlainConsole(Console):
    """Every string that is printed, and every cell and title of a table, comes through `render_str`."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown."""
        return super().render_str(visible(text), **{**options, "markup": False, "emoji": False})

    def status(self, status: RenderableType, **options: Any) -> PlainStatus:
        """A line that tells what is going on."""
        return PlainStatus(plain(status), console=self, **options)
