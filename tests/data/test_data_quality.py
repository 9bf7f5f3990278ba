"""Random damage is found at its place, clean markets are clean, and what can be repaired comes back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algo_research.core.errors import DataError
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import MONTH, PRICES, Dataset, DatasetId, make_bars
from algo_research.data.market.equities import follow_rename
from algo_research.data.market.instruments import Instrument, session_times
from algo_research.data.quality.repairs import _removed, apply_repairs, propose_repairs
from algo_research.data.quality.rules import FATAL, RULES, check_bars, offending
from algo_research.data.quality.score import QualitySettings, quality_reasons, quality_score, require_quality
from algo_research.data.samples.bundled import load_index, load_stocks
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.delta import DeltaStore

SIZE = 1200
N = pl.int_range(pl.len())
TYPICAL = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
markets = st.builds(
    lambda kind, seed: make_market(kind, seed, bars=SIZE),
    st.sampled_from(["noise", "drift", "garch", "planted"]),
    st.integers(0, 30),
)
places = st.integers(60, SIZE - 200)  # away from the ends, where nothing is known of what comes before or after
seeded = settings(max_examples=10, deadline=None, derandomize=True)


def found(dataset: Dataset, rule: str, now=None) -> list[tuple]:
    """Ranges of a finding: (bars, first, last)."""
    return check_bars(dataset, now).filter(finding=rule).sort("first").select("bars", "first", "last").rows()


def edit(market: Dataset, **columns) -> Dataset:
    return replace(market, bars=market.bars.with_columns(**columns))


def inside(i: int, k: int, edited, column: str) -> pl.Expr:
    return pl.when(N.is_between(i, i + k - 1)).then(edited).otherwise(column)


def span(market: Dataset, i: int, k: int) -> tuple:
    return (k, market.bars["ts"][i], market.bars["ts"][i + k - 1])


# Clean data.


@pytest.mark.parametrize("kind", ["noise", "drift", "garch", "planted"])
def test_clean_markets_score_above_099(kind):
    for seed in range(40, 52):
        market = make_market(kind, seed, bars=3000)
        findings = check_bars(market)
        assert quality_score(findings, market.bars) > 0.99, findings
        assert not propose_repairs(market).height


def test_clean_markets_have_no_findings():
    for seed in range(10):
        assert check_bars(make_market("noise", seed, bars=SIZE, timeframe="1m")).height == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "load", [lambda: load_index("SP500"), lambda: load_index("NASDAQ"), load_stocks], ids=["SP500", "NASDAQ", "stocks"]
)
def test_bundled_data_are_not_quarantined(load):
    dataset = load()
    findings = require_quality(dataset, QualitySettings())
    assert (
        quality_score(findings, dataset.bars) > 0.94
        and not findings["finding"]
        .is_in(["price columns swapped", "base and quote volume swapped", "time shifted"])
        .any()
    )


# Random edits, each found at its place.


@seeded
@given(markets, places, st.integers(1, 40))
def test_dropped_bars(market, i, k):
    holed = replace(market, bars=market.bars.filter(~N.is_between(i, i + k - 1)))
    assert found(holed, "bars missing before") == [(k, market.bars["ts"][i + k], market.bars["ts"][i + k])]


@seeded
@given(markets, places, st.integers(1, 40), st.booleans())
def test_duplicated_rows(market, i, k, same):
    again = market.bars[i : i + k] if same else market.bars[i : i + k].with_columns(pl.col("volume") + 1)
    doubled = replace(market, bars=pl.concat([market.bars, again]))
    names = ["duplicates, different", "duplicates, equal"]
    assert found(doubled, names[same]) == [span(market, i, k)] and found(doubled, names[not same]) == []
    assert found(doubled, "bars out of order") == [(1, market.bars["ts"][i], market.bars["ts"][i])]
    if same:
        assert apply_repairs(doubled, propose_repairs(doubled)).bars.equals(market.bars)


@seeded
@given(markets, places, st.integers(2, 80))
def test_turned_around(market, i, k):
    back = replace(market, bars=pl.concat([market.bars[:i], market.bars[i : i + k][::-1], market.bars[i + k :]]))
    assert found(back, "bars out of order") == [(k - 1, market.bars["ts"][i], market.bars["ts"][i + k - 2])]
    assert set(check_bars(back)["finding"]) == {"bars out of order"}


def moved(market: Dataset, i: int, k: int, by: timedelta) -> Dataset:
    return edit(market, **{c: inside(i, k, pl.col(c) + by, c) for c in ("ts", "known_at")})


@seeded
@given(markets, places, st.integers(30, 150), st.integers(-10, 10).filter(bool))
def test_a_segment_in_another_time_zone(market, i, k, hours):
    shifted = moved(market, i, k, timedelta(hours=hours))
    assert found(shifted, "time shifted") == [(k, shifted.bars["ts"][i], shifted.bars["ts"][i + k - 1])]
    repaired = apply_repairs(shifted, propose_repairs(shifted).filter(rule="time shifted"))
    assert repaired.bars.equals(market.bars)


@seeded
@given(st.integers(0, 30), places, st.integers(3, 150), st.integers(-11, 11).filter(bool))
def test_days_in_another_time_zone(seed, i, k, hours):
    market = make_market("noise", seed, bars=SIZE, timeframe="1d")
    shifted = moved(market, i, k, timedelta(hours=hours))
    assert found(shifted, "time shifted") == [(k, shifted.bars["ts"][i], shifted.bars["ts"][i + k - 1])]
    assert found(shifted, "bars off the time grid") == []
    assert apply_repairs(shifted, propose_repairs(shifted)).bars.equals(market.bars)


@seeded
@given(markets, places, st.integers(1, 2), st.integers(1, 59))
def test_bars_beside_the_grid(market, i, k, minutes):
    beside = moved(market, i, k, timedelta(minutes=minutes))
    assert found(beside, "bars off the time grid") == [(k, beside.bars["ts"][i], beside.bars["ts"][i + k - 1])]


@seeded
@given(markets, places, st.integers(1, 3), st.sampled_from([0.3, 0.6, 1.8, 4.0]))
def test_a_spike_that_reverts(market, i, k, factor):
    spiky = edit(market, **{p: inside(i, k, pl.col(p) * factor, p) for p in PRICES})
    assert offending(spiky, "price spike")["ts"].to_list() == market.bars["ts"][i : i + k].to_list()
    left = apply_repairs(spiky, propose_repairs(spiky))
    assert left.bars.equals(market.bars.filter(~N.is_between(i, i + k - 1)))


@seeded
@given(markets, places, st.sampled_from([0.3, 0.6, 1.8, 4.0]))
def test_a_jump_that_stays_is_none(market, i, factor):
    jumped = edit(market, **{p: pl.when(i <= N).then(pl.col(p) * factor).otherwise(p) for p in PRICES})
    assert (
        found(jumped, "price spike") == []
        and found(jumped, "wick far out") == []
        and found(jumped, "price columns swapped") == []
    )


@seeded
@given(markets, places, st.sampled_from(["high", "low"]))
def test_a_wick_far_out(market, i, column):
    wick = edit(market, **{column: inside(i, 1, pl.col(column) * (4 if column == "high" else 0.25), column)})
    assert found(wick, "wick far out") == [span(market, i, 1)] and found(wick, "price spike") == []


@seeded
@given(markets, places, st.integers(10, 100))
def test_a_frozen_feed(market, i, k):
    frozen = edit(market, **{c: inside(i, k, pl.col(c).gather(i - 1).first(), c) for c in (*PRICES, "volume")})
    assert found(frozen, "price stuck") == [span(market, i, k)]
    assert found(frozen, "price columns swapped") == []


def test_few_repeats_are_chance():
    market = make_market("noise", 1, bars=SIZE)
    assert found(edit(market, close=inside(300, 8, pl.col("close").gather(299).first(), "close")), "price stuck") == []
    rounded = edit(
        market, **{p: (pl.col(p) / 20).round() * 20 for p in PRICES}
    )  # a price that hardly ever leaves its tick
    assert (
        rounded.bars.select((pl.col("close").diff() == 0).mean()).item() > 0.9 and found(rounded, "price stuck") == []
    )


@seeded
@given(markets, places, st.integers(20, 150))
def test_base_and_quote_volume_swapped(market, i, k):
    assume(market.bars["low"].min() > 8)  # nearer to one nothing is claimed
    swapped = edit(market, volume=inside(i, k, pl.col("volume") * (pl.col("high") + pl.col("low")) / 2, "volume"))
    assert found(swapped, "base and quote volume swapped") == [span(market, i, k)]
    repaired = apply_repairs(swapped, propose_repairs(swapped))
    assert (repaired.bars["volume"] / market.bars["volume"] - 1).abs().max() < 0.05 and repaired.bars.drop(
        "volume"
    ).equals(market.bars.drop("volume"))


@seeded
@given(markets, st.integers(60, 1100), st.booleans())
def test_volumes_swapped_up_to_an_end(market, i, begin):
    assume(market.bars["low"].min() > 8)
    flag = i > N if begin else i <= N
    swapped = edit(market, volume=pl.when(flag).then(pl.col("volume") * TYPICAL).otherwise("volume"))
    assert found(swapped, "base and quote volume swapped") == [
        span(market, 0, i) if begin else span(market, i, SIZE - i)
    ]


@seeded
@given(markets, places, st.integers(20, 150), st.sampled_from([0.1, 3, 10_000]))
def test_other_levels_of_volume_are_no_swap(market, i, k, factor):
    assert (
        found(edit(market, volume=inside(i, k, pl.col("volume") * factor, "volume")), "base and quote volume swapped")
        == []
    )


def renamed(market: Dataset, i: int, units: float, price: float, factor: float) -> Dataset:
    """The market under another name until bar i, so many of it for one; volumes of then are off by a factor."""
    at_price = edit(market, **{p: pl.col(p) * price / market.bars["close"][i] for p in PRICES})
    old = at_price.bars[:i].with_columns(
        pl.col(PRICES) / units, symbol=pl.lit("OLD"), volume=pl.col("volume") * units * factor
    )
    before = replace(at_price, id=market.id._replace(symbol="OLD"), bars=old)
    now = replace(at_price, bars=at_price.bars[i:])
    return follow_rename(before, now, market.bars["ts"][i], units)


@seeded
@given(
    markets,
    st.integers(200, 1000),
    st.sampled_from([(100.0, 50), (100.0, 0.5), (1000.0, 700), (0.01, 80), (12.0, 9)]),
    st.sampled_from([1.0, -1.0]),
)
def test_volumes_that_change_their_unit_at_a_rename(market, i, how, sign):
    """By its units, up or down: it is no volume times price, however near that is."""
    units, price = how
    assert not found(renamed(market, i, units, price, 1.0), "volume unit changed")
    joined = renamed(market, i, units, price, units**sign)
    assert found(joined, "volume unit changed") == [span(market, 0, i)]
    assert not found(joined, "base and quote volume swapped") and not propose_repairs(joined).height
    (evidence,) = check_bars(joined).filter(finding="volume unit changed")["evidence"]
    assert f"at the rename (OLD until {market.bars['ts'][i]:%Y-%m-%d}, {units:g} of it for one)" in evidence


@seeded
@given(markets, st.integers(200, 1000), st.sampled_from([0.1, 3, 10_000]))
def test_other_levels_of_volume_at_a_rename_are_no_unit(market, i, factor):
    assert not found(renamed(market, i, 100.0, 50, factor), "volume unit changed")
    assert not found(edit(renamed(market, i, 100.0, 50, 1.0), volume=pl.lit(None, pl.Float64)), "volume unit changed")


def test_a_price_near_one_is_left_alone():
    """There, the noise of volume makes steps as large as log price everywhere."""
    for seed in range(12):
        market = make_market("noise", seed, bars=SIZE)
        cheap = edit(market, **{p: pl.col(p) / market.bars["low"].median() * 1.3 for p in PRICES})
        assert found(cheap, "base and quote volume swapped") == []


@seeded
@given(markets, places, st.integers(3, 100), st.sampled_from([("open", "close"), ("high", "low")]))
def test_price_columns_swapped(market, i, k, columns):
    a, b = columns
    move = (market.bars[a] / market.bars[b] - 1).abs()
    assume(min(move[i], move[i + k - 1]) > 0.003)  # a bar that hardly moved looks the same either way
    swapped = edit(market, **{a: inside(i, k, b, a), b: inside(i, k, a, b)})
    assert found(swapped, "price columns swapped") == [span(market, i, k)]
    assert apply_repairs(swapped, propose_repairs(swapped)).bars.equals(market.bars)


@pytest.mark.parametrize("columns", [("open", "high"), ("open", "low"), ("high", "close"), ("low", "close")])
def test_other_columns_swapped(columns):
    market, (a, b) = make_market("noise", 5, bars=SIZE), columns
    swapped = edit(market, **{a: inside(300, 50, b, a), b: inside(300, 50, a, b)})
    touched = swapped.bars.filter(
        (pl.col("high") < pl.max_horizontal(PRICES)) | (pl.col("low") > pl.min_horizontal(PRICES))
    )["ts"]
    assert touched.is_in(offending(swapped, "price columns swapped")["ts"].implode()).all()
    assert apply_repairs(swapped, propose_repairs(swapped)).bars.equals(market.bars)


@seeded
@given(markets, places, st.sampled_from(["high", "low"]))
def test_an_inconsistent_bar(market, i, column):
    assume(abs(market.bars["open"][i] / market.bars["close"][i] - 1) > 0.006)
    wrong = edit(market, **{column: inside(i, 1, (pl.col("open") + pl.col("close")) / 2, column)})
    assert found(wrong, "high or low inconsistent") == [span(market, i, 1)]
    assert found(wrong, "price columns swapped") == []  # the right price is not to be had: nothing to swap
    assert found(replace(wrong, close_only=True), "high or low inconsistent") == []


@seeded
@given(
    markets,
    places,
    st.integers(1, 20),
    st.sampled_from([(0.0, "volume zero, prices move"), (-1.0, "volume negative"), (None, "volume missing")]),
)
def test_volumes_that_are_none(market, i, k, how):
    value, rule = how
    assert found(edit(market, volume=inside(i, k, pl.lit(value, pl.Float64), "volume")), rule) == [span(market, i, k)]
    flat = edit(
        market,
        volume=inside(i, k, pl.lit(value, pl.Float64), "volume"),
        **{p: inside(i, k, "close", p) for p in PRICES},
    )
    assert found(flat, "empty bar" if value == 0 else rule) == [span(market, i, k)]


@seeded
@given(markets, places, st.sampled_from([1e-6, 1e6]))
def test_a_volume_out_of_proportion(market, i, factor):
    assert found(edit(market, volume=inside(i, 1, pl.col("volume") * factor, "volume")), "volume outlier") == [
        span(market, i, 1)
    ]


@seeded
@given(markets, places, st.sampled_from(PRICES), st.sampled_from([0.0, -1.0]))
def test_prices_that_are_none(market, i, column, value):
    wrong = edit(market, **{column: inside(i, 1, pl.lit(value), column)})
    assert found(wrong, "price not positive") == [span(market, i, 1)]
    with pytest.raises(DataError, match="price of zero or less"):
        require_quality(wrong, QualitySettings(force=True))


@seeded
@given(markets, st.integers(0, 300))
def test_a_feed_that_stopped(market, minutes):
    now = market.bars["known_at"].max() + timedelta(minutes=minutes)
    late, last = minutes // 60, market.bars["ts"].max()
    assert found(market, "stale", now) == ([(late, last, last)] if late >= 2 else [])
    assert found(market, "stale") == []


def months(count: int, n: int, late: timedelta) -> Dataset:
    """Bars of so many months from 2019 on, each known so long after it is over."""
    ts = pl.datetime_range(datetime(2019, 1, 1), datetime(2040, 1, 1), f"{count}mo", time_zone="UTC", eager=True)[:n]
    prices = {name: pl.lit(level) for name, level in zip(PRICES, (10.0, 11.0, 9.0, 10.5), strict=True)}
    bars = pl.DataFrame({"symbol": "BTC", "ts": ts.dt.cast_time_unit("us")}).with_columns(**prices, volume=pl.lit(1.0))
    known = pl.col("ts").dt.offset_by(f"{count}mo") + late
    return Dataset(
        DatasetId("mine", "BTC", f"{count}mo"),
        make_bars(bars.with_columns(known_at=known), count * MONTH),
        Instrument("BTC", "mine", "spot"),
    )


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=14)])
def test_a_feed_of_months_that_stopped(count, late):
    """A month is due when it is over, be it short or long, and not a moment before."""
    whole = months(count, 20, late)
    for n in range(1, 14):
        stopped = replace(whole, bars=whole.bars[:n])
        for due in range(1, 7):
            now = whole.bars["known_at"][n - 1 + due]
            for moment, number in ((now, due), (now - timedelta(microseconds=1), due - 1)):
                told = [number] if number >= 2 else []
                assert check_bars(stopped, moment, ["stale"])["bars"].to_list() == told, (n, due, moment)


@pytest.mark.parametrize("count", [1, 3])
def test_months_that_a_repair_took_out_are_one_range(count):
    whole = months(count, 20, timedelta(0))
    ts = whole.bars["ts"]
    gone = replace(whole, bars=whole.bars.filter(~pl.col("ts").is_in([*ts[3:7], ts[12]])))
    assert list(_removed(whole, gone.bars.select("symbol", "ts"))) == [("BTC", ts[3], ts[6]), ("BTC", ts[12], ts[12])]
    told = replace(gone, removed=tuple(_removed(whole, gone.bars.select("symbol", "ts"))))
    assert told.removed_times("BTC").to_list() == [*ts[3:7], ts[12]]


# By the calendar of an exchange.


def sessions(step: timedelta) -> Dataset:
    """Bars of XNYS from before Thanksgiving to New Year, of an early close and of holidays."""
    days = pl.Series(
        [
            d
            for d in pl.date_range(datetime(2020, 11, 20), datetime(2021, 1, 8), eager=True)
            if d.weekday() < 5 and d.isoformat() not in ("2020-11-26", "2020-12-25", "2021-01-01")
        ]
    )
    times = session_times(days, "XNYS")
    if step < timedelta(days=1):
        times = times.select(pl.datetime_ranges("ts", "known_at", step, closed="left").alias("ts")).explode("ts")
    price = 100 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, times.height + 1)))
    frame = times.select(
        pl.lit("A").alias("symbol"),
        *(c for c in ("ts", "known_at") if c in times.columns),
        open=pl.Series(price[:-1]),
        close=pl.Series(price[1:]),
    )
    frame = frame.with_columns(
        high=pl.max_horizontal("open", "close"),
        low=pl.min_horizontal("open", "close"),
        volume=pl.lit(1.0) + pl.int_range(pl.len()) % 7,
    )
    name = {86400: "1d", 900: "15m"}[int(step.total_seconds())]
    return Dataset(
        DatasetId("test", "A", name), make_bars(frame, step), Instrument("A", "test", "equity", calendar="XNYS")
    )


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(minutes=15)], ids=str)
def test_the_calendar_says_what_is_due(step):
    dataset = sessions(step)
    assert check_bars(dataset).height == 0
    i = dataset.bars["ts"].search_sorted(datetime(2020, 12, 2, tzinfo=UTC))
    holed = replace(dataset, bars=dataset.bars.filter(~N.is_between(i, i + 2)))
    assert found(holed, "bars missing before") == [(3, dataset.bars["ts"][i + 3], dataset.bars["ts"][i + 3])]
    holiday = dataset.bars[i : i + 1].with_columns(
        ts=pl.lit(datetime(2020, 12, 25, 15, tzinfo=UTC)), known_at=pl.lit(datetime(2020, 12, 25, 21, tzinfo=UTC))
    )
    odd = replace(
        dataset,
        bars=pl.concat([dataset.bars, holiday])
        .with_columns(pl.col("ts", "known_at").cast(pl.Datetime("us", "UTC")))
        .sort("ts"),
    )
    assert (
        found(odd, "bars outside sessions") == [(1, holiday["ts"][0], holiday["ts"][0])]
        and found(odd, "bars missing before") == []
    )
    now = dataset.bars["known_at"].max() + timedelta(days=7)
    due = 5 if step == timedelta(days=1) else 5 * 26
    assert found(dataset, "stale", now)[0][0] == due
    assert found(dataset, "stale", dataset.bars["known_at"].max() + timedelta(hours=15)) == []  # closed until tomorrow


def test_a_bar_between_the_times_of_a_session():
    dataset = sessions(timedelta(minutes=15))
    beside = moved(dataset, 40, 1, timedelta(minutes=5))
    assert found(beside, "bars off the time grid") == [(1, beside.bars["ts"][40], beside.bars["ts"][40])]


# Score, quarantine and history.


@seeded
@given(markets, places, st.integers(1, 150))
def test_more_damage_never_scores_more(market, i, k):
    scores = []
    for n in (0, k, k + 50):
        holed = replace(market, bars=market.bars.filter(~N.is_between(i, i + n - 1)))
        findings = check_bars(holed)
        scores.append(quality_score(findings, holed.bars))
        assert scores[-1] == pytest.approx(1 - quality_reasons(findings, holed.bars)["deduction"].sum())
    assert scores[0] > scores[1] > scores[2] > 0.8 and scores[0] - scores[2] == pytest.approx((k + 50) / SIZE, abs=1e-9)


def test_every_rule_is_told():
    for rule in RULES.values():
        assert rule.name and rule.meaning and (0 <= rule.severity <= 10 or rule.severity == FATAL) and rule.evidence
    findings = check_bars(
        edit(make_market("noise", 1, bars=SIZE), close=pl.when(N % 7 == 3).then(pl.col("close") * 2).otherwise("close"))
    )
    assert findings["evidence"].str.len_chars().min() > 20 and findings.columns == [
        "finding",
        "symbol",
        "bars",
        "first",
        "last",
        "severity",
        "evidence",
    ]


def test_two_symbols_do_not_mix():
    a, b = make_market("noise", 1, bars=SIZE), make_market("garch", 2, bars=SIZE)
    both = replace(
        a,
        bars=pl.concat([b.bars, edit(a, volume=inside(300, 100, pl.col("volume") * TYPICAL, "volume")).bars]).sort(
            "symbol", "ts"
        ),
    )
    assert check_bars(both).select("finding", "symbol", "bars").rows() == [
        ("base and quote volume swapped", a.id.symbol, 100)
    ]


def test_an_empty_dataset_has_no_quality():
    nothing = replace(make_market("noise", 1, bars=10), bars=make_market("noise", 1, bars=10).bars.clear())
    assert check_bars(nothing).height == 0 and quality_score(check_bars(nothing), nothing.bars) == 0.0


def test_a_repair_is_a_version_with_its_reason(tmp_path):
    market = make_market("noise", 4, bars=SIZE)
    spiky = edit(market, **{p: inside(300, 1, pl.col(p) * 2, p) for p in PRICES})
    store = DeltaStore(tmp_path)
    store.write(spiky)
    repaired = apply_repairs(spiky, propose_repairs(spiky))
    store.write(repaired, reason=repaired.notes[-1], replace=True)
    assert store.history(market.id).drop("at").rows() == [(0, "", SIZE, 0, 0), (1, repaired.notes[-1], 0, 0, 1)]
    assert store.read(market.id).bars.equals(repaired.bars) and store.read(market.id, version=0).bars.equals(spiky.bars)
    assert "price spike" in store.read(market.id).notes[-1]


# The real hourly file: until October 2020 its volume is the quote volume, but for six weeks of 2019.


@pytest.fixture(scope="module")
def hourly(shared_data):
    return import_file(shared_data / "btc_usd_1h_2018_2022.csv.gz", "market/BTC-USD/1h").dataset


@pytest.fixture(scope="module")
def truth(shared_data):
    """Both volumes of the file, whichever is which: the base volume is the smaller one, at prices above one."""
    raw = pl.read_csv(shared_data / "btc_usd_1h_2018_2022.csv.gz").sort("unix")
    return raw.select(
        ts=pl.from_epoch("unix").dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC")),
        base=pl.min_horizontal("volume", "Volume USD"),
        swapped=pl.col("volume") > pl.col("Volume USD"),
    )


def test_the_real_swap_is_found_to_the_hour(hourly, truth):
    swapped = truth.filter("swapped")
    assert swapped.height == 20_143
    runs = (
        truth.filter(pl.col("base") > 0)
        .with_columns(run=pl.col("swapped").rle_id())
        .filter("swapped")
        .group_by("run")
        .agg(pl.col("ts").min(), last=pl.col("ts").max())
        .sort("run")
    )
    ranges = [(first, last) for _, first, last in found(hourly, "base and quote volume swapped")]
    assert ranges == runs.select("ts", "last").rows()
    assert ranges == [
        (datetime(2018, 5, 15, 6, tzinfo=UTC), datetime(2019, 3, 3, 0, tzinfo=UTC)),
        (datetime(2019, 4, 13, 17, tzinfo=UTC), datetime(2020, 10, 12, 8, tzinfo=UTC)),
    ]
    flagged = offending(hourly, "base and quote volume swapped").filter(pl.col("volume") > 0)
    assert flagged["ts"].equals(swapped["ts"])


def test_the_five_empty_bars_are_reported(hourly):
    assert [t.isoformat()[:16] for t in offending(hourly, "empty bar")["ts"]] == [
        *(f"2020-04-25T{h}:00" for h in (20, 21, 22, 23)),
        "2022-01-05T09:00",
    ]


def test_the_real_swap_is_repaired(hourly, truth):
    """As near to the truth as the typical price is to the average one: the file's quote volume was traded at prices
    within the bar's range."""
    with pytest.raises(DataError, match=r"in quarantine.*base and quote volume swapped \(20,147 bars"):
        require_quality(hourly, QualitySettings())
    repaired = apply_repairs(hourly, propose_repairs(hourly).filter(rule="base and quote volume swapped"))
    both = repaired.bars.join(truth, on="ts").with_columns(
        error=(pl.col("volume") / pl.col("base") - 1).abs(), reach=pl.col("high") / pl.col("low") - 1
    )
    swapped = both.filter("swapped")
    assert swapped["error"].median() < 0.001 and swapped["error"].quantile(0.99) < 0.01
    assert (swapped["error"] <= swapped["reach"] + 1e-3).all()
    assert both.filter(~pl.col("swapped")).select((pl.col("volume") == pl.col("base")).all()).item()
    findings = require_quality(repaired, QualitySettings())
    assert quality_score(findings, repaired.bars) > 0.999 and "base and quote volume swapped" not in findings["finding"]


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("btc_perp_1m_2022_01.csv.gz", {"kind": "perpetual"}),
        ("dj30_1d_valid.csv.gz", {"calendar": "XNYS", "kind": "equity"}),
        ("eth_btc_5m.feather", {}),
        ("ltc_btc_5m.feather", {}),
    ],
)
def test_real_files_are_fit(shared_data, file, options):
    dataset = import_file(shared_data / file, **options).dataset
    findings = require_quality(dataset, QualitySettings(minimum=0.9))
    assert (
        not findings["finding"]
        .is_in(["base and quote volume swapped", "price columns swapped", "price spike", "time shifted", "price stuck"])
        .any()
    )


def test_half_a_step_aside_is_found_and_not_moved():
    """Forward or backward, nobody knows; moved the wrong way they would lie on others."""
    market = make_market("garch", 1, bars=500)
    aside = pl.int_range(pl.len()).is_between(100, 102)
    shifted = replace(
        market,
        bars=market.bars.with_columns(
            pl.when(aside).then(pl.col(c) + timedelta(minutes=30)).otherwise(c).alias(c) for c in ("ts", "known_at")
        ),
    )
    assert check_bars(shifted)["bars"].sum() >= 3
    proposals = propose_repairs(shifted)
    assert not proposals.filter(rule="time shifted").height
    if proposals.height:
        apply_repairs(shifted, proposals)
