"""Sync from an exchange that fails in every way it can, with processes that are killed; then compare with the truth,
bar for bar.

    python benchmarks/storm.py [--bars 500045] [--kills 20] [--seed 5]

Two symbols of minute bars, one with a true hole. The exchange is `algo_research.sandbox`; waits pass on its own time,
so that nothing waits for real but requests that time out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from algo_research.data.intake.ingest import plan_sync, sync
from algo_research.data.market.bars import DatasetId
from algo_research.data.stores.base import open_store
from algo_research.data.venues.exchanges import ExchangeSource

if TYPE_CHECKING:
    from algo_research.data.market.bars import Dataset
    from algo_research.sandbox.exchange import Exchange

RATES = {
    **dict.fromkeys(
        ("rate_limit", "server_error", "drop", "garbled", "missing", "duplicate", "late", "shuffled"), 0.025
    ),
    "timeout": 0.015,
    "skew": 0.6,
}  # few ask for the time


class ExchangeClock:
    """The sandbox's time; sleeping lets it pass."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/sandbox"

    def now(self) -> datetime:
        with urllib.request.urlopen(self.url, timeout=30) as answer:
            return datetime.fromtimestamp(json.load(answer)["now"] / 1000, UTC)

    def sleep(self, seconds: float) -> None:
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}?advance={seconds}", method="POST"), timeout=30
        ).close()


def make_markets(bars: int) -> list[Dataset]:
    """Two markets of minute bars; the second has a true hole of an hour and a half."""
    from algo_research.data.samples.synthetic import make_market

    made = []
    for seed, name in ((1, "BTC-USDT"), (2, "ETH-USDT")):
        market = make_market("garch", seed=seed, bars=bars, timeframe="1m", volatility=0.0005)
        kept = market.bars.with_columns(symbol=pl.lit(name))
        if seed == 2:
            kept = pl.concat([kept[: bars // 3], kept[bars // 3 + 90 :]])
        made.append(replace(market, id=DatasetId("truth", name, "1m"), bars=kept))
    return made


def drive(url: str, folder: str, since: str) -> None:
    """One process's attempt at all of it."""
    store = open_store("delta://store", folder)
    for symbol in ("BTC/USDT", "ETH/USDT"):
        source, clock = ExchangeSource("sandbox", url, timeout=0.4), ExchangeClock(url)
        plan = plan_sync(source, store, symbol, "1m", clock, datetime.fromisoformat(since))
        print(sync(plan, source, store, clock, flush=5_000), flush=True)


def storm(markets: list[Dataset], folder: Path, kills: int, seed: int) -> tuple[Exchange, int]:
    """Sync both markets while faults strike; the process is killed after about equal numbers of requests.
    The exchange, and how many were killed.
    """
    from algo_research.sandbox.exchange import Exchange, MarketTime, running
    from algo_research.sandbox.faults import Faults
    from algo_research.sandbox.market import symbols_of

    rng, every = np.random.default_rng(seed), 0.7 * sum(m.bars.height for m in markets) / 1000 / (kills + 1)
    exchange = Exchange(
        symbols_of(markets),
        MarketTime(markets[0].bars["ts"].max() - timedelta(seconds=30), speed=0),
        Faults(RATES, seed, stall=0.6),
    )
    killed = 0
    with running(exchange):
        command = [
            sys.executable,
            __file__,
            "--drive",
            exchange.url,
            str(folder),
            markets[0].bars["ts"].min().isoformat(),
        ]
        while True:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            enough = exchange.requests + every * (0.6 + 0.8 * rng.random()) if killed < kills else float("inf")
            while process.poll() is None and exchange.requests < enough:
                time.sleep(0.005)
            if process.poll() is None:
                process.kill()
                process.communicate()
                killed += 1
                continue
            told, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(told)
            print(told, end="")
            break
        exchange.faults.rates = {}  # what was hidden to the last is the next sync's
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(told, end="")
    return exchange, killed


def differences(markets: list[Dataset], folder: Path, now: datetime) -> list[str]:
    """Where the store is not the source: bars that had closed, each once, with the same values."""
    store, found = open_store("delta://store", folder), []
    for market in markets:
        kept, closed = (
            store.read(DatasetId("sandbox", market.id.symbol, "1m")).bars,
            market.bars.filter(pl.col("known_at") <= now),
        )
        if not kept.equals(closed):
            lost, invented = (
                closed.join(kept, on="ts", how="anti").height,
                kept.join(closed, on="ts", how="anti").height,
            )
            found.append(
                f"{market.id.symbol}: {lost} lost, {invented} invented, "
                f"{kept.join(closed, on=closed.columns, how='anti').height - invented} changed"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=int, default=500_045)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--drive", nargs=3, metavar=("URL", "FOLDER", "SINCE"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.drive:
        drive(*told.drive)
        return
    markets, begun = make_markets(told.bars), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        exchange, killed = storm(markets, Path(folder), told.kills, told.seed)
        wrong = differences(markets, Path(folder), datetime.fromtimestamp(exchange.time.now() / 1000, UTC))
    faults = {kind: exchange.faults.counts[kind] for kind in RATES}
    print(
        f"{sum(m.bars.height for m in markets):,} bars, {exchange.requests:,} requests, {sum(faults.values())} "
        f"faults, {killed} kills, {exchange.bans} bans, {time.monotonic() - begun:.0f} s"
    )
    print("faults: " + ", ".join(f"{kind} {n}" for kind, n in faults.items()))
    print("the store equals the source, bar for bar" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
