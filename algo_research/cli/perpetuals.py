"""`algo data perpetuals`: keep funding rates and open interest current from an exchange."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from .common import Env, Root, console, line, open_workspace, tell

EXAMPLE = "Example: algo data perpetuals BTC/USDT:USDT --exchange binance --since 2024-01-01 --what funding"


def perpetuals(
    symbols: Annotated[list[str], typer.Argument(help="Perpetuals as the exchange writes them, e.g. BTC/USDT:USDT.")],
    exchange: Annotated[str, typer.Option(help="Any that ccxt knows, or sandbox.")] = "binance",
    since: Annotated[
        datetime | None,
        typer.Option(help="From when on, UTC; by default from the first row that is stored.", show_default=False),
    ] = None,
    what: Annotated[
        list[str] | None, typer.Option(help="funding or interest; may be repeated.", show_default="both")
    ] = None,
    period: Annotated[str, typer.Option(help="Of open interest: the time between two counts, e.g. 5m, 1h.")] = "1h",
    url: Annotated[str | None, typer.Option(help="The sandbox's address.", show_default=False)] = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Fetch what is missing of funding rates and open interest, and nothing else;
    Binance tells thirty days of open interest and no more.
    """
    from datetime import UTC
    from functools import partial

    from algo_research.core.errors import AlgoError, unknown_name
    from algo_research.data.intake.perpetuals import SCHEMAS, PerpetualExchange, sync_perpetual
    from algo_research.data.market.bars import timeframe_duration

    for kind in what or []:
        if kind not in SCHEMAS:
            raise unknown_name("kind of rows", kind, SCHEMAS)
    timeframe_duration(period)
    first, out, progress = since and since.replace(tzinfo=UTC), console(), console(stderr=True)
    wanted, failed = [(symbol, kind) for symbol in symbols for kind in what or SCHEMAS], []
    with open_workspace(root, env) as workspace:
        source, store = PerpetualExchange(exchange, url), workspace.perpetuals
        for symbol, kind in wanted:
            try:
                with progress.status(symbol) as status:
                    done = sync_perpetual(
                        source,
                        store,
                        symbol,
                        kind,
                        workspace.clock,
                        first,
                        period,
                        tell=partial(tell, status, symbol),
                    )
            except AlgoError as e:  # the others are no worse for it
                failed.append(e)
                if len(wanted) > 1:
                    progress.print(line((f"{symbol}, {kind}", "red"), f": {e}"))
                continue
            out.print(str(done))
            for begin, end in done.holes[:5]:
                out.print(f"  nothing between {begin:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M}")
    if failed:
        raise (
            failed[0]
            if len(wanted) == 1
            else type(failed[0])(
                f"{len(failed)} of {len(wanted)} failed; the others are current. The same command goes on where they "
                "stopped."
            )
        )
