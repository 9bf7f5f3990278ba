"""`algo data aggregate`: one symbol over several exchanges."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Env, Root, console, open_workspace

EXAMPLE = "Example: algo data aggregate binance/BTC-USDT/1h coinbase/BTC-USD/1h --id composite/BTC-USD/1h"


def aggregate(
    datasets: Annotated[list[str], typer.Argument(help="The sources: venue/symbol/timeframe each.")],
    id: Annotated[str, typer.Option("--id", help="Of the result, e.g. composite/BTC-USD/1h.")],
    minimum: Annotated[int | None, typer.Option(help="Venues a bar needs.", show_default="more than half")] = None,
    deviation: Annotated[
        float, typer.Option(help="A venue further than this from the median of all is left out of a bar; a fraction.")
    ] = 0.03,
    stale: Annotated[
        int, typer.Option(help="A venue that has not moved for so many bars, while another did, is left out.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen and store nothing.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Composite bars, weighted by volume, without venues that deviate or have gone silent;
    its notes name who was left out.
    """
    from algo_research.core.errors import InputError
    from algo_research.data.catalog import load_dataset, reserved_venues
    from algo_research.data.intake.aggregate import aggregate_bars
    from algo_research.data.stores.base import ABSENT, newest_version

    with open_workspace(root, env) as workspace:
        before = newest_version(workspace.store, id)
        made = aggregate_bars(
            [load_dataset(name, workspace.store, workspace.settings.root) for name in datasets],
            id,
            minimum,
            deviation,
            stale,
        )
        out, dataset = console(), made.dataset
        if dataset.id.venue in reserved_venues(workspace.settings.root):
            raise InputError(
                f"The venue {dataset.id.venue!r} is not for composites: its datasets come with the package. Write "
                f"e.g. composite/{dataset.id.symbol}/{dataset.id.timeframe}."
            )
        if before != ABSENT and not any(
            note.startswith("Composite of") for note in workspace.store.read(dataset.id).notes
        ):
            raise InputError(
                f"{dataset.id} is stored and is no composite; it would be replaced. Choose another id, e.g. "
                f"composite/{dataset.id.symbol}/{dataset.id.timeframe}."
            )
        out.print(f"{dataset!r}")
        for note in dataset.notes:
            out.print(f"  {note}")
        if dry_run:
            out.print("Nothing was stored (--dry-run).")
            return
        version = workspace.store.write(dataset, "aggregated", replace=True, after=before)
        snapshot = workspace.store.snapshot(dataset.id, version)
    out.print(f"Stored as {snapshot.dataset}, version {snapshot.version}, content {snapshot.content[:16]}.")
    out.print(f"Next: algo data check {snapshot.dataset}")
