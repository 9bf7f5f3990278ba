"""How often the verdict is wrong: false edges on noise, and planted edges that are found.

Every line walks the whole road (features, LightGBM, walk-forward, backtest, verdict) once a seed:

    python benchmarks/verdict_rates.py                 # the full table
    python benchmarks/verdict_rates.py --seeds 20 --planted-seeds 20
    python benchmarks/verdict_rates.py --check         # exit 1 when a count is outside what is allowed

Nothing is timed here; the counts are exact and repeat for the same seeds.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import polars as pl

from algo_research.backtest.engine import backtest
from algo_research.backtest.ledger import TrialLedger
from algo_research.backtest.verdict import weigh
from algo_research.data.samples.synthetic import make_market, planted_signal
from algo_research.execution.costs import PercentageCosts
from algo_research.research.judge import BOOTSTRAP_SEED
from algo_research.research.plan import Plan, make_plan
from algo_research.research.road import Research, research

BARS = 6000
SEEDS, PLANTED_SEEDS = 200, 100  # of which counts are allowed
ORACLE_Z = 6.0
PLANTED = (3.6, 5.4, ORACLE_Z)  # z of who knows the signal; at the last at least 90% must be found
FREE, USUAL = PercentageCosts(fees=0, slippage=0), PercentageCosts()
LINES = [  # name, market, costs, other strategies tried beside the model, bars the model predicts, allowed of 200
    ("zero drift, no costs, one trial", "noise", FREE, False, 5, 16),
    ("the same, horizon of 1 bar", "noise", FREE, False, 1, 16),
    ("the same, horizon of 250 bars", "noise", FREE, False, 250, 16),
    ("drift, no costs, one trial", "drift", FREE, False, 5, 16),
    ("GARCH, no costs, one trial", "garch", FREE, False, 5, 16),
    ("zero drift, costs, all trials", "noise", USUAL, True, 5, 15),
    ("drift, costs, all trials", "drift", USUAL, True, 5, 15),
    ("GARCH, costs, all trials", "garch", USUAL, True, 5, 15),
]


def rates_plan(costs: PercentageCosts, compare: bool, **choices) -> Plan:
    beside = ["moving_average"] if compare else []
    told = {
        "datasets": ["synthetic/any:0/1h"],
        "strategy": "model",
        "compare": beside,
        "engine": "kernel",
        "reserve": 0,
    }
    return make_plan({**told, "costs": {"name": "percentage", "params": costs.model_dump()}, **choices})


def oracle_z(seed: int, strength: float, out_of_sample: int) -> float:
    """Net per-bar Sharpe ratio of the rule that knows the signal, times the root of the number of bars."""
    market = make_market("planted", seed, bars=BARS, strength=strength)
    side = np.sign(planted_signal(market.bars))
    target = np.where(np.append(True, side[1:] != side[:-1]), side, np.nan)
    target[-out_of_sample] = side[-out_of_sample]
    targets = market.bars.select("symbol", "ts", "known_at", target=pl.Series(target, nan_to_null=True))
    r = backtest(market.bars[-out_of_sample:], targets, USUAL, market.periods_per_year, engine="kernel").returns
    return float(r.mean() / r.std(ddof=1) * np.sqrt(len(r)))


@lru_cache
def strength_for(z: float, out_of_sample: int, seeds: int = 100) -> float:
    """The strength at which the oracle's mean z over seeds that are used for nothing else is `z`."""
    low, high = 0.02, 0.6
    for _ in range(12):
        middle = (low + high) / 2
        mean = np.mean([oracle_z(100_000 + s, middle, out_of_sample) for s in range(seeds)])
        low, high = (middle, high) if mean < z else (low, middle)
    return (low + high) / 2


class Said(NamedTuple):
    edge: bool  # by the verdict
    hindsight: bool  # by the tests of before: against the mean exposure of the whole period, a bar is a bet
    observations: int  # bars out of sample


def with_hindsight(found: Research, bars: pl.DataFrame) -> bool:
    """Whether the verdict of before, the peer, claims an edge: its holding knows later exposure."""
    result, verdict = found.result, found.verdict
    traded = bars.filter(pl.col("ts") >= result.equity["ts"][0])
    moves = traded["close"].pct_change().fill_null(0).to_numpy()
    active = result.returns - result.positions["exposure"][1:].mean() * moves
    evidence = weigh(active, result.periods_per_year, verdict.n_trials, BOOTSTRAP_SEED, np.std(result.returns))
    return evidence.confidence > verdict.level and evidence.pvalue < 1 - verdict.level


def judged(
    market: str, seed: int, costs: PercentageCosts, compare: bool, horizon: int = 5, strength: float = 0.0
) -> Said:
    """What is said of a market."""
    dataset = make_market(market, seed, bars=BARS, **({"strength": strength} if market == "planted" else {}))
    found = research(dataset, rates_plan(costs, compare, horizon=horizon), TrialLedger(), limits=None)
    return Said(found.verdict.edge, with_hindsight(found, dataset.bars), found.verdict.evidence.observations)


def count(
    pool, market: str, seeds: range, costs: PercentageCosts, compare: bool, horizon: int = 5, strength: float = 0.0
) -> tuple[int, int]:
    """How many seeds are called an edge, by the verdict and by the one of before."""
    jobs = [pool.submit(judged, market, s, costs, compare, horizon, strength) for s in seeds]
    said = [job.result() for job in jobs]
    return sum(s.edge for s in said), sum(s.hindsight for s in said)


def line(name: str, counts: tuple[int, int], seeds: int, least: int, most: int, checked: bool) -> bool:
    """Print a line; True where its count is outside what is allowed."""
    outside = checked and not least <= counts[0] <= most
    allowed = f"at least {least}" if least else f"at most {most}"
    told = "   OUTSIDE" if outside else "" if checked else "   (not checked: too few seeds)"
    print(f"{name:36} {counts[0]:6d} {counts[1]:10d} {seeds:5d}   {allowed}{told}", flush=True)
    return outside


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each noise market")
    arguments.add_argument("--planted-seeds", type=int, default=PLANTED_SEEDS, help="seeds of each planted market")
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--check", action="store_true", help="exit 1 when a count is outside what is allowed; "
                           f"of fewer than {SEEDS} and {PLANTED_SEEDS} seeds nothing is said")  # fmt: skip
    given = arguments.parse_args()
    noise, planted, bad = given.seeds, given.planted_seeds, []
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        print(f"{'market':36} {'edges':>6} {'hindsight':>10} {'of':>5}   allowed", flush=True)
        for name, market, costs, compare, horizon, most in LINES:
            counts = count(pool, market, range(noise), costs, compare, horizon)
            bad += [name] * line(name, counts, noise, 0, most * noise // SEEDS, noise >= SEEDS)
        bars = judged("planted", 0, USUAL, True, strength=0.1).observations
        for z in PLANTED:
            name, strength = f"planted, oracle z = {z:g}, costs, all", strength_for(z, bars)
            counts = count(pool, "planted", range(planted), USUAL, True, strength=strength)
            least = int(np.ceil(0.9 * planted)) if z == ORACLE_Z else counts[1]
            bad += [name] * line(name, counts, planted, least, planted, planted >= PLANTED_SEEDS)
            zs = [oracle_z(s, strength, bars) for s in range(planted)]
            print(
                f"(signal strength {strength:.4f} volatilities; {bars} bars out of sample; "
                f"oracle z on these seeds: mean {np.mean(zs):.2f}, sd {np.std(zs, ddof=1):.2f})",
                flush=True,
            )
    for what in bad:
        print(f"not as stated: {what}")
    return 1 if given.check and bad else 0


if __name__ == "__main__":
    sys.exit(main())
