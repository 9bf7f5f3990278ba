"""What every store of bars must do. A new store joins by its address in STORES."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from support.datasets import HERE, START, crash_states, make_dataset

from algo_research.core.errors import DataError, InputError, RetryableError
from algo_research.data.market.bars import Dataset, DatasetId, make_bars, resample_bars, timeframe_duration
from algo_research.data.market.instruments import Instrument, session_bars
from algo_research.data.stores.base import open_store

STORES = {
    "delta": lambda request: f"delta://{request.getfixturevalue('tmp_path')}/store",
    "s3": lambda request: request.getfixturevalue("s3_url"),
    "postgres": lambda request: request.getfixturevalue("postgres_url"),
}


@pytest.fixture(params=STORES)
def url(request):
    return STORES[request.param](request)


@pytest.fixture
def store(url):
    return open_store(url)


SPREADS = {
    "minutes over months": {"timeframe": "1m", "n": 200, "every": timedelta(hours=11)},
    "hours over a year's end": {"timeframe": "1h", "n": 1000},
    "days over years": {"timeframe": "1d", "n": 900, "symbols": ("A", "B")},
    "weeks": {"timeframe": "1w", "n": 120},
    "many symbols": {"timeframe": "4h", "n": 300, "symbols": tuple("ABCDEFG")},
}


@pytest.fixture(params=SPREADS)
def dataset(request):
    return make_dataset(**SPREADS[request.param])


def test_round_trip(store, dataset):
    version = store.write(dataset)
    found = store.read(dataset.id)
    assert found.bars.equals(dataset.bars) and found.bars.schema == dataset.bars.schema
    assert replace(found, bars=dataset.bars, version=None) == dataset
    assert version == found.version == 0 and store.snapshot(dataset.id) == found.snapshot()
    assert found.snapshot().content == dataset.snapshot().content
    assert store.datasets() == [dataset.id] and store.versions(str(dataset.id)) == [found.version]


def test_writing_twice_is_writing_once(store, dataset):
    assert store.write(dataset) == store.write(dataset) == store.write(replace(dataset, bars=dataset.bars[3:17])) == 0
    store.append(replace(dataset, bars=dataset.bars[-3:]))
    assert store.versions(dataset.id) == [0]


@pytest.mark.slow
def test_the_same_bars_in_any_pieces_have_one_hash(url, tmp_path, dataset):
    pieces = [dataset.bars[i : i + 90] for i in range(0, dataset.bars.height, 70)]
    np.random.default_rng(1).shuffle(pieces)
    store = open_store(url)
    for piece in pieces:
        store.write(replace(dataset, bars=piece))
    assert store.snapshot(dataset.id).content == dataset.snapshot().content
    assert open_store(url).read(dataset.id).bars.equals(dataset.bars)


def test_upsert_replaces_what_overlaps(store, dataset):
    newer = make_dataset(dataset.id.timeframe, 80, symbols=dataset.symbols, seed=9, start=dataset.bars["ts"][40])
    store.write(dataset)
    store.write(newer)
    kept = dataset.bars.join(newer.bars, on=["symbol", "ts"], how="anti")
    assert store.read(dataset.id).bars.equals(pl.concat([kept, newer.bars]).sort("symbol", "ts"))


def test_ranges(store, dataset):
    store.write(dataset)
    ts = dataset.bars["ts"]
    edges = [
        ts.min() - timedelta(days=1),
        ts.min(),
        ts[7],
        ts[7] + timedelta(microseconds=1),
        ts[50],
        ts.max(),
        ts.max() + timedelta(microseconds=1),
    ]
    for start in [None, *edges]:
        for end in [None, *edges]:
            expected = dataset.bars.filter(
                pl.lit(True) if start is None else pl.col("ts") >= start,
                pl.lit(True) if end is None else pl.col("ts") < end,
            )
            assert store.read(dataset.id, start=start, end=end).bars.equals(expected), (start, end)


def test_a_range_may_be_told_in_any_time_zone_but_not_in_none(store):
    store.write(dataset := make_dataset())
    tokyo = (START + timedelta(hours=5)).astimezone(ZoneInfo("Asia/Tokyo"))
    assert store.read(dataset.id, start=tokyo, end=tokyo + timedelta(hours=2)).bars.equals(dataset.bars[5:7])
    for bounds in ({"start": datetime(2021, 12, 1)}, {"end": datetime(2021, 12, 1)}):
        with pytest.raises(InputError, match="tzinfo=UTC"):
            store.read(dataset.id, **bounds)


def test_symbols(store):
    store.write(dataset := make_dataset(symbols=("BTC", "ETH", "LTC")))
    for chosen in (["ETH"], ["LTC", "BTC"], []):
        assert store.read(dataset.id, symbols=chosen).bars.equals(dataset.bars.filter(pl.col("symbol").is_in(chosen)))
    assert store.read(dataset.id, ["ETH"], end=START).bars.is_empty()  # known, though not in this range
    with pytest.raises(InputError, match=r"Unknown symbol 'LTV'\. Did you mean 'LTC'"):
        store.read(dataset.id, symbols=["BTC", "LTV"])


def test_a_new_symbol_leaves_the_others_alone(store):
    store.write(both := make_dataset(symbols=("BTC", "ETH")))
    more = make_dataset(symbols=("ADA",), n=10, seed=3)
    store.write(more)
    assert store.read(both.id).bars.equals(pl.concat([more.bars, both.bars]))


def test_every_version_stays_as_it_was(store):
    states = []
    for i, n in enumerate((20, 40, 60)):
        states.append(
            replace(
                make_dataset(n=n, seed=i),
                notes=(f"edition {i}",),
                instrument=Instrument("coins", "test", "spot", tick=float(i)),
            )
        )
        assert store.write(states[-1]) == store.versions(states[-1].id)[-1]
    versions = store.versions(states[0].id)
    for version, state in zip(versions, states, strict=True):
        assert store.read(state.id, version=version).bars.equals(state.bars)
        assert replace(store.read(state.id, version=version), bars=state.bars, version=None) == state
    with pytest.raises(DataError, match="Readable versions: 0, 1, 2"):
        store.read(states[0].id, version=7)
    with pytest.raises(DataError, match="no version -1"):
        store.read(states[0].id, version=-1)


def test_a_replacement_takes_bars_away(store, dataset):
    """All that is not in it goes, whole parts too; the versions before stay, and come back the same way."""
    store.write(dataset)
    kept = replace(
        dataset,
        bars=dataset.bars.filter(pl.int_range(pl.len()) % 5 > 0)[: dataset.bars.height // 3],
        notes=("thinned",),
    )
    assert store.write(kept, replace=True) == store.write(kept, replace=True) == 1  # writing twice is writing once
    assert (
        store.read(dataset.id).notes == ("thinned",) and store.snapshot(dataset.id).content == kept.snapshot().content
    )
    assert store.read(dataset.id).bars.equals(kept.bars) and store.read(dataset.id, version=0).bars.equals(dataset.bars)
    assert store.write(store.read(dataset.id, version=0), replace=True) == 2
    assert store.snapshot(dataset.id).content == dataset.snapshot().content
    if len(dataset.symbols) > 1:
        store.write(replace(dataset, bars=dataset.bars.filter(symbol=dataset.symbols[0])), replace=True)
        assert store.read(dataset.id).symbols == dataset.symbols[:1]
    with pytest.raises(DataError, match="no bars"):
        store.write(replace(dataset, bars=dataset.bars.clear()), replace=True)


def test_history_says_what_each_version_did_and_why(store, dataset):
    bars, changed = dataset.bars, pl.col("volume") + 1
    store.write(replace(dataset, bars=bars[:40]), reason="imported")
    store.write(replace(dataset, bars=pl.concat([bars[30:35].with_columns(changed), bars[35:50]])))
    store.write(replace(dataset, bars=bars[30:35]), reason="nothing is as it was: ünïcode, 'quotes'")
    store.write(replace(dataset, bars=bars[10:50]), reason="the first ten were wrong", replace=True)
    store.write(replace(dataset, bars=bars[10:50]), reason="no change, no version", replace=True)
    history = store.history(str(dataset.id))
    assert history.drop("at").rows() == [
        (0, "imported", 40, 0, 0),
        (1, "", 10, 5, 0),
        (2, "nothing is as it was: ünïcode, 'quotes'", 0, 5, 0),
        (3, "the first ten were wrong", 0, 0, 10),
    ]
    assert (
        history["version"].to_list() == store.versions(dataset.id)
        and history["at"].is_sorted()
        and history["at"].dtype == pl.Datetime("us", "UTC")
    )


@pytest.mark.parametrize(
    "volume", [pl.lit(None, pl.Float64), pl.when(pl.int_range(pl.len()) % 3 == 0).then("volume")], ids=["all", "some"]
)
def test_volume_may_be_unknown(store, volume):
    dataset = make_dataset("1m", 100, timedelta(days=1))
    store.write(nullable := replace(dataset, bars=dataset.bars.with_columns(volume=volume)))
    assert store.read(dataset.id).bars.equals(nullable.bars)
    assert store.write(nullable) == 0
    store.write(dataset)
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_metadata(store):
    instrument = Instrument(
        "coins",
        "test",
        "perpetual",
        tick=0.1,
        lot=1e-5,
        min_notional=5,
        multiplier=10,
        inverse=True,
        quote="BTC",
        calendar="XNYS",
    )
    dataset = replace(
        make_dataset("1d"),
        instrument=instrument,
        adjustment="total",
        close_only=True,
        notes=("survivors — only", 'quoted "so"'),
    )
    store.write(dataset)
    assert replace(store.read(dataset.id), version=None, bars=dataset.bars) == dataset
    noted = replace(dataset, notes=())
    assert store.write(noted) == 1  # what a dataset carries along is content too
    assert store.read(dataset.id).notes == () and store.read(dataset.id, version=0).notes == dataset.notes
    assert store.write(noted) == 1


def _null(bars):
    return bars.with_columns(close=pl.when(pl.int_range(pl.len()) != 5).then("close"))


INVALID = {
    "unsorted": lambda b: b[::-1],
    "duplicate": lambda b: pl.concat([b[:3], b[2:]]),
    "infinite": lambda b: b.with_columns(high=pl.lit(float("inf"))),
    "not a number": lambda b: b.with_columns(volume=pl.lit(float("nan"))),
    "no price": _null,
    "no volume column": lambda b: b.drop("volume"),
    "one column more": lambda b: b.with_columns(vwap="close"),
    "known too early": lambda b: b.with_columns(known_at="ts"),
    "no time zone": lambda b: b.with_columns(pl.col("ts").dt.replace_time_zone(None)),
    "whole prices": lambda b: b.with_columns(pl.col("close").cast(pl.Int64)),
    "no bars": lambda b: b.clear(),
}


@pytest.mark.parametrize("damage", INVALID)
def test_invalid_bars_change_nothing(store, damage):
    with pytest.raises(DataError):
        store.write(replace(make_dataset(), bars=INVALID[damage](make_dataset().bars)))
    assert store.datasets() == []
    store.write(make_dataset(n=30))
    before = store.snapshot("test/coins/1h")
    with pytest.raises(DataError):
        store.write(replace(make_dataset(), bars=INVALID[damage](make_dataset().bars)))
    assert store.read("test/coins/1h").snapshot() == before


@pytest.mark.parametrize("call", ["read", "versions", "history", "snapshot", "verify", "compact"])
def test_unknown_datasets_are_answered_with_near_names(store, call):
    with pytest.raises(InputError, match="algo data import"):
        getattr(store, call)("test/coins/1h")
    store.write(make_dataset())
    with pytest.raises(InputError, match="Did you mean 'test/coins/1h'"):
        getattr(store, call)("test/coin/1h")
    with pytest.raises(InputError, match="venue/symbol/timeframe"):
        getattr(store, call)("../coins/1h")


@pytest.mark.parametrize("change", [{"adjustment": "split"}, {"close_only": True}], ids=str)
def test_what_does_not_mix_is_refused_unless_it_replaces_all(store, change):
    store.write(make_dataset(n=30))
    before, other = store.snapshot("test/coins/1h"), replace(make_dataset(), **change)
    for write in (store.write, store.append):
        with pytest.raises(InputError, match="another id"):
            write(other)
    assert store.read(other.id).snapshot() == before
    store.write(other, replace=True)
    assert store.read(other.id).metadata() == other.metadata()


@pytest.mark.parametrize("change", [{"kind": "equity"}, {"calendar": "XNYS"}], ids=str)
def test_another_kind_of_market_is_refused_unless_it_replaces_all(store, change):
    store.write(dataset := make_dataset())
    other = replace(dataset, instrument=replace(dataset.instrument, **change), bars=dataset.bars[:20])
    for write in (store.write, store.append):
        with pytest.raises(InputError, match="another id"):
            write(other)
    assert store.read(dataset.id).bars.equals(dataset.bars)
    store.write(other, replace=True)
    assert store.read(dataset.id).instrument == other.instrument


@pytest.mark.parametrize(("timeframe", "target"), [("1h", "1d"), ("1h", "1w"), ("1d", "1mo")])
def test_sessions_make_days_weeks_and_months(store, timeframe, target):
    """A range of them is the whole cut, though a session of Sydney begins on the day before."""
    step = timeframe_duration(timeframe)
    due = session_bars("XASX", START.date(), START.date() + timedelta(days=150), step)
    holed = due.filter(pl.int_range(pl.len()) % 7 > 0)
    prices = {name: pl.int_range(1.0, pl.len() + 1) + n for n, name in enumerate(("low", "open", "close", "high"))}
    parts = [part.select(symbol=pl.lit(name), ts="ts", known_at="end", **prices)
             for name, part in (("A", due), ("B", holed), ("C", due[: due.height // 3]))]  # fmt: skip
    bars = make_bars(pl.concat(parts), step)
    shares = Instrument("shares", "test", "equity", calendar="XASX")
    store.write(dataset := Dataset(DatasetId("test", "shares", timeframe), bars, shares))
    whole = store.resample(dataset.id, target)
    assert whole.bars.equals(resample_bars(bars, timeframe, target, "XASX")) and whole.version == 0
    assert whole.instrument == replace(shares, calendar="XASX" if target == "1d" else "24/7")
    times = whole.bars["ts"].unique().sort()
    for start, end in ((times[1], times[3]), (times[1] + timedelta(hours=1), times[-1]), (times[2], None)):
        expected = whole.bars.filter(pl.col("ts") >= start, pl.col("ts") < end if end else pl.lit(True))
        assert store.resample(dataset.id, target, start=start, end=end).bars.equals(expected)
    for days in ("2d", "3d"):
        with pytest.raises(InputError, match=rf"no bars of {days} on the sessions of XASX.*1d.*1w.*1mo"):
            store.resample(dataset.id, days)


def test_a_newer_schema_is_neither_read_nor_written_over(url):
    module = sys.modules[type(open_store(url)).__module__]
    newer = module.SCHEMA_VERSION + 1

    @contextmanager
    def updated():
        with pytest.MonkeyPatch.context() as m:
            m.setattr(module, "SCHEMA_VERSION", newer)
            m.setitem(
                module.MIGRATIONS,
                newer - 1,
                (lambda hypertable: []) if module.__name__.endswith("postgres") else (lambda frame, id: frame),
            )
            yield open_store(url)

    with updated() as store:
        store.write(make_dataset())
        before = store.snapshot("test/coins/1h")
    for call in (lambda store: store.read("test/coins/1h"), lambda store: store.write(make_dataset(n=80))):
        with pytest.raises(
            DataError, match=rf"schema version {newer} and this package knows up to {newer - 1}\. Update"
        ):
            call(open_store(url))
    with updated() as store:
        assert store.snapshot("test/coins/1h") == before


def test_datasets_do_not_touch_each_other(store):
    hours, days = make_dataset(), make_dataset("1d")
    other = replace(make_dataset(seed=4), id=DatasetId("other", "coins:x", "1h"))
    for d in (days, other, hours):
        store.write(d)
    assert store.datasets() == sorted([days.id, other.id, hours.id])
    assert all(store.read(d.id).bars.equals(d.bars) for d in (days, other, hours))


def test_appending_is_writing(store, dataset):
    """One bar, many bars, and bars that overlap; read in between."""
    assert store.append(replace(dataset, bars=dataset.bars.filter(pl.col("ts") < dataset.bars["ts"][20]))) is None
    for first, last in ((20, 21), (21, 25), (23, 40), (40, 60)):
        low, high = dataset.bars["ts"][first], dataset.bars["ts"][last - 1]
        store.append(replace(dataset, bars=dataset.bars.filter(pl.col("ts").is_between(low, high))))
        assert store.read(dataset.id).bars.equals(dataset.bars.filter(pl.col("ts") <= high))
    assert [row[2:] for row in store.history(dataset.id).drop("at").rows()][1] == (len(dataset.symbols), 0, 0)


def test_compaction_keeps_content_and_versions(store, dataset):
    for first in range(0, 60, 6):
        store.append(replace(dataset, bars=dataset.bars[first : first + 6]))
    before, count = store.snapshot(dataset.id), len(store.versions(dataset.id))
    merged = store.compact(dataset.id)
    assert store.snapshot(dataset.id).content == before.content and store.verify(dataset.id) == []
    assert len(store.versions(dataset.id)) == count + (merged > 0)
    if merged:
        assert store.history(dataset.id).row(-1)[3:] == (0, 0, 0)
    assert store.compact(dataset.id) == 0 and len(store.versions(dataset.id)) == count + (merged > 0)
    for version in range(count):
        assert store.read(dataset.id, version=version).bars.equals(dataset.bars[: 6 * version + 6])
    store.write(changed := replace(dataset, bars=dataset.bars[3:9].with_columns(volume=pl.lit(7.0))))
    assert store.read(dataset.id).bars.equals(pl.concat([dataset.bars[:3], changed.bars, dataset.bars[9:60]]))
    assert store.verify(dataset.id) == []


def test_retention_drops_what_is_older(store, dataset):
    store.write(dataset)
    since = dataset.bars["ts"][40]
    kept = dataset.bars.filter(pl.col("ts") >= since)
    assert store.retain(dataset.id, since.astimezone(ZoneInfo("Asia/Tokyo"))) == dataset.bars.height - kept.height
    assert store.read(dataset.id).bars.equals(kept) and store.read(dataset.id, version=0).bars.equals(dataset.bars)
    assert store.history(dataset.id).row(-1)[3:] == (0, 0, dataset.bars.height - kept.height)
    assert store.retain(str(dataset.id), since) == 0 and store.versions(dataset.id) == [0, 1]
    with pytest.raises(InputError, match="tzinfo=UTC"):
        store.retain(dataset.id, datetime(2021, 12, 1))
    with pytest.raises(InputError, match="Unknown dataset"):
        store.retain("test/other/1h", since)
    assert store.verify(dataset.id) == []
    store.write(dataset)
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_retention_that_would_leave_nothing_is_refused(store, dataset):
    store.write(dataset)
    last = dataset.bars["ts"].max()
    for since in (last + timedelta(microseconds=1), datetime(2100, 1, 1, tzinfo=UTC)):
        with pytest.raises(DataError) as raised:
            store.retain(dataset.id, since)
        assert (
            str(raised.value)
            == f"{dataset.id} has no bars from {since} on; nothing would be left. Choose a time up to {last}."
        )
    assert store.read(dataset.id).bars.equals(dataset.bars) and store.versions(dataset.id) == [0]
    newest = dataset.bars.filter(ts=last)
    assert store.retain(dataset.id, last) == dataset.bars.height - newest.height and store.read(dataset.id).bars.equals(
        newest
    )


def test_a_change_made_for_an_older_version_is_refused(store, dataset):
    """What somebody else wrote meanwhile is not undone."""
    with pytest.raises(RetryableError, match="it is gone, and this change was made for version 3"):
        store.write(dataset, after=3)
    store.write(replace(dataset, bars=dataset.bars[:50]))
    read = store.read(dataset.id)
    store.append(replace(dataset, bars=dataset.bars[50:]))
    with pytest.raises(RetryableError, match="it is at version 1, and this change was made for version 0"):
        store.write(replace(read, bars=read.bars[1:]), replace=True, after=read.version)
    assert store.read(dataset.id).bars.equals(dataset.bars) and store.versions(dataset.id) == [0, 1]
    assert store.write(replace(dataset, bars=dataset.bars[1:]), replace=True, after=1) == 2


def test_the_extent_is_that_of_the_newest_version(store, dataset):
    for bars in (dataset.bars[20:40], dataset.bars[10:60], dataset.bars[55:]):
        store.write(replace(dataset, bars=bars))
    store.retain(dataset.id, dataset.bars["ts"][30])
    bars = store.read(dataset.id).bars
    assert store.extent(dataset.id) == (bars.height, bars["ts"].min(), bars["ts"].max())
    assert str(store.extent(str(dataset.id))).startswith(f"{bars.height:,} bars, {bars['ts'].min():%Y-%m-%d} to ")
    with pytest.raises(InputError, match="Unknown dataset"):
        store.extent("test/other/1h")


def test_an_append_keeps_the_notes(store):
    """Whoever adds a bar says nothing against what was noted before; whoever writes a dataset does."""
    dataset = make_dataset(notes=("from a file",))
    ts = dataset.bars["ts"]
    store.write(replace(dataset, bars=dataset.bars[:50], removed=(("A", ts[0], ts[3]),)))
    store.append(replace(dataset, bars=dataset.bars[50:55], notes=()))
    assert store.read(dataset.id).notes == ("from a file",) and store.read(dataset.id).removed == (("A", ts[0], ts[3]),)
    store.append(replace(dataset, bars=dataset.bars[55:], notes=("from a stream", "from a file")))
    assert store.read(dataset.id).notes == ("from a file", "from a stream") and store.read(dataset.id).bars.equals(
        dataset.bars
    )
    store.write(replace(dataset, notes=()))
    assert store.read(dataset.id).notes == ()


@pytest.mark.parametrize(("timeframe", "target"), [("1m", "5m"), ("1m", "1h"), ("1h", "1d"), ("1d", "1w")])
def test_coarser_bars_are_those_of_the_pure_function(store, timeframe, target):
    dataset = make_dataset(timeframe, 400, symbols=("A", "B"))
    dataset = replace(
        dataset,
        bars=dataset.bars.filter(pl.int_range(pl.len()) % 7 > 0).with_columns(
            volume=pl.when(pl.int_range(pl.len()) % 90 > 9).then("volume")
        ),
    )
    store.write(dataset)
    whole = resample_bars(dataset.bars, timeframe, target)
    found = store.resample(dataset.id, target)
    assert found.id == dataset.id._replace(timeframe=target) and found.bars.equals(whole) and found.version == 0
    start, end = whole["ts"][1], whole["ts"][3]
    assert store.resample(dataset.id, target, ["B"], start, end).bars.equals(
        whole.filter(pl.col("symbol") == "B", pl.col("ts") >= start, pl.col("ts") < end)
    )
    store.write(replace(dataset, bars=dataset.bars.with_columns(volume=pl.lit(1.0))))
    assert store.resample(dataset.id, target, version=0).bars.equals(whole)
    with pytest.raises(InputError, match="multiples"):
        store.resample(dataset.id, "7s")


WRITER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from datetime import timedelta
import polars as pl
from algo_research.data.stores.base import open_store
from support.datasets import make_dataset
store, volume, ranges = open_store(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])
dataset = make_dataset("1m", 600, every=timedelta(hours=3))
dataset.snapshot()
print("ready", flush=True)
sys.stdin.readline()
for first, last in ranges:
    store.write(replace(dataset, bars=dataset.bars[first:last].with_columns(volume=pl.lit(volume))))
"""


@pytest.mark.process
@pytest.mark.slow
def test_two_processes_write_at_once(url):
    """Ten pieces each, side by side and crosswise: no row is lost, no row is mixed."""
    dataset = make_dataset("1m", 600, every=timedelta(hours=3))
    mine = [[i, i + 40] for i in range(0, 400, 40)]  # 0..400
    yours = [[i, i + 40] for i in range(560, 190, -40)]  # 200..600, the other way
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, HERE, url, volume, json.dumps(ranges)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for volume, ranges in (("1", mine), ("2", yours))
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate(timeout=100) and writer.returncode == 0
    found = open_store(url).read(dataset.id)
    assert found.bars.drop("volume").equals(dataset.bars.drop("volume"))
    assert (
        (found.bars["volume"][:200] == 1).all()
        and (found.bars["volume"][400:] == 2).all()
        and found.bars["volume"].is_in([1.0, 2.0]).all()
    )
    assert found.version == 19  # every piece is one entry, none was lost and none written twice
    history = [open_store(url).read(dataset.id, version=v).bars.height for v in range(20)]
    assert history == sorted(history)


VICTIM = """
import sys
sys.path.insert(0, sys.argv[1])
from algo_research.data.stores.base import open_store
from support.datasets import crash_states
store = open_store(sys.argv[2])
print("ready", flush=True)
while True:
    for state in crash_states(): store.write(state, replace=True)
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_killed_writer_leaves_what_was_before_or_what_came_after(url):
    """Wherever it is hit, and the next writer need not wait for it."""
    states, rng = crash_states(), np.random.default_rng(5)
    states.append(replace(states[0], bars=states[0].bars[:50]))
    open_store(url).write(states[2])
    for _ in range(3):
        victim = subprocess.Popen([sys.executable, "-c", VICTIM, HERE, url], stdout=subprocess.PIPE)
        assert victim.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.1, 0.4))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        store = open_store(url)
        found = store.read(states[0].id)
        assert any(found.bars.equals(state.bars) for state in states) and store.verify(found.id) == []
        assert store.history(found.id)["version"].to_list() == list(range(found.version + 1))
        started = time.monotonic()
        assert store.write(states[2], replace=True) == found.version + (found.bars.height > 50)
        assert time.monotonic() - started < 60
