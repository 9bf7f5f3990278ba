"""`algo data rename`: one market under two names becomes one history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from .common import Env, Root, console, open_workspace

EXAMPLE = "Example: algo data rename binance/LEND-USDT/1d binance/AAVE-USDT/1d --on 2020-10-16 --units 100"


def rename(
    before: Annotated[str, typer.Argument(help="The dataset under the old name; it stays as it is.")],
    now: Annotated[str, typer.Argument(help="The dataset under the new name; it gets the bars of before.")],
    on: Annotated[datetime, typer.Option(help="The first day (or moment, UTC) of the new name.", show_default=False)],
    units: Annotated[float, typer.Option(help="How many of the old asset became one of the new.")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do what was shown.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Join the bars of a market that was renamed, or whose asset was exchanged for another, under its new name.

    Shows the prices on both sides first; a sync of the new name goes on behind them.
    """
    import polars as pl

    from algo_research.data.market.equities import follow_rename
    from algo_research.data.stores.base import newest_version, require_newest

    out, until = console(), on.replace(tzinfo=on.tzinfo or UTC)
    with open_workspace(root, env) as workspace:
        old, new = workspace.store.read(before), workspace.store.read(now)
        joined = follow_rename(old, new, until, units)
        first, last = (joined.bars.filter(side) for side in (pl.col("ts") >= until, pl.col("ts") < until))
        out.print(
            f"{old.id} until {until:%Y-%m-%d %H:%M} UTC: {last.height:,} bars, last close {last['close'][-1]:g}, "
            f"of {last['ts'][-1]:%Y-%m-%d %H:%M}"
        )
        out.print(
            f"{new.id} from then on: {first.height:,} bars, first open {first['open'][0]:g}, "
            f"of {first['ts'][0]:%Y-%m-%d %H:%M}"
        )
        if joined.bars.equals(new.bars) and joined.instrument.history == new.instrument.history:
            out.print(f"{new.id} is joined so already: there is nothing to do.")
            return
        left = new.bars.filter(pl.col("ts") < until)
        over = left.join(old.bars, on="ts", how="semi").height
        if over:
            out.print(f"{over:,} bars of {new.id} from before that day are replaced by those of {old.id}.")
        if left.height > over:
            out.print(f"{left.height - over:,} bars of {new.id} from before that day stay: {old.id} has none there.")
        apart = first["open"][0] / last["close"][-1]
        if not 0.5 < apart < 2:
            out.print(f"Prices are {apart:.4g} times what they were. Is --units {units:g} right?", style="yellow")
        if not yes:
            out.print(
                f"Nothing was stored. Do it: algo data rename {old.id} {new.id} --on {until:%Y-%m-%dT%H:%M:%S} "
                f"--units {units:g} --yes"
            )
            return
        require_newest(old.id, newest_version(workspace.store, old.id), old.version)
        version = workspace.store.write(joined, reason=joined.notes[-1], replace=True, after=new.version)
    out.print(f"{new.id}, version {version}: {joined.bars.height:,} bars. {old.id} stays as it is.")
