"""Stores that no version sees, each a way in which a leak once could hide; and honest code that looks like one."""

import textwrap
from pathlib import Path

import pytest
from support.plans import bare_research, kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.components import import_from, list_components, load_component
from algo_research.core.errors import InputError
from algo_research.data.samples.synthetic import make_market
from algo_research.execution.costs import COSTS
from algo_research.features.indicators import CATALOGUE
from algo_research.models.contract import MODELS
from algo_research.research import visible
from algo_research.research.visible import require_visible
from algo_research.strategies.protocol import STRATEGIES

HEAD = """
import functools, logging
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple
import numpy as np
import polars as pl
from algo_research.features.contract import Feature
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes
"""


def look(folder: Path, source: str) -> None:
    (folder / "own.py").write_text(HEAD + textwrap.dedent(source))
    module = import_from(folder, "own")
    require_visible(getattr(module, "Own", None) or module.own, "The component own", folder)


HIDDEN = {
    "a global list": "S = []\ndef own(c): S.append(c['close']); return c['close']",
    "a global dict": "S = {}\ndef own(c): return S.setdefault('x', c['close'])",
    "a global array": "S = np.zeros(9)\ndef own(c): return c['close'] + S[0]",
    "a global frame": "S = pl.DataFrame({'a': [1]})\ndef own(c): return c['close'] * S.height",
    "a list in a tuple": "S = ([],)\ndef own(c): return c['close'] + len(S[0])",
    "an object": "class Box: pass\nS = Box()\ndef own(c): return getattr(S, 'x', c['close'])",
    "an iterator": "S = iter(range(9))\ndef own(c): return c['close'] + next(S)",
    "global": "n = 0\ndef own(c):\n    global n\n    n += 1\n    return c['close'] * n",
    "a function's attribute": "def own(c):\n    own.n = 1\n    return c['close']",
    "a function that holds a list": "def own(c): return c['close'] + len(own.kept)\nown.kept = []",
    "a default": "def own(c, kept={}): return kept.setdefault('x', c['close'])",
    "a cache": "@functools.cache\ndef kept(): return []\ndef own(c): return c['close'] + len(kept())",
    "a closure": "def make():\n    kept = []\n    def f(c): return c['close'] + len(kept)\n    return f\nown = make()",
    "a counter": "def make():\n    n = 0\n    def f(c):\n        nonlocal n\n        n += 1\n        return n\n"
    "    return f\nown = make()",
    "a class attribute": "class Own(Strategy):\n    kept = {}\n"
    "    def targets(self, frame, state=None): return self.kept",
    "set on the class": "class Own(Strategy):\n    n = 0\n    def targets(self, frame, state=None):\n"
    "        type(self).n = 1",
    "set on __class__": "class Own(Strategy):\n    def targets(self, frame, state=None):\n        self.__class__.n = 1",
    "a class method": "class Own(Strategy):\n    @classmethod\n    def kept(cls):\n        cls.n = 1\n"
    "    def targets(self, frame, state=None): return self.kept()",
    "a helper's list": "S = []\ndef helper(): return len(S)\ndef own(c): return c['close'] + helper()",
    "a class it calls": "class Helper:\n    kept = []\ndef own(c): return c['close'] + len(Helper.kept)",
    "a lambda": "S = []\ndef own(c): return sorted(c['close'], key=lambda x: len(S))",
    "open": "def own(c): return open('x').read()",
    "read_csv": "def own(c): return pl.read_csv('x')",
    "from read_csv": "from polars import read_parquet as rp\ndef own(c): return rp('x')",
    "getattr": "def own(c): return getattr(pl, 'scan_' 'csv')('x')",
    "SQL of a file": "def own(c): return pl.sql(\"select * from 'x.csv'\", eager=True)",
    "SQL that reads": "def own(c): return c['f'].query(\"select * from read_csv('x')\")",
    "np.load": "def own(c): return np.load('x')",
    "read_text": "from pathlib import Path\ndef own(c): return float(Path('x').read_text())",
    "urllib": "def own(c):\n    from urllib.request import urlopen\n    return urlopen('x')",
    "socket": "import socket\ndef own(c): return socket.socket()",
    "sqlite3": "def own(c):\n    import sqlite3\n    return sqlite3.connect('x')",
    "the environment": "import os\ndef own(c): return c['close'] * float(os.environ['X'])",
    "stored data": "from algo_research.data.samples.bundled import load_index\ndef own(c): return load_index('SP500')",
    "the module itself": "S = []\ndef own(c):\n    import own as me\n    return c['close'] + len(me.S)",
    "vars": "def own(c): return vars(np)",
    "an attribute of numpy": "def own(c):\n    np.kept = c['close']\n    return c['close']",
}


@pytest.mark.parametrize("store", HIDDEN)
def test_what_no_version_sees_is_refused_with_its_place(store, tmp_path):
    with pytest.raises(InputError, match=r"The component own .*(own\.py|own), line \d+.* No version sees"):
        look(tmp_path, HIDDEN[store])


def test_a_store_in_a_module_beside_it_is_found(tmp_path):
    (tmp_path / "beside.py").write_text("S = []\ndef helper(): return len(S)\n")
    with pytest.raises(InputError, match=r"reads S, a list .*beside\.py, line 2"):
        look(tmp_path, "from beside import helper\ndef own(c): return c['close'] + helper()")
    with pytest.raises(InputError, match=r"reads beside\.S, a list"):
        look(tmp_path, "import beside\ndef own(c): return c['close'] + len(beside.S)")
    with pytest.raises(InputError, match=r"a list that can change"):
        look(tmp_path, "def own(c):\n    from beside import S\n    return c['close'] + len(S)")


HONEST = """
LOG = logging.getLogger("own")
LEVELS, NAMES, RULE = (1.0, 2.0), frozenset({"a"}), pl.col("close") > 1
class Side(Enum):
    LONG = 1
class Pair(NamedTuple):
    a: int
    b: int = 2
@dataclass(frozen=True)
class Band:
    low: float = 0.1
BAND = Band()
def base(c, n): return c["close"] * n
FAST = functools.partial(base, n=2)
def values(c, n=2):
    kept = {}
    kept["x"] = [np.log(c["close"]) for _ in range(n)]
    def inner(x):
        nonlocal n
        n = 3
        return x
    return inner(FAST(c)) + kept["x"][0] + LEVELS[0] + Pair(1).b + BAND.low + Side.LONG.value
mine = Feature("own.numpy.mine", values, 2)
@dataclass(frozen=True)
class Own(Strategy):
    "Long above."
    bars: int = 1     # a parameter
    weights: tuple[float, ...] = (1.0,)
    def __post_init__(self): object.__setattr__(self, "bars", max(1, self.bars))
    def features(self): return (mine,)
    @property
    def half(self): return self.weights[0] / 2
    @staticmethod
    def side(x): return Side.LONG.value * x
    def targets(self, frame, state=None):
        LOG.debug("said")
        state = dict(state or {})
        state["rows"] = frame.height
        wish = pl.when(RULE).then(self.side(self.half)).otherwise(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), None)
"""


def test_honest_code_is_not_suspected(tmp_path):
    look(tmp_path, HONEST)
    look(tmp_path, HONEST.replace("class Own(", "class Other(") + "\nown = mine")


def test_nothing_of_the_package_would_be_refused_if_it_were_somebody_elses(monkeypatch):
    ours = ("features.indicators", "strategies.rules", "models.boosting", "models.linear", "execution.costs")
    names = tuple(f"algo_research.{name}" for name in ours)
    monkeypatch.setattr(visible._Look, "is_own", lambda self, module: (module or "").startswith(names))
    for feature in CATALOGUE:
        require_visible(feature, feature.name)
    for kind in (STRATEGIES, MODELS, COSTS):
        for component in list_components(kind):
            require_visible(load_component(component), component.name)


def test_tables_in_the_code_are_told_of(tmp_path):
    """Times or prices that were picked from the chart are code, and their choice is no trial that anybody counts."""
    tables = {
        "HOURS = frozenset(range(100, 160))\ndef own(c): return c['close'] * (len(HOURS) > 0)": 60,
        "PAIRS = tuple((i, i / 2) for i in range(15))\ndef own(c): return c['close'] * PAIRS[0][0]": 30,
        "def own(c): return c['close'] * (len(c) in [1, 2, 3, 4, 5, 6])": 6,
        "def own(c): return np.log(c['close']) * 2.0": 0,
    }
    for number, (source, constants) in enumerate(tables.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "own.py").write_text(HEAD + source)
        assert require_visible(import_from(folder, "own").own, "The component own", folder) == constants


def test_a_verdict_says_how_many_constants_were_written_down(tmp_path):
    source = """
    HOURS = frozenset({hours})
    @dataclass(frozen=True)
    class Own(Strategy):
        def targets(self, frame, state=None):
            hour = pl.col("ts").dt.epoch("s") // 3600
            wish = pl.when(hour.is_in(list(HOURS))).then(0.0).otherwise(1.0)
            return frame.select("symbol", "ts", "known_at", target=wish), None
    """
    for count in (10, 60):
        (tmp_path / "own.py").write_text(HEAD + textwrap.dedent(source.format(hours=[*range(count)])))
        found = bare_research(make_market("noise", 1, bars=900), kernel_plan("own:Own"), TrialLedger(), folder=tmp_path)
        assert any(f"the strategy own has {count} constants" in note for note in found.notes) == (count == 60)
