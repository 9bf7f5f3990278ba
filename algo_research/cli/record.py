"""`algo data record`: keep trades and order books as they come."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Env, Root, console, open_workspace, stopped_by_signals

EXAMPLE = (
    "Example: algo data record BTC/USDT ETH/USDT --exchange binance\n\n"
    "Then, in a notebook: workspace.recordings.trades('binance', 'BTC-USDT')"
)


def record(
    symbols: Annotated[list[str], typer.Argument(help="Markets as the exchange writes them, e.g. BTC/USDT.")],
    exchange: Annotated[str, typer.Option(help="binance, or sandbox.")] = "binance",
    what: Annotated[
        list[str] | None, typer.Option(help="trades or depth; may be repeated.", show_default="both")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The sandbox's address.", show_default=False)] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two writes.")] = 5.0,
    silence: Annotated[
        float, typer.Option(min=0.5, help="Seconds without any message after which the connection counts as dead.")
    ] = 15.0,
    stop_after: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many seconds; by default at Ctrl-C.", show_default=False)
    ] = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Keep every trade once, and every change of the order book in its sequence;
    trades that were missed are asked for, a book begins anew from a snapshot.
    """
    import asyncio

    from algo_research.data.intake.recording import KINDS, BinanceFeed
    from algo_research.data.intake.recording import record as record_

    feed, out, progress = BinanceFeed(exchange, url), console(), console(stderr=True)

    async def listen(workspace):
        stop = stopped_by_signals(stop_after)
        with progress.status(f"recording {exchange}; Ctrl-C stops") as status:
            return await record_(
                feed, workspace.recordings, symbols, stop, what or KINDS, every, silence, status.update
            )

    with open_workspace(root, env) as workspace:
        report = asyncio.run(listen(workspace))
    out.print(
        f"{report.trades:,} trades ({report.filled:,} of them asked for, {report.lost:,} lost), {report.updates:,} "
        f"updates and {report.snapshots:,} snapshots of books, {report.gaps:,} gaps"
    )
    for reason in dict.fromkeys(report.interruptions):
        out.print(f"  {report.interruptions.count(reason)} x {reason}")
