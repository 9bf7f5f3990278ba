"""The exchange's WebSocket streams: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

Klines, trades and best prices are derived from the bars as time passes over them, so that what a stream says and what REST says is the same.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from .faults import STREAM
from .market import INTERVALS, Symbol, number

if TYPE_CHECKING:
    from .exchange import Exchange

UPDATE = 0.25  # our seconds between two messages about a bar that is still open


@dataclass(eq=False)
class Connection:
    """One client: what it listens to, and what it has been told."""

    request: web.Request
    socket: web.WebSocketResponse
    combined: bool  # its messages are wrapped with the stream's name
    told: dict[str, int] = field(default_factory=dict)  # stream -> everything before this moment was sent

    def abort(self) -> None:
        """End it without a goodbye."""
        if self.request.transport:
            self.request.transport.abort()


def parse_stream(exchange: Exchange, name: str) -> tuple[Symbol, str, str]:
    """Symbol, kind and interval of a stream's name, e.g. btcusdt@kline_1m."""
    symbol, _, kind = name.partition("@")
    kind, _, interval = kind.partition("_")
    market = exchange.symbols.get(symbol.upper())
    if market is None or kind not in ("kline", "trade", "bookTicker") or (kind == "kline" and (interval not in INTERVALS or INTERVALS[interval] % market.step)):
        raise ValueError(name)
    return market, kind, interval


def messages(symbol: Symbol, kind: str, interval: str, since: int, now: int) -> list[dict[str, Any]]:
    """What a stream says about the time after `since` up to `now`: every bar that closed, and how far the open one has come."""
    times, _ = symbol.upto(now)
    if kind == "kline":
        span = INTERVALS[interval]
        rows = symbol.klines(interval, since - span, None, 1000, now)
        return [_kline(symbol, interval, row, min(now, row[0] + span)) for row in rows if row[0] + span > since]
    if not len(times):
        return []
    price, closes = symbol.price(now), int(times[-1])
    if kind == "trade":
        return [{"e": "trade", "E": now, "s": symbol.name, "t": closes + (now - closes) // 100, "p": number(price), "q": number(symbol.lot), "T": now, "m": False, "M": True}]
    return [{"u": now, "s": symbol.name, "b": number(price), "B": "1", "a": number(price + symbol.tick), "A": "1"}]


def _kline(symbol: Symbol, interval: str, row: list, moment: int) -> dict[str, Any]:
    t, o, h, low, c, v, end, quote, count, *_ = row
    told = {"t": t, "T": end, "s": symbol.name, "i": interval, "f": 0, "L": count, "o": o, "c": c, "h": h, "l": low, "v": v, "n": count, "x": moment > end, "q": quote, "V": "0", "Q": "0", "B": "0"}
    return {"e": "kline", "E": moment, "s": symbol.name, "k": told}


async def _feed(exchange: Exchange, connection: Connection) -> None:
    """Send what is due, as soon as it is due."""
    while not connection.socket.closed:
        now, due = exchange.time.now(), UPDATE
        for name, since in list(connection.told.items()):
            symbol, kind, interval = parse_stream(exchange, name)
            connection.told[name] = now
            for message in messages(symbol, kind, interval, since, now):
                fault = exchange.faults.draw(STREAM)
                if fault == "disconnect":
                    return connection.abort()
                await connection.socket.send_str(json.dumps({"stream": name, "data": message} if connection.combined else message))
            span = INTERVALS[interval] if kind == "kline" else symbol.step
            due = min(due, exchange.time.real(span - now % span))
        await asyncio.sleep(max(due, 0.001))


def _subscribe(exchange: Exchange, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
    names = request.get("params") or []
    try:
        for name in names:
            parse_stream(exchange, name)
    except ValueError as e:
        return {"error": {"code": 2, "msg": f"Invalid request: unknown stream {e}"}, "id": request.get("id")}
    if request.get("method") == "SUBSCRIBE":
        connection.told |= {name: exchange.time.now() for name in names}
    elif request.get("method") == "UNSUBSCRIBE":
        for name in names:
            connection.told.pop(name, None)
    else:
        return {"result": sorted(connection.told), "id": request.get("id")}
    return {"result": None, "id": request.get("id")}


async def connect(exchange: Exchange, request: web.Request) -> web.WebSocketResponse:
    """A client's connection, until it or a fault ends it."""
    socket = web.WebSocketResponse(heartbeat=20)
    await socket.prepare(request)
    names = [n for n in request.query.get("streams", "").split("/") if n]
    connection = Connection(request, socket, combined="/stream" in request.path, told=dict.fromkeys(names, exchange.time.now()))
    exchange.connections.add(connection)
    feed = asyncio.ensure_future(_feed(exchange, connection))
    try:
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_json(_subscribe(exchange, connection, json.loads(message.data)))
    finally:
        exchange.connections.discard(connection)
        feed.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await feed
    return socket
