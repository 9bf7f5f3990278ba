"""Rules without skill, and planted skill: a small part of `make rates`, and what must fail when it is undone."""

import pytest
import rule_rates as rates

from algo_research.backtest import verdict

# At a rate of 5 %, more than 6 of 40 have a probability of 0.3 %.
CELLS = [("t(4)", "16 trades"), ("t(4)", "8 trades"), ("drift up", "scales in"), ("skewed jumps", "trend, 50 bars")]


@pytest.mark.slow
@pytest.mark.parametrize(("market", "rule"), CELLS, ids=[" ".join(cell) for cell in CELLS])
def test_rules_without_skill_are_no_edge(market, rule):
    assert rates.edges(market, rule, range(40)) <= 6


@pytest.mark.slow
def test_planted_skill_is_found():
    assert rates.found_signals(5, 6, range(10)) >= 8


@pytest.mark.slow
def test_without_counting_bets_a_few_trades_look_like_an_edge(monkeypatch):
    """If this fails, the cells above could not see what they are there for."""
    monkeypatch.setattr(verdict, "bets_pvalue", lambda *given: 0.0)
    monkeypatch.setattr(verdict, "minimum_bets", lambda level: 0)
    assert rates.edges("t(4)", "4 trades", range(40)) >= 5


def test_intervals_are_those_of_clopper_and_pearson():
    assert rates.interval(10, 200) == pytest.approx((0.0242, 0.0900), abs=1e-4)
    assert rates.interval(0, 200) == pytest.approx((0.0, 0.0183), abs=1e-4)
