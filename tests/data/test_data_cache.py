"""A cache makes reads faster and changes nothing else."""

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import structlog
from support.servers import free_port, listens
from support.waiting import until

from algo_research.core.errors import DataError, InputError
from algo_research.core.hashing import hash_frame
from algo_research.data.market.bars import Dataset, DatasetId, make_bars, timeframe_duration
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores import delta as store_module
from algo_research.data.stores import pieces
from algo_research.data.stores.cache import MemoryCache, RedisCache, open_cache
from algo_research.data.stores.delta import DeltaStore

MARKET = make_market("noise", 4, bars=90_000, timeframe="1m")  # nine weeks: three parts
DAY = timedelta(days=1)
START = MARKET.bars["ts"][0]


@pytest.fixture(params=["memory", "redis"])
def cache(request):
    return MemoryCache(100_000_000) if request.param == "memory" else RedisCache(request.getfixturevalue("redis_url"))


@pytest.fixture
def store(tmp_path):
    DeltaStore(tmp_path).write(MARKET)
    return DeltaStore(tmp_path)


def three_symbols() -> Dataset:
    bars = pl.concat([MARKET.bars[:50_000].with_columns(symbol=pl.lit(name)) for name in ("A", "B", "C")])
    return replace(MARKET, bars=bars)


@pytest.mark.parametrize("dataset", [MARKET, three_symbols()], ids=["one symbol", "three symbols"])
def test_reads_are_what_they_are_without(tmp_path, cache, dataset):
    plain, cached = DeltaStore(tmp_path), DeltaStore(tmp_path, cache)
    plain.write(dataset)
    names = [None, dataset.symbols[:1], dataset.symbols[::-1], []]
    spans = [
        (None, None),
        (START + 3 * DAY, START + 4 * DAY),
        (START + 30 * DAY, START + 33 * DAY + timedelta(seconds=7)),
        (START + 400 * DAY, None),
    ]
    for _ in range(2):
        for symbols in names:
            for start, end in spans:
                expected = dataset.bars.filter(
                    *[pl.col("symbol").is_in(symbols)] * (symbols is not None),
                    pl.col("ts") >= (start or START),
                    pl.col("ts") < (end or START + 999 * DAY),
                )
                for store in (plain, cached):
                    assert store.read(dataset.id, symbols, start, end).bars.equals(expected), (symbols, start, end)
    assert cache.hits > 4 * cache.misses > 0 and cache.bytes > 0
    with pytest.raises(InputError, match="Unknown symbol"):
        cached.read(dataset.id, ["nobody"])


WRITER = """
import sys
import polars as pl
from algo_research.data.stores.delta import DeltaStore
from algo_research.data.market.bars import Dataset
store = DeltaStore(sys.argv[1])
for line in sys.stdin:
    found = store.read(sys.argv[2])
    bars = found.bars[-1:].with_columns(close=pl.lit(float(line)))
    if float(line) % 2:
        bars = bars.with_columns(pl.col("ts", "known_at") + pl.duration(minutes=1))
    print(store.write(Dataset(found.id, bars, found.instrument)), flush=True)
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_read_is_never_stale(tmp_path, store, cache):
    """Another process writes between two reads, corrections and new bars in turn."""
    reader = DeltaStore(tmp_path, cache)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), str(MARKET.id)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        for i in range(8):
            assert reader.read(MARKET.id).version == i  # the newest is known, and its files are cached
            writer.stdin.write(f"{1000 + i}\n")
            writer.stdin.flush()
            assert int(writer.stdout.readline()) == i + 1
            found = reader.read(MARKET.id)
            assert (found.version, found.bars["close"][-1], found.bars.height) == (
                i + 1,
                1000 + i,
                MARKET.bars.height + (i + 1) // 2,
            )
        writer.stdin.close()


def test_a_folder_that_was_deleted_and_filled_anew(tmp_path, cache):
    reader = DeltaStore(tmp_path, cache)
    for close in (1.0, 2.0):
        DeltaStore(tmp_path).write(replace(MARKET, bars=MARKET.bars[:100].with_columns(close=close)))
        assert reader.read(MARKET.id).bars["close"].unique().to_list() == [close]
        assert reader.write(replace(MARKET, bars=MARKET.bars[:50].with_columns(close=close))) == 0
        shutil.rmtree(tmp_path / "bars")
        with pytest.raises(InputError, match="Unknown dataset"):
            reader.read(MARKET.id)


def test_every_version_has_its_own_bars(tmp_path, cache):
    store = DeltaStore(tmp_path, cache)
    for close in (1.0, 2.0, 3.0):
        store.write(replace(MARKET, bars=MARKET.bars[:100].with_columns(close=close)))
    for version in (2, 0, 1, 0, 2):
        assert store.read(MARKET.id, version=version).bars["close"][0] == version + 1


def test_threads_share_a_store(tmp_path, cache):
    """Four read while one writes: each sees a version that was, never one older than it saw before."""
    store, wrong, done = DeltaStore(tmp_path, cache), [], threading.Event()
    store.write(replace(MARKET, bars=MARKET.bars[:40_000].with_columns(close=0.0)))

    def look():
        seen = 0
        while not done.is_set():
            found = store.read(MARKET.id)
            values = found.bars["close"].unique().to_list()
            if values != [found.version] or found.version < seen:
                wrong.append((values, found.version, seen))
            seen = found.version

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(1, 15):
        store.write(replace(MARKET, bars=MARKET.bars[:40_000].with_columns(close=float(i))))
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong and store.read(MARKET.id).version == 14


def test_a_working_day(tmp_path, cache):
    """Three markets of minute bars, a new bar every minute in each, and a page that shows the last month of each and is
    drawn anew every minute; once in a while all there is of one. Nine of ten questions for a file, at least, are
    answered by the cache."""
    ids = [DatasetId("day", f"M{i}", "1m") for i in range(3)]
    store = DeltaStore(tmp_path, cache)
    for id in ids:
        store.write(Dataset(id, MARKET.bars[:80_000], MARKET.instrument))
    for minute in range(80_000, 80_025):
        now = MARKET.bars["ts"][minute]
        for id in ids:
            store.append(Dataset(id, MARKET.bars[minute : minute + 1], MARKET.instrument))
            assert store.read(id, start=None if minute % 20 == 0 else now - 30 * DAY).bars["ts"][-1] == now
    assert cache.hit_rate > 0.9, cache


def test_memory_has_a_limit(store, tmp_path):
    """A cache too small for the files still answers, and holds no more than it may."""
    for size in (1, 500_000, 30_000_000):
        cache = MemoryCache(size)
        cached = DeltaStore(tmp_path, cache)
        for _ in range(3):
            assert cached.read(MARKET.id).bars.equals(MARKET.bars)
        assert cache.held <= size
    assert cache.hits > 0


@pytest.fixture
def own_redis():
    """A server that may be killed."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    port = free_port()

    def start():
        return subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
        )

    servers = [start()]

    def again():
        servers.append(start())
        wait()

    def wait():
        until(lambda: listens(port), pause=0.005)

    wait()
    yield port, servers, again
    servers[-1].kill()
    servers[-1].wait()


@pytest.mark.process
def test_redis_goes_away_and_comes_back(tmp_path, store, own_redis):
    port, servers, again = own_redis
    now = [0.0]
    cache = RedisCache(f"redis://127.0.0.1:{port}/0", clock=lambda: now[0])
    cached = DeltaStore(tmp_path, cache)
    for _ in range(2):
        assert cached.read(MARKET.id).bars.equals(MARKET.bars)
    assert cache.hits == cache.misses == 3
    servers[0].send_signal(signal.SIGKILL)
    servers[0].wait()
    with structlog.testing.capture_logs() as logs:
        for _ in range(4):
            assert cached.read(MARKET.id).bars.equals(MARKET.bars)
            now[0] += 31
    assert [(log["log_level"], log["cache"]) for log in logs] == [("warning", f"redis://127.0.0.1:{port}/0")]
    again()
    for _ in range(2):
        assert cached.read(MARKET.id).bars.equals(MARKET.bars)
    assert cache.hits == 6


def test_redis_is_shared(tmp_path, store, redis_url):
    first, second = RedisCache(redis_url), RedisCache(redis_url)
    for cache in (first, second):
        assert DeltaStore(tmp_path, cache).read(MARKET.id).bars.equals(MARKET.bars)
    assert (first.hit_rate, second.hit_rate) == (0, 1)


@pytest.mark.process
def test_a_full_redis_is_no_error(tmp_path, store, own_redis):
    import redis

    address = f"redis://127.0.0.1:{own_redis[0]}/0"
    with redis.Redis.from_url(address) as client:
        client.config_set("maxmemory", "1mb")
    with structlog.testing.capture_logs() as logs:
        assert DeltaStore(tmp_path, address).read(MARKET.id).bars.equals(MARKET.bars)
    assert len(logs) == 1


def test_damage_behind_a_cache_is_still_found(tmp_path, store):
    cached = DeltaStore(tmp_path, "memory://100MB")
    cached.read(MARKET.id)
    for file in tmp_path.rglob("*.parquet"):
        file.write_bytes(b"not parquet")
    assert cached.read(MARKET.id).bars.equals(MARKET.bars)  # what was written
    assert len(cached.verify(MARKET.id)) == 3
    with pytest.raises(DataError, match="does not hold what was written"):
        store.read(MARKET.id)


@pytest.mark.parametrize("cache", [None, "memory://50MB"])
def test_an_older_format_is_brought_up_to_date(tmp_path, monkeypatch, cache):
    """A planted version 0 whose files have no known_at: read as it is, written anew by the first change."""
    encode, old = store_module.encode_bars, replace(MARKET, bars=MARKET.bars[:60_000])
    with monkeypatch.context() as past:
        past.setattr(store_module, "SCHEMA_VERSION", 0)
        past.setattr(store_module, "encode_bars", lambda frame: encode(frame.drop("known_at")))
        DeltaStore(tmp_path).write(old)
    assert all("known_at" not in pl.read_parquet_schema(f) for f in tmp_path.rglob("*.parquet"))
    steps = []

    def add_known_at(frame, id):
        steps.append(id)
        return make_bars(frame, timeframe_duration(id.timeframe))

    monkeypatch.setitem(store_module.MIGRATIONS, 0, add_known_at)
    store = DeltaStore(tmp_path, cache)
    assert store.read(MARKET.id).bars.equals(old.bars) and set(steps) == {MARKET.id}
    month = START.replace(day=1) + 35 * DAY
    assert store.read(MARKET.id, start=month, end=month + DAY).bars.equals(
        old.bars.filter(pl.col("ts") >= month, pl.col("ts") < month + DAY)
    )
    assert store.write(replace(MARKET, bars=MARKET.bars[60_000:60_010])) == 1
    steps.clear()
    assert DeltaStore(tmp_path).read(MARKET.id).bars.equals(MARKET.bars[:60_010]) and not steps  # one format a version
    assert store.read(MARKET.id, version=0).bars.equals(old.bars)
    assert store.history(MARKET.id).select("added", "changed", "removed").rows() == [(60_000, 0, 0), (10, 0, 0)]
    assert store.verify(MARKET.id) == []


@pytest.mark.parametrize(
    "named",
    [
        lambda file: hash_frame(pl.read_parquet(file, hive_partitioning=False)),
        lambda file: hashlib.sha256(file.read_bytes()).hexdigest(),
    ],
    ids=["by the frame", "by SHA-256"],
)
def test_files_named_as_they_were_at_first_are_sound(tmp_path, named):
    store = DeltaStore(tmp_path)
    store.write(replace(MARKET, bars=MARKET.bars[:10]))
    file = next(tmp_path.rglob("*.parquet"))
    log = next(tmp_path.rglob("_delta_log/*.json"))
    name = f"00000000-{named(file)[:16]}.parquet"
    then = log.read_text().replace("algo_sum", "no_sum_then").replace("algo_check", "no_check_then")
    log.write_text(then.replace(file.name, name))
    file = file.rename(file.with_name(name))
    assert DeltaStore(tmp_path).verify(MARKET.id) == []
    pl.read_parquet(file, hive_partitioning=False).with_columns(close=1.0).write_parquet(file)
    assert len(DeltaStore(tmp_path).verify(MARKET.id)) == 1


def test_addresses():
    assert open_cache("memory://2gb").max_bytes == 2_000_000_000
    shown = repr(open_cache(f"redis://me:{'hidden'}@localhost:6379/3"))
    assert "hidden" not in shown and shown.startswith("RedisCache(redis://localhost:6379/3")
    for wrong in ("memory://", "memory://0MB", "redis://", "disk://x", "memory", "redis://host/db"):
        with pytest.raises(InputError):
            open_cache(wrong)


def test_a_moment_of_the_epoch():
    assert pieces._microseconds(datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)) == -1_000_000
