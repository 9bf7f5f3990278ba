"""Servers that all workers of a session share: whoever needs one first starts it, and it ends with the session.

The controller (pytest itself, where there are no workers) makes a folder and holds a pipe in it open. In the folder
stand the addresses of the servers; each of them ends when the pipe closes, however the session ends.
"""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import kinds
from .waiting import until

FOLDER, PIPE = pytest.StashKey[Path](), pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.stash[FOLDER] = Path(config.workerinput["servers"])
        return
    folder = Path(tempfile.mkdtemp(prefix="algo-servers-"))
    os.mkfifo(folder / "alive")
    config.stash[FOLDER], config.stash[PIPE] = folder, os.open(folder / "alive", os.O_RDWR)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """pytest-xdist prepares a worker."""
    node.workerinput["servers"] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if PIPE in config.stash:
        os.close(config.stash[PIPE])
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process at a time."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shared(config: pytest.Config, name: str, start: Callable[[Path], str]) -> str:
    """The address of a server; `start` is called by the first who asks, with the pipe whose end is the server's."""
    folder = config.stash[FOLDER]
    address = folder / name
    with locked(folder / f"{name}.lock"):
        if not address.exists():
            with kinds.starting_a_server():
                address.write_text(start(folder / "alive"))
    return address.read_text()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


# The server in the background, and one who waits for the end of the pipe, ends the server and takes its folder away.
KEEPER = 'exec 3<&0; ( "$@" & read _ <&3; kill -{stop} $!; wait; rm -rf "$0" ) &'


def launch(
    command: list[str], folder: Path, alive: Path, ready: Callable[[], bool], stop: str = "INT", **options
) -> None:
    """Start a server in a folder of its own, and return when it is ready."""
    with alive.open("rb") as pipe:
        subprocess.run(
            ["sh", "-c", KEEPER.format(stop=stop), folder, *command],
            stdin=pipe,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,
            check=True,
            **options,
        )
    until(ready, 60, 0.01)


def redis(alive: Path) -> str:
    """Redis without persistence, with a database for every test."""
    folder, port = Path(tempfile.mkdtemp(prefix="algo-redis-")), free_port()
    where = ["--port", str(port), "--bind", "127.0.0.1"]
    command = ["redis-server", *where, "--save", "", "--appendonly", "no", "--databases", "10000"]
    launch(command, folder, alive, lambda: listens(port))
    return f"redis://127.0.0.1:{port}"


def s3(alive: Path) -> str:
    """An object store of moto's, in memory."""
    folder, port = Path(tempfile.mkdtemp(prefix="algo-s3-")), free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    launch(command, folder, alive, lambda: listens(port), stop="TERM")
    return f"http://127.0.0.1:{port}"


def postgres_binary(name: str) -> str | None:
    """Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    return shutil.which(name) or (str(found[-1]) if found else None)


def postgres(alive: Path) -> str:
    """PostgreSQL with a password; it never writes to disk for good."""
    folder, password, port = Path(tempfile.mkdtemp(prefix="algo-pg-")), secrets.token_hex(12), free_port()
    (folder / "password").write_text(password)
    # it refuses to run as root
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    initialise = {
        "--pgdata": folder / "data",
        "--username": "algo",
        "--auth": "scram-sha-256",
        "--pwfile": folder / "password",
        "--locale": "C.UTF-8",
        "--encoding": "UTF8",
    }
    words = [word for pair in initialise.items() for word in pair]
    command = [postgres_binary("initdb"), "--no-sync", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": 100,
    }
    told = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    status = folder / "data/postmaster.pid"
    launch(
        [postgres_binary("postgres"), "-D", str(folder / "data"), *told],
        folder,
        alive,
        lambda: status.exists() and "ready" in status.read_text(),
        stop="QUIT",  # at once, without a last checkpoint
        **user,
    )
    return f"postgresql://algo:{password}@127.0.0.1:{port}"
