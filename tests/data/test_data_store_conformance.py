"""What every store of bars must do. A new store joins by its address in STORES."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable, transaction, write_deltalake

from algo_research.core.errors import DataError, InputError
from algo_research.data import store as store_module
from algo_research.data.bars import Dataset, DatasetId, make_bars, timeframe_duration
from algo_research.data.instruments import Instrument
from algo_research.data.store import DeltaStore, open_store

START = datetime(2021, 11, 29, tzinfo=UTC)
STORES = {"delta": lambda folder: f"delta://{folder}/store"}


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    return STORES[request.param](tmp_path)


@pytest.fixture
def store(url):
    return open_store(url)


def make_dataset(timeframe="1h", n=60, every=None, symbols=("BTC",), seed=0, start=START, **options):
    """Bars `every` so often (by default without gaps), which a timeframe's partitions need not follow."""
    rng = np.random.default_rng(seed)
    ts = pl.Series([start + i * (every or timeframe_duration(timeframe)) for i in range(n)], dtype=pl.Datetime("us", "UTC"))
    frames = []
    for symbol in symbols:
        low = rng.uniform(90, 100, n)
        prices = {"low": low, "open": low + 1, "close": low + 2 * rng.random(n), "high": low + 2}
        frames.append(pl.DataFrame({"symbol": [symbol] * n, "ts": ts, **prices, "volume": rng.random(n)}))
    bars = make_bars(pl.concat(frames), timeframe_duration(timeframe))
    return Dataset(DatasetId("test", "coins", timeframe), bars, Instrument("coins", "test", "spot"), **options)


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
    snapshot = store.write(dataset)
    found = store.read(dataset.id)
    assert found.bars.equals(dataset.bars) and found.bars.schema == dataset.bars.schema
    assert replace(found, bars=dataset.bars, version=None) == dataset
    assert snapshot == found.snapshot() and snapshot.content == dataset.snapshot().content
    assert store.datasets() == [dataset.id] and store.versions(str(dataset.id)) == [found.version]


def test_writing_twice_is_writing_once(store, dataset):
    first = store.write(dataset)
    assert store.write(dataset) == first
    assert store.write(replace(dataset, bars=dataset.bars[3:17])) == first
    assert len(store.versions(dataset.id)) == 1


def test_the_same_bars_in_any_pieces_have_one_hash(url, tmp_path, dataset):
    pieces = [dataset.bars[i : i + 90] for i in range(0, dataset.bars.height, 70)]
    np.random.default_rng(1).shuffle(pieces)
    store = open_store(url)
    for piece in pieces:
        snapshot = store.write(replace(dataset, bars=piece))
    assert snapshot.content == dataset.snapshot().content
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
    edges = [ts.min() - timedelta(days=1), ts.min(), ts[7], ts[7] + timedelta(microseconds=1), ts[50], ts.max(), ts.max() + timedelta(microseconds=1)]
    for start in [None, *edges]:
        for end in [None, *edges]:
            expected = dataset.bars.filter(pl.lit(True) if start is None else pl.col("ts") >= start, pl.lit(True) if end is None else pl.col("ts") < end)
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
        states.append(replace(make_dataset(n=n, seed=i), notes=(f"edition {i}",), instrument=Instrument("coins", "test", "spot", tick=float(i))))
        assert store.write(states[-1]).version == store.versions(states[-1].id)[-1]
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
    before = store.write(dataset)
    kept = replace(dataset, bars=dataset.bars.filter(pl.int_range(pl.len()) % 5 > 0)[: dataset.bars.height // 3], notes=("thinned",))
    after = store.write(kept, replace=True)
    assert (after.content, after.version) == (kept.snapshot().content, 1) and store.read(dataset.id).notes == ("thinned",)
    assert store.read(dataset.id).bars.equals(kept.bars) and store.read(dataset.id, version=0).bars.equals(dataset.bars)
    assert store.write(kept, replace=True) == after  # writing twice is writing once
    again = store.write(store.read(dataset.id, version=0), replace=True)
    assert (again.content, again.version) == (before.content, 2)
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
    assert history.drop("at").rows() == [(0, "imported", 40, 0, 0), (1, "", 10, 5, 0), (2, "nothing is as it was: ünïcode, 'quotes'", 0, 5, 0), (3, "the first ten were wrong", 0, 0, 10)]
    assert history["version"].to_list() == store.versions(dataset.id) and history["at"].is_sorted() and history["at"].dtype == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("volume", [pl.lit(None, pl.Float64), pl.when(pl.int_range(pl.len()) % 3 == 0).then("volume")], ids=["all", "some"])
def test_volume_may_be_unknown(store, volume):
    dataset = make_dataset("1m", 100, timedelta(days=1))
    store.write(nullable := replace(dataset, bars=dataset.bars.with_columns(volume=volume)))
    assert store.read(dataset.id).bars.equals(nullable.bars)
    assert store.write(nullable).version == 0
    store.write(dataset)
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_metadata(store):
    instrument = Instrument("coins", "test", "perpetual", tick=0.1, lot=1e-5, min_notional=5, multiplier=10, inverse=True, quote="BTC", calendar="XNYS")
    dataset = replace(make_dataset("1d"), instrument=instrument, adjustment="total", close_only=True, notes=("survivors — only", 'quoted "so"'))
    store.write(dataset)
    assert replace(store.read(dataset.id), version=None, bars=dataset.bars) == dataset
    noted = replace(dataset, notes=())
    assert store.write(noted).version == 1  # what a dataset carries along is content too
    assert store.read(dataset.id).notes == () and store.read(dataset.id, version=0).notes == dataset.notes
    assert store.write(noted).version == 1


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
    before = store.write(make_dataset(n=30))
    with pytest.raises(DataError):
        store.write(replace(make_dataset(), bars=INVALID[damage](make_dataset().bars)))
    assert store.read("test/coins/1h").snapshot() == before


@pytest.mark.parametrize("call", ["read", "versions", "history"])
def test_unknown_datasets_are_answered_with_near_names(store, call):
    with pytest.raises(InputError, match="algo data import"):
        getattr(store, call)("test/coins/1h")
    store.write(make_dataset())
    with pytest.raises(InputError, match="Did you mean 'test/coins/1h'"):
        getattr(store, call)("test/coin/1h")
    with pytest.raises(InputError, match="venue/symbol/timeframe"):
        getattr(store, call)("../coins/1h")


@pytest.mark.parametrize("change", [{"adjustment": "split"}, {"close_only": True}], ids=str)
def test_what_does_not_mix_is_refused(store, change):
    before = store.write(make_dataset(n=30))
    with pytest.raises(InputError, match="another id"):
        store.write(replace(make_dataset(), **change))
    assert store.read(make_dataset().id).snapshot() == before


def test_a_newer_schema_is_neither_read_nor_written_over(store, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(store_module, "SCHEMA_VERSION", store_module.SCHEMA_VERSION + 1)
        before = store.write(make_dataset())
    for call in (lambda: store.read("test/coins/1h"), lambda: store.write(make_dataset(n=80))):
        with pytest.raises(DataError, match=r"schema version 2 and this package knows up to 1\. Update"):
            call()
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", store_module.SCHEMA_VERSION + 1)
    assert store.read("test/coins/1h").snapshot() == before


def test_datasets_do_not_touch_each_other(store):
    hours, days = make_dataset(), make_dataset("1d")
    other = replace(make_dataset(seed=4), id=DatasetId("other", "coins:x", "1h"))
    for d in (days, other, hours):
        store.write(d)
    assert store.datasets() == sorted([days.id, other.id, hours.id])
    assert all(store.read(d.id).bars.equals(d.bars) for d in (days, other, hours))


WRITER = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
from test_data_store_conformance import make_dataset, open_store, pl
store, go, volume, ranges = open_store(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]), json.loads(sys.argv[5])
dataset = make_dataset("1m", 600, every=__import__("datetime").timedelta(hours=3))
dataset.snapshot()
print("ready", flush=True)
while not go.exists(): time.sleep(0.002)
for first, last in ranges:
    store.write(replace(dataset, bars=dataset.bars[first:last].with_columns(volume=pl.lit(volume))))
"""


def test_two_processes_write_at_once(url, tmp_path):
    """Ten pieces each, side by side and crosswise: no row is lost, no row is mixed."""
    dataset, go = make_dataset("1m", 600, every=timedelta(hours=3)), tmp_path / "go"
    mine = [[i, i + 40] for i in range(0, 400, 40)]  # 0..400
    yours = [[i, i + 40] for i in range(560, 190, -40)]  # 200..600, the other way
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, os.path.dirname(__file__), url, str(go), volume, json.dumps(ranges)], stdout=subprocess.PIPE)
        for volume, ranges in (("1", mine), ("2", yours))
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    go.touch()
    for writer in writers:
        assert writer.communicate(timeout=100) and writer.returncode == 0
    found = open_store(url).read(dataset.id)
    assert found.bars.drop("volume").equals(dataset.bars.drop("volume"))
    assert (found.bars["volume"][:200] == 1).all() and (found.bars["volume"][400:] == 2).all() and found.bars["volume"].is_in([1.0, 2.0]).all()
    assert found.version == 19  # every piece is one entry, none was lost and none written twice
    history = [open_store(url).read(dataset.id, version=v).bars.height for v in range(20)]
    assert history == sorted(history)


# What follows is true of Delta tables in a folder.


@pytest.mark.parametrize("before", [0, 10], ids=["first write", "new month"])
def test_a_writer_overtaken_just_before_its_commit(tmp_path, monkeypatch, before):
    """What the faster one wrote into the same month is kept."""
    slow, fast, dataset = DeltaStore(tmp_path), DeltaStore(tmp_path), make_dataset("1m", 100, every=timedelta(hours=10))
    if before:
        slow.write(make_dataset("1m", before, every=timedelta(minutes=1)))

    def overtaken(original):
        def commit(*arguments, **options):
            monkeypatch.undo()
            fast.write(replace(dataset, bars=dataset.bars[10:60]))
            return original(*arguments, **options)

        return commit

    monkeypatch.setattr(DeltaTable, "create_write_transaction", overtaken(DeltaTable.create_write_transaction))
    monkeypatch.setattr(transaction, "create_table_with_add_actions", overtaken(transaction.create_table_with_add_actions))
    slow.write(replace(dataset, bars=dataset.bars[40:]))
    assert slow.read(dataset.id, start=dataset.bars["ts"][10]).bars.equals(dataset.bars[10:])


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/algo"])
def test_an_unwritable_folder(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    store = DeltaStore(tmp_path / name)
    for call in (store.ping, lambda: store.write(make_dataset())):
        with pytest.raises(InputError, match="Choose another folder"):
            call()
    assert store.datasets() == []
    with pytest.raises(InputError, match="Unknown dataset"):
        store.read("test/coins/1h")


def test_something_in_the_way(tmp_path):
    store = DeltaStore(tmp_path)
    before = store.write(make_dataset(n=30))
    (tmp_path / "bars/test/coins/1h/part=2022").write_text("in the way")
    with pytest.raises(InputError, match="Choose another folder"):
        store.write(make_dataset(n=1000))
    assert store.read("test/coins/1h").snapshot() == before


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
from test_data_store_conformance import *
store = DeltaStore(sys.argv[2])
before = store.write(make_dataset(n=30))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from algo_research.core.errors import FatalError
with pytest.raises(FatalError, match="holds what it held before"): store.write(make_dataset(n=700))
assert store.read("test/coins/1h").snapshot() == before
"""


def test_a_full_disk_changes_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, os.path.dirname(__file__), str(tmp_path / "store")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["with space", "50%", "a#b", "a?b", "größe"])
def test_any_folder_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    dataset = make_dataset()
    for folder in (tmp_path / name, f"relative {name}"):
        store = DeltaStore(folder)
        snapshot = store.write(dataset)
        assert store.write(dataset) == snapshot == store.read(dataset.id).snapshot()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"relative {name}"])


def test_a_folder_name_that_means_another(tmp_path):
    with pytest.raises(InputError, match="Choose another folder"):
        DeltaStore(tmp_path / "a%20b")


def test_versions_outlive_the_log_retention(tmp_path, monkeypatch):
    """Delta forgets log entries older than 30 days at its next checkpoint, here every third entry."""
    monkeypatch.setattr(store_module, "_CONFIGURATION", {**store_module._CONFIGURATION, "delta.checkpointInterval": "3"})
    store, dataset = DeltaStore(tmp_path), make_dataset()
    old = time.time() - 90 * 86400
    for n in range(1, 9):
        store.write(replace(dataset, bars=dataset.bars[:n]))
        for entry in tmp_path.rglob("_delta_log/*.json"):
            os.utime(entry, (old, old))
    assert list(tmp_path.rglob("_delta_log/*.checkpoint.parquet"))
    assert [store.read(dataset.id, version=v).bars.height for v in store.versions(dataset.id)] == list(range(1, 9))


def test_a_table_of_another_program_is_refused(tmp_path):
    write_deltalake(tmp_path / "bars/test/coins/1h", make_dataset().bars)
    for call in (DeltaStore(tmp_path).read, lambda _: DeltaStore(tmp_path).write(make_dataset())):
        with pytest.raises(DataError, match="not written by this store"):
            call("test/coins/1h")


def test_files_obey_the_umask(tmp_path):
    """A store that a colleague shall read is readable by the group, if the umask says so."""
    before = os.umask(0o027)
    try:
        DeltaStore(tmp_path).write(make_dataset())
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*.parquet")} == {0o640}
