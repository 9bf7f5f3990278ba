"""Servers that answer as Twelve Data and Alpaca document: https://twelvedata.com/docs, https://docs.alpaca.markets."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import polars as pl

from algo_research.data.market.instruments import session_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW_YORK = ZoneInfo("America/New_York")
SPANS = {
    "1min": 1,
    "5min": 5,
    "15min": 15,
    "30min": 30,
    "45min": 45,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "1day": 1440,
    "1Min": 1,
    "5Min": 5,
    "15Min": 15,
    "30Min": 30,
    "1Day": 1440,
}


@dataclass
class Provider:
    """A market of stocks, of pairs of currencies and of crypto currencies, and who may ask for it."""

    bars: dict[str, pl.DataFrame]  # minutes by symbol: ts and values
    key: str = "local-key"
    limit: int = 1000  # requests until one is refused
    now: datetime = datetime(2024, 7, 5, tzinfo=UTC)
    stocks: tuple[str, ...] = ("AAPL",)
    currencies: tuple[str, ...] = ("EUR/USD",)
    actions: tuple[
        tuple[str, str, str, float], ...
    ] = ()  # symbol, ex date, split or dividend, new shares for an old one or cash a share
    retry_after: str = "7"  # what a refused request is told
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)

    def aggregated(
        self, symbol: str, minutes: int, begin: datetime, end: datetime, extended: bool = False
    ) -> pl.DataFrame:
        """Bars of a length: of a stock counted from the opening of its session, of a day one;
        `extended` with what is traded before and after hours.
        """
        rows = self.bars[symbol].filter((pl.col("ts") >= begin) & (pl.col("ts") < min(end, self.now)))
        if symbol in self.stocks and not extended and rows.height:
            due = session_schedule("XNYS", rows["ts"][0].date(), rows["ts"][-1].date(), timedelta(days=1)).select(
                opens="ts", closes="known_at"
            )
            rows = rows.join_asof(due, left_on="ts", right_on="opens").filter(pl.col("ts") < pl.col("closes"))
        if symbol in self.stocks and minutes in (60, 120, 240):
            rows = rows.with_columns(
                bar=pl.col("ts").dt.offset_by("-30m").dt.truncate(f"{minutes}m").dt.offset_by("30m")
            )
        elif minutes == 1440:
            zone = "America/New_York" if symbol in self.stocks else "UTC"
            rows = rows.with_columns(
                bar=pl.col("ts").dt.convert_time_zone(zone).dt.truncate("1d").dt.convert_time_zone("UTC")
            )
        else:
            rows = rows.with_columns(bar=pl.col("ts").dt.truncate(f"{minutes}m"))
        values = (
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
        )
        return rows.group_by("bar", maintain_order=True).agg(*values).rename({"bar": "ts"})

    def twelve(self, path: str, q: dict[str, str], key: str | None) -> tuple[int, Any]:
        def failed(code: int, message: str, status: int | None = None) -> tuple[int, Any]:
            return status or code, {"code": code, "message": message, "status": "error"}

        if key != f"apikey {self.key}" and q.get("apikey") != self.key:
            return failed(401, "**apikey** parameter is incorrect or not specified.")
        if self.requests.total() > self.limit:
            return failed(429, "You have run out of API credits for the current minute.")
        if path == "/symbol_search":
            found = [s for s in self.bars if s[:2] == q["symbol"][:2].upper()]
            return 200, {"data": [self._described(s) for s in found], "status": "ok"}
        if path in ("/splits", "/dividends"):
            events = [
                (day, value)
                for s, day, kind, value in self.actions
                if s == q["symbol"] and kind == path[1:-1] and day >= q.get("start_date", "")
            ]
            if path == "/splits":
                return 200, {
                    "splits": [
                        {
                            "date": day,
                            "description": f"{v:g}-for-1 split",
                            "ratio": 1 / v,
                            "from_factor": v,
                            "to_factor": 1,
                        }
                        for day, v in events
                    ]
                }
            splits = [(d, v) for s, d, kind, v in self.actions if s == q["symbol"] and kind == "split"]
            if q.get("adjust", "true") != "true":
                splits = []
            amounts = [v / math.prod(w for d, w in splits if d > day) for day, v in events]
            return 200, {
                "dividends": [{"ex_date": day, "amount": v} for (day, _), v in zip(events, amounts, strict=True)]
            }
        if q["symbol"] not in self.bars:
            return failed(404, f"**symbol** or **figi** parameter is missing or invalid: {q['symbol']}.", 200)
        if q["interval"] not in SPANS:
            return failed(400, f"Invalid **interval** provided: {q['interval']}.", 200)
        begin, end = (_moment(q[k]) for k in ("start_date", "end_date"))
        rows = self.aggregated(q["symbol"], SPANS[q["interval"]], begin, end).tail(
            min(int(q.get("outputsize", 30)), 5000)
        )
        if not rows.height:
            return failed(
                400, "No data is available on the specified dates. Try setting different start/end dates.", 200
            )
        shape = "%Y-%m-%d" if q["interval"] == "1day" else "%Y-%m-%d %H:%M:%S"
        zone = NEW_YORK if q["interval"] == "1day" and q["symbol"] in self.stocks else UTC
        names = (
            ("open", "high", "low", "close")
            if q["symbol"] in self.currencies
            else ("open", "high", "low", "close", "volume")
        )
        told = [
            {
                "datetime": f"{t.astimezone(zone):{shape}}",
                **{k: f"{v:.0f}" if k == "volume" else f"{v:.5f}" for k, v in zip(names, values, strict=False)},
            }
            for t, *values in rows.iter_rows()
        ]
        return 200, {
            "meta": {**self._described(q["symbol"]), "interval": q["interval"]},
            "values": told if q.get("order") == "ASC" else told[::-1],
            "status": "ok",
        }

    def _described(self, symbol: str) -> dict[str, Any]:
        if symbol in self.stocks:
            return {
                "symbol": symbol,
                "instrument_name": symbol,
                "exchange": "NASDAQ",
                "mic_code": "XNGS",
                "exchange_timezone": "America/New_York",
                "instrument_type": "Common Stock",
                "country": "United States",
                "currency": "USD",
            }
        if symbol in self.currencies:
            return {
                "symbol": symbol,
                "instrument_name": symbol,
                "exchange": "PHYSICAL CURRENCY",
                "mic_code": "",
                "exchange_timezone": "UTC",
                "instrument_type": "Physical Currency",
                "country": "",
                "currency": "US Dollar",
            }
        return {
            "symbol": symbol,
            "instrument_name": symbol,
            "exchange": "Coinbase Pro",
            "mic_code": "DIGITAL_CURRENCY",
            "exchange_timezone": "UTC",
            "instrument_type": "Digital Currency",
            "country": "",
            "currency": "USD",
        }

    def alpaca(self, path: str, q: dict[str, str], keys: tuple[str | None, str | None]) -> tuple[int, Any]:
        if keys != (self.key, f"{self.key}-secret"):
            return 403, {"message": "forbidden."}
        if self.requests.total() > self.limit:
            return 429, {"message": "too many requests."}
        if path.startswith("/v2/assets"):
            symbol = unquote(path.removeprefix("/v2/assets").lstrip("/"))
            if not symbol:
                return 200, [self._asset(s) for s in self.bars]
            return (
                (200, self._asset(symbol))
                if symbol in self.bars
                else (404, {"code": 40410000, "message": f"asset not found for {symbol}"})
            )
        if path == "/v1/corporate-actions":
            found = [a for a in self.actions if a[0] == q["symbols"] and a[1] >= q["start"]]
            at = int(q.get("page_token", 0))
            shown: dict[str, list[dict[str, Any]]] = {"forward_splits": [], "reverse_splits": [], "cash_dividends": []}
            for s, day, kind, v in found[at : at + 1]:  # one a page
                if kind == "dividend":
                    shown["cash_dividends"].append({"symbol": s, "ex_date": day, "rate": v, "special": False})
                else:
                    shown["forward_splits" if v > 1 else "reverse_splits"].append(
                        {"symbol": s, "ex_date": day, "new_rate": v if v > 1 else 1, "old_rate": 1 if v > 1 else 1 / v}
                    )
            return 200, {
                "corporate_actions": {k: v for k, v in shown.items() if v},
                "next_page_token": str(at + 1) if at + 1 < len(found) else None,
            }
        symbol = q["symbols"] if "crypto" in path else path.split("/")[3]
        if symbol not in self.bars or q["timeframe"] not in SPANS:
            return 400, {"message": f"invalid symbol or timeframe: {symbol} {q['timeframe']}"}
        rows = self.aggregated(
            symbol, SPANS[q["timeframe"]], _moment(q["start"]), self.now, extended=q["timeframe"] != "1Day"
        )
        limit = int(q.get("limit", 1000))
        told = [
            {"t": f"{t:%Y-%m-%dT%H:%M:%SZ}", "o": o, "h": h, "l": low, "c": c, "v": v, "n": 1, "vw": c}
            for t, o, h, low, c, v in rows.head(limit).iter_rows()
        ]
        token = "more" if rows.height > limit else None
        return 200, {"bars": {symbol: told} if "crypto" in path else told, "symbol": symbol, "next_page_token": token}

    def _asset(self, symbol: str) -> dict[str, Any]:
        stock = symbol in self.stocks
        more = (
            {"exchange": "NASDAQ"}
            if stock
            else {
                "exchange": "CRYPTO",
                "price_increment": "0.01",
                "min_trade_increment": "0.0001",
                "min_order_size": "0.0001",
            }
        )
        return {
            "id": symbol,
            "class": "us_equity" if stock else "crypto",
            "symbol": symbol,
            "status": "active",
            "tradable": True,
            "fractionable": True,
            **more,
        }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=UTC)


def stock_minutes(bars: pl.DataFrame, first: date, last: date, extended: bool = True) -> pl.DataFrame:
    """Bars of any times laid on the minutes of New York's sessions, and of an hour before and after them."""
    due = session_schedule("XNYS", first, last, timedelta(days=1))
    wide = due.with_columns(
        pl.col("ts").dt.offset_by("-1h" if extended else "0h"),
        pl.col("known_at").dt.offset_by("1h" if extended else "0h"),
    )
    times = wide.select(pl.datetime_ranges("ts", "known_at", "1m", closed="left").alias("ts")).explode("ts")["ts"]
    return (
        bars.head(len(times))
        .with_columns(ts=times.head(bars.height))
        .select("ts", "open", "high", "low", "close", "volume")
    )


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        provider: Provider = self.server.provider
        parts = urlsplit(self.path)
        query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        provider.requests[parts.path] += 1
        if parts.path in ("/time_series", "/symbol_search", "/splits", "/dividends"):
            status, body = provider.twelve(parts.path, query, self.headers.get("Authorization"))
        else:
            status, body = provider.alpaca(
                parts.path, query, (self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY"))
            )
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 429:
            self.send_header("Retry-After", provider.retry_after)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(provider: Provider) -> Iterator[Provider]:
    """The provider on a free port of this machine, while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.provider = provider
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
