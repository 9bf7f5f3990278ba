"""What a sceptic tried on runs, and what must hold nevertheless."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.command import ALGO, algo, environment
from support.journey import dice_workspace, ended, manifests, write_template
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture
def workspace(tmp_path):
    return dice_workspace(tmp_path)


def only(workspace, template):
    (run,) = workspace.glob(f"reports/{template}/*")
    return run, json.loads((run / "run.json").read_text())


def test_the_kernel_sees_the_settings_that_were_hashed(workspace):
    """An environment's settings and --set reach the kernel, the store among them."""
    from algo_research.data.samples.synthetic import make_market

    for seed, option in ((1, []), (2, ["--env", "prod"])):
        (workspace / "settings.prod.ini").write_text("[store]\nurl = delta://other_store\n")
        make_market("noise", seed=seed, bars=300).bars.select("ts", "open", "high", "low", "close", "volume").write_csv(
            workspace / f"{seed}.csv"
        )
        algo(workspace, "data", "import", f"{seed}.csv", "--id", "test/MKT/1h", *option)
    write_template(
        workspace,
        "look",
        (
            "",
            "from algo_research.runs.parameters import DatasetId\nfrom algo_research.runs.record import "
            "current_run\nfrom algo_research.data.catalog import load_dataset",
        ),
        ("parameters", "dataset: DatasetId = 'test/MKT/1h'"),
        (
            "",
            "run = current_run()\nworkspace = run.workspace()\nrun.save('seen', {'content': load_dataset(dataset, "
            "workspace.store).snapshot().content, 'fees': workspace.settings.costs.fees})",
        ),
    )
    algo(workspace, "run", "look", "--env", "prod", "--set", "costs.fees=0.003")
    run, manifest = only(workspace, "look")
    assert json.loads((run / "artifacts/seen.json").read_text()) == {
        "content": manifest["inputs"]["data"]["test/MKT/1h"],
        "fees": 0.003,
    }


def test_a_template_cannot_choose_where_trials_are_counted(workspace):
    done = algo(
        workspace,
        "run",
        "backtest",
        "-p",
        "dataset=synthetic/noise:0/1h",
        "-p",
        'settings={"workspace.ledger": "hidden.db"}',
        code=1,
    )
    assert "may choose settings of costs, model, quality, research" in done.stdout
    assert not (workspace / "hidden.db").exists()


def killed_run(workspace, secret: str = "zq-7f31c9-planted") -> None:
    """A driver killed while its kernel has saved a secret."""
    write_template(
        workspace,
        "leaky",
        ("parameters", "x: int = 0"),
        (
            "",
            "import os, signal\nfrom pathlib import Path\nfrom algo_research.runs.record import "
            "current_run\ncurrent_run().save('note', {'key': "
            "os.environ['ALGO_SECRET_VENUE_KEY']})\nPath('saved').touch()\nsignal.pause()",
        ),
    )
    driver = subprocess.Popen(
        [*ALGO, "run", "leaky"],
        cwd=workspace,
        env=environment(ALGO_SECRET_VENUE_KEY=secret),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until((workspace / "saved").exists)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_an_abandoned_run_is_cleaned_of_secrets_and_listed_by_many_at_once(workspace):
    killed_run(workspace)
    ended(workspace)  # the kernel notices, and goes
    (part,) = workspace.glob("reports/leaky/.*.part")
    for n in range(4):
        shutil.copytree(part, part.with_name(f".20260101-00000{n}-0000000{n}.part"))
    with ThreadPoolExecutor(4) as pool:
        listed = list(
            pool.map(lambda _: algo(workspace, "runs", apart=True, ALGO_SECRET_VENUE_KEY="zq-7f31c9-planted"), range(4))
        )
    assert any("abandoned" in done.stdout for done in listed)
    assert algo(workspace, "runs", ALGO_SECRET_VENUE_KEY="zq-7f31c9-planted").stdout.count("abandoned") == 5
    assert not list(workspace.glob("reports/leaky/.*.part"))
    assert [p for p in workspace.glob("reports/**/*") if p.is_file() and b"zq-7f31c9-planted" in p.read_bytes()] == []


def test_a_secret_in_a_name_a_table_or_an_address_is_kept_out(workspace):
    key, password = "zq-7f31c9-planted", "hunter2pass"
    write_template(
        workspace,
        "names",
        ("parameters", "x: int = 0"),
        (
            "",
            "import os, html\nimport polars as pl\nfrom algo_research.runs.record import current_run\nkey = "
            "os.environ['ALGO_SECRET_VENUE_KEY']\nrun = current_run()\n"
            "run.save(key, {'a': 1})\nrun.save('table', pl.DataFrame({'t': [f'text {i} {key if i == 70 else i}' for "
            "i in range(2000)]}))\nprint(html.escape(os.environ['ALGO_SECRET_ODD']))\n"
            "print(run.workspace().settings.tracking.url)",
        ),
    )
    odd = 'less<and&"quoted"'
    done = algo(
        workspace,
        "run",
        "names",
        "--log",
        "--set",
        f"tracking.url=https://bob:{password}@127.0.0.1:9/",
        code=1,
        ALGO_SECRET_VENUE_KEY=key,
        ALGO_SECRET_ODD=odd,
    )
    import html

    for form in (key, password, odd, html.escape(odd)):
        assert form not in done.stdout + done.stderr
        assert [
            p for p in workspace.rglob("*") if p.is_file() and (form.encode() in p.read_bytes() or form in p.name)
        ] == []
    run, manifest = only(workspace, "names")
    assert manifest["error"]["type"] == "secret in an artifact" and not (run / "artifacts/table.parquet").exists()
    refused = algo(workspace, "run", "names", "-p", f"x={key}", code=2, ALGO_SECRET_VENUE_KEY=key)
    assert key not in refused.stderr + refused.stdout


def test_what_changes_while_a_run_goes_on_fails_it_and_local_modules_are_inputs(workspace):
    (workspace / "helper.py").write_text("V = 1\n")
    write_template(
        workspace,
        "local",
        ("parameters", "change: bool = False"),
        (
            "",
            "from pathlib import Path\nimport helper\nfrom algo_research.runs.record import "
            "current_run\ncurrent_run().metrics({'v': helper.V})\nif change: Path('helper.py').write_text('V = 3\\n')",
        ),
    )
    algo(workspace, "run", "local")
    assert "nothing to run" in algo(workspace, "run", "local").stderr
    (workspace / "helper.py").write_text("V = 2\n")
    assert "nothing to run" not in algo(workspace, "run", "local").stderr
    assert [json.loads(p.read_text())["v"] for p in sorted(workspace.glob("reports/local/*/metrics.json"))] == [1, 2]
    done = algo(workspace, "run", "local", "-p", "change=true", code=1)
    assert "changed while the run was going on: code ./helper.py" in done.stdout


def test_a_run_whose_outputs_are_gone_is_run_again(workspace):
    algo(workspace, "run", "dice")
    run, _ = only(workspace, "dice")
    shutil.rmtree(run / "artifacts")
    assert "nothing to run" not in algo(workspace, "run", "dice").stderr


def test_texts_that_look_like_markup_break_nothing(workspace):
    write_template(
        workspace,
        "label",
        ("parameters", "text: str = ''"),
        ("step:[/red]", "from algo_research.runs.record import current_run\ncurrent_run().tell('a', '[/red] hello')"),
    )
    algo(workspace, "run", "label", "-p", "text=[/red] x")
    assert "[/red] x" in algo(workspace, "runs").stdout and "[/red]" in algo(workspace, "show", "last").stdout
    (workspace / "grid.yaml").write_text("template: label\ngrid:\n  text: ['[/red]', '[bold]']\n")
    algo(workspace, "batch", "grid.yaml", apart=True)


def test_last_means_the_run_before_this_one(workspace):
    write_template(
        workspace,
        "follow",
        (
            "",
            "from algo_research.runs.parameters import RunId\nfrom algo_research.runs.record import current_run, "
            "find_run\nfrom pathlib import Path",
        ),
        ("parameters", "source: RunId = 'last'"),
        ("", "current_run().save('followed', {'id': find_run(Path('reports'), source).id})"),
    )
    algo(workspace, "run", "dice")
    first, _ = only(workspace, "dice")
    algo(workspace, "run", "follow")
    run, manifest = only(workspace, "follow")
    assert json.loads((run / "artifacts/followed.json").read_text()) == {"id": first.name} and list(
        manifest["inputs"]["runs"]
    ) == [first.name]


def test_a_template_that_names_no_kernel(workspace):
    """As an editor other than JupyterLab may leave it."""
    path = workspace / "templates" / "dice.ipynb"
    bare = json.loads(path.read_text())
    path.write_text(json.dumps({**bare, "metadata": {}}))
    assert "succeeded" in algo(workspace, "run", "dice").stdout


def test_a_notebook_run_by_its_path_is_reproduced(workspace, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("mine")
    shutil.move(workspace / "templates" / "dice.ipynb", elsewhere / "own.ipynb")
    algo(workspace, "run", str(elsewhere / "own.ipynb"))
    refused = algo(workspace, "reproduce", "last", code=2).stderr
    assert "which may have become another one since" in refused and "--template" in refused
    assert "Reproduced." in algo(workspace, "reproduce", "last", "--template", str(elsewhere / "own.ipynb")).stdout


@pytest.mark.parametrize(
    "change", [{"inputs": {}}, {"record": None}, {"steps": [{}]}, {"error": "x"}, {"outputs": None}], ids=str
)
def test_a_manifest_with_holes_is_named_and_takes_nothing_with_it(workspace, change):
    algo(workspace, "run", "dice")
    run, manifest = only(workspace, "dice")
    (run / "run.json").write_text(json.dumps({**manifest, **change}))
    for command in (["show", "last"], ["reproduce", "last"]):
        assert "no complete manifest" in algo(workspace, *command, code=2).stderr
    assert "damaged" in algo(workspace, "runs").stdout


def test_a_full_disk_is_a_failed_run_that_says_so(workspace):
    """Files may grow to 300 kB: the executed notebook cannot be written."""
    write_template(workspace, "big", ("parameters", "x: int = 0"), ("", "print('x' * 600_000)"))
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash", *ALGO, "run", "big"]
    done = subprocess.run(limited, cwd=workspace, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    listed = algo(workspace, "runs").stdout
    assert re.search(r"big\s+(failed|killed)", listed), (listed, done.stderr)
    assert not os.listdir(workspace / "reports" / "big")[0].startswith(".")
    assert manifests(workspace)


@pytest.mark.parametrize("error", [OSError(27, "File too large"), ValueError("I/O operation on closed file")], ids=repr)
def test_what_libraries_print_is_read_on_when_it_cannot_be_logged(monkeypatch, error):
    """A reader that gave up would break the pipe of the kernel, or of what outlives it,
    and print a traceback of its own.
    """
    from algo_research.runs.engine import _pipe_to

    failures, lines = [], queue.Queue()
    monkeypatch.setattr(threading, "excepthook", failures.append)

    def log(line):
        lines.put(line)
        raise error

    into = _pipe_to(log)
    os.write(into, b"one\ntwo\n")
    os.close(into)
    assert [lines.get(timeout=10), lines.get(timeout=10)] == ["one", "two"] and not failures


@pytest.mark.parametrize("when", ["before it is looked at", "before it is killed"])
def test_a_kernel_that_ends_by_itself_is_no_error_of_its_watch(monkeypatch, when):
    import psutil

    from algo_research.runs.engine import Watch, _watch_kernel

    process, children = subprocess.Popen(["sleep", "60"]), psutil.Process.children

    def ended(self, recursive=False):
        if watch.reason:
            process.kill()
            process.wait()
        return children(self, recursive)

    watch = Watch(timeout=0.001)
    if when == "before it is looked at":
        process.kill()
        process.wait()
    monkeypatch.setattr(psutil.Process, "children", ended)
    _watch_kernel(process.pid, watch, threading.Event(), set())
    assert process.poll() == -signal.SIGKILL and watch.reason == ("" if when == "before it is looked at" else "timeout")


def test_a_run_leaves_nothing_among_temporary_files(workspace, tmp_path):
    place = tmp_path / "temporary"
    place.mkdir()
    write_template(workspace, "cells", ("", "x = 1"), ("parameters", "how: str = 'well'"), ("", ENDS))
    for how, code in (("well", 0), ("badly", 1), ("killed", 1)):
        algo(workspace, "run", "cells", "-p", f"how={how}", code=code, apart=True, TMPDIR=str(place))
        assert not list(place.glob("algo-*")), how
    assert all(m["record"]["seconds"] > 0 for m in manifests(workspace).values())  # no cell is a step


ENDS = """
import os, signal
if how == "badly": raise ValueError
if how == "killed": os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_notebook_of_quick_cells_is_saved_on_the_way(workspace, monkeypatch):
    from algo_research.runs.engine import RunClient, Watch, execute

    monkeypatch.setattr(RunClient, "save_every", 0.5)

    cells = [("", "import threading\nthreading.Event().wait(0.4)\nprint('done')")] * 4
    template, target, seen = write_template(workspace, "quick", *cells), workspace / "out.ipynb", []
    watch = Watch(log=lambda line: seen.append(target.read_text().count('done\\n"')))
    assert execute(template, target, {}, watch) == "succeeded"
    assert 1 <= seen[-1] < 4 and target.read_text().count('done\\n"') == 4


WAITS = """
import subprocess, threading
from pathlib import Path
child = subprocess.Popen(["sleep", "300"])
Path(there).touch()
threading.Event().wait(120)
"""


def test_an_interrupted_cell_whose_child_still_runs_is_no_traceback(workspace):
    there = workspace / "there"
    write_template(workspace, "waits", ("parameters", "there: str = ''"), ("", WAITS))
    command = [*ALGO, "run", "waits", "-p", f"there={there}"]
    driver = subprocess.Popen(command, cwd=workspace, env=environment(), stderr=subprocess.PIPE, text=True)
    until(there.exists)
    driver.send_signal(signal.SIGINT)
    said = driver.communicate(timeout=60)[1]
    assert driver.returncode == 130 and "Traceback" not in said and "never retrieved" not in said
    ended(workspace)
