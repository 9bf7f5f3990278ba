"""No order is cut, refused or dropped without a record: a decision is an order or void, and orders tell their end."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.market import Case, cases

from algo_research.backtest.engine import backtest, in_words
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import PercentageCosts

HOUR = timedelta(hours=1)


def frames(case: Case) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and targets of a case."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        {
            "symbol": f"S{a}",
            "ts": start + t * HOUR,
            **dict.fromkeys(("open", "high", "low"), case.open[t, a]),
            "close": case.close[t, a],
            "volume": 1.0,
            "known_at": start + (t + 1) * HOUR,
            "target": case.target[t, a],
        }
        for a in range(case.open.shape[1])
        for t in range(len(case.open))
        if not np.isnan(case.open[t, a])
    ]
    schema = {"ts": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")}
    frame = pl.DataFrame(rows, schema_overrides=schema)
    wanted = frame.filter(pl.col("target").is_not_nan()) if frame.height else frame
    return frame.drop("target"), wanted.select("symbol", "ts", "known_at", "target")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(["kernel", "vectorbt"]))
def test_every_decision_has_an_end(case, engine):
    if np.isnan(case.open).all():
        return
    bars, targets = frames(case)
    if not targets.height:
        return
    result = backtest(bars, targets, PercentageCosts(**case.costs), 8766, case.initial_cash, engine)
    assert result.orders.height + result.void.height == targets.height
    assert set(result.void["reason"]) <= {"no bar opened after it", "a newer target came first"}
    cash, held, scale = case.initial_cash, dict.fromkeys(bars["symbol"], 0.0), case.initial_cash
    equity, mark, ruined = case.initial_cash, {}, False
    fills = {key: list(part["quantity"]) for key, part in result.fills.group_by("ts", "symbol", maintain_order=True)}
    orders = {(r["ts"], r["symbol"]): r for r in result.orders.iter_rows(named=True)}
    for row in result.equity.iter_rows(named=True):  # in plain words, from the ledgers and the prices
        for symbol in held:
            order = orders.get((row["ts"], symbol))
            if order is None:
                continue
            made = fills.get((row["ts"], symbol), [])
            if symbol not in mark:
                assert order["reason"] == "no close known yet" and order["wanted"] is None and not made
                continue
            wanted = order["target"] * equity / mark[symbol] - held[symbol]
            assert order["wanted"] == pytest.approx(wanted, rel=1e-7, abs=1e-9 * scale / mark[symbol])
            assert order["quantity"] == (
                made[0]
                if made and not (ruined or row["ts"] == result_end(result))
                else pytest.approx(order["quantity"])
            )
            near = abs(order["quantity"] - wanted) <= 1e-7 * abs(wanted) + 1e-9 * scale / mark[symbol]
            if ruined:
                assert order["reason"] in ("bankrupt", "") and not order["quantity"]
            elif order["reason"] == "":
                assert near
            elif order["reason"] == "cut to the cash":
                assert 0 < order["quantity"] <= wanted
            elif order["reason"] == "no cash":
                assert wanted > 0 and not order["quantity"]
            else:
                assert order["reason"] == "costs above its value" and wanted < 0 and not order["quantity"]
        for symbol, close in bars.filter(ts=row["ts"]).select("symbol", "close").rows():
            mark[symbol] = close
        now = result.positions.filter(ts=row["ts"])
        held = dict(zip(now["symbol"], now["quantity"], strict=True))
        equity, ruined = row["equity"], ruined or row["equity"] <= 0
        scale = max(scale, equity)
    assert cash > 0


def result_end(result) -> datetime | None:
    """The bar at which everything was closed."""
    ended = result.equity.filter(pl.col("equity") <= 0)
    return ended["ts"][0] if ended.height else None


def test_a_decision_that_never_was_an_order_says_why():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + n * HOUR for n in range(6)]
    bars = pl.DataFrame({"symbol": "A", "ts": times, "known_at": [t + HOUR for t in times]}).with_columns(
        pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close", "volume")
    )
    bars = bars.select("symbol", "ts", "open", "high", "low", "close", "volume", "known_at")
    known = [times[5], times[2], times[5] + HOUR]
    targets = pl.DataFrame(
        {"symbol": "A", "ts": [times[0], times[1], times[5]], "known_at": known, "target": [0.5, 0.2, 1]}
    )
    result = backtest(bars, targets, PercentageCosts(), 8766)
    assert result.orders.select("ts", "target", "reason").rows() == [(times[2], 0.2, "")]
    assert result.void.rows() == [
        (times[0], known[0], "A", 0.5, "a newer target came first"),
        (times[5], known[2], "A", 1.0, "no bar opened after it"),
    ]


@pytest.mark.parametrize("engine", ["kernel", "vectorbt"])
def test_no_decision_at_all(engine):
    bars = make_market("noise", seed=1, bars=50).bars
    result = backtest(
        bars,
        bars.select("symbol", "ts", "known_at", target=pl.lit(None, pl.Float64)),
        PercentageCosts(),
        8766,
        engine=engine,
    )
    assert (result.orders.height, result.void.height, in_words(result.orders)) == (0, 0, "")
    assert result.orders.schema["reason"] == result.void.schema["reason"] == pl.String
