"""`algo data rename`: one market under two names, shown first, joined, and synced on."""

import re
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from support.command import algo, files

from algo_research.data.market.bars import PRICES, DatasetId, resample_bars
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.market import symbols_of

MARKET = make_market("garch", seed=1, bars=1500, timeframe="1m", volatility=0.001)
OLD, NEW = DatasetId("sandbox", "LEND-USDT", "5m"), DatasetId("sandbox", "GARCH1-USDT", "5m")


@pytest.fixture(scope="module")
def exchange():
    now = MarketTime(MARKET.bars["ts"][-1] + timedelta(seconds=30), speed=0)
    with running(Exchange(symbols_of([MARKET]), now)) as served:
        yield served


@pytest.fixture
def workspace(tmp_path, exchange):
    """A market that is synced from its new name's first day on, and one that is stored from before, in cents of it."""
    (tmp_path / "settings.ini").write_text("")
    whole = resample_bars(MARKET.bars, "1m", "5m").head(299)  # the last one is open still
    before = whole.head(150).with_columns(
        pl.col(PRICES) / 100, symbol=pl.lit("LEND-USDT"), volume=pl.col("volume") * 100
    )
    instrument = replace(MARKET.instrument, symbol="LEND-USDT", venue="sandbox", quote="USDT")
    store = open_store(f"delta://{tmp_path}/.algo/store")
    store.write(replace(MARKET, id=OLD, bars=before, instrument=instrument, notes=()))
    wanted = ["data", "sync", "GARCH1/USDT", "--exchange", "sandbox", "--url", exchange.url, "--timeframe", "5m"]
    algo(tmp_path, *wanted, "--since", f"{whole['ts'][140]:%Y-%m-%dT%H:%M}")
    return tmp_path, store, whole, wanted


@pytest.mark.process
def test_a_rename_is_shown_done_and_synced_on(workspace):
    folder, store, whole, wanted = workspace
    day = f"{whole['ts'][145]:%Y-%m-%dT%H:%M:%S}"
    command = ["data", "rename", str(OLD), str(NEW), "--on", day]
    before = files(folder)
    shown = " ".join(algo(folder, *command, "--units", "100").stdout.split())
    assert (
        "145 bars, last close" in shown
        and "of 2015-01-01 12:00" in shown
        and "5 bars of sandbox/GARCH1-USDT/5m from before" in shown
    )
    assert files(folder) == before
    told = shown[shown.index("algo data rename") :].split()[1:]
    assert "LEND-USDT/5m stays as it is" in " ".join(algo(folder, *told).stdout.split())
    assert "there is nothing to do" in algo(folder, *told).stdout
    joined = store.read(NEW)
    assert joined.bars.height == 299 and joined.bars["ts"].equals(whole["ts"])
    for column in (*PRICES, "volume"):
        assert joined.bars[column].to_list() == pytest.approx(whole[column].to_list(), rel=1e-3)  # the venue rounds
    assert store.read(OLD).bars.height == 150
    assert ": 0 new bars" in algo(folder, *wanted).stdout
    assert "formerly LEND-USDT until 2015-01-01, 100 of it for one" in algo(folder, "data", "show", str(NEW)).stdout
    change = store.read(NEW).instrument.history[0]
    assert (change.symbol, change.units, change.until) == ("LEND-USDT", 100, whole["ts"][145])


@pytest.mark.process
def test_a_rename_that_cannot_be_is_refused(workspace):
    folder, _, whole, _ = workspace
    before = files(folder)
    for options, answer in (
        ([str(OLD), str(NEW), "--on", "2030-01-01"], "has no bars on its side of 2030-01-01"),
        ([str(OLD), str(NEW), "--on", f"{whole['ts'][145]:%Y-%m-%dT%H:%M:%S}", "--units", "0"], "a positive number"),
        ([str(OLD), "sandbox/NEW/5m", "--on", "2015-01-01"], "Unknown dataset"),
    ):
        refused = algo(folder, "data", "rename", *options, "--yes", code=2)
        assert answer in " ".join((refused.stdout + refused.stderr).split())
    assert files(folder) == before


@pytest.mark.process
@pytest.mark.parametrize("units", ["1", "0.01", "20.0625"])
def test_units_that_the_prices_contradict_are_refused(workspace, units):
    """Whatever was typed, the prices say the same; a jump that was traded is said to be one."""
    folder, store, whole, _ = workspace
    command = ["data", "rename", str(OLD), str(NEW), "--on", f"{whole['ts'][145]:%Y-%m-%dT%H:%M:%S}", "--units", units]
    before = files(folder)
    for yes in ([], ["--yes"]):
        refused = algo(folder, *command, *yes, code=2)
        said = " ".join((refused.stdout + refused.stderr).split())
        times = float(
            re.search(rf"--units {units} the prices of {NEW} begin at ([\d.,]+) times", said)[1].replace(",", "")
        )
        assert times * float(units) == pytest.approx(100, rel=0.01)
        assert "of LEND-USDT for one: say --units 100." in said and f"say --units {units} --jump" in said
    assert files(folder) == before
    shown = " ".join(algo(folder, *command, "--jump").stdout.split())
    assert f"--units {units} --jump --yes" in shown and files(folder) == before
    algo(folder, *shown[shown.index("algo data rename") :].split()[1:])
    last = whole["close"][144] / 100 * float(units)
    assert store.read(NEW).bars["close"][144] == pytest.approx(last, rel=1e-3)
    assert "the price jumped, " in store.history(NEW)["reason"][-1]
