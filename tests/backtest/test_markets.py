"""A market in disguise is recognised by its returns, and two markets never are one, however correlated."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from algo_research.backtest import markets
from algo_research.backtest.markets import (
    Fingerprint,
    Shelf,
    basket_of,
    compare,
    make_fingerprints,
    recognise,
    to_bytes,
)
from algo_research.core.errors import DataError
from algo_research.data.samples.bundled import load_index, load_stocks
from algo_research.data.samples.synthetic import make_market

HOURLY = make_market("garch", 1, bars=4000).bars
DAILY = load_index("SP500").bars
TIMES = ("ts", "known_at")


def moved(bars: pl.DataFrame, **by: float) -> pl.DataFrame:
    return bars.with_columns(pl.col(*TIMES) + timedelta(**by))


def priced(bars: pl.DataFrame, close: np.ndarray | pl.Expr) -> pl.DataFrame:
    return bars.with_columns(close=pl.Series(close) if isinstance(close, np.ndarray) else close)


def without(bars: pl.DataFrame, share: float) -> pl.DataFrame:
    return bars.filter(pl.Series(np.random.default_rng(1).random(bars.height) >= share))


def noisy(bars: pl.DataFrame, size: float) -> pl.DataFrame:
    """Each close off by `size` of a bar's volatility."""
    log = np.log(bars["close"].to_numpy())
    off = size * np.diff(log).std() * np.random.default_rng(2).normal(size=len(log))
    return priced(bars, np.exp(log + off))


def adjusted(bars: pl.DataFrame, days: int) -> pl.DataFrame:
    """Splits on some days, backwards."""
    factor, rng = np.ones(bars.height), np.random.default_rng(3)
    for at in rng.integers(1, bars.height, days):
        factor[:at] *= rng.choice([0.5, 2, 0.98])
    return priced(bars, bars["close"].to_numpy() * factor)


def every(bars: pl.DataFrame, count: int, offset: int | None = None) -> pl.DataFrame:
    """Longer bars: the last close of each `count`."""
    return bars.gather_every(count, count - 1 if offset is None else offset)


def squeezed(bars: pl.DataFrame) -> pl.DataFrame:
    """Labels that know no weekend."""
    ts = pl.datetime_range(bars["ts"][0], bars["ts"][0] + timedelta(days=bars.height - 1), "1d", eager=True)
    return bars.with_columns(ts=ts, known_at=ts + timedelta(days=1))


DISGUISES = {
    "a copy": lambda b: b,
    "another name": lambda b: b.with_columns(symbol=pl.lit("other")),
    "first bar dropped": lambda b: b[1:],
    "one bar dropped": lambda b: pl.concat([b[:1000], b[1001:]]),
    "a tenth of the bars dropped": lambda b: without(b, 0.1),
    "a third of the bars dropped": lambda b: without(b, 0.33),
    "its first half": lambda b: b[: b.height // 2],
    "a window": lambda b: b[1500:2500],
    "its last hundred bars": lambda b: b[-100:],
    "in cents": lambda b: priced(b, pl.col("close") * 100),
    "in another unit": lambda b: priced(b, pl.col("close") * 1.0837),
    "the inverse": lambda b: priced(b, 1 / pl.col("close")),
    "the inverse in a window": lambda b: priced(b, 1000 / pl.col("close"))[500:1500],
    "labels of the open": lambda b: b.with_columns(known_at="ts"),
    "another time zone": lambda b: moved(b, hours=-7),
    "half an hour late": lambda b: moved(b, minutes=30),
    "three days early": lambda b: moved(b, days=-3),
    "four years early": lambda b: moved(b, days=-1461),
    "an odd shift": lambda b: moved(b, days=1001, hours=3, minutes=17),
    "an odd shift of a window": lambda b: moved(b, days=1001, hours=3)[700:2200],
    "every fourth": lambda b: every(b, 4),
    "every fourth with an offset": lambda b: every(b, 4, 1),
    "every fourth, moved": lambda b: moved(every(b, 4), hours=2),
    "every twenty-fourth": lambda b: every(b, 24),
    "every twenty-fourth, inverse": lambda b: priced(every(b, 24), 1 / pl.col("close")),
    "adjusted on some days": lambda b: adjusted(b, 8),
    "one per cent of noise": lambda b: noisy(b, 0.01),
    "rounded": lambda b: priced(b, pl.col("close").round(2)),
    "a few prices wrong": lambda b: priced(b, pl.col("close") * np.where(np.arange(b.height) % 50 == 7, 1.2, 1.0)),
    "all at once": lambda b: priced(moved(without(b, 0.05)[300:3500], hours=5), 7 / pl.col("close")),
}


@pytest.mark.parametrize("disguise", DISGUISES, ids=str)
@pytest.mark.parametrize("bars", [HOURLY, DAILY], ids=["synthetic", "SP500"])
def test_a_market_is_known_in_disguise(bars, disguise):
    known, hidden = (make_fingerprints(b)[0] for b in (bars, DISGUISES[disguise](bars)))
    for match in (compare(hidden, known), compare(known, hidden)):
        assert match.same, match


def test_labels_without_weekends_are_seen_through():
    known, hidden = (make_fingerprints(b)[0] for b in (DAILY, squeezed(DAILY)))
    assert compare(hidden, known).same


def correlated(correlation: float, seed: int, rows: int = 2500) -> list[Fingerprint]:
    """Two markets of one cause, calm and wild together."""
    rng = np.random.default_rng(seed)
    wild = 0.01 * np.exp(np.cumsum(0.05 * rng.normal(size=rows)) * 0.5)
    shared, *own = rng.standard_t(4, size=(3, rows))
    times = np.arange(rows, dtype="<i8") * 3_600_000_000
    mixed = [np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * alone for alone in own]
    return [Fingerprint(str(i), times, np.cumsum(wild * part)) for i, part in enumerate(mixed)]


def test_different_markets_never_join():
    joined = []
    for seed in range(100):
        pair = correlated((0.0, 0.7, 0.9, 0.95, 0.98)[seed % 5], seed)
        if compare(*pair).same or recognise(pair[:1], {"other": pair[1]}):
            joined.append(seed)
    assert joined == []


def test_real_markets_that_move_together_stay_apart():
    stocks = make_fingerprints(load_stocks().bars)[::3]
    index = (*make_fingerprints(DAILY), *make_fingerprints(load_index("NASDAQ").bars))
    prints = {p.symbol: p for p in (*stocks, *index)}
    for name, one in prints.items():
        others = {n: p for n, p in prints.items() if n != name}
        assert recognise([one], others) == []


@pytest.mark.parametrize("how", ["quantities", "weights", "late", "short", "coarse"])
def test_a_basket_is_known_by_its_members_and_they_by_it(how):
    prints = {str(i): make_fingerprints(make_market("garch", i, bars=4000).bars)[0] for i in range(8)}
    times, logs = prints["0"].times, np.column_stack([p.logs for p in prints.values()])
    weights = np.array([0.4, 0, 0.3, 0, 0, 0.3, 0, 0])
    mixed = np.log(np.exp(logs) @ weights)
    if how == "weights":
        mixed = np.cumsum(np.log1p(np.expm1(np.diff(logs, axis=0, prepend=0)) @ weights))
    rows = {"short": slice(1000, 2000), "coarse": slice(3, None, 4)}.get(how, slice(None))
    basket = Fingerprint("mix", times[rows] + (3 * 3_600_000_000 if how == "late" else 0), mixed[rows])
    assert {k.key for k in recognise([basket], prints)} == {"0", "2", "5"}
    if how != "late":
        stored = {"mix": basket, **{k: p for k, p in prints.items() if k != "2"}}
        assert ("mix", "part") in {(k.key, k.kind) for k in recognise([prints["2"]], stored)}
    assert basket_of(prints["1"], [p for n, p in prints.items() if n != "1"]) == []


def test_a_market_at_twice_its_returns_is_a_basket_of_one():
    (known,) = make_fingerprints(HOURLY)
    twice = Fingerprint("twice", known.times, 2 * known.logs)
    assert [k.key for k in recognise([twice], {"once": known})] == ["once"]


def test_prices_that_stand_still_are_no_market():
    times = np.arange(500, dtype="<i8") * 3_600_000_000
    still = Fingerprint("still", times, np.zeros(500))
    assert not compare(still, still).same and recognise([still], {"other": still}) == []


def test_a_long_market_is_thinned_and_still_known():
    rng = np.random.default_rng(0)
    ts = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 3, 10), "1m", time_zone="UTC", eager=True)
    close = np.exp(np.cumsum(rng.normal(0, 0.001, len(ts))))
    minutes = pl.DataFrame({"symbol": "x", "ts": ts, "close": close})
    (long,), (hours,) = make_fingerprints(minutes), make_fingerprints(minutes.gather_every(60))
    (part,) = make_fingerprints(minutes[5000:9000])
    assert len(long) <= 20_000 and compare(hours, long).same and compare(part, long).same


def test_of_many_names_of_one_market_one_is_enough_and_what_is_covered_is_replaced(monkeypatch):
    """A meeting may not become dearer with every name: the 31st is held against one path of the market."""
    (whole,) = make_fingerprints(HOURLY)
    (other,) = make_fingerprints(make_market("garch", 2, bars=4000).bars)
    parts = {i: make_fingerprints(HOURLY[i : i + 3900])[0] for i in range(30)}
    stored = Shelf({key: to_bytes(p) for key, p in {**parts, "other": other}.items()})
    one_market = dict.fromkeys(parts, "garch")
    (late,) = make_fingerprints(HOURLY[31:3950])
    assert len(recognise([late], stored)) == 30
    asked = []
    monkeypatch.setattr(markets, "compare", lambda one, two: asked.append(two) or compare(one, two))
    assert [(k.key, k.kind) for k in recognise([late], stored, one_market)] == [(0, "same")]
    assert len(asked) == 2  # and the other market
    assert {k.key for k in recognise([whole], stored, one_market)} == set(parts)


def test_what_is_damaged_is_told_when_a_market_is_met():
    packed = to_bytes(make_fingerprints(HOURLY)[0])
    for broken in (b"\x07" + packed[1:], packed[:100]):
        stored = Shelf({"first": packed, "second": broken})
        with pytest.raises(DataError, match="fingerprint"):
            recognise(make_fingerprints(HOURLY), stored, dict.fromkeys(stored, "garch"))
