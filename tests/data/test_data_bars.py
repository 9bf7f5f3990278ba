"""The Bars contract has a quick check and an explaining one: they must agree."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from algo_research.core.errors import DataError
from algo_research.data.market.bars import (
    PRICES,
    _contract,
    _keeps_contract,
    floor_time,
    resample_bars,
    timeframe_duration,
    validate_bars,
)
from algo_research.data.samples.synthetic import make_market

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
