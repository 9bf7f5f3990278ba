"""The same markets as perpetuals: the public REST API of USD-M futures.

It is described at https://developers.binance.com/docs/derivatives/usds-margined-futures.
A perpetual trades at the price of its market's bars. Funding and open interest are functions of bars that were over
by then, so whoever asks again is told the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import exchange as spot
from .exchange import Refused
from .faults import CANDLES
from .market import INTERVALS
from .tape import number

if TYPE_CHECKING:
    from .exchange import Exchange
    from .market import Symbol

FUNDING = INTERVALS["8h"]
INTEREST_RATE = 0.0001  # for eight hours
SHARE = 0.02  # of the last eight hours' return that is taken for the average premium of the perpetual over its index
CAP = 0.03  # a rate is never further from zero
PERIODS = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")  # of open interest
HISTORY = 30 * INTERVALS["1d"]  # of open interest is told, and no more


def _over(symbol: Symbol, moments: np.ndarray) -> np.ndarray:
    """How many bars were over at some moments."""
    return np.searchsorted(symbol.times + symbol.step, moments, side="right")


def _price(symbol: Symbol, moments: np.ndarray) -> np.ndarray:
    return symbol.values[np.maximum(_over(symbol, moments) - 1, 0), 3]


def funding(symbol: Symbol, now: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """When it was paid, its rates and the mark prices: premium + clamp(interest rate - premium, -0.05%, 0.05%)."""
    due = np.arange(-(-int(symbol.times[0]) // FUNDING) * FUNDING, now + 1, FUNDING)
    marks = _price(symbol, due)
    premium = SHARE * np.log(marks / _price(symbol, due - FUNDING))
    rates = np.clip(premium + np.clip(INTEREST_RATE - premium, -0.0005, 0.0005), -CAP, CAP).round(8)
    paid = due + due // FUNDING % 8  # Binance stamps it some milliseconds after the hour
    told = paid <= now
    return paid[told], rates[told], marks[told]


def interest(symbol: Symbol, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contracts that were open and what they were worth: twenty times the mean volume of the last hundred bars."""
    traded, n = np.append(0.0, np.cumsum(symbol.values[:, 4])), _over(symbol, moments)
    contracts = 20 * (traded[n] - traded[np.maximum(n - 100, 0)]) / np.maximum(np.minimum(n, 100), 1)
    contracts = (contracts / symbol.lot).round() * symbol.lot
    return contracts.round(8), (contracts * _price(symbol, moments)).round(8)


def _times(query: dict[str, str]) -> tuple[int | None, int | None]:
    try:
        start, end = (int(query[k]) if k in query else None for k in ("startTime", "endTime"))
    except ValueError:
        raise Refused(400, -1100, "Illegal characters found in a parameter.") from None
    if start is not None and end is not None and start > end:
        raise Refused(400, -1023, "Start time is greater than end time.")
    return start, end


def _spoiled(exchange: Exchange, rows: list[Any], fault: str | None) -> list[Any]:
    return exchange.faults.spoil(fault, rows) if fault in CANDLES else rows


async def _funding(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    """The first `limit` rates of a range; without one the newest."""
    symbol, (start, end), limit = exchange.symbol(query.get("symbol")), _times(query), spot.page_limit(query, 100, 1000)
    paid, rates, marks = funding(symbol, exchange.time.now())
    if start is None and end is None:
        first, last = max(0, len(paid) - limit), len(paid)
    else:
        first = int(np.searchsorted(paid, start or 0))
        last = min(first + limit, len(paid) if end is None else int(np.searchsorted(paid, end, side="right")))
    rows = zip(paid[first:last].tolist(), rates[first:last].tolist(), marks[first:last].tolist(), strict=True)
    return _spoiled(
        exchange,
        [
            {"symbol": symbol.name, "fundingTime": t, "fundingRate": number(r), "markPrice": number(p)}
            for t, r, p in rows
        ],
        fault,
    )


async def _interest(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    """The last `limit` values of a range: it is counted from its end."""
    symbol, (start, end), limit, now = (
        exchange.symbol(query.get("symbol")),
        _times(query),
        spot.page_limit(query, 30, 500),
        exchange.time.now(),
    )
    if query.get("period") not in PERIODS:
        raise Refused(400, -1130, "Data sent for parameter 'period' is not valid.")
    if start is not None and start < now - HISTORY:
        raise Refused(400, -1130, "parameter 'startTime' is invalid.")
    step, begin = INTERVALS[query["period"]], int(symbol.times[0]) + symbol.step
    first, last = max(begin, now - HISTORY, start or 0), now if end is None else min(now, end)
    moments = np.arange(-(-first // step) * step, last + 1, step)[-limit:]
    rows = zip(moments.tolist(), *(column.tolist() for column in interest(symbol, moments)), strict=True)
    told = [
        {
            "symbol": symbol.name,
            "sumOpenInterest": number(c),
            "sumOpenInterestValue": number(v),
            "CMCCirculatingSupply": "0",
            "timestamp": t,
        }
        for t, c, v in rows
    ]
    return _spoiled(exchange, told, fault)


async def _premium(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    now = exchange.time.now()

    def told(s: Symbol) -> dict[str, Any]:
        _, rates, _ = funding(s, now)
        price, rate = number(s.price(now)), number(float(rates[-1]) if len(rates) else INTEREST_RATE)
        return {
            "symbol": s.name,
            "markPrice": price,
            "indexPrice": price,
            "estimatedSettlePrice": price,
            "lastFundingRate": rate,
            "interestRate": number(INTEREST_RATE),
            "nextFundingTime": (now // FUNDING + 1) * FUNDING,
            "time": now,
        }

    return told(exchange.symbol(query["symbol"])) if "symbol" in query else [told(s) for s in exchange.symbols.values()]


async def _info(exchange: Exchange, query: dict[str, str], fault: str | None) -> Any:
    def told(s: Symbol) -> dict[str, Any]:
        return {
            "symbol": s.name,
            "pair": s.name,
            "contractType": "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": int(s.times[0]),
            "status": "TRADING",
            "baseAsset": s.base,
            "quoteAsset": s.quote,
            "marginAsset": s.quote,
            "pricePrecision": 8,
            "quantityPrecision": 8,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "triggerProtect": "0.05",
            "liquidationFee": "0.01",
            "marketTakeBound": "0.05",
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": number(s.tick),
                    "maxPrice": "1000000",
                    "tickSize": number(s.tick),
                },
                {"filterType": "LOT_SIZE", "minQty": number(s.lot), "maxQty": "9000000", "stepSize": number(s.lot)},
                {"filterType": "MIN_NOTIONAL", "notional": number(s.min_notional)},
            ],
            "orderTypes": ["LIMIT", "MARKET", "STOP", "TAKE_PROFIT"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }

    limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": exchange.limit}]
    return {
        "timezone": "UTC",
        "serverTime": exchange.time.now(),
        "futuresType": "U_MARGINED",
        "rateLimits": limits,
        "exchangeFilters": [],
        "assets": [],
        "symbols": [told(s) for s in exchange.symbols.values()],
    }


ANSWERS = {
    **{
        name: spot.ANSWERS[name]
        for name in (
            "ping",
            "time",
            "klines",
            "trades",
            "aggTrades",
            "depth",
            "ticker/price",
            "ticker/24hr",
            "ticker/bookTicker",
        )
    },
    "exchangeInfo": _info,
    "fundingRate": _funding,
    "premiumIndex": _premium,
}
DATA = {"openInterestHist": _interest}
