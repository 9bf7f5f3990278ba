"""`algo data stream`: store bars as they close."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from .common import Env, Root, console, open_workspace, stopped_by_signals

EXAMPLE = "Example: algo data stream BTC/USDT ETH/USDT --exchange binance --timeframe 1m"


def stream(
    symbols: Annotated[list[str], typer.Argument(help="Markets as the exchange writes them, e.g. BTC/USDT.")],
    exchange: Annotated[str, typer.Option(help="Any that ccxt streams from, or sandbox.")] = "binance",
    timeframe: Annotated[str, typer.Option(help="One of the exchange's, e.g. 1m.")] = "1m",
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Fetch past bars from here on, UTC; by default from the newest stored one, or from now.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="The sandbox's address; given twice, the second takes over when the first fails.", show_default=False
        ),
    ] = None,
    silence: Annotated[
        float, typer.Option(min=0.5, help="Seconds without any message after which a feed counts as dead.")
    ] = 15.0,
    stop_after: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many seconds; by default at Ctrl-C.", show_default=False)
    ] = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Store every bar as it closes; what was missed while nobody was connected is fetched,
    so that nothing is missing afterwards.
    """
    import asyncio
    from datetime import UTC

    import numpy as np

    from algo_research.data.intake.streams import ExchangeFeed
    from algo_research.data.intake.streams import stream as stream_

    feeds = [ExchangeFeed(exchange, address) for address in url] if url else [ExchangeFeed(exchange)]
    out, progress = console(), console(stderr=True)

    async def listen(workspace):
        stop = stopped_by_signals(stop_after)
        with progress.status(f"listening to {exchange}; Ctrl-C stops") as status:
            return await stream_(
                feeds,
                workspace.store,
                symbols,
                timeframe,
                workspace.clock,
                stop,
                since and since.replace(tzinfo=UTC),
                silence,
                lambda name, text: status.update(f"{name}: {text}"),
            )

    with open_workspace(root, env) as workspace:
        report = asyncio.run(listen(workspace))
    out.print(
        f"{report.bars:,} bars from the stream, {report.backfilled:,} from past bars, {len(report.interruptions)} "
        f"interruptions, {report.failovers} times another feed took over"
    )
    for reason in dict.fromkeys(report.interruptions):
        out.print(f"  {report.interruptions.count(reason)} x {reason}")
    if report.delays and exchange != "sandbox":  # whose time is its own
        out.print(
            f"From the exchange's event to the stored bar: median {np.median(report.delays) * 1000:.0f} ms, p95 "
            f"{np.quantile(report.delays, 0.95) * 1000:.0f} ms (by two clocks)"
        )
