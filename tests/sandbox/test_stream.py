"""Streams that break: every closed bar is in the store, once. The full size is benchmarks/storm_stream.py."""

import asyncio
import json
import threading
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from storm_stream import storm
from support.simulated import pass_time, run_simulated
from support.waiting import eventually, forever, let_pass

from algo_research.core.errors import FatalError, InputError, RetryableError
from algo_research.data.intake.streams import ClosedBar, Silence, stream
from algo_research.data.market.bars import DatasetId
from algo_research.data.market.instruments import Instrument
from algo_research.data.stores.base import open_store
from algo_research.data.venues.exchanges import Answers, RateLimited

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.server
@pytest.mark.slow
def test_a_stream_that_breaks_loses_nothing(tmp_path):
    report, wrong, broken = storm(tmp_path, seconds=16, disconnects=5, silence=4, speed=4)
    assert wrong == []
    assert broken >= 3 and report.failovers >= 1 and report.bars > 10, (
        report
    )  # fewer on a busy machine; the rest came by backfill


class Clock:
    def __init__(self):
        self.moment = BEGIN

    def now(self):
        return self.moment

    def sleep(self, seconds):
        self.moment += timedelta(seconds=seconds)


class Script:
    """A feed and its past bars, as a script says:
    a number is the minute of a bar that closes, an error ends the connection, a duration passes.
    """

    venue, timeframes = "demo", ["1m"]

    def __init__(self, clock, *connections, stop=None):
        self.clock, self.connections, self.stop, self.source = clock, list(connections), stop, self

    def now(self):
        return self.clock.now()

    def instrument(self, symbol):
        return Instrument("X", "demo", "spot")

    def answers(self, symbol, timeframe):
        return Answers(page=100)

    def bars(self, symbol, timeframe, start, limit):
        import polars as pl

        from algo_research.data.venues.exchanges import PAGE_SCHEMA

        times = [t for i in range(limit) if (t := start + i * MINUTE) + MINUTE <= self.clock.now()]
        return pl.DataFrame([(t, *self.values(t)) for t in times], schema=PAGE_SCHEMA, orient="row")

    @staticmethod
    def values(t):
        minute = (t - BEGIN) / MINUTE
        return 100 + minute, 101 + minute, 99 + minute, 100.5 + minute, 1 + minute

    async def closed(self, symbols, timeframe, silence):
        if not self.connections:
            await pass_time(0.1)
            self.stop.set()
            await forever()
        for item in self.connections.pop(0):
            await pass_time(0.02)
            if isinstance(item, Exception):
                raise item
            if isinstance(item, timedelta):
                self.clock.moment += item
                yield None
            elif item is not None:
                t = BEGIN + item * MINUTE
                self.clock.moment = max(self.clock.moment, t + MINUTE)
                yield ClosedBar("X", t, *self.values(t), t + MINUTE)
            else:
                yield None
        raise RetryableError("the script has ended")


def play(folder, *connections, others=(), **options):
    """Stream what the script says; the report and the minutes in the store."""
    clock, store = Clock(), open_store("delta://store", folder)

    async def run():
        stop = asyncio.Event()
        feeds = [Script(clock, *connections, stop=stop), *(Script(clock, *c, stop=stop) for c in others)]
        return await asyncio.wait_for(
            stream(feeds, store, ["X"], "1m", clock, stop, **({"since": BEGIN} | options)), 60
        )

    report = run_simulated(run())
    id = DatasetId("demo", "X", "1m")
    bars = store.read(id).bars if id in store.datasets() else None
    if bars is not None:
        assert [r[2:7] for r in bars.iter_rows()] == [Script.values(t) for t in bars["ts"]]
    return report, [] if bars is None else [int((t - BEGIN) / MINUTE) for t in bars["ts"]]


def test_a_hole_in_the_stream_is_filled(tmp_path):
    report, minutes = play(tmp_path, [None, 0, 1, 5, 6])
    assert minutes == list(range(7)) and report.backfilled >= 3


def test_what_comes_twice_is_stored_once(tmp_path):
    report, minutes = play(tmp_path, [None, 0, 1, 1, 0, 2, 2])
    assert minutes == [0, 1, 2] and report.repeated >= 3


def test_what_passed_while_nobody_listened_is_fetched(tmp_path):
    report, minutes = play(
        tmp_path, [None, 0, 1, RetryableError("gone")], [None, 4, 5, RetryableError("gone")], [None, 9]
    )
    assert minutes == list(range(10)) and [r for r in report.interruptions if r == "gone"] == ["gone", "gone"]


def test_what_passed_is_fetched_before_the_next_bar_closes(tmp_path):
    _, minutes = play(tmp_path, [None, 0, 1, RetryableError("gone")], [timedelta(minutes=3), None])
    assert minutes == [0, 1, 2, 3, 4]


def test_a_silent_feed_is_left_for_the_next(tmp_path):
    report, minutes = play(tmp_path, [None, 0, Silence("nothing was heard")], others=[([None, 3, 4],)])
    assert minutes == list(range(5)) and report.failovers >= 1


def test_a_full_queue_loses_nothing(tmp_path):
    report, minutes = play(tmp_path, [None, *range(60)], size=1)
    assert minutes == list(range(60)), report


class Two(Script):
    """Two symbols; whatever is told of X is told of Y."""

    def instrument(self, symbol):
        return Instrument(symbol, "demo", "spot")

    async def closed(self, symbols, timeframe, silence):
        async for bar in super().closed(symbols, timeframe, silence):
            yield bar
            if bar is not None:
                yield bar._replace(symbol="Y")


def until(condition, feed, store, clock=None, seconds=20, **options):
    """Stream X and Y until it is so."""

    async def run():
        stop = asyncio.Event()
        task = asyncio.ensure_future(stream([feed], store, ["X", "Y"], "1m", clock or feed.clock, stop, **options))
        await eventually(lambda: condition() or task.done(), seconds)
        assert not task.done(), task
        stop.set()
        return await task

    return run_simulated(run())


def height(store, name):
    return store.read(f"demo/{name}/1m").bars.height if DatasetId("demo", name, "1m") in store.datasets() else 0


def test_a_symbol_whose_past_cannot_be_fetched_holds_nobody_up(tmp_path):
    class Half(Two):
        def bars(self, symbol, timeframe, start, limit):
            if symbol == "X":
                raise RetryableError("no past of X")
            return super().bars(symbol, timeframe, start, limit)

    store = open_store("delta://store", tmp_path)
    report = until(
        lambda: height(store, "Y") >= 8,
        Half(Clock(), [None, 0, 1, 2, *[None] * 1000]),
        store,
        since=BEGIN - 5 * MINUTE,
    )
    assert (
        height(store, "X") == 0
        and report.interruptions[-1] == "3 bars of X were heard and not stored; the next stream fetches them"
    )
    assert 1 <= report.interruptions.count("past bars of X: no past of X") <= 6  # after 1, 2, 4, 8 seconds


def test_a_source_is_asked_for_one_symbol_at_a_time_and_left_alone_when_it_says_so(tmp_path):
    asked, loop = [], []

    class Busy(Two):
        def bars(self, symbol, timeframe, start, limit):
            asked.append((loop[0].time(), "begin"))
            let_pass(0.05)  # whoever else asked meanwhile would be seen
            asked.append((loop[0].time(), "end"))
            if len(asked) == 2:
                raise RateLimited("too many", 1.5)
            return super().bars(symbol, timeframe, start, limit)

        async def closed(self, symbols, timeframe, silence):
            loop.append(asyncio.get_running_loop())
            async for bar in super().closed(symbols, timeframe, silence):
                yield bar

    store = open_store("delta://store", tmp_path)
    report = until(
        lambda: height(store, "X") == height(store, "Y") == 6,
        Busy(Clock(), [timedelta(minutes=1), *[None] * 1000]),
        store,
        since=BEGIN - 5 * MINUTE,
    )
    assert [what for _, what in asked] == ["begin", "end"] * (len(asked) // 2) and asked[2][0] - asked[1][0] >= 1.4
    assert report.backfilled == 12


def test_a_symbol_in_any_case(tmp_path):
    clock, store = Clock(), open_store("delta://store", tmp_path)

    async def run():
        stop = asyncio.Event()
        return await asyncio.wait_for(
            stream([Script(clock, [None, 0, 1, 2], stop=stop)], store, ["x", "X"], "1m", clock, stop, since=BEGIN), 60
        )

    run_simulated(run())
    assert store.datasets() == [DatasetId("demo", "X", "1m")] and height(store, "X") == 3


def test_what_a_repair_took_out_is_not_told_again(tmp_path):
    play(tmp_path, [None, 0, 1, 2, 3])
    store = open_store("delta://store", tmp_path)
    kept = store.read("demo/X/1m")
    store.write(
        replace(kept, bars=kept.bars[:3], removed=(("X", BEGIN + 3 * MINUTE, BEGIN + 3 * MINUTE),)), replace=True
    )
    _, minutes = play(tmp_path, [None, 3, 4], since=None)
    assert minutes == [0, 1, 2, 4]


def stopping(folder, monkeypatch, append, **options):
    """Bars that come faster than they are stored, and then an end; `append` is told of it by an event."""
    from algo_research.data.stores.delta import DeltaStore

    class Ends(Script):
        async def closed(self, symbols, timeframe, silence):
            async for bar in super().closed(symbols, timeframe, silence):
                yield bar
                if bar is not None and bar.ts == BEGIN + 9 * MINUTE:
                    self.stop.set()
                    ended.set()
                    await forever()

    original, clock, store = DeltaStore.append, Clock(), open_store("delta://store", folder)
    ended = threading.Event()
    monkeypatch.setattr(DeltaStore, "append", lambda self, dataset: append(ended, partial(original, self, dataset)))

    async def run():
        stop = asyncio.Event()
        return await asyncio.wait_for(
            stream(
                [Ends(clock, [None, *range(10)], stop=stop)], store, ["X"], "1m", clock, stop, since=BEGIN, **options
            ),
            20,
        )

    return store, run


def test_what_found_the_queue_full_before_the_end_is_fetched(tmp_path, monkeypatch):
    def slow(ended, original):
        assert ended.wait(20)
        original()

    store, run = stopping(tmp_path, monkeypatch, slow, size=1)
    report = run_simulated(run())
    assert report.left_out > 0 and height(store, "X") == 10


def test_a_store_that_fails_while_the_stream_ends_is_told_at_once(tmp_path, monkeypatch):
    def failing(ended, original):
        assert ended.wait(20)
        raise FatalError("no space left")

    for size in (1, 10_000):
        _, run = stopping(tmp_path, monkeypatch, failing, size=size)
        with pytest.raises(FatalError, match="no space left"):
            run_simulated(run())


def test_a_store_that_cannot_be_written_ends_the_stream(tmp_path, monkeypatch):
    from algo_research.data.stores.delta import DeltaStore

    def full(self, dataset):
        raise FatalError("no space left")

    monkeypatch.setattr(DeltaStore, "append", full)
    with pytest.raises(FatalError, match="no space left"):
        play(tmp_path, [None, 0, 1, 2])


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InputError, match="Unknown timeframe"):
        asyncio.run(
            stream([Script(Clock())], open_store("delta://store", tmp_path), ["X"], "2m", Clock(), asyncio.Event())
        )
    other = Script(Clock())
    other.venue = "another"
    with pytest.raises(InputError, match="one venue"):
        asyncio.run(
            stream(
                [Script(Clock()), other], open_store("delta://store", tmp_path), ["X"], "1m", Clock(), asyncio.Event()
            )
        )


@pytest.mark.server
def test_the_sandbox_says_what_it_does_not_stream():
    from algo_research.data.samples.synthetic import make_market
    from algo_research.sandbox.exchange import Exchange, MarketTime, running
    from algo_research.sandbox.market import symbols_of

    market = make_market("garch", seed=1, bars=100, timeframe="1m")

    async def ask(url):
        import aiohttp

        async with aiohttp.ClientSession() as session, session.ws_connect(url.replace("http", "ws") + "/ws") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@kline_1m"], "id": 1})
            return await socket.receive_json()

    with running(Exchange(symbols_of([market]), MarketTime(market.bars["ts"][50], 1))) as served:
        assert asyncio.run(ask(served.url))["error"]["code"] == 2
        with urllib.request.urlopen(f"{served.url}/sandbox", timeout=10) as answer:
            assert json.load(answer)["bans"] == 0
