"""Markets whose level breaks, or seems to: splits and redenominations, and crashes of the same size that are none."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from algo_research.data.market.bars import PRICES, Dataset
from algo_research.data.market.instruments import ALWAYS

from .genuine import Nature, make_genuine

RATIOS = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 3 / 2, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 8, 1 / 10, 1 / 20)
SHAPES = (("1d", "XNYS", 700), ("1d", ALWAYS, 700), ("1h", ALWAYS, 1500), ("1h", "XNYS", 1500), ("5m", ALWAYS, 4000))
CRASHES = ("within a bar", "over bars", "gap", "gap at a ratio", "and back")
QUIET = ("gap, quiet", "gap at a ratio, quiet")  # nothing but the gap says that something happened


@dataclass(frozen=True)
class Planted:
    """A market and what is true of it."""

    what: str  # "split", "redenomination", "quote", or a crash
    dataset: Dataset
    ts: datetime  # of the first bar behind the break
    ratio: float  # prices before are divided by it; of a crash that is near to none: what it fell to, inverted
    known: bool  # volume is

    @property
    def broken(self) -> bool:
        return self.what in ("split", "redenomination", "quote")


def scaled(dataset: Dataset, after: pl.Expr, ratio: float, shares: float) -> Dataset:
    """Prices divided and volumes multiplied where it is after, cut to the digits a file would have."""
    digits = 4 if ratio < 50 else 8
    prices = ((pl.col(p) / pl.when(after).then(ratio).otherwise(1.0)).round(digits).alias(p) for p in PRICES)
    volume = pl.col("volume") * pl.when(after).then(shares).otherwise(1.0)
    return replace(dataset, bars=dataset.bars.with_columns(*prices, volume=volume))


def _nature(rng: np.random.Generator) -> Nature:
    timeframe, calendar, bars = SHAPES[int(rng.integers(len(SHAPES)))]
    return Nature(
        timeframe=timeframe,
        calendar=calendar,
        bars=bars,
        volatility=float(np.exp(rng.uniform(np.log(0.1), np.log(1.5)))),
        price=float(np.exp(rng.uniform(np.log(5), np.log(500)))),
        volume=bool(rng.random() < 0.7),
        activity=float(rng.choice([8.0, 50.0, 500.0])),
        news=1,
    )


def plant_break(seed: int) -> Planted:
    """A split, or a redenomination by a thousand: of a token (its volume shrinks) or of what prices are quoted in."""
    rng = np.random.default_rng([seed, 1])
    nature = _nature(rng)
    what = ("split", "split", "split", "redenomination", "quote")[seed % 5]
    ratio = float(rng.choice(RATIOS)) if what == "split" else float(rng.choice([1e-3, 1e3]))
    market = make_genuine(seed, nature)
    at = int(rng.integers(market.bars.height // 5, market.bars.height * 4 // 5))
    if what == "split" and nature.calendar != ALWAYS:  # between two sessions
        first = market.bars.with_columns(new=pl.col("ts").dt.date() != pl.col("ts").dt.date().shift())["new"]
        at += int(first[at:].arg_true()[0])
    ts = market.bars["ts"][at]
    dataset = scaled(market, pl.col("ts") >= ts, ratio, 1.0 if what == "quote" else ratio)
    if what == "quote":  # a second symbol breaks with the first
        other = make_genuine(seed + 10_000, replace(nature, price=3 * nature.price))
        other = scaled(other, pl.col("ts") >= ts, ratio, 1.0)
        bars = pl.concat([dataset.bars, other.bars.with_columns(symbol=pl.lit("OTHER"))]).sort("symbol", "ts")
        dataset = replace(dataset, bars=bars)
    return Planted(what, dataset, ts, ratio, nature.volume)


def _louder(dataset: Dataset, at: int, peak: float, rest: float, wide: float) -> Dataset:
    """Volume that jumps and decays behind a bar, and ranges that do."""
    since = pl.int_range(pl.len()) - at
    decay = pl.when(since >= 0).then((-since / 8).exp()).otherwise(0.0)
    volume = pl.col("volume") * (1 + (peak - 1) * decay + pl.when(since >= 0).then(rest - 1).otherwise(0.0))
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    typical = (dataset.bars["high"] / dataset.bars["low"]).log().median()
    stretch = (wide - 1) * decay * typical / 2
    bars = dataset.bars.with_columns(
        volume=volume,
        high=pl.max_horizontal("high", top * stretch.exp()),
        low=pl.min_horizontal("low", bottom * (-stretch).exp()),
    )
    return replace(dataset, bars=bars)


def plant_crash(seed: int, kinds: tuple[str, ...] = CRASHES) -> Planted:
    """A fall (or a rise) as large as a split's that is none."""
    rng = np.random.default_rng([seed, 2])
    nature = _nature(rng)
    what = kinds[seed % len(kinds)]
    market = make_genuine(seed, nature)
    at = int(rng.integers(market.bars.height // 5, market.bars.height * 4 // 5))
    ts = market.bars["ts"][at]
    ratio = float(rng.choice(RATIOS)) if "ratio" in what else float(np.exp(rng.uniform(0.35, 2.5)))
    if ratio < 1 and rng.random() < 0.5:
        ratio = 1 / ratio  # more falls than rises
    n = pl.int_range(pl.len())
    if what == "within a bar":
        fallen = scaled(market, n > at, ratio, 1.0).bars
        close = pl.when(n == at).then(pl.col("close") / ratio).otherwise("close")
        fallen = fallen.with_columns(close=close).with_columns(
            high=pl.max_horizontal("high", "open", "close"), low=pl.min_horizontal("low", "open", "close")
        )
        return Planted(what, _louder(replace(market, bars=fallen), at, 8, 2, 3), ts, ratio, nature.volume)
    if what == "over bars":
        steps = 5
        fallen = market
        for i in range(steps):
            fallen = scaled(fallen, n >= at + i, ratio ** (1 / steps), 1.0)
        return Planted(what, _louder(fallen, at, 6, 1.5, 3), ts, ratio, nature.volume)
    fallen = scaled(market, n >= at, ratio, 1.0)
    if what == "and back":
        fallen = scaled(fallen, n >= at + int(rng.integers(1, 4)), 1 / ratio, 1.0)
    peak, rest = float(rng.uniform(4, 15)), float(rng.uniform(1.2, 2.5))
    if "quiet" in what:  # nothing but the gap says that something happened
        return Planted(what, fallen, ts, ratio, nature.volume)
    return Planted(what, _louder(fallen, at, peak, rest, float(rng.uniform(3, 8))), ts, ratio, nature.volume)
