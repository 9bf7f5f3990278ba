"""Datasets for stores: made quickly, the same for every process that asks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from algo_research.data.market.bars import Dataset, DatasetId, make_bars, timeframe_duration
from algo_research.data.market.instruments import Instrument

HERE = str(Path(__file__).parents[1])  # to be put on the path by a process that imports from here
START = datetime(2021, 11, 29, tzinfo=UTC)


def make_dataset(timeframe="1h", n=60, every=None, symbols=("BTC",), seed=0, start=START, **options):
    """Bars `every` so often (by default without gaps), which a timeframe's partitions need not follow."""
    rng = np.random.default_rng(seed)
    step = every or timeframe_duration(timeframe)
    ts = pl.Series([start + i * step for i in range(n)], dtype=pl.Datetime("us", "UTC"))
    frames = []
    for symbol in symbols:
        low = rng.uniform(90, 100, n)
        prices = {"low": low, "open": low + 1, "close": low + 2 * rng.random(n), "high": low + 2}
        frames.append(pl.DataFrame({"symbol": [symbol] * n, "ts": ts, **prices, "volume": rng.random(n)}))
    bars = make_bars(pl.concat(frames), timeframe_duration(timeframe))
    return Dataset(DatasetId("test", "coins", timeframe), bars, Instrument("coins", "test", "spot"), **options)


def crash_states():
    """Two states of one dataset that share no bar's values, over four months."""
    return [make_dataset("1m", 20_000, seed=seed, every=timedelta(minutes=8)) for seed in (1, 2)]
