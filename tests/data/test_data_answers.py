"""Exchanges answer by different rules; ccxt's own clients, with only the HTTP answer replaced, bring every bar there is.

Each venue below builds its answer from the request that ccxt made, as the venue documents it, in the venue's own JSON.
The market they all trade was listed 400 days after the sync begins, halts for longer than most pages cover, and its
newest bar is still open.
"""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest

from algo_research.core.clock import SimulatedClock
from algo_research.data.intake.ingest import plan_sync, sync
from algo_research.data.stores.delta import DeltaStore
from algo_research.data.venues.exchanges import ExchangeSource

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

    def opens(self, step: int) -> np.ndarray:
        """All of them up to now, the one that is still open included, in seconds."""
        parts = [np.arange(seconds(a) // step, -(-seconds(b) // step)) for a, b in self.traded]
        return np.unique(np.concatenate(parts)) * step

    @staticmethod
    def row(ts: int) -> tuple[int, float, float, float, float, float]:
        """ts, open, high, low, close, volume"""
        price = 100.0 + ts // MINUTE % 977 / 8
        return int(ts), price, price + 1.5, price - 2.5, price + 0.5, 1.0 + ts // MINUTE % 13

    def closed(self, step: int) -> list[int]:
        return [int(ts) for ts in self.opens(step) if ts + step <= seconds(self.now)]


def between(ts: np.ndarray, first: float = -math.inf, last: float = math.inf) -> np.ndarray:
    """Both ends included."""
    return ts[(ts >= first) & (ts <= last)]


class Refused(Exception):
    """The venue answers with an error: its status and its body."""


class Venue:
    """One exchange: `answer` is what it says to a request for bars."""

    name, symbol, id = "", "BTC/USDT", "BTCUSDT"
    hears_since, keeps = True, None  # does it look at a beginning; bars it has at all

    def __init__(self, market: Market):
        self.market, self.requests = market, 0

    def kept(self, step: int) -> np.ndarray:
        opens = self.market.opens(step)
        return opens if self.keeps is None else opens[-self.keeps :]

    def answer(self, path: str, q: dict[str, str]) -> object:
        raise NotImplementedError

    # in place of `requests.Session`
    cookies: dict = {}
    headers: dict = {}

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
        source = ExchangeSource(self.name)
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


class Binance(Venue):
    """Bars from startTime on, oldest first, however far they lie."""

    name = "binance"

    def answer(self, path, q):
        ts = between(self.kept(length(q["interval"])), int(q["startTime"]) / 1e3, int(q.get("endTime", 1e15)) / 1e3)
        rows = map(self.market.row, ts[: int(q["limit"])])
        return [[r[0] * 1000, *map(str, r[1:]), r[0] * 1000 + 59_999, "0", 1, "0", "0", "0"] for r in rows]


class Coinbase(Venue):
    """A window; one of more than 350 bars is refused."""

    name, symbol, id = "coinbase", "BTC/USD", "BTC-USD"
    steps = {"ONE_MINUTE": MINUTE, "FIVE_MINUTE": 300, "FIFTEEN_MINUTE": 900, "THIRTY_MINUTE": 1800, "ONE_HOUR": 3600,
             "TWO_HOUR": 7200, "SIX_HOUR": 21_600, "ONE_DAY": DAY}  # fmt: skip

    def answer(self, path, q):
        first, last, step = int(q["start"]), int(q["end"]), self.steps[q["granularity"]]
        if (last - first) / step > 350:
            raise Refused(400, {"error": "INVALID_ARGUMENT", "error_details": "number of candles must be less than 350"})
        rows = map(self.market.row, between(self.kept(step), first, last)[::-1])
        names = ("start", "open", "high", "low", "close", "volume")
        return {"candles": [dict(zip(names, map(str, r), strict=True)) for r in rows]}


class Kraken(Venue):
    """The newest 720 and no others, of which those after `since`."""

    name, symbol, id, keeps = "kraken", "BTC/USD", "XXBTZUSD", 720

    def answer(self, path, q):
        ts = between(self.kept(int(q["interval"]) * MINUTE), int(q["since"]) + 1)
        rows = [[r[0], *map(str, r[1:5]), "0", str(r[5]), 1] for r in map(self.market.row, ts)]
        return {"error": [], "result": {self.id: rows, "last": 0}}


class Okx(Venue):
    """A window without its ends, the newest first; recent bars at another address than old ones."""

    name, id = "okx", "BTC-USDT"

    def answer(self, path, q):
        ts = self.kept(length(q["bar"]))
        if path.endswith("/market/candles"):
            ts = ts[-1440:]
        ts = between(ts, int(q["before"]) / 1e3 + 1e-3, int(q["after"]) / 1e3 - 1e-3)[::-1][: min(300, int(q["limit"]))]
        rows = [[str(r[0] * 1000), *map(str, r[1:]), "0", "0", "1"] for r in map(self.market.row, ts)]
        return {"code": "0", "msg": "", "data": rows}


class Bybit(Venue):
    """The newest of what lies between the ends: without an end, the newest there are."""

    name = "bybit"

    def answer(self, path, q):
        ts = between(self.kept(length(q["interval"])), int(q["start"]) / 1e3, int(q.get("end", 1e15)) / 1e3)
        rows = [[str(r[0] * 1000), *map(str, r[1:]), "0"] for r in map(self.market.row, ts[::-1][: int(q["limit"])])]
        return {"retCode": 0, "retMsg": "OK", "result": {"symbol": self.id, "category": "spot", "list": rows}}


class Bitget(Venue):
    """Old bars are counted back from the end, whatever the beginning is."""

    name = "bitget"

    def answer(self, path, q):
        old, end = path.endswith("history-candles"), int(q["endTime"]) / 1e3
        ts = between(self.kept(length(q["granularity"])), -math.inf if old else int(q["startTime"]) / 1e3, end)
        rows = map(self.market.row, ts[-min(200 if old else 1000, int(q["limit"])) :])
        return {"code": "00000", "msg": "success", "data": [[str(r[0] * 1000), *map(str, r[1:]), "0"] for r in rows]}


class Kucoin(Venue):
    """A window without its end, the newest 1,500 first."""

    name, id = "kucoin", "BTC-USDT"

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
        ts = between(self.kept(length(q["period"])), int(q["from"]), int(q.get("to", 1e12)))[::-1][: int(q["size"])]
        names = ("id", "open", "high", "low", "close", "amount")
        return {"status": "ok", "data": [dict(zip(names, self.market.row(t), strict=True)) for t in ts]}


class Bitfinex(Venue):
    """From `start` on, oldest first, however far they lie; a bar without trades is not told."""

    name, symbol, id = "bitfinex", "BTC/USD", "tBTCUSD"

    def answer(self, path, q):
        assert q["sort"] == "1"
        ts = between(self.kept(length(path.split(":")[1])), int(q["start"]) / 1e3)[: int(q["limit"])]
        return [[r[0] * 1000, r[1], r[4], r[2], r[3], r[5]] for r in map(self.market.row, ts)]


class Mexc(Venue):
    """A window, of which the first 500 bars."""

    name = "mexc"

    def answer(self, path, q):
        ts = between(self.kept(length(q["interval"])), int(q["startTime"]) / 1e3, int(q["endTime"]) / 1e3)
        rows = map(self.market.row, ts[: min(500, int(q["limit"]))])
        return [[r[0] * 1000, *map(str, r[1:]), r[0] * 1000 + 59_999, "0"] for r in rows]


class Bitstamp(Venue):
    """A window with both ends, of which the first 1,000 bars."""

    name, symbol, id = "bitstamp", "BTC/USD", "btcusd"

    def answer(self, path, q):
        ts = between(self.kept(int(q["step"])), int(q["start"]), int(q["end"]))[: int(q["limit"])]
        names = ("timestamp", "open", "high", "low", "close", "volume")
        rows = [dict(zip(names, map(str, self.market.row(t)), strict=True)) for t in ts]
        return {"data": {"pair": "BTC/USD", "ohlc": rows}}


class Gemini(Venue):
    """A day of minutes, a year of days, up to now: no beginning can be named."""

    name, symbol, id, hears_since = "gemini", "BTC/USD", "btcusd", False
    spans = {"1m": 1, "5m": 7, "15m": 14, "30m": 30, "1hr": 60, "6hr": 90, "1day": 365}

    def kept(self, step):
        days = {length(name): days for name, days in self.spans.items()}[step]
        return between(self.market.opens(step), self.market.now.timestamp() - days * DAY)

    def answer(self, path, q):
        ts = self.kept(length(path.rsplit("/", 1)[1]))
        return [[r[0] * 1000, *r[1:]] for r in map(self.market.row, ts[::-1])]


class Cryptocom(Venue):
    """Between the ends, without them, the newest `count`."""

    name, id = "cryptocom", "BTC_USDT"

    def answer(self, path, q):
        first, last = int(q["start_ts"]) / 1e3 + 1e-3, int(q["end_ts"]) / 1e3 - 1e-3
        ts = between(self.kept(length(q["timeframe"])), first, last)[-int(q["count"]) :]
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

    def answer(self, path, q):
        step = int(q.get("unit") or path.rsplit("/", 1)[1]) * MINUTE if "minutes" in path else DAY
        end = datetime.fromisoformat(q["to"]).timestamp()
        ts = between(self.kept(step), -math.inf, end - 1e-3)[::-1][: min(200, int(q["count"]))]
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

    def answer(self, path, q):
        asked = q["req"]
        ts = between(self.kept(length(asked["interval"])), asked["startTime"] / 1e3, asked["endTime"] / 1e3)
        return [dict(zip("tohlcv", (r[0] * 1000, *map(str, r[1:])), strict=True)) for r in map(self.market.row, ts)]


VENUES = [Binance, Coinbase, Kraken, Okx, Bybit, Bitget, Kucoin, Gate, Htx, Bitfinex, Mexc, Bitstamp, Gemini,
          Cryptocom, Deribit, Upbit, Hyperliquid]  # fmt: skip


def synced(venue: Venue, folder, timeframe="1m", since=SINCE, symbol=None):
    clock, store, source = SimulatedClock(venue.market.now), DeltaStore(folder), venue.source()
    done = sync(plan_sync(source, store, symbol or venue.symbol, timeframe, clock, since), source, store, clock)
    bars = store.read(done.id).bars if done.id in store.datasets() else pl.DataFrame({"ts": []})
    return done, bars


def rows_of(bars: pl.DataFrame) -> list[tuple]:
    return [
        (int(ts.timestamp()), *values)
        for ts, *values in bars.select("ts", "open", "high", "low", "close", "volume").iter_rows()
    ]


@pytest.mark.parametrize("kind", VENUES, ids=lambda kind: kind.name)
def test_every_bar_that_a_venue_has_is_stored(kind, tmp_path):
    venue = kind(Market())
    done, bars = synced(venue, tmp_path)
    there = [int(ts) for ts in venue.kept(MINUTE) if ts + MINUTE <= seconds(NOW)]
    assert [r[0] for r in rows_of(bars)] == there
    assert rows_of(bars) == [Market.row(ts) for ts in there]
    assert done.new == len(there) and done.revised == 0
