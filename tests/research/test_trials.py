"""What makes a trial: everything that can change its returns, and nothing else."""

import pytest
from support.plans import bare_research as research
from support.plans import kernel_plan, usual_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.data.samples.synthetic import make_market

MARKET = make_market("noise", 1, bars=3000)


def tried(*plans) -> int:
    ledger = TrialLedger()
    for plan in plans:
        research(MARKET, plan, ledger)
    return ledger.count(str(MARKET.id))


def configurations(plan) -> dict[str, str]:
    import json

    ledger = TrialLedger()
    research(MARKET, plan, ledger)
    rows = ledger.trials(str(MARKET.id)).iter_rows(named=True)
    return {json.loads(row["config"])["strategy"]: row["config_hash"] for row in rows}


@pytest.mark.parametrize("choice", [{"features": ("momentum.talib.rsi_14",)}, {"model": "linear"}, {"seed": 3}])
def test_a_rule_is_the_same_trial_whatever_model_stands_beside_it(choice):
    told = {"features": ("momentum.talib.rsi_14", "momentum.talib.roc_1"), "folds": 2}
    usual, other = configurations(usual_plan(**told)), configurations(usual_plan(**{**told, **choice}))
    assert usual["model"] != other["model"]
    assert usual["moving_average"] == other["moving_average"]


def test_two_parameters_are_two_trials_and_the_engine_is_none():
    assert tried(kernel_plan(), kernel_plan("moving_average(fast=10)"), kernel_plan(engine="vectorbt")) == 2


def test_costs_are_part_of_a_trial():
    assert tried(kernel_plan(), kernel_plan(costs="percentage(fees=0.01)")) == 2
