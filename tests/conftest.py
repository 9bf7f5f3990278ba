"""What several test modules share: the folder of real data, and servers that live as long as the tests."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# jsonschema compiles a grammar of addresses when it finds it, which takes seconds; no test has addresses to check
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

pytest_plugins = ["support.browser", "support.kinds", "support.matrix", "support.servers", "support.budget"]

# The same commit has the same result; `pytest --hypothesis-profile=default` looks for examples that were never tried.
# No test fails for being slow: a machine may be busy.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files; tests that use it skip where it is not to be had."""
    folder = os.environ.get("ALGO_SHARED_DATA")
    if not folder:
        pytest.skip("ALGO_SHARED_DATA is not set: no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def redis_server(request) -> str:
    from support import servers

    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    return servers.shared(request.config, "redis", servers.redis)


@pytest.fixture
def redis_url(redis_server) -> str:
    """A database of one's own: the first holds the number of the last that was given away."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        return f"{redis_server}/{client.incr('databases')}"


@pytest.fixture(scope="session")
def s3_server(request) -> str:
    from support import servers

    pytest.importorskip("moto.server", reason="moto is not installed")
    return servers.shared(request.config, "s3", servers.s3)


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


@pytest.fixture(scope="session")
def postgres_server(request) -> str:
    from support import servers

    if not servers.postgres_binary("initdb") or not servers.postgres_binary("postgres"):
        pytest.skip("PostgreSQL is not installed: neither on the path nor in /usr/lib/postgresql")
    pytest.importorskip("adbc_driver_postgresql", reason="adbc-driver-postgresql is not installed")
    return servers.shared(request.config, "postgres", servers.postgres)


@pytest.fixture(scope="session")
def postgres_database(postgres_server) -> str:
    """A database of this worker's: what ends all connections to it ends nobody else's."""
    import adbc_driver_postgresql.dbapi as driver

    name = f"worker_{secrets.token_hex(6)}"
    with driver.connect(f"{postgres_server}/postgres", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {name} template template0")
    return f"{postgres_server}/{name}"


@pytest.fixture(scope="session")
def postgres_administrator(postgres_database):
    """A connection to clean up with."""
    import adbc_driver_postgresql.dbapi as driver

    with driver.connect(postgres_database, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("set lock_timeout to '5s'")
        yield cursor


@pytest.fixture
def postgres_url(postgres_database, postgres_administrator) -> Iterator[str]:
    """A schema of its own. It goes after the test: a connection takes longer the more tables there are."""
    schema = f"test_{secrets.token_hex(6)}"
    yield f"{postgres_database}?schema={schema}"
    postgres_administrator.execute(f"drop schema if exists {schema} cascade")
