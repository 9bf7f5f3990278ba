"""Trades and the order book of the sandbox: REST and streams tell one story, and an unmodified ccxt reads it."""

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import ccxt
import ccxt.pro
import polars as pl
import pytest

from algo_research.core.errors import DataError, InputError
from algo_research.data.catalog import load_dataset
from algo_research.data.market.book import DepthUpdate, OrderBook, decode_message
from algo_research.data.stores.base import open_store
from algo_research.data.venues.exchanges import ExchangeSource
from algo_research.sandbox.exchange import Exchange, running
from algo_research.sandbox.faults import Faults
from algo_research.sandbox.market import captured_symbol, symbols_of
from algo_research.sandbox.tape import read_capture
from algo_research.sandbox.time import MarketTime

START = datetime(2015, 1, 5, tzinfo=UTC)
MINUTE = 60_000


@pytest.fixture(scope="module")
def market():
    return symbols_of([load_dataset("synthetic/garch:1/1m", open_store("delta://store", "nowhere"))])


@pytest.fixture
def exchange(market):
    with running(Exchange(market, MarketTime(START + timedelta(seconds=30), 20))) as started:
        yield started


def binance(exchange, module=ccxt):
    """ccxt's own client, asking the sandbox instead of the world."""
    return module.binance(ExchangeSource("sandbox", exchange.url).settings)


def test_trades_make_the_bars(market):
    symbol = market["GARCH1USDT"]
    for i in (0, 7, 1000):
        begin = int(symbol.times[i])
        traded = symbol.tape.trades(begin - 1, begin + symbol.step - 1)
        o, h, low, c, v = symbol.values[i]
        p = traded.prices
        assert (p[0], p.max(), p.min(), p[-1]) == (o, h, low, c) and traded.amounts.sum() == pytest.approx(v)
        assert traded.ids.tolist() == list(range(traded.ids[0], traded.ids[0] + len(p)))
        assert symbol.upto(begin + symbol.step - 1)[1][-1] == pytest.approx(
            symbol.values[i]
        )  # the open bar ends where the closed one is


def test_a_book_is_its_snapshot_and_all_updates(market):
    """Whatever the moments at which one looks, and the best prices are those of the bookTicker stream."""
    tape = market["GARCH1USDT"].tape
    now = int(market["GARCH1USDT"].times[5])
    first = tape.book(now)
    book = OrderBook("GARCH1USDT")
    book.apply_snapshot(
        decode_message(
            json.dumps(
                {
                    "lastUpdateId": first.id,
                    "bids": [[str(p), str(q)] for p, q in first.bids.items()],
                    "asks": [[str(p), str(q)] for p, q in first.asks.items()],
                }
            ),
            0,
        )
    )
    for wait in (1, 999, 1000, 1001, 2500, 60_000, 300, 3_600_000):
        for told in tape.updates(now, now + wait):
            assert (
                book.apply_update(
                    decode_message(json.dumps({"e": "depthUpdate", "E": now, "s": "GARCH1USDT", **told}), 0)
                )
                == "applied"
            )
        now += wait
        there = tape.book(now)
        rows = book.levels(200)
        assert (
            dict(rows.select("bid", "bid_amount").drop_nulls().iter_rows()) == there.bids
            and dict(rows.select("ask", "ask_amount").drop_nulls().iter_rows()) == there.asks
        )
        assert book.last_id == there.id and book.best_bid[0] < book.best_ask[0]
        last = tape.trades(now - 3_600_000, now, last=1).prices[0]
        assert book.best_bid[0] <= last <= book.best_ask[0]


@pytest.mark.server
def test_ccxt_reads_trades_and_books(exchange):
    client = binance(exchange)
    book = client.fetch_order_book("GARCH1/USDT", 5)
    assert len(book["bids"]) == len(book["asks"]) == 5 and book["bids"][0][0] < book["asks"][0][0] and book["nonce"] > 0
    trades = client.fetch_trades("GARCH1/USDT", limit=30)
    assert len(trades) == 30 and trades[-1]["timestamp"] <= exchange.time.now()
    since = int(START.timestamp() * 1000)
    minute = client.fetch_trades("GARCH1/USDT", since=since - MINUTE, limit=60, params={"until": since - 1})
    bar = next(row for row in client.fetch_ohlcv("GARCH1/USDT", "1m", since=since - MINUTE, limit=1))
    assert len(minute) == 60 and sum(t["amount"] for t in minute) == pytest.approx(bar[5])
    assert [
        minute[0]["price"],
        max(t["price"] for t in minute),
        min(t["price"] for t in minute),
        minute[-1]["price"],
    ] == bar[1:5]
    following = client.public_get_aggtrades({"symbol": "GARCH1USDT", "fromId": minute[-1]["id"], "limit": 3})
    assert [int(t["a"]) - int(minute[-1]["id"]) for t in following] == [0, 1, 2]
    ticker = client.fetch_bids_asks(["GARCH1/USDT"])["GARCH1/USDT"]
    assert ticker["bid"] < ticker["ask"]


@pytest.mark.server
def test_ccxt_watches_trades_and_books(exchange):
    """ccxt's own checks of the update ids are on: it raises, or starts anew, when one is missing."""

    async def watch():
        client = binance(exchange, ccxt.pro)
        try:
            seen = [await client.watch_order_book("GARCH1/USDT") for _ in range(10)]
            trades = [t for _ in range(5) for t in await client.watch_trades("GARCH1/USDT")]
            best = await client.watch_bids_asks(["GARCH1/USDT"])
            return seen[-1], trades, best
        finally:
            await client.close()

    book, trades, best = asyncio.run(asyncio.wait_for(watch(), 60))
    there = exchange.symbols["GARCH1USDT"].tape.book(exchange.time.now())
    assert book["bids"][0][0] < book["asks"][0][0] and book["nonce"] <= there.id
    assert trades and best["GARCH1/USDT"]["bid"] < best["GARCH1/USDT"]["ask"]


async def follow(exchange, seconds, symbol="GARCH1USDT"):
    """Keep a book as a client does: buffer, snapshot, updates; a new snapshot when the book says that it is lost.
    Tops that the book and the bookTicker stream announced, by id.
    """
    book, tops, announced, snapshots = OrderBook(symbol), {}, {}, 0
    name = symbol.lower()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{exchange.url}/stream?streams={name}@depth@100ms/{name}@bookTicker") as socket,
    ):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            event = decode_message((await socket.receive(5)).data, 0)
            if not isinstance(event, DepthUpdate):
                announced[event.id] = (event.bid, event.bid_amount, event.ask, event.ask_amount)
                continue
            if book.apply_update(event) == "applied":
                tops[event.last_id] = (*book.best_bid, *book.best_ask)
            if not book.valid:
                async with session.get(
                    f"{exchange.url}/api/v3/depth", params={"symbol": symbol, "limit": 5000}
                ) as answer:
                    book.apply_snapshot(decode_message(await answer.text(), 0))
                    snapshots += 1
    return book, tops, announced, snapshots


def agreed(tops, announced):
    """Tops that both announced; they must be the same."""
    common = tops.keys() & announced.keys()
    assert {i: tops[i] for i in common} == {i: announced[i] for i in common}
    return len(common)


@pytest.mark.server
@pytest.mark.slow
def test_lost_and_swapped_updates_are_noticed(market):
    """Each is a gap to the client; after a new snapshot its book is right again."""
    faults = Faults({"lost": 0.1, "swapped": 0.1}, seed=1)
    with running(Exchange(market, MarketTime(START, 20), faults)) as exchange:
        book, tops, announced, snapshots = asyncio.run(follow(exchange, 6))
    assert faults.counts["lost"] >= 3 and faults.counts["swapped"] >= 3
    assert book.gaps >= 3 and snapshots > 3 and agreed(tops, announced) > 20


@pytest.mark.server
def test_a_calm_stream_has_no_gap(exchange):
    book, tops, announced, snapshots = asyncio.run(follow(exchange, 4))
    assert book.gaps == 0 and snapshots <= 2 and agreed(tops, announced) > 20


@pytest.mark.server
@pytest.mark.slow
def test_a_capture_is_told_again(shared_data):
    """The captured book, its tops and its trades come over the wire as they came then; ccxt reads them."""
    capture = read_capture(shared_data / "binance_spot_btcusdt_l2_20240808.gz")
    symbol = captured_symbol(capture)
    with running(
        Exchange({symbol.name: symbol}, MarketTime(datetime.fromtimestamp(capture.start / 1000 + 1, UTC), 10))
    ) as exchange:
        book, tops, announced, _ = asyncio.run(follow(exchange, 6, "BTCUSDT"))
        assert book.gaps == 0 and agreed(tops, announced) > 50
        client = binance(exchange)
        trades = client.fetch_trades("BTC/USDT", limit=100)
        bars = client.fetch_ohlcv("BTC/USDT", "1m", since=capture.start)
    sent = {int(t["id"]): t["price"] for t in trades}
    with gzip.open(shared_data / "binance_spot_btcusdt_l2_20240808.gz", "rt") as file:
        captured = {
            m["data"]["t"]: float(m["data"]["p"])
            for m in map(json.loads, (line.partition(" ")[2] for line in file))
            if m.get("data", {}).get("e") == "trade"
        }
    assert len(sent) == 100 and sent.items() <= captured.items()
    assert (
        bars[-1][4] == trades[-1]["price"]
        or pl.Series(bars[-1][1:5]).is_between(min(captured.values()), max(captured.values())).all()
    )


def test_what_is_no_capture_is_named(tmp_path, shared_data):
    with pytest.raises(InputError, match="There is no capture"):
        read_capture(tmp_path / "nothing.gz")
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(DataError, match="line 1 is no captured message"):
        read_capture(tmp_path / "text")
    (tmp_path / "empty").write_text("")
    with pytest.raises(DataError, match="no snapshot"):
        read_capture(tmp_path / "empty")
    with pytest.raises(InputError, match="futures"):
        read_capture(shared_data / "binance_usdm_btcusdt_l2_20240808.gz")
