"""A run's processes end with it, however it ends; its status is true, and its trials are counted once."""

import json
import os
import signal
import subprocess
from contextlib import closing

import psutil
import pytest
from support.command import ALGO, SETTINGS, algo, environment
from support.journey import write_template
from support.waiting import until

from algo_research.backtest.ledger import TrialLedger

pytestmark = [pytest.mark.slow, pytest.mark.process]

LONG, SHORT = 300, 0.5  # seconds: until it is killed, and until it was seen
SLEEP = f"[sys.executable, '-c', 'import time; time.sleep({LONG})', marker]"
STARTS = {
    "child": f"subprocess.Popen({SLEEP})",
    "session": f"subprocess.Popen({SLEEP}, start_new_session=True)",
    "daemon": "subprocess.run([sys.executable, '-c', 'import os, subprocess, sys; os.setsid(); "
    f'subprocess.Popen([sys.executable, "-c", "import time; time.sleep({LONG})", sys.argv[1]])\', marker])',
    "without an environment": f"subprocess.Popen({SLEEP}, env={{}}, start_new_session=True); time.sleep({SHORT})",
    "descriptors": f"subprocess.Popen({SLEEP}, close_fds=False)",
    "fork": f"os.fork() or time.sleep({LONG})",
    "forked daemon": f"os.fork() or (os.setsid(), os.fork() and os._exit(0), time.sleep({LONG}))",
    "pool": "multiprocessing.get_context('fork').Pool(2)",
    "spawned pool": "pool = multiprocessing.get_context('spawn').Pool(1); pool.apply_async(time.sleep, (300,))",
}
ENDS = {
    "well": ("1", "succeeded"),
    "with an error": ("1 / 0", "failed"),
    "with exit": ("sys.exit(0)", "failed"),
    "at once": ("os._exit(0)", "killed"),
    "killed": ("os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    "crashed": ("import ctypes; ctypes.string_at(0)", "killed"),
    "in time": (f"time.sleep({LONG})", "timeout"),
    "before anybody looked": (f"subprocess.Popen({SLEEP}, env={{}}, start_new_session=True); os._exit(3)", "killed"),
    "while it ends": (
        f"import atexit\natexit.register(lambda: subprocess.Popen({SLEEP}, env={{}}, start_new_session=True))",
        "succeeded",
    ),
}
HEAD = "import multiprocessing, os, signal, subprocess, sys, time"
TRIAL = """
from algo_research.runs.record import current_run
space = current_run().workspace()
dataset = space.load(market)
active = dataset.bars["close"].pct_change().fill_null(0.0)
ids = (str(dataset.id), dataset.snapshot().content, dataset.id.symbol)
space.ledger.record(ids[0], {"trial": marker}, dataset.bars["ts"], active, ids[1])
"""


def processes_of(folder) -> list[str]:
    """What is alive and has to do with a workspace: by its command, its folder or its environment."""

    def about(process: psutil.Process) -> str:
        try:
            told = f"{process.pid} {process.cmdline()} {process.cwd()} {process.environ()}"
            return told if str(folder) in told and process.status() != psutil.STATUS_ZOMBIE else ""
        except psutil.Error:
            return ""

    return [told for process in psutil.process_iter() if process.pid != os.getpid() and (told := about(process))]


def none_is_left(folder, seconds: float = 5) -> None:
    try:
        until(lambda: not processes_of(folder), seconds=seconds, pause=0.1)
    except TimeoutError:
        raise AssertionError(processes_of(folder)) from None


def template(folder, name: str, end: str) -> None:
    """One that starts whatever can be started, tries something, and ends."""
    marker = f"{folder}-{name}"
    starts = "\n".join(STARTS.values())
    write_template(
        folder,
        name,
        ("", f"{HEAD}\nfrom algo_research.runs.parameters import DatasetId"),
        ("parameters", f"marker: str = '{marker}'\nmarket: DatasetId = 'synthetic/noise:0/1h'"),
        ("step:start", f"{starts}\nNone"),
        ("step:trial", TRIAL),
        ("step:end", end),
    )


def trials(folder) -> int:
    with closing(TrialLedger(folder / ".algo" / "ledger.db")) as ledger:
        ledger.verify()
        return ledger.count("synthetic/noise:0/1h")


@pytest.mark.parametrize("end", ENDS)
def test_what_a_run_started_ends_with_it(tmp_path, end):
    source, status = ENDS[end]
    template(tmp_path, "t", source)
    algo(tmp_path, "run", "t", *(["--timeout", "8"] if status == "timeout" else []), code=None)
    (run,) = tmp_path.glob("reports/t/*")
    assert json.loads((run / "run.json").read_text())["status"] == status
    assert not (run / ".lock").exists() and not (run / "work").exists()
    none_is_left(tmp_path)
    assert trials(tmp_path) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_when_the_runner_is_killed_so_is_the_rest(tmp_path, number):
    """The run is not running any more, and its trial is counted by the next command that looks."""
    template(tmp_path, "t", f"time.sleep({LONG})")
    (tmp_path / "settings.ini").write_text(SETTINGS)
    runner = subprocess.Popen([*ALGO, "run", "t"], cwd=tmp_path, env=environment())
    until(lambda: "[end]" in "".join(p.read_text() for p in tmp_path.glob("reports/t/.*.part/log.txt")), pause=0.1)
    runner.send_signal(number)
    runner.wait(20)
    none_is_left(tmp_path)
    for _ in range(2):
        assert ("abandoned" if number == signal.SIGKILL else "cancelled") in algo(tmp_path, "runs").stdout
        algo(tmp_path, "run", "backtest", "-p", "dataset=nowhere/at/1h", code=2)  # recovers what was abandoned
    assert trials(tmp_path) == 1
