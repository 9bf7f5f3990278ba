"""The exchange's public REST API, as far as Binance spot's clients need it (its perpetuals: `futures`):
https://developers.binance.com/docs/binance-spot-api-docs
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import streams
from .faults import CANDLES, Faults
from .market import INTERVALS, Symbol
from .tape import number, pairs, top
from .time import MarketTime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    Answer = Callable[["Exchange", dict[str, str], str | None], Awaitable[Any]]

WEIGHTS = {
    "klines": 2,
    "trades": 25,
    "aggTrades": 4,
    "depth": 5,
    "exchangeInfo": 20,
    "ticker/24hr": 2,
    "ticker/price": 2,
    "ticker/bookTicker": 2,
}
EXCHANGE: web.AppKey[Exchange] = web.AppKey("exchange")


class Refused(Exception):
    """An error as Binance answers it."""

    def __init__(self, status: int, code: int, message: str, **headers: str) -> None:
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass
class Exchange:
    """Markets, time, faults and limits: everything that an answer depends on."""

    symbols: dict[str, Symbol]
    time: MarketTime = field(default_factory=MarketTime)
    faults: Faults = field(default_factory=Faults)
    limit: int = 6000  # request weight a minute of its time
    url: str = ""  # once it is served
    requests: int = 0
    bans: int = 0  # requests of clients that asked again too early
    dark: bool = False  # nobody is answered, and nobody stays connected
    connections: set[streams.Connection] = field(default_factory=set)
    _weights: dict[int, int] = field(default_factory=dict)  # used, by minute
    _silent_until: int = 0  # whoever asks before is banned
    _banned_until: int = 0

    def disconnect(self) -> None:
        """End every stream."""
        for connection in list(self.connections):
            connection.abort()

    def symbol(self, name: str | None) -> Symbol:
        if not name:
            raise Refused(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if name not in self.symbols:
            raise Refused(400, -1121, "Invalid symbol.")
        return self.symbols[name]

    def admit(self, path: str) -> dict[str, str]:
        """Count a request against the limit, or refuse it; headers for the answer."""
        now = self.time.now()
        if now < self._banned_until or now < self._silent_until:
            self.bans += 1
            self._banned_until = max(self._banned_until, now + 120_000)
            wait = math.ceil((self._banned_until - now) / 1000)
            raise Refused(
                418,
                -1003,
                f"Way too much request weight used; IP banned until {self._banned_until}.",
                **{"Retry-After": str(wait)},
            )
        minute = now // 60_000
        used = self._weights.get(minute, 0) + WEIGHTS.get(path, 1)
        self._weights = {minute: used}
        if used > self.limit:
            self._refuse_for((minute + 1) * 60_000 - now)
        return {"X-MBX-USED-WEIGHT": str(used), "X-MBX-USED-WEIGHT-1M": str(used)}

    def _refuse_for(self, milliseconds: int) -> None:
        self._silent_until = self.time.now() + milliseconds
        raise Refused(
            429,
            -1003,
            "Too much request weight used; please use WebSocket Streams for live updates.",
            **{"Retry-After": str(math.ceil(milliseconds / 1000))},
        )

    async def strike(self, kind: str) -> web.StreamResponse | None:
        """The answer of a fault that concerns the whole request."""
        if kind == "rate_limit":
            self._refuse_for(self.faults.retry_after * 1000)
        if kind == "server_error":
            raise Refused(
                int(self.faults.rng.choice([500, 502, 503])),
                -1000,
                "An unknown error occurred while processing the request.",
            )
        if kind == "timeout":
            await asyncio.sleep(self.faults.stall)
        if kind == "garbled":
            return web.Response(text="<html><body>We will be back soon.</body></html>", content_type="text/html")
        return None

    def server_time(self, skewed: bool) -> dict[str, Any]:
        return {"serverTime": self.time.now() + (int(self.faults.rng.choice([-3_600_000, 3_600_000])) if skewed else 0)}

    def info(self, names: list[str]) -> dict[str, Any]:
        def told(s: Symbol) -> dict[str, Any]:
            return {
                "symbol": s.name,
                "status": "TRADING",
                "baseAsset": s.base,
                "baseAssetPrecision": 8,
                "quoteAsset": s.quote,
                "quotePrecision": 8,
                "quoteAssetPrecision": 8,
                "baseCommissionPrecision": 8,
                "quoteCommissionPrecision": 8,
                "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
                "icebergAllowed": True,
                "ocoAllowed": True,
                "quoteOrderQtyMarketAllowed": True,
                "allowTrailingStop": True,
                "cancelReplaceAllowed": True,
                "isSpotTradingAllowed": True,
                "isMarginTradingAllowed": False,
                "filters": [
                    {
                        "filterType": "PRICE_FILTER",
                        "minPrice": number(s.tick),
                        "maxPrice": "1000000",
                        "tickSize": number(s.tick),
                    },
                    {"filterType": "LOT_SIZE", "minQty": number(s.lot), "maxQty": "9000000", "stepSize": number(s.lot)},
                    {
                        "filterType": "NOTIONAL",
                        "minNotional": number(s.min_notional),
                        "applyMinToMarket": True,
                        "maxNotional": "9000000",
                        "applyMaxToMarket": False,
                        "avgPriceMins": 5,
                    },
                ],
                "permissions": [],
                "permissionSets": [["SPOT"]],
                "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
                "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
            }

        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.limit}]
        return {
            "timezone": "UTC",
            "serverTime": self.time.now(),
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": [told(self.symbol(n)) for n in names or self.symbols],
        }

    def klines(self, query: dict[str, str]) -> list[list]:
        symbol, interval = self.symbol(query.get("symbol")), query.get("interval", "")
        if interval not in INTERVALS or INTERVALS[interval] % symbol.step:
            raise Refused(400, -1120, "Invalid interval.")
        start, end = (int(query[k]) if k in query else None for k in ("startTime", "endTime"))
        return symbol.klines(interval, start, end, page_limit(query, 500, 1000), self.time.now())


def page_limit(query: dict[str, str], default: int, most: int) -> int:
    try:
        return max(1, min(most, int(query.get("limit", default))))
    except ValueError:
        raise Refused(
            400, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."
        ) from None


async def _klines(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    rows = exchange.klines(query)
    return exchange.faults.spoil(fault, rows) if fault in CANDLES else rows


async def _info(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    return exchange.info([query["symbol"]] if "symbol" in query else json.loads(query.get("symbols", "[]")))


async def _time(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    return exchange.server_time(fault == "skew")


async def _ping(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    return {}


async def _price(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    told = [
        {"symbol": s.name, "price": number(s.price(exchange.time.now()))}
        for s in ([exchange.symbol(query["symbol"])] if "symbol" in query else exchange.symbols.values())
    ]
    return told[0] if "symbol" in query else told


async def _day(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    def told(s: Symbol) -> dict[str, Any]:
        now = exchange.time.now()
        times, values = s.upto(now)
        day = values[times > now - 86_400_000] if len(times) else values
        o, c, volume = (
            (day[0, 0], day[-1, 3], float(day[:, 4].sum())) if len(day) else (s.price(now), s.price(now), 0.0)
        )
        high, low = (day[:, 1].max(), day[:, 2].min()) if len(day) else (c, c)
        return {
            "symbol": s.name,
            "priceChange": number(float(c - o)),
            "priceChangePercent": f"{(c / o - 1) * 100:.3f}",
            "weightedAvgPrice": number(float((o + c) / 2)),
            "prevClosePrice": number(float(o)),
            "lastPrice": number(float(c)),
            "lastQty": number(s.lot),
            "bidPrice": number(float(c)),
            "bidQty": "1",
            "askPrice": number(float(c + s.tick)),
            "askQty": "1",
            "openPrice": number(float(o)),
            "highPrice": number(float(high)),
            "lowPrice": number(float(low)),
            "volume": number(volume),
            "quoteVolume": number(volume * float(c)),
            "openTime": now - 86_400_000,
            "closeTime": now,
            "firstId": 0,
            "lastId": len(times),
            "count": len(day),
        }

    told_ = [told(s) for s in ([exchange.symbol(query["symbol"])] if "symbol" in query else exchange.symbols.values())]
    return told_[0] if "symbol" in query else told_


async def _depth(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    book, limit = exchange.symbol(query.get("symbol")).tape.book(exchange.time.now()), page_limit(query, 100, 5000)
    return (
        {"lastUpdateId": book.id, "bids": pairs(book.bids, limit), "asks": pairs(book.asks, limit)}
        if book
        else {"lastUpdateId": 0, "bids": [], "asks": []}
    )


async def _tops(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    def told(s: Symbol) -> dict[str, Any]:
        book = s.tape.book(exchange.time.now())
        best = top(book) if book else dict.fromkeys("bBaA", "0")
        return {
            "symbol": s.name,
            "bidPrice": best["b"],
            "bidQty": best["B"],
            "askPrice": best["a"],
            "askQty": best["A"],
        }

    return told(exchange.symbol(query["symbol"])) if "symbol" in query else [told(s) for s in exchange.symbols.values()]


def _traded(exchange: Exchange, query: dict[str, str], limit: int) -> list[tuple]:
    """Trades that a query asks for: from a time or a number on, else the last ones."""
    tape, now = exchange.symbol(query.get("symbol")).tape, exchange.time.now()
    begin, end = (
        (tape.moment(int(query["fromId"])) if "fromId" in query else int(query.get("startTime", 0))) - 1,
        min(now, int(query.get("endTime", now))),
    )
    found = (
        tape.trades(begin, end, first=limit)
        if "fromId" in query or "startTime" in query
        else tape.trades(begin, end, last=limit)
    )
    return list(zip(*(column.tolist() for column in found), strict=True))


async def _trades(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    rows = _traded(exchange, {k: v for k, v in query.items() if k == "symbol"}, page_limit(query, 500, 1000))
    return [
        {
            "id": i,
            "price": number(p),
            "qty": number(q),
            "quoteQty": number(p * q),
            "time": t,
            "isBuyerMaker": m,
            "isBestMatch": True,
        }
        for i, t, p, q, m in rows
    ]


async def _agg_trades(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    return [
        {"a": i, "p": number(p), "q": number(q), "f": i, "l": i, "T": t, "m": m, "M": True}
        for i, t, p, q, m in _traded(exchange, query, page_limit(query, 500, 1000))
    ]


ANSWERS = {
    "ping": _ping,
    "time": _time,
    "exchangeInfo": _info,
    "klines": _klines,
    "trades": _trades,
    "aggTrades": _agg_trades,
    "depth": _depth,
    "ticker/price": _price,
    "ticker/24hr": _day,
    "ticker/bookTicker": _tops,
}
POSSIBLE = {"klines": CANDLES, "time": ("skew",), "fundingRate": CANDLES, "openInterestHist": CANDLES}


async def _answer(answers: Mapping[str, Answer], request: web.Request) -> web.StreamResponse:
    exchange: Exchange = request.app[EXCHANGE]
    path = request.match_info["path"]
    exchange.requests += 1
    if exchange.dark:
        return await _break_off(request, b"{}")
    try:
        if path not in answers:
            return web.json_response(
                {"code": -1000, "msg": f"The sandbox does not speak {path!r}. It knows: {', '.join(answers)}."},
                status=404,
            )
        headers = exchange.admit(path)
        fault = exchange.faults.draw(
            ("rate_limit", "server_error", "timeout", "drop", "garbled", *POSSIBLE.get(path, ()))
        )
        struck = await exchange.strike(fault) if fault else None
        if struck is not None:
            return struck
        body = json.dumps(await answers[path](exchange, dict(request.query), fault)).encode()
        if fault == "drop":
            return await _break_off(request, body)
        return web.Response(body=body, content_type="application/json", headers=headers)
    except Refused as e:
        return web.json_response({"code": e.code, "msg": e.message}, status=e.status, headers=e.headers)


async def _break_off(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(body) + 1), "Content-Type": "application/json"})
    with suppress(ConnectionResetError):  # the client may be gone already
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    if request.transport:
        request.transport.close()
    return response


async def _connect(request: web.Request) -> web.StreamResponse:
    exchange: Exchange = request.app[EXCHANGE]
    return await _break_off(request, b"{}") if exchange.dark else await streams.connect(exchange, request)


async def _state(request: web.Request) -> web.Response:
    """What the sandbox tells about itself; POST ?advance=SECONDS lets time pass,
    ?dark=1 lets it fall silent until ?dark=0, ?disconnect=1 ends every stream.
    """
    exchange: Exchange = request.app[EXCHANGE]
    if request.method == "POST":
        exchange.time.advance(float(request.query.get("advance", 0)))
        exchange.dark = request.query.get("dark", str(int(exchange.dark))) == "1"
        if exchange.dark or request.query.get("disconnect") == "1":
            exchange.disconnect()
    return web.json_response(
        {
            "now": exchange.time.now(),
            "requests": exchange.requests,
            "bans": exchange.bans,
            "faults": dict(exchange.faults.counts),
        }
    )


def make_app(exchange: Exchange) -> web.Application:
    """The exchange as an aiohttp application."""
    from . import futures  # which is made of what is above

    app = web.Application()
    app[EXCHANGE] = exchange
    for root, answers in (("/api/v3", ANSWERS), ("/fapi/v1", futures.ANSWERS), ("/futures/data", futures.DATA)):
        app.router.add_get(f"{root}/{{path:.+}}", partial(_answer, answers))
    app.router.add_route("*", "/sandbox", _state)
    for path in ("/stream", "/stream/{rest:.*}", "/ws", "/ws/{rest:.*}"):
        app.router.add_get(path, _connect)
    return app


async def start(exchange: Exchange, port: int = 0, host: str = "127.0.0.1") -> web.AppRunner:
    """Listen; `exchange.url` says where."""
    runner = web.AppRunner(make_app(exchange), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    exchange.url = f"http://{host}:{runner.addresses[0][1]}"
    return runner


@contextmanager
def running(exchange: Exchange, port: int = 0) -> Iterator[Exchange]:
    """The exchange, served by a thread of this process while the context lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(start(exchange, port), loop).result(30)
    try:
        yield exchange
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
