"""Runs as a user meets them: real processes, real kernels, killed where it hurts."""

import json
import re
import shutil
import signal
import subprocess

import nbformat
import pytest
from support.command import ALGO, SETTINGS, algo, environment
from support.journey import PACKAGE, dice_workspace, ended, manifests, write_template
from support.waiting import until

FAULTY = """
import os, signal
from pathlib import Path
faults = Path(os.environ["FAULTS"])
def fault(kind):  # a fault strikes once
    mark = faults / f"{kind}-{seed}"
    if mark.exists(): mark.unlink(); return True
if fault("kill"): os.kill(os.getpid(), signal.SIGKILL)
if fault("memory"): hoard = [bytearray(2**26) for _ in range(40)]; signal.pause()
if fault("hang"): signal.pause()
"""


@pytest.fixture
def workspace(tmp_path):
    return dice_workspace(tmp_path)


@pytest.mark.process
@pytest.mark.slow
def test_a_run_leaves_what_it_should_and_is_not_repeated(workspace):
    first = algo(workspace, "run", "dice", "-p", "throws=50")
    (run,) = workspace.glob("reports/dice/*")
    assert {p.name for p in run.iterdir()} == {
        "notebook.ipynb",
        "report.html",
        "metrics.json",
        "artifacts",
        "run.json",
        "log.txt",
    }
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["status"] == "succeeded" and [s["name"] for s in manifest["steps"]] == ["throw", "count"]
    assert manifest["inputs"]["parameters"] == {"throws": 50, "seed": 0, "dataset": "synthetic/noise:0/1h"} and set(
        manifest["inputs"]["data"]
    ) == {"synthetic/noise:0/1h"}
    assert "succeeded" in first.stdout and run.name in first.stdout
    again = algo(workspace, "run", "dice", "-p", "throws=50")
    assert "nothing to run" in again.stderr and len(list(workspace.glob("reports/dice/*"))) == 1
    forced = algo(workspace, "run", "dice", "-p", "throws=50", "--force")
    runs = manifests(workspace)
    assert len(runs) == 2 and len({json.dumps(m["outputs"], sort_keys=True) for m in runs.values()}) == 1, forced.stdout
    assert run.name in algo(workspace, "runs", "--metric", "mean").stdout
    for option, wrong, near in (
        ("--metric", "meen", "'mean'"),
        ("--status", "faild", "'failed'"),
        ("--template", "dicee", "'dice'"),
    ):
        assert f"Did you mean {near}" in algo(workspace, "runs", option, wrong, code=2).stderr
    assert "throw" in algo(workspace, "show", "last", "--log").stdout


# --------------------------------------------------------------------------------------------------------- reproduction


@pytest.fixture
def elsewhere(tmp_path_factory):
    """Another checkout: its own copy of the package, with what was compiled of it, and of the notebooks."""
    folder = tmp_path_factory.mktemp("elsewhere")
    ignore = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(PACKAGE, folder / "algo_research", ignore=ignore)
    shutil.copytree(PACKAGE.parent / "nbs" / "templates", folder / "nbs" / "templates", ignore=ignore)
    (folder / "settings.ini").write_text(SETTINGS)
    return folder


@pytest.mark.process
@pytest.mark.slow
def test_research_is_reproduced_in_another_checkout_and_each_changed_input_is_named(tmp_path, elsewhere):
    """Every hash equal; then a bar, a parameter, a line of code and a dependency are changed, one at a time."""
    from algo_research.data.samples.synthetic import make_market

    here = tmp_path / "here"
    here.mkdir()
    (here / "settings.ini").write_text(SETTINGS)
    bars = make_market("planted", seed=4, bars=1500, strength=0.3).bars
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / "market.csv")
    for place in (here, elsewhere):
        algo(place, "data", "import", str(tmp_path / "market.csv"), "--id", "test/PLANTED/1h")
    other = {"PYTHONPATH": str(elsewhere), "PYTHONHASHSEED": "7"}
    algo(here, "run", "research", "-p", "dataset=test/PLANTED/1h", "-p", "folds=2", "-p", "horizon=5")
    (run,) = here.glob("reports/research/*")
    recorded = json.loads((run / "run.json").read_text())
    assert len(recorded["outputs"]) > 5 and recorded["error"] is None

    same = algo(elsewhere, "reproduce", str(run), **other)
    assert (
        "Reproduced." in same.stdout
        and f"{len(recorded['outputs'])} of {len(recorded['outputs'])} output hashes are equal" in same.stdout
    )
    (repeated,) = elsewhere.glob("reports/research/*")
    assert json.loads((repeated / "run.json").read_text())["outputs"] == recorded["outputs"]
    assert json.loads((repeated / "run.json").read_text())["record"]["reproduces"] == run.name

    parameter = algo(elsewhere, "reproduce", str(run), "-p", "horizon=3", code=1, **other)
    assert re.search(r"parameter horizon\s+5\s+3", parameter.stdout) and "output metrics.json" in parameter.stdout

    sharpe = elsewhere / "algo_research" / "stats" / "sharpe.py"
    code = sharpe.read_text()
    sharpe.write_text(code + "\nSURPRISE = 1\n")
    changed = algo(elsewhere, "reproduce", str(run), code=1, **other)
    assert (
        re.findall(r"^ ((?:template|code|parameter|setting|data|dependency) \S+) ", changed.stdout, re.M)
        == ["code stats/sharpe.py"]
        and "Not run" in changed.stdout
    )
    sharpe.write_text(code)

    metadata = elsewhere / "fake" / "numpy-9.9.9.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9.9\n")
    upgraded = algo(elsewhere, "reproduce", str(run), code=1, PYTHONPATH=f"{elsewhere}:{elsewhere / 'fake'}")
    assert re.search(r"dependency numpy\s+\S+\s+9\.9\.9", upgraded.stdout)

    lines = (tmp_path / "market.csv").read_text().splitlines()
    lines[700] = ",".join([*lines[700].split(",")[:5], "123.0"])
    (tmp_path / "market.csv").write_text("\n".join(lines))
    algo(elsewhere, "data", "import", str(tmp_path / "market.csv"), "--id", "test/PLANTED/1h", "--replace")
    bar = algo(elsewhere, "reproduce", str(run), code=1, **other)
    assert re.findall(r"^ ((?:template|code|parameter|setting|data|dependency) \S+) ", bar.stdout, re.M) == [
        "data test/PLANTED/1h"
    ]


@pytest.mark.process
@pytest.mark.slow
def test_a_verdict_counts_the_trials_before_it_and_is_reproduced_with_them(workspace, tmp_path_factory):
    """The ledger travels with the run: elsewhere nothing was tried, and the count is the same."""
    write_template(
        workspace,
        "count",
        (
            "",
            "from algo_research.runs.record import current_run\nfrom algo_research.runs.parameters import "
            "DatasetId\nimport numpy as np, polars as pl\nfrom datetime import datetime, UTC",
        ),
        ("parameters", "dataset: DatasetId = 'synthetic/noise:0/1h'\nname: str = 'a'"),
        (
            "",
            "run = current_run()\nledger = run.workspace().ledger\nts = pl.datetime_range(datetime(2024, 1, 1, "
            "tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC), '1h', eager=True)\n"
            "ledger.record(dataset, {'name': name}, ts, "
            "np.random.default_rng(len(name)).normal(size=len(ts)))\nrun.metrics({'trials': ledger.count(dataset)})",
        ),
    )
    for name in ("a", "bb", "ccc"):
        algo(workspace, "run", "count", "-p", f"name={name}")
    assert [m["inputs"]["parameters"]["name"] for m in manifests(workspace).values()] == ["a", "bb", "ccc"]
    last = sorted(workspace.glob("reports/count/*"))[-1]
    assert json.loads((last / "metrics.json").read_text()) == {"trials": 3.0}
    assert "3 trials" in algo(workspace, "trials", "synthetic/noise:0/1h").stdout
    other = tmp_path_factory.mktemp("other")
    (other / "settings.ini").write_text(SETTINGS)
    shutil.copytree(workspace / "templates", other / "templates")
    assert "Reproduced." in algo(other, "reproduce", str(last)).stdout
    # with something changed it is a new trial, after all that were made: three here, and a fourth
    assert (
        "trial ledger"
        in algo(
            workspace, "reproduce", sorted(workspace.glob("reports/count/*"))[0].name, "-p", "name=dddd", code=1
        ).stdout
    )
    changed = [m["run_id"] for m in manifests(workspace).values() if m["inputs"]["parameters"]["name"] == "dddd"]
    assert json.loads((workspace / "reports/count" / changed[0] / "metrics.json").read_text()) == {"trials": 4.0}
    # the first run would count three now, so it is not "done"; the last one is
    assert "nothing to run" in algo(other, "run", "count", "-p", "name=ccc").stderr
    assert "nothing to run" not in algo(workspace, "run", "count", "-p", "name=a").stderr


# ---------------------------------------------------------------------------------------------------------------- batch


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("size", [6, pytest.param(20, marks=pytest.mark.long)])
def test_a_batch_survives_kills_and_its_rerun_completes_what_is_missing(workspace, size):
    faults = workspace / "faults"
    faults.mkdir()
    for mark in ("kill-2", "memory-3"):
        (faults / mark).touch()
    write_template(
        workspace,
        "faulty",
        ("parameters", "seed: int = 0"),
        ("step:faults", FAULTY),
        ("step:find", "from algo_research.runs.record import current_run\ncurrent_run().metrics({'seed': seed})"),
    )
    (workspace / "grid.yaml").write_text(
        f"template: faulty\ngrid:\n  seed: {list(range(size))}\nparallel: 2\nmemory: 1.5\n"
    )
    driver = subprocess.Popen(
        [*ALGO, "batch", "grid.yaml"],
        cwd=workspace,
        env=environment(FAULTS=str(faults)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def finished() -> set[int]:
        found = [p for p in workspace.glob("reports/faulty/*/run.json") if not p.parent.name.startswith(".")]
        return {json.loads(p.read_text())["inputs"]["parameters"]["seed"] for p in found}

    until(lambda: len(finished()) >= size // 2 and finished() >= {2, 3}, 300)
    driver.kill()
    driver.wait()
    ended(workspace)

    before = {m["inputs"]["parameters"]["seed"]: (run_id, m["status"]) for run_id, m in manifests(workspace).items()}
    assert before[2][1] == "killed" and before[3][1] == "out of memory"
    told = algo(workspace, "runs", "--limit", "100").stdout
    assert "running" not in told
    done = {seed: run_id for seed, (run_id, status) in before.items() if status == "succeeded"}
    assert size // 4 <= len(done) < size and set(before) - set(done) >= {2, 3}
    for run_id in done.values():
        assert json.loads((workspace / "reports/faulty" / run_id / "metrics.json").read_text()) == {
            "seed": next(s for s, r in done.items() if r == run_id)
        }

    preview = algo(workspace, "batch", "grid.yaml", "--dry-run", FAULTS=str(faults)).stdout
    assert preview.count("done before") == len(done) and preview.count("to do") == size - len(done)
    algo(workspace, "batch", "grid.yaml", apart=True, FAULTS=str(faults))
    after = [m for m in manifests(workspace).values() if m["status"] == "succeeded"]
    assert sorted(m["inputs"]["parameters"]["seed"] for m in after) == list(range(size))
    assert {m["run_id"] for m in after} >= set(done.values())
    assert all(m["record"]["told"].keys() <= {"seed"} for m in after)  # what the batch's file says, and no more
    assert algo(workspace, "batch", "grid.yaml", apart=True, FAULTS=str(faults)).stdout.count("done before") == size


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, "cancelled"), (signal.SIGTERM, "cancelled"), (signal.SIGKILL, "abandoned")]
)
def test_a_stopped_driver_leaves_a_run_that_says_so(workspace, number, status):
    faults = workspace / "faults"
    faults.mkdir()
    (faults / "hang-0").touch()
    write_template(workspace, "faulty", ("parameters", "seed: int = 0"), ("step:faults", FAULTY))
    driver = subprocess.Popen(
        [*ALGO, "run", "faulty"],
        cwd=workspace,
        env=environment(FAULTS=str(faults)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: not (faults / "hang-0").exists())
    assert "running" in algo(workspace, "runs").stdout
    driver.send_signal(number)
    said = driver.communicate(timeout=30)[1]
    assert driver.returncode == (130 if status == "cancelled" else -9)
    assert "Traceback" not in said and "never retrieved" not in said
    # an orphaned kernel takes a moment to notice, and until then the run goes on
    until(lambda: status in algo(workspace, "runs").stdout, pause=0.2)
    (run,) = workspace.glob("reports/faulty/2*")
    cells = nbformat.read(run / "notebook.ipynb", 4).cells
    assert status == "abandoned" or cells[-1].metadata.papermill.status == "failed"
    ended(workspace)
    assert "Delete" in algo(workspace, "runs", "--clean", code=1).stderr  # asks, and nobody answers
    algo(workspace, "runs", "--clean", "--yes")
    assert not list(workspace.glob("reports/faulty/*"))


def test_a_metric_that_is_no_number_any_more_is_not_kept_as_it_was(tmp_path, capsys):
    from algo_research.runs.record import CurrentRun

    run = CurrentRun(tmp_path)
    run.metrics({"sharpe": 1.5, "fills": 3})
    assert run.metrics({"sharpe": float("inf"), "worst": float("nan"), "edge": None}) == {"fills": 3.0}
    assert "sharpe = inf, worst = nan" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.process
@pytest.mark.slow
def test_a_planted_secret_reaches_no_file(workspace):
    """Printed whole and in pieces, raised, displayed, in a widget's text, by a child process, in metrics,
    in artifacts, and in a child's last words.
    """
    key, token = "zq-7f31c9-planted", "Bearer xk/93 ölplatt+form"
    (workspace / "secrets").mkdir()
    (workspace / "secrets" / "token").write_text(token + "\n")
    write_template(
        workspace,
        "leaky",
        ("parameters", "where: str = 'print'"),
        (
            "step:read",
            "import base64, os, sys, json, time, subprocess\nfrom algo_research.core.secrets import "
            "read_secret\nfrom algo_research.runs.record import current_run\n"
            "key, token = read_secret('venue_key').get_secret_value(), read_secret('token').get_secret_value()\nrun "
            "= current_run()",
        ),
        (
            "step:print",
            "print(key, token, repr(token), json.dumps(token))\nsys.stdout.write(key[:7]); sys.stdout.flush()\n"
            "time.sleep(0.3)\n"  # a real sleep: the kernel sends what was printed after a fifth of a second
            "sys.stdout.write(key[7:] + '\\n')\nprint(token, file=sys.stderr)\n"
            "print(base64.b64encode(key.encode()).decode())",
        ),
        (
            "step:display",
            "from IPython.display import HTML, JSON, display\ndisplay(HTML(f'<b title=\"{token}\">{key}</b>'), "
            "JSON({'nested': [{'key': key}]}))\nimport ipywidgets\nipywidgets.Text(value=key)",
        ),
        (
            "step:process",
            "subprocess.run(['sh', '-c', 'echo $ALGO_SECRET_VENUE_KEY; echo $ALGO_SECRET_VENUE_KEY "
            ">&2'])\nos.write(1, (key + '\\n').encode())\nrun.tell('process', key)",
        ),
        ("step:save", "run.save('note', {'key': key})\nrun.save('raw.csv', f'a,b\\n{token},1\\n'.encode())\nkey"),
        ("step:raise", "if where == 'raise': raise ValueError({'key': key, 'token': token})"),
        ("step:binary", "if where == 'binary': run.save('model.bin', b'\\xff\\x00' + key.encode())"),
    )
    for where, code in (("print", 0), ("raise", 1), ("binary", 1)):
        done = algo(workspace, "run", "leaky", "-p", f"where={where}", "--log", code=code, ALGO_SECRET_VENUE_KEY=key)
        for text in (done.stdout, done.stderr):
            assert key not in text and token not in text
        if where == "print":
            assert "**********" in done.stderr
    refused = algo(workspace, "run", "leaky", "-p", f"where={key}", code=2, ALGO_SECRET_VENUE_KEY=key)
    assert "holds a secret" in refused.stderr and key not in refused.stderr
    algo(workspace, "show", "last", "--log", "--inputs")
    written = [p for p in workspace.rglob("*") if p.is_file() and p.parent.name != "secrets"]
    assert sum(p.name == "notebook.ipynb" for p in written) == 3 and sum(p.name == "report.html" for p in written) == 3
    import base64

    forms = [key, token, json.dumps(token)[1:-1], base64.b64encode(key.encode()).decode()]
    leaks = [(p, form) for p in written for form in forms if form.encode() in p.read_bytes()]
    assert leaks == []
    binary = next(m for m in manifests(workspace).values() if m["inputs"]["parameters"]["where"] == "binary")
    assert binary["status"] == "failed" and "model.bin was removed: it holds a secret" in binary["error"]["message"]


@pytest.mark.process
@pytest.mark.slow
def test_a_secret_written_by_a_killed_kernel_is_masked_too(workspace):
    key = "zq-7f31c9-planted"
    write_template(
        workspace,
        "leaky",
        ("parameters", "x: int = 0"),
        (
            "step:print",
            "import os, signal, time\nprint(os.environ['ALGO_SECRET_VENUE_KEY'], flush=True)\n"
            "time.sleep(1)\n"  # a real sleep: what was printed is on its way before the kernel dies
            "os.kill(os.getpid(), signal.SIGKILL)",
        ),
    )
    algo(workspace, "run", "leaky", code=1, ALGO_SECRET_VENUE_KEY=key)
    written = [p for p in workspace.rglob("*") if p.is_file()]
    assert any(p.name == "notebook.ipynb" and b"**********" in p.read_bytes() for p in written)
    assert [p for p in written if key.encode() in p.read_bytes()] == []


# ----------------------------------------------------------------------------------------------------------- bad input


BAD = {
    "unknown template": (["run", "dize"], "Did you mean 'dice'"),
    "no such notebook": (["run", "elsewhere/mine.ipynb"], "no notebook"),
    "unknown parameter": (["run", "dice", "-p", "throw=3"], "Did you mean 'throws'"),
    "ill-typed parameter": (["run", "dice", "-p", "throws=many"], "valid integer"),
    "unreadable parameter": (["run", "dice", "-p", "throws"], "-p name=value"),
    "unknown dataset": (["run", "dice", "-p", "dataset=arch/SP50/1d"], "Did you mean 'arch/SP500/1d'"),
    "unknown run": (["show", "20261121-000000-00000000"], "Unknown run"),
    "no such folder": (["reproduce", "nowhere/at/all"], "There is no folder"),
    "no batch file": (["batch", "grid.yaml"], "There is no file"),
    "negative limit": (["run", "dice", "--timeout", "-1"], "timeout"),
    "notebook without parameters": (["run", "{bare}"], "needs one: tag the cell"),
    "notebook that is none": (["run", "{torn}"], "is no notebook"),
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_says_what_to_do_and_starts_nothing(case, workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), folder / "bare.ipynb")
    (folder / "torn.ipynb").write_text('{"cells": [')
    arguments, expected = BAD[case]
    done = algo(
        workspace, *(a.format(bare=folder / "bare.ipynb", torn=folder / "torn.ipynb") for a in arguments), code=2
    )
    assert expected in " ".join(done.stderr.split())
    assert not list(workspace.glob("reports/*/*"))


@pytest.mark.process
@pytest.mark.slow
def test_a_cell_that_fails_keeps_the_run_and_shows_where(workspace):
    write_template(
        workspace,
        "broken",
        ("parameters", "x: int = 1  # a number"),
        ("step:prepare", "print('so far')"),
        ("step:divide", "1 / (x - 1)"),
        ("step:after", "print('never')"),
    )
    done = algo(workspace, "run", "broken", code=1)
    assert "failed" in done.stdout and "step divide" in done.stdout and "ZeroDivisionError" in done.stdout
    (run,) = workspace.glob("reports/broken/*")
    manifest = json.loads((run / "run.json").read_text())
    assert manifest["error"]["step"] == "divide" and [s["status"] for s in manifest["steps"]] == ["succeeded", "failed"]
    report = (run / "report.html").read_text()
    assert "ZeroDivisionError" in report and "divide" in report and "so far" in report
    assert "ZeroDivisionError" in algo(workspace, "show", "last").stdout


@pytest.mark.process
@pytest.mark.slow
def test_damaged_and_older_manifests(workspace):
    algo(workspace, "run", "dice")
    (run,) = workspace.glob("reports/dice/*")
    manifest = json.loads((run / "run.json").read_text())
    whole = (run / "run.json").read_text()

    older = {**manifest, "schema": 1, "steps": [[s["name"], s["seconds"]] for s in manifest["steps"]]}
    (run / "run.json").write_text(json.dumps(older))
    assert "throw" in algo(workspace, "show", "last").stdout
    assert "Reproduced." in algo(workspace, "reproduce", run.name).stdout
    shutil.rmtree(sorted(workspace.glob("reports/dice/*"))[-1])

    for text, expected in {
        whole[:300]: "is damaged",
        "[1, 2]": "no manifest",
        json.dumps({**manifest, "schema": 99}): "Update algo-research",
        json.dumps({k: v for k, v in manifest.items() if k != "inputs"}): "inputs: Field required",
    }.items():
        (run / "run.json").write_text(text)
        assert expected in algo(workspace, "show", run.name, code=2).stderr
        assert "damaged" in algo(workspace, "runs").stdout
        assert (run / "run.json").read_text() == text  # left as it was found
    (run / "run.json").write_text(json.dumps({**manifest, "inputs": {**manifest["inputs"], "seed": 5}}))
    assert "was changed" in algo(workspace, "reproduce", run.name, code=2).stderr
    (run / "run.json").write_text(whole)
    (run / "metrics.json").write_text('{"mean": 6}')
    assert "metrics.json is not what run.json recorded" in algo(workspace, "reproduce", run.name, code=2).stderr
    assert "done before" not in algo(workspace, "run", "dice", "-p", "throws=11").stderr


@pytest.mark.slow
@pytest.mark.process
def test_a_run_records_the_commit_of_its_workspace(tmp_path):
    """And whether that is what ran; other folders of the repository are none of its business."""

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "core.fsmonitor=false"]
        command = ["git", *own, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    workspace = tmp_path / "workspace"
    workspace.mkdir()
    dice_workspace(workspace)
    (tmp_path / "beside.txt").write_text("a")
    (workspace / "rules.py").write_text("x = 1")
    git("init", "-q")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    hook.chmod(0o700)
    git("add", ".")
    git("commit", "-qm", "first")
    git("config", "core.fsmonitor", str(hook))  # what a stranger's folder may bring along

    def recorded(throws: int) -> tuple[str, bool]:
        algo(workspace, "run", "dice", "-p", f"throws={throws}")
        made = {m["inputs"]["parameters"]["throws"]: m["record"] for m in manifests(workspace).values()}
        record = made[throws]
        return record["workspace_commit"], record["workspace_dirty"]

    (tmp_path / "beside.txt").write_text("b")
    assert recorded(2) == (git("rev-parse", "HEAD").strip(), False)
    (workspace / "rules.py").write_text("x = 2")
    assert recorded(3) == (git("rev-parse", "HEAD").strip(), True)
    assert not (tmp_path / "executed").exists()
