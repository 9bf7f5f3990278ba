"""How often rules without skill are called an edge, and how often planted skill is found: markets x rules.

Each cell judges one rule on many seeds with the package's own backtest and verdict (one trial). Markets are such that
nobody can earn there before costs, but for the two marked "costs": what there is to earn is less than the costs.

    python benchmarks/rule_rates.py                    # 200 seeds a cell, with Clopper-Pearson intervals
    python benchmarks/rule_rates.py --seeds 20         # a quick look
    python benchmarks/rule_rates.py --check            # exit 1 when a rate is above what is stated

Nothing is timed here; the counts are exact and repeat for the same seeds.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

import numpy as np
import polars as pl
from scipy.stats import beta

from algo_research.backtest.engine import backtest
from algo_research.backtest.verdict import Verdict, pronounce
from algo_research.execution.costs import PercentageCosts

BARS, TESTED, YEAR, SIZE, LEVEL = 4000, 1600, 252.0, 0.01, 0.95
FREE, USUAL = PercentageCosts(fees=0, slippage=0), PercentageCosts(fees=0.001, slippage=0.0005)


# Markets: (open, close) of shape (bars, symbols), as log prices


def _prices(returns: np.ndarray, gaps: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    close = np.cumsum(returns + gaps, axis=0)
    before = np.vstack([np.zeros((1, returns.shape[1])), close[:-1]])
    return before + gaps, close


def _normal(rng, symbols):
    return rng.normal(0, SIZE, (BARS, symbols))


def _heavy(rng, symbols, degrees):
    return SIZE * rng.standard_t(degrees, (BARS, symbols)) * np.sqrt((degrees - 2) / degrees)


def _simple(returns: np.ndarray) -> np.ndarray:
    """Log returns whose simple returns are these: the price is the martingale, not its logarithm."""
    return np.log1p(np.maximum(returns, -0.9))


def _jumps(rng, symbols):
    jump = rng.random((BARS, symbols)) < 0.01
    return 0.8 * _normal(rng, symbols) - SIZE * (6 * jump - 0.06)


def _leverage(rng, symbols):
    shock, variance = rng.normal(0, 1, (BARS, symbols)), np.full(symbols, SIZE**2)
    made = np.empty((BARS, symbols))
    for i in range(BARS):
        made[i] = np.sqrt(variance) * shock[i]
        variance = 0.03 * SIZE**2 + (0.02 + 0.12 * (made[i] < 0)) * made[i] ** 2 + 0.89 * variance
    return made


def _correlated(rng, symbols):
    return np.sqrt(0.9) * rng.normal(0, SIZE, (BARS, 1)) + np.sqrt(0.1) * _normal(rng, symbols)


def _autoregressive(rng, symbols, strength):
    shock = _normal(rng, symbols)
    for i in range(1, BARS):
        shock[i] += strength * shock[i - 1]
    return shock


def _bounce(rng, symbols):
    side = rng.choice([-0.0005, 0.0005], (BARS + 1, symbols))
    return _normal(rng, symbols) + np.diff(side, axis=0)


MARKETS = {  # name: (symbols, costs, drift a bar in standard deviations, maker of simple returns)
    "normal": (1, FREE, 0.0, _normal),
    "t(4)": (1, FREE, 0.0, lambda rng, n: _heavy(rng, n, 4)),
    "t(2.5)": (1, FREE, 0.0, lambda rng, n: _heavy(rng, n, 2.5)),
    "skewed jumps": (1, FREE, 0.0, _jumps),
    "leverage effect": (1, FREE, 0.0, _leverage),
    "overnight gaps": (1, FREE, 0.0, lambda rng, n: _normal(rng, n) * 0.8),
    "drift up": (1, FREE, 0.05, lambda rng, n: _heavy(rng, n, 4)),
    "drift down": (1, FREE, -0.05, lambda rng, n: _heavy(rng, n, 4)),
    "20 assets, correlation 0.9": (20, FREE, 0.0, _correlated),
    "20 assets, independent": (20, FREE, 0.0, _normal),
    "AR(1) 0.02, costs": (1, USUAL, 0.0, lambda rng, n: _autoregressive(rng, n, 0.02)),
    "bid-ask bounce, costs": (1, USUAL, 0.0, _bounce),
}


def make_bars(market: str, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Daily bars, and the closes as a matrix."""
    symbols, _, drift, make = MARKETS[market]
    rng = np.random.default_rng([seed, sorted(MARKETS).index(market)])
    returns = _simple(make(rng, symbols) + drift * SIZE)
    gaps = _simple(0.6 * _normal(rng, symbols)) if market == "overnight gaps" else 0.0
    opened, closed = (np.exp(4 + p) for p in _prices(returns, gaps))
    return frame(opened, closed), closed


def frame(opened: np.ndarray, closed: np.ndarray) -> pl.DataFrame:
    start = datetime(2000, 1, 1, tzinfo=UTC)
    ts = pl.datetime_range(start, interval="1d", end=start + pl.duration(days=BARS - 1), eager=True, time_unit="us")

    def symbol(i: int) -> pl.DataFrame:
        o, c = opened[:, i], closed[:, i]
        return pl.DataFrame({"ts": ts}).select(
            pl.lit(f"A{i:02d}").alias("symbol"), "ts", open=pl.Series(o), high=pl.Series(np.maximum(o, c)),
            low=pl.Series(np.minimum(o, c)), close=pl.Series(c), volume=pl.lit(1e6),
            known_at=pl.col("ts") + pl.duration(days=1),
        )  # fmt: skip

    return pl.concat([symbol(i) for i in range(opened.shape[1])])


# Rules: exposure decided at each close, of shape (bars, symbols)


def _mean(price: np.ndarray, bars: int) -> np.ndarray:
    sums = np.vstack([np.zeros((1, price.shape[1])), np.cumsum(price, axis=0)])
    last = np.arange(1, len(price) + 1)
    first = np.maximum(last - bars, 0)
    return (sums[last] - sums[first]) / (last - first)[:, None]


def _sparse(trades: int):
    def rule(price, rng):
        made = np.zeros(price.shape)
        for column in made.T:
            column[rng.choice(np.arange(TESTED, BARS - 1), trades, replace=False)] = 1.0
        return made

    return rule


def _scaling(price, _):
    ramp = np.clip((np.arange(BARS) - TESTED) / (BARS - TESTED), 0, 1)
    return np.repeat(ramp[:, None], price.shape[1], axis=1)


def _late(price, _):
    late = (np.arange(BARS) > TESTED + 800).astype(float)
    return np.repeat(late[:, None], price.shape[1], axis=1)


def _hours(price, _):
    return np.repeat((np.arange(BARS) % 24 < 6).astype(float)[:, None], price.shape[1], axis=1)


RULES = {
    "trend, 50 bars": lambda price, _: np.sign(price - _mean(price, 50)),
    "trend, 200 bars": lambda price, _: (price > _mean(price, 200)).astype(float),
    "below its 1,000-bar mean": lambda price, _: (price < _mean(price, 1000)).astype(float),
    "buys dips, 20 bars": lambda price, _: (price < 0.98 * _mean(price, 20)).astype(float),
    "long, with gaps": lambda price, rng: (rng.random(price.shape) > 0.05).astype(float),
    "scales in": _scaling,
    "starts late": _late,
    "random sides": lambda price, rng: rng.integers(-1, 2, price.shape).astype(float),
    "hours of the day": _hours,
    "2 trades": _sparse(2),
    "4 trades": _sparse(4),
    "8 trades": _sparse(8),
    "16 trades": _sparse(16),
    "32 trades": _sparse(32),
}


def judged(bars: pl.DataFrame, exposure: np.ndarray, costs: PercentageCosts) -> Verdict:
    """The verdict on an exposure, tested after the first `TESTED` bars."""
    first, share = bars["ts"].unique().sort()[TESTED], exposure / exposure.shape[1]
    changed = np.vstack([np.ones((1, share.shape[1]), bool), share[1:] != share[:-1]])
    changed[TESTED] = True
    wanted = pl.Series(np.where(changed, share, np.nan).T.ravel(), nan_to_null=True)
    targets = bars.select("symbol", "ts", "known_at", target=wanted).filter(pl.col("ts") >= first)
    traded = bars.filter(pl.col("ts") >= first)
    result = backtest(traded, targets, costs, YEAR, engine="kernel")
    return pronounce(result, traded, 1, 1.0, LEVEL, 2014, earlier=bars.filter(pl.col("ts") < first))


def edges(market: str, rule: str, seeds: range) -> int:
    """How many seeds are called an edge."""
    found = 0
    for seed in seeds:
        bars, closed = make_bars(market, seed)
        rng = np.random.default_rng([seed, 7, sorted(RULES).index(rule)])
        found += judged(bars, RULES[rule](closed, rng), MARKETS[market][1]).edge
    return found


def _planted(lasting: int, z: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """Returns, and the side that is worth `z` to who takes it at each close; 0 bars: the last return's, AR(1)."""
    worth = z / np.sqrt(BARS - TESTED)
    if not lasting:
        returns = _autoregressive(rng, 1, worth / np.sqrt(2 / np.pi))  # E|x| of a normal x is the root of 2/pi
        return returns, np.sign(returns)
    turns = rng.random(BARS) < 1 / (2 * lasting)
    side = np.where(np.cumsum(turns) % 2 == 0, 1.0, -1.0)[:, None]
    returns = _normal(rng, 1)
    returns[1:] += side[:-1] * SIZE * worth
    return returns, side


def found_signals(lasting: int, z: float, seeds: range) -> int:
    """How many seeds show skill where it was planted."""
    found = 0
    for seed in seeds:
        returns, side = _planted(lasting, z, np.random.default_rng([seed, 11, lasting]))
        opened, closed = (np.exp(4 + p) for p in _prices(_simple(returns)))
        found += judged(frame(opened, closed), side, FREE).edge
    return found


def interval(count: int, of: int) -> tuple[float, float]:
    """95% interval of a rate (Clopper & Pearson 1934)."""
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    return float(low), float(high)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=200, help="seeds of each cell")
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--check", action="store_true", help="exit 1 when a rate is above what is stated")
    given = arguments.parse_args()
    most = round(0.08 * given.seeds) if given.seeds >= 200 else given.seeds  # of few seeds only the interval says much
    total, cells, bad = 0, 0, []
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        jobs = {(m, r): pool.submit(edges, m, r, range(given.seeds)) for m in MARKETS for r in RULES}
        asked = [(lasting, z) for lasting in (0, 1, 5, 20) for z in (3.6, 5.4, 6)]
        power = {(b, z): pool.submit(found_signals, b, z, range(given.seeds)) for b, z in asked}
        print(f"{'market':28} {'rule':26} {'edges':>6} {'of':>4}   95% interval", flush=True)
        for (market, rule), job in jobs.items():
            count = job.result()
            low, high = interval(count, given.seeds)
            above = count > most or low > 0.05
            print(f"{market:28} {rule:26} {count:6d} {given.seeds:4d}   {low:5.1%} to {high:5.1%}"
                  f"{'   ABOVE' if above else ''}", flush=True)  # fmt: skip
            total, cells = total + count, cells + given.seeds
            bad += [f"{rule} on {market}: {count} of {given.seeds}"] * above
        print(f"\nall cells: {total} of {cells}, {total / cells:.2%} (at most 6%)\n")
        bad += ["all cells"] * (total > 0.06 * cells)
        print(f"{'planted':28} {'z of who knows it':26} {'found':>6} {'of':>4}")
        for (lasting, z), job in power.items():
            count = job.result()
            name = f"sides of {lasting} bars" if lasting else "AR(1)"
            print(f"{name:28} {z:<26} {count:6d} {given.seeds:4d}", flush=True)
            bad += [f"power at z = {z}, {name}"] * (z == 6 and count < 0.9 * given.seeds)
    for what in bad:
        print(f"not as stated: {what}")
    return 1 if given.check and bad else 0


if __name__ == "__main__":
    sys.exit(main())
