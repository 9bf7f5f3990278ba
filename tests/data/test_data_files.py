"""Files in the shapes that people bring: read right, or refused with the way in; never a number that looks right."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from support.files import (
    BARS,
    DATES,
    HOUR,
    HOURS,
    NAMES,
    OPENED,
    WEEK,
    Shape,
    epoch,
    lines,
    of_months,
    refused,
    shapes,
    zipped,
)

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import InputError
from algo_research.data.intake.importing import import_file, import_files
from algo_research.data.intake.times import LETTERS, UNCLEAR, to_utc
from algo_research.data.market.instruments import session_schedule

CLOCK = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
SHAPES, REFUSED = shapes() | of_months(), refused()


def read(folder, shape: Shape, **options):
    (folder / shape.name).write_bytes(shape.content)
    return import_file(folder / shape.name, clock=CLOCK, **{**shape.options, **options})


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_is_read_right(name, tmp_path):
    shape = SHAPES[name]
    imported = read(tmp_path, shape)
    dataset, symbols = imported.dataset, shape.symbol.split("+")
    assert dataset.symbols == symbols and dataset.id.timeframe == shape.timeframe
    assert dataset.instrument.calendar == shape.calendar and dataset.adjustment == shape.adjustment
    for symbol in symbols:
        bars = dataset.bars.filter(symbol=symbol)
        assert bars["ts"].to_list() == list(shape.opens)
        assert bars["known_at"].to_list() == list(shape.known)
        assert bars["close"].to_list() == pytest.approx([bar[3] for bar in shape.bars], rel=1e-12)
        if not dataset.close_only:
            assert bars["open"].to_list() == pytest.approx([bar[0] for bar in shape.bars], rel=1e-12)
            assert bars["high"].to_list() == pytest.approx([bar[1] for bar in shape.bars], rel=1e-12)
        volume = [bar[4] for bar in shape.bars] if shape.volume else [None] * len(shape.bars)
        assert bars["volume"].to_list() == volume
    assert shape.says in " | ".join(imported.decisions)
    if "taken for UTC" in shape.says:
        assert any("taken for UTC" in note for note in dataset.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_right_is_refused_with_the_way_in(name, tmp_path):
    content, options, answer = REFUSED[name]
    (tmp_path / "file.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        import_file(tmp_path / "file.csv", clock=CLOCK, **options)
    assert answer in str(error.value) and str(error.value).endswith((".", "?", ".0", "m", ","))


def test_there_are_as_many_as_the_docs_say():
    assert len(SHAPES) >= 40 and len(REFUSED) >= 20


def table() -> list[str]:
    """The rows of the tables in the docs."""
    read_as = [
        f"| {name} | {len(s.opens)} of {s.timeframe} | {s.calendar} | {s.opens[0]:%Y-%m-%d %H:%M} "
        f"| {s.known[0]:%Y-%m-%d %H:%M} | {s.says} |"
        for name, s in SHAPES.items()
    ]
    return [*read_as, *(f"| {name} | {answer} |" for name, (_, _, answer) in REFUSED.items())]


def test_the_docs_list_them():
    docs = (Path(__file__).parents[2] / "docs" / "howto" / "import.md").read_text().splitlines()
    rows = table()
    names = {row.split("|")[1] for row in rows}
    assert [row for row in rows if row not in docs] == []
    assert [row for row in docs if row.count("|") in (3, 7) and row.split("|")[1] in names and row not in rows] == []


def test_the_docs_list_the_letters_of_zones():
    rows = (Path(__file__).parents[2] / "docs" / "howto" / "import.md").read_text().splitlines()
    cells = {word: row.split("|")[2] for row in rows if row.count("|") == 3 for word in row.split("|")[1].split(" or ")}
    listed = {word.strip(): offset for word, offset in cells.items()}
    for readings in ({word: {"": minutes} for word, minutes in LETTERS.items()}, UNCLEAR):
        for word, offsets in readings.items():
            for minutes in offsets.values():
                assert f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" in listed[word]


def test_the_way_in_leads_to_the_right_bars(tmp_path):
    """What a refusal proposes is tried, and gives the bars that the file holds, not others."""
    right = [bar[3] for bar in BARS]
    for name, told in (
        ("an odd step", {"timeframe": "37m"}),
        ("dates of hours", {}),
        ("day or month", {"dates": "month-first", "timeframe": "1d", "calendar": "24/7"}),
        ("a thousand or one and a bit", {"decimal": "."}),
        ("closed at hours of no exchange", {"calendar": "24/7"}),
    ):
        content, options, _ = REFUSED[name]
        if name == "dates of hours":
            rows = [[f"{t:%Y-%m-%d}", f"{t:%H:%M}", *bar] for t, bar in zip(HOURS, BARS, strict=True)]
            content, told = lines([["day", "hour", *NAMES[1:]], *rows]), {"columns": {"ts": "day", "clock": "hour"}}
        (tmp_path / "file.csv").write_bytes(content)
        dataset = import_file(tmp_path / "file.csv", clock=CLOCK, **{**options, **told}).dataset
        if name in ("an odd step", "dates of hours"):
            assert dataset.bars["close"].to_list() == right
        if name == "day or month":
            assert dataset.bars["ts"].dt.date().to_list()[0].isoformat() == "2024-01-02"
        if name == "a thousand or one and a bit":
            assert dataset.bars["close"][0] == 1235
        if name == "closed at hours of no exchange":
            assert dataset.instrument.calendar == "24/7"


def months(folder, first=0, cut=48, **changed):
    (folder / "XBTUSD_60_2024-12.csv").write_bytes(
        lines([[epoch(t), *b, 7] for t, b in zip(HOURS[:cut], BARS, strict=False)])
    )
    rows = [[epoch(t), *changed.get("bar", b), 7] for t, b in zip(HOURS[first:], BARS[first:], strict=True)]
    (folder / "XBTUSD_60_2025-01.csv").write_bytes(lines(rows))
    return sorted(folder.glob("XBTUSD*"))


def test_several_files_are_one_dataset(tmp_path):
    for first in (48, 40):  # side by side, and with bars in both
        imported = import_files(months(tmp_path, first), "kraken/XBT-USD/1h", CLOCK)
        assert imported.dataset.bars["close"].to_list() == [bar[3] for bar in BARS]
        assert imported.dataset.symbols == ["XBT-USD"] and str(imported.dataset.id) == "kraken/XBT-USD/1h"
    with pytest.raises(InputError, match=r"bars are in two files with other values"):
        import_files(months(tmp_path, 40, bar=(1, 2, 1, 2, 3)), "kraken/XBT-USD/1h", CLOCK)


@pytest.mark.parametrize(
    ("files", "answer"),
    [
        ({"a.csv": b"1", "b.csv": b"2"}, "holds 2 files: a.csv, b.csv. Unpack it"),
        ({}, "holds 0 files"),
        ({"a.csv.gz": b"1"}, "'a.csv.gz' is no text"),
        ({"a.parquet": b"1"}, "'a.parquet' is no text"),
        ({"a.csv": b"time,close\n" + b"1700000000,1\n" * 6_000_000}, "100 times are allowed"),
    ],
)
def test_a_zip_that_is_not_one_text_is_refused(files, answer, tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(files))
    with pytest.raises(InputError) as error:
        import_file(tmp_path / "a.zip", clock=CLOCK)
    assert answer in str(error.value)


def test_a_torn_zip_is_refused(tmp_path):
    whole = SHAPES["a zip"].content
    for cut in (40, len(whole) // 2, len(whole) - 5):
        (tmp_path / "a.csv.zip").write_bytes(whole[:cut])
        with pytest.raises(InputError):
            import_file(tmp_path / "a.csv.zip", clock=CLOCK)


def test_a_symbol_a_file(tmp_path):
    for symbol in ("AAPL", "MSFT"):
        (tmp_path / f"{symbol}.csv").write_bytes(SHAPES["day first"].content)
    imported = import_files(sorted(tmp_path.glob("*.csv")), "mine/GROUP/1d", CLOCK, kind="equity")
    assert imported.dataset.symbols == ["AAPL", "MSFT"] and imported.dataset.instrument.calendar == "XNYS"
    (tmp_path / "hours.csv").write_bytes(SHAPES["no zone"].content)
    with pytest.raises(InputError, match="The id says 1d and the bars span 1h"):
        import_files(sorted(tmp_path.glob("*.csv")), "mine/GROUP/1d", CLOCK)


def test_a_bar_that_was_open_when_the_file_was_written_is_not_its_last_word(tmp_path):
    import os

    shape = SHAPES["kraken"]
    (tmp_path / shape.name).write_bytes(shape.content)
    written = HOURS[-1].timestamp() + 1800
    os.utime(tmp_path / shape.name, (written, written))
    imported = import_file(tmp_path / shape.name, clock=CLOCK)
    assert imported.dataset.bars.height == len(HOURS) - 1
    assert any("open when the file was written (2025-01-02 23:30 UTC)" in text for text in imported.decisions)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_local_clock_comes_back_as_it_was(zone, newest_first):
    """A year of hours of two symbols, both changes of the clock in it."""
    moments = pl.datetime_range(
        datetime(2024, 1, 1), datetime(2024, 12, 31), "30m", time_zone="UTC", time_unit="us", eager=True
    )
    clock = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    frame = pl.DataFrame(
        {"clock": [*clock, *clock], "right": [*moments, *moments], "symbol": ["A"] * len(clock) + ["B"] * len(clock)}
    )
    frame = frame.cast({"clock": pl.Datetime("us"), "right": pl.Datetime("us", "UTC")})
    frame = frame.sort("right", maintain_order=True, descending=newest_first)
    assert to_utc(frame["clock"], zone, frame["symbol"]).equals(frame["right"].alias("clock"))
    assert frame["right"][1] == frame["right"][0] and HOUR


DAYS = [day.isoformat() for day in DATES]
NAMED = "Date,Open,High,Low,Close,Volume\n"


def text(times, cells="1,2,0.5,1.5,10", names=NAMED) -> str:
    return names + "\n".join(f"{time},{cells}" for time in times)


def epochs(count=40, step=3600):
    return [int(HOURS[0].timestamp()) + step * n for n in range(count)]


def clock(moments, zone, form="%Y-%m-%d %H:%M"):
    return [moment.astimezone(ZoneInfo(zone)).strftime(form) for moment in moments]


FIVES = session_schedule("XNYS", date(2024, 1, 2), date(2024, 1, 31), timedelta(minutes=5))["ts"].to_list()
CLOSES = sorted({*FIVES, *(t.replace(hour=21, minute=0) for t in FIVES)})[6:]  # one at 16:00, and late on the first day
# the file, what is told, and what comes of it: part of the refusal, or of the first bar and the rest
FOUND = {
    "before a calendar is known": (
        text(session_schedule("XNYS", date(1990, 1, 2), date(1990, 6, 29), timedelta(days=1))["date"].to_list()),
        {}, "XNYS"),
    "a stray first row": (text([946_684_800, *epochs(400, 1)], names=""), {}, "first and last row"),
    "prices in another order": (text(epochs(), "42000,41801.95,42042,41760.15,46249,19332", ""), {}, "for close was"),
    "tickers that are words": (
        "Price,Close,Close,Open,Open,High,High,Low,Low\nTicker,V,LOW,V,LOW,V,LOW,V,LOW\nDate,,,,,,,,\n"
        + text(DAYS, "2,3,2,3,2,3,2,3", ""), {}, "LOW V"),
    "tickers under nothing": (
        ",Close,Close,Open,Open,High,High,Low,Low\n,V,LOW,V,LOW,V,LOW,V,LOW\nDate,,,,,,,,\n"
        + text(DAYS, "2,3,2,3,2,3,2,3", ""), {}, "LOW V"),
    "companies by a letter": (text(DAYS, "50,180,70,45", "Date,C,H,L,O\n"), {}, "No column for close"),
    "points for thousands": (
        text(DAYS, "16.200;16.222;16.183;16.206", "Datum,Open;High;Low;Close\n").replace(",", ";"), {}, "--decimal"),
    "a volume of -1": (text(epochs(), "1,2,0.5,1.5,-1"), {}, "volume is -1"),
    "a last delimiter": (text(DAYS, "1,2,0.5,1.5,10,"), {}, "10.0"),
    "hours as numbers": (
        text([f"{t:%Y-%m-%d},{t.hour}" for t in HOURS], names="Date,Time,Open,High,Low,Close,Volume\n"), {}, "1h"),
    "a bar at the close": (text(clock(CLOSES, "America/New_York")), {}, "--tz ZONE"),
    "a bar at the close, told": (
        text(clock(CLOSES, "America/New_York")), {"tz": "America/New_York"}, "2024-01-02 15:00 2024-01-02 15:05"),
    "currencies by Chicago's clock": (text(clock(WEEK, "America/Chicago")), {}, "--tz ZONE"),
    "currencies by a server's clock": (text(clock(WEEK, "Europe/Athens")), {}, "--tz ZONE"),
    "days of currencies": (
        text(epochs(5, 86_400) + [t + 7 * 86_400 for t in epochs(5, 86_400)]), {}, "2024-12-31 00:00"),
    "hours before and after": (
        text(clock([opened + timedelta(hours=n) for opened in OPENED for n in range(-5, 10)], "America/New_York")),
        {"calendar": "XNYS", "tz": "America/New_York", "timeframe": "1h"}, "bars and calendar disagree"),
    "an index in a name": (text(epochs(), "2781,1,2,0.5,1.5,10", "time,name,open,high,low,close,volume\n"), {}, "file"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_by_trying_to_break_it(name, tmp_path):
    content, options, right = FOUND[name]
    (tmp_path / "file.csv").write_text(content)
    try:
        imported = import_file(tmp_path / "file.csv", clock=CLOCK, **options)
    except InputError as refused:
        assert right in str(refused)
        return
    dataset, first = imported.dataset, imported.dataset.bars.row(0, named=True)
    times = f"{first['ts']:%Y-%m-%d %H:%M} {first['known_at']:%Y-%m-%d %H:%M}"
    shown = (dataset.id.timeframe, dataset.instrument.calendar, " ".join(dataset.symbols), times, str(first["volume"]))
    assert any(right in part for part in (*shown, *imported.decisions)), (shown, imported.decisions)


def test_files_by_year_are_one_market(tmp_path):
    for year in (2023, 2024):
        start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
        (tmp_path / f"{year}.csv").write_text(text([start + 3600 * n for n in range(50)]))
    assert import_files(sorted(tmp_path.glob("*.csv")), "mine/BTC-USD/1h", CLOCK).dataset.symbols == ["BTC-USD"]


def test_a_column_of_symbols_is_more_than_a_name_of_a_file(tmp_path):
    for part, symbol in (("part-a", "AAPL"), ("part-b", "MSFT")):
        rows = [f"{symbol},{time}" for time in epochs()]
        (tmp_path / f"{part}.csv").write_text(text(rows, names="symbol," + NAMED))
    assert import_files(sorted(tmp_path.glob("*.csv")), "mine/US/1h", CLOCK).dataset.symbols == ["AAPL", "MSFT"]


def test_narrow_and_empty_columns_of_parquet(tmp_path):
    times = pl.Series("time", epochs(), dtype=pl.Int32)
    prices = {name: [1.0] * 40 for name in ("open", "high", "low", "close")}
    pl.DataFrame({"time": times, **prices, "volume": [None] * 40}).write_parquet(tmp_path / "file.parquet")
    bars = import_file(tmp_path / "file.parquet", clock=CLOCK).dataset.bars
    assert bars["ts"][0] == HOURS[0] and bars["volume"].null_count() == 40


CLOCKED = {
    "days and clocks": lambda t: (t.dt.date(), t.dt.time()),
    "midnights and clocks": lambda t: (t.dt.truncate("1d"), t.dt.time()),
    "midnights in UTC and clocks": lambda t: (t.dt.truncate("1d").dt.replace_time_zone("UTC"), t.dt.time()),
    "days and time since midnight": lambda t: (t.dt.date(), t - t.dt.truncate("1d")),
    "midnights and text": lambda t: (t.dt.truncate("1d"), t.dt.strftime("%H:%M")),
    "text and clocks": lambda t: (t.dt.strftime("%Y-%m-%d"), t.dt.time()),
    "numbers": lambda t: (t.dt.strftime("%Y%m%d").cast(pl.Int64), t.dt.strftime("%H%M%S").cast(pl.Int64)),
    "a time that is whole, and its clock again": lambda t: (t, t.dt.time()),
}


@pytest.mark.parametrize("ending", ["parquet", "feather"])
@pytest.mark.parametrize("name", CLOCKED)
def test_a_table_with_days_and_clocks_in_two_columns(name, ending, tmp_path):
    times = pl.Series(HOURS).dt.replace_time_zone(None).cast(pl.Datetime("us"))
    day, hour = CLOCKED[name](times)
    prices = {name: [bar[n] for bar in BARS] for n, name in enumerate(NAMES[1:])}
    frame = pl.DataFrame({"Date": day, "Time": hour, **prices})
    path = tmp_path / f"file.{ending}"
    frame.write_parquet(path) if ending == "parquet" else frame.write_ipc(path)
    bars = import_file(path, clock=CLOCK).dataset.bars
    assert bars["ts"].to_list() == HOURS and bars["known_at"][0] == HOURS[0] + HOUR
    assert bars["close"].to_list() == [bar[3] for bar in BARS]


def of_symbols(folder, rows, **options):
    (folder / "group.csv").write_bytes(lines([("symbol", "date", "close"), *rows]))
    return import_file(folder / "group.csv", "mine/GROUP/1mo", CLOCK, **options).dataset


def test_a_sparse_symbol_among_monthly_ones(tmp_path):
    months = [date(2020 + n // 12, n % 12 + 1, 1) for n in range(24)]
    full = [("A", f"{d}", 100 + n) for n, d in enumerate(months)]
    holes = [("B", f"{months[n]}", 50 + n) for n in (0, 3, 4, 8, 9, 10, 20)]
    bars = of_symbols(tmp_path, full + holes).bars.filter(symbol="B")
    assert bars["ts"].dt.date().to_list() == [months[n] for n in (0, 3, 4, 8, 9, 10, 20)]
    quarters = [("B", f"{months[n]}", 50 + n) for n in (0, 3, 6, 9, 12)]
    with pytest.raises(
        InputError, match="the bars of B lie 3 months apart, most 1; if these are holes, say it: --time"
    ):
        of_symbols(tmp_path, full + quarters)
    told = of_symbols(tmp_path, full + quarters, timeframe="1mo").bars.filter(symbol="B")
    assert told["known_at"].dt.date().to_list() == [months[n + 1] for n in (0, 3, 6, 9, 12)]


@pytest.mark.parametrize(
    ("times", "told", "answer"),
    [
        ([f"2024-01-{d:02}" for d in range(1, 9)], "1mo", "has more than one bar in the month of 2024-01-02"),
        (["2023-01-01", "2023-04-01", "2023-07-01", "2023-10-01"], "1mo", "the nearest two lie 3 months apart"),
        (["2023-01-15", "2023-02-15", "2023-03-15", "2023-04-15"], "1mo", "lies at neither end of its month"),
        (["2023-01-01", "2023-02-01", "2023-03-31", "2023-04-30"], None, "at the beginning of its month, and 2023-03"),
        (["2023-01-01", "2023-02-01", "2023-03-01", "2023-04-01"], "1d", "Most bars are 1 months apart"),
        (["200102", "200103", "200104", "200105"], None, "can be read as"),  # of 2001, or of 2020, or of May
        (["01/01/2024", "01/02/2024", "01/03/2024", "01/04/2024"], None, "Say which: --dates"),
        (["2020-13", "2020-14", "2020-15"], None, "times cannot be read"),
    ],
)
def test_what_is_no_month(times, told, answer, tmp_path):
    (tmp_path / "file.csv").write_bytes(lines([("date", "close"), *([t, 100 + n] for n, t in enumerate(times))]))
    with pytest.raises(InputError) as error:
        import_file(tmp_path / "file.csv", clock=CLOCK, timeframe=told)
    assert answer in str(error.value)


def test_comments_with_quotation_marks(tmp_path):
    rows = hours_of(slice(0, 6)).decode().splitlines()
    for comment in ('# the "best" source', '# 5" of rain', "# it's said", '#,"a,b', '# "open'):
        text = "\n".join([*rows[:3], comment, *rows[3:], comment]) + "\n"
        (tmp_path / "file.csv").write_text(text)
        read = import_file(tmp_path / "file.csv", clock=CLOCK)
        assert read.dataset.bars["close"].to_list() == [bar[3] for bar in BARS[:6]]
        assert any("2 comments between the rows left out" in said for said in read.decisions)
    names = "time,open,high,low,close,volume,note"
    noted = [f'{row},"a note\n# and, more, of, it"' for row in rows[1:]]
    (tmp_path / "file.csv").write_text("\n".join([names, *noted]) + "\n")
    read = import_file(tmp_path / "file.csv", clock=CLOCK)
    assert read.dataset.bars["close"].to_list() == [bar[3] for bar in BARS[:6]]


def hours_of(cut):
    return lines([NAMES, *([f"{t:%Y-%m-%dT%H:%M:%SZ}", *b] for t, b in list(zip(HOURS, BARS, strict=True))[cut])])


def test_firsts_of_years_are_the_same_either_way(tmp_path):
    rows = [[f"01/01/{year}", 100 + year] for year in range(2010, 2020)]
    (tmp_path / "file.csv").write_bytes(lines([("date", "close"), *rows]))
    read = import_file(tmp_path / "file.csv", clock=CLOCK).dataset
    assert read.id.timeframe == "12mo" and read.bars["ts"].dt.year().to_list() == list(range(2010, 2020))
