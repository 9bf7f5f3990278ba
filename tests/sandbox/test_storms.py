"""Syncing from an exchange that fails in every way it can, with processes that are killed:
nothing is lost, nothing is invented. The full size is benchmarks/storm.py.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from storm import RATES, differences, make_markets, storm

from algo_research.data.market.bars import DatasetId
from algo_research.data.stores.base import open_store


@pytest.mark.process
@pytest.mark.slow
def test_everything_goes_wrong_and_every_bar_is_there(tmp_path):
    markets = make_markets(60_000)
    exchange, kills = storm(markets, tmp_path, kills=3, seed=5)
    struck = {kind: exchange.faults.counts[kind] for kind in RATES}
    assert kills == 3 and sum(struck.values()) > 20 and exchange.bans == 0, struck
    assert differences(markets, tmp_path, datetime.fromtimestamp(exchange.time.now() / 1000, UTC)) == []


@pytest.mark.parametrize(
    "spoil, seen",
    [
        (lambda b: b, None),
        (
            lambda b: b.with_columns(
                close=pl.when(pl.int_range(pl.len()) == 50).then(pl.col("close") * 1.000001).otherwise("close")
            ),
            "0 lost, 0 invented, 1 changed",
        ),
        (lambda b: b.filter(pl.int_range(pl.len()) != 50), "1 lost, 0 invented"),
        (
            lambda b: pl.concat([b, b[-1:].with_columns(pl.col("ts", "known_at") + timedelta(minutes=1))]),
            "0 lost, 1 invented",
        ),
    ],
)
def test_the_comparison_sees_what_it_must(spoil, seen, tmp_path):
    (market,) = make_markets(400)[:1]
    open_store("delta://store", tmp_path).write(
        replace(market, id=DatasetId("sandbox", market.id.symbol, "1m"), bars=spoil(market.bars))
    )
    found = differences([market], tmp_path, market.bars["known_at"].max())
    assert found == [] if seen is None else seen in found[0]
