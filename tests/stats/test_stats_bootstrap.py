"""The bootstrap's law against arch, and its false positives counted."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from algo_research.core.errors import InputError
from algo_research.stats import bootstrap as b


def autoregressive(rng, n, rho, size):
    x = rng.normal(size=(n, size))
    x[0] /= np.sqrt(1 - rho**2)
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x.T


@pytest.mark.parametrize("length", [1.0, 3.5, 40.0])
def test_same_distribution_as_arch(length):
    from arch.bootstrap import StationaryBootstrap

    x = autoregressive(np.random.default_rng(0), 300, 0.5, 1)[0] ** 3
    ours, error = b.block_means(x, length, 50_000, np.random.default_rng(1))
    theirs = StationaryBootstrap(length, x, seed=2).apply(np.mean, 20_000)[:, 0] - x.mean()
    assert ks_2samp(ours, theirs).pvalue > 0.001
    assert np.isclose(ours.std(), b.bootstrap_error(x, length), rtol=0.03)
    assert np.isclose(np.sqrt((error**2).mean()), ours.std(), rtol=0.15)


@pytest.mark.parametrize("n", [20, 21, 33, 100, 999, 4000])
def test_optimal_length_is_archs(n):
    from arch.bootstrap import optimal_block_length

    rng = np.random.default_rng(n)
    kinds = [autoregressive(rng, n, rho, 1)[0] for rho in (-0.6, 0.0, 0.6, 0.99)]
    kinds += [np.sign(kinds[2]), np.where(rng.random(n) < 0.9, 0.0, kinds[1]) * 1e-8, np.arange(n) + kinds[0]]
    for x in kinds:
        theirs = optimal_block_length(x)["stationary"].iloc[0]
        assert b.optimal_block_length(x) == pytest.approx(min(max(theirs, 1.0), n / 4), rel=1e-12)
    assert b.optimal_block_length(np.full(n, 0.1)) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "allowed"), [("normal", 0.05), ("losses", 0.05), ("ar", 0.06)])
def test_false_positives(name, allowed):
    "At most the rate plus three standard errors of 600 histories; the autoregressive null is allowed one point more."
    rng, n = np.random.default_rng(17), 600
    if name == "normal":
        null = rng.normal(size=(n, 400))
    elif name == "losses":
        null = 1 - rng.exponential(size=(n, 400))
    else:
        null = autoregressive(rng, 400, 0.3, n)
    hits = sum(b.mean_pvalue(x, i, 299) <= 0.05 for i, x in enumerate(null))
    assert 0.02 * n < hits <= allowed * n + 3 * np.sqrt(allowed * (1 - allowed) * n)
    if name == "ar":
        assert sum(b.mean_pvalue(x, i, 299, block_length=1) <= 0.05 for i, x in enumerate(null)) > 0.09 * n


def test_power():
    rng = np.random.default_rng(2)
    assert sum(b.mean_pvalue(rng.normal(0.15, 1, 400), i, 299) <= 0.05 for i in range(100)) > 80


def test_seeds_and_generators():
    x = np.random.default_rng(0).normal(size=200)
    assert b.mean_pvalue(x, 1) == b.mean_pvalue(x, np.random.default_rng(1)) != b.mean_pvalue(x, 2)
    assert b.confidence_interval(x, seed=3, replications=200) == b.confidence_interval(x, seed=3, replications=200)
    rng = np.random.default_rng(1)
    assert b.mean_pvalue(x, rng) != b.mean_pvalue(x, rng)


def test_smallest_and_largest_pvalue():
    x = np.random.default_rng(0).normal(1, 0.1, 100)
    assert b.mean_pvalue(x, 1, 999) == 1 / 1000 and b.mean_pvalue(-x, 1, 999) == 1.0
    assert b.mean_pvalue(np.full(30, 0.01), 1) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda x: b.mean_pvalue(x[:5], 1),
        lambda x: b.mean_pvalue(x, None),
        lambda x: b.mean_pvalue(x, 1, 10),
        lambda x: b.mean_pvalue(np.append(x, np.nan), 1),
        lambda x: b.mean_pvalue(x, 1, block_length=1e6),
        lambda x: b.confidence_interval(x, seed=1, level=1.0),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(InputError):
        call(np.random.default_rng(0).normal(size=100))
