"""Trials stay counted: under another name, on another cut of the market, and in a file that somebody edits."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from support.plans import bare_research as research
from support.plans import kernel_plan

from algo_research.backtest import ledger as ledgers
from algo_research.backtest.ledger import TrialLedger
from algo_research.core.errors import DataError, FatalError, InputError
from algo_research.data.market.bars import Dataset, DatasetId, make_bars
from algo_research.data.samples.synthetic import make_market

MARKET = make_market("garch", 1, bars=3000)
TIMES = pl.datetime_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 9, tzinfo=UTC), "1h", eager=True)


def disguised(bars: pl.DataFrame, name: str = "other", timeframe: str = "1h") -> Dataset:
    """The bars as those of another dataset, with another symbol."""
    step = timedelta(hours=int(timeframe[:-1]))
    own = bars.select("ts", *(pl.col(c) for c in ("open", "high", "low", "close", "volume")), symbol=pl.lit(name))
    instrument = replace(MARKET.instrument, symbol=name)
    return Dataset(DatasetId("demo", name, timeframe), make_bars(own, step), instrument)


def longer(bars: pl.DataFrame, count: int) -> pl.DataFrame:
    """Bars of `count` hours."""
    columns = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return bars.group_by_dynamic("ts", every=f"{count}h").agg(getattr(pl.col(c), f)() for c, f in columns.items())


def scaled(bars: pl.DataFrame, factor: float) -> pl.DataFrame:
    return bars.with_columns(pl.col("open", "high", "low", "close") * factor)


def mixed(bars: pl.DataFrame) -> pl.DataFrame:
    """Prices of a basket with another market in it."""
    other = make_market("garch", 2, bars=bars.height).bars
    prices = [(pl.col(c) + 0.5 * other[c]).alias(c) for c in ("open", "close")]
    return bars.with_columns(prices).with_columns(
        high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )


BARS = MARKET.bars
DISGUISES = {
    "renamed": disguised(BARS),
    "one bar dropped": disguised(pl.concat([BARS[:700], BARS[701:]])),
    "a window": disguised(BARS[600:2600]),
    "in cents": disguised(scaled(BARS, 100)),
    "in four hours": disguised(longer(BARS, 4), timeframe="4h"),
}


def research_twice(disguise: Dataset, ledger: TrialLedger, **choices) -> tuple:
    """Two rules on the market, one in disguise."""
    research(MARKET, kernel_plan(compare=("moving_average(fast=10)",), **choices), ledger)
    said: list[tuple[str, str]] = []
    found = research(disguise, kernel_plan("moving_average(fast=7)", **choices), ledger, tell=lambda *s: said.append(s))
    return found, " ".join(text for step, text in said if step == "trials")


@pytest.mark.parametrize("disguise", DISGUISES, ids=str)
def test_n_goes_on_counting_in_disguise(disguise):
    found, said = research_twice(DISGUISES[disguise], TrialLedger())
    assert found.verdict.n_trials == 3
    assert "2 as synthetic/garch:1/1h" in said
    assert any("the same market by its returns" in note for note in found.notes)


def test_n_goes_on_counting_in_a_basket():
    ledger = TrialLedger()
    for market in (MARKET, make_market("garch", 2, bars=3000)):
        research(market, kernel_plan(), ledger)
    found = research(disguised(mixed(BARS)), kernel_plan("moving_average(fast=7)"), ledger)
    assert found.verdict.n_trials == 3
    # and a member answers for the basket, but not for the other member
    assert ledger.count("synthetic/garch:1/1h", MARKET.snapshot().content) == 2
    ledger.verify()


def test_another_market_begins_at_one():
    found, said = research_twice(disguised(make_market("garch", 5, bars=3000).bars), TrialLedger())
    assert found.verdict.n_trials == 1 and " as " not in said


@pytest.mark.parametrize("disguise", [*DISGUISES, "two years early"], ids=str)
def test_a_reserved_period_is_opened_once_in_any_disguise(disguise):
    hidden = DISGUISES.get(disguise) or disguised(BARS.with_columns(pl.col("ts") - timedelta(days=731)))
    ledger = TrialLedger()
    research(MARKET, kernel_plan(reserve=0.3), ledger, open_reserved=True)
    with pytest.raises(InputError, match="the same market by its returns"):
        research(hidden, kernel_plan("moving_average(fast=7)", reserve=0.3), ledger, open_reserved=True)


def test_labels_that_were_moved_under_the_same_name_open_nothing_again():
    """Whether by two years later, which makes what was seen look like new data, or earlier."""
    for days in (731, -731):
        moved = replace(MARKET, bars=BARS.with_columns(pl.col("ts", "known_at") + timedelta(days=days)))
        ledger = TrialLedger()
        research(MARKET, kernel_plan(reserve=0.3), ledger, open_reserved=True)
        with pytest.raises(InputError, match="It can be opened once"):
            research(moved, kernel_plan("moving_average(fast=7)", reserve=0.3), ledger, open_reserved=True)
        ledger = TrialLedger()
        research(MARKET, kernel_plan(reserve=0), ledger)
        with pytest.raises(InputError, match="is not unseen"):
            research(moved, kernel_plan(reserve=0.2), ledger, open_reserved=True)


def test_the_same_configuration_opens_a_period_once_with_one_set_of_data():
    """A column beside the bars is data, and could be chosen until it fits."""
    ledger, chosen = TrialLedger(), kernel_plan("moving_average(fast=7)", reserve=0.3)
    columns = [replace(MARKET, bars=BARS.with_columns(pl.lit(n * 1.0).alias("signal"))) for n in range(2)]
    for _ in range(2):
        research(columns[0], chosen, ledger, open_reserved=True)
    with pytest.raises(InputError, match="with other data"):
        research(columns[1], chosen, ledger, open_reserved=True)


def test_other_returns_on_the_same_data_are_another_trial_and_on_more_data_the_same_one(tmp_path):
    ledger = TrialLedger(tmp_path / "ledger.db")
    returns = np.random.default_rng(0).normal(size=len(TIMES))
    other = np.random.default_rng(1).normal(size=len(TIMES))
    steps = [
        ("c1", returns, 1),
        ("c1", returns + 1, 2),
        ("c1", returns + 1, 2),
        ("c2", returns + 2, 3),
        ("c2", other, 4),
    ]
    for content, earned, expected in [*steps, ("c3", returns, 4), ("", other + 1, 5)]:
        ledger.record("test/BTC/1h", {"a": 1}, TIMES, earned, content)
        assert ledger.count("test/BTC/1h", content) == expected
        assert ledger.effective("test/BTC/1h", content) <= expected
    longer = pl.concat([TIMES, TIMES[-1:] + timedelta(hours=1)])
    ledger.record("test/BTC/1h", {"a": 1}, longer, np.append(other + 1, 0.0), "c4")
    assert ledger.count("test/BTC/1h", "c4") == 5
    ledger.verify()
    for datasets in (None, {"test/BTC/1h": "c4"}):
        copied = tmp_path / f"{bool(datasets)}.db"
        ledger.copy_to(copied, datasets)
        for path, names in ((copied, ("",)), (tmp_path / f"home {bool(datasets)}.db", ("merged", "again"))):
            with closing(TrialLedger(path)) as other:
                for _ in filter(None, names):
                    other.merge(copied)
                assert other.count("test/BTC/1h", "c4") == 5
                other.verify()


def test_small_steps_over_the_same_period_are_each_a_trial():
    """A column that is changed a little each time goes as far as one likes, and no step looks like another rule."""
    ledger, rng = TrialLedger(), np.random.default_rng(3)
    returns = rng.normal(size=len(TIMES))
    for step in range(20):
        returns = returns + 0.2 * rng.normal(size=len(TIMES))
        ledger.record("test/BTC/1h", {"a": 1}, TIMES, returns, f"column {step}")
    assert ledger.count("test/BTC/1h", "column 19") == 20


def test_what_turns_out_to_be_tried_already_is_planned_no_longer(tmp_path):
    ledger = TrialLedger(tmp_path / "ledger.db")
    found = research(MARKET, kernel_plan("moving_average(fast=7)"), ledger)
    config = ledger.trials(found.dataset)["config_hash"][0]
    again = TrialLedger(tmp_path / "again.db")
    again.plan(found.dataset, [config], found.snapshot.content)
    assert again.count(found.dataset) == 1
    research(MARKET, kernel_plan("moving_average(fast=7)"), again)
    assert again.count(found.dataset) == 1 and not again.planned(found.dataset)


def test_a_period_that_was_seen_in_disguise_is_not_unseen():
    ledger = TrialLedger()
    research(MARKET, kernel_plan(reserve=0), ledger)
    with pytest.raises(InputError, match="is not unseen"):
        research(DISGUISES["in four hours"], kernel_plan(reserve=0.2), ledger, open_reserved=True)


def test_a_dataset_that_grows_is_kept_once():
    ledger = TrialLedger()
    for bars in (2000, 2001, 2002):
        ledger.meet(replace(MARKET, bars=BARS[:bars]))
    kept = ledger._rows("SELECT content FROM markets WHERE fingerprint IS NOT NULL")
    assert kept == [(replace(MARKET, bars=BARS[:2002]).snapshot().content,)]
    ledger.verify()


def test_a_copy_knows_what_the_ledger_knows(tmp_path):
    ledger = TrialLedger(tmp_path / "all.db")
    research_twice(DISGUISES["in cents"], ledger)
    research(make_market("garch", 5, bars=3000), kernel_plan(), ledger)
    named = {"demo/other/1h": DISGUISES["in cents"].snapshot().content}
    ledger.copy_to(tmp_path / "part.db", named)
    ledger.copy_to(tmp_path / "whole.db")
    for name, trials in (("part", 3), ("whole", 4)):
        copy = TrialLedger(tmp_path / f"{name}.db")
        copy.verify()
        assert copy._rows("SELECT COUNT(DISTINCT digest) FROM trials") == [(trials,)]
        assert copy.digest(*next(iter(named.items()))) == ledger.digest(*next(iter(named.items())))
        copy.close()
    elsewhere = TrialLedger(tmp_path / "elsewhere.db")
    elsewhere.meet(DISGUISES["in four hours"])
    elsewhere.merge(tmp_path / "part.db")
    assert elsewhere.count(str(DISGUISES["in four hours"].id)) == 3
    elsewhere.verify()


def test_the_same_configuration_with_other_returns_is_said():
    ledger = TrialLedger()
    first = research(MARKET, kernel_plan(), ledger)
    config = ledger.trials(str(MARKET.id))["config"][0]
    off = first.result.equity["ts"], np.random.default_rng(0).normal(size=first.result.equity.height)
    ledger.record(str(MARKET.id), json.loads(config), *off, MARKET.snapshot().content)
    again = research(MARKET, kernel_plan(), ledger)
    assert any("with other returns" in note for note in again.notes)


# ------------------------------------------------------------------------------------------------- planned trials


def named(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.id), dataset.snapshot().content


def test_what_is_planned_counts_before_it_is_tried():
    ledger = TrialLedger()
    ledger.meet(MARKET)
    ledger.plan(str(MARKET.id), ["a", "b", "c"], MARKET.snapshot().content)
    first = research(MARKET, kernel_plan(), ledger)
    assert (first.verdict.n_trials, first.verdict.n_effective) == (4, 4.0)
    assert "3 of the trials are planned and not yet judged" in first.notes
    ledger.withdraw(["a", "b"])
    assert "1 of the trials is planned and not yet judged" in research(MARKET, kernel_plan(), ledger).notes
    ledger.withdraw(["c"])
    last = research(MARKET, kernel_plan(), ledger)
    assert last.verdict.n_trials == 1 and not any("planned" in note for note in last.notes)
    ledger.verify()


@pytest.mark.parametrize("disguise", DISGUISES, ids=str)
def test_a_plan_counts_in_disguise(disguise):
    ledger, hidden = TrialLedger(), DISGUISES[disguise]
    for dataset in (MARKET, hidden):
        ledger.meet(dataset)
    ledger.plan(str(MARKET.id), ["a", "b"], MARKET.snapshot().content)
    ledger.plan(str(hidden.id), ["b", "c"], hidden.snapshot().content)
    assert ledger.planned(*named(hidden)) == ledger.planned(*named(MARKET)) == ["a", "b", "c"]
    assert ledger.count("demo/elsewhere/1h") == 0


def test_a_panel_s_plan_counts_for_its_members():
    ledger = TrialLedger()
    ledger.plan("panel/ALL/1h", ["a"], members=("test/A/1h", "test/B/1h"))
    assert [ledger.count(f"test/{name}/1h") for name in "ABC"] == [1, 1, 0]
    assert ledger.count("panel/ALL/1h", members=("test/A/1h", "test/B/1h")) == 1


def test_the_same_plan_again_changes_nothing():
    ledger = TrialLedger()
    for keys in (["a", "b"], ["b", "a", "b"]):
        ledger.plan("test/BTC/1h", keys)
    assert ledger.head[0] == 1 and ledger.count("test/BTC/1h") == 2
    ledger.withdraw(["never planned"])
    assert ledger.head[0] == 1
    ledger.withdraw(["a"])
    ledger.plan("test/BTC/1h", ["a", "c"])
    assert ledger.planned("test/BTC/1h") == ["a", "b", "c"] and ledger.verify()[0] == 3


def test_a_plan_is_no_part_of_what_a_run_depends_on_and_travels(tmp_path):
    ledger = filled(tmp_path / "ledger.db")
    before, independent = ledger.digest("test/BTC/1h"), ledger.effective("test/BTC/1h")
    ledger.plan("test/BTC/1h", ["a", "b"])
    ledger.plan("test/ETH/1h", ["c"])
    assert ledger.digest("test/BTC/1h") == before
    assert ledger.effective("test/BTC/1h") == pytest.approx(independent + 2)
    for name, datasets, planned in (("whole", None, ["a", "b", "c"]), ("part", {"test/BTC/1h": ""}, ["a", "b"])):
        ledger.copy_to(tmp_path / name, datasets)
        copy = TrialLedger(tmp_path / name)
        copy.verify()
        assert [key for (key,) in copy._rows("SELECT DISTINCT key FROM plans ORDER BY key")] == planned
        copy.close()


def test_what_a_copy_withdrew_is_withdrawn_at_home_and_its_plans_stay_there(tmp_path):
    ledger = filled(tmp_path / "ledger.db")
    ledger.plan("test/BTC/1h", ["a", "b"])
    for name in ("begun", "private"):
        ledger.copy_to(tmp_path / name)
    private = TrialLedger(tmp_path / "private")
    private.withdraw(["a"])
    private.plan("test/BTC/1h", ["c"])
    private.close()
    ledger.merge(tmp_path / "private")
    assert ledger.planned("test/BTC/1h") == ["a", "b"]
    ledger.merge(tmp_path / "private", since=tmp_path / "begun")
    assert ledger.planned("test/BTC/1h") == ["b"]
    ledger.verify()


# -------------------------------------------------------------------------------------------------- a ledger is lost


def test_a_loss_is_said_in_every_verdict_for_good(tmp_path):
    ledger = TrialLedger(tmp_path / "ledger.db")
    with pytest.raises(InputError, match="there is no loss to accept"):
        ledger.accept_loss({}, "tidying up")
    with pytest.raises(InputError, match="Say why"):
        ledger.accept_loss({"run": (7, "f00d")}, " ")
    assert not ledger.losses() and not ledger.has_head(7, "f00d")
    ledger.accept_loss({"run": (7, "f00d"), "other": (5, "beef")}, "disk broken")
    assert ledger.has_head(7, "f00d") and ledger.has_head(5, "beef") and not ledger.has_head(7, "beef")
    for opened in (False, True):
        found = research(MARKET, kernel_plan(), ledger, open_reserved=opened)
        assert any("lost entries" in n and "(disk broken)" in n and "a lower bound" in n for n in found.notes)
    elsewhere = TrialLedger(tmp_path / "elsewhere.db")
    for name, datasets in (("part", dict([named(MARKET)])), ("whole", None)):
        ledger.copy_to(tmp_path / name, datasets)
        elsewhere.merge(tmp_path / name)
        copy = TrialLedger(tmp_path / name)
        assert copy.losses() == elsewhere.losses() == ledger.losses()
        copy.close()
    elsewhere.verify()
    ledger._connection.execute("UPDATE entries SET payload = replace(payload, 'broken', 'fine') WHERE kind = 'loss'")
    with pytest.raises(DataError, match="entry 1, a loss, was changed"):
        ledger.verify()


# ------------------------------------------------------------------------------------------------------ the chain


def filled(path) -> TrialLedger:
    ledger = TrialLedger(path)
    ledger.meet(MARKET)
    for seed in range(4):
        returns = np.random.default_rng(seed).normal(size=len(TIMES))
        ledger.record("test/BTC/1h", {"seed": seed}, TIMES, returns, f"c{seed}")
    later = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
    ledger.open_reserved("test/BTC/1h", *later, {"seed": 1})
    ledger.plan("test/GRID/1h", ["a", "b"])
    return ledger


EDITS = {
    "a trial taken out": ("DELETE FROM trials WHERE content = 'c1'", "first in entry 3"),
    "a trial moved": ("UPDATE trials SET dataset = 'x/Y/1h' WHERE content = 'c2'", "first in entry 4"),
    "a trial added": ("INSERT INTO trials SELECT 'x/Y/1h', content, config_hash, config, digest, ts, returns, until, "
                      "recorded FROM trials LIMIT 1", "are not what its entries say"),
    "returns": ("UPDATE trials SET returns = zeroblob(LENGTH(returns)) WHERE content = 'c1'", "is not the one that"),
    "a configuration": ("UPDATE trials SET config = '{}' WHERE content = 'c1'", "is not the one that was counted"),
    "an opening": ("DELETE FROM openings", "1 of its openings"),
    "a plan": ("DELETE FROM plans WHERE key = 'b'", "1 of its plans are not what its entries say, first in entry 7"),
    "a market": ("DELETE FROM markets", "first in entry 1"),
    "a fingerprint": ("UPDATE markets SET fingerprint = NULL", "is not the one that was made"),
    "an entry": ("UPDATE entries SET payload = replace(payload, 'c1', 'c9')", "entry 3, a trial, was changed"),
    "an entry taken out": ("DELETE FROM entries WHERE seq = 3", "entry 3 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_by_hand_is_found(edit, tmp_path):
    ledger = filled(tmp_path / "ledger.db")
    assert ledger.verify() == ledger.head and ledger.head[0] == 7
    statement, said = EDITS[edit]
    ledger._connection.execute(statement)
    with pytest.raises(DataError, match=said):
        ledger.verify()
    with pytest.raises(DataError, match=said):
        research(make_market("garch", 3, bars=3000), kernel_plan(), ledger)


def test_nobody_counts_while_the_ledger_is_checked(tmp_path, monkeypatch):
    ledger, other = filled(tmp_path / "ledger.db"), TrialLedger(tmp_path / "ledger.db")
    other._connection.execute("PRAGMA busy_timeout = 0")
    seen = []

    def between(*_) -> None:
        with pytest.raises(FatalError, match="locked"):
            other.plan("test/BTC/1h", ["late"])
        seen.append("locked")

    monkeypatch.setattr(ledgers, "_check_blobs", between)
    ledger.verify()
    assert seen == ["locked"]
    other.plan("test/BTC/1h", ["late"])


def test_a_ledger_of_the_first_version_is_taken_over(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = filled(path)
    before = ledger.trials("test/BTC/1h"), ledger.openings("test/BTC/1h"), ledger.digest("test/BTC/1h")
    for table in ("entries", "names", "markets", "kin", "plans"):
        ledger._connection.execute(f"DROP TABLE {table}")
    ledger._connection.execute("PRAGMA user_version = 1")
    ledger.close()
    again = TrialLedger(path)
    assert again.verify()[0] == 5
    assert again.trials("test/BTC/1h").equals(before[0]) and again.openings("test/BTC/1h").equals(before[1])
    assert again.digest("test/BTC/1h") == before[2]
    again.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
