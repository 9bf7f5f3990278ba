"""Where a run's work went, by kind of test, beside what each kind may take; reported, never asserted.

Work is the seconds that cores were busy, in this process and in those a test started and saw end: a busy machine does
not change it. What a server or a browser does meanwhile is not seen, and shows in the time that passed.
`tests/durations.json` keeps the work of tests that take noticeably long: `pytest --store-durations` writes it anew for
the tests that ran. The files with the longest tests are begun first, so that short ones are left to share at the end.
"""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from .kinds import KINDS

# Seconds of work in thirty minutes on two cores: the suite's room when it is fully grown.
BUDGET = {"unit": 600, "server": 700, "process": 1600, "browser": 700}
FILE = Path(__file__).parents[1] / "durations.json"
NOTICEABLE = 0.5  # seconds; quicker tests are not stored
SLOW = 0.8  # seconds of stored work from which on a test is `slow` without being marked
LISTED = 5

WORK = pytest.StashKey[dict[str, float]]()
PASSED = pytest.StashKey[dict[str, float]]()
KIND = pytest.StashKey[dict[str, str]]()
LEFT_OUT = pytest.StashKey[Counter]()


def read_durations(file: Path = FILE) -> dict[str, float]:
    return json.loads(file.read_text()) if file.exists() else {}


def merged(stored: dict[str, float], seconds: dict[str, float], known: set[str] | None = None) -> dict[str, float]:
    """What is to be stored after a run: of every test that ran what it took now, of the others what they took."""
    kept = {test: taken for test, taken in stored.items() if test not in seconds and (known is None or test in known)}
    new = {test: round(taken, 1) for test, taken in seconds.items() if taken >= NOTICEABLE}
    return dict(sorted({**kept, **new}.items()))


def grown(stored: dict[str, float], seconds: dict[str, float]) -> list[tuple[float, str]]:
    """Tests that took longer than is stored, and by how much, most first; of little, only what more than doubled."""
    found = [(taken - stored.get(test, NOTICEABLE), test) for test, taken in seconds.items()]
    more = [(by, test) for by, test in found if by > 1 and by > 0.3 * stored.get(test, NOTICEABLE)]
    return sorted(more, reverse=True)[:LISTED]


def table(work: dict[str, float], passed: dict[str, float], kind: dict[str, str]) -> list[str]:
    """Kind, tests, seconds that passed, seconds of work, budget, share of the budget."""
    lines = [f"{'kind':8} {'tests':>6} {'passed':>9} {'work':>9} {'budget':>9} {'share':>6}"]
    for name, room in {**BUDGET, "all": sum(BUDGET.values())}.items():
        mine = [test for test in work if name in ("all", kind[test])]
        spent, time = (sum(seconds[test] for test in mine) for seconds in (work, passed))
        lines.append(f"{name:8} {len(mine):>6,} {time:>7,.0f} s {spent:>7,.0f} s {room:>7,} s {spent / room:>6.0%}")
    return lines


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store-durations", action="store_true", help="write the work of the tests to tests/durations.json"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WORK], config.stash[PASSED] = defaultdict(float), defaultdict(float)
    config.stash[KIND], config.stash[LEFT_OUT] = {}, Counter()


def is_slow(stored: dict[str, float], test: str) -> bool:
    return stored.get(test, 0.0) >= SLOW


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What was measured to be slow is marked, and the files of which a test takes longest come first; within a file
    the order stays, for the fixtures' sake.
    """
    stored, by_file = read_durations(), defaultdict(float)
    for item in items:
        if is_slow(stored, item.nodeid) and item.get_closest_marker("slow") is None:
            item.add_marker("slow")
        file = item.nodeid.partition("::")[0]
        by_file[file] = max(by_file[file], stored.get(item.nodeid, 0.0))
    items.sort(key=lambda item: (-by_file[file := item.nodeid.partition("::")[0]], file))


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[LEFT_OUT].update(mark for mark in ("long", "slow") if item.get_closest_marker(mark))
        item.config.stash[LEFT_OUT]["all"] += 1


def busy() -> float:
    """Seconds that cores were busy for this process and its ended children."""
    return sum(os.times()[:4])


BEFORE = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    item.config.stash[BEFORE] = busy()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """After each part of a test: what it was, and the work since the last part."""
    report = yield
    before, item.config.stash[BEFORE] = item.config.stash[BEFORE], busy()
    report.work = item.config.stash[BEFORE] - before
    report.kind = next(kind for kind in KINDS if item.get_closest_marker(kind))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells what it left out; every worker leaves out the same."""
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """pytest-xdist has seen a worker end."""
    told = getattr(node, "workeroutput", {}).get("left_out", {})
    node.config.stash[LEFT_OUT] = node.config.stash[LEFT_OUT] | Counter(told)


class Collector:
    """Adds up what the reports say; in the controller they come from all workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "work"):  # a worker that died tells nothing
            self.config.stash[WORK][report.nodeid] += report.work
            self.config.stash[PASSED][report.nodeid] += report.duration
            self.config.stash[KIND][report.nodeid] = report.kind


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Collector(session.config), "budget-collector")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    work, left_out = config.stash[WORK], config.stash[LEFT_OUT]
    if not work:
        return
    stored = read_durations()
    terminalreporter.section("work by kind of test")
    for line in table(work, config.stash[PASSED], config.stash[KIND]):
        terminalreporter.write_line(line)
    for by, test in grown(stored, work):
        before = f"{stored[test]:.1f} s" if test in stored else f"under {NOTICEABLE} s"
        terminalreporter.write_line(f"grew by {by:.1f} s (was {before}): {test}")
    if left_out:
        marks = ", ".join(f"{left_out[mark]:,} {mark}" for mark in ("long", "slow") if left_out[mark])
        terminalreporter.write_line(f"left out: {left_out['all']:,} tests" + (f", of them {marks}" if marks else ""))
    if config.getoption("store_durations"):
        FILE.write_text(json.dumps(merged(stored, work), indent=0, ensure_ascii=False) + "\n")
