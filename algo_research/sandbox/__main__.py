"""`python -m algo_research.sandbox`, which is `algo sandbox`: serve datasets as an exchange."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from .faults import KINDS

EXAMPLE = (
    "Example: algo sandbox synthetic/garch:1/1m --speed 60 --fault rate_limit=0.01\n\n"
    "Then: algo data sync GARCH1/USDT --exchange sandbox --url http://127.0.0.1:8765 --timeframe 1m --since 2015-01-01"
)
FAULTS = "\b\nKinds of fault:\n" + "\n".join(f"  {kind:13}{meaning}" for kind, meaning in KINDS.items())


def parse_faults(assignments: list[str] | None) -> dict[str, float]:
    """`--fault` options as rates by kind."""
    from algo_research.core.errors import InputError

    rates = {}
    for text in assignments or []:
        kind, _, rate = text.partition("=")
        try:
            rates[kind] = float(rate)
        except ValueError:
            raise InputError(
                f"--fault {text!r} cannot be read. Write --fault KIND=SHARE, e.g. --fault rate_limit=0.01."
            ) from None
    return rates


def sandbox(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(help="What it trades: ids as in `algo data list`.", show_default="synthetic/garch:1/1m"),
    ] = None,
    capture: Annotated[
        list[Path] | None,
        typer.Option(
            help="Captured messages of Binance spot, told again at their time, order book included. May be repeated."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    start: Annotated[
        datetime | None,
        typer.Option(
            help="Its time when it starts, UTC.",
            show_default="a day before the end of the bars; where a capture begins",
        ),
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Its seconds in each of ours; 0: its time stands still.")] = 1.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=SHARE",
            help="What goes wrong, in which share of the requests. May be repeated; the kinds are listed below.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the faults.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Request weight a minute of its time.")] = 6000,
    root: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", help="Folder of settings.ini; by default the nearest one upwards.", show_default=False
        ),
    ] = None,
) -> None:
    """A local exchange that speaks Binance spot's public API, for ccxt and whatever else;
    nothing leaves this machine.
    """
    from datetime import UTC, timedelta

    from algo_research.data.catalog import load_dataset
    from algo_research.workspace.bootstrap import open_workspace

    from .exchange import Exchange, MarketTime
    from .exchange import start as start_
    from .faults import Faults
    from .market import captured_symbol, symbols_of
    from .tape import read_capture

    faults = Faults(parse_faults(fault), seed)
    captured = [read_capture(path) for path in capture or []]
    with open_workspace(root) as workspace:
        wanted = datasets or ([] if captured else ["synthetic/garch:1/1m"])
        loaded = [load_dataset(id, workspace.store, workspace.settings.root) for id in wanted]
    if captured:
        usual = max(datetime.fromtimestamp(c.start / 1000, UTC) for c in captured)
    else:
        ends: list[datetime] = [d.bars["ts"].max() for d in loaded]  # type: ignore[misc]  # polars knows no column
        usual = max(ends) - timedelta(days=1)
    begin = start.replace(tzinfo=UTC) if start else usual
    exchange = Exchange(
        symbols_of(loaded) | {c.symbol: captured_symbol(c) for c in captured}, MarketTime(begin, speed), faults, limit
    )

    async def serve() -> None:
        runner = await start_(exchange, port)
        typer.echo(
            f"{', '.join(f'{s.base}/{s.quote}' for s in exchange.symbols.values())} at {exchange.url}  (its time "
            f"{begin:%Y-%m-%d %H:%M}, {speed:g} x; Ctrl-C stops it)",
            err=True,
        )
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    except OSError as e:
        from algo_research.core.errors import InputError

        raise InputError(
            f"Port {port} is in use, or not allowed ({e.strerror}). Choose another one with --port."
        ) from e


if __name__ == "__main__":
    from algo_research.cli.main import run

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(epilog=f"{FAULTS}\n\n{EXAMPLE}")(sandbox)
    run(lambda: app(prog_name="algo sandbox"))
