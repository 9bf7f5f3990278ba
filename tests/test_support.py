"""The tests' own tools: kinds, waiting without sleeping, simulated time, stores' cases, and what a run reports."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import budget, kinds, matrix
from support.simulated import pass_time, run_simulated
from support.waiting import eventually, forever, until

TESTS = Path(__file__).parent

# Kinds


def test_every_test_has_exactly_one_kind(request):
    """Of all that were collected, not only of those that were chosen."""
    found = kinds.collected(request.config)
    assert len(found) > 0
    assert {test: marks for test, marks in found.items() if len(marks & kinds.KINDS.keys()) != 1} == {}


def test_what_a_test_asks_for_says_its_kind_unless_a_mark_does():
    assert kinds.kind_of({"tmp_path"}, {"delta"}, ["slow"]) == "unit"
    assert kinds.kind_of({"tmp_path", "redis_server"}, set(), []) == "server"
    assert kinds.kind_of({"url"}, {"s3"}, []) == "server"
    assert kinds.kind_of({"redis_server", "browser"}, set(), []) == "browser"
    assert kinds.kind_of({"redis_server"}, {"s3"}, ["process", "slow"]) == "process"
    with pytest.raises(ValueError, match="process and server"):
        kinds.kind_of(set(), set(), ["process", "server"])


PLANTED = """
import socket, subprocess, pytest
def run(): subprocess.run(["true"])
@pytest.fixture
def started(): run()
def test_a_process(): run()
def test_a_process_in_a_fixture(started): pass
def test_a_socket():
    with socket.socket() as s: s.bind(("127.0.0.1", 0))
@pytest.mark.server
def test_a_process_beside_a_server(): run()
@pytest.mark.process
def test_what_is_allowed(started): run()
def test_nothing(): pass
"""
TOLD = {
    "a_process": "'unit' did more: subprocess.Popen",
    "a_process_in_a_fixture": "'unit' did more: subprocess.Popen",
    "a_socket": "'unit' did more: socket.bind",
    "a_process_beside_a_server": "'server' did more: subprocess.Popen",
}


def planted(folder: Path, text: str) -> str:
    """What pytest says of a module of tests, without the plugins of others."""
    (folder / "test_planted.py").write_text(text)
    (folder / "none.ini").write_text("[pytest]\n")
    command = ["-m", "pytest", "-p", "support.kinds", "-p", "no:cacheprovider", "--strict-markers", "-c", "none.ini"]
    environment = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.process
def test_a_test_of_the_wrong_kind_fails(tmp_path):
    said = planted(tmp_path, PLANTED)
    for test, message in TOLD.items():
        assert re.search(rf"_ (ERROR at setup of )?test_{test} _+\n.*{message}", said), (test, said)
    assert re.search(r"3 failed, 2 passed, 1 error", said), said


@pytest.mark.process
@pytest.mark.parametrize(
    ("marks", "message"),
    [("unit server", "is marked server and unit"), ("units", "'units' not found in `markers`")],
    ids=["two kinds", "an unknown mark"],
)
def test_a_test_of_two_kinds_or_of_an_unknown_one_is_not_collected(tmp_path, marks, message):
    lines = [f"@pytest.mark.{mark}" for mark in marks.split()]
    assert message in planted(tmp_path, "\n".join(["import pytest", *lines, "def test_it(): pass"]))


# Sleeping

# `sleep(3)`, in code that is handed to another process, too
SLEEP = re.compile(r"(?<!def )\b(?:sleep|wait_for_timeout)\(\s*[\d_]*\.?[\d_]+\s*\)")
REASON = "# a real sleep: "


def naps(text: str) -> list[int]:
    """Lines on which somebody sleeps for a fixed time and does not say why."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if SLEEP.search(line) and REASON not in line]


def test_nobody_sleeps_for_a_fixed_time():
    """A condition is waited for (`support.waiting`), time is simulated (`support.simulated`)."""
    files = [path for path in sorted(TESTS.rglob("*.py")) if path.parent.name != "support" and path != Path(__file__)]
    assert len(files) > 50
    assert {path.name: naps(path.read_text()) for path in files if naps(path.read_text())} == {}


def test_who_sleeps_is_seen():
    text = "import time\ntime.sleep(3)\nawait asyncio.sleep( .5 )\ncode = 'sleep(60)'\n"
    assert naps(text) == [2, 3, 4]
    assert naps(f"time.sleep(3)  {REASON}the other clock is a server's\ndef sleep(self, seconds): ...") == []
    assert naps("page.wait_for_timeout(1_500)") == [1]
    assert naps("time.sleep(rng.uniform(0, 1))\nawait asyncio.sleep(0.1 * n)") == []


def test_waiting_ends_when_it_is_so_or_when_it_takes_too_long():
    answers = iter([None, 0, "so"])
    assert until(lambda: next(answers), pause=0) == "so"
    with pytest.raises(TimeoutError, match=r"not so after 0\.01 seconds"):
        until(lambda: False, seconds=0.01, pause=0.001)


# Simulated time


def test_hours_pass_at_once_and_in_order():
    async def sleepers():
        seen, loop = [], asyncio.get_running_loop()

        async def wake(after):
            await asyncio.sleep(after)
            seen.append((after, loop.time()))

        await asyncio.gather(*(wake(after) for after in (7200, 60, 3600)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(forever(), 86_400)
        return seen, loop.time()

    seen, end = run_simulated(sleepers())
    assert [after for after, _ in seen] == [60, 3600, 7200]
    assert all(moment == pytest.approx(after) for after, moment in seen) and end == pytest.approx(93_600)


def test_a_thread_is_waited_for_and_its_timeout_does_not_strike():
    begun = threading.Event()

    def work():
        begun.set()
        time.sleep(0.05)  # a real sleep: a thread's
        return "done"

    async def wait():
        loop = asyncio.get_running_loop()
        done = await asyncio.wait_for(asyncio.to_thread(work), 30)
        return done, loop.time()

    done, took = run_simulated(wait())
    assert done == "done" and begun.is_set() and 0.04 < took < 30


def test_a_condition_is_waited_for_on_simulated_time():
    async def wait():
        loop = asyncio.get_running_loop()
        await eventually(lambda: loop.time() >= 1000, seconds=2000, pause=1)
        with pytest.raises(TimeoutError):
            await eventually(lambda: False, seconds=500)
        return loop.time()

    assert run_simulated(wait()) == pytest.approx(1500, abs=2)


def test_time_that_stands_is_an_error_and_real_loops_have_no_simulated_time(monkeypatch):
    monkeypatch.setattr("support.simulated.PATIENCE", 0.05)
    with pytest.raises(TimeoutError, match="will never come"):
        run_simulated(forever())
    with pytest.raises(RuntimeError, match="in a simulated loop only"):
        asyncio.run(pass_time(1))


# Stores and cases


@pytest.mark.parametrize(("stores", "cases"), [(3, 5), (3, 2), (2, 1), (1, 4), (3, 11)])
def test_every_store_and_every_case_is_in_the_fast_lane(stores, cases):
    kept = matrix.dealt(stores, cases)
    assert {store for store, _ in kept} == set(range(stores)) and {case for _, case in kept} == set(range(cases))
    assert len(kept) == max(stores, cases)


# What a run reports


def test_the_table_adds_up():
    work, passed = {"a": 60.0, "b": 6.0, "c": 160.0}, {"a": 70.0, "b": 7.0, "c": 200.0}
    lines = budget.table(work, passed, {"a": "unit", "b": "unit", "c": "process"})
    numbers = {line.split()[0]: line.split()[1:] for line in lines}
    assert numbers["unit"] == ["2", "77", "s", "66", "s", "600", "s", "11%"] and numbers["process"][-1] == "10%"
    assert numbers["all"][:5] == ["3", "277", "s", "226", "s"]


def test_what_grew_is_named_and_noise_is_not():
    stored = {"long": 20.0, "longer": 20.0, "short": 1.0}
    found = budget.grown(stored, {"long": 22.0, "longer": 40.0, "short": 1.5, "new": 9.5, "quick": 0.2})
    assert found == [(20.0, "longer"), (9.0, "new")]


def test_what_was_measured_to_be_slow_is_left_out_of_the_fast_lane(request):
    assert budget.is_slow({"a": budget.SLOW}, "a") and not budget.is_slow({"a": 0.7}, "a")
    assert not budget.is_slow({"a": 5.0}, "new")
    stored, found = budget.read_durations(), kinds.collected(request.config)
    assert [test for test in found if budget.is_slow(stored, test) and "slow" not in found[test]] == []


def test_durations_are_kept_rounded_and_sorted_and_quick_ones_are_not():
    kept = budget.merged({"b": 2.0, "c": 3.0, "gone": 4.0}, {"b": 0.1, "a": 1.26}, known={"a", "b", "c"})
    assert list(kept.items()) == [("a", 1.3), ("c", 3.0)]


# Servers


@pytest.mark.server
def test_a_server_is_started_once_for_all(request):
    """Whoever asks gets the same address, and it answers."""
    from support.servers import FOLDER, shared

    calls = []

    def start(alive: Path) -> str:
        calls.append(alive)
        return "somewhere"

    name = f"nothing-{time.monotonic_ns()}"
    assert {shared(request.config, name, start) for _ in range(3)} == {"somewhere"}
    assert calls == [request.config.stash[FOLDER] / "alive"]


@pytest.mark.process
def test_a_server_ends_when_the_pipe_is_closed(tmp_path):
    from support.servers import free_port, launch, listens

    port, folder = free_port(), tmp_path / "server"
    folder.mkdir()
    os.mkfifo(tmp_path / "alive")
    pipe = os.open(tmp_path / "alive", os.O_RDWR)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    launch(command, folder, tmp_path / "alive", lambda: listens(port), stop="TERM")
    assert listens(port)
    os.close(pipe)
    until(lambda: not listens(port) and not folder.exists(), 20)
