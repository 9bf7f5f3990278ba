"""What a sync asks for after repairs: what they took out stays out, and nothing else is lost."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from algo_research.core.clock import SimulatedClock
from algo_research.data.intake.ingest import find_holes, plan_sync, sync
from algo_research.data.market.bars import Dataset, DatasetId, timeframe_duration
from algo_research.data.market.instruments import Instrument
from algo_research.data.quality.repairs import apply_repairs, propose_repairs
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.delta import DeltaStore
from algo_research.data.venues.exchanges import PAGE_SCHEMA, Answers

MARKET = make_market("noise", 3, bars=400, timeframe="4h")
STEP = timedelta(hours=4)
TS = MARKET.bars["ts"]


class Source:
    """Tells bars, and lacks some."""

    venue, timeframes = "demo", ["1h", "4h"]

    def __init__(self, bars=MARKET.bars, lacks=()):
        self.told = bars.filter(~pl.col("ts").is_in(pl.Series(list(lacks), dtype=TS.dtype).implode())).select(
            list(PAGE_SCHEMA)
        )
        self.clock = SimulatedClock(bars["known_at"].max() + timedelta(minutes=1))

    def now(self):
        return self.clock.now()

    def instrument(self, symbol):
        return Instrument("X", "demo", "spot")

    def answers(self, symbol, timeframe):
        return Answers(page=500)

    def bars(self, symbol, timeframe, start, limit):
        return self.told.filter(pl.col("ts") >= start).head(limit)


def dataset(bars=MARKET.bars, **more) -> Dataset:
    return Dataset(
        DatasetId("demo", "X", "4h"), bars.with_columns(symbol=pl.lit("X")), Instrument("X", "demo", "spot"), **more
    )


def synced(store, source, timeframe="4h"):
    return sync(plan_sync(source, store, "X", timeframe, source.clock, since=TS[0]), source, store, source.clock)


def at(*numbers) -> pl.Expr:
    return pl.int_range(pl.len()).is_in(numbers)


@pytest.fixture
def store(tmp_path):
    return DeltaStore(tmp_path)


def test_a_segment_that_was_moved_back_hides_no_hole(store):
    """Its old times lie beside the grid, and two of its bars never came."""
    shift = pl.when(at(*range(100, 130))).then(timedelta(hours=1)).otherwise(timedelta(0))
    shifted = dataset().bars.with_columns(pl.col("ts") + shift, pl.col("known_at") + shift).filter(~at(110, 111))
    repaired = apply_repairs(dataset(shifted), propose_repairs(dataset(shifted)))
    assert repaired.removed == () and "time shifted" in repaired.notes[0]
    store.write(repaired)
    assert str(synced(store, Source())) == "demo/X/4h: 2 new bars"
    assert store.read(repaired.id).bars.equals(dataset().bars)


def test_times_beside_the_grid_are_in_nobodys_place():
    hours = pl.Series([TS[0] + i * STEP for i in range(6)])
    beside = pl.concat([hours[:2], hours[2:4] + timedelta(hours=1), hours[4:]])
    assert find_holes(beside, TS[0], TS[0] + 6 * STEP, STEP) == [(hours[2], hours[4])]


def test_each_repair_adds_to_what_was_taken_out(store):
    tripled = dataset().bars.with_columns(
        pl.when(at(150, 151, 300)).then(pl.col(c) * 3).otherwise(c) for c in ("open", "high", "low", "close")
    )
    once = apply_repairs(dataset(tripled), propose_repairs(dataset(tripled)).filter(pl.col("first") < TS[200]))
    twice = apply_repairs(once, propose_repairs(once))
    assert once.removed == (("X", TS[150], TS[151]),) and twice.removed == (*once.removed, ("X", TS[300], TS[300]))
    store.write(twice, replace=True)
    assert "3 left out since a repair" in str(synced(store, Source(tripled)))
    assert store.read(twice.id).bars.equals(dataset().bars.filter(~at(150, 151, 300)))


def test_a_page_with_nothing_but_what_was_taken_out(store):
    """The source lacks the bars on both sides."""
    store.write(dataset(MARKET.bars.filter(~at(5, 6, 7)), removed=(("X", TS[6], TS[6]),)))
    assert (
        str(synced(store, Source(lacks=[TS[5], TS[7]])))
        == "demo/X/4h: 0 new bars, 2 hole(s) at the source, 1 left out since a repair"
    )


def test_what_is_there_again_is_looked_after(store):
    """Somebody stored a bar where a repair had taken one out: it is the newest, and is revised like any other."""
    store.write(dataset(MARKET.bars[:-1], removed=(("X", TS[-1], TS[-1]),)))
    store.write(dataset(MARKET.bars[-1:].with_columns(volume=pl.lit(1.0))))
    assert store.read("demo/X/4h").removed_times("X").to_list() == []
    assert str(synced(store, Source())) == "demo/X/4h: 0 new bars, 1 revised"
    assert store.read("demo/X/4h").bars.equals(dataset().bars)


def test_an_import_brings_nothing_back(store):
    store.write(
        dataset(MARKET.bars.filter(~at(5))[:300], removed=(("X", TS[5], TS[5]),), notes=("a repair",)), replace=True
    )
    store.write(dataset(MARKET.bars[300:350]))
    assert store.read("demo/X/4h").removed and store.read("demo/X/4h").notes == ()
    assert str(synced(store, Source())) == "demo/X/4h: 50 new bars, 1 left out since a repair"
    store.write(dataset(), replace=True)
    assert store.read("demo/X/4h").removed == ()


def test_coarser_bars_know_nothing_of_finer_ones_that_were_taken_out(store):
    hours = make_market("noise", 3, bars=1600, timeframe="1h").bars
    fine = replace(
        dataset(hours.filter(~at(5))), id=DatasetId("demo", "X", "1h"), removed=(("X", hours["ts"][5], hours["ts"][5]),)
    )
    store.write(fine)
    coarse = store.resample(fine.id, "4h")
    assert coarse.removed == () and coarse.id.timeframe == "4h" and timeframe_duration("4h") == STEP
