"""`algo data adjust`: raw bars of a stock as its holder sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Env, Root, console, open_workspace, table

EXAMPLE = "Example: algo data adjust alpaca/AAPL/1d --to total"


def adjust(
    dataset: Annotated[str, typer.Argument(help="A dataset of raw bars in the store.")],
    to: Annotated[str, typer.Option(help="split: for splits; total: for splits and dividends.")] = "total",
    actions: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file of actions (symbol, date, kind, value); by default the provider of the bars is asked, or what was given before is used.",
            show_default=False,
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="The id of the adjusted dataset.",
            show_default="the same with -split or -total after the symbol",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The address of a server that speaks like the provider.")] = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Store bars adjusted for splits and dividends beside the raw ones, which stay as they are; the same command again takes up new bars and actions."""
    from dataclasses import replace

    import polars as pl

    from algo_research.core.errors import InputError
    from algo_research.data.catalog import RESERVED_VENUES
    from algo_research.data.market.bars import DatasetId
    from algo_research.data.market.equities import adjust_bars, load_actions, make_actions, save_actions
    from algo_research.data.venues.providers import open_source

    out = console()
    with open_workspace(root, env) as workspace:
        raw, folder = workspace.store.read(dataset), workspace.actions
        if actions:
            try:
                rows = pl.read_csv(actions, try_parse_dates=True)
                given = make_actions(
                    rows.select("symbol", "date", "kind", pl.col("value").cast(pl.Float64)), raw.instrument.calendar
                )
            except (OSError, pl.exceptions.PolarsError) as e:
                raise InputError(
                    f"{actions} cannot be read as actions: {str(e).splitlines()[0]} Its columns must be symbol, date, kind (split or dividend) and value."
                ) from e
            told = given["symbol"].unique().sort().to_list()
            if not set(told) & set(raw.symbols):
                raise InputError(
                    f"{actions} has actions of {', '.join(told[:5]) or 'nothing'}, and none of {', '.join(raw.symbols[:5])}. Its symbols must be those of {raw.id}."
                )
            asked = told
        elif raw.id.venue in ("alpaca", "twelvedata"):
            source = open_source(raw.id.venue, url, workspace.settings.path(workspace.settings.workspace.secrets))
            given, asked = (
                make_actions(
                    pl.concat([source.actions(symbol, raw.bars["ts"].min()) for symbol in raw.symbols]),
                    raw.instrument.calendar,
                ),
                raw.symbols,
            )  # type: ignore[attr-defined]
        else:
            given, asked = load_actions(folder, raw.id.venue, []), []
        kept = load_actions(folder, raw.id.venue, sorted(set(raw.symbols) - set(asked)))
        known = pl.concat([kept, given.filter(pl.col("symbol").is_in(raw.symbols))]).sort("symbol", "ex")
        if not known.height and not asked:
            raise InputError(
                f"Nothing is known of splits and dividends of {raw.id}. Give them: --actions FILE.csv, with the columns symbol, date, kind (split or dividend) and value."
            )
        adjusted = adjust_bars(raw, known, to)  # type: ignore[arg-type]
        usual = f"{raw.id.venue}/{raw.id.symbol}-{to}/{raw.id.timeframe}"
        target = DatasetId.parse(id or usual)
        if target.timeframe != raw.id.timeframe or target.venue in RESERVED_VENUES:
            raise InputError(
                f"{target} cannot be the id of bars of {raw.id.timeframe} from the store. Write e.g. {usual}."
            )
        if target in workspace.store.datasets() and workspace.store.read(target).adjustment != to:
            raise InputError(
                f"{target} is stored and is not adjusted so; it would be replaced. Choose another id, e.g. {usual}."
            )
        save_actions(folder, raw.id.venue, given, asked)
        version = workspace.store.write(replace(adjusted, id=target), reason=adjusted.notes[-1], replace=True)
        shown = table("action", "symbol", "value")
        for row in known.tail(10).iter_rows(named=True):
            shown.add_row(f"{row['ex']:%Y-%m-%d} {row['kind']}", row["symbol"], f"{row['value']:g}")
        out.print(shown)
        out.print(
            f"{target}, version {version}: {adjusted.bars.height:,} bars, {adjusted.notes[-1]}. The raw ones stay as they are."
        )
        out.print(f"Next: algo run research -p dataset={target}")
