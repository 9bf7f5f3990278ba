"""Nothing is proposed for data with nothing wrong in it; what was broken on purpose is found all the same."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

import polars as pl
import pytest
from support.genuine import NATURES, genuine_corpus, make_genuine

from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import PRICES, Dataset, resample_bars, timeframe_duration
from algo_research.data.quality.repairs import apply_repairs, propose_repairs
from algo_research.data.quality.rules import FATAL, check_bars, offending
from algo_research.data.samples.bundled import load_index, load_stocks
from algo_research.data.samples.synthetic import make_market

N = pl.int_range(pl.len())
TYPICAL = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
corpus = lru_cache(genuine_corpus)
NAMES = list(genuine_corpus(0))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_proposed_for_a_genuine_market(name):
    """Bounce, thin trading, halts, news, sessions with early closes, weeks, months, days of another clock."""
    dataset = corpus(0)[name]
    assert propose_repairs(dataset).height == 0
    findings = check_bars(dataset)
    assert not (findings["severity"] == FATAL).any(), findings


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
def test_nothing_is_proposed_for_many_genuine_markets(seed):
    proposed = {name: propose_repairs(dataset).height for name, dataset in genuine_corpus(seed).items()}
    assert not any(proposed.values()), proposed


@pytest.mark.parametrize(
    "load", [lambda: load_index("SP500"), lambda: load_index("NASDAQ"), load_stocks], ids=["SP500", "NASDAQ", "stocks"]
)
def test_nothing_is_proposed_for_bundled_data(load):
    assert propose_repairs(load()).height == 0


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("btc_perp_1m_2022_01.csv.gz", {"kind": "perpetual"}),
        ("dj30_1d_valid.csv.gz", {"calendar": "XNYS", "kind": "equity"}),
        ("dj30_1d_test.csv.gz", {"calendar": "XNYS", "kind": "equity"}),
        ("eth_btc_5m.feather", {}),
        ("ltc_btc_5m.feather", {}),
        ("btc_usd_1h_2018_2022.csv.gz", {}),
    ],
)
def test_nothing_is_proposed_for_real_files(file, options, shared_data):
    """But what is wrong in one of them: the quote volume that stands in the column of the base volume."""
    dataset = import_file(shared_data / file, **options).dataset
    known = ["base and quote volume swapped"] if "btc_usd" in file else []
    step = timeframe_duration(dataset.id.timeframe)
    for timeframe in (dataset.id.timeframe, "15m", "1h", "4h", "1d", "1w"):
        if timeframe_duration(timeframe) < step or (dataset.instrument.calendar != "24/7" and timeframe != "1d"):
            continue
        bars = resample_bars(dataset.bars, dataset.id.timeframe, timeframe)
        coarse = replace(dataset, id=dataset.id._replace(timeframe=timeframe), bars=bars)
        assert set(propose_repairs(coarse)["rule"]) <= set(known), timeframe


def planted(dataset: Dataset, at: int, count: int, columns: dict[str, pl.Expr]) -> Dataset:
    """The dataset with these columns changed in so many bars."""
    inside = N.is_between(at, at + count - 1)
    changed = {name: pl.when(inside).then(edited).otherwise(name) for name, edited in columns.items()}
    return replace(dataset, bars=dataset.bars.with_columns(**changed))


SWAP = {"open": pl.col("close"), "close": pl.col("open")}
TICK = {price: pl.col(price) * 1.8 for price in PRICES}


@pytest.mark.parametrize("name", ["coins by five minutes", "shares by the hour", "shares by the day", "no volume"])
def test_swapped_columns_are_found_and_mended_among_genuine_bars(name):
    """Bars that lie the same either way, at the ends of the range, stay as they are: so much of it comes back."""
    for seed in (0, 1):
        good = make_genuine(seed, NATURES[name])
        at = good.bars.height // 2
        broken = planted(good, at, 50, SWAP)
        found = offending(broken, "price columns swapped")["ts"]
        inside = found.is_between(good.bars["ts"][at], good.bars["ts"][at + 49])
        assert inside.sum() >= 45 and (~inside).sum() <= 2
        mended = apply_repairs(broken, propose_repairs(broken)).bars
        wrong = [bars.select((pl.col("close") != good.bars["close"]).sum()).item() for bars in (broken.bars, mended)]
        assert wrong[1] <= 0.2 * wrong[0]


@pytest.mark.parametrize("name", ["coins by the hour", "a future in whole points", "shares by five minutes"])
def test_bad_ticks_are_found_among_genuine_bars(name):
    good = make_genuine(0, NATURES[name])
    at = good.bars.height // 2
    broken = planted(good, at, 2, TICK)
    assert offending(broken, "price spike")["ts"].to_list() == good.bars["ts"][at : at + 2].to_list()
    mended = apply_repairs(broken, propose_repairs(broken)).bars
    assert mended.equals(good.bars.filter(~N.is_between(at, at + 1)))


def test_what_was_traded_there_and_back_stays():
    """A squeeze: an hour up by a fifth and an hour back, each bar opening where the one before closed."""
    market = make_market("noise", 5, bars=1200)
    bars = market.bars.with_columns(
        close=pl.when(N == 600).then(pl.col("close") * 1.2).otherwise("close"),
        open=pl.when(N == 601).then(pl.col("open") * 1.2).otherwise("open"),
    ).with_columns(high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close"))
    squeezed = replace(market, bars=bars)
    assert check_bars(squeezed).filter(finding="price out and back").height == 1
    assert propose_repairs(squeezed).height == 0


def test_a_crash_to_nothing_before_a_hole_is_no_bad_tick():
    """The last days of a share, and another one of the same name a year later."""
    market = make_market("noise", 5, bars=1200, timeframe="1d")
    price = pl.when(N.is_between(600, 601)).then(0.05).otherwise(1.0)
    later = pl.when(N > 601).then(pl.col("ts") + timedelta(days=365)).otherwise("ts")
    known = pl.when(N > 601).then(pl.col("known_at") + timedelta(days=365)).otherwise("known_at")
    bars = market.bars.with_columns(*(pl.col(p) * price for p in PRICES), ts=later, known_at=known)
    assert propose_repairs(replace(market, bars=bars)).height == 0


def test_a_missing_bar_and_a_late_duplicate_move_nothing():
    """A gap of one bar, and a time delivered twice, first while it was open: no segment lies between them."""
    moved = []
    for seed in range(12):
        good = make_genuine(seed, NATURES["coins by the hour"])
        half = good.bars[900:901].with_columns(close="open", high="open", low="open", volume=pl.col("volume") / 2)
        rows = pl.concat([good.bars[:500], good.bars[501:900], half, good.bars[900:]])
        moved.append(propose_repairs(replace(good, bars=rows)).filter(rule="time shifted").height)
    assert sum(moved) == 0


@pytest.mark.parametrize("factor", [10.0, 40.0, 200.0])
def test_a_level_of_volume_that_decays_is_no_swap(factor):
    """A share in the news trades ten times as much, at a price of about ten, and less every day."""
    for seed in range(8):
        good = make_genuine(seed, replace(NATURES["shares by the day"], price=factor))
        since = (N - 700).clip(0)
        louder = pl.when(N >= 700).then(1 + (factor - 1) * (-since / 30).exp()).otherwise(1.0)
        loud = replace(good, bars=good.bars.with_columns(volume=pl.col("volume") * louder))
        assert propose_repairs(loud).height == 0, seed


def _moved(hours: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    aside = N.is_between(300, 420)
    return lambda bars: bars.with_columns(
        pl.when(aside).then(pl.col(c) + timedelta(hours=hours)).otherwise(c).alias(c) for c in ("ts", "known_at")
    )


@pytest.mark.parametrize("hours", [-5, 1, 8])
def test_days_of_another_time_zone_are_found_among_genuine_bars(hours):
    good = make_genuine(1, NATURES["coins by the day"])
    broken = replace(good, bars=_moved(hours)(good.bars))
    assert apply_repairs(broken, propose_repairs(broken)).bars.equals(good.bars)
