"""The kernel against the oracle, and what must hold for any books."""

import numpy as np
import oracle
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.market import cases

from algo_research.core.errors import DataError, InputError
from algo_research.execution.accounting import FILL, account, align_decisions, fill_nb, take_decisions

moderate = settings(max_examples=150, deadline=None)


def forward_fill(x):
    "Last known value of each column."
    rows = np.where(np.isnan(x), 0, np.arange(len(x))[:, None])
    return np.take_along_axis(x, np.maximum.accumulate(rows), 0)


@moderate
@given(cases())
def test_kernel_equals_oracle(case):
    ours = account(*case.args, **case.costs)
    theirs = oracle.account(*map(np.ndarray.tolist, case.args[:3]), case.initial_cash, **case.costs)
    event("bankrupt" if ours.bankrupt_at >= 0 else "solvent")
    assert ours.bankrupt_at == theirs["bankrupt_at"]
    assert len(ours.fills) == len(theirs["fills"])
    atol = 1e-12 * max(case.initial_cash, abs(ours.equity).max())
    for name in ("cash", "equity"):
        np.testing.assert_allclose(getattr(ours, name), theirs[name], rtol=1e-9, atol=atol, err_msg=name)
    np.testing.assert_allclose(ours.position, theirs["position"], rtol=1e-9, atol=1e-12, err_msg="position")
    for name in FILL.names:
        expected = [fill[name] for fill in theirs["fills"]]
        np.testing.assert_allclose(ours.fills[name], expected, rtol=1e-9, atol=atol, err_msg=name)


@moderate
@given(cases())
def test_equity_moves_only_by_prices_and_costs(case):
    books, mark = account(*case.args, **case.costs), forward_fill(case.close)
    f = books.fills
    earned = np.zeros(len(mark))
    earned[1:] = np.nansum(books.position[:-1] * np.diff(mark, axis=0), 1)
    np.add.at(earned, f["bar"], f["quantity"] * (mark[f["bar"], f["asset"]] - f["reference_price"]))
    np.add.at(earned, f["bar"], -f["fee"] - f["slippage_cost"])
    change = np.diff(books.equity, prepend=case.initial_cash)
    largest = max(
        case.initial_cash, abs(books.cash).max(), abs(books.equity).max()
    )  # amounts equal up to 1e-9 are equal
    np.testing.assert_allclose(change, earned, rtol=1e-9, atol=2e-9 * largest * case.close.shape[1])


@moderate
@given(cases())
def test_positions_are_the_sum_of_fills(case):
    books = account(*case.args, **case.costs)
    traded = np.zeros_like(books.position)
    np.add.at(traded, (books.fills["bar"], books.fills["asset"]), books.fills["quantity"])
    scale = abs(books.position).max(initial=0)
    np.testing.assert_allclose(books.position, traded.cumsum(0), rtol=1e-9, atol=1e-9 * scale + 1e-12)


@moderate
@given(cases())
def test_fills_keep_the_rules(case):
    books = account(*case.args, **case.costs)
    f = books.fills
    assert (np.diff(f["bar"]) >= 0).all()
    assert (f["fee"] >= 0).all() and (f["slippage_cost"] >= 0).all()
    assert (np.sign(f["price"] - f["reference_price"]) * np.sign(f["quantity"]) >= 0).all()
    ordinary = f["bar"] != books.bankrupt_at
    asked = case.target[f["bar"], f["asset"]]
    assert not np.isnan(asked[ordinary]).any()
    np.testing.assert_array_equal(f["reference_price"][ordinary], case.open[f["bar"], f["asset"]][ordinary])
    solvent = slice(None, None if books.bankrupt_at < 0 else books.bankrupt_at)
    assert (books.cash[solvent] >= 0).all() and (books.equity[solvent] > 0).all()


@moderate
@given(cases())
def test_the_past_does_not_depend_on_the_future(case):
    cut = len(case.close) // 2 + 1
    whole = account(*case.args, **case.costs)
    part = account(*(x[:cut] for x in case.args[:3]), case.initial_cash, **case.costs)
    for name in ("cash", "equity", "position"):
        np.testing.assert_array_equal(getattr(whole, name)[:cut], getattr(part, name))
    np.testing.assert_array_equal(whole.fills[whole.fills["bar"] < cut], part.fills)


@moderate
@given(cases(free=True))
def test_without_costs_nothing_is_paid(case):
    fills = account(*case.args).fills
    assert abs(fills["fee"]).max(initial=0) <= 1e-9 * case.initial_cash
    assert fills["slippage_cost"].max(initial=0) == 0 and (fills["price"] == fills["reference_price"]).all()


@moderate
@given(cases(kinds=("long", "cash-bound"), free=True))
def test_target_zero_flattens(case):
    target = case.target.copy()
    target[-1] = 0
    position = account(case.open, case.close, target, case.initial_cash).position[-1]
    assert (position[~np.isnan(case.open[-1])] == 0).all()


def column(*values):
    return np.array(values, float)[:, None]


nan = np.nan


def test_sized_at_the_last_close_and_filled_at_the_open():
    books = account(column(10, 12), column(10, 11), column(nan, 0.5), 1_000, fees=0.01, fixed_fees=2, slippage=0.1)
    assert books.fills.tolist() == [(1, 0, 50.0, pytest.approx(13.2), 12.0, pytest.approx(8.6), pytest.approx(60))]
    assert books.cash[-1] == pytest.approx(1_000 - 660 - 8.6)


def test_a_sale_pays_for_a_purchase_of_the_same_bar():
    price = np.full((3, 2), 10.0)
    books = account(price, price, np.array([[nan, nan], [0, 1], [1, 0]]), 1_000)
    assert books.fills[["asset", "quantity"]].tolist() == [(1, 100), (1, -100), (0, 100)]


def test_equal_orders_run_in_the_order_of_the_assets():
    price = np.full((2, 3), 10.0)
    books = account(price, price, np.array([[nan] * 3, [0.6] * 3]), 1_000)
    assert books.fills["asset"].tolist() == [0, 1]
    assert books.position[-1].tolist() == [60, 40, 0]


def test_an_order_before_the_first_close_is_dropped():
    assert len(account(column(10, 10), column(10, 10), column(1, nan)).fills) == 0
    late = account(column(nan, 10, 10), column(nan, 10, 10), column(nan, 1, nan))
    assert len(late.fills) == 0


def test_what_counts_as_nothing_and_as_equal():
    free = 50.0, 0.0, 0.0, 0.0
    assert [fill_nb(1e3, q, *free)[0] for q in (1e-12, -1e-12, 2e-12, -2e-12)] == [0, 0, 2e-12, -2e-12]
    within, beyond = 20 * (1 + 5e-10), 20 * (1 + 5e-9)
    assert fill_nb(1e3, within, *free)[0] == within and fill_nb(1e3, beyond, *free)[0] == 20


@pytest.mark.parametrize("back", [5, 90, 1_000])
def test_bankruptcy_ends_trading(back):
    price = column(100, 100, 250, back, back)
    books = account(price, price, column(nan, -1, nan, 1, 1), 1_000, fees=0.01, fixed_fees=1, slippage=0.02)
    assert books.bankrupt_at == 2
    assert books.fills["bar"].tolist() == [1, 2]
    assert books.position[2:].tolist() == [[0]] * 3
    left = 1_000 + 10 * 98 - (9.8 + 1) - 10 * 255 - (25.5 + 1)
    assert books.equity[2:] == pytest.approx(left) and books.cash[2:] == pytest.approx(left)


def test_equity_of_exactly_zero_is_bankrupt():
    price = column(100, 100, 200, 50)
    books = account(price, price, column(nan, -1, nan, nan), 1_000)
    assert books.bankrupt_at == 2 and books.equity[2:].tolist() == [0, 0]


def align_targets(target, open_, *rest, **options):
    return take_decisions(target, align_decisions(target, open_, *rest, **options))


def naive_alignment(target, open_, delay, earliest):
    "Bar after bar: of the decisions whose turn has come, the newest; none that is older than one before."
    orders, done = np.full(open_.shape, nan), np.full(open_.shape[1], -1)
    for u, a in np.ndindex(*open_.shape):
        for t in range(u):
            bars = [b for b in range(max(t + 1, int(earliest[t, a])), len(open_)) if not np.isnan(open_[b, a])]
            if not np.isnan(target[t, a]) and bars[delay : delay + 1] == [u] and t > done[a]:
                orders[u, a], done[a] = target[t, a], t
    return orders


@moderate
@given(cases(), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_alignment(case, delay, seed):
    after = np.arange(len(case.open))[:, None] + np.ones_like(case.open)
    expected = naive_alignment(case.target, case.open, delay, after)
    np.testing.assert_array_equal(align_targets(case.target, case.open, delay), expected)
    late = after + np.random.default_rng(seed).integers(-2, 4, after.shape)  # known before its bar was over: no earlier
    expected = naive_alignment(case.target, case.open, delay, late)
    np.testing.assert_array_equal(align_targets(case.target, case.open, delay, late), expected)


def test_a_decision_that_was_known_late_does_not_undo_a_newer_one():
    prices, decided = column(*[1] * 6), column(0.5, 0.2, nan, nan, 0.9, nan)
    late = column(4, 2, nan, nan, 6, nan)
    np.testing.assert_array_equal(align_targets(decided, prices, earliest=late), column(nan, nan, 0.2, nan, nan, nan))


def test_alignment_of_the_last_bar_stays_unfilled():
    assert np.isnan(align_targets(column(nan, nan, 1), column(1, 1, 1))).all()


ok = column(1, 2)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"open": column(1, 0)}, DataError, "open is not a finite positive price at bar 1, asset 0"),
        ({"close": column(-1, 1)}, DataError, "close is not a finite positive price at bar 0, asset 0"),
        ({"close": column(1, np.inf)}, DataError, "bar 1, asset 0"),
        ({"open": column(1, nan)}, DataError, "Half a bar"),
        ({"target": column(0, -np.inf)}, DataError, "target is infinite at bar 1"),
        ({"target": column(0)}, InputError, "one time grid"),
        ({"open": ok[:, 0]}, InputError, "(bars, assets)"),
        ({"open": np.empty((0, 1))}, InputError, "(bars, assets)"),
        ({"fees": -0.1}, InputError, "fees=-0.1"),
        ({"fees": nan}, InputError, "fees=nan"),
        ({"slippage": 1.0}, InputError, "slippage=1.0"),
        ({"fixed_fees": np.inf}, InputError, "fixed_fees=inf"),
        ({"initial_cash": 0}, InputError, "initial_cash=0"),
        ({"initial_cash": nan}, InputError, "initial_cash=nan"),
    ],
)
def test_bad_input_is_refused(change, error, words):
    with pytest.raises(error) as caught:
        account(**({"open": ok, "close": ok, "target": ok * 0} | change))
    assert words in str(caught.value)
    assert type(caught.value) is error


def test_negative_delay_is_refused():
    with pytest.raises(InputError, match="delay=-1"):
        align_targets(ok, ok, -1)


def test_input_is_not_changed():
    open_, target = column(1, 2, 3), column(nan, 1, 0)
    before = open_.copy(), target.copy()
    account(open_, open_, target, fees=0.01)
    align_targets(target, open_)
    np.testing.assert_array_equal(open_, before[0])
    np.testing.assert_array_equal(target, before[1])
