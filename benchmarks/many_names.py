"""How often the best of many rules is an edge when each of them saw the market under another name.

On one market of noise, rules without skill are judged one after the other; before each of them the bars are given
another symbol, venue and unit, and lose a few bars at their ends. The ledger must see one market (family) and count
every rule, so that the best of them is no edge.

    python benchmarks/many_names.py                         # 20 seeds, 200 names each
    python benchmarks/many_names.py --seeds 2 --names 30    # a quick look
    python benchmarks/many_names.py --check                 # exit 1 when a best rule is an edge, or a family not one

The counts are exact and repeat for the same seeds. The last column, the longest meeting of a market with the ledger,
is a time: seconds of work of this process.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from algo_research.backtest.ledger import TrialLedger
from algo_research.data.market.bars import Dataset, DatasetId
from algo_research.data.quality.score import QualitySettings
from algo_research.data.samples.synthetic import make_market
from algo_research.research.plan import Plan, make_plan
from algo_research.research.road import Research, research
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes

BARS = 1500
PRICES = ("open", "high", "low", "close")
ANY = QualitySettings(force=True)  # in some units amounts look as if they were in quote currency


@dataclass(frozen=True)
class Hours(Strategy):
    """Long for some hours of a day of its own length."""

    period: int = 24
    begin: int = 0
    hours: int = 8
    name = "hours"

    def targets(self, frame: pl.DataFrame, state: dict | None = None) -> tuple[pl.DataFrame, dict]:
        hour = (pl.col("ts").dt.epoch("s") // 3600 - self.begin) % self.period
        wish = pl.when(hour < self.hours).then(1.0).otherwise(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), state)


def rule(rng: np.random.Generator) -> str:
    """A rule without skill: what strategy a plan is told."""
    if rng.random() < 0.8:
        fast = int(rng.integers(2, 60))
        slow, short = fast + int(rng.integers(2, 120)), bool(rng.random() < 0.5)
        return f"moving_average(fast={fast}, slow={slow}, short={short})"
    period = int(rng.integers(5, 60))
    return f"many_names:Hours(period={period}, begin={rng.integers(period)}, hours={rng.integers(1, period)})"


def disguised(market: Dataset, number: int, rng: np.random.Generator) -> Dataset:
    """The same market under another name."""
    symbol, venue = f"S{number}", f"venue{number}"
    first, last = rng.integers(0, 12, 2)
    bars = market.bars[int(first) : market.bars.height - int(last)]
    bars = bars.with_columns(pl.lit(symbol).alias("symbol"), pl.col(PRICES) * float(np.exp(rng.normal(0, 2))))
    instrument = replace(market.instrument, symbol=symbol, venue=venue)
    return replace(market, id=DatasetId(venue, symbol, market.id.timeframe), bars=bars, instrument=instrument)


class Found(NamedTuple):
    """What was found on one market."""

    trials: int  # that the last name's market has seen
    families: int  # in which the names are
    edge: bool  # the best rule, when all of them were counted
    slowest: float  # seconds of the longest meeting


def plan_of(dataset: Dataset, strategy: str) -> Plan:
    return make_plan({"datasets": [str(dataset.id)], "strategy": strategy, "engine": "kernel", "reserve": 0})


def judged(dataset: Dataset, strategy: str, ledger: TrialLedger) -> Research:
    folder = Path(__file__).parent if ":" in strategy else None
    return research(dataset, plan_of(dataset, strategy), ledger, quality=ANY, folder=folder, limits=None)


def families(ledger: TrialLedger, datasets: list[Dataset]) -> int:
    """Markets that the ledger sees in datasets, of each of which something was tried."""
    names, found = {str(d.id): d.snapshot().content for d in datasets}, 0
    while names:
        name, content = names.popitem()
        found += 1
        for other in ledger.known_as(name, content):
            names.pop(other, None)
    return found


def best_of(seed: int, names: int, ledger: TrialLedger) -> Found:
    """Judge rules on one market, each under another name; then the best of them again."""
    rng, market = np.random.default_rng([seed, 19]), make_market("noise", seed, bars=BARS)
    tried, slowest = [], 0.0
    for number in range(names):
        dataset, strategy = disguised(market, number, rng), rule(rng)
        dataset.snapshot()
        began = time.process_time()
        ledger.meet(dataset)
        slowest = max(slowest, time.process_time() - began)
        tried.append((judged(dataset, strategy, ledger).verdict.evidence.sharpe, dataset, strategy))
    _, dataset, strategy = max(tried, key=lambda t: t[0] if t[0] == t[0] else -np.inf)
    best = judged(dataset, strategy, ledger).verdict
    return Found(best.n_trials, families(ledger, [d for _, d, _ in tried]), best.edge, slowest)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=20, help="markets of noise")
    arguments.add_argument("--first", type=int, default=0, help="the first seed")
    arguments.add_argument("--names", type=int, default=200, help="names of each, and rules")
    arguments.add_argument("--check", action="store_true", help="exit 1 when a best rule is an edge, or names are "
                           "in more than one family")  # fmt: skip
    given = arguments.parse_args()
    bad, edges = [], 0
    print(f"{'seed':>4} {'names':>6} {'trials':>7} {'families':>9} {'edges':>6} {'meeting':>9}", flush=True)
    for seed in range(given.first, given.first + given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found = best_of(seed, given.names, TrialLedger(Path(folder) / "trials.sqlite"))
        counts = f"{found.trials:7d} {found.families:9d} {found.edge:6d}"
        print(f"{seed:4d} {given.names:6d} {counts} {found.slowest:7.3f} s", flush=True)
        edges += found.edge
        bad += [f"seed {seed}: {found}"] * (found.edge or found.families != 1 or found.trials != given.names)
    print(f"\nedges: {edges} of {given.seeds} (none is allowed)")
    for what in bad:
        print(f"not as stated: {what}")
    return 1 if given.check and bad else 0


if __name__ == "__main__":
    sys.exit(main())
