"""The exchange's WebSocket streams: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

What a stream says and what REST says is the same: both ask the bars and the tape.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from .faults import STREAM
from .market import INTERVALS, Symbol
from .tape import number, pairs

if TYPE_CHECKING:
    from .exchange import Exchange

UPDATE, QUICK = (
    0.25,
    0.05,
)  # our seconds between two messages about a bar that is still open, and between two looks at trades and the book


@dataclass(eq=False)
class Connection:
    """One client: what it listens to, and what it has been told."""

    request: web.Request
    socket: web.WebSocketResponse
    combined: bool  # its messages are wrapped with the stream's name
    told: dict[str, int] = field(default_factory=dict)  # stream -> everything before this moment was sent
    held: dict[str, dict[str, Any]] = field(default_factory=dict)  # stream -> an update that comes after the next one

    def abort(self) -> None:
        """End it without a goodbye."""
        if self.request.transport:
            self.request.transport.abort()


KINDS = ("kline", "trade", "aggTrade", "bookTicker", "depth", "depth5", "depth10", "depth20")


def parse_stream(exchange: Exchange, name: str) -> tuple[Symbol, str, str]:
    """Symbol, kind and interval of a stream's name, e.g. btcusdt@kline_1m or btcusdt@depth@100ms."""
    symbol, _, kind = name.partition("@")
    kind, interval = kind.removesuffix("@100ms").removesuffix("@1000ms").partition("_")[::2]
    market = exchange.symbols.get(symbol.upper())
    if (
        market is None
        or kind not in KINDS
        or (kind == "kline" and (interval not in INTERVALS or INTERVALS[interval] % market.step))
    ):
        raise ValueError(name)
    return market, kind, interval


def messages(symbol: Symbol, kind: str, interval: str, since: int, now: int) -> list[dict[str, Any]]:
    """What a stream says about the time after `since` up to `now`:
    every bar that closed and how far the open one has come, every trade, every change of the book.
    """
    if kind == "kline":
        span = INTERVALS[interval]
        rows = symbol.klines(interval, since - span, None, 1000, now)
        return [_kline(symbol, interval, row, min(now, row[0] + span)) for row in rows if row[0] + span > since]
    if kind in ("trade", "aggTrade"):
        return [
            _trade(symbol, kind, *row)
            for row in zip(*(column.tolist() for column in symbol.tape.trades(since, now)), strict=True)
        ]
    if kind == "bookTicker":
        return [{**told, "s": symbol.name} for told in symbol.tape.tops(since, now)]
    if kind == "depth":
        return [{"e": "depthUpdate", "E": now, "s": symbol.name, **told} for told in symbol.tape.updates(since, now)]
    book, before, depth = symbol.tape.book(now), symbol.tape.book(since), int(kind.removeprefix("depth"))
    return (
        []
        if book is None or before == book
        else [{"lastUpdateId": book.id, "bids": pairs(book.bids, depth), "asks": pairs(book.asks, depth)}]
    )


def _trade(symbol: Symbol, kind: str, id: int, time: int, price: float, amount: float, sold: bool) -> dict[str, Any]:
    told = {
        "e": kind,
        "E": time,
        "s": symbol.name,
        "p": number(price),
        "q": number(amount),
        "T": time,
        "m": sold,
        "M": True,
    }
    return {**told, "t": id} if kind == "trade" else {**told, "a": id, "f": id, "l": id}


def _kline(symbol: Symbol, interval: str, row: list, moment: int) -> dict[str, Any]:
    t, o, h, low, c, v, end, quote, count, *_ = row
    told = {
        "t": t,
        "T": end,
        "s": symbol.name,
        "i": interval,
        "f": 0,
        "L": count,
        "o": o,
        "c": c,
        "h": h,
        "l": low,
        "v": v,
        "n": count,
        "x": moment > end,
        "q": quote,
        "V": "0",
        "Q": "0",
        "B": "0",
    }
    return {"e": "kline", "E": moment, "s": symbol.name, "k": told}


def _disturbed(
    exchange: Exchange, connection: Connection, name: str, kind: str, told: list[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """The messages that are sent after all; None: the connection breaks."""
    sent = []
    for message in told:
        fault = exchange.faults.draw(STREAM if kind == "depth" else STREAM[:1])
        if fault == "disconnect":
            return None
        if fault == "swapped" and name not in connection.held:
            connection.held[name] = message
        elif fault != "lost":
            sent += [message, *filter(None, [connection.held.pop(name, None)])]
    return sent


async def _feed(exchange: Exchange, connection: Connection) -> None:
    """Send what is due, as soon as it is due."""
    while not connection.socket.closed:
        now, due = exchange.time.now(), UPDATE
        for name, since in list(connection.told.items()):
            symbol, kind, interval = parse_stream(exchange, name)
            connection.told[name] = now
            sent = _disturbed(exchange, connection, name, kind, messages(symbol, kind, interval, since, now))
            if sent is None:
                return connection.abort()
            for message in sent:
                await connection.socket.send_str(
                    json.dumps({"stream": name, "data": message} if connection.combined else message)
                )
            due = min(due, exchange.time.real((span := INTERVALS[interval]) - now % span) if kind == "kline" else QUICK)
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
    connection = Connection(
        request, socket, combined="/stream" in request.path, told=dict.fromkeys(names, exchange.time.now())
    )
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
