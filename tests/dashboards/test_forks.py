"""Kernels that are forked: real ones, from a real process, and ordinary ones where there is none."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning import KernelProvisionerFactory
from support.command import ALGO, environment
from support.journey import ended
from support.servers import free_port, listens
from support.waiting import until

from algo_research.cli.forks import SOCKET, ForkedKernel, ask_for_fork

pytestmark = pytest.mark.process
TOLD = "import json, os; print(json.dumps([os.getpid(), os.getppid(), os.getcwd(), os.environ.get('TOLD')]))"


@pytest.fixture(autouse=True)
def provisioners():
    """One that was made before knows the default of that time."""
    KernelProvisionerFactory.clear_instance()
    yield
    KernelProvisionerFactory.clear_instance()


@pytest.fixture
def forks(tmp_path, monkeypatch):
    """The process that forks, with a module that is quick to import."""
    place = tmp_path / "forks"
    started = subprocess.Popen([sys.executable, "-m", "algo_research.cli.forks", str(place), "json", str(os.getpid())])
    monkeypatch.setenv(SOCKET, str(place))
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "algo-forked")
    until(place.exists, 30)
    yield started
    started.kill()
    started.wait()


@contextmanager
def kernel(**more) -> Iterator[list]:
    """A kernel: what it says of its process, its parent, its folder and its environment."""
    manager, client = start_new_kernel(startup_timeout=60, **more)
    said = []
    client.execute_interactive(TOLD, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
    client.stop_channels()
    try:
        assert manager.is_alive()
        yield json.loads("".join(said))
    finally:
        manager.shutdown_kernel(now=True)
        manager.context.destroy()


def test_a_kernel_is_forked_with_its_own_folder_and_environment(forks, tmp_path, monkeypatch):
    monkeypatch.setenv("TOLD", "this one")
    with kernel(cwd=str(tmp_path)) as (pid, parent, folder, told):
        assert (parent, folder, told) == (forks.pid, str(tmp_path), "this one")
    until(lambda: not psutil.pid_exists(pid), 30)


def test_nobody_forks_for_a_parent_that_has_ended(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "algo_research.cli.forks", str(tmp_path / "forks"), "json", str(gone.pid)]
    assert subprocess.run(command, timeout=60).returncode == 0


def test_kernels_end_with_the_process_that_forked_them(forks):
    with kernel() as (pid, *_):
        forks.kill()
        forks.wait()
        until(lambda: not psutil.pid_exists(pid), 30)


@pytest.mark.parametrize("place", ["nowhere", None], ids=["nobody answers", "nobody was named"])
def test_where_nobody_forks_a_kernel_is_started(tmp_path, monkeypatch, place):
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "algo-forked")
    monkeypatch.delenv(SOCKET, raising=False)
    if place:
        monkeypatch.setenv(SOCKET, str(tmp_path / place))
    with kernel() as (pid, *_):
        assert "ipykernel_launcher" in " ".join(psutil.Process(pid).cmdline())


def test_somebody_who_makes_no_sense_stops_nobody_else(forks, tmp_path):
    with pytest.raises((OSError, ValueError)):
        ask_for_fork(str(tmp_path / "forks"), [])  # type: ignore[arg-type]
    with kernel() as (_, parent, *_):
        assert parent == forks.pid


def test_whoever_has_given_up_gets_no_kernel(forks, tmp_path):
    """It has started one of its own, on the same ports."""
    asked = {"arguments": ["-f", str(tmp_path / "nobody.json")], "env": {}, "cwd": str(tmp_path)}
    forks.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        ask_for_fork(str(tmp_path / "forks"), asked, seconds=0.2)
    forks.send_signal(signal.SIGCONT)
    with kernel():  # asked for after that one
        assert len(psutil.Process(forks.pid).children()) == 1


def test_a_kernel_that_is_gone_takes_signals_in_silence():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    seen = ForkedKernel(gone.pid)
    gone.wait()
    assert (seen.poll(), seen.wait()) == (0, 0)
    seen.terminate()
    seen.kill()
    assert ForkedKernel(gone.pid).poll() == 0


@pytest.mark.slow
def test_a_server_starts_its_forking_process_again_and_ends_with_who_started_it(tmp_path):
    (tmp_path / "settings.ini").touch()
    port = free_port()
    command = [*ALGO, "dashboard", "--no-browser", "--warm", "0", "--port", str(port)]
    driver = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    until(lambda: listens(port), 90)

    def forking() -> list[psutil.Process]:
        children = [c for c in psutil.Process(driver.pid).children() if c.status() != psutil.STATUS_ZOMBIE]
        return [child for child in children if "algo_research.cli.forks" in child.cmdline()]

    (first,) = until(forking)
    until(lambda: time.time() - first.create_time() > 6, 30)
    first.kill()
    (second,) = until(lambda: [child for child in forking() if child.pid != first.pid], 30)
    assert second.is_running()
    driver.kill()
    assert "What forks kernels has ended" in driver.communicate(timeout=30)[1]
    until(lambda: not listens(port), 30)
    ended(tmp_path)


def test_the_pages_of_a_dashboard_have_a_module_to_import():
    from algo_research.cli.dashboard import list_dashboards

    for name, page in list_dashboards().items():
        assert f"from algo_research.dashboards.{name} import" in Path(page).read_text()
