"""Metrics against vectorbt's kernels and against properties every series must have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from algo_research.core.errors import InputError
from algo_research.stats import metrics as m

series = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1.5, 1.5, allow_nan=False))
calm = arrays(np.float64, st.integers(2, 60), elements=st.integers(-50_000, 50_000).map(lambda i: i / 100_000))


@given(series)
def test_drawdown_is_a_fraction(returns):
    fall = m.drawdown(returns)
    assert ((fall >= -1) & (fall <= 0)).all() and 0 <= m.longest_drawdown(returns) <= len(returns)
    assert m.max_drawdown(returns) <= min(0.0, m.total_return(returns)) + 1e-12


@given(series, st.integers(0, 59))
def test_ruin_is_final(returns, at):
    returns = np.append(returns, 0.5)
    returns[at % len(returns)] = -1.0
    assert m.total_return(returns) == m.annual_return(returns, 252) == m.max_drawdown(returns) == -1.0


@given(calm, st.floats(0.1, 10))
def test_ratios_ignore_leverage(returns, leverage):
    for name in ("sharpe_ratio", "sortino_ratio", "hit_rate", "skewness", "kurtosis"):
        if np.ptp(returns) > 1e-6:
            once, more = getattr(m, name)(returns), getattr(m, name)(returns * leverage)
            np.testing.assert_allclose(more, once, rtol=1e-6, atol=1e-9, equal_nan=True)


@given(calm)
def test_longest_drawdown_by_counting(returns):
    value, peak, run, longest = 1.0, 1.0, 0, 0
    for r in returns:
        value *= 1 + r
        run = run + 1 if value < peak * (1 - 1e-12) else 0
        peak, longest = max(peak, value), max(longest, run)
    assert m.longest_drawdown(returns) == longest


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 400), st.sampled_from([12.0, 252.0, 365.0 * 24]))
def test_metrics_agree_with_vectorbt(seed, n, year):
    from vectorbt.returns import nb

    r = np.random.default_rng(seed).standard_t(5, n) * 0.01
    free = 0.03
    bar = (1 + free) ** (1 / year) - 1
    got = m.performance(r, year, free)
    # vectorbt looks for peaks only after the first bar; a leading zero shows it the starting capital
    fall = nb.max_drawdown_1d_nb(np.append(0.0, r))
    expected = {
        "total_return": nb.cum_returns_final_1d_nb(r, 0.0),
        "annual_return": nb.annualized_return_1d_nb(r, year),
        "annual_volatility": nb.annualized_volatility_1d_nb(r, year),
        "sharpe": nb.sharpe_ratio_1d_nb(r, year, bar),
        "sortino": nb.sortino_ratio_1d_nb(r, year, bar),
        "max_drawdown": fall,
        "calmar": nb.annualized_return_1d_nb(r, year) / abs(fall) if fall else np.nan,
    }
    for name, value in expected.items():
        value = value if np.isfinite(value) else np.nan  # what vectorbt calls infinite is undefined here
        np.testing.assert_allclose(got.to_dict()[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_moments_agree_with_scipy():
    from scipy import stats

    r = np.random.default_rng(3).gumbel(size=500)
    assert np.isclose(m.skewness(r), stats.skew(r)) and np.isclose(m.kurtosis(r), stats.kurtosis(r, fisher=False))


def test_undefined_is_nan_not_flattering():
    for returns in (np.zeros(10), np.full(10, 0.001), [0.01]):
        assert np.isnan(m.performance(returns, 252).sharpe)
    assert "undefined" in m.performance(np.zeros(5), 252)._repr_markdown_()


@pytest.mark.parametrize("bad", [[np.nan, 0.1], [0.1, np.inf], [], [[0.1]]])
def test_bad_returns_are_refused(bad):
    with pytest.raises(InputError):
        m.performance(bad, 252)
