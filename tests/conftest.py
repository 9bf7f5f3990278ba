"""What several test modules share: the folder of real data, and servers that live as long as the tests."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# The same commit has the same result; `pytest --hypothesis-profile=default` looks for examples that were never tried.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files; tests that use it skip where it is not to be had."""
    folder = os.environ.get("ALGO_SHARED_DATA")
    if not folder:
        pytest.skip("ALGO_SHARED_DATA is not set: no folder of real data")
    return Path(folder)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def running(
    command: list[str], folder: Path, ready: Callable[[], bool], stop: str = "INT", **options
) -> Iterator[None]:
    """A server in a folder; both end with this process, however that ends:
    a shell waits for our end of a pipe to close.
    """
    shell = ["sh", "-c", f'"$@" & read _; kill -{stop} $!; wait; rm -rf "$0"', folder, *command]
    with subprocess.Popen(
        shell, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **options
    ) as server:
        try:
            deadline = time.monotonic() + 20
            while not ready():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{command[0]} was not ready after 20 seconds")
                time.sleep(0.01)
            yield
        finally:
            server.stdin.close()


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    if not (binary := shutil.which("redis-server")):
        pytest.skip("redis-server is not installed")
    folder, port = Path(tempfile.mkdtemp(prefix="algo-redis-")), free_port()
    with running(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        folder,
        lambda: listens(port),
    ):
        yield f"redis://127.0.0.1:{port}"


@pytest.fixture
def redis_url(redis_server) -> str:
    """An empty database of a Redis server without persistence."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return f"{redis_server}/0"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server, monkeypatch) -> str:
    """A prefix of its own in the bucket `test-bucket`, with the environment that leads there."""
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/test-bucket", method="PUT")).close()
    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://test-bucket/{secrets.token_hex(6)}"


def postgres_binary(name: str) -> str | None:
    """Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[4]))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of one's own, with a password; it never writes to disk for good."""
    initdb, postgres = postgres_binary("initdb"), postgres_binary("postgres")
    if not initdb or not postgres:
        pytest.skip("PostgreSQL is not installed: neither on the path nor in /usr/lib/postgresql")
    pytest.importorskip("adbc_driver_postgresql", reason="adbc-driver-postgresql is not installed")
    folder, password, port = Path(tempfile.mkdtemp(prefix="algo-pg-")), secrets.token_hex(12), free_port()
    (folder / "password").write_text(password)
    user = (
        {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    )  # it refuses to run as root
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": 40,
    }
    initialise = [
        initdb,
        "--pgdata",
        folder / "data",
        "--username",
        "algo",
        "--auth",
        "scram-sha-256",
        "--pwfile",
        folder / "password",
        "--no-sync",
        "--locale",
        "C.UTF-8",
        "--encoding",
        "UTF8",
    ]
    subprocess.run(initialise, check=True, capture_output=True, cwd=folder, **user)
    command = [
        postgres,
        "-D",
        str(folder / "data"),
        *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
    ]
    status = folder / "data/postmaster.pid"
    with running(
        command, folder, lambda: status.exists() and "ready" in status.read_text(), stop="QUIT", **user
    ):  # at once, without a last checkpoint
        yield f"postgresql://algo:{password}@127.0.0.1:{port}"


@pytest.fixture(scope="session")
def postgres_administrator(postgres_server):
    """A connection to clean up with."""
    import adbc_driver_postgresql.dbapi as driver

    with driver.connect(f"{postgres_server}/postgres", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("set lock_timeout to '5s'")
        yield cursor


@pytest.fixture
def postgres_url(postgres_server, postgres_administrator) -> Iterator[str]:
    """A schema of its own. It goes after the test: a connection takes longer the more tables there are."""
    schema = f"test_{secrets.token_hex(6)}"
    yield f"{postgres_server}/postgres?schema={schema}"
    postgres_administrator.execute(f"drop schema if exists {schema} cascade")
