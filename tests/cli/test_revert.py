"""`algo data revert`: an earlier version is shown, and comes back whole as a new one."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from support.command import algo, files
from support.datasets import START, make_dataset

from algo_research.data.market.equities import Change
from algo_research.data.stores.base import open_store

URLS = {
    "delta": lambda request: f"delta://{request.getfixturevalue('tmp_path')}/store",
    "postgres": lambda request: request.getfixturevalue("postgres_url"),
}
FIRST = make_dataset(n=60, notes=("as downloaded",))
GONE = (("BTC", START + timedelta(hours=3), START + timedelta(hours=5)),)


def later_versions():
    """Bars repaired, then those of another kind of market, adjusted, with another past."""
    bars = FIRST.bars
    repaired = replace(FIRST, bars=pl.concat([bars[:3], bars[6:]]), removed=GONE, notes=("as downloaded", "repaired"))
    instrument = replace(
        FIRST.instrument, kind="equity", calendar="XNYS", quote="USD", history=(Change(START, "OLD", 100.0),)
    )
    other = bars[10:].with_columns(volume=pl.col("volume") * 2)
    return repaired, replace(
        FIRST, bars=other, instrument=instrument, adjustment="total", close_only=True, notes=("wrong",)
    )


@pytest.fixture(params=URLS)
def workspace(tmp_path, request):
    """Three versions: what was imported, repaired, and replaced by what is wrong."""
    url = URLS[request.param](request)
    (tmp_path / "settings.ini").write_text(f"[store]\nurl = {url}\n")
    store = open_store(url)
    store.write(FIRST, "imported")
    repaired, wrong = later_versions()
    store.write(repaired, "repaired", replace=True)
    store.write(wrong, "a wrong turn", replace=True)
    return tmp_path, store


def told(done):
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.process
def test_a_version_is_shown_and_comes_back_as_a_new_one(workspace):
    folder, store = workspace
    command = ["data", "revert", str(FIRST.id), "--to", "1"]
    before = files(folder)
    shown = told(algo(folder, *command))
    assert "version 1 of" in shown and "(repaired); now version 2 is the newest" in shown
    assert "7 bars come, 0 go, 50 change, 0 stay as they are" in shown
    for row in ("bars 57 50", "calendar 24/7 XNYS", "prices raw total, only closes", "taken out 1 range(s) of bars -"):
        assert row in shown
    assert "formerly - OLD until 2021-11-29, 100 of it for one" in shown
    assert "Note that comes: repaired" in shown and "Note that goes: wrong" in shown
    assert f"Nothing was stored. Do it: algo data revert {FIRST.id} --to 1 --yes" in shown
    assert files(folder) == before and store.versions(FIRST.id) == [0, 1, 2]
    done = told(algo(folder, *command, "--yes"))
    assert "version 3: 57 bars, as in version 1; version 2 stays readable" in done
    now, (repaired, wrong) = store.read(FIRST.id), later_versions()
    assert now.metadata() == repaired.metadata() and now.bars.equals(repaired.bars)
    assert store.read(FIRST.id, version=2).bars.equals(wrong.bars)
    assert store.read(FIRST.id, version=2).metadata() == wrong.metadata()
    assert "back to version 1" in told(algo(folder, "data", "history", str(FIRST.id)))
    for same in ("1", "3"):
        answer = told(algo(folder, "data", "revert", str(FIRST.id), "--to", same, "--yes"))
        assert "there is nothing to do" in answer
    assert store.versions(FIRST.id) == [0, 1, 2, 3]
    algo(folder, "data", "revert", str(FIRST.id), "--to", "2", "--yes")
    assert store.read(FIRST.id).metadata() == wrong.metadata()


@pytest.mark.process
def test_versions_are_shown_to_choose_from_and_one_that_is_not_there_is_refused(workspace):
    folder, store = workspace
    shown = told(algo(folder, "data", "revert", str(FIRST.id)))
    assert "imported" in shown and "a wrong turn" in shown
    assert f"Choose one: algo data revert {FIRST.id} --to VERSION" in shown
    for options, answer in (
        (["--to", "7"], "no version 7. Readable versions: 0, 1, 2"),
        (["--to", "-1"], "no version -1. Readable versions: 0, 1, 2"),
        (["--yes"], "Give --to VERSION"),
    ):
        assert answer in told(algo(folder, "data", "revert", str(FIRST.id), *options, code=2))
    for unknown, answer in (("test/coin/1h", "Did you mean 'test/coins/1h'"), ("arch/SP500/1d", "one version only")):
        assert answer in told(algo(folder, "data", "revert", unknown, "--to", "0", code=2))
    assert store.versions(FIRST.id) == [0, 1, 2]
