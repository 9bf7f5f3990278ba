"""Whatever is added from outside walks the whole road: a file in a workspace, an installed package, a panel."""

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from execution import oracle
from support.command import SETTINGS, algo
from support.strategies import RULES

from algo_research.runs.record import find_run

PEEK = """
import polars as pl
from my_rules import Dip

class Peek(Dip):
    "The same, and it reads the next close."
    def targets(self, frame, state=None):
        rises = pl.col("close").shift(-1).over("symbol") > pl.col("close")
        return frame.select("symbol", "ts", "known_at", target=rises.cast(pl.Float64)), None
"""


@pytest.fixture
def workspace(tmp_path) -> Path:
    (tmp_path / "settings.ini").write_text(SETTINGS)
    (tmp_path / "my_rules.py").write_text(RULES)
    return tmp_path


def last(workspace: Path, template: str = "research"):
    return find_run(workspace / "reports", sorted(p.name for p in (workspace / "reports" / template).iterdir())[-1])


@pytest.mark.process
@pytest.mark.slow
def test_a_strategy_in_a_file_is_judged_like_a_built_in_one(workspace):
    assert len(RULES.strip().splitlines()) <= 25
    algo(workspace, "run", "research", "-p", "dataset=arch/NASDAQ/1d", "-p", "strategy=my_rules:Dip", "-p", "compare=")
    run = last(workspace)
    assert run.artifact("plan")["strategy"] == {"name": "my_rules:Dip", "params": {}}
    assert (run.folder / "report.html").stat().st_size > 10_000
    assert run.artifact("verdict")["strategy"] == "dip" and run.metrics["trials"] == 1
    assert "./my_rules.py" in run.manifest["inputs"]["code"]
    algo(workspace, "run", "research", "-p", "dataset=arch/NASDAQ/1d", "-p", "strategy=dip(low=-0.3)", "-p", "compare=")
    assert last(workspace).metrics["trials"] == 2
    algo(workspace, "run", "compare")
    assert last(workspace, "compare").artifact("comparison")["strategy"].to_list() == ["dip", "dip"]


@pytest.mark.process
@pytest.mark.slow
def test_a_strategy_that_reads_the_next_close_is_refused(workspace):
    (workspace / "peeking.py").write_text(PEEK)
    done = algo(workspace, "run", "research", "-p", "strategy=peeking:Peek", "-p", "compare=", code=1)
    for part in ("peek is not determined by its state: for SP500 at 1999-", "read no later row"):
        assert part in done.stdout
    assert "0 trials" in algo(workspace, "trials", "arch/SP500/1d").stdout


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("dipp", "Did you mean 'dip'"),
        ("my_rules:Dipp", "Did you mean 'Dip'"),
        ("my_rulez:Dip", "There is no module 'my_rulez'"),
        ("dip(low='deep')", "Parameter low = 'deep' of dip is not allowed"),
        ("dip(lowest=1.0)", "Did you mean 'low'"),
        ("dip(low=", "names no component"),
        ("broken:Broken", "ZeroDivisionError: division by zero"),
        ("twice", "2 strategies are called 'twice'"),
        ("my_rules:target_changes", "is no strategy"),
    ],
)
def test_bad_choices_are_refused_before_anything_starts(workspace, choice, message):
    (workspace / "broken.py").write_text("x = 1 / 0\n")
    for name in ("one", "two"):
        text = "from algo_research.strategies.rules import BuyAndHold\nclass Twice(BuyAndHold):\n    name = 'twice'\n"
        (workspace / f"{name}.py").write_text(text)
    done = algo(workspace, "run", "research", "-p", f"strategy={choice}", code=2)
    assert message in done.stderr
    assert not (workspace / "reports").exists()


def test_bad_plans_and_patterns_are_refused(workspace):
    (workspace / "plan.yaml").write_text("datasets: [arch/SP500/1d]\nstratgy: model\n")
    assert "Did you mean 'strategy'" in algo(workspace, "run", "research", "--plan", "plan.yaml", code=2).stderr
    (workspace / "plan.yaml").write_text("datasets: [arch/SP500/1d]\nstrategy: model\nfolds: none\n")
    assert "folds = 'none' is not allowed" in algo(workspace, "run", "research", "--plan", "plan.yaml", code=2).stderr
    assert "matches none of" in algo(workspace, "run", "research", "-p", "dataset=nowhere/*/1h", code=2).stderr


def write_listing(folder: Path, symbol: str, first: int, days: int, seed: int) -> None:
    """A random walk of daily bars as a file somebody downloaded."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, days)))
    open_ = np.append(100.0, close[:-1]) * np.exp(rng.normal(0, 0.002, days))
    times = [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=first + d) for d in range(days)]
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) * 0.999
    frame = {
        "time": times,
        "open": open_,
        "high": high,
        "low": low,
        "close": close,
        "volume": rng.uniform(1e3, 2e3, days),
    }
    pl.DataFrame(frame).write_csv(folder / f"{symbol}.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.process
@pytest.mark.slow
def test_a_ragged_panel_goes_from_import_to_verdict_and_equals_the_oracle(workspace):
    for symbol, first, days, seed in (("OLD", 0, 900, 1), ("NEW", 400, 500, 2), ("GONE", 0, 600, 3)):
        write_listing(workspace, symbol, first, days, seed)
        algo(workspace, "data", "import", f"{symbol}.csv", "--id", f"mine/{symbol}/1d", "--label", "open")
    equity = {}
    for engine in ("kernel", "vectorbt"):
        told = (
            "-p",
            "dataset=mine/*/1d",
            "-p",
            "strategy=moving_average(fast=5)",
            "-p",
            "compare=",
            "-p",
            f"engine={engine}",
        )
        algo(workspace, "run", "research", *told)
        run = last(workspace)
        equity[engine] = run.artifact("equity").filter(pl.col("name") == "moving_average")
        assert any("GONE ends at" in note for note in run.artifact("verdict")["notes"])
        assert any("NEW begins at" in note for note in run.artifact("verdict")["notes"])
    np.testing.assert_allclose(equity["kernel"]["equity"], equity["vectorbt"]["equity"], rtol=1e-9)
    times = equity["kernel"]["ts"].to_list()
    symbols = ["GONE", "NEW", "OLD"]
    bars = {
        s: pl.read_csv(workspace / f"{s}.csv", try_parse_dates=True).with_columns(
            pl.col("time").cast(pl.Datetime("us", "UTC"))
        )
        for s in symbols
    }
    rows = {s: {row["time"]: row for row in bars[s].iter_rows(named=True)} for s in symbols}
    nan = float("nan")
    opens, closes = (
        [[rows[s][t][c] if t in rows[s] else nan for s in symbols] for t in times] for c in ("open", "close")
    )
    orders = [[nan] * 3 for _ in times]
    decided = {(d["symbol"], d["ts"]): d["target"] for d in run.artifact("targets").iter_rows(named=True)}
    for column, symbol in enumerate(symbols):
        waiting = nan
        for number, moment in enumerate(times):
            if moment in rows[symbol] and not np.isnan(waiting):
                orders[number][column], waiting = waiting, nan
            waiting = decided.get((symbol, moment), waiting)
    books = oracle.account(opens, closes, orders, 100_000.0, 0.0005, 0.0, 0.0002)
    np.testing.assert_allclose(books["equity"], equity["kernel"]["equity"], rtol=1e-9)


@pytest.mark.process
@pytest.mark.slow
def test_a_plan_given_as_a_parameter_is_judged_with_its_own_datasets_trials(workspace):
    """The parameter `dataset` keeps its default then, and the ledger of that one would say that nothing was tried."""
    from algo_research.dashboards.performance import PerformanceDashboard
    from algo_research.runs.runner import run
    from algo_research.workspace.bootstrap import open_workspace

    told = {"datasets": ["synthetic/noise:1/1h"], "strategy": "moving_average", "engine": "kernel"}
    with open_workspace(workspace) as here:
        first = run("research", here, plan=told)
        second = run("research", here, plan={**told, "strategy": "moving_average(fast=10)"})
        compared = run("compare", here)
    assert list(first.manifest["inputs"]["data"]) == ["synthetic/noise:1/1h"]
    assert (first.metrics["trials"], second.metrics["trials"]) == (1, 2)
    # a notebook's own runs are like any others: on the dashboard, in the comparison, in the list
    shown = PerformanceDashboard(workspace / "reports")
    assert {first.id, second.id} <= {id for id, _ in shown.runs}
    shown.run, shown.compare = second.id, [first.id]
    assert "fast 10" in shown.view and "fast default" in shown.view
    table = compared.artifact("comparison")
    assert dict(table.select("run", "differs").iter_rows()) == {first.id: "fast default", second.id: "fast 10"}
    listed = " ".join(algo(workspace, "runs", "-m", "sharpe").stdout.split())
    assert "sharpe (a year)" in listed and "seed=0" not in listed
    both = algo(workspace, "run", "compare", "-p", f"runs={first.id},{second.id}").stdout
    assert re.search(r"runs +2\b", both)


@pytest.mark.process
@pytest.mark.slow
def test_the_plan_of_a_panel_can_be_run_again(workspace):
    algo(workspace, "run", "research", "-p", "dataset=arch/*/1d", "-p", "strategy=moving_average", "-p", "compare=")
    first = last(workspace)
    assert first.artifact("plan")["datasets"] == ["arch/NASDAQ/1d", "arch/SP500/1d"]
    algo(workspace, "run", "research", "--plan", str(first.folder / "artifacts/plan.json"))
    second = last(workspace)
    assert second.id != first.id
    assert second.artifact("verdict")["hashes"] == first.artifact("verdict")["hashes"]
    assert second.metrics["trials"] == first.metrics["trials"] == 1


@pytest.mark.parametrize("door", ["run", "batch"])
def test_bad_choices_are_refused_at_every_door(workspace, door):
    from algo_research.core.errors import InputError
    from algo_research.runs.batch import plan_batch, read_batch
    from algo_research.runs.runner import run
    from algo_research.workspace.bootstrap import open_workspace

    (workspace / "grid.yaml").write_text("template: research\ngrid: {strategy: [dip, dipp]}\n")
    with open_workspace(workspace) as here, pytest.raises(InputError, match="Did you mean 'dip'"):
        if door == "run":
            run("research", here, strategy="dipp")
        plan_batch(read_batch(workspace / "grid.yaml"), here)
    assert not (workspace / "reports").exists()


def test_a_plan_is_resolved_before_anything_starts(workspace):
    (workspace / "plan.yaml").write_text("datasets: ['arch/*/1d']\nstrategy: dipp\n")
    assert "Did you mean 'dip'" in algo(workspace, "run", "research", "--plan", "plan.yaml", code=2).stderr
    assert not (workspace / "reports").exists()


@pytest.mark.process
@pytest.mark.slow
def test_a_pattern_in_a_plan_is_stored_as_what_it_matched(workspace):
    (workspace / "plan.yaml").write_text("datasets: ['arch/*/1d']\nstrategy: moving_average\nengine: kernel\n")
    algo(workspace, "run", "research", "--plan", "plan.yaml")
    assert last(workspace).artifact("plan")["datasets"] == ["arch/NASDAQ/1d", "arch/SP500/1d"]


@pytest.mark.process
@pytest.mark.slow
def test_settings_of_research_hold_where_a_run_is_told_nothing(workspace):
    (workspace / "settings.ini").write_text(
        SETTINGS + "strategy = dip\ncompare =\ndataset = synthetic/noise:1/1h\nseed = 7\n"
    )
    for command in (("run", "research"), ("research",)):
        algo(workspace, *command)
        plan = last(workspace).artifact("plan")
        assert (plan["strategy"]["name"], plan["datasets"], plan["seed"]) == ("dip", ["synthetic/noise:1/1h"], 7)
        assert list(last(workspace).manifest["inputs"]["data"]) == ["synthetic/noise:1/1h"]
    assert len(list((workspace / "reports/research").iterdir())) == 1  # the two commands are one run


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "message"),
    [
        (("costs=spread", "fees=0.01"), "fees is told, and the cost model 'spread' does not read [costs]"),
        (
            ("model=linear", 'settings={"model.num_leaves": 5}'),
            "num_leaves is told, and the model 'linear' does not read",
        ),
    ],
)
def test_what_is_told_and_not_read_is_refused(workspace, told, message):
    parameters = [part for text in told for part in ("-p", text)]
    done = algo(workspace, "run", "research", "-p", "dataset=synthetic/noise:1/1h", *parameters, code=None)
    assert done.returncode != 0 and message in done.stdout + done.stderr


@pytest.mark.process
@pytest.mark.slow
def test_predictions_are_followed_on_the_bars_they_were_made_for(workspace):
    write_listing(workspace, "ONE", 0, 1800, 1)
    algo(workspace, "data", "import", "ONE.csv", "--id", "mine/ONE/1d", "--label", "open")
    features = 'settings={"research.features": "momentum.talib.roc_1"}'
    algo(workspace, "run", "research", "-p", "dataset=mine/ONE/1d", "-p", "compare=", "-p", features)
    run = last(workspace)
    followed = ("run", "backtest", "-p", "dataset=mine/ONE/1d", "-p", f"run={run.id}")
    algo(workspace, *followed)
    assert last(workspace, "backtest").artifact("verdict")["strategy"] == "model"
    done = algo(workspace, *followed, "-p", "strategy=moving_average", code=1)
    assert "follows no predictions" in done.stdout
    frame = pl.read_csv(workspace / "ONE.csv")
    frame.with_columns(close=pl.col("close") * 0.9995).write_csv(workspace / "ONE.csv")
    algo(workspace, "data", "import", "ONE.csv", "--id", "mine/ONE/1d", "--label", "open", "--replace")
    assert "other bars" in algo(workspace, *followed, code=1).stdout


def test_a_name_that_is_taken_is_not_written_again(workspace):
    assert "is taken" in algo(workspace, "strategies", "new", "moving_average", code=2).stderr
    assert not (workspace / "moving_average.py").exists()
    algo(workspace, "strategies", "new", "rsi_2")
    assert "rsi_2" in algo(workspace, "components", "strategies").stdout


PROVIDER = """
from dataclasses import replace
from algo_research.data.catalog import Provider
from algo_research.data.market.bars import DatasetId
from algo_research.data.samples.synthetic import make_market

class Archive(Provider):
    "An archive of my own."
    venues = ("mine",)
    def datasets(self): return [(DatasetId("mine", "ONE", "1h"), "a martingale")]
    def load(self, id): return replace(make_market("noise", 5, bars=300), id=id)
"""


def test_every_command_knows_the_workspaces_own_provider(workspace):
    (workspace / "archive.py").write_text(PROVIDER)
    assert "mine/ONE/1h" in algo(workspace, "data", "list").stdout
    assert "300 bars" in algo(workspace, "data", "show", "mine/ONE/1h").stdout
    assert "Quality" in algo(workspace, "data", "check", "mine/ONE/1h").stdout
    assert "0 trials" in algo(workspace, "trials", "mine/ONE/1h").stdout
    (workspace / "bars.csv").write_text("time,close\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    refused = algo(workspace, "data", "import", "bars.csv", "--id", "mine/ONE/1d", code=2)
    assert "The venue 'mine' is not for imports" in refused.stderr


def test_two_providers_of_one_venue_are_refused(workspace):
    (workspace / "archive.py").write_text(PROVIDER)
    (workspace / "another.py").write_text(PROVIDER.replace("Archive", "Another"))
    assert "both answer for the venue 'mine'" in algo(workspace, "data", "list", code=2).stderr


ACME = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "acme-algo"
version = "1.2"
[project.entry-points."algo_research.strategies"]
acme_gap = "acme_algo:Gap"
[project.entry-points."algo_research.features"]
acme = "acme_algo:gap"
[project.entry-points."algo_research.models"]
acme_mean = "acme_algo:MeanModel"
[project.entry-points."algo_research.providers"]
acme = "acme_algo:AcmeProvider"
[tool.setuptools]
py-modules = ["acme_algo"]
""",
    "acme_algo.py": """
from dataclasses import dataclass
import numpy as np
import polars as pl
from algo_research.data.catalog import Provider
from algo_research.data.market.bars import DatasetId
from algo_research.data.samples.synthetic import make_market
from algo_research.features.contract import Feature
from algo_research.models.contract import Model, Predictor
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes

def overnight(c): return c["open"] / np.append(np.nan, c["close"][:-1]) - 1
gap = Feature("price.acme.gap", overnight, 2, ("open", "close"), intuition="what happened while nobody traded")

@dataclass(frozen=True)
class Gap(Strategy):
    "Long after a gap, when the model agrees."
    size: float = 0.0
    wants_predictions = True
    def features(self): return (gap,)
    def targets(self, frame, state=None):
        wish = pl.when((pl.col(gap.name) > self.size) & (pl.col("prediction") > -1)).then(1.0).otherwise(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), state)

class MeanOf(Predictor):
    def __init__(self, mean): self.mean = mean
    def predict(self, features): return np.full(len(features), self.mean)
    def to_bytes(self): return repr(self.mean).encode()
    @classmethod
    def from_bytes(cls, content): return cls(float(content))

class MeanModel(Model):
    "The mean of the labels."
    name = "acme_mean"
    def fit(self, features, label, seed): return MeanOf(float(np.mean(label)))

class AcmeProvider(Provider):
    "One market."
    name, venues = "acme", ("acme",)
    def datasets(self): return [(DatasetId("acme", "ONE", "1h"), "a martingale")]
    def load(self, id):
        from dataclasses import replace
        made = make_market("garch", 5, bars=3000)
        return replace(made, id=id)
""",
}


@pytest.mark.process
@pytest.mark.slow
def test_a_package_of_somebody_else_is_listed_and_runs(workspace, tmp_path_factory):
    source, target = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("installed")
    for name, text in ACME.items():
        (source / name).write_text(text)
    subprocess.run([sys.executable, "-m", "build", "--wheel", source], check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    there = {"PYTHONPATH": str(target)}
    for kind, name in (
        ("strategies", "acme_gap"),
        ("features", "price.acme.gap"),
        ("models", "acme_mean"),
        ("providers", "acme"),
    ):
        assert name in algo(workspace, "components", kind, **there).stdout
        assert name not in algo(workspace, "components", kind, apart=True).stdout
    assert "acme/ONE/1h" in algo(workspace, "data", "list", **there).stdout
    features = 'settings={"research.features": "price.acme.gap,momentum.talib.roc_1"}'
    told = (
        "-p",
        "dataset=acme/ONE/1h",
        "-p",
        "strategy=acme_gap",
        "-p",
        "compare=",
        "-p",
        "model=acme_mean",
        "-p",
        features,
    )
    algo(workspace, "run", "research", *told, **there)
    run = last(workspace)
    assert run.artifact("verdict")["strategy"] == "gap" and run.artifact("predictions")["value"].n_unique() <= 5
    assert "module acme_algo" in run.manifest["inputs"]["code"]


@pytest.mark.process
@pytest.mark.slow
def test_a_run_depends_on_what_it_imported_and_on_nothing_else(tmp_path):
    root, workspace = Path(__file__).parents[2], tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "settings.ini").write_text(SETTINGS)
    for name in ("algo_research", "nbs"):
        shutil.copytree(root / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    package, there = tmp_path / "copy/algo_research", {"PYTHONPATH": str(tmp_path / "copy")}
    algo(workspace, "run", "research", "-p", "strategy=moving_average", "-p", "compare=", **there)
    code = last(workspace).manifest["inputs"]["code"]
    assert "backtest/verdict.py" in code and not any(
        n.startswith(("sandbox/", "cli/")) or "postgres" in n for n in code
    )
    for name in ("sandbox/time.py", "data/stores/postgres.py"):
        with (package / name).open("a") as file:
            file.write("\n# changed since\n")
    assert "Reproduced." in algo(workspace, "reproduce", "last", **there).stdout
    original = sorted(p.name for p in (workspace / "reports/research").iterdir())[0]
    with (package / "backtest/verdict.py").open("a") as file:
        file.write("\n# changed since\n")
    done = algo(workspace, "reproduce", original, code=1, **there)
    assert "code backtest/verdict.py" in done.stdout and done.stdout.count("code ") == 1
