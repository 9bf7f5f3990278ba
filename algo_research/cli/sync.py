"""`algo data sync`: keep datasets current from an exchange."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, console, line, open_workspace, tell

if TYPE_CHECKING:
    from rich.console import Console

    from algo_research.data.intake.ingest import Stretches
    from algo_research.data.market.bars import DatasetId

EXAMPLE = "Example: algo data sync BTC/USDT ETH/USDT --exchange binance --timeframe 1h --since 2024-01-01"


def _print_lost(out: Console, id: DatasetId, lost: Stretches) -> None:
    """What the source does not keep any more, and what can be done about it."""
    if lost:
        out.print(
            f"  what is missing from {lost[0][0]:%Y-%m-%d %H:%M} to {lost[-1][1]:%Y-%m-%d %H:%M} cannot be fetched any "
            f"more; files of that time can be imported (algo data import FILE --id {id})"
        )


def sync(
    symbols: Annotated[
        list[str],
        typer.Argument(
            help="Markets as the exchange writes them, e.g. BTC/USDT; a perpetual is BTC/USDT:USDT, a stock AAPL."
        ),
    ],
    exchange: Annotated[
        str, typer.Option(help="Any that ccxt knows; twelvedata or alpaca (with their keys); or sandbox.")
    ] = "binance",
    timeframe: Annotated[str, typer.Option(help="One of the exchange's, e.g. 1m, 1h, 1d.")] = "1h",
    since: Annotated[
        datetime | None,
        typer.Option(help="From when on, UTC; by default from the first bar that is stored.", show_default=False),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="Up to when, UTC; by default to the newest closed bar.", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="The address of a sandbox, or of a server that speaks like the provider.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be asked for, and ask for nothing but the rules and the time."),
    ] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Fetch what is missing and nothing else: closed bars only; interrupted, the same command goes on."""
    from datetime import UTC
    from functools import partial

    from algo_research.core.errors import AlgoError
    from algo_research.data.intake.ingest import plan_sync
    from algo_research.data.intake.ingest import sync as fill
    from algo_research.data.venues.providers import open_source

    first, last = (t and t.replace(tzinfo=UTC) for t in (since, until))
    out, progress, failed = console(), console(stderr=True), []
    with open_workspace(root, env) as workspace:
        source = open_source(exchange, url, workspace.settings.path(workspace.settings.workspace.secrets))
        for symbol in symbols:
            try:
                with progress.status(symbol) as status:
                    plan = plan_sync(
                        source,
                        workspace.store,
                        symbol,
                        timeframe,
                        workspace.clock,
                        first,
                        last,
                        partial(tell, status, symbol),
                    )
                    done = (
                        None if dry_run else fill(plan, source, workspace.store, workspace.clock, partial(tell, status))
                    )
            except KeyboardInterrupt:
                said = ": what came before is stored; the same command goes on there"
                progress.print(line(("interrupted", "yellow"), said))
                raise
            except AlgoError as e:  # the other symbols are no worse for it
                failed.append(e)
                if len(symbols) > 1:
                    progress.print(line((symbol, "red"), f": {e}"))
                continue
            if done is None:
                out.print(
                    f"{plan.id}: {plan.total:,} bars to ask for in {len(plan.holes)} piece(s)"
                    + (f", from {plan.holes[0][0]:%Y-%m-%d %H:%M} on" if plan.holes else "")
                )
                _print_lost(out, plan.id, plan.lost)
                continue
            out.print(str(done))
            for begin, end in done.holes[:5]:
                out.print(f"  nothing from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}")
            _print_lost(out, done.id, done.lost)
    if failed:
        raise (
            failed[0]
            if len(symbols) == 1
            else type(failed[0])(
                f"{len(failed)} of {len(symbols)} symbols "
                f"failed{'; the others are current' if len(failed) < len(symbols) else ''}. The same command goes on "
                "where they stopped."
            )
        )
    out.print("Nothing was stored (--dry-run)." if dry_run else f"Next: algo data check {plan.id}")
