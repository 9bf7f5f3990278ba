"""How often the verdict is wrong: false edges on noise, and planted edges that are found.

Every line walks the whole road (features, LightGBM, walk-forward, backtest, verdict) once a seed:

    python benchmarks/verdict_rates.py                 # the full table
    python benchmarks/verdict_rates.py --seeds 20 --planted-seeds 20

Nothing is timed here; the counts are exact and repeat for the same seeds.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context

import numpy as np
import polars as pl

from algo_research.backtest.engine import backtest
from algo_research.backtest.ledger import TrialLedger
from algo_research.data.samples.synthetic import make_market, planted_signal
from algo_research.execution.costs import PercentageCosts
from algo_research.research.plan import Plan, make_plan
from algo_research.research.road import research

BARS = 6000
ORACLE_Z = 6.0
FREE, USUAL = PercentageCosts(fees=0, slippage=0), PercentageCosts()
LINES = [  # name, market, costs, other strategies tried beside the model, allowed counts of 200
    ("zero drift, no costs, one trial", "noise", FREE, False, (3, 16)),
    ("drift, no costs, one trial", "drift", FREE, False, (3, 16)),
    ("GARCH, no costs, one trial", "garch", FREE, False, (3, 16)),
    ("zero drift, costs, all trials", "noise", USUAL, True, (0, 15)),
    ("drift, costs, all trials", "drift", USUAL, True, (0, 15)),
    ("GARCH, costs, all trials", "garch", USUAL, True, (0, 15)),
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


def verdict(market: str, seed: int, costs: PercentageCosts, compare: bool, strength: float = 0.0) -> tuple[bool, int]:
    """(edge claimed, bars out of sample)"""
    dataset = make_market(market, seed, bars=BARS, **({"strength": strength} if market == "planted" else {}))
    found = research(dataset, rates_plan(costs, compare), TrialLedger())
    return found.verdict.edge, found.verdict.evidence.observations


def count(pool, market: str, seeds: range, costs: PercentageCosts, compare: bool, strength: float = 0.0) -> int:
    jobs = [pool.submit(verdict, market, s, costs, compare, strength) for s in seeds]
    return sum(job.result()[0] for job in jobs)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=200, help="seeds of each noise market")
    arguments.add_argument("--planted-seeds", type=int, default=100)
    arguments.add_argument("--processes", type=int, default=2)
    given = arguments.parse_args()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        print(f"{'market':36} {'edges':>6} {'of':>5}   allowed of 200", flush=True)
        for name, market, costs, compare, (low, high) in LINES:
            edges = count(pool, market, range(given.seeds), costs, compare)
            print(f"{name:36} {edges:6d} {given.seeds:5d}   {low} to {high}", flush=True)
        bars = verdict("planted", 0, USUAL, True, 0.1)[1]
        strength = strength_for(ORACLE_Z, bars)
        edges = count(pool, "planted", range(given.planted_seeds), USUAL, True, strength)
        print(
            f"{'planted, oracle z = 6, costs, all':36} {edges:6d} {given.planted_seeds:5d}   at least 90 of 100",
            flush=True,
        )
        zs = [oracle_z(s, strength, bars) for s in range(given.planted_seeds)]
        print(
            f"(signal strength {strength:.4f} volatilities; {bars} bars out of sample; "
            f"oracle z on these seeds: mean {np.mean(zs):.2f}, sd {np.std(zs, ddof=1):.2f})"
        )


if __name__ == "__main__":
    main()
