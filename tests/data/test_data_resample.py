"""Days, weeks and months of sessions: each bar belongs to the date of its session, by plain arithmetic on dates."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from algo_research.core.errors import InputError
from algo_research.data.market.bars import (
    BARS_SCHEMA,
    Dataset,
    DatasetId,
    month_count,
    resample_bars,
    timeframe_duration,
    validate_bars,
)
from algo_research.data.market.instruments import ALWAYS, Instrument, session_bars, session_schedule
from algo_research.data.stores.delta import DeltaStore

DAY = timedelta(days=1)
CALENDARS = ["XNYS", "XASX", "XTKS", "XSHG", "CMES", "24/5"]
TARGETS = ["1w", "1mo", "2mo", "3mo", "4mo", "6mo", "12mo"]


def priced(rows, symbol="X", seed=0):
    """Bars at (date, opens, ends), each with its date beside it; of every third no volume is known."""
    rng, n = np.random.default_rng(seed), len(rows)
    low = rng.uniform(90, 100, n)
    volume = [None if i % 3 == 0 else float(rng.integers(1, 99)) for i in range(n)]
    prices = {"open": low + 1, "high": low + 2 + rng.random(n), "low": low, "close": low + 2 * rng.random(n)}
    times = {"ts": [r[1] for r in rows], "known_at": [r[2] for r in rows]}
    frame = pl.DataFrame({"symbol": [symbol] * n, **prices, "volume": volume, **times})
    frame = frame.select(pl.col(name).cast(dtype) for name, dtype in BARS_SCHEMA.items())
    return frame, [r[0] for r in rows]


def due(calendar, first, last, step=DAY):
    return session_bars(calendar, first, last, step).rows()


def begin_of(day, timeframe):
    if timeframe == "1w":
        return day - timedelta(days=day.weekday())
    months = month_count(timeframe_duration(timeframe))
    number = (day.year * 12 + day.month - 1) // months * months
    return date(number // 12, number % 12 + 1, 1)


def end_of(begin, timeframe):
    step = 40 * max(1, month_count(timeframe_duration(timeframe)))
    return next(d for n in range(1, step) if begin_of(d := begin + timedelta(days=n), timeframe) != begin)


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def by_hand(bars, dates, timeframe):
    """Every coarse bar, by the dates of its bars."""
    groups = {}
    for day, row in zip(dates, bars.rows(named=True), strict=True):
        groups.setdefault(begin_of(day, timeframe), []).append(row)
    out = []
    for begin, rows in groups.items():
        volumes = [r["volume"] for r in rows if r["volume"] is not None]
        out.append(
            {
                "symbol": rows[0]["symbol"],
                "ts": midnight(begin),
                "open": rows[0]["open"],
                "high": max(r["high"] for r in rows),
                "low": min(r["low"] for r in rows),
                "close": rows[-1]["close"],
                "volume": sum(volumes) if volumes else None,
                "known_at": max(midnight(end_of(begin, timeframe)), *(r["known_at"] for r in rows)),
            }
        )
    return pl.DataFrame(out, schema=BARS_SCHEMA)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("calendar", CALENDARS)
def test_sessions_make_weeks_and_months_by_their_dates(calendar, target):
    bars, dates = priced(due(calendar, date(2023, 11, 16), date(2024, 12, 31)))
    assert validate_bars(bars).height > 250
    expected = by_hand(bars, dates, target)
    found = resample_bars(bars, "1d", target, calendar)
    assert found.equals(expected[:-1] if target == "1w" and calendar != "XTKS" else expected)  # a Tuesday
    assert validate_bars(found).schema == pl.Schema(BARS_SCHEMA)


@pytest.mark.parametrize("step", ["1h", "30m"])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_hours_of_sessions_make_what_their_days_make(calendar, step):
    """Early closes, pauses at noon and changes of the clock in all of them."""
    first, last = date(2024, 2, 20), date(2024, 12, 31)
    bars, dates = priced(due(calendar, first, last, timeframe_duration(step)))
    for target in ("1w", "1mo", "3mo"):
        expected = by_hand(bars, dates, target)
        found = resample_bars(bars, step, target, calendar)
        assert found.equals(expected[:-1] if target == "1w" and calendar != "XTKS" else expected)  # closed from then on
    days = resample_bars(bars, step, "1d", calendar)
    sessions = session_schedule(calendar, first, last, DAY)
    assert days["ts"].equals(sessions["ts"]) and days["known_at"].equals(sessions["known_at"])
    assert days["close"].equals(bars.with_columns(date=pl.Series(dates)).group_by("date").last().sort("date")["close"])
    assert resample_bars(days, "1d", "1mo", calendar).equals(resample_bars(bars, step, "1mo", calendar))


def test_sydneys_first_of_the_month_opens_on_the_last():
    bars, _ = priced(due("XASX", date(2024, 1, 29), date(2024, 2, 29)))
    assert datetime(2024, 1, 31, 23, tzinfo=UTC) in bars["ts"].to_list()
    months = resample_bars(bars, "1d", "1mo", "XASX")
    assert months["ts"].to_list() == [datetime(2024, m, 1, tzinfo=UTC) for m in (1, 2)]
    assert months["open"][1] == bars.filter(ts=datetime(2024, 1, 31, 23, tzinfo=UTC))["open"][0]
    assert resample_bars(bars, "1d", "1mo")["close"][0] == bars["close"][3] and months["close"][0] == bars["close"][2]


def test_a_month_is_over_with_its_last_session():
    """Good Friday was the last weekday of March 2024."""
    bars, _ = priced(due("XNYS", date(2024, 2, 1), date(2024, 3, 28)))
    months = resample_bars(bars, "1d", "1mo", "XNYS")
    assert months["ts"].dt.month().to_list() == [2, 3] and months["known_at"][1] == datetime(2024, 4, 1, tzinfo=UTC)
    assert resample_bars(bars[:-1], "1d", "1mo", "XNYS").equals(months[:1])
    assert resample_bars(bars, "1d", "1w", "XNYS")["ts"][-1] == datetime(2024, 3, 25, tzinfo=UTC)
    assert resample_bars(bars[:-1], "1d", "1w", "XNYS")["ts"][-1] == datetime(2024, 3, 18, tzinfo=UTC)
    april, _ = priced(due("XNYS", date(2024, 4, 1), date(2024, 4, 1)))
    later = resample_bars(pl.concat([bars[:-1], april]), "1d", "1mo", "XNYS")
    assert later["ts"].equals(months["ts"]) and later["close"][1] == bars["close"][-2]


@pytest.mark.parametrize("step", ["1h", "30m", "5m"])
def test_an_early_close_ends_its_day_week_and_month(step):
    """The last session of November 2024 closed at one o'clock."""
    bars, dates = priced(due("XNYS", date(2024, 11, 1), date(2024, 11, 29), timeframe_duration(step)))
    assert bars["known_at"][-1] == datetime(2024, 11, 29, 18, tzinfo=UTC)
    for target, count in (("1d", len(set(dates))), ("1w", 5), ("1mo", 1)):
        assert resample_bars(bars, step, target, "XNYS").height == count
        assert resample_bars(bars[:-1], step, target, "XNYS").height == count - 1
    days = resample_bars(bars, step, "1d", "XNYS")
    assert days["known_at"][-1] == datetime(2024, 11, 29, 18, tzinfo=UTC)


def test_tokyo_pauses_at_noon():
    bars, _ = priced(due("XTKS", date(2024, 3, 4), date(2024, 3, 6), timedelta(minutes=30)))
    days = resample_bars(bars, "30m", "1d", "XTKS")
    assert days["ts"].to_list() == [datetime(2024, 3, d, tzinfo=UTC) for d in (4, 5, 6)]
    assert days["known_at"].to_list() == [datetime(2024, 3, d, 6, tzinfo=UTC) for d in (4, 5, 6)]
    morning = bars.filter(pl.col("ts") < datetime(2024, 3, 6, 3, tzinfo=UTC))
    assert resample_bars(morning, "30m", "1d", "XTKS").equals(days[:2])
    holed = bars.filter(pl.col("ts") != bars["ts"][9])  # the last one of the first day, and later bars are there
    assert resample_bars(holed, "30m", "1d", "XTKS")["known_at"].equals(days["known_at"])


def test_a_week_of_currencies_begins_on_sunday_evening():
    hours, dates = priced(due("24/5", date(2024, 2, 26), date(2024, 3, 15), timedelta(hours=1)))
    assert hours["ts"][0] == datetime(2024, 2, 25, 22, tzinfo=UTC)
    weeks = resample_bars(hours, "1h", "1w", "24/5")
    assert weeks["ts"].to_list() == [datetime(2024, 2, 26, tzinfo=UTC) + n * 7 * DAY for n in range(3)]
    assert weeks.equals(by_hand(hours, dates, "1w"))
    assert resample_bars(hours[:-1], "1h", "1w", "24/5").equals(weeks[:2])
    # four hours by the clock begin before Sunday's opening, and reach into Monday's session
    ts = [datetime(2024, 2, 25, 20, tzinfo=UTC) + n * timedelta(hours=4) for n in range(31)]
    four, _ = priced([(None, t, t + timedelta(hours=4)) for t in ts])
    assert resample_bars(four, "4h", "1w", "24/5")["open"].to_list() == [four["open"][0]]


def test_what_lies_outside_the_calendar_has_a_date():
    """A holiday, a Saturday, hours before the opening: nothing is lost."""
    holiday = (date(2024, 3, 29), datetime(2024, 3, 29, 13, 30, tzinfo=UTC), datetime(2024, 3, 29, 20, tzinfo=UTC))
    saturday = (date(2024, 3, 30), datetime(2024, 3, 30, 13, 30, tzinfo=UTC), datetime(2024, 3, 30, 20, tzinfo=UTC))
    bars, dates = priced([*due("XNYS", date(2024, 2, 20), date(2024, 3, 28)), holiday, saturday])
    months = resample_bars(bars, "1d", "1mo", "XNYS")
    assert months.equals(by_hand(bars, dates, "1mo")) and months["close"][-1] == bars["close"][-1]
    sunday = datetime(2024, 3, 31, 20, tzinfo=UTC)
    late, dates = priced([*due("XNYS", date(2024, 3, 25), date(2024, 3, 28), timedelta(hours=1)),
                          (date(2024, 3, 29), holiday[1], holiday[1] + timedelta(hours=1)),
                          (date(2024, 3, 31), sunday, sunday + timedelta(hours=1)),
                          (date(2024, 4, 1), sunday + timedelta(hours=16), sunday + timedelta(hours=17))])  # fmt: skip
    days = resample_bars(late, "1h", "1d", "XNYS")
    outside = days.filter(pl.col("ts") >= datetime(2024, 3, 29, tzinfo=UTC))
    assert outside["ts"].to_list() == [datetime(2024, 3, d, tzinfo=UTC) for d in (29, 31)]
    assert outside["known_at"].to_list() == [datetime(2024, 3, 30, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)]
    assert days["volume"].sum() == late["volume"][:-1].sum()  # the first of April has not closed
    assert resample_bars(late, "1h", "1mo", "XNYS").equals(by_hand(late, dates, "1mo")[:1])
    # it is not known whether the day without a session is over
    assert resample_bars(late[:-2], "1h", "1d", "XNYS")["ts"].equals(days["ts"][:-2])


@pytest.mark.parametrize("first", [date(2024, 1, 1), date(2024, 7, 1)])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_days_that_are_written_as_midnights_keep_their_dates(calendar, first):
    days = [row[0] for row in due(calendar, first, first + 130 * DAY)]
    bars, dates = priced([(d, midnight(d), midnight(d) + DAY) for d in days])
    for target in ("1w", "1mo"):
        found = resample_bars(bars, "1d", target, calendar)
        assert found.equals(by_hand(bars, dates, target)[: found.height]) and found.height >= 4


def test_nothing_is_known_too_early():
    bars, dates = priced(due("XNYS", date(2024, 1, 2), date(2024, 3, 28)))
    late = datetime(2024, 5, 7, tzinfo=UTC)
    bars = bars.with_columns(known_at=pl.when(pl.int_range(pl.len()) == 3).then(late).otherwise("known_at"))
    for target in ("1w", "1mo"):
        found = resample_bars(bars, "1d", target, "XNYS")
        assert found.equals(by_hand(bars, dates, target)) and found["known_at"][0] == late
    hours, _ = priced(due("XNYS", date(2024, 1, 2), date(2024, 1, 3), timedelta(hours=1)))
    hours = hours.with_columns(known_at=pl.when(pl.int_range(pl.len()) == 3).then(late).otherwise("known_at"))
    assert resample_bars(hours, "1h", "1d", "XNYS")["known_at"].to_list() == [late, hours["known_at"][-1]]


def test_a_symbol_ends_by_itself():
    rows = due("XNYS", date(2024, 1, 2), date(2024, 3, 28))
    parts = [priced(rows[:n], symbol, seed)[0] for seed, (symbol, n) in enumerate([("A", 61), ("B", 60), ("C", 21)])]
    months = resample_bars(pl.concat(parts), "1d", "1mo", "XNYS")
    assert months.group_by("symbol", maintain_order=True).len().rows() == [("A", 3), ("B", 2), ("C", 1)]
    assert months.filter(symbol="B").equals(resample_bars(parts[1], "1d", "1mo", "XNYS"))


def test_holidays_that_nobody_knows_yet_are_not_needed():
    """Shanghai's holidays are known until the end of 2026."""
    bars, dates = priced(due("XSHG", date(2026, 10, 9), date(2026, 12, 22)))
    assert resample_bars(bars, "1d", "1mo", "XSHG").equals(by_hand(bars, dates, "1mo")[:-1])
    assert resample_bars(bars, "1d", "12mo", "XSHG").height == 0


@pytest.mark.parametrize(("source", "target"), [("1d", "2d"), ("1d", "3d"), ("1h", "2d"), ("1d", "2w"), ("1m", "10d")])
def test_other_days_of_sessions_are_refused(source, target):
    bars, _ = priced(due("XNYS", date(2024, 1, 2), date(2024, 1, 31), timeframe_duration(source)))
    with pytest.raises(InputError, match=rf"no bars of {target}.*XNYS.*1w.*1mo"):
        resample_bars(bars, source, target, "XNYS")
    with pytest.raises(InputError, match="whole multiples of 1d"):
        resample_bars(bars, "1d", "1h", "XNYS")


def test_bars_of_weeks_and_months_have_no_sessions():
    bars, _ = priced(due("XNYS", date(2020, 1, 2), date(2024, 12, 31)))
    months = resample_bars(bars, "1d", "1mo", "XNYS")
    for calendar in (ALWAYS, "XNYS"):
        assert resample_bars(months, "1mo", "3mo", calendar).equals(resample_bars(bars, "1d", "3mo", "XNYS"))


@pytest.mark.parametrize("target", ["1d", "1w", "1mo", "3mo"])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_a_range_is_the_whole_cut(tmp_path, calendar, target):
    """Half-open, on the times of the coarse bars; holes, early ends and bars outside the calendar included."""
    rng, store = random.Random(f"{calendar} {target}"), DeltaStore(tmp_path)
    step = "4h" if target == "1d" else rng.choice(["4h", "1d"])
    rows = due(calendar, date(2023, 12, 20), date(2024, 7, 31), timeframe_duration(step))
    holed = [row for row in rows if rng.random() > 0.1 and not 30 < row[0].timetuple().tm_yday < 36]
    strange = [(None, t := datetime(2024, 1, 6, 12, tzinfo=UTC) + n * 7 * DAY, t + DAY) for n in range(9)]
    parts = [priced(sorted({r[1]: r for r in part}.values(), key=lambda r: r[1]), symbol)[0]
             for symbol, part in (("A", rows), ("B", [*holed, *strange]), ("C", rows[: len(rows) // 3]))]  # fmt: skip
    instrument = Instrument("X", "test", "equity", calendar=calendar)
    dataset = Dataset(DatasetId("test", "X", step), validate_bars(pl.concat(parts)), instrument)
    store.write(dataset)
    whole = store.resample(dataset.id, target)
    assert whole.bars.equals(resample_bars(dataset.bars, step, target, calendar)) and whole.bars.height > 5
    assert whole.instrument == replace(instrument, calendar=calendar if target == "1d" else ALWAYS)
    assert target == "1d" or whole.periods_per_year == pytest.approx({"1w": 52, "1mo": 12, "3mo": 4}[target], rel=0.01)
    edges = [
        datetime(2023, 12, 1, tzinfo=UTC),
        datetime(2024, 9, 1, tzinfo=UTC),
        *rng.sample(whole.bars["ts"].to_list(), 5),
    ]
    for _ in range(8):
        start, end = (
            rng.choice(edges) + rng.choice([0, 1, 0, 13]) * rng.choice([1, -1]) * timedelta(hours=1) for _ in "ab"
        )
        part = store.resample(dataset.id, target, start=start, end=end).bars
        assert part.equals(whole.bars.filter(pl.col("ts") >= start, pl.col("ts") < end)), (start, end)
        one = store.resample(dataset.id, target, ["B"], start=start).bars
        assert one.equals(whole.bars.filter(pl.col("symbol") == "B", pl.col("ts") >= start))
        assert store.resample(dataset.id, target, end=end).bars.equals(whole.bars.filter(pl.col("ts") < end))
