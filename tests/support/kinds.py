"""What a test needs to run: every test has exactly one kind, and what is marked `unit` is held to it.

A mark says it. Where there is none, the fixtures do: whoever asks for a server or a browser needs one, all others
need nothing but this process. A watch on what Python starts fails a test that needs more than its kind says.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
import urllib3.util.connection  # noqa: F401 - when it is imported it binds a socket, to see whether there is IPv6

KINDS = {
    "unit": "needs nothing but this process",
    "server": "needs a server: PostgreSQL, Redis, S3, the sandbox",
    "process": "starts processes: commands, kernels, writers that are killed",
    "browser": "looks at a page with Chromium",
}
SERVERS = {"postgres", "redis", "s3"}  # as values of parameters
SERVING = {"postgres_server", "redis_server", "s3_server", "exchange"}  # fixtures
BROWSERS = {"browser", "chromium"}  # fixtures
STARTS = {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"}
CONNECTS = {"socket.bind", "socket.connect"}
COLLECTED = pytest.StashKey[dict[str, set[str]]]()
FORBIDDEN = {"unit": STARTS | CONNECTS, "server": STARTS, "process": set(), "browser": set()}


def kind_of(fixtures: set[str], parameters: set[str], marks: list[str]) -> str:
    """A test's kind from what it asks for; a mark wins."""
    marked = sorted({mark for mark in marks if mark in KINDS})
    if len(marked) > 1:
        raise ValueError(f"a test has one kind, and this one is marked {' and '.join(marked)}")
    if marked:
        return marked[0]
    if fixtures & BROWSERS:
        return "browser"
    return "server" if fixtures & SERVING or parameters & SERVERS else "unit"


def pytest_configure(config: pytest.Config) -> None:
    for kind, meaning in KINDS.items():
        config.addinivalue_line("markers", f"{kind}: {meaning}")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        call = getattr(item, "callspec", None)
        parameters = {value for value in call.params.values() if isinstance(value, str)} if call else set()
        try:
            kind = kind_of(set(item.fixturenames), parameters, [mark.name for mark in item.iter_markers()])
        except ValueError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
        if item.get_closest_marker(kind) is None:
            item.add_marker(kind)
        config.stash.setdefault(COLLECTED, {})[item.nodeid] = {mark.name for mark in item.iter_markers()}


def collected(config: pytest.Config) -> dict[str, set[str]]:
    """All tests that were found, also those that were not chosen, with the names of their marks."""
    return config.stash[COLLECTED]


# The watch


class _Watch:
    forbidden: ClassVar[set[str]] = set()
    seen: ClassVar[list[str]] = []


def _heard(event: str, arguments: tuple) -> None:
    if event in _Watch.forbidden:
        _Watch.seen.append(f"{event}{arguments[:2]!r:.200}")


def watch(item: pytest.Item) -> Iterator[None]:
    """Around a part of a test: an error when something was started that its kind does not allow."""
    kind = next(kind for kind in KINDS if item.get_closest_marker(kind))
    _Watch.forbidden, _Watch.seen = FORBIDDEN[kind], []
    try:
        result = yield
    finally:
        _Watch.forbidden = set()
    if _Watch.seen:
        pytest.fail(f"a test of the kind {kind!r} did more: {_Watch.seen[0]}. Mark it by what it needs.", pytrace=False)
    return result


def pytest_sessionstart() -> None:
    sys.addaudithook(_heard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    return (yield from watch(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    return (yield from watch(item))


@contextmanager
def starting_a_server() -> Iterator[None]:
    """What a shared server needs is not the test's."""
    before, _Watch.forbidden = _Watch.forbidden, set()
    try:
        yield
    finally:
        _Watch.forbidden = before
