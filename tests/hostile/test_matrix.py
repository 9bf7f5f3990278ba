"""Every kind of file of a workspace, damaged in every way, and every command: the right answer, or a refusal that says
what is wrong; never a wrong number, never a traceback, and nothing that was whole is changed by looking."""

import os
import random
import shutil
import signal
from contextlib import contextmanager

import pytest
from support.command import SETTINGS, algo
from support.datasets import make_dataset
from support.journey import write_template
from support.strategies import RULES

pytestmark = [pytest.mark.slow, pytest.mark.process]

ID = "test/coins/1d"
LOOKS = {
    "list": ["data", "list"],
    "data": ["data", "show", ID],
    "check": ["data", "check", ID],
    "history": ["data", "history", ID],
    "adjust": ["data", "adjust", ID],
    "import": ["data", "import", "bars.csv", "--id", "test/new/1d", "--dry-run"],
    "runs": ["runs"],
    "show": ["show", "last"],
    "trials": ["trials", ID],
    "doctor": ["doctor"],
    "settings": ["settings"],
    "components": ["components", "strategies"],
    "templates": ["run"],
    "parameters": ["run", "small", "--parameters"],
    "batch": ["batch", "grid.yaml", "--dry-run"],
    "plan": ["run", "research", "--plan", "plan.yaml", "--parameters"],
    "reproduce": ["reproduce", "last", "-p", "nothing=1"],
}
KINDS = {
    "settings": "settings.ini",
    "environment": "settings.prod.ini",
    "secret": "secrets/a_key",
    "bars": "bars.csv",
    "actions": ".algo/actions/test/coins.parquet",
    "batch": "grid.yaml",
    "plan": "plan.yaml",
    "module": "rules.py",
    "template": "templates/small.ipynb",
    "ledger": ".algo/ledger.db",
    "data": ".algo/store/bars/test/coins/1d/part=*/*.parquet",
    "log": ".algo/store/bars/test/coins/1d/_delta_log/*.json",
    "manifest": "reports/small/*/run.json",
    "metrics": "reports/small/*/metrics.json",
    "notebook": "reports/small/*/notebook.ipynb",
    "artifact": "reports/small/*/artifacts/kept.json",
    "frame": "reports/small/*/artifacts/frame.parquet",
    "report": "reports/small/*/report.html",
    "run's ledger": "reports/small/*/ledger.db",
    "lines": "reports/small/*/log.txt",
}
FAULTS = ("emptied", "truncated", "flipped", "deleted", "a folder", "a loop", "a pipe", "no text", "of another kind")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workspace with one file of each kind at least, and what each command says of it."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "settings.ini").write_text(SETTINGS + "[costs]\nfees = 0.0021\n")
    (folder / "settings.prod.ini").write_text("[costs]\nfees = 0.003\n")
    (folder / "secrets").mkdir(mode=0o700)
    (folder / "secrets" / "a_key").write_text("a-secret-of-the-matrix")
    (folder / "secrets" / "a_key").chmod(0o600)
    bars = make_dataset("1d", 60).bars
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(folder / "bars.csv")
    (folder / "actions.csv").write_text("symbol,date,kind,value\ncoins,2021-12-10,dividend,0.5\n")
    (folder / "grid.yaml").write_text("template: small\ngrid: {n: [1, 2]}\n")
    (folder / "plan.yaml").write_text(f"datasets: [{ID}]\nstrategy: buy_and_hold\n")
    (folder / "rules.py").write_text(RULES)
    write_template(
        folder,
        "small",
        ("", "from algo_research.runs.parameters import DatasetId\nfrom algo_research.runs.record import current_run"),
        ("parameters", f"n: int = 1  # a number\nmarket: DatasetId = '{ID}'"),
        ("step:a", "run = current_run()\nspace = run.workspace()\nbars = space.load(market).bars"),
        ("step:b", "run.save('kept', {'n': n})\nrun.save('frame', bars.head(3))\nrun.metrics({'mean': 1234.5})"),
        ("step:c", "space.ledger.record(market, {'n': n}, bars['ts'], bars['close'].pct_change().fill_null(0))"),
    )
    algo(folder, "data", "import", "bars.csv", "--id", ID)
    algo(folder, "data", "adjust", ID, "--actions", "actions.csv")
    algo(folder, "run", "small")
    algo(folder, "run", "small", "-p", "n=2")
    return folder


def break_file(path, fault: str) -> None:
    rng, content = random.Random(f"{path.name} {fault}"), path.read_bytes()
    if fault in ("deleted", "a folder", "a loop", "a pipe"):
        path.unlink()
    if fault == "emptied":
        path.write_bytes(b"")
    elif fault == "truncated":
        path.write_bytes(content[: rng.randrange(1, max(2, len(content) - 1))])
    elif fault == "flipped":
        at = rng.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :])
    elif fault == "a folder":
        path.mkdir()
    elif fault == "a loop":
        path.symlink_to(path.name)
    elif fault == "a pipe":
        os.mkfifo(path)
    elif fault == "no text":
        path.write_bytes(b"\xff\xfe\x00\x80[/red]\x1b[31m")
    elif fault == "of another kind":
        path.write_bytes(b'{"schema": [1], "cells": 7}')


class Hangs(BaseException):
    """It waits for ever."""


@contextmanager
def at_most(seconds: int, what: str):
    """A command that waits for ever is interrupted."""

    def stop(number, frame):
        raise Hangs(what)  # no error that a command would explain

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


CELLS = [(kind, fault) for kind in KINDS for fault in FAULTS]


# One fault for each second kind in the suite of every day, another one for the next; all of them with the long ones.
EACH_DAY = {(kind, FAULTS[n % len(FAULTS)]) for n, kind in enumerate(KINDS) if n % 2 == 0}
SHARED = [pytest.param(*cell, id="-".join(cell), marks=[] if cell in EACH_DAY else pytest.mark.long) for cell in CELLS]


@pytest.mark.parametrize(("kind", "fault"), SHARED)
def test_every_command_answers_or_says_what_is_wrong(whole, tmp_path, kind, fault):
    workspace = tmp_path / "w"
    shutil.copytree(whole, workspace, symlinks=True)
    path = sorted(workspace.glob(KINDS[kind]))[-1]
    break_file(path, fault)
    for name, command in LOOKS.items():
        with at_most(120, f"{name} hangs"):
            done = algo(workspace, *command, code=None, bare=True)
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1, 2, 3, 4), (name, said)
        assert "Traceback" not in said and "\x1b[31m" not in said, (name, said)
        assert done.returncode == 0 or said.strip(), name
        wrong = ("Errno", "codec can't", "object at 0x", "KeyError", "NoneType", "AttributeError", "TypeError")
        assert not [word for word in wrong if word in said], (name, said)


@pytest.mark.parametrize(
    "fault", ["emptied", "truncated", "no text", "of another kind", "deleted", "a folder", "a loop"]
)
@pytest.mark.parametrize("kind", ["settings", "ledger", "data", "log"])
def test_doctor_opens_what_it_ticks(whole, tmp_path, kind, fault):
    """Nothing of this is well, and the check that says so names the file or the dataset."""
    if kind == "settings" and fault in ("deleted", "emptied"):
        pytest.skip("no settings are settings")
    workspace = tmp_path / "w"
    shutil.copytree(whole, workspace, symlinks=True)
    path = sorted(workspace.glob(KINDS[kind]))[-1]
    break_file(path, fault)
    done = algo(workspace, "doctor", code=None, bare=True)
    assert done.returncode == 1 and "All is well" not in done.stdout, done.stdout
    said = " ".join((done.stdout + done.stderr).split())
    assert {"settings": "settings.ini", "ledger": "ledger", "data": ID, "log": ID}[kind] in said, said
