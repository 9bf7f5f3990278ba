"""A rule that is rewritten until it fits: each rewriting that changes its returns is a trial, and no other is.

Of the 48 versions of a rule without skill none is an edge when all of them are counted: in five markets of noise that
were judged, 0, 0, 0, 0 and 0.
"""

import os
import sys
from pathlib import Path

import pytest
from support.plans import bare_research, kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.components import import_from
from algo_research.data.samples.synthetic import make_market

RULE = """
from dataclasses import dataclass
import polars as pl
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes
import beside

PERIOD = {period}

def phase(hours):
    return (hours * {step} + beside.OFFSET) % PERIOD

@dataclass(frozen=True)
class Mine(Strategy):
    bars: int = 1
    def targets(self, frame, state=None):
        hours = pl.col("ts").dt.epoch("s") // 3600
        wish = pl.when(beside.is_long({asked})).then(1.0).otherwise(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), state)
"""
BESIDE = """
OFFSET = {offset}

def is_long(value):
    return value % {divisor} < {below}
"""
FIRST = {"period": 97, "step": 31, "asked": "phase(hours)", "offset": 0, "divisor": 24, "below": 10}
EDITS = {
    "its own code": [{"asked": f"phase(hours + {k} * (hours % 7))"} for k in range(1, 9)],
    "a constant that it reads": [{"period": 101 + 2 * k} for k in range(8)],
    "a helper that it calls": [{"step": 33 + 2 * k} for k in range(8)],
    "a constant of another module": [{"offset": 1 + k} for k in range(8)],
    "a helper in another module": [{"divisor": 25 + k} for k in range(8)],
    "a number in a helper in another module": [{"below": b} for b in (4, 5, 6, 7, 8, 9, 11, 12)],
}
VERSIONS = [{**FIRST, **edit} for edits in EDITS.values() for edit in edits]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Without the gate for rules of one's own, which takes most of the time and has tests of its own."""
    monkeypatch.setattr("algo_research.research.judge.require_stateful", lambda *given: None)


def write(folder: Path, version: dict, before: str = "", behind: str = "") -> None:
    (folder / "mine.py").write_text(before + RULE.format(**version) + behind)
    (folder / "beside.py").write_text(BESIDE.format(**version))


def judged(folder: Path, market, ledger: TrialLedger):
    return bare_research(market, kernel_plan("mine:Mine"), ledger, folder=folder).verdict


def noise(seed: int):
    return make_market("noise", seed, bars=1500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3, 4, 5))])
def test_48_versions_of_one_rule_are_48_trials_and_none_of_them_an_edge(seed, tmp_path):
    market, ledger, found = noise(seed), TrialLedger(), []
    for version in VERSIONS:
        write(tmp_path, version)
        found.append(judged(tmp_path, market, ledger))
    assert [verdict.n_trials for verdict in found] == list(range(1, 49))
    edges = []
    for version, verdict in zip(VERSIONS, found, strict=True):  # who looked good when fewer were counted
        write(tmp_path, version)
        if verdict.evidence.pvalue < 0.2 and judged(tmp_path, market, ledger).edge:
            edges.append(version)
    assert edges == [] and ledger.count(str(market.id)) == 48


@pytest.mark.slow
def test_what_changes_no_return_is_no_trial(tmp_path):
    """Comments, an empty line, another name of a variable, and the way back to a version that was judged."""
    market, ledger = noise(1), TrialLedger()
    same = [("", ""), ("# why it should work\n", ""), ("\n\n", ""), ("", "\nunused = 3\n")]
    for before, behind in same:
        write(tmp_path, FIRST, before, behind)
        assert judged(tmp_path, market, ledger).n_trials == 1
    write(tmp_path, FIRST)
    source = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(source.replace("hours", "clock").replace("wish = pl", "wish =  pl"))
    assert judged(tmp_path, market, ledger).n_trials == 1
    write(tmp_path, VERSIONS[0])
    assert judged(tmp_path, market, ledger).n_trials == 2
    write(tmp_path, FIRST)
    assert judged(tmp_path, market, ledger).n_trials == 2


def test_a_version_of_the_same_second_and_size_is_what_is_judged(tmp_path, monkeypatch):
    """Python would take the old one's compiled code: it looks at the time in whole seconds, and at the size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    for k in (1, 2, 3):
        for name, text in (
            ("package/inner", f"inner = {k}\n"),
            ("mine", f"from package.inner import inner\nown = {k}\n"),
        ):
            path = (tmp_path / name).with_suffix(".py")
            path.write_text(text)
            os.utime(path, (1_000_000_000, 1_000_000_000))
        made = import_from(tmp_path, "mine")
        assert made.inner == k and made.own == k
