"""The road end to end: the same bytes elsewhere, both keepers of accounts, lineage in the tracking server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.plans import bare_research as research
from support.plans import usual_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.errors import DataError
from algo_research.core.hashing import hash_code
from algo_research.data.samples.bundled import load_stocks
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import PercentageCosts
from algo_research.models.tracking import Tracker
from algo_research.research.reserve import split_reserve

KERNEL = usual_plan()

CODE = """
import json
from algo_research.backtest.ledger import TrialLedger
from algo_research.data.samples.synthetic import make_market
from algo_research.research import road
from algo_research.research.plan import make_plan
plan = make_plan({"datasets": ["any/ONE/1h"], "strategy": "model", "engine": "kernel"})
found = road.research(make_market("garch", 3, bars=3000), plan, TrialLedger())
print(json.dumps({"hashes": found.hashes, "module": road.__file__}))
"""


def run(folder: Path) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.long
def test_the_same_hashes_twice_and_in_another_copy(tmp_path):
    root = Path(__file__).parents[2]
    shutil.copytree(root / "algo_research", tmp_path / "algo_research")
    here, again, elsewhere = run(root), run(root), run(tmp_path)
    assert elsewhere["module"].startswith(str(tmp_path))
    assert here["hashes"] == again["hashes"] == elsewhere["hashes"]


@pytest.mark.process
@pytest.mark.slow
def test_vectorbt_and_the_kernel_give_the_same_research():
    market = make_market("garch", 5, bars=3000)
    ours, theirs = (research(market, usual_plan(engine=e), TrialLedger()) for e in ("kernel", "vectorbt"))
    assert ours.hashes["targets"] == theirs.hashes["targets"]
    np.testing.assert_allclose(ours.result.equity["equity"], theirs.result.equity["equity"], rtol=1e-9)
    assert ours.result.fills.select("ts", "symbol").equals(theirs.result.fills.select("ts", "symbol"))
    assert ours.verdict.evidence.confidence == pytest.approx(theirs.verdict.evidence.confidence, abs=1e-9)


def test_many_symbols_closes_only_and_the_warning():
    stocks = load_stocks()
    from dataclasses import replace

    short = replace(
        stocks, bars=stocks.bars.filter(pl.col("symbol").is_in(["AAPL", "GE", "XOM"]), pl.col("ts").dt.year() >= 2012)
    )
    found = research(short, KERNEL, TrialLedger())
    assert any("survivorship" in note for note in found.notes)
    assert any("features left out" in note and "natr" in note for note in found.notes)
    assert set(found.predictions["symbol"]) == {"AAPL", "GE", "XOM"}
    exposure = found.result.positions.group_by("ts").agg(pl.col("exposure").abs().sum())["exposure"]
    assert exposure.max() < 1.6


def test_the_reserved_bars_touch_nothing():
    market = make_market("planted", 6, bars=4000, strength=0.2)
    first = research(market, KERNEL, TrialLedger())
    opened, start = split_reserve(market.bars, 0.2)
    from dataclasses import replace

    noise = np.random.default_rng(0).normal(1, 0.2, market.bars.height)
    changed = market.bars.with_columns(
        [
            pl.when(pl.col("ts") >= start).then(pl.col(c) * noise).otherwise(c).alias(c)
            for c in ("open", "high", "low", "close")
        ]
    ).with_columns(
        high=pl.max_horizontal("open", "high", "low", "close"), low=pl.min_horizontal("open", "high", "low", "close")
    )
    second = research(replace(market, bars=changed), KERNEL, TrialLedger())
    assert first.hashes == second.hashes
    assert first.snapshot.content != second.snapshot.content
    assert opened["known_at"].max() <= start


@pytest.mark.slow
def test_lineage_is_complete_in_the_tracking_server(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db")
    market = make_market("noise", 2, bars=3000)
    found = research(market, KERNEL, TrialLedger(), tracker)
    run = tracker.client.get_run(found.run_id)
    assert run.data.tags["lineage.data"] == market.snapshot().content
    assert run.data.tags["lineage.features"] == found.features.version
    assert run.data.tags["lineage.code"] == hash_code()
    assert run.data.params["seed"] == "0" and "num_leaves" not in run.data.params["model"]
    assert run.data.tags["hash.predictions"] == found.hashes["predictions"]
    assert len(tracker.client.list_artifacts(found.run_id)) == KERNEL.folds


def test_bankruptcy_ends_the_trading_and_the_claim():
    from algo_research.backtest.engine import backtest
    from algo_research.backtest.verdict import pronounce

    bars = make_market("noise", 1, bars=400).bars
    jump = bars.with_columns(
        [
            (pl.col(c) * pl.when(pl.int_range(pl.len()) >= 200).then(4.0).otherwise(1.0)).alias(c)
            for c in ("open", "high", "low", "close")
        ]
    )
    short = jump.select("symbol", "ts", "known_at", target=pl.when(pl.int_range(pl.len()) == 5).then(-1.0))
    for engine in ("kernel", "vectorbt"):
        result = backtest(jump, short, PercentageCosts(), 8760, engine=engine)
        assert result.bankrupt_at is not None
        assert result.returns.min() == -1.0
        assert result.positions.filter(pl.col("ts") > result.bankrupt_at)["quantity"].abs().max() == 0
        verdict = pronounce(result, jump, 1, 1.0, 0.95, 0)
        assert not verdict.edge


def test_prices_of_zero_or_less_are_refused():
    from dataclasses import replace

    market = make_market("noise", 1, bars=2000)
    zero = market.bars.with_columns(low=pl.when(pl.int_range(pl.len()) == 77).then(0.0).otherwise("low"))
    with pytest.raises(DataError, match="price of zero or less"):
        research(replace(market, bars=zero), KERNEL, TrialLedger())
