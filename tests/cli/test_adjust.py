"""`algo data adjust --from-finding`: the splits that are still in the prices, shown before they are taken out."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from support.command import SETTINGS, algo, files
from support.levels import scaled

from algo_research.data.market.bars import Dataset, DatasetId
from algo_research.data.market.equities import load_actions
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store

N = pl.int_range(pl.len())
ID = DatasetId("mine", "AAA", "1h")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").write_text(SETTINGS)
    return tmp_path


def market(ratio: float = 4.0, shares: float | None = None, seed: int = 3) -> Dataset:
    whole = replace(make_market("garch", seed, bars=1500), id=ID, notes=())
    whole = replace(whole, bars=whole.bars.with_columns(symbol=pl.lit("AAA")))
    return scaled(whole, N >= 900, ratio, ratio if shares is None else shares)


def store_of(folder):
    return open_store(f"delta://{folder}/.algo/store")


def test_a_preview_changes_nothing_and_yes_does_it(workspace):
    raw = market()
    store_of(workspace).write(raw)
    before = files(workspace)
    shown = algo(workspace, "data", "adjust", str(ID), "--from-finding").stdout
    day = f"{raw.bars['ts'][900]:%Y-%m-%d}"
    assert f"{day} split" in shown and "->" in shown and f"{day}: close 104.895" in " ".join(shown.split())
    assert f"Nothing was stored. Do it: algo data adjust {ID} --from-finding --yes" in shown
    assert files(workspace) == before
    done = algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes").stdout
    assert "mine/AAA-split/1h, version 0" in done and "The raw ones stay as they are" in done
    adjusted = store_of(workspace).read("mine/AAA-split/1h")
    true = make_market("garch", 3, bars=1500).bars
    np.testing.assert_allclose(adjusted.bars["close"], true["close"] / 4, rtol=1e-4)
    assert adjusted.adjustment == "split" and f"as found in the bars: AAA 4 on {day}" in adjusted.notes[-1]
    assert store_of(workspace).read(ID).bars.equals(raw.bars)
    said = " ".join(algo(workspace, "data", "history", "mine/AAA-split/1h").stdout.split())
    assert "adjusted (split) for 1 splits" in said and f"AAA 4 on {day}" in said
    assert f"AAA 4 on {day}" in " ".join(algo(workspace, "data", "show", "mine/AAA-split/1h").stdout.split())
    assert "fit for research" in algo(workspace, "data", "check", "mine/AAA-split/1h").stdout
    algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes")  # a second time nothing is new
    assert store_of(workspace).versions("mine/AAA-split/1h") == [0]


def test_what_a_file_said_is_kept_beside_what_is_found(workspace):
    """A split that was given is not applied twice, and a dividend stays known."""
    raw = market()
    store_of(workspace).write(raw)
    day, later = raw.bars["ts"][900], raw.bars["ts"][1300]
    lines = [f"AAA,{day:%Y-%m-%d},split,4", f"AAA,{later:%Y-%m-%d},dividend,0.1"]
    (workspace / "a.csv").write_text("\n".join(["symbol,date,kind,value", *lines]) + "\n")
    refused = " ".join(algo(workspace, "data", "adjust", str(ID), "--actions", "a.csv", code=None).stderr.split())
    moment = re.search(r"in a column ex: (\S+)\.$", refused)[1]  # the day begins at midnight, and the split did not
    lines = [f"AAA,{moment},split,4", f"AAA,{later:%Y-%m-%dT%H:%M:%SZ},dividend,0.1"]
    (workspace / "a.csv").write_text("\n".join(["symbol,ex,kind,value", *lines]) + "\n")
    algo(workspace, "data", "adjust", str(ID), "--actions", "a.csv")
    algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes")
    split, total = (store_of(workspace).read(f"mine/AAA-{to}/1h") for to in ("split", "total"))
    assert "2 splits" not in split.notes[-1] and "1 splits" in split.notes[-1]
    ratio = total.bars["close"][0] / split.bars["close"][0]
    assert 0.99 < ratio < 1.0
    assert load_actions(workspace / ".algo" / "actions", "mine", ["AAA"])["kind"].to_list() == ["split", "dividend"]


def test_a_redenomination_leaves_volumes_alone(workspace):
    raw = market(1e-3, shares=1.0)
    store_of(workspace).write(raw)
    assert "redenomination" in algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes").stdout
    adjusted = store_of(workspace).read("mine/AAA-split/1h")
    assert adjusted.bars["volume"].equals(raw.bars["volume"])
    assert adjusted.bars["close"].max() / adjusted.bars["close"].min() < 10


def test_adjusted_prices_that_break_are_mended_under_another_name(workspace):
    store_of(workspace).write(replace(market(), adjustment="total"))
    assert "adjusted prices break" in algo(workspace, "data", "check", str(ID)).stdout
    done = algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes").stdout
    assert "mine/AAA-mended/1h" in done and "Those of before stay" in done
    mended = store_of(workspace).read("mine/AAA-mended/1h")
    assert mended.adjustment == "total" and "as found in the bars" in mended.notes[-1]
    assert "fit for research" in algo(workspace, "data", "check", "mine/AAA-mended/1h").stdout
    assert not (workspace / ".algo" / "actions").exists()  # they are none of the raw bars'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--from-finding", "--actions", "a.csv"], "Leave one of them out"),
        (["--from-finding", "--to", "total"], "Use --to split"),
        (["--yes"], "Leave --yes out"),
        (["--from-finding", "--id", "mine/AAA/1h"], "Choose another id"),
    ],
)
def test_options_that_do_not_go_together_are_refused(workspace, options, words):
    store_of(workspace).write(market())
    (workspace / "a.csv").write_text("symbol,date,kind,value\n")
    refused = algo(workspace, "data", "adjust", str(ID), *options, code=2).stderr
    assert words in " ".join(refused.split())


def test_where_nothing_is_sure_nothing_is_adjusted(workspace):
    """The way in is the file, whose columns are named."""
    for dataset in (make_market("garch", 3, bars=1500), market(5.0, shares=1.0)):
        store_of(workspace).write(replace(dataset, id=ID), replace=True)
        refused = algo(workspace, "data", "adjust", str(ID), "--from-finding", code=2).stderr
        assert "No split or redenomination" in refused and "--actions FILE.csv" in " ".join(refused.split())
    assert [str(dataset) for dataset in store_of(workspace).datasets()] == [str(ID)]


@pytest.mark.process
@pytest.mark.long
def test_research_refuses_raw_prices_with_a_split_and_takes_the_adjusted_ones(workspace):
    """Forced, its report says what the prices are."""
    store_of(workspace).write(market())
    rule = ["--strategy", "moving_average"]
    refused = " ".join(algo(workspace, "research", str(ID), *rule, code=1).stdout.split())
    assert "4:1 split" in refused and f"algo data adjust {ID} --from-finding" in refused
    forced = algo(workspace, "research", str(ID), *rule, "--set", "quality.force=true").stdout
    assert "split not adjusted: AAA" in " ".join(forced.split()) or any(
        "split not adjusted: AAA" in path.read_text() for path in (workspace / "reports").rglob("notebook.ipynb")
    )
    algo(workspace, "data", "adjust", str(ID), "--from-finding", "--yes")
    assert "dge: " in algo(workspace, "research", "mine/AAA-split/1h", *rule).stdout
