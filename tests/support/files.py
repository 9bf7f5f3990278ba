"""Small files of bars in the shapes that people bring, made from a seeded walk, with the right answer beside each."""

import csv
import gzip
import io
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
Bar = tuple[float, float, float, float, float]  # open, high, low, close, volume


@dataclass(frozen=True)
class Shape:
    """A file, and what a right reading of it is."""

    content: bytes
    opens: Sequence[datetime]  # opening times, UTC
    known: Sequence[datetime]  # when each bar was known, UTC
    bars: Sequence[Bar]
    name: str = "file.csv"
    options: dict[str, Any] = field(default_factory=dict)
    calendar: str = "24/7"
    symbol: str = "file"
    timeframe: str = "1h"
    volume: bool = True
    adjustment: str = "raw"
    says: str = ""  # a part of what must be said


def walk(count: int, seed: int, price: float = 100.0, digits: int = 2, volume: int = 500) -> list[Bar]:
    rng, bars = random.Random(seed), []
    for _ in range(count):
        begin = price
        price = round(price * (1 + rng.gauss(0, 0.004)), digits)
        high, low = round(max(begin, price) * 1.001, digits), round(min(begin, price) * 0.999, digits)
        bars.append((begin, high, low, price, float(rng.randint(1, volume))))
    return bars


def lines(rows: Sequence[Sequence[object]], delimiter: str = ",", encoding: str = "utf-8", before: str = "") -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return (before + out.getvalue()).encode(encoding)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


NAMES = ("time", "open", "high", "low", "close", "volume")
HOURS = [datetime(2024, 12, 30, tzinfo=UTC) + n * HOUR for n in range(96)]
BARS = walk(96, 1)
LATER = [moment + HOUR for moment in HOURS]
MINUTES = [datetime(2024, 3, 4, tzinfo=UTC) + n * 5 * MINUTE for n in range(120)]
PAIRS = walk(120, 2, 1.08, 5)
HOLIDAYS = {date(2024, 1, 15), date(2024, 2, 19), date(2024, 3, 29)}
DATES = [d for d in (date(2024, 1, 2) + n * DAY for n in range(90)) if d.weekday() < 5 and d not in HOLIDAYS]
SHARES = walk(len(DATES), 3, 180, volume=90_000_000)


def in_new_york(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).astimezone(UTC)


OPENED, CLOSED = [in_new_york(d, 9, 30) for d in DATES], [in_new_york(d, 16) for d in DATES]
SESSION_HOURS = [opened + n * HOUR for opened in OPENED for n in range(7)]
SESSION_KNOWN = [
    min(opened + (n + 1) * HOUR, closed) for opened, closed in zip(OPENED, CLOSED, strict=True) for n in range(7)
]
SESSION_BARS = walk(len(SESSION_HOURS), 4, 470)
WEEK = [
    moment
    for moment in (datetime(2024, 5, 5, 21, tzinfo=UTC) + n * HOUR for n in range(24 * 28 - 48))
    if not (
        moment.weekday() == 5
        or (moment.weekday() == 4 and moment.hour >= 21)
        or (moment.weekday() == 6 and moment.hour < 21)
    )
]
WEEK_BARS = walk(len(WEEK), 5, 1.08, 5)
AUTUMN = [datetime(2024, 11, 3, 4, tzinfo=UTC) + n * HOUR for n in range(30)]  # midnight in New York
AUTUMN_BARS = walk(30, 6)


def hourly(content: bytes, **changed) -> Shape:
    return Shape(content, HOURS, LATER, BARS, **changed)


def daily(content: bytes, **changed) -> Shape:
    return Shape(content, OPENED, CLOSED, SHARES, **{"calendar": "XNYS", "timeframe": "1d", **changed})


def five(content: bytes, shift: timedelta = timedelta(0), **changed) -> Shape:
    opens = [moment + shift for moment in MINUTES]
    return Shape(content, opens, [m + 5 * MINUTE for m in opens], PAIRS, **{"timeframe": "5m", **changed})


def hours(form: Callable[[datetime], object], names: Sequence[str] = NAMES, **how) -> bytes:
    return lines([names, *([form(t), *bar] for t, bar in zip(HOURS, BARS, strict=True))], **how)


def days(form: str, names: Sequence[str] = ("Date", "Open", "High", "Low", "Close", "Volume"), **how) -> bytes:
    return lines([names, *([d.strftime(form), *bar] for d, bar in zip(DATES, SHARES, strict=True))], **how)


def comma(value: float, digits: int = 2) -> str:
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def epoch(t: datetime, factor: int = 1) -> int:
    return int(t.timestamp()) * factor


def _kline(t: datetime, bar: Bar, factor: int) -> list[object]:
    end = epoch(t, factor) + 3600 * factor - 1
    return [epoch(t, factor), *bar, end, round(bar[4] * bar[3], 2), 10, round(bar[4] / 2, 3), 0, 0]


def _coinapi(t: datetime, bar: Bar) -> list[object]:
    """The first trade comes after the beginning, and the last one before the end."""
    times = [t, t + HOUR, t + timedelta(seconds=4), t + timedelta(minutes=59, seconds=58)]
    return [*(f"{moment:%Y-%m-%dT%H:%M:%S}.0000000Z" for moment in times), *bar, 12]


def _semicolons(first: Sequence[str]) -> bytes:
    rows = [[f"{d:%d.%m.%Y}", *map(comma, bar[:4]), comma(bar[4], 0)] for d, bar in zip(DATES, SHARES, strict=True)]
    return lines([first, *rows], delimiter=";", encoding="utf-8-sig")


def shapes() -> dict[str, Shape]:
    """Every file by what is special about it."""
    known = list(zip(HOURS, BARS, strict=True))
    klines = [_kline(t, bar, 1000) for t, bar in known]
    turning = [_kline(t, bar, 10**6 if t.year > 2024 else 1000) for t, bar in known]
    cdd = [
        [epoch(t, 1000), f"{t:%Y-%m-%d %H:%M:%S}", "BTCUSDT", *bar, round(bar[4] * bar[3], 2), 9] for t, bar in known
    ]
    cdd_names = ["Unix", "Date", "Symbol", "Open", "High", "Low", "Close", "Volume BTC", "Volume USDT", "tradecount"]
    fives = list(zip(MINUTES, PAIRS, strict=True))
    mt5 = [[f"{t:%Y.%m.%d}", f"{t:%H:%M:%S}", *bar[:4], int(bar[4]), 0, 3] for t, bar in fives]
    mt5_names = [f"<{n}>" for n in ["DATE", "TIME", "OPEN", "HIGH", "LOW", "CLOSE", "TICKVOL", "VOL", "SPREAD"]]
    years = list(zip(DATES, SHARES, strict=True))
    flat = [[f"{d}", b[3], b[1], b[2], b[0], b[4]] for d, b in years]
    two = [[f"{d}", b[3], b[3], b[1], b[1], b[2], b[2], b[0], b[0], b[4], b[4]] for d, b in years]
    stooq = [["AAPL.US", "D", f"{d:%Y%m%d}", "000000", *b, 0] for d, b in years]
    local = [
        [f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}", *b] for t, b in zip(SESSION_HOURS, SESSION_BARS, strict=True)
    ]
    ends = [[f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M}", *b] for t, b in zip(SESSION_KNOWN, SESSION_BARS, strict=True)]
    moments = [[f"{t:%Y-%m-%dT%H:%M:%SZ}", *b] for t, b in zip(SESSION_HOURS, SESSION_BARS, strict=True)]
    week = [[f"{t:%Y-%m-%d %H:%M:%S}", *b] for t, b in zip(WEEK, WEEK_BARS, strict=True)]
    autumn = [[f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M}", *b] for t, b in zip(AUTUMN, AUTUMN_BARS, strict=True)]
    clocks = [NAMES, *autumn]
    fallen = list(zip(AUTUMN, AUTUMN_BARS, strict=True))
    sessions = {"opens": SESSION_HOURS, "known": SESSION_KNOWN, "bars": SESSION_BARS, "calendar": "XNYS"}
    currencies = {"opens": WEEK, "known": [t + HOUR for t in WEEK], "bars": WEEK_BARS, "calendar": "24/5"}
    fall = {"opens": AUTUMN, "known": [t + HOUR for t in AUTUMN], "bars": AUTUMN_BARS}
    new_york = {"options": {"tz": "America/New_York"}}
    assumed = {"says": "no zone and were taken for UTC"}
    polygon = [["AAPL", b[4], b[0], b[3], b[1], b[2], epoch(t, 10**9), 7] for t, b in known]
    alpaca = [["AAPL", f"{t:%Y-%m-%d %H:%M:%S+00:00}", *b, 5, b[3]] for t, b in known]
    fixed = [[epoch(t, 10**9), 34, *(round(v * 10**9) for v in b[:4]), int(b[4])] for t, b in known]
    dollars = walk(len(MINUTES), 9, 185)
    quantmod = ["Open", "High", "Low", "Close", "Volume", "Adjusted"]
    coinapi = ["time_period_start", "time_period_end", "time_open", "time_close"]
    coinapi += ["price_open", "price_high", "price_low", "price_close", "volume_traded", "trades_count"]
    closed = [[f"{d}", *["null"] * 6] for d in sorted(HOLIDAYS)]
    adjusted = [[f"{d}", *b[:4], b[3], b[4]] for d, b in years]
    yahoo = ["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume"]
    untraded = [(*b[:4], None if n % 5 == 0 else b[4]) for n, b in enumerate(SHARES)]
    investing = [
        [f"{d:%b %d, %Y}", b[3], b[0], b[1], b[2], "-" if n % 5 == 0 else f"{b[4]:,.0f}", "0.10%"]
        for n, (d, b) in enumerate(years)
    ]
    fixed_names = ["ts_event", "rtype", *NAMES[1:]]
    known_rows = [[f"{t:%Y-%m-%dT%H:%M:%SZ}", *b] for t, b in known]
    lean = [
        [(t - MINUTES[0]) // timedelta(milliseconds=1), *(round(v * 10**4) for v in b[:4]), int(b[4])]
        for t, b in zip(MINUTES, dollars, strict=True)
    ]
    return {
        "archive in ms": hourly(lines(klines), name="BTCUSDT-1h-ms.csv", symbol="BTCUSDT-1h-ms", says="Binance"),
        "archive that turns to us": hourly(lines(turning), says="epoch in ms and us"),
        "archive with names": hourly(
            lines([["open_time", *NAMES[1:], "close_time", "quote_volume", "count", "a", "b", "ignore"], *klines])
        ),
        "kraken": hourly(lines([[epoch(t), *b, 7] for t, b in known]), name="XBTUSD_60.csv", symbol="XBTUSD-60"),
        "cryptodatadownload": hourly(
            lines([cdd_names, *reversed(cdd)], before="https://example.invalid\n"),
            symbol="BTCUSDT",
            says="newest first",
        ),
        "tradingview": hourly(hours(epoch, ("time", "open", "high", "low", "close", "Volume")), says="TradingView"),
        "metatrader 4": five(lines([[f"{t:%Y.%m.%d}", f"{t:%H:%M}", *b[:4], int(b[4])] for t, b in fives]), **assumed),
        "metatrader 4, in its zone": five(
            lines([[f"{t:%Y.%m.%d}", f"{t:%H:%M}", *b[:4], int(b[4])] for t, b in fives]),
            -2 * HOUR,
            options={"tz": "Europe/Athens"},
        ),
        "metatrader 5": five(lines([mt5_names, *mt5], delimiter="\t"), **assumed),
        "histdata": five(
            lines([[f"{t:%Y%m%d %H%M%S}", *b[:4], 0] for t, b in fives], delimiter=";"),
            5 * HOUR,
            name="DAT_ASCII_EURUSD_M1_2024.csv",
            symbol="DAT-ASCII-EURUSD-M1-2024",
            volume=False,
            says="Etc/GMT+5",
        ),
        "ninjatrader": five(
            lines([[f"{t + 5 * MINUTE:%Y%m%d %H%M%S}", *b[:4], int(b[4])] for t, b in fives], delimiter=";"),
            5 * HOUR,
            name="EURUSD.Last.txt",
            symbol="EURUSD",
            options={"tz": "America/New_York"},
            says="close of a bar (known of ninjatrader)",
        ),
        "dukascopy": five(
            lines(
                [
                    ["Gmt time", "Open", "High", "Low", "Close", "Volume"],
                    *([f"{t:%d.%m.%Y %H:%M:%S}.000", *b] for t, b in fives),
                ]
            ),
            says="day first",
        ),
        "dukascopy, local": five(
            lines(
                [
                    ["Local time", "Open", "High", "Low", "Close", "Volume"],
                    *([f"{t + HOUR:%d.%m.%Y %H:%M:%S}.000 GMT+0100", *b] for t, b in fives),
                ]
            ),
            options={"dates": "day-first"},
        ),
        "polygon": hourly(
            lines([["ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"], *polygon]),
            symbol="AAPL",
        ),
        "alpaca": hourly(lines([["symbol", "timestamp", *NAMES[1:], "trade_count", "vwap"], *alpaca]), symbol="AAPL"),
        "databento": hourly(lines([fixed_names, *fixed]), says="whole numbers of 1e-09"),
        "lean": replace(
            five(lines(lean), 5 * HOUR, name="20240304_aapl_minute_trade.csv", symbol="20240304-aapl-minute-trade"),
            bars=dollars,
        ),
        "yahoo": daily(
            lines(
                [
                    ["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume"],
                    *([f"{d}", *b[:4], b[3], b[4]] for d, b in years),
                ]
            ),
            adjustment="split",
        ),
        "yfinance": daily(
            lines(
                [
                    ["Price", "Close", "High", "Low", "Open", "Volume"],
                    ["Ticker", *["AAPL"] * 5],
                    ["Date", *[""] * 5],
                    *flat,
                ]
            ),
            symbol="AAPL",
            adjustment="total",
        ),
        "yfinance, two symbols": daily(
            lines(
                [
                    ["Price", *(n for n in ("Close", "High", "Low", "Open", "Volume") for _ in "ab")],
                    ["Ticker", *["AAPL", "MSFT"] * 5],
                    ["Date", *[""] * 10],
                    *two,
                ]
            ),
            symbol="AAPL+MSFT",
            adjustment="total",
            says="columns of 2 symbols",
        ),
        "stooq": daily(
            lines(
                [
                    [
                        f"<{n}>"
                        for n in ["TICKER", "PER", "DATE", "TIME", "OPEN", "HIGH", "LOW", "CLOSE", "VOL", "OPENINT"]
                    ],
                    *stooq,
                ]
            ),
            symbol="AAPL.US",
        ),
        "day first": daily(days("%d/%m/%Y"), says="day first"),
        "month first": daily(days("%m/%d/%Y"), says="month first"),
        "two digits of the year": daily(days("%d-%m-%y"), says="day first"),
        "months by name": daily(days("%d-%b-%Y")),
        "months by name first": daily(days("%b %d, %Y")),
        "dates as numbers": daily(days("%Y%m%d"), says="YYYYMMDD"),
        "decimal commas": daily(
            _semicolons(["Datum", "Erster", "Hoch", "Tief", "Schlusskurs", "Volumen"]), says="after a comma"
        ),
        "spanish names": daily(_semicolons(["Fecha", "Apertura", "Máximo", "Mínimo", "Cierre", "Volumen"])),
        "thousands": daily(
            lines(
                [
                    ["Date", "Open", "High", "Low", "Close", "Volume"],
                    *([f"{d}", *b[:4], f"{b[4]:,.0f}"] for d, b in years),
                ]
            )
        ),
        "windows": daily(
            lines(
                [
                    ["Date", "Ouverture", "Plus haut", "Plus bas", "Clôture", "Volume"],
                    *([f"{d}", *b] for d, b in years),
                ],
                delimiter=";",
                encoding="cp1252",
            ),
            says="code page 1252",
        ),
        "utf-16": daily(days("%Y-%m-%d", encoding="utf-16", delimiter="\t"), says="tabs"),
        "a footer": daily(
            days("%Y-%m-%d") + b'"Downloaded from example.invalid"\n', says="line after the table left out"
        ),
        "spreadsheet days": daily(
            lines([["Date", *NAMES[1:]], *([(d - date(1899, 12, 30)).days, *b] for d, b in years)]), says="spreadsheets"
        ),
        "hours of a session, local": Shape(lines([NAMES, *local]), **sessions, says="by the clock of America/New_York"),
        "hours of a session, in UTC": Shape(lines([NAMES, *moments]), **sessions, says="XNYS (100.0%"),
        "hours of a session, ends": Shape(
            lines([NAMES, *ends]), **sessions, says="close of a bar (detected by the sessions)"
        ),
        "hours of a session, told": Shape(lines([NAMES, *local]), **sessions, options={"calendar": "XNYS"}),
        "hours of a session, in its zone": Shape(lines([NAMES, *local]), **sessions, **new_york),
        "a week of currencies": Shape(lines([["", *NAMES[1:]], *week]), **currencies, says="24/5"),
        "ticks of .NET": hourly(
            hours(lambda t: epoch(t, 10**7) + 621_355_968_000_000_000, ("Ticks", *NAMES[1:])), says="100 ns"
        ),
        "minutes as numbers": hourly(hours(lambda t: f"{t:%Y%m%d%H%M}"), says="YYYYMMDDHHMM"),
        "hours as numbers": hourly(hours(lambda t: f"{t:%Y%m%d%H}"), says="YYYYMMDDHH"),
        "hours of a session as numbers": Shape(
            lines([NAMES, *([f"{t.astimezone(CHICAGO):%Y%m%d%H}", *b] for t, b in zip(WEEK, WEEK_BARS, strict=True))]),
            **currencies,
            options={"tz": "America/Chicago"},
            says="YYYYMMDDHH",
        ),
        "seconds as numbers": hourly(hours(lambda t: f"{t:%Y%m%d%H%M%S}"), says="YYYYMMDDHHMMSS"),
        "morning and afternoon": hourly(hours(lambda t: f"{t:%d/%m/%Y %I:%M:%S %p}"), options={"dates": "day-first"}),
        "the zone in a name": hourly(
            hours(
                lambda t: f"{t:%Y-%m-%d %H:%M}",
                ("datetime (UTC)", *NAMES[1:]),
            ),
            options={"columns": {"ts": "datetime (UTC)"}},
            says="clock of UTC",
        ),
        "no zone": hourly(hours(lambda t: f"{t:%Y-%m-%d %H:%M:%S}"), **assumed),
        "the hour that comes twice": Shape(lines(clocks), **fall, **new_york),
        "the hour that comes twice, newest first": Shape(lines([NAMES, *reversed(autumn)]), **fall, **new_york),
        "closes only": daily(
            lines([["Date", "Close"], *([f"{d}", b[3]] for d, b in years)]), volume=False, says="only closes"
        ),
        "rows of null on holidays": daily(
            lines([yahoo, *sorted(adjusted + closed, key=lambda row: row[0])]),
            adjustment="split",
            says="3 rows without any price left out, the first is 2024-01-15",
        ),
        "points where there is no close": daily(
            lines([["DATE", "close"], *sorted([*([f"{d}", b[3]] for d, b in years), *([r[0], "."] for r in closed)])]),
            volume=False,
            says="3 rows without any price left out, the first is 2024-01-15",
        ),
        "nothing where there is no price": daily(
            lines([yahoo[:5], *sorted([*(row[:5] for row in adjusted), *([r[0], *[""] * 4] for r in closed)])]),
            volume=False,
            says="3 rows without any price left out, the first is 2024-01-15",
        ),
        "dashes where there is no volume": replace(
            daily(
                lines([["Date", "Price", "Open", "High", "Low", "Vol.", "Change %"], *investing]),
                says="the volume is '-' in 13 rows, the first is Jan 02, 2024: taken as not known",
            ),
            bars=untraded,
        ),
        "pasted together": hourly(
            lines([NAMES, *known_rows[:30], NAMES, *known_rows[30:60], NAMES, *known_rows[60:]]),
            says="2 lines of the header between the rows left out",
        ),
        "pasted together, prices as whole numbers": hourly(
            lines([fixed_names, *fixed[:50], fixed_names, *fixed[50:]]), says="whole numbers of 1e-09"
        ),
        "pasted together, with marks and a line before": hourly(
            b"".join(
                lines([cdd_names, *cdd[a : a + 48]], before="https://example.invalid\n", encoding="utf-8-sig")
                for a in (0, 48)
            ),
            symbol="BTCUSDT",
            says="2 lines of the header between the rows left out",
        ),
        "comments between the rows": hourly(
            lines([NAMES, *known_rows[:30]])
            + b"# downloaded 2024-12-31, by hand\n"
            + lines([*known_rows[30:], ["# the end"]]),
            says="2 comments between the rows left out, the first is",
        ),
        "names that begin like a comment": hourly(
            lines([["symbol", *NAMES], *(["#ES", *row] for row in known_rows)]), symbol="#ES"
        ),
        "quantmod": daily(
            lines([["", *(f"AAPL.{name}" for name in quantmod)], *([f"{d}", *b, b[3]] for d, b in years)]),
            symbol="AAPL",
            adjustment="split",
        ),
        "quantmod, two symbols": daily(
            lines(
                [
                    ["Index", *(f"{t}.{name}" for t in ("BRK.B", "MSFT") for name in quantmod)],
                    *([f"{d}", *b, b[3], *b, b[3]] for d, b in years),
                ]
            ),
            symbol="BRK.B+MSFT",
            adjustment="split",
            says="columns of 2 symbols",
        ),
        "yfinance, a number for a symbol": daily(
            lines(
                [
                    ["Price", "Close", "High", "Low", "Open", "Volume"],
                    ["Ticker", *["000001"] * 5],
                    ["Date", *[""] * 5],
                    *flat,
                ]
            ),
            symbol="000001",
            adjustment="total",
        ),
        "yfinance, numbers for symbols above": daily(
            lines(
                [
                    ["Ticker", *(t for t in ("000001", "600519") for _ in range(5))],
                    ["Price", *["Open", "High", "Low", "Close", "Volume"] * 2],
                    ["Date", *[""] * 10],
                    *([f"{d}", *b, *b] for d, b in years),
                ]
            ),
            symbol="000001+600519",
            says="columns of 2 symbols",
        ),
        "coinapi": hourly(
            lines([coinapi, *(_coinapi(t, b) for t, b in known)], delimiter=";"),
            says="times label the open of a bar (detected)",
        ),
        "a zone behind the times": Shape(
            lines([NAMES, *([f"{row[0]} US/Eastern", *row[1:]] for row in local)]),
            **sessions,
            says="the clock of US/Eastern",
        ),
        "the hour that comes twice, and its zone": Shape(
            lines([NAMES, *([f"{row[0]} America/New_York", *row[1:]] for row in autumn)]), **fall
        ),
        "an offset and a zone": Shape(
            lines(
                [
                    NAMES,
                    *(
                        [f"{t.astimezone(NEW_YORK).isoformat()}[America/New_York]", *b]
                        for t, b in zip(AUTUMN, AUTUMN_BARS, strict=True)
                    ),
                ]
            ),
            **fall,
        ),
        "winter and summer by letters": Shape(
            lines([NAMES, *([f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M %Z}", *b] for t, b in fallen)]),
            **fall,
            says="EDT (UTC-04:00) and EST (UTC-05:00)",
        ),
        "letters that begin like a half of the day": hourly(
            hours(lambda t: f"{t.astimezone(ZoneInfo('Australia/Sydney')):%Y-%m-%d %H:%M %Z}"), says="AEDT (UTC+11:00)"
        ),
        "letters of Chicago": Shape(
            lines([NAMES, *([f"{t.astimezone(CHICAGO):%m/%d/%Y %I:%M %p %Z}", *b] for t, b in fallen)]),
            **fall,
            options={"dates": "month-first"},
            says="CDT (UTC-05:00) and CST (UTC-06:00)",
        ),
        "letters of India, told": hourly(
            hours(lambda t: f"{t + HOUR * 5.5:%Y-%m-%d %H:%M} IST"),
            options={"tz": "Asia/Kolkata"},
            says="IST is read as the clock of Asia/Kolkata",
        ),
        "Tokyo by its letters": hourly(hours(lambda t: f"{t + HOUR * 9:%Y-%m-%d %H:%M}"), options={"tz": "JST"}),
        "a zip": hourly(
            zipped({"BTCUSDT-1h-2024-12.csv": lines(klines)}), name="BTCUSDT-1h-ms.zip", symbol="BTCUSDT-1h-ms"
        ),
        "a zip of histdata": five(
            zipped(
                {
                    "DAT_ASCII_EURUSD_M1_2024.csv": lines(
                        [[f"{t:%Y%m%d %H%M%S}", *b[:4], 0] for t, b in fives], delimiter=";"
                    ),
                    "__MACOSX/._DAT_ASCII_EURUSD_M1_2024.csv": b"Mac OS X",
                }
            ),
            5 * HOUR,
            name="eurusd.csv.zip",
            symbol="eurusd",
            volume=False,
            says="Etc/GMT+5",
        ),
        "a gzip": hourly(gzip.compress(lines([NAMES, *known_rows])), name="file.csv.gz"),
        "lines of an old Mac": hourly(lines([NAMES, *known_rows]).replace(b"\n", b"\r")),
        "an id and a column of one market": hourly(
            lines([["symbol", *NAMES], *(["BTC/USDT", epoch(t), *b] for t, b in known)]),
            options={"dataset": "x/BTC-USDT/1h"},
            symbol="BTC-USDT",
        ),
        "an id and another name": hourly(
            lines([["symbol", *NAMES], *(["XBTUSD", epoch(t), *b] for t, b in known)]),
            options={"dataset": "x/BTC-USD/1h"},
            symbol="BTC-USD",
            says="the file calls it XBTUSD",
        ),
    }


MONTHS = [datetime(2020 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(48)]
MONTH_ENDS = [*MONTHS[1:], datetime(2024, 1, 1, tzinfo=UTC)]
MONTH_BARS = walk(48, 8)


def of_each(form: str) -> list[tuple[datetime, list[object]]]:
    """A row of each month, and where the month begins."""
    return [(t, [f"{t:{form}}", *b]) for t, b in zip(MONTHS, MONTH_BARS, strict=True)]


def of_months() -> dict[str, Shape]:
    """Bars of months and quarters by what their times stand for."""

    def monthly(times: Sequence[object], names: Sequence[str] = ("Date", *NAMES[1:]), **changed):
        rows = [[t, *b] for t, b in zip(times, MONTH_BARS, strict=True)]
        return Shape(lines([names, *rows]), MONTHS, MONTH_ENDS, MONTH_BARS, **{"timeframe": "1mo", **changed})

    last = [t - DAY for t in MONTH_ENDS]
    worked = [t - timedelta(days=max(0, t.weekday() - 4)) for t in last]
    begun = [t + timedelta(days=(7 - t.weekday()) % 7 if t.weekday() > 4 else 0) for t in MONTHS]
    to_utc = [in_new_york(t.date(), 0) for t in MONTH_ENDS]
    shapes = {
        "months": monthly([f"{t:%Y-%m-%d}" for t in MONTHS], says="times lie where months begin"),
        "last days of months": monthly([f"{t:%Y-%m-%d}" for t in last], says="times lie where months end"),
        "last working days of months": monthly([f"{t:%Y-%m-%d}" for t in worked], says="label the close"),
        "first working days of months": monthly([f"{t:%Y-%m-%d}" for t in begun], says="label the open"),
        "epochs of months": monthly([epoch(t, 1000) for t in MONTHS], NAMES),
        "months of New York": monthly([epoch(in_new_york(t.date(), 0)) for t in MONTHS], NAMES),
        "months of New York, told": monthly(
            [f"{t:%Y-%m-%d %H:%M}" for t in MONTHS], options={"tz": "America/New_York"}
        ),
        "closes of months": monthly([epoch(t - 3 * HOUR) for t in MONTH_ENDS], NAMES, options={"label": "close"}),
        "months of Tokyo": monthly([epoch(t - 9 * HOUR) for t in MONTHS], NAMES, options={"label": "open"}),
    }
    # nothing in a file of moments tells of summer: a month is known by winter's hour, and one more
    winter = [t + 6 * HOUR for t in MONTH_ENDS]
    for name, known in (("months of New York", winter), ("months of New York, told", to_utc)):
        shapes[name] = replace(shapes[name], known=known)
    running = ["2024-01-01", *walk(1, 3)[0]], ["2024-01-17", *walk(1, 4)[0]]  # as Yahoo's downloads end
    months = [[f"{t:%Y-%m-%d}", *b] for t, b in zip(MONTHS, MONTH_BARS, strict=True)]
    shapes["months, and the one that is running"] = replace(
        shapes["months"],
        content=lines([("Date", *NAMES[1:]), *months, *running]),
        says="running on 2024-01-17 left out",
    )
    shapes["months, and the day of the download"] = replace(
        shapes["months"],
        content=lines([("Date", *NAMES[1:]), *months, running[1]]),
        says="running on 2024-01-17 left out",
    )
    zulu = [f"{t:%Y-%m-%dT%H:%M}Z[Europe/London]" for t in MONTHS]  # as Java writes a winter
    shapes["months of Greenwich by Java"] = monthly(zulu)
    # as pandas writes them: local midnights of the last days
    shapes["month ends of New York"] = replace(
        monthly([in_new_york((t - DAY).date(), 0).isoformat() for t in MONTH_ENDS]), known=winter
    )
    quarters, bars = MONTHS[::3], walk(16, 11)
    rows = [[f"{t - DAY:%d.%m.%Y}", *b] for t, b in zip([*quarters[1:], MONTH_ENDS[-1]], bars, strict=True)]
    shapes["quarters by their ends"] = Shape(
        lines([("Date", *NAMES[1:]), *rows]), quarters, [*quarters[1:], MONTH_ENDS[-1]], bars, timeframe="3mo"
    )
    named = [
        ("names", "%b %Y"),
        ("numbers and years", "%m/%Y"),
        ("years and numbers", "%Y-%m"),
        ("statisticians", "%YM%m"),
    ]
    for name, form in named:
        shapes[f"months by {name}"] = monthly([t.strftime(form) for t in MONTHS], says="times name months, such as")
    shapes["months as numbers"] = monthly([f"{t:%Y%m}" for t in MONTHS], NAMES, says="months written as YYYYMM")
    shapes["months as fractions"] = monthly([f"{t:%Y.%m}" for t in MONTHS], NAMES, says="months written as YYYY.MM")
    shapes["firsts of months, the day first"] = monthly(
        [f"{t:%d/%m/%Y}" for t in MONTHS], says="the day first: by it they are the firsts of months"
    )
    london = [t.astimezone(ZoneInfo("UTC")) for t in (t.replace(tzinfo=ZoneInfo("Europe/London")) for t in MONTHS)]
    shapes["months of London"] = monthly([epoch(t) for t in london], NAMES, says="an hour ahead of UTC in summer")
    holidays = [t - timedelta(days=7) if t.month in (1, 10) else t for t in worked]
    shapes["months before long holidays"] = monthly(
        [f"{t:%Y-%m-%d}" for t in holidays], says="times lie where months end"
    )
    download = [
        *months[:-1],
        [f"{MONTHS[-1]:%Y-%m-%d}", *walk(1, 3)[0]],
        [f"{MONTHS[-1] + 3 * DAY:%Y-%m-%d}", *walk(1, 4)[0]],
    ]
    shapes["months, downloaded on a fourth"] = Shape(
        lines([("Date", *NAMES[1:]), *download]),
        MONTHS[:-1],
        MONTH_ENDS[:-1],
        MONTH_BARS[:-1],
        timeframe="1mo",
        says="running on 2023-12-04 left out",
    )
    rows = [[f"{t.year}Q{t.month // 3 + 1}", *b] for t, b in zip(quarters, bars, strict=True)]
    shapes["quarters by name"] = replace(
        shapes["quarters by their ends"], content=lines([NAMES, *rows]), says="times name quarters, such as 2020Q1"
    )
    rows = [[f"{t - DAY:%B %Y}", *b] for t, b in zip([*quarters[1:], MONTH_ENDS[-1]], bars, strict=True)]
    shapes["quarters by their last months"] = replace(
        shapes["quarters by their ends"], content=lines([NAMES, *rows]), options={"label": "close"}
    )
    years = [MONTHS[0].replace(year=2010 + n) for n in range(12)]
    rows = [[t.year, *b] for t, b in zip(years, MONTH_BARS, strict=False)]
    shapes["years"] = Shape(
        lines([("Year", *NAMES[1:]), *rows]),
        years,
        [*years[1:], MONTHS[24]],
        MONTH_BARS[:12],
        timeframe="12mo",
        says="times are years",
    )
    holes = [n for n in range(48) if n % 12 in (0, 3, 6, 9) or n < 6]
    rows = [[f"{MONTHS[n]:%Y-%m-%d}", *MONTH_BARS[n]] for n in holes]
    shapes["months with holes, told"] = Shape(
        lines([NAMES, *rows]),
        [MONTHS[n] for n in holes],
        [MONTH_ENDS[n] for n in holes],
        [MONTH_BARS[n] for n in holes],
        timeframe="1mo",
        options={"timeframe": "1mo"},
    )
    return shapes


def refused() -> dict[str, tuple[bytes, dict[str, Any], str]]:
    """Files that nobody can read right without being told more: content, what is told, and a part of the answer."""
    known, years = list(zip(HOURS, BARS, strict=True)), list(zip(DATES, SHARES, strict=True))
    unclear = [
        [f"{a:02}/{b:02}/2024", *bar[:4]] for (a, b), bar in zip([(1, 2), (1, 3), (2, 4), (2, 5)], SHARES, strict=False)
    ]
    mixed = [["31/01/2024", 1, 2, 1, 2], ["02/14/2024", 1, 2, 1, 2]]
    thousands = [[f"{d}", *(f"{int(v):,}" for v in (1234, 1236, 1233, 1235))] for d, _ in years]
    autumn = [[f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M}", *b] for t, b in zip(AUTUMN, AUTUMN_BARS, strict=True)]
    nights = [[f"{t:%Y-%m-%dT%H:%M:%SZ}", *b] for t, b in zip(HOURS * 1, BARS, strict=True)]
    odd = [[f"{datetime(2024, 1, 1, tzinfo=UTC) + n * HOUR:%Y-%m-%dT%H:%M:%SZ}", 1, 2, 1, 2, 3] for n in range(24 * 40)]
    lunch = [row for row in odd if row[0][11:13] in ("03", "04", "17")]
    spring = [[f"2024-03-10 {hour:02}:00", 1, 2, 1, 2, 3] for hour in range(6)]
    local = [
        [f"{t.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}", *b] for t, b in zip(SESSION_HOURS, SESSION_BARS, strict=True)
    ]
    names = [NAMES]

    def zoned(letters: str) -> bytes:
        return lines([NAMES, *([f"{t:%Y-%m-%d %H:%M} {letters}", *b] for t, b in known)])

    two_zones = ["US/Eastern", "Asia/Tokyo"] * 48
    sides = [f"{side}.{name}" for side in ("Bid", "Ask") for name in ("Open", "High", "Low", "Close")]
    holes = [[f"{d}", b[0], "N/A" if n == 9 else b[1], *b[2:]] for n, (d, b) in enumerate(years)]
    times = [[f"{t:%Y-%m-%d}", *b] for t, b in known]
    ids = [[f"{t:%Y-%m-%dT%H:%M:%SZ}", "" if n == 5 else "BTC", *b] for n, (t, b) in enumerate(known)]
    return {
        "day or month": (lines([["Date", *NAMES[1:5]], *unclear]), {}, "01 February 2024 or 02 January 2024"),
        "day and month": (lines([["Date", *NAMES[1:5]], *mixed]), {}, "some the month"),
        "a thousand or one and a bit": (lines([["Date", *NAMES[1:5]], *thousands], delimiter=";"), {}, "1234 or 1.234"),
        "an hour twice without a zone": (lines([*names, *autumn]), {}, "--tz ZONE"),
        "one of two hours": (lines([*names, *autumn[:1], *autumn[2:]]), {"tz": "America/New_York"}, "nobody can tell"),
        "an hour that never was": (
            lines([*names, *spring]),
            {"tz": "America/New_York"},
            "does not exist in America/New_York",
        ),
        "no such zone": (lines([*names, *autumn]), {"tz": "America/NewYork"}, "Did you mean"),
        "letters of three countries": (zoned("IST"), {}, "India (UTC+05:30) or Israel (UTC+02:00) or Ireland"),
        "letters of Chicago and Shanghai": (zoned("CST"), {}, "China (UTC+08:00)"),
        "letters of nobody": (zoned("QQT"), {}, "'QQT' is no zone that is known"),
        "letters of another country": (zoned("BST"), {"tz": "Asia/Tokyo"}, "BST is never the clock of Asia/Tokyo"),
        "two zones in one column": (
            lines([NAMES, *([f"{t:%Y-%m-%d %H:%M} {z}", *b] for (t, b), z in zip(known, two_zones, strict=False))]),
            {},
            "Asia/Tokyo and US/Eastern",
        ),
        "a zone behind the times, and another told": (
            zoned("US/Eastern"),
            {"tz": "Asia/Tokyo"},
            "The times say their zone, US/Eastern",
        ),
        "a zone by its winter": (lines([*names, *autumn]), {"tz": "CET"}, "--tz Europe/Berlin or --tz Etc/GMT-1"),
        "a zone for moments": (lines([*names, *nights]), {"tz": "Asia/Tokyo"}, "Leave it out"),
        "closed at hours of no exchange": (lines([*names, *lunch]), {}, "--calendar 24/7"),
        "another exchange": (lines([*names, *local]), {"calendar": "XTKS"}, "do not keep the calendar that was told"),
        "bars that are months apart, from any day": (
            lines([["Date", *NAMES[1:]], *(row for t, row in of_each("%Y-%m-17"))]),
            {},
            "lies at neither end of its month",
        ),
        "letters of India beside UTC": (
            lines(
                [NAMES, *([f"{t:%Y-%m-%d %H:%M} {'IST' if n % 2 else 'UTC'}", *b] for n, (t, b) in enumerate(known))]
            ),
            {"tz": "Asia/Kolkata"},
            "so no one clock reads the column",
        ),
        "a zone misspelt for months": (
            lines([["Date", *NAMES[1:]], *(row for t, row in of_each("%Y-%m-01"))]),
            {"tz": "Europe/Berln"},
            "Did you mean",
        ),
        "years that go on as months": (
            lines([["Date", *NAMES[1:]], *(row for t, row in of_each("%Y-%m-01") if t.month == 1 or t.year == 2023)]),
            {},
            "if these are holes, say it: --timeframe 1mo",
        ),
        "a quarter of February": (
            lines([["Date", *NAMES[1:]], ["2020-02-01", *MONTH_BARS[0]]]),
            {"timeframe": "3mo"},
            "those are counted from January",
        ),
        "months of no calendar": (
            lines([["Date", *NAMES[1:]], *(row for t, row in of_each("%Y-%m-01"))]),
            {"calendar": "XNYC"},
            "Did you mean",
        ),
        "quarters of no quarter": (
            lines([["Date", *NAMES[1:]], *(row for t, row in of_each("%Y-%m-01") if t.month % 3 == 2)]),
            {},
            "those are counted from January",
        ),
        "the end of a month, or the beginning of the next": (
            lines([NAMES, *([epoch(t - 9 * HOUR), *b] for t, b in zip(MONTHS, MONTH_BARS, strict=True))]),
            {},
            "--label close, or --label open",
        ),
        "an odd step": (
            lines([*names, *([epoch(HOURS[0] + n * 37 * MINUTE), *b] for n, b in enumerate(BARS))]),
            {},
            "--timeframe 37m",
        ),
        "a counter for times": (lines([*names, *([n, *b] for n, b in enumerate(BARS))]), {}, "--column ts=NAME"),
        "dates of hours": (lines([*names, *times]), {}, "--column clock=NAME"),
        "dates of hours, told to drop": (lines([*names, *times]), {"drop_duplicates": True}, "--column clock=NAME"),
        "a row without a symbol": (lines([["time", "symbol", *NAMES[1:]], *ids]), {}, "1 rows have no symbol"),
        "no order of prices": (
            lines([[epoch(t), b[1], b[2], b[0], b[3], b[4]] for t, b in known], delimiter=";"),
            {},
            "No column for close",
        ),
        "no names, two numbers": (lines([[epoch(t), b[3], b[4]] for t, b in known]), {}, "No column for close"),
        "an unknown preset": (lines([*names, *nights]), {"preset": "binanse"}, "Did you mean 'binance'"),
        "a preset of other columns": (
            lines([[epoch(t), *b, 1, 2, 3] for t, b in known]),
            {"preset": "metatrader4"},
            "Leave --preset out",
        ),
        "dates in a way of their own": (lines([*names, *nights]), {"dates": "dayfirst"}, "Did you mean 'day-first'"),
        "trades": (
            lines([["time", "price", "volume"], *([epoch(HOURS[0], 1000) + 7 * n, 1, 2] for n in range(50))]),
            {},
            "less than a second",
        ),
        "a torn last row": (lines([*names, *nights]) + b"2025-01-03T00:00:00Z\n", {}, "no finite numbers"),
        "bids and asks": (
            lines([["Date", *sides], *([f"{d}", *b[:4], *b[:4]] for d, b in years)]),
            {},
            "No column for close",
        ),
        "a row without its high": (lines([["Date", *NAMES[1:]], *holes]), {}, "no finite numbers, the first is 'N/A'"),
        "no price at all": (lines([["Date", *NAMES[1:]], *([f"{d}", *["-"] * 5] for d in DATES)]), {}, "has a price"),
        "a volume of text": (lines([*names, *nights[:-1], [*nights[-1][:5], "n/a"]]), {}, "no finite numbers"),
    }
