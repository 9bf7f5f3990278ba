"""Commands that are killed at any moment: nothing of them is left, what is said of them is true, no trial is lost."""

import random
import signal
import subprocess
import time

import polars as pl
import pytest
from support.command import ALGO, SETTINGS, algo, environment
from support.datasets import make_dataset
from support.journey import write_template
from support.servers import free_port
from support.strategies import RULES
from support.waiting import let_pass
from test_processes import HEAD, STARTS, none_is_left

from algo_research.data.stores.delta import DeltaStore
from algo_research.runs.record import list_runs
from algo_research.runs.runner import recover
from algo_research.workspace.bootstrap import open_workspace

pytestmark = [pytest.mark.slow, pytest.mark.process]

ID, MARKET = "test/coins/1d", "synthetic/noise:0/1h"
# A trial was made for certain once it is marked after, and not at all unless it is marked before.
TRIAL = """
from pathlib import Path
from algo_research.runs.record import current_run
space = current_run().workspace()
dataset = space.load(market)
change = dataset.bars["close"].pct_change().fill_null(0.0) * (1 + seed)
Path("marks", f"{seed}.before").touch()
space.ledger.record(market, {"seed": seed}, dataset.bars["ts"], change, dataset.snapshot().content)
Path("marks", f"{seed}.after").touch()
"""
SECONDS = {"run": 5, "batch": 9, "reproduce": 6, "rule": 12, "import": 3, "adjust": 3, "repair": 3, "dashboard": 8}
TIMES = {"run": 10, "batch": 5, "reproduce": 4, "rule": 2, "import": 3, "adjust": 2, "repair": 2, "dashboard": 2}
PAUSE = 0.1  # seconds between two lines of a run
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]


def prices(workspace, name: str, factor: float) -> None:
    bars = make_dataset("1d", 1500).bars.with_columns(pl.col("open", "high", "low", "close") * factor)
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(workspace / f"{name}.csv")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").write_text(SETTINGS)
    (tmp_path / "marks").mkdir()
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "actions.csv").write_text("symbol,date,kind,value\ncoins,2021-12-10,dividend,0.5\n")
    for name, factor in (("a", 1.0), ("b", 2.0)):
        prices(tmp_path, name, factor)
    starts = "\n".join(STARTS.values())
    write_template(
        tmp_path,
        "t",
        ("", f"{HEAD}\nfrom algo_research.runs.parameters import DatasetId"),
        ("parameters", f"seed: int = 0\nmarket: DatasetId = '{MARKET}'"),
        ("step:start", f"marker = f'{tmp_path}-{{seed}}'\n{starts}\nNone"),
        ("step:trial", TRIAL),
        ("step:end", f"for i in range(10):\n    print(i)\n    time.sleep({PAUSE})"),
    )
    algo(tmp_path, "data", "import", "a.csv", "--id", ID)
    algo(tmp_path, "run", "t")
    return tmp_path


def command(workspace, name: str, number: int) -> list[str]:
    if name == "batch":
        grid = f"template: t\ngrid: {{seed: [{10 * number}, {10 * number + 1}, {10 * number + 2}]}}\nparallel: 2\n"
        (workspace / f"grid{number}.yaml").write_text(grid)
    return {
        "run": ["run", "t", "-p", f"seed={10 * number}"],
        "batch": ["batch", f"grid{number}.yaml"],
        "reproduce": ["reproduce", list_runs(workspace / "reports")[-1].id],
        "rule": ["run", "research", "-p", f"dataset={MARKET}", "-p", "strategy=buy_and_hold", "--force"],
        "import": ["data", "import", f"{'ab'[number % 2]}.csv", "--id", ID, "--replace"],
        "adjust": ["data", "adjust", ID, "--actions", "actions.csv"],
        "repair": ["data", "check", ID, "--repair", "--yes"],
        "dashboard": ["dashboard", "--no-browser", "--port", str(free_port())],
    }[name]


def check(workspace, before: dict[str, pl.DataFrame], took: list[float]) -> None:
    begun = time.monotonic()
    none_is_left(workspace, 20)  # seconds, where others keep the machine busy; how many it took is printed
    took.append(time.monotonic() - begun)
    assert " running " not in algo(workspace, "runs").stdout
    with open_workspace(workspace) as there:
        recover(there)
        ends = {"succeeded", "cancelled", "abandoned"}
        assert {run.status for run in list_runs(workspace / "reports")} <= ends
        assert not list(workspace.glob("reports/*/.*.part")) and not list(workspace.glob("reports/*/*/.lock"))
        there.ledger.verify()
        tried = there.ledger.trials(MARKET).filter(pl.col("config").str.contains('"seed"'))["config"].to_list()
    seeds = [int("".join(filter(str.isdigit, config))) for config in tried]
    marked = {when: {int(p.stem) for p in workspace.glob(f"marks/*.{when}")} for when in ("before", "after")}
    assert len(seeds) == len(set(seeds)) and marked["after"] <= set(seeds) <= marked["before"], (seeds, marked)
    stored = DeltaStore(workspace / ".algo" / "store").read(ID).bars
    assert any(stored.equals(bars) for bars in before.values())


@pytest.mark.parametrize("part", ["quick", *(pytest.param(n, marks=pytest.mark.long) for n in range(10))])
def test_a_command_that_is_killed_leaves_nothing_and_loses_nothing(workspace, part):
    """Thirty kills in each of ten parts; each day seven."""
    rng = random.Random(f"kills {part}")
    plan = [name for name, times in TIMES.items() for _ in range(times if part != "quick" else name != "dashboard")]
    rng.shuffle(plan)
    whole, took = {}, []
    for name in "ab":
        algo(workspace, "data", "import", f"{name}.csv", "--id", ID, "--replace")
        whole[name] = DeltaStore(workspace / ".algo" / "store").read(ID).bars
    for number, name in enumerate(plan, 1):
        called = [*ALGO, *command(workspace, name, number)]
        process = subprocess.Popen(
            called,
            cwd=workspace,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        let_pass(rng.uniform(0.3, SECONDS[name]))
        process.send_signal(rng.choice(SIGNALS))
        process.wait(30)
        check(workspace, whole, took)
    print(f"{len(took)} kills; until nothing was left {sorted(took)[len(took) // 2]:.1f} s, {max(took):.1f} s at most")
