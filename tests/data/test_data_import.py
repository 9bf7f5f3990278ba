"""Real files are imported as they are; wrong ones are answered with what to do, and nothing is stored."""

import gzip
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import InputError
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import PRICES
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.delta import DeltaStore

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def utc(*moment) -> datetime:
    return datetime(*moment, tzinfo=UTC)


# The real files.


@pytest.fixture(scope="module")
def hourly(shared_data):
    return import_file(shared_data / "btc_usd_1h_2018_2022.csv.gz", "market/BTC-USD/1h")


@pytest.fixture(scope="module")
def minutely(shared_data):
    return import_file(shared_data / "btc_perp_1m_2022_01.csv.gz", kind="perpetual", label="close")


def test_hours_newest_first(hourly, shared_data):
    bars = hourly.dataset.bars
    raw = pl.read_csv(shared_data / "btc_usd_1h_2018_2022.csv.gz").sort("unix")
    assert bars.height == raw.height == 33_259
    assert bars["ts"].dt.epoch("s").equals(raw["unix"].alias("ts")) and (bars["known_at"] - bars["ts"] == HOUR).all()
    assert bars.select(*PRICES, "volume").equals(raw.select(*PRICES, "volume")) and (bars["volume"] == 0).sum() == 5
    assert bars["symbol"].unique().to_list() == ["BTC-USD"] and not hourly.dataset.close_only
    assert "newest first: turned round" in hourly.decisions and "columns not used: date, Volume USD" in hourly.decisions
    assert "times label the open of a bar (known of cryptodatadownload)" in hourly.decisions


def test_minutes_labelled_by_their_close(minutely, shared_data):
    bars = minutely.dataset.bars
    raw = pl.read_csv(shared_data / "btc_perp_1m_2022_01.csv.gz", try_parse_dates=True)
    assert bars.height == raw.height == 45_031 and str(minutely.dataset.id) == "file/btc-perp-1m-2022-01/1m"
    assert bars["ts"][0] == utc(2021, 12, 31, 23) and minutely.dataset.instrument.kind == "perpetual"
    assert bars["known_at"].equals(
        raw["timestamp"].dt.replace_time_zone("UTC").cast(bars["ts"].dtype).alias("known_at")
    )
    assert bars.select(*PRICES, "volume").equals(raw.select(*PRICES, "volume"))
    assert minutely.decisions[0] == "times label the close of a bar (as told)"
    (note,) = minutely.dataset.notes
    assert "no zone and were taken for UTC" in note and note in minutely.decisions


def test_the_ends_of_a_file_tell_no_label(shared_data, minutely):
    """Told nothing, a bar is known a minute after its time: late where that was its end, and never early."""
    told = import_file(shared_data / "btc_perp_1m_2022_01.csv.gz", kind="perpetual")
    assert any("label the open" in decision and "assumed" in decision for decision in told.decisions)
    assert (told.dataset.bars["known_at"] == minutely.dataset.bars["known_at"] + MINUTE).all()


def test_hours_and_minutes_tell_the_same_time(hourly, minutely):
    """Two sources, one market: their hourly returns agree at the same hour and not an hour aside."""
    hours = hourly.dataset.bars.select("ts", mine=pl.col("close") / pl.col("open") - 1)
    minutes = minutely.dataset.bars.group_by_dynamic("ts", every="1h").agg(
        theirs=pl.col("close").last() / pl.col("open").first() - 1
    )

    def agreement(shift):
        both = hours.join(minutes.with_columns(pl.col("ts") + shift), on="ts")
        assert both.height > 700
        return np.corrcoef(both["mine"], both["theirs"])[0, 1]

    assert agreement(0 * HOUR) > 0.98 and abs(agreement(HOUR)) < 0.2 and abs(agreement(-HOUR)) < 0.2


@pytest.mark.parametrize("name", ["dj30_1d_valid", "dj30_1d_test"])
def test_stocks_by_sessions(shared_data, name):
    imported = import_file(shared_data / f"{name}.csv.gz", calendar="XNYS", kind="equity")
    bars = imported.dataset.bars
    raw = pl.read_csv(shared_data / f"{name}.csv.gz", try_parse_dates=True).sort("tic", "date")
    assert bars.height == raw.height and len(imported.dataset.symbols) == 29 and imported.dataset.id.timeframe == "1d"
    assert (
        bars.select("symbol", *PRICES).equals(raw.select(pl.col("tic").alias("symbol"), *PRICES))
        and bars["volume"].null_count() == bars.height
    )
    new_york = bars.select(pl.col("ts", "known_at").dt.convert_time_zone("America/New_York"))
    assert new_york["ts"].dt.date().equals(raw["date"].alias("ts")) and new_york["known_at"].dt.date().equals(
        raw["date"].alias("known_at")
    )
    assert (new_york["ts"].dt.strftime("%H:%M") == "09:30").all()
    early = {"dj30_1d_valid": ["2020-11-27", "2020-12-24"], "dj30_1d_test": ["2021-11-26"]}[name]
    expected = pl.select(
        pl.when(raw["date"].cast(pl.String).is_in(early)).then(pl.lit("13:00")).otherwise(pl.lit("16:00"))
    ).to_series()
    assert (new_york["known_at"].dt.strftime("%H:%M") == expected).all()
    assert {"daily sessions of XNYS", "columns not used: adjcp", "no volume"} == set(
        imported.decisions
    ) and imported.dataset.periods_per_year == pytest.approx(252, rel=0.02)


@pytest.mark.parametrize("name", ["eth_btc_5m", "ltc_btc_5m"])
def test_five_minutes_from_feather(shared_data, name):
    imported = import_file(shared_data / f"{name}.feather")
    bars, raw = imported.dataset.bars, pl.read_ipc(shared_data / f"{name}.feather")
    assert bars.height == 5_760 and str(imported.dataset.id) == f"file/{name.replace('_', '-')}/5m"
    assert bars["ts"].equals(raw["date"].cast(bars["ts"].dtype).alias("ts")) and bars["ts"][0] == utc(
        2018, 1, 10, 4, 55
    )
    assert bars.select(*PRICES, "volume").equals(raw.select(*PRICES, "volume"))
    assert any("assumed" in d for d in imported.decisions)  # 04:55 to 04:50 tells nothing


def test_trades_are_no_bars(shared_data):
    for options in ({}, {"drop_duplicates": True}):
        with pytest.raises(InputError):
            import_file(shared_data / "xrp_eth_trades.feather", **options)


def test_what_was_imported_is_what_is_stored(hourly, tmp_path):
    store = DeltaStore(tmp_path)
    store.write(hourly.dataset)
    assert store.snapshot(hourly.dataset.id).content == hourly.dataset.snapshot().content


# Wrong files. Each case changes one thing of a good one.

CLOCK = SimulatedClock(utc(2024, 1, 1))
HEADER = "time,open,high,low,close,volume"
ROWS = [
    f"2020-01-{1 + h // 24:02} {h % 24:02}:00:00,{7000 + h},{7010 + h},{6990 + h},{7005 + h}.5,{h}.25"
    for h in range(48)
]


def text(rows=ROWS, header=HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def changed(row: int, old: str, new: str) -> str:
    assert old in ROWS[row]
    return text([*ROWS[:row], ROWS[row].replace(old, new, 1), *ROWS[row + 1 :]])


DAYS = text([f"2020-01-{d:02},1,2,0.5,1.5,9" for d in (2, 3, 6, 7)])
WRONG = {
    "empty": ("f.csv", "", {}, "'f.csv' is empty. Download it again"),
    "header only": ("f.csv", HEADER + "\n", {}, "no rows. Download it again"),
    "blank lines only": ("f.csv", text(["", "", ",,,,,"]), {}, "no rows. Download it again"),
    "wrong ending": ("f.xlsx", text(), {}, "Allowed endings: .csv, .txt, .tsv, .parquet"),
    "no ending": ("f", text(), {}, "Allowed endings"),
    "truncated gz": ("f.csv.gz", gzip.compress(text().encode())[:-200], {}, "Check that the file is whole"),
    "gz without its end": ("f.csv.gz", gzip.compress(text().encode())[:-4], {}, "Check that the file is whole"),
    "no parquet": ("f.parquet", text(), {}, "cannot be read as parquet"),
    "no feather": ("f.feather", text(), {}, "cannot be read as feather"),
    "one field more": ("f.csv", changed(5, ",", ",9,"), {}, "Check that the file is whole"),
    "a row cut short": (
        "f.csv",
        changed(5, ",7010.5,5.25", ""),
        {},
        "'close' are no finite numbers, the first is None at 2020-01-01 05:00",
    ),
    "no time column": ("f.csv", text(header=HEADER.replace("time", "when")), {}, "--column ts=NAME"),
    "no close": ("f.csv", text(header=HEADER.replace("close", "final")), {}, "--column close=NAME"),
    "no low": ("f.csv", text(header=HEADER.replace("low", "bottom")), {}, "Give all four, or only a close"),
    "no such column": (
        "f.csv",
        text(),
        {"columns": {"volume": "Volume BTC"}},
        "has no column 'Volume BTC'. It has 'time'",
    ),
    "no column of ours": ("f.csv", text(), {"columns": {"vwap": "close"}}, "Allowed: ts, open, high"),
    "text for a price": ("f.csv", changed(5, "7010.5", "n/a"), {}, "'n/a' at 2020-01-01 05:00. Correct or remove"),
    "text for a volume": ("f.csv", changed(5, "5.25", "?"), {}, "'volume' are no finite numbers, the first is '?' at"),
    "two decimals": ("f.csv", changed(5, "7010.5", '"7.010,5"'), {}, "'7.010,5' at"),
    "NaN price": ("f.csv", changed(5, "7010.5", "NaN"), {}, "'close' are no finite numbers, the first is nan at"),
    "infinite price": ("f.csv", changed(5, "7010.5", "inf"), {}, "first is inf at"),
    "no price": ("f.csv", changed(5, "7010.5", ""), {}, "first is None at"),
    "no time": (
        "f.csv",
        changed(5, "2020-01-01 05:00:00", ""),
        {},
        "1 times cannot be read, the first is None. Allowed are epochs, ISO dates",
    ),
    "American time": ("f.csv", changed(5, "2020-01-01 05", "01/01/2020 05"), {}, "the first is '01/01/2020 05:00:00'"),
    "no such day": ("f.csv", changed(5, "2020-01-01", "2020-02-30"), {}, "the first is '2020-02-30"),
    "no epoch": (
        "f.csv",
        text([f"{d},1,2,0.5,1.5,9" for d in (2, 3, 6, 7)]),
        {},
        "no epoch in s, ms, us or ns",
    ),
    "duplicate": (
        "f.csv",
        changed(5, "05:00", "04:00"),
        {},
        "2 rows share their time with another, the first is f at 2020-01-01 04:00",
    ),
    "jumbled": ("f.csv", text([*ROWS[20:], *ROWS[:20]]), {}, "pass --sort"),
    "future": ("f.csv", text(), {"clock": SimulatedClock(utc(2019, 6, 1))}, "48 bars begin in the future"),
    "half in the future": ("f.csv", text(), {"clock": SimulatedClock(utc(2020, 1, 2))}, "Check the time zone"),
    "another timeframe than the id": ("f.csv", text(), {"dataset": "x/BTC/5m"}, "The id says 5m and the bars span 1h"),
    "too short a timeframe": ("f.csv", text(), {"dataset": "x/BTC/5m", "timeframe": "5m"}, "Leave --timeframe out"),
    "too long a timeframe": ("f.csv", text([*ROWS[:10], *ROWS[13:]]), {"timeframe": "4h"}, "Leave --timeframe out"),
    "no timeframe": ("f.csv", text(), {"timeframe": "hour"}, "Write a number and one of"),
    "one bar": ("f.csv", text(ROWS[:1]), {}, "Pass --timeframe"),
    "no dataset id": ("f.csv", text(), {"dataset": "BTC"}, "Write venue/symbol/timeframe"),
    "id that leaves the store": ("f.csv", text(), {"dataset": "../BTC/1h"}, "Write venue/symbol/timeframe"),
    "intraday with another calendar": ("f.csv", text(), {"calendar": "XNYS"}, "do not keep the calendar that was told"),
    "intraday said to be daily": (
        "f.csv",
        text(),
        {"calendar": "XNYS", "timeframe": "1d", "dataset": "x/BTC/1d"},
        "2020-01-01",
    ),
    "no session": (
        "f.csv",
        DAYS.replace("2020-01-06", "2020-01-04"),
        {"calendar": "XNYS"},
        "1 dates are no sessions of XNYS, the first is 2020-01-04",
    ),
    "unknown calendar": ("f.csv", DAYS, {"calendar": "XNYC", "timeframe": "1d"}, "Did you mean 'XNYS'"),
    "unknown label": ("f.csv", text(), {"label": "Close"}, "Did you mean 'close'"),
    "unknown kind": ("f.csv", text(), {"kind": "stock"}, "Known: equity"),
    "unknown adjustment": ("f.csv", text(), {"adjustment": "splits"}, "Did you mean 'split'"),
}


def import_and_store(folder, name, content, **options):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    dataset, store = import_file(folder / name, **{"clock": CLOCK, **options}).dataset, DeltaStore(folder / "store")
    store.write(dataset)
    return store.snapshot(dataset.id)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(tmp_path, case):
    name, content, options, answer = WRONG[case]
    with pytest.raises(InputError) as error:
        import_and_store(tmp_path, name, content, **options)
    assert answer in str(error.value) and str(error.value).endswith((".", "?", "..."))
    assert not (tmp_path / "store").exists()


def test_the_good_file_is_good(tmp_path):
    """The wrong files differ from it in one thing; and what may be asked for is done."""
    good = import_and_store(tmp_path, "f.csv", text()).content
    assert import_and_store(tmp_path, "f.csv", text([*ROWS[20:], *ROWS[:20]]), sort=True).content == good
    assert import_and_store(tmp_path, "f.csv", text([*ROWS, ROWS[-1]]), drop_duplicates=True).content == good
    assert import_and_store(tmp_path, "f.csv", text([*ROWS, "", ",,,,,"])).content == good
    forms = [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), str.rstrip, lambda t: "from example.com\n" + t]
    for form in (*forms, lambda t: t.replace(",", ";"), lambda t: t.replace(",7010.5,", ',"7,010.5",')):
        assert import_and_store(tmp_path, "f.csv", form(text())).content == good
    import_and_store(tmp_path, "days.csv", DAYS, calendar="XNYS", kind="equity")
    import_and_store(
        tmp_path, "weekend.csv", text([DAYS.splitlines()[2], DAYS.splitlines()[3]]), calendar="XNYS", timeframe="1d"
    )


def test_a_missing_file(tmp_path):
    (tmp_path / "btc_1h.csv").write_text(text())
    with pytest.raises(InputError, match=r"There is no file .*btc_1m\.csv.*Did you mean 'btc_1h\.csv'"):
        import_file(tmp_path / "btc_1m.csv")
    with pytest.raises(InputError, match="Check the path"):
        import_file(tmp_path / "nowhere" / "btc_1m.csv")


def test_the_last_bar_may_still_be_open(tmp_path):
    (tmp_path / "f.csv").write_text(text())
    imported = import_file(tmp_path / "f.csv", clock=SimulatedClock(utc(2020, 1, 2, 23, 30)))
    assert imported.dataset.bars.height == 47 and "1 bars that are still open dropped" in imported.decisions


def test_a_column_may_turn_out_to_be_fractional_late(tmp_path):
    rows = [f"{1_400_000_400 + 3600 * i},7,8,6,7,{i}" for i in range(10_500)]
    import_and_store(tmp_path, "f.csv", text([*rows, f"{1_400_000_400 + 3600 * 10_500},7.5,8.5,6,7,0.25"]))
    assert DeltaStore(tmp_path / "store").read("file/f/1h").bars["volume"][-1] == 0.25


# Any way to write the same bars.

MARKET = make_market("garch", 5, bars=40)
TIMES = {
    "seconds": lambda ts: ts.dt.epoch("s"),
    "milliseconds": lambda ts: ts.dt.epoch("ms"),
    "microseconds": lambda ts: ts.dt.epoch("us"),
    "nanoseconds": lambda ts: ts.dt.epoch("ns"),
    "float seconds": lambda ts: ts.dt.epoch("s").cast(pl.Float64),
    "date and time": lambda ts: ts.dt.strftime("%Y-%m-%d %H:%M:%S"),
    "to the minute": lambda ts: ts.dt.strftime("%Y-%m-%d %H:%M"),
    "fractions": lambda ts: ts.dt.strftime("%Y-%m-%d %H:%M:%S%.6f"),
    "UTC": lambda ts: ts.dt.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "Z": lambda ts: ts.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "offset": lambda ts: ts.dt.convert_time_zone("Asia/Kolkata").dt.strftime("%Y-%m-%dT%H:%M:%S%:z"),
    "offset without colon": lambda ts: ts.dt.convert_time_zone("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S%z"),
    "offset in hours": lambda ts: ts.dt.strftime("%Y-%m-%d %H:%M:%S+00"),
    "naive": lambda ts: ts.dt.replace_time_zone(None),
    "aware": lambda ts: ts.dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns"),
}
WRITERS = {
    "csv": pl.DataFrame.write_csv,
    "csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "CSV": lambda frame, path: frame.write_csv(path, quote_style="always"),
    "parquet": pl.DataFrame.write_parquet,
    "feather": lambda frame, path: frame.write_ipc(path, compression="zstd"),
}
NAMES = {
    "ts": ["unix", "timestamp", "Open time", "date", "Datetime"],
    "volume": ["volume", "Volume BTC", "base_volume"],
    "symbol": ["symbol", "ticker"],
}


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_however_it_is_written(tmp_path_factory, data):
    bars = MARKET.bars.drop("known_at").with_columns(note=pl.lit("x"), trades=pl.int_range(pl.len()))
    kind = data.draw(st.sampled_from(sorted(WRITERS)), "file")
    # CSV has no kinds: a naive or aware time is written as text that polars chooses
    times = data.draw(
        st.sampled_from(sorted(TIMES if kind in ("parquet", "feather") else TIMES.keys() - {"naive", "aware"})), "time"
    )
    label = data.draw(st.sampled_from(["open", "close"]), "label")
    bars = bars.with_columns(ts=TIMES[times](bars["ts"] + (HOUR if label == "close" else 0 * HOUR)))
    if data.draw(st.booleans(), "newest first"):
        bars = bars.reverse()
    change_case = data.draw(st.sampled_from([str.lower, str.upper, str.title, str]), "case")
    theirs = {c: change_case(data.draw(st.sampled_from(NAMES.get(c, [c])), c)) for c in bars.columns}
    if label == "close":
        theirs["ts"] = theirs["ts"].replace("Open", "Close").replace("OPEN", "CLOSE").replace("open", "close")
    bars = bars.rename(theirs).select(data.draw(st.permutations(list(theirs.values())), "order"))
    path = tmp_path_factory.mktemp("written") / f"market.{kind}"
    WRITERS[kind](bars, path)
    imported = import_file(
        path, str(MARKET.id), label="auto" if theirs["ts"].lower() in ("open time", "close time") else label
    )
    assert imported.dataset.snapshot().content == MARKET.snapshot().content


@pytest.mark.parametrize(
    ("times", "calendar"),
    [
        (["2024-01-09 00:00:00+09:00", "2024-01-10 00:00:00+09:00", "2024-01-11 00:00:00+09:00"], "XTKS"),
        (["2024-01-08T15:00:00Z", "2024-01-09T15:00:00Z", "2024-01-10T15:00:00Z"], "XTKS"),
        (["2024-01-09 00:00:00+01:00", "2024-01-10 00:00:00+01:00", "2024-01-11 00:00:00+01:00"], "XFRA"),
        (["2024-01-09 00:00:00-05:00", "2024-01-10 00:00:00-05:00", "2024-01-11 00:00:00-05:00"], "XNYS"),
        (["2024-01-09", "2024-01-10", "2024-01-11"], "XASX"),
        (["2024-01-09 15:00:00", "2024-01-10 15:00:00", "2024-01-11 15:00:00"], "XTKS"),
        (["2024-01-09T00:00:00Z", "2024-01-10T00:00:00Z", "2024-01-11T00:00:00Z"], "XNYS"),
    ],
)
def test_days_are_those_of_the_exchange(tmp_path, times, calendar):
    """A midnight east of Greenwich is the day before by UTC: its bar would be known a session too early."""
    pl.DataFrame({"date": times, "close": [1.0, 2.0, 3.0]}).write_csv(tmp_path / "days.csv")
    bars = import_file(
        tmp_path / "days.csv", f"file/DAYS-{calendar}/1d", timeframe="1d", calendar=calendar, kind="equity"
    ).dataset.bars
    zone = {"XTKS": "Asia/Tokyo", "XFRA": "Europe/Berlin", "XNYS": "America/New_York", "XASX": "Australia/Sydney"}[
        calendar
    ]
    assert bars["ts"].dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d").to_list() == [
        "2024-01-09",
        "2024-01-10",
        "2024-01-11",
    ]


def test_a_pair_s_quote_currency(tmp_path):
    make_market("noise", 1, bars=50).bars.select("ts", *PRICES).write_csv(tmp_path / "pair.csv")
    for id, kind, quote in (
        ("x/LTC-BTC/1h", "spot", "BTC"),
        ("x/BTC-USDT:USDT/1h", "perpetual", "USDT"),
        ("x/BRK-B/1h", "equity", "USD"),
        ("x/market-1h/1h", "spot", "USD"),
    ):
        assert import_file(tmp_path / "pair.csv", id, kind=kind).dataset.instrument.quote == quote
