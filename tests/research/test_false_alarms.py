"""Nothing of the package is taken for a leak: all of it on all bundled and all shared data, gates and live replay.

The gates pass over the package's own components; here they may not. A small part runs every day, all of it in
`make test-all`. The order books of the shared data are left out: nothing makes bars of them.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from support.plans import kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.components import list_components
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import Dataset, DatasetId
from algo_research.data.market.instruments import Instrument
from algo_research.data.market.trades import make_trades, time_bars
from algo_research.data.quality.score import QualitySettings
from algo_research.data.samples.bundled import load_index, load_stocks
from algo_research.features.gates import LeakError
from algo_research.features.indicators import CATALOGUE, feature_set
from algo_research.models.contract import MODELS
from algo_research.research import judge, replay
from algo_research.research.road import research
from algo_research.strategies.protocol import STRATEGIES, StateError
from algo_research.strategies.rules import MovingAverage

pytestmark = pytest.mark.process

ALL = [feature.name for feature in CATALOGUE]
WALKS = {  # every strategy, and every model with every feature
    **{name: {"strategy": name} for name in ("buy_and_hold", "moving_average")},
    **{name: {"strategy": "model", "model": name, "features": ALL} for name in ("lightgbm", "linear")},
}
STOCKS = {"calendar": "XNYS", "kind": "equity"}
FILES = {
    "btc_usd_1h_2018_2022.csv.gz": {},
    "btc_perp_1m_2022_01.csv.gz": {"kind": "perpetual"},
    "eth_btc_5m.feather": {},
    "ltc_btc_5m.feather": {},
}
DJ30 = ("dj30_1d_valid.csv.gz", "dj30_1d_test.csv.gz")  # a year each, and too short alone
TOO_SHORT = {"dj30"}  # for the longest memories: the gates want more rows than that
NO_BARS = {"binance_spot_btcusdt_l2_20240808.gz", "binance_usdm_btcusdt_l2_20240808.gz"}
BUNDLED = {
    "SP500": lambda: load_index("SP500"),
    "NASDAQ": lambda: load_index("NASDAQ"),
    "SP500-20": load_stocks,
}


def of_trades(file: Path) -> Dataset:
    raw = pl.read_ipc(file).select(pl.from_epoch("timestamp", "ms").alias("ts"), "price", "amount", "side", "id")
    bars = time_bars(make_trades(raw, "XRP-ETH"), "1m").bars
    return Dataset(DatasetId("shared", "XRP-ETH", "1m"), bars, Instrument("XRP-ETH", "shared", "spot"))


def of_years(files: list[Path]) -> Dataset:
    years = [import_file(file, **STOCKS).dataset for file in files]
    return replace(years[0], bars=pl.concat([year.bars for year in years]).sort("symbol", "ts"))


def loaded(name: str, request) -> Dataset:
    if name in BUNDLED:
        return BUNDLED[name]()
    folder = request.getfixturevalue("shared_data")
    if name == "dj30":
        return of_years([folder / file for file in DJ30])
    return of_trades(folder / name) if "trades" in name else import_file(folder / name, **FILES[name]).dataset


@pytest.fixture(autouse=True)
def _as_if_written_by_others(monkeypatch):
    """The gates for what is one's own hold for all."""
    monkeypatch.setattr(judge, "CATALOGUE", ())
    monkeypatch.setattr(judge, "_is_own", lambda strategy: True)


def carried(dataset: Dataset) -> list[str]:
    """Features whose memory leaves a hundred rows."""
    longest = dataset.bars["symbol"].value_counts()["count"].max()
    return [name for name in ALL if feature_set((name,)).memory + 100 <= longest]


def walked(dataset: Dataset, walk: str, moments: int) -> list[str]:
    told = {"datasets": [str(dataset.id)], "reserve": 0, "folds": 3, **WALKS[walk]}
    if "features" in told:
        told["features"] = carried(dataset)
    steps = []
    research(
        dataset,
        kernel_plan(**told),
        TrialLedger(),
        quality=QualitySettings(force=True),
        tell=lambda step, text: steps.append(step),
        limits=replay.ReplayLimits(moments=moments),
    )
    return steps


def test_every_component_walks():
    assert set(WALKS) == {c.name for kind in (STRATEGIES, MODELS) for c in list_components(kind)} - {"model"}


def test_every_shared_file_is_walked(shared_data):
    found = {path.name for path in shared_data.iterdir() if path.is_file()}
    assert found <= {*FILES, *DJ30, *NO_BARS, "xrp_eth_trades.feather"}


@pytest.mark.long
@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", [*BUNDLED, "dj30", *FILES, "xrp_eth_trades.feather"])
def test_no_false_alarm(name, walk, request):
    dataset = loaded(name, request)
    assert (carried(dataset) == ALL) is (name not in TOO_SHORT)
    assert {"gates", "replay", "verdict"} <= set(walked(dataset, walk, moments=1500))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "walk"), [("SP500", "linear"), ("SP500-20", "moving_average")])
def test_no_false_alarm_on_the_last_bars(name, walk, request):
    dataset = loaded(name, request)
    moments = dataset.bars["ts"].unique().sort()
    recent = replace(dataset, bars=dataset.bars.filter(pl.col("ts") >= moments[-1500]))
    assert {"gates", "replay", "verdict"} <= set(walked(recent, walk, moments=200))


def early(self, frame, state=None):
    """Long where the next close is higher."""
    higher = (pl.col("close").shift(-1) > pl.col("close")).cast(pl.Float64).over("symbol")
    return frame.select("symbol", "ts", "known_at", target=higher), None


@pytest.mark.slow
def test_the_gates_hold_for_the_packages_own_here(monkeypatch):
    """If this fails, the walks above could not see what they are there for."""
    monkeypatch.setattr(MovingAverage, "targets", early)
    with pytest.raises(StateError, match="moving_average is not determined"):
        walked(load_index("SP500"), "moving_average", moments=200)
    monkeypatch.setattr(judge, "require_stateful", lambda *given: None)
    with pytest.raises(LeakError, match="moving_average"):
        walked(load_index("SP500"), "moving_average", moments=200)
