"""A run counts what was tried on the same market whatever its template's parameters look like, and holds the ledger
against what earlier runs knew of it."""

import json
import sqlite3

import pytest
from support.command import SETTINGS, algo
from support.journey import dice_workspace, manifests, write_template

from algo_research.backtest.ledger import TrialLedger
from algo_research.runs import batch as batches
from algo_research.runs.batch import plan_batch, read_batch, run_batch
from algo_research.runs.record import Run
from algo_research.runs.runner import identity
from algo_research.workspace.bootstrap import open_workspace

JUDGE = (
    ("", "from algo_research.runs.record import current_run\nfrom algo_research.research.plan import make_plan\n"
         "from algo_research.research.road import research"),
    ("parameters", "dataset: str = 'synthetic/garch:1/1h'\nfast: int = 10"),
    ("", "run = current_run()\nspace = run.workspace()\n"
         "plan = make_plan({'datasets': [dataset], 'engine': 'kernel', 'compare': [], "
         "'strategy': f'moving_average(fast={fast})'})\n"
         "found = research(space.load(dataset), plan, space.ledger, limits=None)\n"
         "run.metrics({'trials': found.verdict.n_trials})"),
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    return dice_workspace(tmp_path)


@pytest.mark.process
@pytest.mark.slow
def test_an_own_template_with_a_plain_text_for_its_dataset_counts_and_is_reproduced(workspace, tmp_path_factory):
    write_template(workspace, "own", *JUDGE)
    for fast in (10, 7, 5):
        algo(workspace, "run", "own", "-p", f"fast={fast}")
    runs = sorted(workspace.glob("reports/own/*"))
    assert [json.loads((r / "metrics.json").read_text())["trials"] for r in runs] == [1, 2, 3]
    other = tmp_path_factory.mktemp("other")
    (other / "settings.ini").write_text(SETTINGS)
    write_template(other, "own", *JUDGE)
    assert "Reproduced." in algo(other, "reproduce", str(runs[-1])).stdout


@pytest.mark.process
@pytest.mark.slow
def test_a_ledger_that_lost_what_a_run_knew_is_said_and_refused(workspace):
    write_template(workspace, "own", *JUDGE)
    ledger, backup = workspace / ".algo" / "ledger.db", workspace / "backup.db"
    algo(workspace, "run", "own")
    (run,) = manifests(workspace).values()
    assert run["record"]["ledger_head"][0] >= 2
    assert "each of them as it was written" in algo(workspace, "doctor", code=None).stdout
    backup.write_bytes(ledger.read_bytes())
    ledger.unlink()
    refused = " ".join(algo(workspace, "run", "own", "-p", "fast=7", code=None).stderr.split())
    assert "Restore it from a backup" in refused and run["run_id"] in refused
    assert refused.index("backup") < refused.index("algo trials --accept-loss REASON")
    assert "it was shortened" in " ".join(algo(workspace, "doctor", code=1).stdout.split())
    ledger.write_bytes(backup.read_bytes())
    algo(workspace, "run", "own", "-p", "fast=7")
    with sqlite3.connect(ledger) as db:
        db.execute("DELETE FROM trials")
    db.close()
    assert "are not what its entries say" in " ".join(algo(workspace, "doctor", code=1).stdout.split())
    refused = algo(workspace, "run", "own", "-p", "fast=5", code=None).stderr
    assert "was edited, or is damaged" in refused and len(manifests(workspace)) == 2


@pytest.mark.process
@pytest.mark.slow
def test_a_loss_is_accepted_once_seen_and_said_from_then_on(workspace):
    write_template(workspace, "own", *JUDGE, ("", "run.save('notes', list(found.notes))"))
    lost = workspace / ".algo" / "ledger.db"
    algo(workspace, "run", "own")
    (run,) = manifests(workspace).values()
    assert "no loss to accept" in algo(workspace, "trials", "--accept-loss", "why not", code=2).stderr
    lost.unlink()
    assert "it was shortened" in " ".join(algo(workspace, "trials").stdout.split())
    assert "Say why" in algo(workspace, "trials", "--accept-loss", " ", code=2).stderr
    asked = algo(workspace, "trials", "--accept-loss", "disk broken", code=1)  # nobody is there to say yes
    assert run["run_id"] in asked.stdout and run["record"]["ledger_head"][1][:12] in asked.stdout
    assert "Restore it" in algo(workspace, "run", "own", "-p", "fast=7", code=None).stderr
    told = algo(workspace, "trials", "arch/SP500/1d", "--accept-loss", "disk broken", "--yes", code=2).stderr
    assert "Leave one of them out" in told
    said = "(disk broken): the number of trials is a lower bound"
    assert said in " ".join(algo(workspace, "trials", "--accept-loss", "disk broken", "--yes").stdout.split())
    algo(workspace, "run", "own", "-p", "fast=7")
    newest = sorted(workspace.glob("reports/own/*"))[-1]
    assert said in (newest / "artifacts" / "notes.json").read_text()
    for command in (("doctor",), ("trials", "synthetic/garch:1/1h"), ("trials",)):
        assert said in " ".join(algo(workspace, *command, code=None).stdout.split())
    assert "Reproduced." in algo(workspace, "reproduce", str(newest)).stdout


# ------------------------------------------------------------------------------------------------------------ batches

GRID = "template: own\ngrid:\n  fast: [10, 7, 5]\nparallel: 2\n"
NAMED = ("parameters", JUDGE[1][1].replace("dataset: str", "dataset: DatasetId"))
TYPED = ("", f"{JUDGE[0][1]}\nfrom algo_research.runs.parameters import DatasetId")
GARCH = "synthetic/garch:1/1h"


def counted(workspace) -> list[int]:
    return [json.loads((r / "metrics.json").read_text())["trials"] for r in sorted(workspace.glob("reports/own/*"))]


@pytest.mark.process
@pytest.mark.slow
def test_every_verdict_of_a_batch_counts_the_whole_batch(workspace, tmp_path_factory):
    write_template(workspace, "own", TYPED, NAMED, JUDGE[2])
    (workspace / "grid.yaml").write_text(GRID)
    algo(workspace, "batch", "grid.yaml", apart=True)
    assert counted(workspace) == [3, 3, 3]
    with open_workspace(workspace) as space:
        assert space.ledger.count(GARCH) == 3 and not space.ledger.planned(GARCH)
        space.ledger.verify()
    other = tmp_path_factory.mktemp("other")
    (other / "settings.ini").write_text("[research]\nengine = kernel\n")
    write_template(other, "own", TYPED, NAMED, JUDGE[2])
    first = sorted(workspace.glob("reports/own/*"))[0]
    assert "Reproduced." in algo(other, "reproduce", str(first)).stdout
    algo(workspace, "reproduce", str(first), "-p", "fast=3", code=1)
    assert counted(workspace)[-1] == 4  # what was planned when the first one began has been tried since


@pytest.fixture
def grid(workspace):
    """A batch of three, planned, none of it run."""
    write_template(workspace, "own", TYPED, NAMED, JUDGE[2])
    (workspace / "grid.yaml").write_text(GRID)
    read = read_batch(workspace / "grid.yaml", workspace / "templates")
    with open_workspace(workspace) as space:
        yield read, plan_batch(read, space), space


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_a_batch_that_stops_withdraws_its_plans(grid, monkeypatch, end):
    read, planned, space = grid
    seen: list[int] = []

    def stop(*_):
        seen.append(space.ledger.count(GARCH))
        raise end

    monkeypatch.setattr(batches, "_spawn", stop)
    with pytest.raises(end):
        run_batch(read, planned, space)
    assert seen == [3] and space.ledger.count(GARCH) == 0


def test_a_batch_that_was_killed_counts_until_it_is_started_again(grid, monkeypatch):
    read, planned, space = grid

    class Killed(Exception):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr(batches, "_spawn", die)
    with monkeypatch.context() as killed, pytest.raises(Killed):
        killed.setattr(TrialLedger, "withdraw", lambda *_: None)  # as nobody is there to do it
        run_batch(read, planned, space)
    assert space.ledger.count(GARCH) == 3
    before = space.ledger.head
    with pytest.raises(Killed):
        run_batch(read, plan_batch(read, space), space)
    assert space.ledger.count(GARCH) == 0 and space.ledger.head[0] == before[0] + 1  # only the withdrawal


def test_what_was_made_before_is_not_planned_when_it_is_forced(grid, monkeypatch):
    read, planned, space = grid
    made = {planned[1].key: Run(space.settings.root)}
    monkeypatch.setattr(
        batches, "done_before", lambda template, inputs, *_, **__: made.get(identity(inputs, ledger=False))
    )
    assert [bool(p.key) for p in plan_batch(read, space, force=True)] == [True, False, True]


def test_what_is_done_is_not_planned_and_what_another_process_does_is(grid, monkeypatch):
    read, planned, space = grid
    seen: list[list[str]] = []

    def stop(*_):
        seen.append(space.ledger.planned(GARCH))
        raise RuntimeError

    monkeypatch.setattr(batches, "_spawn", stop)
    planned[0].state, planned[1].state = "succeeded", "running elsewhere"
    with pytest.raises(RuntimeError):
        run_batch(read, planned, space)
    assert seen == [sorted([planned[1].key, planned[2].key])]
