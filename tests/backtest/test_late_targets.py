"""Nothing is filled before its target was known, however late that is, with either keeper of the books."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from algo_research.backtest.engine import backtest
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import PercentageCosts

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("engine", ["vectorbt", "kernel"])
@pytest.mark.parametrize("seed", range(3))
def test_no_fill_before_its_target_was_known(engine, seed):
    bars = make_market("noise", seed=seed, bars=300).bars
    rng = np.random.default_rng(seed)
    late = pl.Series("late", rng.integers(0, 90, bars.height) * timedelta(minutes=10).total_seconds() * 1e6)
    targets = bars.select("symbol", "ts", "known_at", target=pl.Series(rng.choice([0.1, 0.5, -0.4, 0.9], bars.height)))
    targets = targets.sample(60, seed=seed).sort("ts")
    later = targets.with_columns(pl.col("known_at") + late[: targets.height].cast(pl.Int64).cast(pl.Duration("us")))
    found = backtest(bars, later, PercentageCosts(), 8766, engine=engine).orders
    opens, rows, done, right = bars["ts"].to_list(), later.rows(named=True), None, []
    for (
        at
    ) in opens:  # in plain words: at each open the newest decision whose turn it is, if none newer was there before
        due = [r for r in rows if min((o for o in opens if o >= r["known_at"]), default=None) == at]
        newest = max(due, key=lambda r: r["ts"], default=None)
        if newest and (done is None or newest["ts"] > done):
            right.append((at, newest["target"]))
            done = newest["ts"]
    assert found.select("ts", "target").rows() == right and len(right) > 20
    prompt = backtest(bars, targets, PercentageCosts(), 8766, engine=engine)
    assert prompt.orders["ts"].to_list() == [t for t in targets["known_at"] if t in set(opens)]
