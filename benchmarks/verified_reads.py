"""What it costs that each read is held against its hash: a month of minutes, cold and hot, beside the same read unheld.

    python benchmarks/verified_reads.py [--check]

Timed is `Store.read` of 30 days of one symbol, and of one symbol of a panel of twenty. Cold: a store that has read
nothing yet, without a cache. Hot: the second read of a store with a cache. The peer is the same store with the hashing
taken out. With --check the exit code is 1 when a ratio of the single market is over 1.2.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import polars as pl
from rich.console import Console
from rich.table import Table

from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.delta import DeltaStore

REPEATS, LIMIT = 60, 1.2


def medians(calls: list[Callable[[], object]]) -> list[float]:
    """Milliseconds of each, taken in turns so that a busy machine is as busy for all."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, seen in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            seen.append(1000 * (time.perf_counter() - begun))
    return [statistics.median(seen) for seen in times]


def held(folder: Path, id: str, cache: str | None, symbols: list[str] | None) -> list[Callable[[], object]]:
    """The same read, held against its hash and not."""
    stores = [DeltaStore(folder, cache), DeltaStore(folder, cache)]

    def read(store: DeltaStore) -> object:
        return (store if cache else DeltaStore(folder)).read(id, symbols)

    def unheld() -> object:
        with patch.object(
            DeltaStore, "_verified", lambda store, id, path: store.place.source(f"{store._path(id)}/{path}")
        ):
            return read(stores[1])

    return [lambda: read(stores[0]), unheld]


def main() -> int:
    market = make_market("noise", 1, bars=43_200, timeframe="1m")
    names = [f"S{number:02d}" for number in range(20)]
    panel = replace(market, bars=pl.concat([market.bars.with_columns(symbol=pl.lit(name)) for name in names]))
    panel = replace(panel, id=panel.id._replace(symbol="panel"))
    rows = Table("read", "held", "unheld", "ratio", title="30 days of minutes, milliseconds (median)")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = DeltaStore(Path(folder))
        store.write(market)
        store.write(panel)
        for what, dataset, cache, symbols in (
            ("one market, cold", market, None, None),
            ("one market, hot", market, "memory://512MB", None),
            ("one of a panel of 20, cold", panel, None, names[:1]),
            ("one of a panel of 20, hot", panel, "memory://512MB", names[:1]),
        ):
            ours, theirs = medians(held(Path(folder), str(dataset.id), cache, symbols))
            rows.add_row(what, f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.2f}")
            worst = max(worst, ours / theirs) if dataset is market else worst
    Console().print(rows)
    return int("--check" in sys.argv and worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
