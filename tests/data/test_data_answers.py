"""Exchanges answer by different rules; ccxt's own clients, with only the HTTP answer replaced, bring every bar.

Each venue below builds its answer from the request that ccxt made, in the venue's own JSON, by the rule that ccxt's
source and public reports tell of it; where they do not say whether the next or the newest bars come, the newest do.
The market they all trade was listed 400 days after the sync begins, halts for longer than most pages cover, and its
newest bar is still open. Before these rules were known, eleven of the seventeen stored nothing of it, or 499 bars of
3,960, and one took 7,718 requests.
"""

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import ccxt
import numpy as np
import polars as pl
import pytest
from support.command import algo

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import AlgoError, DataError, InputError
from algo_research.data.intake.ingest import fetch_range, plan_sync, sync
from algo_research.data.intake.perpetuals import PerpetualExchange, PerpetualStore, sync_perpetual
from algo_research.data.intake.recording import BinanceFeed
from algo_research.data.market.bars import BARS_SCHEMA, Dataset, DatasetId, make_bars
from algo_research.data.market.instruments import Instrument
from algo_research.data.stores.delta import DeltaStore
from algo_research.data.venues.exchanges import ExchangeSource, market_symbol

MINUTE, DAY = 60, 86_400
NOW = datetime(2024, 3, 5, 12, 0, 30, tzinfo=UTC)  # the bar of 12:00 is half a minute old
LISTED = NOW - timedelta(days=4, seconds=30)
SINCE = LISTED - timedelta(days=400)
HALT = (LISTED + timedelta(days=1, hours=3), LISTED + timedelta(days=2, hours=9))  # 30 hours


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


class Market:
    """Opening times of bars of any length; a bar is there if anything was traded in it."""

    def __init__(self, *traded: tuple[datetime, datetime], now=NOW):
        self.traded, self.now = traded or ((LISTED, HALT[0]), (HALT[1], NOW)), now
        self.known: dict[int, np.ndarray] = {}

    def opens(self, step: int) -> np.ndarray:
        """All of them up to now, the one that is still open included, in seconds."""
        if step not in self.known:
            ends = [(seconds(a), min(seconds(b), self.now.timestamp())) for a, b in self.traded]
            parts = [np.arange(a // step, math.ceil(b / step)) for a, b in ends]
            self.known[step] = np.unique(np.concatenate(parts)) * step
        return self.known[step]

    @staticmethod
    def row(ts: int) -> tuple[int, float, float, float, float, float]:
        """ts, open, high, low, close, volume"""
        price = 100.0 + ts // MINUTE % 977 / 8
        return int(ts), price, price + 1.5, price - 2.5, price + 0.5, 1.0 + ts // MINUTE % 13


def between(ts: np.ndarray, first: float = -math.inf, last: float = math.inf) -> np.ndarray:
    """Both ends included."""
    return ts[(ts >= first) & (ts <= last)]


class Refused(Exception):
    """The venue answers with an error: its status and its body."""


class Venue:
    """One exchange: `answer` is what it says to a request for bars."""

    name, symbol, id = "", "BTC/USDT", "BTCUSDT"
    page = 1000  # bars at once
    keeps: int | None = None  # its newest bars only

    def __init__(self, market: Market):
        self.market, self.requests = market, 0
        self.cookies, self.headers = {}, {}

    def kept(self, step: int) -> np.ndarray:
        opens = self.market.opens(step)
        return opens if self.keeps is None else opens[-self.keeps :]

    def answer(self, path: str, q: dict[str, str]) -> object:
        raise NotImplementedError

    # what follows stands in for `requests.Session`
    def close(self) -> None: ...

    def request(self, method: str, url: str, data: bytes | None = None, **_) -> "Reply":
        self.requests += 1
        parts = urlsplit(url)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            return Reply(200, self.answer(parts.path, asked | (json.loads(data) if data else {})))
        except Refused as e:
            return Reply(*e.args)

    def source(self) -> ExchangeSource:
        return self.behind(ExchangeSource(self.name))

    def behind(self, source: ExchangeSource) -> ExchangeSource:
        """A source that asks this venue, at its time."""
        api = source.ask("its client", lambda api: api)
        now = int(self.market.now.timestamp() * 1000)
        api.milliseconds, api.seconds, api.microseconds = (lambda: now), (lambda: now // 1000), (lambda: now * 1000)
        api.session, api.enableRateLimit = self, False
        api.set_markets(list(self.markets()))
        source.now = lambda: self.market.now
        return source

    def markets(self) -> Iterator[dict]:
        spot = {
            "id": self.id, "symbol": self.symbol, "base": "BTC", "quote": self.symbol[4:], "baseId": "BTC",
            "quoteId": self.symbol[4:], "type": "spot", "spot": True, "swap": False, "future": False, "option": False,
            "contract": False, "linear": None, "inverse": None, "subType": None, "active": True, "limits": {},
            "precision": {"price": 0.01, "amount": 0.001}, "info": {}, "baseName": "BTC",
        }  # fmt: skip
        yield spot
        for kind, settle in (("linear", "USDT"), ("inverse", "BTC")):
            quote = "USD" if kind == "inverse" else "USDT"
            yield spot | {
                "id": f"{self.id}-{kind}", "symbol": f"BTC/{quote}:{settle}", "type": "swap", "spot": False,
                "swap": True, "contract": True, "quote": quote, "settle": settle, "settleId": settle,
                "linear": kind == "linear", "inverse": kind == "inverse", "subType": kind, "contractSize": 1.0,
            }  # fmt: skip


class Reply:
    """What of `requests.Response` ccxt looks at."""

    def __init__(self, status: int, body: object):
        self.status_code, self.text = status, json.dumps(body)
        self.headers, self.reason, self.encoding = {}, "OK" if status == 200 else "Bad Request", "utf-8"

    def raise_for_status(self) -> None:
        from requests.exceptions import HTTPError

        if self.status_code != 200:
            raise HTTPError(f"{self.status_code} {self.reason}", response=self)


UNITS = {"s": 1, "m": MINUTE, "h": 3600, "d": DAY, "w": 7 * DAY}


def length(text: str) -> int:
    """Seconds of 1m, 5min, 1H, 1Dutc, 1day, 60, D and the like."""
    number = "".join(c for c in text if c.isdigit()) or "1"
    unit = text.lstrip("0123456789")[:1] or "m"
    return int(number) * UNITS[unit.lower()]


def most(limit: int, asked: str) -> int:
    """What was asked for; of more than a venue gives nothing would come."""
    if int(asked) > limit:
        raise Refused(400, {"message": f"limit {asked} is more than {limit}"})
    return int(asked)


class Binance(Venue):
    """Bars from startTime on, oldest first, however far they lie."""

    name = "binance"

    def answer(self, path, q):
        ts = between(self.kept(length(q["interval"])), int(q["startTime"]) / 1e3, int(q.get("endTime", 1e15)) / 1e3)
        rows = map(self.market.row, ts[: most(1000, q["limit"])])
        return [[r[0] * 1000, *map(str, r[1:]), r[0] * 1000 + 59_999, "0", 1, "0", "0", "0"] for r in rows]


class Coinbase(Venue):
    """A window; one of more than 350 bars is refused."""

    name, symbol, id = "coinbase", "BTC/USD", "BTC-USD"
    page = 300
    steps: ClassVar = {
        "ONE_MINUTE": MINUTE, "FIVE_MINUTE": 300, "FIFTEEN_MINUTE": 900, "THIRTY_MINUTE": 1800, "ONE_HOUR": 3600,
        "TWO_HOUR": 7200, "SIX_HOUR": 21_600, "ONE_DAY": DAY,
    }  # fmt: skip

    def answer(self, path, q):
        first, last, step = int(q["start"]), int(q["end"]), self.steps[q["granularity"]]
        if (last - first) / step > 350:
            raise Refused(400, {"error": "INVALID_ARGUMENT", "error_details": "more than 350 candles"})
        rows = map(self.market.row, between(self.kept(step), first, last)[::-1])
        names = ("start", "open", "high", "low", "close", "volume")
        return {"candles": [dict(zip(names, map(str, r), strict=True)) for r in rows]}


class Kraken(Venue):
    """The newest 720 and no others, of which those after `since`."""

    name, symbol, id, keeps = "kraken", "BTC/USD", "XXBTZUSD", 720
    page = 720

    def answer(self, path, q):
        ts = between(self.kept(int(q["interval"]) * MINUTE), int(q["since"]) + 1)
        rows = [[r[0], *map(str, r[1:5]), "0", str(r[5]), 1] for r in map(self.market.row, ts)]
        return {"error": [], "result": {self.id: rows, "last": 0}}


class Okx(Venue):
    """A window without its ends, the newest first; recent bars at another address than old ones."""

    name, id = "okx", "BTC-USDT"
    page = 300

    def answer(self, path, q):
        ts = self.kept(length(q["bar"]))
        if path.endswith("/market/candles"):
            ts = ts[-1440:]
        ts = between(ts, int(q["before"]) / 1e3 + 1e-3, int(q["after"]) / 1e3 - 1e-3)[::-1][: most(300, q["limit"])]
        rows = [[str(r[0] * 1000), *map(str, r[1:]), "0", "0", "1"] for r in map(self.market.row, ts)]
        return {"code": "0", "msg": "", "data": rows}


class Bybit(Venue):
    """The newest of what lies between the ends: without an end, the newest there are."""

    name = "bybit"

    def answer(self, path, q):
        limit = most(1000, q["limit"])
        ts = between(self.kept(length(q["interval"])), int(q["start"]) / 1e3, int(q.get("end", 1e15)) / 1e3)
        rows = [[str(r[0] * 1000), *map(str, r[1:]), "0"] for r in map(self.market.row, ts[::-1][:limit])]
        return {"retCode": 0, "retMsg": "OK", "result": {"symbol": self.id, "category": "spot", "list": rows}}


class Bitget(Venue):
    """Old bars are counted back from the end, whatever the beginning is."""

    name = "bitget"
    page = 200

    def answer(self, path, q):
        old, end = path.endswith("history-candles"), int(q["endTime"]) / 1e3
        ts = between(self.kept(length(q["granularity"])), -math.inf if old else int(q["startTime"]) / 1e3, end)
        rows = map(self.market.row, ts[-most(200 if old else 1000, q["limit"]) :])
        return {"code": "00000", "msg": "success", "data": [[str(r[0] * 1000), *map(str, r[1:]), "0"] for r in rows]}


class Kucoin(Venue):
    """A window without its end, the newest 1,500 first."""

    name, id = "kucoin", "BTC-USDT"
    page = 1500

    def answer(self, path, q):
        ts = between(self.kept(length(q["type"])), int(q["startAt"]), int(q["endAt"]) - 1)[::-1][:1500]
        rows = map(self.market.row, ts)
        data = [[str(r[0]), str(r[1]), str(r[4]), str(r[2]), str(r[3]), str(r[5]), "0"] for r in rows]
        return {"code": "200000", "data": data}


class Gate(Venue):
    """A window with both ends; what began more than 10,000 bars ago is refused, and so are more than 1,000 bars."""

    name, id, keeps = "gate", "BTC_USDT", 10_000

    def answer(self, path, q):
        step, first, last = length(q["interval"]), int(q["from"]), int(q["to"])
        wrong = None
        if first < self.market.now.timestamp() - 10_000 * step:
            wrong = "Candlestick too long ago. Maximum 10000 points ago are allowed"
        elif (last - first) / step >= 1000:
            wrong = "Candlestick range too broad. Maximum 1000 data points are allowed per request"
        if wrong:
            raise Refused(400, {"label": "INVALID_PARAM_VALUE", "message": wrong})
        rows = map(self.market.row, between(self.kept(step), first, last))
        return [[str(r[0]), "0", str(r[4]), str(r[2]), str(r[3]), str(r[1]), str(r[5]), "true"] for r in rows]


class Htx(Venue):
    """The newest of what lies between the ends, at most `size`."""

    name, id = "htx", "btcusdt"

    def answer(self, path, q):
        ts = between(self.kept(length(q["period"])), int(q["from"]), int(q.get("to", 1e12)))[::-1][
            : most(2000, q["size"])
        ]
        names = ("id", "open", "high", "low", "close", "amount")
        return {"status": "ok", "data": [dict(zip(names, self.market.row(t), strict=True)) for t in ts]}


class Bitfinex(Venue):
    """From `start` on, oldest first, however far they lie; a bar without trades is not told."""

    name, symbol, id = "bitfinex", "BTC/USD", "tBTCUSD"
    page = 10000

    def answer(self, path, q):
        assert q["sort"] == "1"
        ts = between(self.kept(length(path.split(":")[1])), int(q["start"]) / 1e3)[: most(10_000, q["limit"])]
        return [[r[0] * 1000, r[1], r[4], r[2], r[3], r[5]] for r in map(self.market.row, ts)]


class Mexc(Venue):
    """A window, of which the first 500 bars."""

    name = "mexc"
    page = 500

    def answer(self, path, q):
        ts = between(self.kept(length(q["interval"])), int(q["startTime"]) / 1e3, int(q["endTime"]) / 1e3)
        rows = map(self.market.row, ts[: min(500, most(1000, q["limit"]))])
        return [[r[0] * 1000, *map(str, r[1:]), r[0] * 1000 + 59_999, "0"] for r in rows]


class Bitstamp(Venue):
    """A window with both ends, of which the first 1,000 bars."""

    name, symbol, id = "bitstamp", "BTC/USD", "btcusd"

    def answer(self, path, q):
        ts = between(self.kept(int(q["step"])), int(q["start"]), int(q["end"]))[: most(1000, q["limit"])]
        names = ("timestamp", "open", "high", "low", "close", "volume")
        rows = [dict(zip(names, map(str, self.market.row(t)), strict=True)) for t in ts]
        return {"data": {"pair": "BTC/USD", "ohlc": rows}}


class Gemini(Venue):
    """A day of minutes, a year of days, up to now: no beginning can be named."""

    name, symbol, id = "gemini", "BTC/USD", "btcusd"
    page = 2016
    spans: ClassVar = {"1m": 1, "5m": 7, "15m": 14, "30m": 30, "1hr": 60, "6hr": 90, "1day": 365}

    def kept(self, step):
        days = {length(name): days for name, days in self.spans.items()}[step]
        return between(self.market.opens(step), self.market.now.timestamp() - days * DAY)

    def answer(self, path, q):
        ts = self.kept(length(path.rsplit("/", 1)[1]))
        return [[r[0] * 1000, *r[1:]] for r in map(self.market.row, ts[::-1])]


class Cryptocom(Venue):
    """Between the ends, without them, the newest `count`."""

    name, id = "cryptocom", "BTC_USDT"
    page = 300

    def answer(self, path, q):
        first, last = int(q["start_ts"]) / 1e3 + 1e-3, int(q["end_ts"]) / 1e3 - 1e-3
        ts = between(self.kept(length(q["timeframe"])), first, last)[-most(300, q["count"]) :]
        rows = [dict(zip("tohlcv", (r[0] * 1000, *map(str, r[1:])), strict=True)) for r in map(self.market.row, ts)]
        return {"id": -1, "method": "public/get-candlestick", "code": 0, "result": {"interval": "1m", "data": rows}}


class Deribit(Venue):
    """A window with both ends."""

    name, symbol, id = "deribit", "BTC/USDC", "BTC_USDC"

    def answer(self, path, q):
        ts = between(self.kept(length(q["resolution"])), int(q["start_timestamp"]) / 1e3, int(q["end_timestamp"]) / 1e3)
        rows = list(map(self.market.row, ts))
        names = ("ticks", "open", "high", "low", "close", "volume")
        columns = {name: [r[i] * 1000 if i == 0 else r[i] for r in rows] for i, name in enumerate(names)}
        return {"jsonrpc": "2.0", "result": {**columns, "status": "ok" if rows else "no_data"}}


class Upbit(Venue):
    """Counted back from an end, past any halt, so that an answer may be all older than what was asked for."""

    name, symbol, id = "upbit", "BTC/KRW", "KRW-BTC"
    page = 200

    def answer(self, path, q):
        step = int(q.get("unit") or path.rsplit("/", 1)[1]) * MINUTE if "minutes" in path else DAY
        end = datetime.fromisoformat(q["to"]).timestamp()
        ts = between(self.kept(step), -math.inf, end - 1e-3)[::-1][: most(200, q["count"])]
        names = ("opening_price", "high_price", "low_price", "trade_price", "candle_acc_trade_volume")
        stamp = "%Y-%m-%dT%H:%M:%S"
        return [
            {"candle_date_time_utc": datetime.fromtimestamp(int(t), UTC).strftime(stamp)}
            | dict(zip(names, self.market.row(t)[1:], strict=True))
            for t in ts
        ]


class Hyperliquid(Venue):
    """The newest 5,000 and no others, of which those between the ends."""

    name, symbol, id, keeps = "hyperliquid", "BTC/USDC", "@1", 5000
    page = 5000

    def answer(self, path, q):
        asked = q["req"]
        ts = between(self.kept(length(asked["interval"])), asked["startTime"] / 1e3, asked["endTime"] / 1e3)
        return [dict(zip("tohlcv", (r[0] * 1000, *map(str, r[1:])), strict=True)) for r in map(self.market.row, ts)]


VENUES = [Binance, Coinbase, Kraken, Okx, Bybit, Bitget, Kucoin, Gate, Htx, Bitfinex, Mexc, Bitstamp, Gemini,
          Cryptocom, Deribit, Upbit, Hyperliquid]  # fmt: skip


def ask(venue: Venue, folder, timeframe="1m", since: datetime | None = SINCE, symbol=None, tell=lambda *_: None):
    """Sync: what was done, the bars in the store, and how many requests it took."""
    clock, store, source, before = SimulatedClock(venue.market.now), DeltaStore(folder), venue.source(), venue.requests
    plan = plan_sync(source, store, symbol or venue.symbol, timeframe, clock, since)
    done = sync(plan, source, store, clock, tell)
    bars = store.read(done.id).bars if done.id in store.datasets() else pl.DataFrame(schema=BARS_SCHEMA)
    return done, bars, venue.requests - before


def rows_of(bars: pl.DataFrame) -> list[tuple]:
    columns = bars.select("ts", "open", "high", "low", "close", "volume")
    return [(int(ts.timestamp()), *values) for ts, *values in columns.iter_rows()]


def there(venue: Venue, step: int) -> list[tuple]:
    """The closed bars that a venue has."""
    return [Market.row(ts) for ts in venue.kept(step) if ts + step <= seconds(venue.market.now)]


# An empty stretch, however long: four windows of its own, at most four of days for each 200 days, four of hours.
EMPTY = 24


@pytest.mark.parametrize("kind", VENUES, ids=lambda kind: kind.name)
def test_every_bar_that_a_venue_has_is_stored(kind, tmp_path):
    venue, told = kind(Market()), []
    done, bars, requests = ask(venue, tmp_path, tell=lambda step, text: told.append(text))
    known = there(venue, MINUTE)
    assert rows_of(bars) == known and (done.new, done.revised, done.after) == (len(known), 0, ())
    first = bars["ts"][0]
    if first == LISTED:  # each thing by its name
        assert (done.holes, done.before, done.lost) == ((HALT,), ((SINCE, LISTED),), ())
        assert f"1 hole(s) at the source, none before {LISTED:%Y-%m-%d %H:%M}" in str(done)
    else:
        assert (done.holes, done.before, done.lost) == ((), (), ((SINCE, first),))
        assert f"{venue.name} does not keep its bars of 1m of that time" in str(done)
    pages = -(-len(known) // venue.page)
    assert requests <= 3 * pages + 2 * EMPTY, (requests, pages)
    print(f"{venue.name}: {len(known)} bars, {requests} requests, {pages} pages")
    again, same, requests = ask(venue, tmp_path)
    assert (again.new, again.revised) == (0, 0) and same.equals(bars) and requests <= 3 + 2 * EMPTY
    assert (again.holes, again.before, again.lost) == (done.holes, done.before, done.lost)
    later, _, requests = ask(venue, tmp_path, since=None)
    assert later.new == 0 and later.before == () and requests <= 1 + EMPTY


@pytest.mark.parametrize("kind", [Binance, Coinbase, Bitget, Upbit, Bybit], ids=lambda kind: kind.name)
def test_a_range_without_gaps_takes_its_pages_and_nothing_else(kind, tmp_path):
    """As many as before these rules were known: 6 at Binance."""
    venue = kind(Market((SINCE, NOW), now=SINCE + timedelta(days=4, seconds=30)))
    done, _, requests = ask(venue, tmp_path)
    assert done.new == len(there(venue, MINUTE)) == 5760 and str(done).endswith("new bars")
    per_page = venue.page - (kind is Bitget)  # it counts from an end that it includes, and the first bar is asked for
    assert requests <= -(-done.new // per_page) * (2 if kind is Bitget else 1)
    assert kind is not Binance or requests == 6
    assert ask(venue, tmp_path, since=None)[2] == 1  # the newest bar, once more


class ForgetfulCoinbase(Coinbase):
    """Keeps its minutes for four days, and hours and days for ever, which nobody wrote down."""

    def kept(self, step):
        opens = self.market.opens(step)
        return opens if step > 1800 else between(opens, self.market.now.timestamp() - 4 * DAY)


class Newest(Venue):
    """Looks at no beginning, which nobody wrote down: the newest 1,440 come."""

    name, page, keeps = "whitebit", 1440, 1440

    def answer(self, path, q):
        rows = map(self.market.row, self.kept(length(q["interval"]))[-most(1440, q["limit"]) :])
        return {"success": True, "result": [[r[0], *map(str, (r[1], r[4], r[2], r[3], r[5])), "0"] for r in rows]}


TRADED = (NOW - timedelta(days=90, hours=3), NOW)


@pytest.mark.parametrize(("kind", "most_requests"), [(ForgetfulCoinbase, 180), (Newest, 80), (Gate, 30)])
def test_what_is_not_kept_is_called_so(kind, most_requests, tmp_path):
    venue = kind(Market(TRADED))
    done, bars, requests = ask(venue, tmp_path)
    known = there(venue, MINUTE)
    if kind is Gate:  # at the edge of what it refuses, a few bars are left to it
        known = known[-9989:]
    assert rows_of(bars) == known and done.holes == ()
    assert done.lost[-1][1] == bars["ts"][0] and requests <= most_requests, requests
    # before it was traded at all, nothing was thrown away
    assert kind is Gate or done.lost[0][0] <= TRADED[0] + timedelta(days=1, hours=24)
    again, same, requests = ask(venue, tmp_path)
    assert (again.new, again.holes) == (0, ()) and same.equals(bars) and again.lost[-1][1] == bars["ts"][0]
    assert requests <= most_requests


def test_what_fell_out_of_what_is_kept_is_no_hole_at_the_source(tmp_path):
    """Two syncs with more time between them than Kraken's 720 minutes; the next has nothing to say of it."""
    early = Kraken(Market(TRADED, now=NOW - timedelta(hours=20)))
    ask(early, tmp_path)
    done, bars, requests = ask(Kraken(Market(TRADED)), tmp_path, since=None)
    begin, end = NOW.replace(second=0) - timedelta(hours=20), NOW.replace(second=0) - timedelta(minutes=719)
    assert done.new == 719 and done.holes == () and done.lost == ((begin, end),) and requests <= 2
    assert "1 hole" not in str(done) and f"nothing from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}" in str(done)
    assert bars.height == 2 * 719


def test_a_market_younger_than_what_is_kept_began(tmp_path):
    done, bars, _ = ask(Kraken(Market((NOW - timedelta(hours=5), NOW))), tmp_path)
    assert bars.height == 5 * 60 and (done.lost, done.holes) == ((), ()) and done.before[-1][1] == bars["ts"][0]


def test_a_market_that_is_gone_ended(tmp_path):
    for kind in (Binance, Coinbase, Upbit):
        venue = kind(Market((LISTED, HALT[0])))
        done, bars, requests = ask(venue, tmp_path / venue.name)
        assert bars.height == 27 * 60 and done.holes == () and done.after == ((HALT[0], NOW.replace(second=0)),)
        assert f"none from {HALT[0]:%Y-%m-%d %H:%M} on yet" in str(done) and requests < 3 * 9 + 2 * EMPTY, requests


def test_what_is_looked_for_is_told(tmp_path):
    told = []
    ask(Coinbase(Market()), tmp_path, tell=lambda step, text: told.append(text))
    assert [text for text in told if text.startswith("nothing before 2023")], told


@pytest.mark.parametrize("kind", [Coinbase, Bitget, Deribit, Upbit], ids=lambda kind: kind.name)
@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_longer_bars(kind, timeframe, tmp_path):
    """A halt of 400 days in hours and in days; of days there are no longer ones to look at."""
    begin = datetime(2020, 3, 1, tzinfo=UTC)
    back = begin + timedelta(days=430)
    step = UNITS[timeframe[1]]
    venue = kind(
        Market((begin, begin + timedelta(days=30)), (back, back + timedelta(days=20)), now=back.replace(day=25))
    )
    done, bars, requests = ask(venue, tmp_path, timeframe, begin - timedelta(days=700))
    assert rows_of(bars) == there(venue, step) and len(done.holes) == len(done.before) == 1
    assert requests <= 3 * -(-bars.height // venue.page) + 2 * EMPTY, requests


def market_of(seed: int) -> tuple[Market, datetime]:
    """A few stretches of trade, of minutes to days, and a beginning before, between or inside them."""
    rng = np.random.default_rng(seed)
    now = NOW - timedelta(seconds=int(rng.integers(0, 40 * DAY)))
    edges = np.sort(rng.choice(12 * 1440, 2 * int(rng.integers(1, 5)), replace=False))
    at = [now.replace(second=0) - timedelta(minutes=int(m)) for m in edges[::-1]]
    traded = list(zip(at[::2], at[1::2], strict=True))
    if rng.random() < 0.7:
        traded[-1] = (traded[-1][0], now)
    since = now.replace(second=0) - timedelta(days=int(rng.choice([1, 3, 13, 40, 900])))
    return Market(*traded, now=now), since


def check(kind: type[Venue], seed: int) -> int:
    """Every bar from a beginning on; how many requests that took."""
    market, since = market_of(seed)
    timeframe = ("1m", "5m")[seed % 2]
    venue, step = kind(market), UNITS["m"] * (1, 5)[seed % 2]
    source, end = venue.source(), datetime.fromtimestamp(seconds(market.now) // step * step, UTC)
    begin = datetime.fromtimestamp(-(-seconds(since) // step) * step, UTC)
    oldest = None
    if (last := source.answers(venue.symbol, timeframe).last) is not None:
        oldest = end - timedelta(seconds=(last - 1) * step)
        begin = max(begin, oldest) if kind is Gate else begin
    pages = list(fetch_range(source, venue.symbol, timeframe, begin, end, SimulatedClock(market.now), oldest=oldest))
    found = pl.concat(pages)["ts"].to_list() if pages else []
    due = [ts for ts in venue.kept(step) if seconds(begin) <= ts < seconds(end)]
    assert [seconds(ts) for ts in found] == due, (kind.name, seed)
    return venue.requests


@pytest.mark.parametrize("seed", range(len(VENUES)), ids=lambda seed: VENUES[seed].name)
def test_any_market_at_any_venue(seed):
    assert check(VENUES[seed], seed) < 250


@pytest.mark.long
@pytest.mark.parametrize("kind", VENUES, ids=lambda kind: kind.name)
def test_any_market_at_any_venue_many_times(kind):
    for seed in range(100, 160):
        check(kind, seed)


def test_an_answer_that_lacks_bars_now_and_then_loses_none():
    """Every third answer lacks its first half: also of days and hours, by which the empty is walked over."""

    class Flaky(Coinbase):
        def answer(self, path, q):
            rows = super().answer(path, q)["candles"]
            return {"candles": rows[: len(rows) // 2] if self.requests % 3 == 0 else rows}

    for seed in range(3):
        check(Flaky, seed)


@pytest.mark.parametrize("kind", [Binance, Kraken, Upbit], ids=lambda kind: kind.name)
def test_a_market_has_one_symbol_however_it_is_written(kind, tmp_path):
    venue, store = kind(Market()), DeltaStore(tmp_path)
    base, quote = venue.symbol.split("/")
    for symbol in (venue.symbol, f"{base}-{quote}", f"{base}-{quote}".lower(), venue.symbol.lower()):
        ask(venue, tmp_path, symbol=symbol, since=NOW - timedelta(hours=2))
    (id,) = store.datasets()
    assert id.symbol == f"{base}-{quote}" and store.read(id).bars["symbol"].unique().to_list() == [id.symbol]
    with pytest.raises(InputError, match=f"Did you mean '{base}-{quote}'"):
        ask(venue, tmp_path, symbol=base + quote)


def test_names_that_differ_in_their_case_only_are_told_apart():
    known = ["PEPE/USDT", "pePE/USDT", "BTC/USDT"]
    assert [market_symbol(name, known) for name in ("pePE-USDT", "PEPE/USDT")] == ["pePE/USDT", "PEPE/USDT"]
    with pytest.raises(InputError, match="'PEPE-USDT' or 'pePE-USDT'"):
        market_symbol("pepe-usdt", known)


class HourlyFunding(Venue):
    """Rates of every hour in windows of a hundred hours, and bars of the same market."""

    name, symbol = "coinbaseinternational", "BTC/USDT:USDT"

    def answer(self, path, q):
        first, last = int(q["start_timestamp"]) / 1e3, int(q["end_timestamp"]) / 1e3
        if "chart" in path:
            rows = list(map(self.market.row, between(self.market.opens(length(q["resolution"])), first, last)))
            names = ("ticks", "open", "high", "low", "close", "volume")
            return {"result": {n: [r[i] * 1000 if i == 0 else r[i] for r in rows] for i, n in enumerate(names)}}
        ts = between(self.market.opens(3600), first, last)
        return {"result": [{"timestamp": int(t) * 1000, "interest_8h": 1e-4 * (t % 7)} for t in ts]}


class MonthOfInterest(Venue):
    """Open interest in windows, of the last thirty days only; bars for ever."""

    name, symbol = "okx", "BTC/USDT:USDT"

    def answer(self, path, q):
        if "candles" in path:
            return Okx.answer(self, path, q)
        now = self.market.now.timestamp()
        ts = between(self.market.opens(3600), now - 30 * DAY, now)
        ts = between(ts, int(q["begin"]) / 1e3, int(q["end"]) / 1e3)[::-1][: most(100, q["limit"])]
        return {"code": "0", "data": [[str(t * 1000), str(5.0 + t % 7), "1", "2"] for t in map(int, ts)]}


@pytest.mark.parametrize(
    ("kind", "what", "begins"),
    [
        (HourlyFunding, "funding", LISTED),
        (MonthOfInterest, "interest", NOW - timedelta(days=30) + timedelta(hours=1)),
    ],
)
def test_rows_of_perpetuals_are_walked_to_through_what_is_empty(kind, what, begins, tmp_path):
    """One window lay between two questions, and four hundred days of five-minute rows were asked for one by one."""
    market = Market() if kind is HourlyFunding else Market(TRADED)
    venue, store = kind(market), PerpetualStore(tmp_path)
    source = PerpetualExchange(venue.name)
    venue.behind(source.bars)
    clock = SimulatedClock(NOW)
    for expected in ("new", "again"):
        before = venue.requests
        done = sync_perpetual(source, store, venue.symbol, what, clock, SINCE + timedelta(days=10), "1h")
        rows = store.read(what, venue.name, "BTC-USDT:USDT")
        first = begins.replace(minute=0, second=0)
        known = [ts for ts in market.opens(3600) if ts >= seconds(first)]
        assert [seconds(ts) for ts in rows["ts"]] == known and done.begins == first
        assert done.new == (len(known) if expected == "new" else 0) and f"none before {first:%Y-%m-%d}" in str(done)
        assert venue.requests - before < 160, venue.requests
    assert done.holes == (() if kind is MonthOfInterest else ((HALT[0] - timedelta(hours=1), HALT[1]),))


# Their requests name a beginning and no end, and ccxt lets one name none: the walk must be right whatever they answer,
# as `Newest` shows for one of them.
OPEN = {"alpaca", "bequant", "btcmarkets", "fmfwio", "foxbit", "hitbtc", "lbank", "mexc", "tokocrypto", "whitebit"}
# An end that is now: everything since the beginning, or as much of it as they give.
NOW_ENDED = {"indodax", "revolutx"}
# They ask for credentials, or for what an invented market does not have.
CLOSED = {"cex", "luno", "modetrade", "nado", "woofipro"}


class Listening(Venue):
    """Keeps the request, and answers nothing."""

    def __init__(self, name):
        super().__init__(Market())
        self.name, self.heard = name, ""

    def request(self, method, url, data=None, **_):
        self.heard = f"{url} {data.decode() if data else ''}"
        raise RuntimeError("this is all that is wanted")

    def times(self, source: ExchangeSource, symbol: str, start: datetime, limit: int) -> set[int]:
        """All times that the request names, in seconds."""
        self.heard = ""
        with suppress(AlgoError):
            source.bars(symbol, "1h", start, limit)
        text = unquote(self.heard)
        iso = re.findall(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d", text)
        days = [f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in re.findall(r"(?<=/)20[12]\d[01]\d[0-3]\d(?!\d)", text)]
        numbers = re.findall(r"(?<![\d.])1[5-9]\d{8}(?:\d{3})?(?:\d{6})?(?!\d)", text)
        stamps = [seconds(datetime.fromisoformat(t).replace(tzinfo=UTC)) for t in (*iso, *days)]
        return {*stamps, *(int(n[:10]) for n in numbers)}


def described() -> list[tuple[str, str]]:
    """Every exchange of ccxt's that tells bars, and the kinds of its markets that ccxt describes."""
    found = []
    for name in ccxt.exchanges:
        client = getattr(ccxt, name)
        api = client()
        if api.has.get("fetchOHLCV") and name not in CLOSED:
            kinds = {"spot": ("spot", None), "linear": ("swap", "linear"), "inverse": ("swap", "inverse")}
            found += [(name, k) for k, kind in kinds.items() if api.feature_value_by_type(*kind, "fetchOHLCV", "limit")]
            found += [(name, "spot")] * (name in ("gemini", "btcturk", "ndax"))  # ccxt does not say how many
    return sorted(set(found))


def complaints(name: str, kind: str) -> list[str]:
    """What is believed of an exchange's answers that its request does not bear out."""
    venue = Listening(name)
    source = venue.source()
    symbol = {"spot": venue.symbol, "linear": "BTC/USDT:USDT", "inverse": "BTC/USD:BTC"}[kind]
    start, step = datetime(2022, 2, 1, tzinfo=UTC), 3600
    answers = source.answers(symbol, "1h")
    first = venue.times(source, symbol, start, answers.page)
    moved = venue.times(source, symbol, start + timedelta(days=50), answers.page)
    if not venue.heard:
        return [] if name == "bigone" else ["no request"]  # it tells bars of spot markets only
    if first - {seconds(NOW)} == moved - {seconds(NOW)}:
        return [] if answers.last else ["names no beginning, and is thought to tell all"]
    if answers.onward or answers.last:
        return []
    end, reach = max(first - {seconds(NOW)}), seconds(answers.reach(start, timedelta(seconds=step)))
    if end <= seconds(start):
        none = "ends now" if seconds(NOW) in first else "names no end"
        return [] if name in (NOW_ENDED if none == "ends now" else OPEN) or answers.within else [none]
    return [f"asks for {(end - seconds(start)) / step:g} of {answers.page}"] if end < reach - 2 * step else []


def test_what_is_believed_of_every_exchange_stands_in_its_request():
    """No page is thought to speak of more time than was asked for; a new version of ccxt may change that."""
    known = described()
    assert len({name for name, _ in known}) >= 80
    wrong = {f"{name}/{kind}": found for name, kind in known if (found := complaints(name, kind))}
    assert wrong == {}


def test_a_recording_has_one_symbol_however_it_is_written():
    venue, feed = Binance(Market()), BinanceFeed()
    venue.behind(feed.source)
    assert {feed.stored(name) for name in ("BTC/USDT", "btc-usdt", "Btc/Usdt")} == {"BTC-USDT"}


def test_bars_of_another_symbol_are_not_laid_beside(tmp_path):
    """An import put another name into this dataset: a sync would have made a second symbol of the same market."""
    store, id = DeltaStore(tmp_path), DatasetId("binance", "BTC-USDT", "1m")
    venue = Binance(Market())
    rows = venue.source().bars("BTC/USDT", "1m", LISTED, 100).with_columns(symbol=pl.lit("BTCUSDT"))
    store.write(Dataset(id, make_bars(rows, timedelta(minutes=1)), Instrument("BTC-USDT", "binance", "spot")))
    for since in (None, LISTED, NOW - timedelta(hours=1)):
        with pytest.raises(DataError, match="holds bars of BTCUSDT"):
            ask(venue, tmp_path, since=since)
    assert store.read(id).bars.height == 100


def test_the_command_names_what_cannot_be_fetched_and_its_advice_helps(tmp_path, monkeypatch):
    venue = Kraken(Market((NOW - timedelta(days=3), NOW)))
    monkeypatch.setattr("algo_research.data.venues.providers.open_source", lambda *_: venue.source())
    (tmp_path / "settings.ini").write_text("")
    wanted = ["data", "sync", "BTC/USD", "--exchange", "kraken", "--timeframe", "1m", "--since", "2024-03-03"]
    left = "from 2024-03-03 00:00 to 2024-03-05 00:01 cannot be fetched any more"
    advice = "algo data import FILE --id kraken/BTC-USD/1m"
    for options, words in ((["--dry-run"], "719 bars to ask for"), ([], "719 new bars, nothing from 2024-03-03")):
        said = " ".join(algo(tmp_path, *wanted, *options).stdout.split())
        assert words in said and left in said and advice in said and "hole" not in said
    older = [Market.row(ts) for ts in venue.market.opens(MINUTE) if ts < seconds(NOW) - 700 * MINUTE]
    rows = pl.DataFrame(older, schema=["time", "open", "high", "low", "close", "volume"], orient="row")
    rows.write_csv(tmp_path / "FILE.csv")
    algo(tmp_path, "data", "import", str(tmp_path / "FILE.csv"), "--id", "kraken/BTC-USD/1m", "--label", "open")
    again = algo(tmp_path, *wanted).stdout
    assert "0 new bars" in again and "cannot be fetched" not in again, again
