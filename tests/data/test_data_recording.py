"""What a recorder does when something goes wrong.

Nothing is forgotten before it is written, nobody is asked too early, and what cannot be understood is left out and
counted.
"""

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import polars as pl
import pytest
from support.simulated import run_simulated
from support.waiting import forever, let_pass

from algo_research.core.errors import FatalError, InputError, RetryableError
from algo_research.data.intake.recording import RecordingStore, record
from algo_research.data.market.book import DepthSnapshot, DepthUpdate, MarketTrade, trades_frame, updates_frame
from algo_research.data.venues.exchanges import RateLimited

BEGIN = datetime(2024, 1, 1, 22, tzinfo=UTC)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that were waited between two questions, without waiting."""
    seconds = []
    monkeypatch.setattr("algo_research.data.intake.recording.time", SimpleNamespace(sleep=seconds.append))
    return seconds


def micros(moment):
    return int(moment.timestamp() * 1_000_000)


def trade(id, price=100.0):
    return json.dumps(
        {"e": "aggTrade", "s": "XY", "a": id, "p": str(price), "q": "1", "T": micros(BEGIN) // 1000 + id, "m": False}
    )


class Script:
    """A feed that says its lines, connection by connection; a number in the answers is how many trades REST knows."""

    venue, page = "demo", 1000

    def __init__(self, *connections, known=0, errors=()):
        self.connections, self.known, self.errors, self.asked, self.begun = (
            list(connections),
            known,
            list(errors),
            [],
            [],
        )

    def name(self, symbol):
        return symbol.replace("-", "").replace("/", "").upper()

    def stored(self, symbol):
        return symbol.replace("/", "-").upper()

    def snapshot(self, symbol):
        return DepthSnapshot(0, 0, ((99.0, 1.0),), ((101.0, 1.0),), "XY")

    def trades_from(self, symbol, id):
        self.asked.append(id)
        if self.errors:
            raise self.errors.pop(0)
        return [MarketTrade(0, "XY", micros(BEGIN) + i * 1000, i, 100.0, 1.0, "buy") for i in range(id, self.known + 1)]

    async def listen(self, symbols, what, silence):
        self.begun.append(asyncio.get_running_loop().time())
        yield 1, ""
        for line in self.connections.pop(0) if self.connections else []:
            if isinstance(line, Exception):
                raise line
            yield 1, line
        await forever()


def recorded(feed, store, seconds, symbols=("X-Y",), **options):
    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        return await record(feed, store, symbols, stop, ["trades"], every=0.2, **options)

    return run_simulated(asyncio.wait_for(run(), 30))


def ids(store):
    return store.trades("demo", "X-Y")["id"].to_list()


def test_what_cannot_be_written_is_not_forgotten(tmp_path, monkeypatch):
    """The first write fails: the recording ends with an error, and the final write brings everything."""
    store, real, failures = RecordingStore(tmp_path), RecordingStore.append, [FatalError("the disk is full")]

    def append(self, *given):
        if failures:
            raise failures.pop()
        return real(self, *given)

    monkeypatch.setattr(RecordingStore, "append", append)
    with pytest.raises(FatalError, match="disk is full"):
        recorded(Script([trade(1), trade(2), trade(3)]), store, 2)
    assert ids(store) == [1, 2, 3]


def test_a_hole_is_filled_and_what_rest_does_not_know_yet_is_asked_for_again(tmp_path):
    class Late(Script):
        def trades_from(self, symbol, id):
            self.known = 5 if self.asked else 0  # REST lags behind the stream once
            return super().trades_from(symbol, id)

    feed = Late([trade(1), trade(6)])
    report = recorded(feed, RecordingStore(tmp_path), 3)
    assert ids(RecordingStore(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert (report.filled, report.lost) == (4, 0) and len(feed.asked) == 2


def test_what_is_really_gone_is_counted(tmp_path, waits):
    report = recorded(Script([trade(1), trade(4)]), RecordingStore(tmp_path), 5)
    assert ids(RecordingStore(tmp_path)) == [1, 4] and report.lost == 2 and waits == [1.0] * 3


def test_who_is_told_to_wait_waits(tmp_path):
    """429 with 2 seconds: the next connection is made after them, not after one."""
    feed = Script([trade(1), trade(3)], [], errors=[RateLimited("too many requests", 2.0)], known=2)
    recorded(feed, RecordingStore(tmp_path), 4)
    assert len(feed.begun) == 2 and feed.begun[1] - feed.begun[0] >= 2.0


def test_a_feed_that_only_fails_is_asked_less_and_less_often(tmp_path):
    feed = Script(*[[RetryableError("no")] for _ in range(20)])
    recorded(feed, RecordingStore(tmp_path), 7)
    assert len(feed.begun) == 3  # after 2 and 4 seconds


def test_messages_that_cannot_be_understood_are_counted_and_left_out(tmp_path):
    report = recorded(Script([trade(1), "<html>", trade(2, price=0.0), trade(3)]), RecordingStore(tmp_path), 1)
    assert ids(RecordingStore(tmp_path)) == [1, 3] and report.garbled == 2 and report.lost == 0


def test_folders_with_spaces_and_ranges_of_other_time_zones(tmp_path):
    store = RecordingStore(tmp_path / "my räume #1")
    events = [
        MarketTrade(0, "XY", micros(BEGIN + timedelta(minutes=m)), i, 100.0, 1.0, "buy")
        for i, m in enumerate((0, 60, 119, 121))
    ]
    for event in events:
        store.append("trades", "demo", "X-Y", trades_frame([event]))
    assert ids(store) == [0, 1, 2, 3]
    east = timezone(timedelta(hours=3))
    assert store.trades("demo", "X-Y", BEGIN.astimezone(east), (BEGIN + timedelta(minutes=120)).astimezone(east))[
        "id"
    ].to_list() == [0, 1, 2]
    with pytest.raises(InputError, match="time zone"):
        store.trades("demo", "X-Y", datetime(2024, 1, 1))
    with pytest.raises(InputError, match="percent code"):
        RecordingStore(tmp_path / "a%20b").append("trades", "demo", "X-Y", trades_frame(events))


def test_depth_is_found_by_when_it_was_received(tmp_path):
    """An update of just before midnight that came just after it belongs to the new day."""
    store, midnight = RecordingStore(tmp_path), datetime(2024, 1, 2, tzinfo=UTC)
    update = DepthUpdate(
        micros(midnight) * 1000 + 20_000_000, "XY", micros(midnight) - 40_000, 1, 1, ((99.0, 1.0),), ()
    )
    store.append("depth", "demo", "X-Y", updates_frame([update]))
    assert store.depth("demo", "X-Y", midnight).height == 1


def test_many_writes_are_merged_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("algo_research.data.intake.recording.MANY", 10)
    store = RecordingStore(tmp_path)
    for i in range(25):
        store.append(
            "trades", "demo", "X-Y", trades_frame([MarketTrade(0, "XY", micros(BEGIN) + i, i, 100.0, 1.0, "buy")])
        )
    from deltalake import DeltaTable

    assert ids(store) == list(range(25)) and store.last_trade("demo", "X-Y") == 24
    assert len(DeltaTable(str(tmp_path / "trades" / "demo" / "X-Y")).file_uris()) < 20


def test_a_market_written_otherwise_is_the_same_recording(tmp_path):
    store = RecordingStore(tmp_path)
    for symbol, known in (("X-Y", 3), ("x/y", 5)):
        recorded(Script([trade(known)], known=known), store, 1, symbols=[symbol])
    assert store.recorded() == [("trades", "demo", "X-Y")] and ids(store) == [3, 4, 5]


def test_one_market_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="same market"):
        asyncio.run(record(Script(), RecordingStore(tmp_path), ["X-Y", "X/Y"], asyncio.Event(), ["trades"]))
    assert pl.Series(list(tmp_path.iterdir()), dtype=pl.Object).is_empty()


def test_who_cannot_write_stops_asking(tmp_path):
    """A long hole is filled page by page in a thread, which must not go on when nobody is left to write."""

    class Endless(Script):
        def trades_from(self, symbol, id):
            self.asked.append(id)
            let_pass(0.02)  # a page takes a while, and the write fails meanwhile
            return [MarketTrade(0, "XY", micros(BEGIN) + i, i, 100.0, 1.0, "buy") for i in range(id, id + 100)]

    class Full(RecordingStore):
        def append(self, *arguments):
            raise FatalError("the disk is full")

    feed = Endless([trade(1), trade(20_000)])
    with pytest.raises(FatalError, match="the disk is full"):
        recorded(feed, Full(tmp_path), 20)
    assert 0 < len(feed.asked) < 100  # of two hundred


def test_a_recording_that_ends_before_a_hole_is_filled_ends_before_the_hole(tmp_path):
    """The end comes while something is written, and the feed goes on meanwhile. The next recorder goes on after the
    last trade: one behind the hole would hide it for ever."""
    said = threading.Event()

    async def run():
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        class Ending(Script):
            async def listen(self, symbols, what, silence):
                for line in ("", trade(1)):
                    yield 1, line
                await stop.wait()
                for line in (trade(3), trade(4)):
                    yield 1, line
                said.set()
                await forever()

        class Busy(RecordingStore):
            def append(self, *given):
                loop.call_soon_threadsafe(stop.set)
                assert said.wait(10)
                super().append(*given)

        await asyncio.wait_for(record(Ending(known=4), Busy(tmp_path), ["X-Y"], stop, ["trades"], every=0.2), 30)

    run_simulated(run())
    assert ids(RecordingStore(tmp_path)) == [1]
    recorded(Script([trade(5)], known=5), RecordingStore(tmp_path), 1)
    assert ids(RecordingStore(tmp_path)) == [1, 2, 3, 4, 5]
