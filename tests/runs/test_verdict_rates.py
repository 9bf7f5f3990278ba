"""The verdict must refuse noise and find what is there; and these tests must fail when the road is broken."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import verdict_rates as rates
from support.plans import bare_research as research

from algo_research.backtest.ledger import TrialLedger
from algo_research.backtest.verdict import weigh
from algo_research.data.samples.synthetic import make_market
from algo_research.features.gates import LeakError
from algo_research.research import road

# Seeds, and how many claims of an edge there may be: at a rate of 5 %, more than 4 of 20 have a probability of 0.3 %,
# more than 2 of 8 one of 0.6 %.
SEEDS = [pytest.param(8, 2), pytest.param(20, 4, marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "claims"), SEEDS)
@pytest.mark.parametrize("line", rates.LINES, ids=lambda line: line[0])
def test_noise_is_refused(line, pool, seeds, claims):
    _, market, costs, compare, horizon, _ = line
    assert rates.count(pool, market, range(seeds), costs, compare, horizon)[0] <= claims


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "missed"), [pytest.param(8, 2), pytest.param(20, 3, marks=pytest.mark.long)])
def test_a_planted_signal_is_found(pool, seeds, missed):
    bars = rates.judged("planted", 0, rates.USUAL, True, strength=0.1).observations
    strength = rates.strength_for(rates.ORACLE_Z, bars, seeds=30)
    assert rates.count(pool, "planted", range(seeds), rates.USUAL, True, strength=strength)[0] >= seeds - missed


def test_counts_outside_what_is_allowed_are_said_and_few_seeds_say_nothing(capsys):
    assert rates.line("noise", (17, 20), 200, 0, 16, True) and "OUTSIDE" in capsys.readouterr().out
    assert not rates.line("noise", (16, 20), 200, 0, 16, True) and "OUTSIDE" not in capsys.readouterr().out
    assert rates.line("planted", (89, 92), 100, 92, 100, True) and not rates.line(
        "planted", (92, 92), 100, 92, 100, True
    )
    assert not rates.line("noise", (20, 20), 20, 0, 1, False) and "not checked" in capsys.readouterr().out


LEAKY = """
import numpy as np
from algo_research.features.contract import Feature

def tomorrow(columns): return np.append(np.diff(np.log(columns["close"])), np.nan)

peek = Feature("leak.numpy.peek", tomorrow, 1)
"""


@pytest.mark.slow
def test_a_leak_makes_noise_look_like_an_edge(tmp_path, monkeypatch):
    """If this fails, the null-market test could not see a leak."""
    (tmp_path / "leaky.py").write_text(LEAKY)
    honest = rates.rates_plan(rates.FREE, False, features=["momentum.talib.roc_1"])
    leaking = honest.model_copy(update={"features": ("momentum.talib.roc_1", "leaky:peek")})
    for seed in range(3):
        market = make_market("noise", seed, bars=3000)
        with pytest.raises(LeakError, match=r"leak\.numpy\.peek looks ahead"):
            research(market, leaking, TrialLedger(), folder=tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(road, "check_features", lambda *_: None)
            found = research(market, leaking, TrialLedger(), folder=tmp_path)
        assert found.verdict.edge
        evidence = research(market, honest, TrialLedger()).verdict.evidence
        assert evidence.confidence < found.verdict.evidence.confidence


@pytest.mark.slow
def test_without_the_matched_hold_drift_looks_like_an_edge():
    """What the exposure-matched hold is for: in a market that rises, being long is no edge."""
    naive, matched = 0, 0
    for seed in range(6):
        market = make_market("drift", seed, bars=3000, drift=0.25)
        found = research(market, rates.rates_plan(rates.FREE, False), TrialLedger())
        evidence = weigh(found.result.returns, market.periods_per_year, 1, 0)
        naive += evidence.confidence > 0.95 and evidence.pvalue < 0.05
        matched += found.verdict.edge
    assert naive >= 4
    assert matched <= 1


def test_more_trials_raise_the_bar():
    market, ledger = make_market("planted", 3, bars=3000, strength=0.1), TrialLedger()
    first = research(market, rates.rates_plan(rates.USUAL, False), ledger)
    rng = np.random.default_rng(0)
    for i in range(50):
        ledger.record(
            str(market.id), {"tried": i}, first.result.equity["ts"], rng.normal(0, 0.01, first.result.equity.height)
        )
    second = research(market, rates.rates_plan(rates.USUAL, False), ledger)
    assert second.hashes == first.hashes
    assert (first.verdict.n_trials, second.verdict.n_trials) == (1, 51)
    assert second.verdict.evidence.confidence < first.verdict.evidence.confidence
