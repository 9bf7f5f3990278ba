"""Ways around the verdict that an honest researcher could stumble into. Each of them once worked."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from support.plans import bare_research as research
from support.plans import kernel_plan

from algo_research.backtest.engine import backtest
from algo_research.backtest.ledger import TrialLedger
from algo_research.backtest.verdict import pronounce, weigh
from algo_research.core.errors import FatalError, InputError
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import PercentageCosts
from algo_research.models.tracking import Tracker
from algo_research.strategies.rules import BuyAndHold

FREE = PercentageCosts(fees=0, slippage=0)


def basket(seed: int, spacing: int) -> pl.DataFrame:
    """Five rising assets, listed `spacing` bars after one another."""
    return pl.concat(
        make_market("drift", 1000 * seed + i, bars=2000, drift=0.06).bars.with_columns(symbol=pl.lit(f"asset {i}"))[
            spacing * i :
        ]
        for i in range(5)
    )


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [0, 300])
def test_holding_assets_that_are_listed_late_is_no_edge(spacing):
    edges = 0
    for seed in range(12):
        bars = basket(seed, spacing)
        held = backtest(bars, BuyAndHold(0.2).targets(bars)[0], PercentageCosts(), 8760, engine="kernel")
        edges += pronounce(held, bars, 1, 1.0, 0.95, 0).edge
    assert edges <= 1


def test_rounding_is_no_edge():
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(1e-17, 1e-16, 500)
        assert weigh(noise, 8760, 1, 0, scale=0.01).confidence == 0


def test_a_period_that_a_trial_has_seen_cannot_be_opened():
    market, ledger = make_market("noise", 1, bars=3000), TrialLedger()
    research(market, kernel_plan(reserve=0), ledger)
    with pytest.raises(InputError, match="is not unseen"):
        research(market, kernel_plan(reserve=0.2), ledger, open_reserved=True)


def test_the_reserved_period_cannot_be_cut_again():
    market, ledger = make_market("noise", 1, bars=3000), TrialLedger()
    research(market, kernel_plan(reserve=0.3), ledger, open_reserved=True)
    for reserve in (0.2, 0.25, 0.4):
        with pytest.raises(InputError, match="can be opened once"):
            research(market, kernel_plan(reserve=reserve), ledger, open_reserved=True)
    renamed = replace(market, id=market.id._replace(venue="copy"))
    with pytest.raises(InputError, match="can be opened once"):
        research(renamed, kernel_plan(reserve=0.2), ledger, open_reserved=True)


def test_opening_shows_one_strategy_only_and_wants_something_reserved():
    market = make_market("noise", 1, bars=3000)
    found = research(market, kernel_plan(), TrialLedger(), open_reserved=True)
    assert set(found.others) == {"buy_and_hold"}
    with pytest.raises(InputError, match="Nothing is reserved"):
        research(market, kernel_plan(reserve=0), TrialLedger(), open_reserved=True)


@pytest.mark.parametrize("choice", [{"reserve": 0.1}, {"initial_cash": 1000}, {"min_train": 0.5}])
def test_a_choice_that_moves_the_result_is_a_trial(choice):
    market, ledger = make_market("noise", 1, bars=3000), TrialLedger()
    research(market, kernel_plan(), ledger)
    research(market, kernel_plan(**choice), ledger)
    assert ledger.count(str(market.id)) == 2


@pytest.mark.parametrize("choice", [{"folds": 3}, {"embargo": 5}, {"seed": 4}, {"horizon": 2}, {"model": "linear"}])
def test_a_choice_that_does_not_concern_the_rule_is_none(choice):
    market, ledger = make_market("noise", 1, bars=3000), TrialLedger()
    first = research(market, kernel_plan(), ledger)
    second = research(market, kernel_plan(**choice), ledger)
    assert ledger.count(str(market.id)) == 1
    assert first.hashes["result"] == second.hashes["result"]
    assert first.verdict.evidence == second.verdict.evidence  # the bootstrap's seed cannot be chosen


def test_the_same_bars_under_another_name_are_the_same_dataset():
    market, ledger = make_market("noise", 1, bars=3000), TrialLedger()
    research(market, kernel_plan(compare=("moving_average(fast=10)",)), ledger)
    renamed = replace(market, id=market.id._replace(venue="copy"))
    plan = kernel_plan(compare=("moving_average(fast=10)",), reserve=0.1)
    assert research(renamed, plan, ledger).verdict.n_trials == 4


def test_a_few_missing_volumes_cost_a_few_rows_and_none_at_all_are_said():
    market, rng = make_market("noise", 1, bars=3000), np.random.default_rng(0)
    holes = market.bars.with_columns(volume=pl.when(pl.Series(rng.random(3000) < 0.01)).then(None).otherwise("volume"))
    whole, holed = (
        research(replace(market, bars=b), kernel_plan("model"), TrialLedger()) for b in (market.bars, holes)
    )
    assert holed.predictions.height == whole.predictions.height
    silent = market.bars.with_columns(volume=pl.lit(0.0), symbol=pl.lit("silent"))
    found = research(replace(market, bars=pl.concat([market.bars, silent])), kernel_plan("model"), TrialLedger())
    assert set(found.predictions["symbol"]) == {market.id.symbol, "silent"}
    assert any("features left out" in note and "volume" in note for note in found.notes)


@pytest.mark.slow
def test_a_verdict_survives_a_tracking_server_that_fails_late(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db")

    def broken(*_):
        raise OSError("disk full")

    tracker._log = broken
    found = research(make_market("noise", 1, bars=3000), kernel_plan(), TrialLedger(), tracker)
    assert found.run_id is None
    assert any(note.startswith("not tracked: The run could not be written") for note in found.notes)


@pytest.mark.process  # mlflow asks the machine its name when it is imported
def test_a_tracking_server_that_cannot_be_used_stops_the_road_before_any_work(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 200)
    steps, ledger = [], TrialLedger()
    with pytest.raises(FatalError, match="Check"):
        research(
            make_market("noise", 1, bars=3000),
            kernel_plan(),
            ledger,
            Tracker(f"sqlite:///{tmp_path}/mlflow.db"),
            tell=lambda *s: steps.append(s),
        )
    assert steps == [] and ledger.count("synthetic/noise:1/1h") == 0


def test_a_damaged_or_read_only_ledger_is_a_clear_error(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = TrialLedger(path)
    research(make_market("noise", 1, bars=3000), kernel_plan(), ledger)
    ledger.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(FatalError, match="cannot be used"):
        TrialLedger(path).trials("synthetic/noise:1/1h")
