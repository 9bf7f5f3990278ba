"""Every feature of the catalogue keeps what it declares: no look ahead, no longer memory, streaming equals batch."""

import numpy as np
import polars as pl
import pytest

from algo_research.data.intake.importing import import_file
from algo_research.data.samples.bundled import load_index
from algo_research.data.samples.synthetic import make_market
from algo_research.features.contract import compute_features
from algo_research.features.gates import causality_violations, memory_violations
from algo_research.features.indicators import DEFAULT, feature_set, get_feature


@pytest.fixture(scope="module")
def markets():
    flat = make_market("garch", 12, bars=1500).bars
    stuck = flat.with_columns(
        [
            pl.when(pl.int_range(pl.len()).is_between(800, 859)).then(50.0).otherwise(c).alias(c)
            for c in ("open", "high", "low", "close")
        ]
    )
    return {
        "garch": make_market("garch", 11, bars=2500).bars,
        "drift": make_market("drift", 11, bars=2000, drift=0.2).bars,
        "stuck": stuck,
        "S&P 500": load_index("SP500").bars,
    }


@pytest.mark.parametrize("name", [f.name for f in DEFAULT])
def test_memory(name, markets):
    for market, bars in markets.items():
        found = memory_violations(get_feature(name), bars, np.random.default_rng(3), rows=30)
        assert not found.height, (market, found)


@pytest.mark.parametrize("name", [f.name for f in DEFAULT])
def test_a_shorter_memory_is_caught(name, markets):
    """The declared memory is not padded beyond reason: half of it fails for at least one value."""
    from dataclasses import replace

    feature = get_feature(name)
    short = replace(feature, memory=max(1, feature.memory // 2))
    rng = np.random.default_rng(4)
    assert memory_violations(short, markets["garch"], rng, rows=60).height


def test_causality_of_the_whole_set(markets):
    for market, bars in markets.items():
        found = causality_violations(
            lambda b: compute_features(b, feature_set()), bars, np.random.default_rng(5), cuts=6
        )
        assert not found.height, (market, found)


@pytest.mark.parametrize("file", ["btc_usd_1h_2018_2022.csv.gz", "btc_perp_1m_2022_01.csv.gz"])
def test_memory_on_real_crypto(file, shared_data):
    bars = import_file(shared_data / file).dataset.bars[:20_000]
    for name in [f.name for f in DEFAULT]:
        found = memory_violations(get_feature(name), bars, np.random.default_rng(6), rows=20)
        assert not found.height, (name, found)


def test_symbols_do_not_touch_each_other(markets):
    a, b = markets["garch"].with_columns(symbol=pl.lit("A")), markets["drift"].with_columns(symbol=pl.lit("B"))
    together = compute_features(pl.concat([a, b]), feature_set())
    assert together.filter(symbol="B").equals(compute_features(b, feature_set()))
