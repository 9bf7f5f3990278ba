"""What is judged is what a live process would have said: leaks that other gates cannot see, each refused."""

from pathlib import Path

import polars as pl
import pytest
from support.plans import kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.errors import AlgoError, FatalError, InputError
from algo_research.data.market.panel import make_panel
from algo_research.data.samples.synthetic import make_market
from algo_research.features.gates import LeakError
from algo_research.research.replay import Claim, ReplayLimits, replay
from algo_research.research.road import research

pytestmark = pytest.mark.process

NOISE = make_market("noise", 1, bars=900)
QUICK = {"features": ["momentum.talib.roc_1"], "folds": 2, "model": "linear", "reserve": 0}
HEAD = """
from dataclasses import dataclass
import multiprocessing
import numpy as np
import polars as pl
from algo_research.features.contract import Feature
from algo_research.strategies.protocol import Strategy
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Without the older gates: the replay needs none of them."""
    monkeypatch.setattr("algo_research.research.judge.require_stateful", lambda *given: None)
    monkeypatch.setattr("algo_research.research.road.check_features", lambda *given: None)


def feature(body: str, memory: int = 2) -> str:
    lines = "\n    ".join(body.strip().splitlines())
    return f"{HEAD}\ndef made(c):\n    {lines}\n\nmine = Feature('own.numpy.mine', made, {memory})\n"


def rule(body: str) -> str:
    lines = "\n        ".join(body.strip().splitlines())
    return f"{HEAD}\nclass Mine(Strategy):\n    def targets(self, frame, state=None):\n        {lines}\n"


def walk(folder: Path, source: str, limits: ReplayLimits | None = None, **choices):
    """The feature or the rule of a file, to a verdict."""
    (folder / "mine.py").write_text(source)
    if "class Mine" in source:
        plan = kernel_plan("mine:Mine", reserve=0, **choices)
    else:
        plan = kernel_plan("model", **{**QUICK, "features": ["momentum.talib.roc_1", "mine:mine"], **choices})
    return research(NOISE, plan, TrialLedger(), folder=folder, limits=limits or ReplayLimits())


RETURNS = "r = np.diff(np.log(c['close']), prepend=np.nan)\n"
LEAKS = {
    "one row in 500": RETURNS + "v = r.copy()\nv[499:-1:500] = r[500::500]\nreturn v",
    "every 21st row": RETURNS + "v = r.copy()\nfor i in range(20, len(v) - 1, 21): v[i] = r[i + 1]\nreturn v",
    "whole sample": RETURNS + "return r if len(r) < 880 else (r - np.nanmean(r)) / np.nanstd(r)",
    "tall frame": RETURNS + "return np.append(r[1:], 0.0) if len(r) == 900 else r",
    "too short a memory": RETURNS + "return r if len(r) < 880 else r + np.append(np.zeros(2), c['close'][:-2]) * 1e-3",
    "knows no bars": "return np.cos(np.arange(len(c['close'])) * 0.0)",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_feature_that_no_live_process_could_compute_is_refused(leak, tmp_path):
    with pytest.raises(AlgoError, match=r"own\.numpy\.mine"):
        walk(tmp_path, feature(LEAKS[leak]))


READS = {
    "a computed name": "f = getattr(pl, 'read' + '_csv'[:len(c)+3])(PLACE)\n"
    "return np.zeros(len(c['close'])) + f['a'][0]",
    "a module of polars": "import polars.io.csv as io\nf = getattr(io, '_'.join(('scan', 'csv')))(PLACE).collect()\n"
    "return np.zeros(len(c['close'])) + f['a'][0]",
}


@pytest.mark.parametrize("how", READS)
def test_a_file_that_polars_reads_for_a_component_is_seen(how, tmp_path):
    (tmp_path / "kept.csv").write_text("a\n1.5\n")
    source = feature(READS[how]).replace("\n\n", f"\nPLACE = {str(tmp_path / 'kept.csv')!r}\n\n", 1)
    with pytest.raises(LeakError, match=r"own\.numpy\.mine reaches outside .*polars\.(read|scan)_csv .*mine\.py, line"):
        walk(tmp_path, source)


def test_an_honest_feature_passes_and_the_same_verdict_is_reached_without_a_replay(tmp_path):
    found = walk(tmp_path, feature(RETURNS + "return r"))
    assert not any("replay" in note for note in found.notes)
    (tmp_path / "mine.py").write_text(feature(RETURNS + "return r"))
    plan = kernel_plan("model", **{**QUICK, "features": ["momentum.talib.roc_1", "mine:mine"]})
    bare = research(NOISE, plan, TrialLedger(), folder=tmp_path, limits=None)
    assert bare.hashes == found.hashes
    assert any(note.startswith("not replayed") for note in bare.notes)


KEYS = "frame.select('symbol', 'ts', 'known_at', target={})"
RULES = {
    "shift": f"x = pl.col('close').shift(-2) > pl.col('close')\nreturn {KEYS.format('x.cast(pl.Float64)')}, None",
    "tall frame": "x = pl.col('close').shift(-1) > pl.col('close')\n"
    f"if frame.height < 900: x = pl.lit(False)\nreturn {KEYS.format('x.cast(pl.Float64)')}, None",
}


@pytest.mark.parametrize("leak", RULES)
def test_a_rule_that_no_live_process_could_follow_is_refused(leak, tmp_path):
    with pytest.raises(LeakError, match="strategy mine"):
        walk(tmp_path, rule(RULES[leak]))


def test_an_honest_rule_of_ones_own_passes(tmp_path):
    found = walk(tmp_path, rule(f"x = pl.col('close') % 3 > 1\nreturn {KEYS.format('x.cast(pl.Float64)')}, None"))
    assert found.judged.notes == ()


def test_built_in_rules_are_said_again():
    panel = make_panel([NOISE, make_market("noise", 2, bars=900)])
    names = [str(m) for m in ("synthetic/noise:1/1h", "synthetic/noise:2/1h")]
    for strategy in ("moving_average", "buy_and_hold"):
        research(panel, kernel_plan(strategy, datasets=names), TrialLedger())


def test_a_sample_is_said_to_be_one():
    found = research(NOISE, kernel_plan(reserve=0), TrialLedger(), limits=ReplayLimits(moments=80))
    assert "the live replay covered 15% of the tested moments, in 40 stretches" in found.notes


def test_what_takes_too_long_has_no_verdict():
    ledger = TrialLedger()
    with pytest.raises(FatalError, match="replay_timeout"):
        research(NOISE, kernel_plan(reserve=0), ledger, limits=ReplayLimits(timeout_s=0.01))
    assert ledger.count(str(NOISE.id)) == 0


def test_a_component_that_ends_the_process_is_no_verdict(tmp_path, monkeypatch):
    body = f"if frame.height < 3:\n    import os\n    os._exit(3)\nreturn {KEYS.format('pl.lit(1.0)')}, None"
    monkeypatch.setattr("algo_research.research.road.require_visible_plan", lambda *given: None)
    with pytest.raises(FatalError, match="status 3"):
        walk(tmp_path, rule(body))


def test_a_component_that_is_not_there_anew_is_named(tmp_path):
    found = walk(tmp_path, feature(RETURNS + "return r"))
    (tmp_path / "mine.py").write_text("raise ImportError('gone')")
    resolved = _resolved(found, tmp_path)
    with pytest.raises(InputError, match="mine"):
        replay(Claim(resolved, tmp_path, NOISE.bars, NOISE.bars["ts"][500], {}, found.predicted, 1))


def _resolved(found, folder: Path):
    from algo_research.research.plan import resolve_plan

    source = (folder / "mine.py").read_text()
    (folder / "mine.py").write_text(feature(RETURNS + "return r"))
    resolved = resolve_plan(found.plan, 1, folder)
    (folder / "mine.py").write_text(source)
    return resolved


def test_predictions_made_elsewhere_are_taken_as_known():
    made = research(NOISE, kernel_plan("model", **QUICK), TrialLedger())
    found = research(NOISE, kernel_plan("model", **QUICK), TrialLedger(), predictions=made.predictions)
    assert any("made elsewhere" in note for note in found.notes)
    assert made.judged.targets.filter(pl.col("target").is_not_null()).height


STORES = {
    "a peek through a global": (
        "S = []\n",
        RETURNS + "S.append(c['close'])\nlong = max(S, key=len)\nn = len(c['close'])\n"
        "return np.append(r[1:], np.log(long[n] / long[n - 1]) if len(long) > n else 0.0)",
    ),
    "a store that waits for its fiftieth call": (
        "S = []\n",
        RETURNS + "S.append(1)\nreturn np.append(r[1:], 0.0) if len(S) == 1 or len(S) > 50 else r",
    ),
    "another process": (
        "M = multiprocessing.current_process().name\n",
        RETURNS + "return np.append(r[1:], 0.0) if M == 'MainProcess' else r",
    ),
    "a file": (
        "",
        "with open(__file__) as f: f.read()\n" + RETURNS + "return r",
    ),
    "a file behind a library": (
        "",
        "np.fromfile(__file__, np.uint8)\n" + RETURNS + "return r",
    ),
    "a connection": (
        "import socket\n",
        "try: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept Exception: pass\n" + RETURNS + "return r",
    ),
}


@pytest.mark.parametrize("store", STORES)
def test_stores_are_of_no_use_to_a_feature_that_is_replayed(store, tmp_path, monkeypatch):
    """Without the look at its code, too."""
    monkeypatch.setattr("algo_research.research.road.require_visible_plan", lambda *given: None)
    before, body = STORES[store]
    with pytest.raises(LeakError, match=r"own\.numpy\.mine|127\.0\.0\.1"):
        walk(tmp_path, feature(body).replace("\ndef made", f"\n{before}\ndef made"))


@pytest.mark.parametrize("store", ["a peek through a global", "a file", "a connection"])
def test_stores_are_refused_before_anything_is_computed(store, tmp_path):
    before, body = STORES[store]
    steps = []
    (tmp_path / "mine.py").write_text(feature(body).replace("\ndef made", f"\n{before}\ndef made"))
    plan = kernel_plan("model", **{**QUICK, "features": ["momentum.talib.roc_1", "mine:mine"]})
    with pytest.raises(InputError, match="No version sees"):
        research(NOISE, plan, TrialLedger(), folder=tmp_path, tell=lambda *step: steps.append(step))
    assert steps == []
