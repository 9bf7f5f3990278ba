"""Over two hundred seeds the noise is noise and the planted signal has the strength it was planted with."""

import numpy as np
import pytest

from algo_research.data.samples.synthetic import make_market, planted_signal

SEEDS, BARS = 200, 250


def simulate(market, **options) -> tuple[np.ndarray, np.ndarray]:
    """Returns from open to close, and the signal in the volume at each close; both (SEEDS, BARS)."""
    found = [make_market(market, seed, bars=BARS, **options).bars for seed in range(SEEDS)]
    return np.array([bars["close"].to_numpy() / bars["open"].to_numpy() - 1 for bars in found]), np.array(
        [planted_signal(bars) for bars in found]
    )


def z_scores(returns: np.ndarray) -> np.ndarray:
    """Mean returns in their own standard errors, one a seed."""
    return returns.mean(axis=1) / (returns.std(axis=1, ddof=1) / np.sqrt(returns.shape[1]))


def is_noise(z: np.ndarray) -> bool:
    """Mean 0 and deviation 1, within four standard errors of each."""
    return abs(z.mean()) < 4 / np.sqrt(len(z)) and abs(z.std(ddof=1) - 1) < 4 / np.sqrt(2 * len(z))


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """The contract of bars is tested elsewhere, and checking it costs five times what making a market costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("algo_research.data.market.bars.validate_bars", lambda bars: bars)
        yield


@pytest.fixture(scope="module")
def markets():
    drift, signal = simulate("drift", drift=0.2)
    return {"noise": simulate("noise"), "garch": simulate("garch"), "drift": (drift - np.expm1(0.2 * 0.01), signal)}


@pytest.fixture(scope="module")
def returns(markets):
    return {name: returns for name, (returns, _) in markets.items()}


@pytest.mark.parametrize("market", ["noise", "drift", "garch"])
def test_mean_returns_are_noise(market, returns):
    assert is_noise(z_scores(returns[market]))


@pytest.mark.parametrize("market", ["noise", "drift", "garch"])
def test_no_bar_foretells_the_next(market, returns):
    r = returns[market]
    assert is_noise(z_scores(r[:, 1:] * r[:, :-1]))
    assert is_noise(z_scores(r[:, 1:] * np.sign(r[:, :-1])))


@pytest.mark.parametrize("market", ["noise", "garch"])
def test_no_drift_hides_in_the_long_run(market):
    """A drift of 0.005 volatilities a bar, an annual Sharpe ratio of 0.5 in hours, would be four standard errors."""
    parts = [make_market(market, seed, bars=32_000).bars for seed in range(1000, 1020)]
    assert abs(z_scores(np.concatenate([b["close"].to_numpy() / b["open"].to_numpy() - 1 for b in parts])[None])[0]) < 4


def test_what_is_not_noise_is_told_apart(returns):
    assert not is_noise(z_scores(returns["drift"] + np.expm1(0.2 * 0.01)))
    assert not is_noise(z_scores(returns["noise"]) * 1.5)  # as with returns that repeat
    loud, _ = simulate("noise", volatility=0.4)
    assert is_noise(z_scores(loud)) and not is_noise(
        z_scores(np.log1p(loud))
    )  # the price is a martingale, its logarithm is none


def test_volatility_is_as_told(returns):
    for market in ("noise", "drift"):
        assert returns[market].std() == pytest.approx(0.01, rel=0.02)
    assert 0.8 < returns["garch"].std() / 0.01 < 1.8  # calm and wild regimes, jumps


@pytest.mark.parametrize("strength", [0.1, 0.3])
def test_the_planted_strength_is_recovered(strength):
    returns, signal = simulate("planted", strength=strength)
    slopes = [np.polyfit(s[:-1], np.log1p(r[1:]) / 0.01, 1)[0] for r, s in zip(returns, signal, strict=True)]
    assert abs(np.mean(slopes) - strength) < 4 * np.std(slopes, ddof=1) / np.sqrt(SEEDS) < 0.03
    assert not is_noise(z_scores(signal[:, :-1] * returns[:, 1:]))


@pytest.mark.parametrize("market", ["noise", "drift", "garch"])
def test_volume_means_nothing_elsewhere(market, markets):
    returns, signal = markets[market]
    assert is_noise(z_scores(signal[:, :-1] * returns[:, 1:]))
