"""Probabilistic and deflated Sharpe ratios: references, monotonicity, and false claims counted."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from algo_research.core.errors import InputError
from algo_research.stats import sharpe as s

ratios = st.floats(-0.5, 0.5)
skews = st.floats(-2, 2)


@given(ratios, ratios, st.integers(10, 5000), skews, st.floats(0, 10))
def test_probabilistic_sharpe_falls_with_the_benchmark(sr, benchmark, n, skew, above):
    kurtosis = 1.5 + skew**2 + above
    p = s.probabilistic_sharpe(sr, n, skew, kurtosis, benchmark)
    assert 0 <= p <= 1
    assert s.probabilistic_sharpe(sr, n, skew, kurtosis, benchmark + 0.05) <= p
    if sr > benchmark:
        assert s.probabilistic_sharpe(sr, n + 100, skew, kurtosis, benchmark) >= p >= 0.5
        assert s.probabilistic_sharpe(sr, n, skew, kurtosis + 1, benchmark) <= p


@given(st.floats(0.0, 0.2), st.integers(10, 5000))
def test_probabilistic_sharpe_rises_with_the_estimate(sr, n):
    p = s.probabilistic_sharpe(sr, n)
    assert s.probabilistic_sharpe(sr + 0.01, n) > p or p > 1 - 1e-9


@given(st.floats(1, 1e6), st.floats(0, 1e4), st.floats(1e-6, 1))
def test_more_trials_are_never_cheaper(trials, more, variance):
    assert 0 <= s.expected_max_sharpe(trials, variance) <= s.expected_max_sharpe(trials + more, variance) + 1e-12


@given(st.floats(0.02, 0.5), skews, st.floats(0, 10), st.floats(0.55, 0.999))
def test_minimum_track_record_inverts_the_probability(sr, skew, above, confidence):
    kurtosis = 1.5 + skew**2 + above
    n = s.minimum_track_record(sr, skew, kurtosis, confidence=confidence)
    assume(n > 1.001)
    assert np.isclose(s.probabilistic_sharpe(sr, n, skew, kurtosis), confidence)


def test_deflated_sharpe_agrees_with_the_paper_and_vectorbt():
    from vectorbt.returns.metrics import deflated_sharpe_ratio

    case = {"skew": -3, "kurtosis": 10}
    for trials, reference in ((100, 0.9004), (46, 0.9505)):
        sr, variance = 2.5 / np.sqrt(250), 0.5 / 250
        ours = s.deflated_sharpe(sr, 1250, **case, n_trials=trials, variance=variance)
        theirs = deflated_sharpe_ratio(
            est_sharpe=sr, var_sharpe=variance, nb_trials=trials, backtest_horizon=1250, **case
        )
        assert round(ours, 4) == reference and np.isclose(ours, theirs, rtol=1e-12)
    with pytest.raises(InputError, match="not the excess"):
        s.deflated_sharpe(0.15, 1250, -3, 7, 100, 0.002)


def test_false_claims_of_the_best_of_twenty():
    "The best of 20 skill-less strategies: the naive test is fooled, the deflated one keeps near its level."
    rng, naive, deflated, contests = np.random.default_rng(0), 0, 0, 400
    for _ in range(contests):
        x = rng.normal(size=(250, 20))
        sr = x.mean(axis=0) / x.std(axis=0, ddof=1)
        best = s.sharpe_moments(x[:, sr.argmax()])
        args = (best.sr, best.n, best.skew, best.kurtosis)
        naive += s.probabilistic_sharpe(*args) > 0.95
        deflated += s.deflated_sharpe(*args, 20, sr.var(ddof=1)) > 0.95
    assert naive > 0.5 * contests  # 1 - 0.95^20 = 64 %
    assert deflated <= 0.05 * contests + 3 * np.sqrt(0.05 * 0.95 * contests)


def test_false_claims_of_a_single_trial():
    "PSR against 0 at 95 %: 2000 histories without skill, skewed and fat-tailed."
    rng, n = np.random.default_rng(1), 2000
    for draw in (lambda: rng.normal(size=500), lambda: np.euler_gamma - rng.gumbel(size=500)):
        hits = sum(s.probabilistic_sharpe(*vars(s.sharpe_moments(draw())).values()) > 0.95 for _ in range(n))
        assert 0.03 * n < hits < 0.07 * n


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_effective_trials_stays_within_its_bounds(n, seed):
    x = np.random.default_rng(seed).normal(size=(30, n))
    x[:, ::3] = x[:, :1]
    assert 1 - 1e-9 <= s.effective_trials(x) <= n + 1e-9
    assert np.isclose(s.effective_trials(x), s.effective_trials(x * 7 + 1))
    assert np.isclose(s.effective_trials(np.tile(x, 2)), s.effective_trials(x))
    assert np.isclose(s.effective_trials(np.column_stack([x, np.ones(30)])), s.effective_trials(x))


@pytest.mark.parametrize(
    "call",
    [
        lambda: s.expected_max_sharpe(0.5, 1.0),
        lambda: s.expected_max_sharpe(float("nan"), 1.0),
        lambda: s.expected_max_sharpe(10, -1.0),
        lambda: s.effective_trials(np.full((5, 2), np.nan)),
        lambda: s.sharpe_moments([0.1]),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(InputError):
        call()
