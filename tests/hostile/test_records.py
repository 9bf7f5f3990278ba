"""Runs and notebooks that are not what they were, or never could be: said, and neither used nor a traceback."""

import json
import shutil

import polars as pl
import pytest
from support.command import algo
from support.datasets import make_dataset
from support.journey import dice_workspace, write_template
from test_processes import TRIAL

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    workspace = dice_workspace(tmp_path_factory.mktemp("made"))
    write_template(
        workspace,
        "uses",
        ("", "from algo_research.runs.parameters import RunId\n"
             "from algo_research.runs.record import current_run, find_run"),
        ("parameters", "made: RunId = 'last'"),
        ("step:a", "run = current_run()\nfaces = find_run(run.folder.parent.parent, made).artifact('faces')\n"
                   "run.metrics({'sum': faces['face'].sum()})"),
    )  # fmt: skip
    algo(workspace, "run", "dice")
    return workspace


@pytest.fixture
def workspace(made, tmp_path):
    return shutil.copytree(made, tmp_path / "w")


def the_run(workspace):
    (folder,) = workspace.glob("reports/dice/*")
    return folder


LOOKS = (["runs"], ["runs", "--metric", "mean"], ["show", "last"], ["doctor"], ["trials"], ["run", "dice"],
         ["reproduce", "last"], ["run", "uses", "--parameters"])  # fmt: skip
WRONG = {
    "told": lambda m: m["record"].update(told=5),
    "a head beyond numbers": lambda m: m["record"].update(ledger_head=[10**30, "x"]),
    "half a head": lambda m: m["record"].update(ledger_head=[1]),
    "a negative head": lambda m: m["record"].update(ledger_head=[-1, "x"]),
    "runs": lambda m: m["inputs"].update(runs=5),
    "files": lambda m: m["inputs"].update(files=[1]),
    "a setting": lambda m: m["inputs"]["settings"].update({"costs.fees": {}}),
    "removed": lambda m: m["record"].update(removed=["x"]),
    "cut": lambda m: m["record"].update(output_cut=[1, {}]),
    "template path": lambda m: m["record"].update(template_path=[1]),
    "seal": lambda m: m["record"].update(seal={}),
    "outputs": lambda m: m.update(outputs={"../../x": "y"}),
    "seconds": lambda m: m["record"].update(seconds=-1e400),
    "steps": lambda m: m.update(steps=[{"name": "x", "status": "[/red]", "seconds": 1e308}]),
    "error": lambda m: m.update(error={"type": 5, "message": {}, "step": [], "cell": {}}, status="failed"),
    "code": lambda m: m["inputs"].update(code={"./../../../etc/passwd": "x", "module .": "y", "file ": "z"}),
}


def sampled(cases, daily):
    """A few in the suite of every day, all with the long ones."""
    assert set(daily) <= set(cases)
    return [pytest.param(case, marks=[] if case in daily else pytest.mark.long) for case in cases]


@pytest.mark.parametrize("field", sampled(WRONG, ("told", "a head beyond numbers", "seal", "steps", "outputs")))
def test_a_record_that_cannot_be_is_no_traceback(workspace, field):
    path = the_run(workspace) / "run.json"
    manifest = json.loads(path.read_text())
    WRONG[field](manifest)
    path.write_text(json.dumps(manifest))
    for command in LOOKS:
        done = algo(workspace, *command, code=None)
        said = done.stdout + done.stderr
        wrong = ("AttributeError", "TypeError", "KeyError", "ValueError:", "OverflowError")
        assert done.returncode in (0, 1, 2, 3, 4) and not [w for w in wrong if w in said], (command, said)


def test_what_a_run_left_is_used_only_as_it_was(workspace):
    faces = the_run(workspace) / "artifacts" / "faces.parquet"
    whole = faces.read_bytes()
    pl.read_parquet(faces).with_columns(pl.col("face") * -1).write_parquet(faces)
    refused = algo(workspace, "run", "uses", code=2).stderr
    assert "faces.parquet is not what run.json recorded" in " ".join(refused.split()), refused
    algo(workspace, "run", "dice")  # not done any more: it is made again
    assert len(list(workspace.glob("reports/dice/*"))) == 2
    faces.write_bytes(whole)
    metrics = the_first(workspace) / "metrics.json"
    metrics.write_text(metrics.read_text().replace("mean", "mode"))
    for command in (["show", the_first(workspace).name], ["runs", "--metric", "mean"]):
        done = algo(workspace, *command, code=None)
        assert "metrics.json was changed" in " ".join((done.stdout + done.stderr).split()), done


def test_a_record_and_metrics_that_are_gone_or_edited_are_said(workspace):
    run = the_run(workspace)
    manifest = json.loads((run / "run.json").read_text())
    manifest["inputs"]["parameters"]["seed"] = 9
    (run / "run.json").write_text(json.dumps(manifest))
    assert "is not what its identity was made of" in algo(workspace, "show", "last").stdout
    (run / "metrics.json").unlink()
    for command in (["show", "last"], ["runs", "--metric", "mean"]):
        done = algo(workspace, *command, code=None)
        assert "metrics.json is missing" in " ".join((done.stdout + done.stderr).split()), done


def test_what_was_judged_in_spite_of_a_quarantine_says_so_and_is_another_run(tmp_path):
    bars = make_dataset("1d", 1500).bars.filter(pl.int_range(pl.len()) % 7 < 5)  # without weekends, and no calendar
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / "bars.csv")
    algo(tmp_path, "data", "import", "bars.csv", "--id", "test/gaps/1d", "--calendar", "24/7")
    asked = ["run", "research", "-p", "dataset=test/gaps/1d", "-p", "strategy=buy_and_hold", "-p", "folds=2"]

    def said(*more: str) -> str:
        done = algo(tmp_path, *asked, *more, code=None)
        return " ".join((done.stdout + done.stderr).split())

    assert "is in quarantine" in said()
    forced = said("--set", "quality.force=true")
    assert "succeeded" in forced and "the bars are in quarantine" in forced
    assert "is in quarantine" in said()


def the_first(workspace):
    return min(workspace.glob("reports/dice/*"))


def test_runs_that_judge_nothing_hide_no_lost_ledger(workspace):
    write_template(workspace, "look", ("parameters effects", "n: int = 0"), ("step:a", "n"))
    write_template(
        workspace,
        "tries",
        ("", "from algo_research.runs.parameters import DatasetId"),
        ("parameters", "market: DatasetId = 'synthetic/noise:0/1h'"),
        ("step:a", TRIAL.replace("marker", "'a trial'")),
    )
    algo(workspace, "run", "tries")
    (workspace / ".algo" / "ledger.db").unlink()
    assert "ledger" in algo(workspace, "run", "tries", "--force", code=4).stderr
    for n in range(3):
        algo(workspace, "run", "look", "-p", f"n={n}")
    records = [json.loads(p.read_text())["record"] for p in workspace.glob("reports/look/*/run.json")]
    assert [record["ledger_head"] for record in records] == [None] * 3
    assert "ledger" in algo(workspace, "run", "tries", "--force", code=4).stderr


CELLS = {
    "no text": {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": None},
    "tags": {"cell_type": "code", "metadata": {"tags": 5}, "outputs": [], "execution_count": None, "source": "1"},
    "numbers as tags": {"cell_type": "code", "metadata": {"tags": [5]}, "outputs": [], "execution_count": None,
                        "source": "1"},
    "half a character": {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
                         "source": "x = '\ud800'"},
    "half a character in a title": {"cell_type": "markdown", "metadata": {}, "source": "# \ud800"},
    "no kind": {"metadata": {}, "source": "1"},
    "no metadata": {"cell_type": "code", "outputs": [], "execution_count": None, "source": "1"},
}  # fmt: skip


@pytest.mark.parametrize("cell", sampled(CELLS, ("tags", "half a character", "no kind")))
def test_a_notebook_that_cannot_be_hides_no_other(workspace, cell):
    good = json.loads((workspace / "templates" / "dice.ipynb").read_text())
    for place in (0, 1):
        bad = {**good, "cells": [*good["cells"][:place], CELLS[cell], *good["cells"][place:]]}
        (workspace / "templates" / f"bad{place}.ipynb").write_text(json.dumps(bad))
    for command in (["run"], ["run", "bad0", "--parameters"], ["run", "bad1"], ["components", "templates"]):
        done = algo(workspace, *command, code=None)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1, 2) and "Error: '" not in said and "object has no" not in said, said
    assert "dice" in algo(workspace, "run", code=None).stdout
