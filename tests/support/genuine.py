"""Markets with nothing wrong in them: bid and ask, thin hours, halts, news, early closes, weeks and months.

Every price is that of a trade at the bid or the ask, so that bars bounce; where nobody trades there is no bar, or one
without volume. What a rule objects to here is no fault, and what a repair would change here it would spoil.
"""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from algo_research.data.market.bars import TIME, Dataset, DatasetId, make_bars, resample_bars, timeframe_duration
from algo_research.data.market.instruments import ALWAYS, Instrument, session_schedule

TRADES = 6  # that a bar is made of, at most
YEAR = timedelta(days=365)
MONTH = "1mo"
FX_WEEK = "FX"  # open from Sunday 22:00 to Friday 22:00 UTC; the bars are of a calendar that is not known


@dataclass(frozen=True)
class Nature:
    """What a market is like."""

    timeframe: str = "1h"
    calendar: str = ALWAYS  # or an exchange's, or FX_WEEK
    bars: int = 2000
    volatility: float = 0.4  # a year
    price: float = 100.0
    tick: float = 0.01
    spread: float = 1.0  # in ticks
    activity: float = 50.0  # trades a bar; a few make it thin
    empty: bool = True  # bars without a trade are there, with a volume of zero; else they are missing
    volume: bool = True
    news: int = 3  # moves of many deviations that stay, with volume, and as many that come back within bars
    halts: int = 1  # stretches without trading, and a gap behind each
    start: date = date(2021, 3, 1)


def times_of(nature: Nature) -> pl.DataFrame:
    """ts, known_at and whether the market was closed before: as many as there are bars."""
    step = timeframe_duration(nature.timeframe)
    first = datetime.combine(nature.start, datetime.min.time(), UTC)
    if nature.calendar in (ALWAYS, FX_WEEK):
        count = nature.bars * (2 if nature.calendar == FX_WEEK else 1)
        ts = pl.Series("ts", [first + i * step for i in range(count)], dtype=TIME)
        times = ts.to_frame().with_columns(known_at=pl.col("ts") + step)
        if nature.calendar == FX_WEEK:
            week = (pl.col("ts").dt.weekday() - 1) * 24 + pl.col("ts").dt.hour()  # hours since Monday
            times = times.filter((week < 4 * 24 + 22) | (week >= 6 * 24 + 22))
    else:
        per_day = max(1, int(timedelta(hours=6.5) / step))
        days = int(nature.bars / per_day * 1.6) + 20
        times = session_schedule(nature.calendar, nature.start, nature.start + timedelta(days=days), step)
        closes = pl.col("known_at")
        times = times.select("ts", known_at=closes if per_day == 1 else pl.min_horizontal(pl.col("ts") + step, closes))
    times = times.head(nature.bars)
    return times.with_columns(rested=(pl.col("ts") > pl.col("known_at").shift()).fill_null(False))


def _clusters(rng: np.random.Generator, n: int, memory: float, scale: float) -> np.ndarray:
    """The exponential of a mean-reverting walk: what volatility and volume are multiplied by."""
    shocks = rng.standard_normal(n) * scale * np.sqrt(1 - memory**2)
    out, last = np.empty(n), rng.standard_normal() * scale
    for i, shock in enumerate(shocks.tolist()):
        last = memory * last + shock
        out[i] = last
    return np.exp(out)


def _seasons(times: pl.DataFrame) -> np.ndarray:
    """More is traded when a session begins and ends, or by day."""
    minutes = (times["ts"].dt.hour().cast(pl.Int64) * 60 + times["ts"].dt.minute()).to_numpy()
    return 1 + 0.6 * np.cos(2 * np.pi * (minutes - 15 * 60) / 1440)


def _news(rng: np.random.Generator, n: int, count: int, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves inside bars (bars, TRADES) and what volume is multiplied by: some stay, as many come back bar by bar."""
    moves, volume = np.zeros((n, TRADES)), np.ones(n)
    for i in range(2 * count):
        at = int(rng.integers(n // 10, n - n // 10))
        size = rng.choice([-1, 1]) * rng.uniform(5, 12) * sigma[at]
        moves[at, 1:3] += size / 2
        if i % 2:
            back = int(rng.integers(1, 4))  # bars until it is back
            moves[at + back, 1 : TRADES - 1] -= size / (TRADES - 2)
        tail = np.arange(min(40, n - at))
        volume[at : at + 40] *= 1 + 12 * np.exp(-tail / 6)
    return moves, volume


def _log_mids(rng: np.random.Generator, nature: Nature, times: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Log mid prices (bars, TRADES), and what the volume of each bar is multiplied by."""
    n, step = times.height, timeframe_duration(nature.timeframe)
    rested = times["rested"].to_numpy()
    open_share = 1.0 if nature.calendar == ALWAYS else 252 * 6.5 / (365 * 24)
    sigma = nature.volatility * np.sqrt(
        min(step, timedelta(days=1)) / YEAR / (open_share if step < timedelta(days=1) else 1)
    )
    waves = _clusters(rng, n, 0.97, 0.35)
    each = sigma * waves
    moves = each[:, None] / np.sqrt(TRADES) * rng.standard_t(5, (n, TRADES)) * np.sqrt(3 / 5)
    happened, louder = _news(rng, n, nature.news, each)
    moves += happened
    between = np.where(
        rested, nature.volatility / np.sqrt(365) * 0.5 * waves * rng.standard_t(5, n) * np.sqrt(3 / 5), 0.0
    )
    moves[:, 0] += between - (moves[:, 0] if nature.calendar != ALWAYS else 0) * rested
    return np.log(nature.price) + np.cumsum(moves.ravel()).reshape(n, TRADES), louder * waves


def make_genuine(seed: int, nature: Nature) -> Dataset:
    """A market of this nature."""
    rng = np.random.default_rng([seed, 20211129])
    times = times_of(nature)
    n = times.height
    mids, louder = _log_mids(rng, nature, times)
    half = nature.spread * nature.tick / 2
    flips = np.where(rng.random((n, TRADES)) < 0.25, -1.0, 1.0)  # who bought goes on to buy
    side = half * np.cumprod(flips.ravel()).reshape(n, TRADES)
    prices = np.maximum(np.round((np.exp(mids) + side) / nature.tick), 1) * nature.tick
    busy = nature.activity * _seasons(times) * louder
    counts = rng.poisson(busy)
    for _ in range(nature.halts):
        at = int(rng.integers(n // 10, n - n // 10))
        counts[at : at + int(rng.integers(2, 8))] = 0
    # a bar of few trades knows few of its prices
    held = np.arange(TRADES)[None, :] < np.minimum(counts, TRADES)[:, None]
    last = pl.Series(np.where(counts > 0, prices[np.arange(n), np.clip(counts, 1, TRADES) - 1], np.nan))
    last = last.fill_nan(None).forward_fill().fill_null(nature.price)
    before = last.shift(1).fill_null(nature.price).to_numpy()
    traded = counts > 0
    digits = max(0, -int(np.floor(np.log10(nature.tick))))
    frame = times.drop("rested").with_columns(
        symbol=pl.lit("GENUINE"),
        open=np.where(traded, prices[:, 0], before).round(digits),
        high=np.where(traded, np.where(held, prices, -np.inf).max(axis=1), before).round(digits),
        low=np.where(traded, np.where(held, prices, np.inf).min(axis=1), before).round(digits),
        close=np.where(traded, last.to_numpy(), before).round(digits),
        volume=np.where(traded, counts * np.exp(0.5 * rng.standard_normal(n)) * 10, 0.0).round(2),
    )
    if not nature.empty:
        frame = frame.filter(pl.Series(traded))
    if not nature.volume:
        frame = frame.with_columns(volume=pl.lit(None, pl.Float64))
    calendar = ALWAYS if nature.calendar == FX_WEEK else nature.calendar
    kind = "spot" if calendar == ALWAYS else "equity"
    bars = make_bars(frame, timeframe_duration(nature.timeframe))
    return Dataset(
        DatasetId("genuine", "GENUINE", nature.timeframe),
        bars,
        Instrument("GENUINE", "genuine", kind, calendar=calendar),
    )


NATURES = {
    "coins by the minute": Nature("1m", bars=6000),
    "coins by five minutes": Nature("5m", bars=4000, volatility=0.8),
    "coins by the hour": Nature("1h", volatility=0.9, news=6),
    "coins by the day": Nature("1d", bars=1000, volatility=0.9),
    "a coin of a few ticks": Nature("1h", price=0.03, tick=0.0001, spread=2, activity=40),
    "a thin coin, bars missing": Nature("1m", bars=6000, price=5.0, spread=4, activity=3, empty=False),
    "a thin coin, bars empty": Nature("5m", bars=4000, price=14.0, activity=1.5),
    "a future in whole points": Nature("1m", bars=8000, price=3600.0, tick=1.0, activity=8, volatility=0.2),
    "a future that bounces": Nature("1m", bars=8000, price=360.0, tick=1.0, activity=8, volatility=0.2),
    "shares by five minutes": Nature("5m", "XNYS", bars=4000, halts=4),
    "shares by the hour": Nature("1h", "XNYS", news=6, start=date(2021, 9, 1)),
    "shares by the day": Nature("1d", "XNYS", bars=1500, start=date(2018, 6, 1)),
    "shares in the news": Nature("1d", "XNYS", bars=1500, volatility=0.7, price=20.0, news=12, halts=3),
    "shares of Tokyo by the hour": Nature("1h", "XTKS", price=2500.0, tick=1.0),
    "currencies by the hour": Nature("1h", FX_WEEK, bars=4000, volatility=0.08, price=1.1, tick=0.00001, spread=8),
    "no volume": Nature("1h", "XNYS", volume=False),
}


def months_of(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars of calendar months, whole ones."""
    month = pl.col("ts").dt.truncate("1mo").alias("ts")
    made = bars.group_by("symbol", month, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    return make_bars(made.with_columns(known_at=pl.col("ts").dt.offset_by("1mo"))[1:-1], timedelta(days=31))


def by_the_clock_of(dataset: Dataset, zone: str, hour: int, timeframe: str) -> Dataset:
    """Hours joined to bars that begin with the day at an hour of a zone: at another one of UTC in summer."""
    local = pl.col("ts").dt.convert_time_zone(zone)
    step = timeframe_duration(timeframe)
    since = (local.dt.replace_time_zone(None) - pl.duration(hours=hour)).dt.truncate(timeframe)
    start = (since + pl.duration(hours=hour)).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    bars = dataset.bars.with_columns(start=start.dt.convert_time_zone("UTC")).drop_nulls("start")
    made = bars.group_by("symbol", ts=pl.col("start"), maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    return replace(
        dataset, id=dataset.id._replace(timeframe=timeframe), bars=make_bars(made.unique("ts").sort("ts"), step)
    )


def genuine_corpus(seed: int) -> dict[str, Dataset]:
    """A market of each nature, and what is made of them: weeks, months, days of New York, closes alone, several."""
    corpus = {name: make_genuine(seed + 100 * i, nature) for i, (name, nature) in enumerate(NATURES.items())}
    days, hours = corpus["coins by the day"], corpus["currencies by the hour"]
    weeks = resample_bars(days.bars, "1d", "1w")
    corpus["coins by the week"] = replace(days, id=days.id._replace(timeframe="1w"), bars=weeks)
    long_ = make_genuine(seed, replace(NATURES["coins by the day"], bars=3000))
    corpus["coins by the month"] = replace(long_, id=long_.id._replace(timeframe=MONTH), bars=months_of(long_.bars))
    for timeframe in ("4h", "1d"):
        made = by_the_clock_of(hours, "America/New_York", 17, timeframe)
        corpus[f"currencies by {timeframe} of New York"] = made
    shares = corpus["shares by the hour"]
    always = replace(shares, instrument=replace(shares.instrument, calendar=ALWAYS))
    corpus["shares by the hour, their sessions unknown"] = always
    single = corpus["shares by the day"].bars.with_columns(open="close", high="close", low="close", volume=None)
    single = single.with_columns(pl.col("volume").cast(pl.Float64))
    corpus["closes alone"] = replace(corpus["shares by the day"], bars=single, close_only=True)
    other = corpus["shares in the news"].bars.with_columns(symbol=pl.lit("OTHER"))
    both = pl.concat([corpus["shares by the day"].bars, other]).sort("symbol", "ts")
    corpus["two shares"] = replace(corpus["shares by the day"], bars=both)
    return corpus
