"""Random markets and targets for the accounting tests."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st


@dataclass(frozen=True)
class Case:
    open: np.ndarray
    close: np.ndarray
    target: np.ndarray
    initial_cash: float
    costs: dict

    @property
    def args(self):
        return self.open, self.close, self.target, self.initial_cash


RANGE = {"long": (0, 0.5), "long-short": (-0.6, 0.6), "cash-bound": (0.2, 1.5), "leveraged": (-2, 2)}


def random_prices(rng, bars, assets, gaps=0.0, volatility=0.02):
    "Opens and closes of random walks; `gaps` is the share of bars that are missing."
    walk = rng.normal(0, volatility, (bars, assets)).cumsum(0)
    close = rng.choice([0.05, 3.0, 250.0, 40_000.0], assets) * np.exp(walk)
    open_ = close * np.exp(rng.normal(0, volatility / 2, close.shape))
    missing = rng.random(close.shape) < gaps
    return np.where(missing, np.nan, open_), np.where(missing, np.nan, close)


def random_targets(rng, shape, kind="long-short", density=0.5, flat=0.1):
    "Targets of one kind; `density` of them given, `flat` of these zero."
    target = rng.uniform(*RANGE[kind], shape)
    if rng.random() < 0.3:
        target = target.round(1)  # equal targets: ties in the order of execution
    target[rng.random(shape) < flat] = 0
    return np.where(rng.random(shape) < density, target, np.nan)


@st.composite
def cases(draw, kinds=tuple(RANGE), free=False):
    "A random market with targets, cash and costs."
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bars, assets = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    gaps, volatility = draw(st.sampled_from([0, 0, 0.3])), draw(st.sampled_from([0, 0.01, 0.1]))
    open_, close = random_prices(rng, bars, assets, gaps, volatility)
    target = random_targets(rng, close.shape, draw(st.sampled_from(kinds)), draw(st.sampled_from([0.1, 0.5, 1.0])))
    costs = {
        "fees": draw(st.sampled_from([0.0, 0.0005, 0.02])),
        "fixed_fees": draw(st.sampled_from([0.0, 0.01, 20.0])),
        "slippage": draw(st.sampled_from([0.0, 0.0005, 0.02])),
    }
    cash = draw(st.sampled_from([100.0, 10_000.0, 12_345_678.9]))
    return Case(open_, close, target, cash, dict.fromkeys(costs, 0.0) if free else costs)
