"""One market under many names: a small part of `make rates`, and what must fail when it is undone."""

from dataclasses import replace
from datetime import timedelta

import many_names
import numpy as np
import polars as pl
import pytest

from algo_research.backtest import ledger as ledgers
from algo_research.backtest.ledger import TrialLedger
from algo_research.data.market.bars import Dataset
from algo_research.data.samples.synthetic import make_market


@pytest.mark.slow
def test_rules_under_30_names_are_trials_of_one_market_and_the_best_is_no_edge():
    found = many_names.best_of(0, 30, TrialLedger())
    assert (found.trials, found.families, found.edge) == (30, 1, False)


@pytest.mark.slow
def test_without_recognition_every_name_is_a_market_of_its_own(monkeypatch):
    """If this fails, the counts above could not see what they are there for."""
    monkeypatch.setattr(ledgers, "recognise", lambda *given: [])
    found = many_names.best_of(0, 3, TrialLedger())
    assert (found.trials, found.families) == (1, 3)


def late(dataset: Dataset, hours: int) -> Dataset:
    return replace(dataset, bars=dataset.bars.with_columns(pl.col("ts", "known_at") + timedelta(hours=hours)))


def in_a_basket(dataset: Dataset, other: pl.DataFrame) -> Dataset:
    """Half of another market in it."""
    bars = dataset.bars.with_columns((pl.col(c) + 0.5 * other[c]).alias(c) for c in ("open", "close"))
    return replace(dataset, bars=bars.with_columns(high=pl.max_horizontal("open", "close"), low=1e-3))


def test_families_are_what_they_are_when_every_name_is_compared(monkeypatch):
    """Windows, late labels, two markets in turn and a basket of both."""
    rng, (one, two) = np.random.default_rng(0), (make_market("garch", seed, bars=2000) for seed in (1, 2))
    met = [many_names.disguised((one, two)[n % 2], n, rng) for n in range(10)]
    met = [late(d, hours=n % 3) for n, d in enumerate(met)]
    met.append(many_names.disguised(in_a_basket(one, two.bars), 99, rng))

    def families() -> tuple[list[dict[str, int]], int]:
        ledger = TrialLedger()
        for dataset in met:
            ledger.meet(dataset)
        named = [(str(d.id), d.snapshot().content) for d in met]
        found = [dict(ledgers._family(ledger._connection, *name).contents) for name in named]
        return found, ledger._rows("SELECT COUNT(*) FROM kin")[0][0]

    quick, few = families()
    monkeypatch.setattr(ledgers, "_markets", lambda db: {})
    every, many = families()
    assert quick == every and few < many
    assert {len(family) for family in every} == {6, 11}
