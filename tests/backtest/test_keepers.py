"""Both keepers of the books are given every order, however small it is."""

import numpy as np
import pytest

from algo_research.backtest.engine import backtest
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import PercentageCosts


@pytest.mark.parametrize("cash", [1e-3, 0.02, 1.0, 1e5])
def test_tiny_orders_are_given_to_both(cash):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bars = make_market("noise", seed=seed, bars=120).bars
        prices = bars.with_columns(bars[name] * 600 for name in ("open", "high", "low", "close"))  # about 60,000
        choice = rng.choice([0.1, 0.5, -0.4, 0.9, 0.0], prices.height)
        targets = prices.select("symbol", "ts", "known_at").with_columns(target=choice).sample(40, seed=seed).sort("ts")
        costs = PercentageCosts()
        books = [backtest(prices, targets, costs, 8766, cash, engine) for engine in ("vectorbt", "kernel")]
        equity = [result.equity["equity"].to_numpy() for result in books]
        np.testing.assert_allclose(*equity, rtol=1e-9)
        assert books[0].fills.height == books[1].fills.height > 20
