"""The Bars contract has a quick check and an explaining one: they must agree."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from algo_research.core.errors import DataError, InputError
from algo_research.data.market.bars import (
    PRICES,
    Dataset,
    DatasetId,
    _contract,
    _keeps_contract,
    bar_end,
    bar_times,
    ceil_time,
    floor_time,
    make_bars,
    resample_bars,
    timeframe_duration,
    timeframe_name,
    validate_bars,
)
from algo_research.data.market.instruments import Instrument
from algo_research.data.quality.rules import check_bars
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.delta import DeltaStore

BARS = make_market("garch", seed=1, bars=50).bars
LAST = pl.int_range(pl.len()) == 49
BROKEN = {
    **{
        f"{c} is {v}": BARS.with_columns(pl.when(LAST).then(v).otherwise(c).alias(c))
        for c in [*PRICES, "volume"]
        for v in (float("nan"), float("inf"))
    },
    **{
        f"{c} is null": BARS.with_columns(pl.when(LAST).then(None).otherwise(c).alias(c))
        for c in ["symbol", "ts", *PRICES, "known_at"]
    },
    "known before": BARS.with_columns(known_at=pl.when(LAST).then("ts").otherwise("known_at")),
    "column missing": BARS.drop("volume"),
    "column more": BARS.with_columns(x=1),
    "order": BARS.select(reversed(BARS.columns)),
    "integer": BARS.with_columns(pl.col("close").cast(pl.Int64)),
    "milliseconds": BARS.with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC"))),
    "no zone": BARS.with_columns(pl.col("ts").dt.replace_time_zone(None)),
}
SOUND = {
    "as made": BARS,
    "no volume": BARS.with_columns(volume=pl.lit(None, pl.Float64)),
    "empty": BARS.clear(),
    "late": BARS.with_columns(pl.col("known_at") + timedelta(days=1)),
}


@pytest.mark.parametrize("case", BROKEN, ids=str)
def test_what_is_broken_is_refused_by_both(case):
    import pandera.errors

    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        _contract().validate(BROKEN[case])
    assert not _keeps_contract(BROKEN[case])
    with pytest.raises(DataError):
        validate_bars(BROKEN[case])


@pytest.mark.parametrize("case", SOUND, ids=str)
def test_what_is_sound_is_accepted_by_both(case):
    _contract().validate(SOUND[case])
    assert _keeps_contract(SOUND[case]) and validate_bars(SOUND[case]) is SOUND[case]


@pytest.mark.parametrize(
    ("timeframe", "moment", "opens"),
    [
        ("3d", (2024, 1, 11), (2024, 1, 9)),
        ("1w", (2024, 1, 11), (2024, 1, 8)),
        ("5h", (1970, 1, 1, 7), (1970, 1, 1, 5)),
        ("1d", (2024, 1, 11, 5), (2024, 1, 11)),
    ],
)
def test_one_grid_for_all(timeframe, moment, opens):
    """Resampled bars, those of an exchange and those of trades open at the same times: weeks on Mondays, else multiples
    since 1970."""
    at, opens = datetime(*moment, tzinfo=UTC), datetime(*opens, tzinfo=UTC)
    assert floor_time(at, timeframe_duration(timeframe)) == opens
    bars = make_market("noise", 1, bars=400, timeframe="1h").bars.with_columns(
        pl.col("ts", "known_at") + (at - datetime(2015, 1, 1, tzinfo=UTC))
    )
    assert resample_bars(bars, "1h", timeframe)["ts"][0] == opens


@pytest.mark.parametrize("names", [("B", "A"), ("A", "A"), ("A", "B")], ids="".join)
def test_symbols_in_order(names):
    """Time begins anew with each symbol, which must be the next one."""
    both = pl.concat([BARS.with_columns(symbol=pl.lit(name)) for name in names])
    if names == ("A", "B"):
        assert validate_bars(both).equals(both)
    else:
        with pytest.raises(DataError, match="must be sorted"):
            validate_bars(both)


def test_months_stand_on_one_grid(tmp_path):
    """Days become months, quarters and years, in memory and in a store, and holes are counted in months."""
    ts = pl.datetime_range(datetime(2019, 11, 15), datetime(2024, 3, 10), "1d", time_zone="UTC", eager=True)
    price = pl.Series(range(1, ts.len() + 1)).cast(pl.Float64)
    frame = pl.DataFrame(
        {"symbol": "X", "ts": ts, **{p: price + n for p, n in zip(PRICES, (0, 3, -1, 2), strict=True)}}
    )
    days = make_bars(frame.with_columns(volume=pl.lit(1.0)), timedelta(days=1))
    months = resample_bars(days, "1d", "1mo")
    assert months["ts"].to_list() == [datetime(2019 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(10, 62)]
    assert months["volume"].to_list()[1:5] == [31, 31, 29, 31] and months["known_at"][3] == datetime(
        2020, 3, 1, tzinfo=UTC
    )
    expected = days.group_by_dynamic("ts", every="1mo").agg(pl.col("close").last(), pl.col("high").max())[:-1]
    assert months["close"].equals(expected["close"]) and months["high"].equals(expected["high"])
    for target in ("3mo", "12mo"):
        assert resample_bars(months, "1mo", target).equals(resample_bars(days, "1d", target))
    assert resample_bars(days, "1d", "3mo")["ts"].dt.month().unique().sort().to_list() == [1, 4, 7, 10]
    store = DeltaStore(tmp_path)
    id = DatasetId.parse("x/X/1d")
    store.write(Dataset(id, days, Instrument("X", "x", "spot")))
    assert store.resample(id, "1mo").bars.equals(months)
    second = timedelta(days=1)
    some = [datetime(2020, n, 1, tzinfo=UTC) for n in (2, 3, 4)]
    part = store.resample(id, "1mo", start=some[0] + second, end=some[2] + second)
    assert part.bars.equals(months.filter(pl.col("ts").is_between(some[1], some[2])))
    monthly = Dataset(id._replace(timeframe="1mo"), months, Instrument("X", "x", "spot"))
    grid = {"bars missing before", "bars off the time grid", "time shifted"}
    assert not grid & set(check_bars(monthly)["finding"])
    assert monthly.periods_per_year == pytest.approx(12, rel=0.01)
    holed = replace(monthly, bars=months.filter(~pl.col("ts").is_in(some[:2])))
    found = check_bars(holed).filter(pl.col("finding").is_in(list(grid)))
    assert found["finding"].to_list() == ["bars missing before"] and found["bars"].sum() == 2
    third = pl.when(pl.col("ts") == months["ts"][7]).then(pl.col("ts") + 2 * second).otherwise("ts")
    moved = replace(monthly, bars=months.with_columns(ts=third))
    assert grid & set(check_bars(moved)["finding"]) == {"bars off the time grid"}


@pytest.mark.parametrize("timeframe", ["1w", "1mo", "2mo", "3mo", "4mo", "6mo", "12mo"])
def test_floor_ceil_and_grid_agree(timeframe):
    step, rng = timeframe_duration(timeframe), random.Random(3)
    assert timeframe_name(step) == timeframe
    for _ in range(300):
        moment = datetime(1960, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(80 * 365 * 86400))
        begin, after = floor_time(moment, step), ceil_time(moment, step)
        assert begin <= moment <= after and floor_time(after, step) == after == ceil_time(after, step)
        assert bar_times(begin, after, step).to_list() == [begin, after]
        assert pl.select(bar_end(pl.lit(begin), step)).item() == after
        assert pl.select(pl.lit(moment).dt.truncate(timeframe)).item() == begin


def test_no_other_months():
    for wrong in ("5mo", "0mo", "24mo", "1M", "1month"):
        with pytest.raises(InputError, match="1mo, 2mo, 3mo"):
            timeframe_duration(wrong)
