"""Composite bars: properties that hold for any venues."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo_research.core.errors import InputError
from algo_research.data.intake.aggregate import aggregate_bars
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import BARS_SCHEMA, PRICES, Dataset, DatasetId, make_bars, validate_bars
from algo_research.data.market.instruments import Instrument

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
ID = "composite/BTC-USD/1h"
BARS = 40


def market(seed, venues=3, spread=0.001, volume=True, holes=0.1):
    """The same walk at several venues: noise in every price, volumes of their own, bars missing."""
    rng = np.random.default_rng(seed)
    path = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (BARS, 4)).ravel()).reshape(BARS, 4))
    made = []
    for v in range(venues):
        p = path * rng.normal(1, spread, (BARS, 1)).clip(1 - 3 * spread, 1 + 3 * spread)
        frame = pl.DataFrame(
            {
                "symbol": "BTC-USD",
                "ts": [BEGIN + timedelta(hours=i) for i in range(BARS)],
                "open": p[:, 0],
                "high": p.max(axis=1),
                "low": p.min(axis=1),
                "close": p[:, 3],
            }
        )
        if volume:
            frame = frame.with_columns(volume=pl.Series(rng.lognormal(2, 1.5, BARS)))
        keep = rng.random(BARS) >= holes
        keep[BARS // 2] = True
        made.append(
            Dataset(
                DatasetId(f"v{v}", "BTC-USD", "1h"),
                make_bars(frame.filter(pl.Series(keep)), timedelta(hours=1)),
                Instrument("BTC-USD", f"v{v}", "spot"),
            )
        )
    return made


def bad_row(dataset, row, factor, columns=PRICES):
    """One bar wrong by a factor, still a valid bar."""
    at = pl.col("ts") == BEGIN + timedelta(hours=row)
    bars = dataset.bars.with_columns(
        pl.when(at).then(pl.col(c) * factor).otherwise(pl.col(c)).alias(c) for c in columns
    )
    return replace(dataset, bars=bars)


seeds, sizes = st.integers(0, 10_000), st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(seeds, st.booleans())
def test_one_venue_alone_gives_itself(seed, volume):
    [only] = market(seed, 1, volume=volume)
    made = aggregate_bars([only], ID)
    assert made.dataset.bars.equals(only.bars) and made.left_out.height == 0 and made.dropped == 0


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.data())
def test_the_order_of_the_sources_changes_nothing(seed, venues, data):
    datasets = market(seed, venues)
    datasets[0] = bad_row(datasets[0], BARS // 2, 1.2)
    shuffled = data.draw(st.permutations(datasets))
    a, b = aggregate_bars(datasets, ID, 1), aggregate_bars(shuffled, ID, 1)
    assert (
        a.dataset.snapshot() == b.dataset.snapshot()
        and a.dataset.notes == b.dataset.notes
        and a.left_out.equals(b.left_out)
    )


@settings(max_examples=60, deadline=None)
@given(seeds, sizes)
def test_volumes_add_up_and_prices_lie_between_the_venues(seed, venues):
    datasets = market(seed, venues)
    made = aggregate_bars(datasets, ID, 1)
    assert made.left_out.height == 0
    bars = validate_bars(made.dataset.bars)
    every = (
        pl.concat([d.bars for d in datasets])
        .group_by("ts")
        .agg(
            pl.col("volume").sum(),
            pl.col(PRICES).min().name.suffix("_min"),
            pl.col(PRICES).max().name.suffix("_max"),
            pl.col("known_at").max().alias("known"),
        )
        .sort("ts")
    )
    assert bars["ts"].to_list() == every["ts"].to_list() and bars["known_at"].to_list() == every["known"].to_list()
    np.testing.assert_allclose(bars["volume"], every["volume"], rtol=1e-12)
    for p in PRICES:
        assert (bars[p] >= every[f"{p}_min"] * (1 - 1e-12)).all() and (bars[p] <= every[f"{p}_max"] * (1 + 1e-12)).all()
    assert (
        bars.select(
            (pl.col("low") <= pl.min_horizontal("open", "close"))
            & (pl.col("high") >= pl.max_horizontal("open", "close"))
        )
        .to_series()
        .all()
    )


@settings(max_examples=80, deadline=None)
@given(
    seeds,
    st.one_of(st.floats(1.05, 1000), st.floats(0.001, 0.95)),
    st.sampled_from([PRICES, ["high"], ["close"]]),
    st.integers(0, 2),
    st.integers(0, BARS - 1),
)
def test_a_spike_on_one_venue_of_three_does_not_move_the_composite(seed, factor, columns, who, row):
    datasets = market(seed, holes=0.0)
    datasets[who] = bad_row(datasets[who], row, factor, columns)
    made = aggregate_bars(datasets, ID)
    others = aggregate_bars([d for i, d in enumerate(datasets) if i != who], ID).dataset.bars
    at = pl.col("ts") == BEGIN + timedelta(hours=row)
    assert made.dataset.bars.filter(at).equals(others.filter(at))
    assert made.left_out.select("source", "reason").rows() == [(str(datasets[who].id), "deviates")] and abs(
        made.left_out["deviation"][0] - abs(factor - 1)
    ) < 0.02 * max(1, factor)
    assert any(str(datasets[who].id) in note and "left out of 1 bar" in note for note in made.dataset.notes)
    clean = aggregate_bars(market(seed, holes=0.0), ID).dataset.bars
    assert made.dataset.bars.filter(~at).equals(clean.filter(~at))


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.data())
def test_a_bar_exists_when_enough_venues_have_it(seed, venues, data):
    datasets = market(seed, venues, holes=0.4)
    minimum = data.draw(st.integers(1, venues))
    made = aggregate_bars(datasets, ID, minimum)
    counts = pl.concat([d.bars for d in datasets]).group_by("ts").len().sort("ts")
    assert made.dataset.bars["ts"].to_list() == counts.filter(pl.col("len") >= minimum)["ts"].to_list()
    assert made.dropped == counts.filter(pl.col("len") < minimum).height
    assert aggregate_bars(datasets, ID).minimum == venues // 2 + 1


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, BARS - 1), st.integers(3, BARS - 4))
def test_later_bars_change_no_earlier_one(seed, cut, frozen):
    """Causal: the composite of a truncated history is the truncated composite, a frozen venue or not."""
    datasets = market(seed)
    price = datasets[0].bars["close"][0]
    datasets[0] = replace(
        datasets[0],
        bars=datasets[0].bars.with_columns(
            pl.when(pl.int_range(pl.len()) >= frozen).then(price).otherwise(pl.col(c)).alias(c) for c in PRICES
        ),
    )
    moment = BEGIN + timedelta(hours=cut)
    short = [replace(d, bars=d.bars.filter(pl.col("known_at") <= moment)) for d in datasets]
    if all(d.bars.height for d in short):
        full = aggregate_bars(datasets, ID, 1, deviation=0.5).dataset.bars
        assert aggregate_bars(short, ID, 1, deviation=0.5).dataset.bars.equals(
            full.filter(pl.col("known_at") <= moment)
        )


def test_a_frozen_venue_is_left_out_and_comes_back():
    datasets = market(7, 3, holes=0.0)
    price = datasets[1].bars["close"][9]
    inside = pl.int_range(pl.len()).is_between(10, 14)
    datasets[1] = replace(
        datasets[1],
        bars=datasets[1].bars.with_columns(pl.when(inside).then(price).otherwise(pl.col(c)).alias(c) for c in PRICES),
    )
    made = aggregate_bars(datasets, ID, deviation=0.9)
    assert [(t - BEGIN) // timedelta(hours=1) for t in made.left_out["ts"]] == [12, 13, 14] and set(
        made.left_out["reason"]
    ) == {"stale"}
    assert made.dataset.bars[14].equals(aggregate_bars([datasets[0], datasets[2]], ID).dataset.bars[14])
    still = [replace(d, bars=d.bars.with_columns(pl.lit(100.0).alias(c) for c in PRICES)) for d in datasets]
    assert aggregate_bars(still, ID).left_out.height == 0  # nobody moves: the market is quiet


def test_prices_are_known_when_the_last_venues_are():
    datasets = market(3, 3, holes=0.0)
    late = datasets[2].bars.with_columns(known_at=pl.col("known_at") + timedelta(minutes=7))
    wrong = bad_row(replace(datasets[2], bars=late), 5, 2.0)
    made = aggregate_bars([*datasets[:2], wrong], ID)
    assert (
        made.left_out.height == 1 and made.dataset.bars["known_at"].to_list() == late["known_at"].to_list()
    )  # it took the one left out to decide


def test_what_is_unknown_stays_unknown_and_what_differs_is_named():
    told, silent = market(1, 2, holes=0.0)
    silent = replace(silent, bars=silent.bars.with_columns(volume=pl.lit(None, pl.Float64)))
    usdt = replace(
        told,
        id=DatasetId("v0", "BTC-USDT", "1h"),
        bars=told.bars.with_columns(symbol=pl.lit("BTC-USDT")),
        instrument=replace(told.instrument, symbol="BTC-USDT", quote="USDT"),
        notes=("thin",),
    )
    made = aggregate_bars([usdt, silent], ID).dataset
    assert (
        made.bars["volume"].null_count() == made.bars.height
        and made.bars.schema == pl.Schema(BARS_SCHEMA)
        and made.symbols == ["BTC-USD"]
    )
    np.testing.assert_allclose(made.bars["close"], (told.bars["close"] + silent.bars["close"]) / 2, rtol=1e-12)
    assert made.instrument.quote == "USD" and made.instrument.venue == "composite"
    assert (
        any("USD and USDT are taken as equal" in note for note in made.notes) and "v0/BTC-USDT/1h: thin" in made.notes
    )


def test_what_cannot_be_one_symbol_is_refused():
    a, b = market(1, 2)
    other = replace(b, id=DatasetId("v1", "ETH-USD", "1h"), bars=b.bars.with_columns(symbol=pl.lit("ETH-USD")))
    refused = (
        ([], {}, "nothing to aggregate"),
        ([a, a], {}, "given twice"),
        ([a, other], {}, "asset differs"),
        ([a, replace(b, adjustment="split")], {}, "adjustment differs"),
        ([a, b], {"minimum": 3}, "1 to 2"),
        ([a, b], {"deviation": 0.0}, "fractions above 0"),
    )
    for sources, options, message in refused:
        with pytest.raises(InputError, match=message):
            aggregate_bars(sources, ID, **options)


def test_a_wrong_hour_in_real_bars_does_not_move_their_composite(shared_data):
    """Hourly bitcoin as downloaded, at three made venues around it."""
    real = import_file(shared_data / "btc_usd_1h_2018_2022.csv.gz", "coinbase/BTC-USD/1h").dataset
    bars, rng = real.bars.tail(5000), np.random.default_rng(0)

    def venue(name: str):
        noisy = bars.with_columns(*[pl.col(p) * pl.Series(rng.normal(1, 3e-4, 5000)) for p in PRICES])
        sound = noisy.with_columns(high=pl.max_horizontal(PRICES), low=pl.min_horizontal(PRICES))
        return replace(real, id=DatasetId(name, "BTC-USD", "1h"), bars=sound)

    venues = [venue(name) for name in ("a", "b", "c")]
    before = aggregate_bars(venues, ID)
    assert before.left_out.height == 0 and before.dropped == 0
    assert (before.dataset.bars["close"] / bars["close"] - 1).abs().max() < 0.002
    wrong = venues[1].bars.with_columns(
        close=pl.when(pl.int_range(pl.len()) == 2500).then(pl.col("close") * 1.5).otherwise("close")
    )
    after = aggregate_bars([venues[0], replace(venues[1], bars=wrong), venues[2]], ID)
    assert after.left_out["ts"].to_list() == [bars["ts"][2500]]
    assert (after.dataset.bars["close"] / before.dataset.bars["close"] - 1).abs().max() < 0.001
