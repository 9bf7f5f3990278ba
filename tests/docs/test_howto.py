"""What the how-to guides show, done as they say."""

import datetime
import re
from pathlib import Path

import polars as pl
import pytest
from support.command import algo

from algo_research.data.market.instruments import session_schedule

GUIDES = Path(__file__).parents[2] / "docs" / "howto"


def python_of(guide: str) -> str:
    """The first Python block of a guide."""
    found = re.search(r"```python\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)
    assert found, f"{guide} shows no code"
    return found[1]


@pytest.fixture
def archive(tmp_path) -> Path:
    """A workspace with the guide's provider, and two files for it."""
    (tmp_path / "archive.py").write_text(python_of("provider.md"))
    (tmp_path / "archive").mkdir()
    days = session_schedule("XNYS", datetime.date(2017, 1, 1), datetime.date(2017, 6, 30), datetime.timedelta(days=1))
    for number, symbol in enumerate(("ONE", "TWO")):
        prices = dict.fromkeys(("open", "high", "low", "close"), 100.0 + number)
        days.select(day="date", **{k: pl.lit(v) for k, v in prices.items()}, volume=pl.lit(5.0)).write_csv(
            tmp_path / "archive" / f"{symbol}.csv"
        )
    return tmp_path


def test_the_source_of_the_guide_is_one():
    from algo_research.data.venues.exchanges import Answers

    *_, code = re.findall(r"```python\n(.*?)```", (GUIDES / "provider.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["Archive"]().answers("X", "1m") == Answers(page=500)


def test_the_provider_of_the_guide_is_listed_and_answers(archive):
    assert "ArchiveProvider" in python_of("provider.md")
    assert "workspace, archive.py" in algo(archive, "components", "providers").stdout
    listed = algo(archive, "data", "list").stdout
    assert "archive/ONE/1d" in listed and "archive/TWO/1d" in listed
    assert "2017-06-30" in algo(archive, "data", "show", "archive/ONE/1d").stdout
    assert "Did you mean 'ONE'" in algo(archive, "data", "show", "archive/ONF/1d", code=2).stderr


def test_a_provider_that_fails_is_named_with_file_and_line_and_hides_no_other(archive):
    code = (archive / "archive.py").read_text()
    (archive / "archive.py").write_text(code.replace("table = pl.read_csv(", "table = pl.no_such("))
    said = algo(archive, "data", "show", "archive/ONE/1d", code=2).stderr
    line = 1 + code[: code.index("table = pl.read_csv(")].count("\n")
    assert "AttributeError" in said and f"archive.py, line {line})" in " ".join(said.split())

    (archive / "archive.py").write_text(code.replace("return [(DatasetId", "return 1 / 0, [(DatasetId"))
    listed = algo(archive, "data", "list").stdout
    assert "arch/SP500/1d" in listed and "ZeroDivisionError" in listed


def test_a_provider_does_not_hide_what_is_stored(archive):
    days = (archive / "archive" / "ONE.csv").read_text()
    (archive / "mine.csv").write_text(days.replace("day,", "date,", 1))
    (archive / "archive.py").rename(archive / "later.txt")
    algo(archive, "data", "import", "mine.csv", "--id", "archive/ONE/1d")
    (archive / "later.txt").rename(archive / "archive.py")
    said = algo(archive, "data", "show", "archive/ONE/1d", code=2).stderr
    assert "is in the store, and the provider archive answers for 'archive', too" in " ".join(said.split())


@pytest.mark.process
def test_the_parts_of_the_guide_are_listed_and_used(tmp_path):
    (tmp_path / "my_parts.py").write_text(python_of("components.md"))
    for kind, name in (("features", "momentum.own.gap_3"), ("models", "mean"), ("costs", "impact")):
        assert name in algo(tmp_path, "components", kind).stdout
    chosen = [
        *("-p", "dataset=synthetic/noise:1/1h", "-p", "model=mean(shrink=0.3)", "-p", "costs=impact(bps=10)"),
        *("-p", 'settings={"research.features": "momentum.own.gap_3"}', "-p", "folds=2", "-p", "compare="),
    ]
    assert "No edge" in algo(tmp_path, "run", "research", *chosen).stdout
    tried = " ".join(algo(tmp_path, "trials", "synthetic/noise:1/1h").stdout.split())
    assert "mean(shrink=0.3)" in tried and "impact(bps=10)" in tried


def test_what_a_module_of_one_s_own_asks_wrongly_is_said_with_its_file(tmp_path):
    text = python_of("components.md").replace("momentum.own.gap_3", "gap")
    (tmp_path / "my_parts.py").write_text(text)
    said = " ".join(algo(tmp_path, "run", "research", "-p", "model=mean", code=2).stderr.split())
    line = 1 + text[: text.index("GAP = Feature")].count("\n")
    assert "is no feature name" in said and f"my_parts.py, line {line})" in said


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("    def fit(self, features, label, seed): ", "The model mean cannot be fitted"),
        ("    def predict(self, features): ", "The predictor Drift cannot predict"),
        ("    def rates(self, price, volume, instruments): ", "The cost model impact cannot say its rates"),
        ("    close = ", "The feature momentum.own.gap_3 cannot be computed"),
    ],
)
def test_a_part_whose_code_fails_is_named_with_file_and_line(tmp_path, line, what):
    text = python_of("components.md")
    number = 1 + text[: text.index(line)].count("\n")
    spoilt = text.splitlines()
    spoilt[number - 1] = line + "1 / 0"
    (tmp_path / "my_parts.py").write_text("\n".join(spoilt))
    chosen = [
        *("-p", "dataset=synthetic/noise:1/1h", "-p", "model=mean", "-p", "costs=impact", "-p", "folds=2"),
        *("-p", 'settings={"research.features": "momentum.own.gap_3"}', "-p", "compare="),
    ]
    said = " ".join(algo(tmp_path, "run", "research", *chosen, code=1).stdout.split())
    assert f"{what}: ZeroDivisionError" in said and f"my_parts.py, line {number})" in said
