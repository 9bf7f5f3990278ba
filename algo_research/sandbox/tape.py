"""What happens within a bar: trades, best prices and an order book.

Made from the bars as a function of the time alone, so that REST and streams, asked whenever, tell one story; or
replayed from captured messages.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from algo_research.core.errors import DataError, InputError
from algo_research.core.unpacking import BROKEN, unpacked_lines
from algo_research.data.market.book import DepthSnapshot, DepthUpdate, MarketTrade, OrderBook, decode_message

if TYPE_CHECKING:
    from pathlib import Path

TICKS = 60  # trades a bar; each is an update of the book, too
LEVELS = 100  # a side
CHANGES = 11  # a level keeps its amount for 1 to this many ticks


class Trades(NamedTuple):
    """Trades, oldest first, a column each."""

    ids: np.ndarray
    times: np.ndarray  # milliseconds
    prices: np.ndarray
    amounts: np.ndarray
    sold: np.ndarray  # the taker sold


class Book(NamedTuple):
    """Price and amount of every level, best first."""

    id: int  # of the last update it contains
    bids: dict[float, float]
    asks: dict[float, float]


class Tape(Protocol):
    """What is traded and offered."""

    def trades(
        self, since: int, now: int, first: int | None = None, last: int | None = None
    ) -> Trades: ...  # since < time <= now; the first or the last so many of them
    def moment(self, id: int) -> int: ...  # when the trade of a number happened
    def book(self, now: int) -> Book | None: ...  # None: nothing is known yet
    def updates(
        self, since: int, now: int
    ) -> list[dict[str, Any]]: ...  # messages of the depth stream, without their header
    def tops(self, since: int, now: int) -> list[dict[str, Any]]: ...  # messages of the bookTicker stream


def number(value: float) -> str:
    """A number as exchanges write it: a string without exponent that reads back as the same number."""
    text = repr(value)
    return np.format_float_positional(value, trim="-") if "e" in text else text.removesuffix(".0")


def pairs(levels: dict[float, float], limit: int | None = None) -> list[list[str]]:
    """Levels as exchanges write them."""
    return [[number(p), number(q)] for p, q in list(levels.items())[:limit]]


def changes(old: dict[float, float], new: dict[float, float]) -> list[list[str]]:
    """What makes the new levels of the old ones: amounts that differ, 0 where a level is gone."""
    return pairs({p: new.get(p, 0.0) for p in {**old, **new} if old.get(p) != new.get(p)})


def _part(numbers: range, first: int | None, last: int | None) -> range:
    """The first or the last so many of some numbers, or all."""
    return numbers[:first] if last is None else numbers[-last:]


# ---- made from bars

_anchors = np.array([0, TICKS // 3, 2 * TICKS // 3, TICKS - 1])
_weights = np.stack(
    [np.interp(np.arange(TICKS), _anchors, row) for row in np.eye(4)]
)  # of open, first extreme, second extreme, close in each tick


@dataclass(frozen=True, eq=False)
class Made:
    """Every bar as `TICKS` trades that touch its open, high, low and close and share its volume,
    within a book that moves along.
    """

    times: np.ndarray  # opening times of the bars, milliseconds
    values: np.ndarray  # (bars, 5): open, high, low, close, volume
    step: int  # milliseconds a bar spans
    tick: float
    lot: float

    def _last(self, now: int) -> int:
        """The number of the last tick at or before a moment; -1 before the first."""
        bar = int(np.searchsorted(self.times, now, side="right")) - 1
        return -1 if bar < 0 else bar * TICKS + min(TICKS - 1, (now - int(self.times[bar])) * TICKS // self.step)

    def _moments(self, ticks: np.ndarray) -> np.ndarray:
        return self.times[ticks // TICKS] + -(-(ticks % TICKS) * self.step // TICKS)

    def _prices(self, ticks: np.ndarray) -> np.ndarray:
        o, h, low, c, _ = self.values[ticks // TICKS].T
        first, second = np.where(c >= o, (low, h), (h, low))
        weights = _weights[:, ticks % TICKS]
        path = np.round(weights[0] * o + weights[1] * first + weights[2] * second + weights[3] * c, 8)
        exact = np.select([ticks % TICKS == a for a in _anchors], [o, first, second, c], path)
        return np.clip(exact, low, h)

    def trades(self, since: int, now: int, first: int | None = None, last: int | None = None) -> Trades:
        ticks = np.array(_part(range(self._last(since) + 1, self._last(now) + 1), first, last), dtype=np.int64)
        prices, before = self._prices(ticks), self._prices(np.maximum(ticks - 1, 0))
        amounts = np.maximum(self.values[ticks // TICKS, 4] / TICKS, self.lot)
        return Trades(ticks + 1, self._moments(ticks), prices, amounts, prices < before)

    def moment(self, id: int) -> int:
        return int(self._moments(np.array([min(max(id, 1), len(self.times) * TICKS) - 1]))[0])

    @cached_property
    def grid(self) -> float:
        """The distance of two levels: the tick where one is known, else about five digits of the first price."""
        return (
            self.tick if self.tick > 1e-8 else 10.0 ** (math.floor(math.log10(max(float(self.values[0, 0]), 1e-6))) - 4)
        )

    def _at(self, tick: int) -> Book:
        best = math.floor(float(self._prices(np.array([tick]))[0]) / self.grid)
        sides = []
        for levels in (best - np.arange(min(LEVELS, max(best, 1))), best + 1 + np.arange(LEVELS)):
            ages = tick // (1 + levels % CHANGES)
            amounts = (1 + _mix(levels, ages) % np.uint64(5000)).astype(float) / 1000
            sides.append(dict(zip(np.round(levels * self.grid, 10).tolist(), amounts.tolist(), strict=True)))
        return Book(tick + 1, *sides)

    def book(self, now: int) -> Book | None:
        tick = self._last(now)
        return None if tick < 0 else self._at(tick)

    def updates(self, since: int, now: int) -> list[dict[str, Any]]:
        first, last = self._last(since), self._last(now)
        if first < 0 or first == last:
            return []
        old, new = self._at(first), self._at(last)
        return [{"U": first + 2, "u": last + 1, "b": changes(old.bids, new.bids), "a": changes(old.asks, new.asks)}]

    def tops(self, since: int, now: int) -> list[dict[str, Any]]:
        ticks = range(self._last(since) + 1, self._last(now) + 1)
        return [top(self._at(t)) for t in ticks[-LEVELS:]]


def _mix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A number that looks random for every pair (the finaliser of SplitMix64: Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        x = a.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + b.astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def top(book: Book) -> dict[str, Any]:
    """The best bid and ask as the bookTicker stream tells them."""
    [[b, B]], [[a, A]] = pairs(book.bids, 1) or [["0", "0"]], pairs(book.asks, 1) or [["0", "0"]]
    return {"u": book.id, "b": b, "B": B, "a": a, "A": A}


# ---- replayed


@dataclass(eq=False)
class Capture:
    """Captured messages of one symbol, told again at their time; its order book is the one they make."""

    symbol: str
    start: int  # when the first snapshot came: from here on it can be served
    end: int
    told: dict[str, tuple[list[int], list[dict[str, Any]]]]  # by kind: times and messages
    _events: list[tuple[int, DepthSnapshot | DepthUpdate]]
    _book: OrderBook = field(init=False)
    _applied: int = 0

    def __post_init__(self) -> None:
        self._book = OrderBook(self.symbol)

    def _slice(self, kind: str, since: int, now: int) -> list[dict[str, Any]]:
        times, found = self.told[kind]
        return found[bisect_right(times, since) : bisect_right(times, now)]

    def trades(self, since: int, now: int, first: int | None = None, last: int | None = None) -> Trades:
        times, _ = self.told["trades"]
        part = _part(range(bisect_right(times, since), bisect_right(times, now)), first, last)
        return Trades(*(column[part.start : part.stop] for column in self._columns))

    @cached_property
    def _columns(self) -> Trades:
        times, found = self.told["trades"]
        ids, prices, amounts, sold = ([message[key] for message in found] for key in ("t", "p", "q", "m"))
        return Trades(
            np.array(ids, dtype=np.int64),
            np.array(times, dtype=np.int64),
            np.array(prices, dtype=float),
            np.array(amounts, dtype=float),
            np.array(sold, dtype=bool),
        )

    def moment(self, id: int) -> int:
        place = int(np.searchsorted(self._columns.ids, id))
        return int(self._columns.times[min(place, len(self._columns.ids) - 1)])

    def book(self, now: int) -> Book | None:
        while self._applied < len(self._events) and self._events[self._applied][0] <= now:
            event = self._events[self._applied][1]
            self._applied += 1
            if isinstance(event, DepthUpdate):
                self._book.apply_update(event)
            elif not self._book.valid:
                self._book.apply_snapshot(event)
        if not self._book.valid:
            return None
        rows = self._book.levels(5000)
        sides = (dict(rows.select(side, f"{side}_amount").drop_nulls().iter_rows()) for side in ("bid", "ask"))
        return Book(int(self._book.last_id or 0), *sides)

    def updates(self, since: int, now: int) -> list[dict[str, Any]]:
        return self._slice("updates", since, now)

    def tops(self, since: int, now: int) -> list[dict[str, Any]]:
        return self._slice("tops", since, now)


def read_capture(path: Path) -> Capture:
    """Captured messages of Binance spot: lines of "<ns since 1970> <JSON>", gzipped when the name ends in .gz.
    Time is the exchange's.
    """
    told: dict[str, tuple[list[int], list[dict[str, Any]]]] = {
        "updates": ([], []),
        "trades": ([], []),
        "tops": ([], []),
    }
    events: list[tuple[int, DepthSnapshot | DepthUpdate]] = []
    symbol, offset, number_ = "", None, 0
    if not path.exists():
        raise InputError(f"There is no capture {path}.")
    try:
        parts = (line.partition(" ") for line in unpacked_lines(path))
        lines = [(int(received), message) for received, _, message in parts]
        for received, message in lines:
            number_ += 1
            event, data = decode_message(message, received), json.loads(message)
            data = data.get("data", data)
            if offset is None and "E" in data:
                offset = data["E"] - received // 1_000_000  # its clock and that of who captured differ
            now = received // 1_000_000 + (offset or 0)
            if isinstance(event, DepthUpdate) and event.previous_id is not None:
                raise InputError(
                    f"{path} was captured from a futures exchange; the sandbox speaks the spot API. Give a spot "
                    "capture."
                )
            if isinstance(event, DepthSnapshot | DepthUpdate):
                events.append((now, event))
            kind = (
                "updates"
                if isinstance(event, DepthUpdate)
                else "trades"
                if isinstance(event, MarketTrade)
                else "tops"
                if "B" in data and "u" in data
                else None
            )
            if kind:
                symbol = data["s"]
                told[kind][0].append(now)
                told[kind][1].append(data)
    except (*BROKEN, KeyError, TypeError, AttributeError) as e:
        raise DataError(
            f"{path}, line {number_ + 1} is no captured message ({e!r}). A line is the time in ns, a space and JSON."
        ) from e
    snapshots = [t for t, event in events if isinstance(event, DepthSnapshot)]
    if not snapshots or not told["trades"][0]:
        raise DataError(
            f"{path} holds no {'trade' if snapshots else 'snapshot of the order book'}; the sandbox needs a "
            "snapshot, updates and trades."
        )
    return Capture(symbol, snapshots[0], max(t[-1] for t, _ in told.values() if t), told, events)
