"""The templates run, read one another's artifacts, and keep what the contract between them says."""

from pathlib import Path

import polars as pl
import pytest

from algo_research.core.hashing import hash_frame
from algo_research.data.catalog import load_dataset
from algo_research.data.samples.synthetic import make_market
from algo_research.runs.parameters import find_template, list_templates, resolve_parameters
from algo_research.runs.record import Run, hash_outputs
from algo_research.runs.runner import run_template
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.market import symbols_of
from algo_research.workspace.bootstrap import Workspace, open_workspace

PLANTED = "synthetic/planted:0/1h"
QUICK = {"dataset": PLANTED, "settings": {"research.engine": "kernel", "costs.fees": 0.0001, "costs.slippage": 0.0001}}
EQUITY = ["name", "ts", "known_at", "equity", "return"]
FILLS = ["name", "ts", "symbol", "quantity", "price", "reference_price", "fee", "slippage_cost"]
METRICS = {
    *("total_return", "annual_return", "sharpe", "sharpe_se", "max_drawdown", "turnover", "costs_paid", "fills"),
    *("active_mean", "active_sharpe", "confidence", "pvalue", "trials", "edge"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "settings.ini").write_text("[research]\nreserve = 0.2\n")
    with open_workspace(folder) as opened:
        yield opened


def run(workspace: Workspace, name: str, **given) -> Run:
    template = find_template(name)
    done = run_template(template, resolve_parameters(template, given), workspace)
    assert done.status == "succeeded", done.manifest["error"]
    assert (done.folder / "report.html").stat().st_size > 10_000
    return done


@pytest.fixture(scope="module")
def researched(workspace) -> Run:
    return run(workspace, "research", **QUICK)


@pytest.mark.process
@pytest.mark.slow
def test_research_keeps_what_others_read(researched):
    verdict, equity, folds = (researched.artifact(n) for n in ("verdict", "equity", "folds"))
    assert equity.columns == EQUITY
    assert equity["name"].unique(maintain_order=True).to_list() == [
        "model",
        "moving_average",
        "buy_and_hold",
        "matched_hold",
    ]
    assert researched.artifact("fills").columns == FILLS
    assert researched.artifact("positions").columns == ["ts", "symbol", "quantity", "exposure"]
    assert folds.columns[:5] == ["fold", "train_start", "train_end", "test_start", "test_end"] and {
        "rows_train",
        "rows_test",
        "ic",
    } <= set(folds.columns)
    assert (folds["train_end"] < folds["test_start"]).all()
    assert researched.artifact("ics").columns == ["feature", "ic", "low", "high", "rows"]
    assert set(researched.metrics) == METRICS
    assert {
        "strategy",
        "dataset",
        "periods_per_year",
        "initial_cash",
        "edge",
        "level",
        "sentence",
        "n_trials",
        "n_effective",
        "evidence",
        "costs_doubled",
        "one_bar_late",
        "notes",
        "reserved_from",
        "hashes",
    } <= set(verdict)
    assert verdict["edge"] and verdict["sentence"].startswith("Edge: ") and researched.metrics["edge"] == 1
    assert equity["known_at"].max().isoformat() <= verdict["reserved_from"]


@pytest.mark.process
@pytest.mark.slow
def test_the_report_of_an_edge_says_so(researched):
    html = (researched.folder / "report.html").read_text()
    assert "✔ Edge" in html and "✘ No edge" not in html
    assert "How this was made" in html and researched.manifest["identity"] in html


@pytest.mark.process
@pytest.mark.slow
def test_a_backtest_of_a_runs_predictions_gives_its_result(workspace, researched):
    followed = run(workspace, "backtest", run=researched.id, **QUICK)
    mine, theirs = (
        r.artifact("equity").filter(pl.col("name").is_in(["model", "buy_and_hold", "matched_hold"]))
        for r in (followed, researched)
    )
    assert hash_frame(mine) == hash_frame(theirs)
    assert (
        followed.artifact("verdict")["n_trials"] == researched.artifact("verdict")["n_trials"]
    )  # the same trial counts once
    assert set(followed.metrics) == METRICS

    dearer = run(
        workspace, "backtest", run=researched.id, **{**QUICK, "fees": 0.004, "settings": {"research.engine": "kernel"}}
    )
    assert dearer.artifact("verdict")["n_trials"] == researched.artifact("verdict")["n_trials"] + 1
    assert dearer.metrics["total_return"] < followed.metrics["total_return"]

    compared = run(workspace, "compare", runs=[researched.id, followed.id, dearer.id])
    table = compared.artifact("comparison")
    assert sorted(table["run"]) == sorted([researched.id, followed.id, dearer.id])
    assert table["run"][-1] == dearer.id  # the least confident comes last
    assert (table["trials"] >= table["trials_then"]).all()


@pytest.mark.process
@pytest.mark.slow
def test_predictions_are_refused_for_another_dataset(workspace, researched):
    template = find_template("backtest")
    done = run_template(
        template, resolve_parameters(template, {"run": researched.id, "dataset": "arch/SP500/1d"}), workspace
    )
    assert done.status == "failed" and done.manifest["error"]["step"] == "data"
    assert f"Pass dataset={PLANTED}" in done.manifest["error"]["message"]
    html = (done.folder / "report.html").read_text()
    assert "This run failed in the step “data”" in html and f"Pass dataset={PLANTED}" in html


@pytest.mark.process
@pytest.mark.slow
def test_an_ingested_file_can_be_looked_at_and_trained_on(workspace):
    file = workspace.settings.path("mine.csv")
    bars = make_market("planted", seed=5, bars=2500, strength=0.2).bars
    bars.drop("symbol", "known_at").write_csv(file)
    stored = run(workspace, "ingest", file="mine.csv")
    assert stored.metrics["new"] == 2500 and load_dataset("file/mine/1h", workspace.store).bars.height == 2500
    assert run(workspace, "ingest", file="mine.csv").metrics["same"] == 2500  # it has effects, so it is never skipped

    looked = run(workspace, "features", dataset="file/mine/1h")
    assert looked.artifact("features").height == 2000  # a fifth is reserved
    assert looked.metrics["clear"] >= 1

    trained = run(workspace, "train", dataset="file/mine/1h")
    assert Path(trained.folder / "artifacts" / "model.txt").read_text().startswith("tree")
    about = trained.artifact("model.json")
    assert len(about["features"]) == trained.artifact("importance").height and trained.artifact("importance")[
        "gain"
    ].sum() == pytest.approx(1)
    assert run(workspace, "backtest", dataset="file/mine/1h", run=trained.id).artifact("verdict")["strategy"] == "model"


@pytest.mark.process
@pytest.mark.slow
def test_another_workspace_gives_the_same_outputs(researched, tmp_path):
    (tmp_path / "settings.ini").write_text("[research]\nreserve = 0.2\n")
    with open_workspace(tmp_path) as elsewhere:
        again = run(elsewhere, "research", **QUICK)
    assert hash_outputs(again.folder) == researched.manifest["outputs"]


def test_all_templates_are_there_and_can_be_told_nothing():
    assert {"research", "ingest", "sync", "features", "train", "backtest", "compare"} <= set(list_templates())
    for name in list_templates():
        template = find_template(name)
        values = resolve_parameters(template, {})
        assert template.promise and all(p.meaning for p in template.parameters.values()), name
        assert values.keys() == template.parameters.keys()
    assert [n for n in list_templates() if find_template(n).effects] == ["compare", "ingest", "sync"]


@pytest.mark.process
@pytest.mark.slow
def test_a_sync_keeps_datasets_current_and_says_what_failed(workspace):
    """Against a local exchange: bars come once, a second run asks for nothing new,
    an unknown symbol fails the run before anything is asked for, and what is stored stays.
    """
    market = make_market("garch", seed=3, bars=1500)
    with running(Exchange(symbols_of([market]), MarketTime(market.bars["known_at"][-1], 0))) as exchange:
        given = {"exchange": "sandbox", "url": exchange.url, "since": "2015-01-01"}
        first = run(workspace, "sync", symbols=["GARCH3/USDT"], **given)
        assert first.metrics["new"] == 1500 and first.metrics["quality sandbox/GARCH3-USDT/1h"] > 0.99
        assert run(workspace, "sync", symbols=["GARCH3/USDT"], **given).metrics["new"] == 0
        template = find_template("sync")
        failed = run_template(
            template, resolve_parameters(template, {"symbols": ["GARCH3/USDT", "GARCH4/USDT"], **given}), workspace
        )
        assert (
            failed.status == "failed"
            and "GARCH4-USDT" in str(failed.manifest["error"])
            and "GARCH3" in str(failed.manifest["error"])
        )
    assert load_dataset("sandbox/GARCH3-USDT/1h", workspace.store).bars.height == 1500
