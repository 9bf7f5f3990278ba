"""Bars from trades against plain-Python oracles, on random streams and on real trades."""

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo_research.core.errors import DataError
from algo_research.data.market.bars import BARS_SCHEMA, validate_bars
from algo_research.data.market.trades import (
    TRADES_SCHEMA,
    dollar_bars,
    imbalance_bars,
    make_trades,
    tick_bars,
    time_bars,
    trade_signs,
    validate_trades,
    volume_bars,
)

US = timedelta(microseconds=1)
KINDS = {
    "time": lambda t: time_bars(t, "5s"),
    "tick": lambda t: tick_bars(t, 3),
    "volume": lambda t: volume_bars(t, 2.5),
    "dollar": lambda t: dollar_bars(t, 25.0),
    "tick imbalance": lambda t: imbalance_bars(t, "tick", 4, bar_span=3, tick_span=20, shortest=2, longest=12),
    "volume imbalance": lambda t: imbalance_bars(t, "volume", 4, tick_span=20),
    "dollar imbalance": lambda t: imbalance_bars(t, "dollar", 4, bar_span=3, tick_span=20),
}


def signs(rows):
    """The taker's side of one symbol's trades; the tick rule where it is unknown."""
    found, last, price = [], 0, None
    for row in rows:
        if row["side"]:
            last = 1 if row["side"] == "buy" else -1
        elif price is not None and row["price"] != price:
            last = 1 if row["price"] > price else -1
        price = row["price"]
        found.append(last)
    return found


def cut_imbalance(rows, kind, expected, bar_span, tick_span, shortest, longest):
    """Groups of rows, from the book's definition, everything recomputed for each bar."""
    size = {"tick": lambda r: 1.0, "volume": lambda r: r["amount"], "dollar": lambda r: r["price"] * r["amount"]}[kind]
    signed = [b * size(r) for b, r in zip(signs(rows), rows, strict=True)]
    groups, begin, mean_ticks, mean_flow = [], 0, float(expected), None
    for end in range(1, len(rows) + 1):
        ticks, theta = end - begin, sum(signed[begin:end])
        tipped = ticks >= expected if mean_flow is None else abs(theta) >= mean_ticks * abs(mean_flow) * (1 - 1e-9)
        if ticks >= longest or (tipped and ticks >= shortest):
            if mean_flow is None:
                mean_flow = theta / ticks
            else:
                for x in signed[begin:end]:
                    mean_flow += 2 / (tick_span + 1) * (x - mean_flow)
                mean_ticks += (2 / (bar_span + 1) if bar_span else 0) * (ticks - mean_ticks)
            groups.append(rows[begin:end])
            begin = end
    return groups


def cut_sum(rows, size, threshold):
    groups, group = [], []
    for row in rows:
        group.append(row)
        if math.fsum(size(r) for r in group) >= threshold * (1 - 1e-9):
            groups.append(group)
            group = []
    return groups


ORACLES = {
    "tick": lambda rows: [rows[i : i + 3] for i in range(0, len(rows) - 2, 3)],
    "volume": lambda rows: cut_sum(rows, lambda r: r["amount"], 2.5),
    "dollar": lambda rows: cut_sum(rows, lambda r: r["price"] * r["amount"], 25.0),
    "tick imbalance": lambda rows: cut_imbalance(rows, "tick", 4, 3, 20, 2, 12),
    "volume imbalance": lambda rows: cut_imbalance(rows, "volume", 4, None, 20, 1, 40),
    "dollar imbalance": lambda rows: cut_imbalance(rows, "dollar", 4, 3, 20, 1, 40),
}


def oracle_bars(trades, cut):
    """Bars of all symbols by a plain loop over groups of trades."""
    out = []
    for symbol in trades["symbol"].unique().sort():
        known = None
        for group in cut(trades.filter(pl.col("symbol") == symbol).rows(named=True)):
            ts = max(group[0]["ts"], known) if known else group[0]["ts"]
            known = max(group[-1]["ts"], ts + US)
            prices = [r["price"] for r in group]
            out.append(
                (symbol, ts, prices[0], max(prices), min(prices), prices[-1], sum(r["amount"] for r in group), known)
            )
    return pl.DataFrame(out, schema=BARS_SCHEMA, orient="row")


def same(bars, oracle):
    close = ((bars["volume"] - oracle["volume"]).abs() <= 1e-12 * oracle["volume"]).all()
    return bars.drop("volume").equals(oracle.drop("volume")) and close


def check_promises(make, trades, cuts):
    """Each trade once, sums conserved, a cut of the arrivals changes no closed bar, nothing known before its time."""
    bars, details, rest = make(trades)
    validate_bars(bars)
    assert details.select("symbol", "ts").equals(bars.select("symbol", "ts"))
    assert details["trades"].sum() + rest.height == trades.height
    money = lambda frame: (frame["price"] * frame["amount"]).sum()  # noqa: E731
    assert math.isclose(bars["volume"].sum() + rest["amount"].sum(), trades["amount"].sum(), rel_tol=1e-12)
    assert math.isclose(details["value"].sum() + money(rest), money(trades), rel_tol=1e-12)
    assert ((details["vwap"] <= bars["high"] * (1 + 1e-12)) & (details["vwap"] >= bars["low"] * (1 - 1e-12))).all()
    arrivals = trades.sort("ts", "symbol", "id", maintain_order=True)
    for cut in cuts:
        seen = make(arrivals[:cut].sort("symbol", "ts", "id", maintain_order=True)).bars
        for symbol in seen["symbol"].unique():
            mine = seen.filter(pl.col("symbol") == symbol)
            assert mine.equals(bars.filter(pl.col("symbol") == symbol)[: mine.height])


BASE = datetime(2024, 1, 1, tzinfo=UTC)
trade = st.tuples(
    st.sampled_from(["A", "B"]),
    st.integers(0, 8),  # ms to the trade before: many share an instant
    st.integers(90, 110),
    st.integers(1, 30),
    st.sampled_from(["buy", "sell", None]),
)


def frame(rows, step=400):
    clock, out = 0, []
    for number, (symbol, gap, price, amount, side) in enumerate(rows):
        clock += max(gap - 4, 0) * step
        out.append((symbol, BASE + timedelta(milliseconds=clock), price / 10, amount / 10, side, number))
    return make_trades(pl.DataFrame(out, schema=TRADES_SCHEMA, orient="row"))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(trade, max_size=60), st.integers(0, 60))
def test_random_streams_match_the_oracle(rows, cut):
    trades = frame(rows)
    for name, make in KINDS.items():
        check_promises(make, trades, [cut])
        if name in ORACLES:
            assert same(make(trades).bars, oracle_bars(trades, ORACLES[name])), name


@settings(max_examples=40, deadline=None)
@given(st.lists(trade, max_size=60))
def test_time_bars_are_a_plain_group_by(rows):
    trades = frame(rows)
    start = pl.col("ts").dt.truncate("5s")
    prices = {
        "open": pl.col("price").first(),
        "high": pl.col("price").max(),
        "low": pl.col("price").min(),
        "close": pl.col("price").last(),
    }
    oracle = (
        trades.group_by("symbol", ts=start)
        .agg(**prices, volume=pl.col("amount").sum(), last=pl.col("ts").max())
        .sort("symbol", "ts")
    )
    oracle = oracle.with_columns(known_at=pl.col("ts") + timedelta(seconds=5))
    ends = dict(trades.group_by("symbol").agg(pl.col("ts").max()).rows())
    closed = oracle.filter(
        pl.Series([known <= ends[s] for s, known in oracle.select("symbol", "known_at").rows()], dtype=pl.Boolean)
    )
    assert same(time_bars(trades, "5s").bars, closed.select(list(BARS_SCHEMA)))
    every = time_bars(trades, "5s", until=BASE + timedelta(days=1))
    assert same(every.bars, oracle.select(list(BARS_SCHEMA))) and every.rest.is_empty()


def test_signs_match_the_oracle():
    sides = {"A": [None, None, "buy", "sell"], "B": [None]}  # B begins without a hint, and must not take A's
    rows = [
        (s, i % 5, 100 + (i // 9 * 7) % 5 - (i // 9 % 3), 1, sides[s][i * 5 % len(sides[s])])
        for s in sides
        for i in range(200)
    ]
    trades = frame(rows)
    by_symbol = [signs(trades.filter(pl.col("symbol") == s).rows(named=True)) for s in sides]
    assert trade_signs(trades).to_list() == by_symbol[0] + by_symbol[1] and by_symbol[0][-1] != by_symbol[1][0] == 0


def test_one_instant_cut_into_many_bars():
    trades = make_trades(
        pl.DataFrame(
            {"ts": [BASE] * 5 + [BASE + 2 * US, BASE + timedelta(1)], "price": [1.0] * 7, "amount": [1.0] * 7}
        ),
        "A",
    )
    bars = tick_bars(trades, 1).bars
    at = lambda name: [(t - BASE) // US for t in bars[name]]  # noqa: E731
    assert at("ts") == [0, 1, 2, 3, 4, 5, 86_400_000_000]
    assert at("known_at") == [1, 2, 3, 4, 5, 6, 86_400_000_001]
    pairs = tick_bars(trades, 2).bars  # the third pair opens at 0 and is known with its last trade at 2
    assert [(t - BASE) // US for t in pairs["known_at"]] == [1, 2, 3]


def test_the_rest_goes_on():
    trades = frame([("AB"[i % 2], 5 + i % 3, 95 + i * 7 % 10, 1 + i % 9, None) for i in range(300)])
    for make in (KINDS["time"], KINDS["tick"], KINDS["volume"], KINDS["dollar"]):
        bars, rest = [], trades[:0]
        for begin in (BASE + timedelta(seconds=s) for s in range(0, 400, 20)):
            new = trades.filter(pl.col("ts").is_between(begin, begin + timedelta(seconds=20), closed="left"))
            done = make(pl.concat([rest, new]).sort("symbol", "ts", "id"))
            bars, rest = [*bars, done.bars], done.rest
        whole = make(trades)
        assert pl.concat(bars).sort("symbol", "ts").equals(whole.bars) and rest.equals(whole.rest)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.reverse(), "out of order"),
        (lambda t: t.sort("price"), "out of order"),
        (lambda t: pl.concat([t, t[-1:]]), "was there before"),
        (lambda t: t.with_columns(id=pl.col("id").reverse(), ts=pl.lit(BASE).dt.cast_time_unit("us")), "out of order"),
        (lambda t: t.with_columns(price=pl.lit(float("nan"))), "no positive number"),
        (lambda t: t.with_columns(amount=pl.lit(None, pl.Float64)), "no positive number"),
        (lambda t: t.with_columns(amount=-pl.col("amount")), "no positive number"),
        (lambda t: t.with_columns(side=pl.lit("bid")), "other than"),
        (lambda t: t.with_columns(ts=pl.lit(None, t.schema["ts"])), "without a symbol or a time"),
        (lambda t: t.with_columns(pl.col("ts").dt.cast_time_unit("ms")), "no trades"),
        (lambda t: t.select(reversed(t.columns)), "no trades"),
        (lambda t: t.drop("id"), "no trades"),
    ],
)
def test_a_broken_contract_is_named(change, says):
    trades = frame([("A", 5, 100 + i % 3, 1 + i, "buy") for i in range(6)])
    assert validate_trades(trades) is trades
    with pytest.raises(DataError, match=says):
        validate_trades(change(trades))


def test_unknown_sides_leave_the_bought_volume_open():
    rows = [("A", 5, 100, 10, side) for side in ("buy", "sell", "buy", "buy", None, "buy")]
    assert tick_bars(frame(rows), 3).details["buy_volume"].to_list() == [2.0, None]


@pytest.fixture(scope="module")
def real(shared_data):
    raw = pl.read_ipc(shared_data / "xrp_eth_trades.feather")
    return make_trades(
        raw.select(pl.from_epoch("timestamp", "ms").alias("ts"), "price", "amount", "side", "id"), "XRP-ETH"
    )


def test_real_trades_keep_the_promises(real):
    assert real.height == 12_477 and (real["ts"].diff() == timedelta(0)).sum() > 1000
    kinds = {
        "time": lambda t: time_bars(t, "5m"),
        "tick": lambda t: tick_bars(t, 50),
        "volume": lambda t: volume_bars(t, 20_000),
        "dollar": lambda t: dollar_bars(t, 30),
        "imbalance": lambda t: imbalance_bars(t, "dollar", 50),
    }
    for make in kinds.values():
        check_promises(make, real, [1, 17, 4000, 4001, 12_476])
        assert make(real).bars.height > 100
    oracle = oracle_bars(real, lambda rows: cut_sum(rows, lambda r: r["amount"], 20_000))
    assert same(volume_bars(real, 20_000).bars, oracle)
    assert same(
        imbalance_bars(real, "dollar", 50).bars,
        oracle_bars(real, lambda rows: cut_imbalance(rows, "dollar", 50, None, 1000, 5, 500)),
    )
    guessed = trade_signs(real.with_columns(side=pl.lit(None, pl.String)))
    assert (guessed == trade_signs(real)).mean() > 0.7  # the tick rule is mostly right on a real tape
