"""`algo data rename`: one market under two names becomes one history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, console, open_workspace

if TYPE_CHECKING:
    from algo_research.core.errors import InputError
    from algo_research.data.market.bars import DatasetId

EXAMPLE = "Example: algo data rename binance/LEND-USDT/1d binance/AAVE-USDT/1d --on 2020-10-16 --units 100"


def rename(
    before: Annotated[str, typer.Argument(help="The dataset under the old name; it stays as it is.")],
    now: Annotated[str, typer.Argument(help="The dataset under the new name; it gets the bars of before.")],
    on: Annotated[datetime, typer.Option(help="The first day (or moment, UTC) of the new name.", show_default=False)],
    units: Annotated[float, typer.Option(help="How many of the old asset became one of the new.")] = 1.0,
    jump: Annotated[
        bool, typer.Option("--jump", help="The price did jump so much on that day: what it says of --units is not so.")
    ] = False,
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
        last, first = old.bars.filter(pl.col("ts") < until), new.bars.filter(pl.col("ts") >= until)
        close, open_ = last["close"][-1] * units, first["open"][0]
        out.print(
            f"{old.id} until {until:%Y-%m-%d %H:%M} UTC: {last.height:,} bars, last close {close:g}, "
            f"of {last['ts'][-1]:%Y-%m-%d %H:%M}"
        )
        out.print(
            f"{new.id} from then on: {first.height:,} bars, first open {open_:g}, of {first['ts'][0]:%Y-%m-%d %H:%M}"
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
        jumped = close > 0 and open_ > 0 and not 0.5 < open_ / close < 2
        if jumped and not jump:
            raise wrong_units(old.symbols[0], new.id, units, open_ / close)
        if not yes:
            out.print(
                f"Nothing was stored. Do it: algo data rename {old.id} {new.id} --on {until:%Y-%m-%dT%H:%M:%S} "
                f"--units {units:.15g}{' --jump' * jumped} --yes"
            )
            return
        require_newest(old.id, newest_version(workspace.store, old.id), old.version)
        reason = joined.notes[-1] + f"; the price jumped, {open_ / close:,.6g} times what it was" * jumped
        version = workspace.store.write(joined, reason=reason, replace=True, after=new.version)
    out.print(f"{new.id}, version {version}: {joined.bars.height:,} bars. {old.id} stays as it is.")


def likely_units(told: float) -> float:
    """A round number near to what prices say; below one it is one part of a round number."""
    if told < 1:
        return 1 / likely_units(1 / told)
    one, two = float(f"{told:.1g}"), float(f"{told:.2g}")
    return one if abs(told / one - 1) < 0.15 else two


def wrong_units(old: str, now: DatasetId, units: float, times: float) -> InputError:
    """What the prices on both sides say of the units, and what to do about it."""
    from algo_research.core.errors import InputError

    told = units * times
    return InputError(
        f"With --units {units:.15g} the prices of {now} begin at {times:,.6g} times what they were. They say about "
        f"{told:,.6g} of {old} for one: say --units {likely_units(told):.15g}. If the price did jump so much on that "
        f"day, say --units {units:.15g} --jump."
    )
