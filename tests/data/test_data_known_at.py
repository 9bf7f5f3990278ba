"""Whatever a file leaves open and the import decides: no bar is known before it was, and what is told comes back."""

import csv
import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import DataError, InputError
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import MONTH, floor_time
from algo_research.data.market.instruments import exchange_zone, session_schedule, session_times

CLOCK = SimulatedClock(datetime(2027, 1, 1, tzinfo=UTC))
MARKETS = ["24/7", "24/5", "XNYS", "XLON", "XTKS", "XETR"]
STEPS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1)}
CHANGES = [(3, 8), (3, 27), (10, 25), (11, 1), (6, 1), (1, 2)]  # days around which clocks change, and some others
ZONES = ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "Australia/Sydney", "America/Sao_Paulo"]


def market(rng: random.Random) -> tuple[str, str, pl.DataFrame]:
    """A calendar, a timeframe, and bars with the times at which they opened and were known, some of them missing."""
    calendar, timeframe = rng.choice(MARKETS), rng.choice(list(STEPS))
    step = STEPS[timeframe]
    first = date(rng.choice([2018, 2021, 2024]), *rng.choice(CHANGES))
    last = first + timedelta(days=rng.choice([4, 12, 40, 90]) * (8 if timeframe == "1d" else 1))
    if calendar == "24/7":
        opens = pl.datetime_range(first, last, step, time_zone="UTC", time_unit="us", eager=True)
        due = pl.DataFrame({"ts": opens, "known": opens + step})
    else:
        due = session_schedule(calendar, first, last, step)
        end = pl.col("known_at") if timeframe == "1d" else pl.min_horizontal(pl.col("ts") + step, "known_at")
        if calendar == "24/5" and timeframe == "1d":  # some end its days at 17:00 in New York, some at midnight in UTC
            end = (pl.col("date").cast(pl.Datetime("us")) + timedelta(days=1)).dt.replace_time_zone("UTC")
        due = due.select("ts", known=end)
    kept = [rng.random() > rng.choice([0, 0, 0.05]) for _ in range(due.height)]
    due = due.filter(pl.Series(kept, dtype=pl.Boolean))
    return calendar, timeframe, due.with_columns(close=100.0 + pl.int_range(pl.len()) / 8)


FORMS = {
    "iso": "%Y-%m-%d %H:%M:%S",
    "minutes": "%Y-%m-%d %H:%M",
    "numbers": "%Y%m%d%H%M%S",
    "day first": "%d/%m/%Y %H:%M",
    "dots": "%d.%m.%Y %H:%M:%S",
    "name": "%d %b %Y %H:%M",
    "afternoon": "%Y-%m-%d %I:%M:%S %p",
}


def written(rng: random.Random, calendar: str, timeframe: str, bars: pl.DataFrame, path) -> dict:
    """Write them in some way; what the file does not say and whoever has it may tell."""
    zone = rng.choice([*ZONES, "UTC", exchange_zone(calendar) if calendar != "24/7" else "UTC"])
    label = rng.choice(["open", "close"])
    kind = rng.choice([*FORMS, "epoch", "ms", "us", "offset", "date", "two"])
    told = {"label": label}
    times = bars["ts" if label == "open" else "known"].to_list()
    if timeframe == "1d":
        local = exchange_zone(calendar) if calendar != "24/7" else "UTC"
        end = [t - timedelta(hours=3) for t in bars["known"].to_list()]
        rows, told = [[t.astimezone(ZoneInfo(local)).date().isoformat()] for t in end], {}
    elif kind in ("epoch", "ms", "us"):
        factor = {"epoch": 1, "ms": 1000, "us": 10**6}[kind]
        rows = [[int(t.timestamp()) * factor] for t in times]
    elif kind in ("offset", "date"):
        rows = [[t.astimezone(ZoneInfo(zone)).isoformat(sep=rng.choice([" "]))] for t in times]
    else:
        clock = [t.astimezone(ZoneInfo(zone)) for t in times]
        two = kind == "two"
        rows = [[f"{t:%Y-%m-%d}", f"{t:%H:%M}"] if two else [t.strftime(FORMS[kind])] for t in clock]
        told["tz"] = zone
        if kind in ("day first", "dots"):
            told["dates"] = "day-first"
    names = ["date", "time"] if len(rows[0]) == 2 else [rng.choice(["time", "timestamp", "Date"])]
    told["calendar"] = calendar
    both = [[*row, close] for row, close in zip(rows, bars["close"], strict=True)]
    if rng.random() < 0.3:
        both.reverse()
    comma = rng.random() < 0.3
    delimiter = rng.choice(";\t") if comma else rng.choice(",;\t|")
    if comma:
        both = [[*row[:-1], str(row[-1]).replace(".", ",")] for row in both]
    with path.open("w", newline="", encoding=rng.choice(["utf-8", "utf-8-sig"])) as file:
        csv.writer(file, delimiter=delimiter, lineterminator=rng.choice(["\n", "\r\n"])).writerows(
            [[*names, "close"], *both]
        )
    return told


def check(seed: int, folder) -> str:
    """Read a file with some of what could be told; what came of it."""
    rng = random.Random(seed)
    calendar, timeframe, bars = market(rng)
    if bars.height < 3:
        return "too short"
    path = folder / "file.csv"
    told = written(rng, calendar, timeframe, bars, path)
    everything = rng.random() < 0.5
    # without its zone a clock is taken for UTC, and said to be: no file could show that it is not
    needed = {"tz", "dates"} if told.get("tz") not in (None, "UTC") else {"dates"}
    options = {k: v for k, v in told.items() if everything or k in needed or rng.random() < 0.5}
    if not everything:
        options.pop("label", None) if rng.random() < 0.5 else None
    try:
        read = import_file(
            path, clock=CLOCK, **options, **({"timeframe": timeframe} if everything else {})
        ).dataset.bars
    except InputError as error:
        # an hour that a clock shows twice is in the file once: nobody can tell which
        return (
            "refused" if not everything or "nobody can tell" in str(error) else f"told everything, and refused: {error}"
        )
    both = read.join(bars.select("close", right="ts", known="known"), on="close", how="full")
    if both.height != bars.height or both.null_count().select("ts", "right").row(0) != (0, 0):
        return "other bars"
    if (early := both.filter(pl.col("known_at") < pl.col("known"))).height:
        return f"{early.height} bars are known early: {early.row(0)} {options} of {told}"
    if everything and not (
        both["ts"].equals(both["right"].alias("ts")) and both["known_at"].equals(both["known"].alias("known_at"))
    ):
        return f"not what was told: {both.row(0)} {options}"
    return "equal" if both["known_at"].equals(both["known"].alias("known_at")) else "later"


@pytest.mark.parametrize(
    "seeds",
    [range(60), *(pytest.param(range(n, n + 500), marks=pytest.mark.long) for n in range(1000, 6000, 500))],
    ids=str,
)
def test_no_bar_is_known_before_it_was(seeds, tmp_path):
    found = {seed: check(seed, tmp_path) for seed in seeds}
    counts = {what: list(found.values()).count(what) for what in set(found.values())}
    print(counts)
    wrong = {seed: what for seed, what in found.items() if what not in ("equal", "later", "refused", "too short")}
    assert not wrong, (len(wrong), dict(list(wrong.items())[:5]))
    assert counts["equal"] > len(found) / 3 and counts.get("refused", 0) < len(found) / 3


MONTH_NAMES = ["%Y-%m", "%b %Y", "%Y%m"]
MONTH_ZONES = [*ZONES, "Europe/London", "Pacific/Auckland", "Pacific/Honolulu", "Asia/Kolkata", "UTC"]


def check_months(seed: int, folder) -> str:
    """Bars of months of some zone's calendar, written by their beginnings or their ends; what came of reading them."""
    rng = random.Random(seed)
    months, zone = rng.choice([1, 1, 1, 3, 12]), rng.choice(MONTH_ZONES)
    kind = rng.choice(["epoch", "ms", "iso", "offset", "date", "working", "holidays", *MONTH_NAMES])
    if kind in ("date", "working", "holidays", *MONTH_NAMES):
        zone = "UTC"  # dates are read as those of UTC, as those of days are
    first = rng.choice([1985, 1990]) * 12 + rng.randrange(12) // months * months
    numbers = [first + n * months for n in range(rng.choice([3, 15, 30 if months == 12 else 100]))]
    begins = [datetime(n // 12, n % 12 + 1, 1, tzinfo=ZoneInfo(zone)) for n in [*numbers, numbers[-1] + months]]
    label = rng.choice(["open", "close"])
    options, opens, ends = {}, begins[:-1], begins[1:]
    times = opens if label == "open" else ends if rng.random() < 0.3 else [t - timedelta(hours=3) for t in ends]
    dates = kind in ("date", "working", "holidays")
    if kind in MONTH_NAMES:  # the first of a bar's months, or the last, which must be told
        times = opens if label == "open" else ends
        rows = [(t if label == "open" else t - timedelta(days=1)).strftime(kind) for t in times]
        if label == "close":
            options["label"] = label
    elif dates:
        days = [
            t.date() if label == "open" else t.date() - timedelta(days=1) for t in (opens if label == "open" else ends)
        ]
        step = 1 if label == "open" else -1
        while kind != "date" and any(d.weekday() > 4 for d in days):
            days = [d + timedelta(days=step * (d.weekday() > 4)) for d in days]
        if kind == "holidays" and len(days) > 3:  # of a week, once a year; the last row would seem to be running
            away = [4 * step * (d.month == 2 and d != days[-1] and rng.random() < 0.7) for d in days]
            days = [d + timedelta(days=n) for d, n in zip(days, away, strict=True)]
        rows = [f"{d}" for d in days]
    elif kind == "iso":
        rows, options["tz"] = [f"{t:%Y-%m-%d %H:%M}" for t in times], zone
    elif kind == "offset":
        rows = [t.isoformat(sep=" ") for t in times]
    else:
        rows = [int(t.timestamp()) * (1000 if kind == "ms" else 1) for t in times]
    named = dates or kind in MONTH_NAMES
    if (not named and rng.random() < 0.7) or (times is ends and not dates):
        options["label"] = label
    held = {rng.randrange(1, len(rows) - 1)} if len(rows) > 10 else set()
    lines = [f"{row};{100 + n}" for n, row in enumerate(rows) if n not in held]
    path = folder / "file.csv"
    path.write_text("\n".join(["Date;Close", *(lines if rng.random() < 0.7 else lines[::-1])]) + "\n")
    try:
        found = import_file(path, clock=CLOCK, **options).dataset
    except InputError as error:
        in_utc = [t.astimezone(UTC) for t in times]
        mixed = 0 < sum(t.day < 5 for t in in_utc) < len(times)  # by summer time, of two months in UTC
        sure = named or kind == "iso" or "label" in options or all(t.day < 5 for t in in_utc)
        return f"refused: {error} {kind} {label} {zone} {options}" if sure and not mixed else "refused"
    known = times if label == "close" and not named else ends
    right = [
        (datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC), end.astimezone(UTC), 100.0 + i)
        for i, (n, end) in enumerate(zip(numbers, known, strict=True))
        if i not in held
    ]
    bars = found.bars.select("ts", "known_at", "close").rows()
    if label == "close" and "label" not in options and bars[0][0] > right[0][0]:  # taken for beginnings, and said
        right = [(floor_time(r[1] + timedelta(hours=1), months * MONTH), *r[1:]) for r in right]
    if found.id.timeframe != f"{months}mo" or [(b[0], b[2]) for b in bars] != [(r[0], r[2]) for r in right]:
        return f"other bars: {found.id.timeframe} {bars[:2]} {right[:2]} {kind} {label} {zone} {options}"
    early = [(b, r) for b, r in zip(bars, right, strict=True) if b[1] < r[1]]
    if early:
        return f"early: {kind} {label} {zone} {options} {early[0]}"
    return "right"


@pytest.mark.parametrize("seeds", [range(80), pytest.param(range(1000, 4000), marks=pytest.mark.long)], ids=str)
def test_no_month_is_known_before_it_was_over(seeds, tmp_path):
    found = {seed: check_months(seed, tmp_path) for seed in seeds}
    wrong = {seed: what for seed, what in found.items() if what not in ("right", "refused")}
    assert not wrong, (len(wrong), dict(list(wrong.items())[:8]))
    assert list(found.values()).count("refused") < len(found) / 4


@pytest.mark.parametrize("calendar", ["ASEX", "BVB", "XBEL", "XBSE", "XCYS", "XTAE"])
def test_a_calendar_tells_its_sessions_or_is_refused(calendar):
    """Which of these can be made is up to the versions of what makes them."""
    day = date(2021, 6, 15)
    try:
        session = session_times(pl.Series([day]), calendar)
    except DataError as refused:
        assert f"sessions of {calendar}" in str(refused) and "Choose another calendar" in str(refused)
        assert not str(refused).count("..")
    else:
        assert session["ts"].dt.date().to_list() == [day]
