"""Our accounting against vectorbt's `Portfolio.from_orders`: same data, same process, medians after a warm-up.

Timed: from arrays of prices and targets to order records (vectorbt computes cash, positions and equity later, on
demand; that is timed in a row of its own). Ours always returns all of them. `kernel` is ours without checking the
input.
"""

import statistics
import time
import warnings
from functools import partial

import numpy as np

from algo_research.execution.accounting import account, account_nb, stack_costs

BARS, DENSITY, REPEATS = 50_000, 0.1, 9
COSTS = {"fees": 0.0002, "fixed_fees": 0.0, "slippage": 0.0001}


def market(assets, seed=0):
    "Random walks and random targets, long and short, given on `DENSITY` of the bars."
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(rng.normal(0, 0.001, (BARS, assets)).cumsum(0))
    open_ = close * np.exp(rng.normal(0, 0.0005, close.shape))
    target = rng.uniform(-0.2, 1, close.shape) / assets
    return open_, close, np.where(rng.random(close.shape) < DENSITY, target, np.nan)


def median_time(function):
    "Median seconds of several calls, the first one left out."
    function()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def simulate(vbt, frame, open_, target, val_price):
    return vbt.Portfolio.from_orders(
        frame,
        size=target,
        size_type="targetpercent",
        price=open_,
        val_price=val_price,
        direction="both",
        init_cash=1e6,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        lock_cash=False,
        update_value=False,
        freq="1min",
        **COSTS,
    )


def books(*args):
    portfolio = simulate(*args)
    return portfolio.cash(), portfolio.assets(), portfolio.value()


def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd
        import vectorbt as vbt
    print(f"{BARS:,} bars, targets on {DENSITY:.0%} of them, median of {REPEATS}; ratio: time relative to account")
    print(f"{'assets':>6} {'fills':>8} {'work':<24} {'ms':>9} {'M bars x assets/s':>18} {'ratio':>7}")
    for assets in (1, 20):
        open_, close, target = market(assets)
        frame = pd.DataFrame(close)
        theirs = vbt, frame, open_, target, frame.shift(1)
        ours = account(open_, close, target, 1e6, **COSTS)
        np.testing.assert_allclose(ours.equity, simulate(*theirs).value(), rtol=1e-9)
        seconds = {
            "account": median_time(partial(account, open_, close, target, 1e6, **COSTS)),
            "kernel": median_time(partial(account_nb, open_, close, target, 1e6, stack_costs(open_.shape, **COSTS))),
            "vectorbt, orders": median_time(partial(simulate, *theirs)),
            "vectorbt, all books": median_time(partial(books, *theirs)),
        }
        for name, s in seconds.items():
            speed, ratio = BARS * assets / s / 1e6, s / seconds["account"]
            print(f"{assets:>6} {len(ours.fills):>8,} {name:<24} {s * 1e3:>9.2f} {speed:>18.1f} {ratio:>7.2f}")


if __name__ == "__main__":
    main()
