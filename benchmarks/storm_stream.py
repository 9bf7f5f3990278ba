"""A live stream whose connection breaks again and again, and whose first source falls silent; then compare the store
with the truth.

    python benchmarks/storm_stream.py [--seconds 200] [--disconnects 50] [--silence 60] [--speed 4]

Bars of one second at several times their speed, from two servers that show the same market. The delay is from the
exchange's event to the stored bar, in our seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from algo_research.data.intake.streams import ExchangeFeed, StreamReport, stream
from algo_research.data.market.bars import DatasetId
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.market import symbols_of


@dataclass
class ExchangeClock:
    """The sandbox's time."""

    time: MarketTime

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time.now() / 1000, UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.time.speed)


def storm(
    folder: Path, seconds: float, disconnects: int, silence: float, speed: float, seed: int = 3
) -> tuple[StreamReport, list[str], int]:
    """Stream while it breaks; the report, what is wrong in the store, and how many connections were broken."""
    markets = []
    for n, name in ((1, "BTC-USDT"), (2, "ETH-USDT")):
        market = make_market("garch", seed=n, bars=int((seconds + 60) * speed) + 400, timeframe="1s", volatility=0.0002)
        markets.append(
            replace(market, id=DatasetId("truth", name, "1s"), bars=market.bars.with_columns(symbol=pl.lit(name)))
        )
    begin = markets[0].bars["ts"][200]
    shared = MarketTime(begin, speed)
    first, second = (Exchange(symbols_of(markets), shared) for _ in range(2))
    store, rng, broken = open_store("delta://store", folder), np.random.default_rng(seed), 0

    async def run() -> StreamReport:
        nonlocal broken
        stop = asyncio.Event()
        feeds = [ExchangeFeed("sandbox", e.url, timeout=1.0) for e in (first, second)]
        task = asyncio.ensure_future(
            stream(
                feeds,
                store,
                ["BTC/USDT", "ETH/USDT"],
                "1s",
                ExchangeClock(shared),
                stop,
                since=markets[0].bars["ts"][0],
                silence=2.0,
            )
        )
        begun, dark_from = time.monotonic(), seconds / 3
        moments = iter(sorted(rng.uniform(2, seconds - 3, disconnects)))
        due = next(moments, None)
        while (now := time.monotonic() - begun) < seconds and not task.done():
            dark = dark_from < now < dark_from + silence
            if dark and not first.dark:
                first.disconnect()
            first.dark = dark
            if due is not None and now >= due:
                broken += any(e.connections for e in (first, second))
                first.disconnect()
                second.disconnect()
                due = next(moments, None)
            await asyncio.sleep(0.02)
        stop.set()
        return await task

    with running(first), running(second):
        report = asyncio.run(run())
    wrong = []
    for market in markets:
        kept = store.read(DatasetId("sandbox", market.id.symbol, "1s")).bars
        if not kept.equals(market.bars[: kept.height]) or kept.height < 200 + (seconds - 5) * speed:
            wrong.append(
                f"{market.id.symbol}: {kept.height} bars, "
                f"{market.bars[: kept.height].join(kept, on='ts', how='anti').height} lost, "
                f"{kept.join(market.bars, on=market.bars.columns, how='anti').height} invented or changed"
            )
    report.delays = [d / speed for d in report.delays]
    return report, wrong, broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--disconnects", type=int, default=55)
    parser.add_argument("--silence", type=float, default=60)
    parser.add_argument("--speed", type=float, default=4)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report, wrong, broken = storm(Path(folder), told.seconds, told.disconnects, told.silence, told.speed)
    delays = np.array(report.delays) * 1000
    print(
        f"{report.bars:,} bars from the stream, {report.backfilled:,} from REST, {report.repeated:,} came again, "
        f"{report.left_out} left out"
    )
    print(
        f"{broken} broken connections, {len(report.interruptions)} interruptions, {report.failovers} failovers; the "
        f"first source was silent for {told.silence:g} s"
    )
    print(
        f"delay from event to stored bar: median {np.median(delays):.0f} ms, p95 {np.quantile(delays, 0.95):.0f} ms, "
        f"worst {delays.max():.0f} ms"
    )
    print("every closed bar is in the store, once" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
