"""The books against vectorbt's `Portfolio.from_orders`, on random and on real prices."""

import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from support.market import Case, cases, random_prices, random_targets

from algo_research.execution.accounting import account

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def vbt():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vectorbt
    return vectorbt


def portfolio(vbt, open_, close, target, initial_cash, **costs):
    import pandas as pd

    frame = pd.DataFrame(close)
    return vbt.Portfolio.from_orders(
        frame,
        size=target,
        size_type="targetpercent",
        price=open_,
        val_price=frame.ffill().shift(1),
        direction="both",
        init_cash=initial_cash,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        lock_cash=False,
        update_value=False,
        freq="1D",
        **costs,
    )


# Four steady prices, no costs: what is left to trade in the third bar is rounding. One of the two trades it.
DUST = Case(
    open=np.tile([0.05, 40_000.0, 0.05, 250.0], (4, 1)),
    close=np.tile([0.05, 40_000.0, 0.05, 250.0], (4, 1)),
    target=np.array([[0.4, 0.1, 0.4, 0.0], [0.2, 0.1, 0.2, 0.4], [0.1, 0.0, 0.2, 0.1], [0.0, 0.3, 0.1, 0.3]]),
    initial_cash=12345678.9,
    costs={"fees": 0.0, "fixed_fees": 0.0, "slippage": 0.0},
)


def assert_same_books(vbt, open_, close, target, initial_cash, **costs):
    "Equal up to the bar before bankruptcy, which vectorbt does not know."
    ours = account(open_, close, target, initial_cash, **costs)
    theirs = portfolio(vbt, open_, close, target, initial_cash, **costs)
    end = len(close) if ours.bankrupt_at < 0 else ours.bankrupt_at
    fills, records = ours.fills[ours.fills["bar"] < end], theirs.orders.values
    records = records[records["idx"] < end]
    scale = max(initial_cash, ours.equity.max())
    fills = fills[
        abs(fills["quantity"] * fills["price"]) > 1e-12 * scale
    ]  # less than that is rounding, and either may trade it or not
    records = records[records["size"] * records["price"] > 1e-12 * scale]
    assert len(fills) == len(records)
    theirs_in_turn = np.where(records["side"] == 0, 1, -1) * records["size"] * records["price"]
    np.testing.assert_allclose(
        fills["quantity"] * fills["price"],
        theirs_in_turn,
        rtol=1e-9,
        atol=1e-12 * scale,
        err_msg="values traded, in their order",
    )
    fills, records = (
        np.sort(fills, order=["bar", "asset"]),
        np.sort(records, order=["idx", "col"]),
    )  # equal values may take turns either way
    signed = np.where(records["side"] == 0, records["size"], -records["size"])
    expected = {
        "bar": records["idx"],
        "asset": records["col"],
        "quantity": signed,
        "price": records["price"],
        "fee": records["fees"],
    }
    for name, values in expected.items():  # the fee of a purchase that was cut is a difference of larger amounts
        atol = 1e-12 * scale if name == "fee" else 1e-12
        np.testing.assert_allclose(fills[name], values, rtol=1e-9, atol=atol, err_msg=name)
    largest = abs(ours.position).max(0, initial=0)
    for name, mine, other, size in [
        ("cash", ours.cash, theirs.cash().to_numpy(), scale),
        ("equity", ours.equity, theirs.value().to_numpy(), scale),
        ("position", ours.position, theirs.assets().to_numpy(), largest),
    ]:
        assert (abs(mine[:end] - other[:end]) <= 1e-9 * abs(other[:end]) + 1e-11 * size).all(), name
    return ours


@settings(max_examples=80, deadline=None)
@example(case=DUST)
@given(case=cases())
def test_random_targets(vbt, case):
    assert_same_books(vbt, *case.args, **case.costs)


@pytest.mark.parametrize("kind", ["long", "long-short", "cash-bound"])
def test_many_assets_and_gaps(vbt, kind):
    rng = np.random.default_rng(5)
    open_, close = random_prices(rng, 1_500, 25, gaps=0.2, volatility=0.005)
    target = random_targets(rng, close.shape, kind, 0.05, flat=0.4) / (1 if kind == "cash-bound" else 6)
    books = assert_same_books(vbt, open_, close, target, 1e6, fees=0.0002, fixed_fees=0.1, slippage=0.0001)
    assert books.bankrupt_at < 0 and len(books.fills) > 150


nan = np.nan
EDGES = {  # closes (= opens), targets, costs, fills
    "an order at the first bar": ([10, 10, 10], [1, nan, 0.5], {}, 1),
    "a sale that cannot pay its fee": ([10, 10, 10, 10], [nan, 0.1, 0, nan], {"fixed_fees": 20}, 1),
    "a purchase that cannot pay its fee": ([10, 10, 10], [nan, 1, 1], {"fixed_fees": 100}, 0),
    "all the cash and costs on top": ([10, 10, 10], [nan, 1, 1], {"fees": 0.01, "fixed_fees": 1, "slippage": 0.02}, 1),
    "from long to short and back": ([10, 11, 9, 12], [nan, 0.8, -0.8, 0.5], {"fees": 0.001}, 3),
    "a short closed at a loss": ([10, 10, 17, 17], [nan, -1, nan, 0], {"fees": 0.05}, 2),
    "a short that takes all cash to close": ([10, 10, 19.9, 19.9], [nan, -1, nan, 0], {"fees": 0.05}, 2),
    "the same target after costs": ([10, 10, 10, 10], [nan, 0.3, 0.3, 0.3], {"fees": 0.1}, 3),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(vbt, name):
    price, target, costs, fills = EDGES[name]
    price, target = (np.array(x, float)[:, None] for x in (price, target))
    assert len(assert_same_books(vbt, price, price, target, 100.0, **costs).fills) == fills


def packaged(package, path):
    "A data file inside an installed package, without importing the package."
    return Path(importlib.util.find_spec(package).origin).parent / path


def columns(frame, *names):
    return tuple(frame[name].to_numpy()[:, None] for name in names)


def shared(name):
    "A file of the shared data folder; the test is skipped where there is none."
    folder = os.environ.get("ALGO_SHARED_DATA")
    if not folder:
        pytest.skip("ALGO_SHARED_DATA is not set: no shared data")
    return Path(folder) / name


def panel(path):
    "Open and close of a long frame as (bars, assets); an asset without a bar is NaN."
    frame = pl.read_csv(path)
    return tuple(
        frame.pivot("tic", index="date", values=v).sort("date").drop("date").to_numpy().astype(float)
        for v in ("open", "close")
    )


def pairs():
    parts = [
        pl.read_ipc(shared(f"{pair}_btc_5m.feather")).select("date", pl.col("open", "close").name.suffix(pair))
        for pair in ("eth", "ltc")
    ]
    frame = parts[0].join(parts[1], on="date", how="full", coalesce=True).sort("date")
    return tuple(frame.select(f"{v}eth", f"{v}ltc").to_numpy() for v in ("open", "close"))


def skfolio_closes():
    closes = pl.read_csv(packaged("skfolio", "datasets/data/sp500_dataset.csv.gz")).drop("Date").to_numpy()
    return closes, closes


REAL = {
    "arch S&P 500": lambda: columns(pl.read_csv(packaged("arch", "data/sp500/sp500.csv.gz")), "Open", "Close"),
    "arch NASDAQ": lambda: columns(pl.read_csv(packaged("arch", "data/nasdaq/nasdaq.csv.gz")), "Open", "Close"),
    "skfolio 20 stocks": skfolio_closes,
    "BTC-USD hours": lambda: columns(pl.read_csv(shared("btc_usd_1h_2018_2022.csv.gz")).reverse(), "open", "close"),
    "BTC perpetual minutes": lambda: columns(pl.read_csv(shared("btc_perp_1m_2022_01.csv.gz")), "open", "close"),
    "29 stocks 2020": lambda: panel(shared("dj30_1d_valid.csv.gz")),
    "29 stocks 2021": lambda: panel(shared("dj30_1d_test.csv.gz")),
    "ETH and LTC 5 minutes": pairs,
}


@pytest.mark.parametrize("kind", ["cash-bound", "long-short"])
@pytest.mark.parametrize("name", REAL)
def test_real_prices(vbt, name, kind):
    open_, close = REAL[name]()
    rng = np.random.default_rng(11)
    target = random_targets(rng, close.shape, kind, density=min(1, 400 / close.size**0.8))
    if kind == "long-short":
        target /= close.shape[1] ** 0.5
    books = assert_same_books(vbt, open_, close, target, 50_000, fees=0.0005, fixed_fees=0.5, slippage=0.0002)
    assert books.bankrupt_at < 0 and len(books.fills) > 20


def test_the_comparison_can_fail(vbt):
    open_, close = REAL["arch S&P 500"]()
    target = np.full(close.shape, np.nan)
    target[1::50] = 0.5
    with pytest.raises(AssertionError):
        ours = account(open_, close, target, 10_000, fees=0.001)
        theirs = portfolio(vbt, open_, close, target, 10_000, fees=0.001 + 1e-8)
        np.testing.assert_allclose(ours.equity, theirs.value(), rtol=1e-9)
