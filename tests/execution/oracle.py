"""The accounting once more, slow and plain: written from the specification, sharing no code with the kernel."""

import math
from math import isclose, isnan


def same(a, b):
    return isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def net(amount, change):
    "What is left after a change: nothing when the two cancel."
    return 0.0 if same(amount, -change) else amount + change


def execute(cash, wanted, open_, fees, fixed_fees, slippage):
    "Quantity, price and fee of an order, or None."
    if same(wanted, 0):
        return None
    if wanted < 0:
        price = open_ * (1 - slippage)
        fee = -wanted * price * fees + fixed_fees
        return None if -wanted * price < fee and not same(-wanted * price, fee) else (wanted, price, fee)
    price = open_ * (1 + slippage)
    cost = wanted * price
    fee = cost * fees + fixed_fees
    if cost + fee <= cash or same(cost + fee, cash):
        return wanted, price, fee
    spendable = net(cash, -fixed_fees) / (1 + fees)
    return (spendable / price, price, cash - spendable) if spendable > 0 else None


def account(open_, close, target, initial_cash, fees=0.0, fixed_fees=0.0, slippage=0.0):
    "The books as a dict of lists; arrays come in as lists of rows."
    cash = equity = initial_cash
    held, last_close, bankrupt_at = {}, {}, -1
    books = {"cash": [], "position": [], "equity": [], "fills": []}

    def book(bar, asset, quantity, price, reference, fee):
        nonlocal cash
        cash = net(cash, -(quantity * price + fee))
        held[asset] = net(held.get(asset, 0.0), quantity)
        books["fills"].append(
            {
                "bar": bar,
                "asset": asset,
                "quantity": quantity,
                "price": price,
                "reference_price": reference,
                "fee": fee,
                "slippage_cost": abs(quantity) * abs(price - reference),
            }
        )

    for bar in range(len(open_)):
        assets = range(len(open_[bar]))
        if bankrupt_at < 0:
            orders = []
            for asset in assets:
                if asset in last_close and not isnan(open_[bar][asset]) and not isnan(target[bar][asset]):
                    worth = target[bar][asset] * equity
                    has = held.get(asset, 0.0)
                    orders.append((worth - has * last_close[asset], asset, worth / last_close[asset] - has))
            for _, asset, wanted in sorted(orders):
                fill = execute(cash, wanted, open_[bar][asset], fees, fixed_fees, slippage)
                if fill:
                    quantity, price, fee = fill
                    book(bar, asset, quantity, price, open_[bar][asset], fee)
            for asset in assets:
                if not isnan(close[bar][asset]):
                    last_close[asset] = close[bar][asset]
            equity = sum((held[asset] * last_close[asset] for asset in sorted(held) if held[asset]), start=cash)
            if equity <= 0:
                for asset in sorted(held):
                    if held[asset]:
                        quantity, price = -held[asset], last_close[asset]
                        paid = price * (1 + math.copysign(slippage, quantity))
                        book(bar, asset, quantity, paid, price, abs(quantity) * paid * fees + fixed_fees)
                equity, bankrupt_at = cash, bar
        books["cash"].append(cash)
        books["equity"].append(equity)
        books["position"].append([held.get(asset, 0.0) for asset in assets])
    return books | {"bankrupt_at": bankrupt_at}
