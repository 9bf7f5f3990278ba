"""What the exchange trades: symbols with their rules, and the bars that its answers are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from algo_research.core.errors import InputError
from algo_research.data.market.bars import PRICES, timeframe_duration

from .tape import Made, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from algo_research.data.market.bars import Dataset

    from .tape import Capture, Tape

INTERVALS = {
    name: int(timeframe_duration(name).total_seconds() * 1000)
    for name in ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w")
}  # milliseconds; of Binance's only the month is not offered
MONDAY = 4 * 86_400_000  # weeks begin on Mondays, and time began on a Thursday


@dataclass(frozen=True, eq=False)
class Symbol:
    """One market of the exchange."""

    name: str  # BTCUSDT
    base: str
    quote: str
    times: np.ndarray  # opening times of its bars, milliseconds
    values: np.ndarray  # (bars, 5): open, high, low, close, volume
    step: int  # milliseconds a bar spans
    tape: Tape  # what is traded and offered within them
    tick: float = 1e-8
    lot: float = 1e-8
    min_notional: float = 0.0

    def upto(self, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Bars that have begun; the last one as far as its trades have come."""
        n = int(np.searchsorted(self.times, now, side="right"))
        if not n or now >= self.times[n - 1] + self.step:
            return self.times[:n], self.values[:n]
        traded = self.tape.trades(int(self.times[n - 1]) - 1, now)
        if not len(traded.ids):
            return self.times[:n], np.vstack([self.values[: n - 1], [*self.values[n - 1, :1].repeat(4), 0.0]])
        p = traded.prices
        return self.times[:n], np.vstack([self.values[: n - 1], [p[0], p.max(), p.min(), p[-1], traded.amounts.sum()]])

    def price(self, now: int) -> float:
        """The last price; before the first bar its open."""
        times, values = self.upto(now)
        return float(values[-1, 3]) if len(times) else float(self.values[0, 0])

    def klines(self, interval: str, start: int | None, end: int | None, limit: int, now: int) -> list[list]:
        """Rows as Binance answers them: the first `limit` from `start` on, or the last ones when there is no start.
        The last row may still be open.
        """
        span = INTERVALS[interval]
        if span % self.step:
            raise InputError(f"{self.name} has bars of {self.step // 1000} s; {interval} is no multiple of it.")
        n = int(np.searchsorted(self.times, now, side="right"))
        first = 0 if start is None else int(np.searchsorted(self.times, _next(start, span)))
        last = n if end is None else int(np.searchsorted(self.times, end, side="right"))
        per = span // self.step
        if start is None:
            first = max(0, last - (limit + 1) * per)
            first = (
                int(np.searchsorted(self.times, _next(int(self.times[first]), span)))
                if first < len(self.times)
                else first
            )
        else:
            last = min(
                last, first + (limit + 1) * per
            )  # gaps make fewer; a page may be shorter than asked for, as it may be there
        last = min(last, n)
        times, values = self.times[first:last], self.values[first:last]
        if last == n and n and first < n:
            values = np.vstack([values[:-1], self.upto(now)[1][-1]])
        if span != self.step:
            times, values = _aggregate(times, values, span)
        times, values = (times[-limit:], values[-limit:]) if start is None else (times[:limit], values[:limit])
        return [
            [
                t,
                *map(number, row),
                t + span - 1,
                number(row[4] * (row[0] + row[3]) / 2),
                1 + int(row[4]) % 1000,
                number(row[4] / 2),
                number(row[4] * row[0] / 2),
                "0",
            ]
            for t, row in zip(times.tolist(), values.tolist(), strict=True)
        ]


def _origin(span: int) -> int:
    return MONDAY if span == INTERVALS["1w"] else 0


def _next(time: int, span: int) -> int:
    """The first opening time of the interval at or after a moment."""
    return -(-(time - _origin(span)) // span) * span + _origin(span)


def _aggregate(times: np.ndarray, values: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
    opens = (times - _origin(span)) // span * span + _origin(span)
    begins = np.flatnonzero(np.diff(opens, prepend=-1))
    if not len(begins):
        return times, values
    ends = np.append(begins[1:], len(times)) - 1
    out = np.column_stack(
        [
            values[begins, 0],
            np.maximum.reduceat(values[:, 1], begins),
            np.minimum.reduceat(values[:, 2], begins),
            values[ends, 3],
            np.add.reduceat(values[:, 4], begins),
        ]
    )
    return opens[begins], out


def split_name(symbol: str) -> tuple[str, str]:
    """Base and quote of a dataset's symbol: BTC-USDT, BTC/USDT, or BTCUSDT with a well-known quote."""
    parts = re.split(r"[-/]", symbol)
    if len(parts) == 2 and all(parts):
        return parts[0], parts[1]
    match = re.fullmatch(r"(\w{2,}?)(USDT|USDC|USD|EUR|BTC|ETH)", symbol)
    if match:
        return match[1], match[2]
    return re.sub(r"\W", "", symbol).upper(), "USDT"


def symbols_of(datasets: Iterable[Dataset]) -> dict[str, Symbol]:
    """Every symbol of some datasets as a market, by its name at the exchange."""
    found: dict[str, Symbol] = {}
    for dataset in datasets:
        for (name,), bars in dataset.bars.partition_by("symbol", as_dict=True, maintain_order=True).items():
            base, quote = split_name(name)
            times = bars["ts"].dt.epoch("ms").to_numpy()
            values = bars.select(*PRICES, pl.col("volume").fill_null(0.0)).to_numpy()
            i = dataset.instrument
            step, tick, lot = (
                int(timeframe_duration(dataset.id.timeframe).total_seconds() * 1000),
                i.tick or 1e-8,
                i.lot or 1e-8,
            )
            made = Symbol(
                base + quote,
                base,
                quote,
                times,
                values,
                step,
                Made(times, values, step, tick, lot),
                tick,
                lot,
                i.min_notional,
            )
            if made.name in found:
                raise InputError(f"Two of the datasets have a market {made.name}. Serve one of them.")
            found[made.name] = made
    return found


def captured_symbol(capture: Capture) -> Symbol:
    """The market of a capture; its bars are those of its trades, a second each."""
    traded = capture.trades(0, capture.end)
    seconds, begins = np.unique(traded.times // 1000 * 1000, return_index=True)
    ends = np.append(begins[1:], len(traded.times)) - 1
    p = traded.prices
    values = np.column_stack(
        [
            p[begins],
            np.maximum.reduceat(p, begins),
            np.minimum.reduceat(p, begins),
            p[ends],
            np.add.reduceat(traded.amounts, begins),
        ]
    )
    base, quote = split_name(capture.symbol)
    return Symbol(capture.symbol, base, quote, seconds, values, 1000, capture)
