"""A clock, a label or a calendar that was wrong: refused with the right one, and never beside what is stored."""

import itertools
import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from support.files import lines, walk

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import InputError
from algo_research.data.intake.importing import import_file, import_files, stored_changes
from algo_research.data.market.instruments import session_schedule
from algo_research.data.stores.delta import DeltaStore

CLOCK = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
HOUR = timedelta(hours=1)
DUE = session_schedule("XNYS", date(2024, 1, 2), date(2024, 6, 28), HOUR)["ts"]
ALWAYS = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 2, 1), HOUR, eager=True, time_unit="us")


def of_hours(folder, times, name="file.csv", seed=3, form="%Y-%m-%d %H:%M", digits=2, cut=slice(None)):
    bars = walk(len(times), seed, digits=digits)
    rows = [[f"{t:{form}}", *b] for t, b in zip(times.to_list(), bars, strict=True)]
    (folder / name).write_bytes(lines([("time", "open", "high", "low", "close", "volume"), *rows[cut]]))
    return folder / name


def local(zone="America/New_York", times=DUE):
    return times.dt.convert_time_zone(zone).dt.replace_time_zone(None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"tz": "UTC"}, {"tz": "America/New_York"}),  # two distances, by summer time
        ({"tz": "Asia/Tokyo"}, {"tz": "Asia/Kolkata"}),
        ({"label": "open", "tz": "UTC"}, {"label": "close", "tz": "UTC"}),
    ],
)
@pytest.mark.parametrize("digits", [2, 0])
def test_another_clock_is_not_laid_beside_what_is_stored(first, second, digits, tmp_path):
    store = DeltaStore(tmp_path / "store")
    file = of_hours(tmp_path, ALWAYS, digits=digits)
    store.write(import_file(file, "mine/A/1h", CLOCK, **first).dataset)
    again = import_file(file, "mine/A/1h", CLOCK, **second).dataset
    with pytest.raises(InputError, match=r"bars are stored at other times: that of A at .* --afresh"):
        stored_changes(again, store)
    assert stored_changes(import_file(file, "mine/A/1h", CLOCK, **first).dataset, store)[2] == len(ALWAYS)
    part = of_hours(tmp_path, ALWAYS, digits=digits, cut=slice(700, None))
    with pytest.raises(InputError, match="stored at other times"):
        stored_changes(import_file(part, "mine/A/1h", CLOCK, **second).dataset, store)


def closes(folder, times, values, name="file.csv"):
    rows = [[f"{t:%Y-%m-%d %H:%M}", v] for t, v in zip(times.to_list(), values, strict=True)]
    (folder / name).write_bytes(lines([("time", "close"), *rows]))
    return folder / name


def refused(store, file, id, **told):
    with pytest.raises(InputError, match=r"(stored at other times|begin within others).*--afresh"):
        stored_changes(import_file(file, id, CLOCK, **told).dataset, store)


def test_round_closes_tell_the_clock_too(tmp_path):
    rng, store = random.Random(4), DeltaStore(tmp_path / "store")
    prices = list(itertools.accumulate((rng.choice([-1, 0, 1]) for _ in ALWAYS), initial=500))[1:]
    file = closes(tmp_path, ALWAYS, prices)
    store.write(import_file(file, "mine/A/1h", CLOCK, tz="UTC").dataset)
    refused(store, file, "mine/A/1h", tz="America/New_York")
    refused(store, file, "mine/A/1h", tz="UTC", label="close")
    other = closes(tmp_path, ALWAYS, [p + rng.choice([-1, 0, 1]) for p in prices])  # values that were corrected
    assert stored_changes(import_file(other, "mine/A/1h", CLOCK, tz="UTC").dataset, store)[0] == 0


def test_a_clock_that_differs_in_summer_only(tmp_path):
    times = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 5, 1), HOUR * 4, eager=True, time_unit="us")
    store, file = DeltaStore(tmp_path / "store"), of_hours(tmp_path, times)
    store.write(import_file(file, "mine/A/4h", CLOCK, tz="UTC").dataset)
    refused(store, file, "mine/A/4h", tz="Europe/London")


def test_one_symbol_of_another_clock(tmp_path):
    store = DeltaStore(tmp_path / "store")
    files = [of_hours(tmp_path, ALWAYS, name, seed) for name, seed in (("A.csv", 1), ("B.csv", 2))]
    both = import_files(files, "mine/G/1h", CLOCK, tz="UTC").dataset
    store.write(both)
    own = pl.when(pl.col("symbol") == "B").then(pl.lit(HOUR)).otherwise(pl.lit(timedelta(0)))
    with pytest.raises(InputError, match="that of B at"):
        stored_changes(replace(both, bars=both.bars.with_columns(pl.col("ts", "known_at") + own)), store)


def test_bars_that_lie_within_stored_ones(tmp_path):
    """Other prices at another clock are recognised by where they lie."""
    store = DeltaStore(tmp_path / "store")
    store.write(import_file(of_hours(tmp_path, ALWAYS), "mine/A/1h", CLOCK, tz="UTC").dataset)
    refused(store, of_hours(tmp_path, ALWAYS, seed=8), "mine/A/1h", tz="Asia/Kolkata")
    rng = random.Random(1)
    there = pl.Series([rng.random() < 0.6 for _ in ALWAYS])
    holes = import_file(of_hours(tmp_path, ALWAYS.filter(there)), "mine/B/1h", CLOCK, tz="UTC").dataset
    store.write(holes)
    rest = import_file(
        of_hours(tmp_path, ALWAYS.filter(~there), seed=5), "mine/B/1h", CLOCK, tz="UTC", timeframe="1h"
    ).dataset
    assert stored_changes(rest, store)[0] == rest.bars.height  # what was missing


def test_days_and_months_of_another_label(tmp_path):
    for timeframe, every in (("1d", "1d"), ("1mo", "1mo")):
        store = DeltaStore(tmp_path / timeframe)
        times = pl.datetime_range(datetime(2020, 1, 1), datetime(2023, 12, 1), every, eager=True, time_unit="us")
        file = of_hours(tmp_path, times.dt.offset_by("5h"), name=f"{timeframe}.csv")
        read = [
            import_file(file, f"mine/A/{timeframe}", CLOCK, label=label, tz="UTC").dataset
            for label in ("open", "close")
        ]
        store.write(read[0])
        with pytest.raises(InputError, match="stored at other times"):
            stored_changes(read[1], store)


def test_what_goes_on_or_differs_is_no_other_clock(tmp_path):
    """Later bars, few that are alike by chance, other values, and prices that stand still."""
    store = DeltaStore(tmp_path / "store")
    halves = [of_hours(tmp_path, ALWAYS, digits=0, cut=cut) for cut in (slice(0, 400),)]
    store.write(import_file(halves[0], "mine/A/1h", CLOCK, tz="UTC").dataset)
    later = of_hours(tmp_path, ALWAYS, digits=0, cut=slice(400, None))
    assert stored_changes(import_file(later, "mine/A/1h", CLOCK, tz="UTC").dataset, store)[0] == len(ALWAYS) - 400
    other = of_hours(tmp_path, ALWAYS, seed=9)
    assert stored_changes(import_file(other, "mine/A/1h", CLOCK, tz="UTC").dataset, store)[1] == 400
    rows = [[f"{t:%Y-%m-%d %H:%M}", 5, 5, 5, 5, 0] for t in ALWAYS.to_list()]
    (tmp_path / "still.csv").write_bytes(lines([("time", "open", "high", "low", "close", "volume"), *rows]))
    store.write(import_file(tmp_path / "still.csv", "mine/B/1h", CLOCK, tz="UTC").dataset)
    assert stored_changes(import_file(tmp_path / "still.csv", "mine/B/1h", CLOCK, tz="UTC").dataset, store)[0] == 0


def test_another_calendar_is_refused_before_a_replace_is_proposed(tmp_path):
    store = DeltaStore(tmp_path / "store")
    file = of_hours(tmp_path, DUE, form="%Y-%m-%dT%H:%M:%SZ")
    store.write(import_file(file, "mine/A/1h", CLOCK, calendar="24/7").dataset)
    with pytest.raises(InputError, match=r"calendar = '24/7' and the new bars have 'XNYS'.*--afresh"):
        stored_changes(import_file(file, "mine/A/1h", CLOCK).dataset, store)
    two = import_files([file, of_hours(tmp_path, DUE, "b.csv", 4, "%Y-%m-%dT%H:%M:%SZ")], "mine/G/1h", CLOCK).dataset
    store.write(two)
    with pytest.raises(InputError, match="stored at other times"):
        moved = two.bars.with_columns(pl.col("ts", "known_at") + HOUR)
        stored_changes(type(two)(two.id, moved, two.instrument), store)


@pytest.mark.parametrize(
    ("times", "form", "told", "way"),
    [
        (local(), "%Y-%m-%d %H:%M", {"calendar": "XTKS", "tz": "Asia/Tokyo"}, {"XNYS", "America/New_York"}),
        (local(), "%Y-%m-%d %H:%M", {"calendar": "XTKS"}, {"XNYS", "America/New_York"}),
        (DUE, "%Y-%m-%dT%H:%M:%SZ", {"calendar": "XTKS"}, {"XNYS"}),
        (DUE, "%Y-%m-%dT%H:%M:%SZ", {"calendar": "XLON"}, {"XNYS"}),
        (local(), "%Y-%m-%d %H:%M", {"calendar": "XNYS", "tz": "Europe/Paris"}, {"XNYS", "America/New_York"}),
    ],
)
def test_a_calendar_that_the_bars_do_not_keep_is_answered_with_theirs(times, form, told, way, tmp_path):
    file = of_hours(tmp_path, times, form=form)
    with pytest.raises(InputError) as error:
        import_file(file, clock=CLOCK, **told)
    options = str(error.value).rpartition("pass ")[2].rstrip(".").split()
    assert set(options[1::2]) == way
    right = import_file(file, clock=CLOCK, **dict(zip((o[2:] for o in options[::2]), options[1::2], strict=True)))
    assert right.dataset.bars["ts"].equals(DUE.alias("ts")) and right.dataset.instrument.calendar == "XNYS"


def test_hours_beside_the_sessions_of_a_calendar_stay_with_a_note(tmp_path):
    """Before and after the exchange's hours, and hours of the clock: stored, and annual figures are refused."""
    hours = DUE.dt.date().unique().sort().cast(pl.Datetime("us"))
    extended = pl.concat([hours + n * HOUR for n in range(4, 20)]).sort()
    clock = pl.concat([hours + n * HOUR for n in range(10, 16)]).sort()
    for times in (extended, clock):
        read = import_file(of_hours(tmp_path, times), clock=CLOCK, calendar="XNYS", tz="America/New_York")
        assert "bars and calendar disagree" in read.dataset.notes[0]
    night = pl.concat([hours + n * HOUR for n in (0, 1, 2, 3, 20, 21, 22, 23)]).sort()
    with pytest.raises(InputError, match="is open at 0% of the bars"):
        import_file(of_hours(tmp_path, night), clock=CLOCK, calendar="XNYS", tz="America/New_York")


def test_sessions_that_are_said_to_be_around_the_clock_are_noted(tmp_path):
    read = import_file(of_hours(tmp_path, DUE, form="%Y-%m-%dT%H:%M:%SZ"), clock=CLOCK, calendar="24/7")
    assert read.dataset.instrument.calendar == "24/7"
    assert any("24/7 as told, although the bars keep XNYS" in note for note in read.dataset.notes)
    crypto = import_file(of_hours(tmp_path, ALWAYS), clock=CLOCK, calendar="24/7", tz="UTC")
    assert not crypto.dataset.notes


def test_files_of_two_clocks_are_not_one_dataset(tmp_path):
    """One says its zone, the other shows New York's clock and is taken for UTC: in both there are some of the bars."""
    utc = of_hours(tmp_path, ALWAYS, "A-1h-2024-01.csv", form="%Y-%m-%dT%H:%M:%SZ", cut=slice(0, 400))
    shown = ALWAYS.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Kolkata").dt.replace_time_zone(None)
    for times in (shown, ALWAYS + 5 * HOUR):
        other = of_hours(tmp_path, times, "A-1h-2024-02.csv", cut=slice(300, None))
        with pytest.raises(InputError, match=r"A-1h-2024-02.csv.*(at other times|begin within others)"):
            import_files([utc, other], "mine/A/1h", CLOCK)
    right = of_hours(tmp_path, ALWAYS, "A-1h-2024-02.csv", cut=slice(300, None))
    assert import_files([utc, right], "mine/A/1h", CLOCK).dataset.bars.height == len(ALWAYS)
