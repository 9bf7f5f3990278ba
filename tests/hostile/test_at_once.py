"""Of two commands that change the same dataset at once one wins; the other is told, and can be repeated."""

import itertools
import threading

import polars as pl
import pytest
from support.command import algo, files
from support.datasets import make_dataset

from algo_research.core.errors import AlgoError
from algo_research.data.stores import delta
from algo_research.data.stores.delta import DeltaStore

pytestmark = [pytest.mark.slow, pytest.mark.process]
RAW, ID = "test/coins/1d", "test/coins-total/1d"


def write_csv(path, factor: float) -> None:
    bars = make_dataset("1d", 40).bars.with_columns(pl.col("open", "high", "low", "close") * factor)
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(path)


def workspace_of(folder):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        write_csv(folder / f"{name}.csv", factor)
    for name, value in (("c", 0.5), ("d", 0.7)):
        (folder / f"{name}.csv").write_text(f"symbol,date,kind,value\ncoins,2021-12-10,dividend,{value}\n")
    return folder


CHANGES = {
    "import a": ["data", "import", "a.csv", "--id", RAW, "--replace"],
    "import b": ["data", "import", "b.csv", "--id", RAW, "--replace"],
    "aggregate": ["data", "aggregate", "other/coins/1d", "third/coins/1d", "--id", RAW],
}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(CHANGES, 2)))
@pytest.mark.parametrize("there", [False, True], ids=["new", "stored"])
def test_one_wins_and_the_other_is_told(tmp_path, monkeypatch, one, other, there):
    workspace = workspace_of(tmp_path)
    if there and "aggregate" in (one, other):
        pytest.skip("an aggregate replaces no import")
    for name in ("other", "third"):
        algo(workspace, "data", "import", "a.csv", "--id", f"{name}/coins/1d")
    if there:
        algo(workspace, "data", "import", "a.csv", "--id", RAW)
        write_csv(workspace / "a.csv", 3.0)
    original = delta._DeltaTables._change

    def overtaken(store, id, *arguments, **options):
        monkeypatch.undo()
        thread = threading.Thread(target=lambda: won.append(algo(workspace, *CHANGES[other], apart=True)))
        thread.start()
        thread.join()
        return original(store, id, *arguments, **options)

    won: list = []
    monkeypatch.setattr(delta._DeltaTables, "_change", overtaken)
    lost = algo(workspace, *CHANGES[one], code=None)
    assert won[0].returncode == 0, won
    assert lost.returncode not in (0, 1) and "was changed meanwhile" in lost.stderr
    winner = DeltaStore(workspace / ".algo" / "store").read(RAW).bars
    assert winner["close"].sum() > 0
    again = algo(workspace, *CHANGES[one], code=None)
    assert again.returncode == 0 or "is no composite" in again.stderr


def test_an_adjustment_of_bars_that_changed_meanwhile_is_not_stored(tmp_path, monkeypatch):
    workspace = workspace_of(tmp_path)
    algo(workspace, "data", "import", "a.csv", "--id", RAW)
    from algo_research.data.market import equities

    original = equities.adjust_bars

    def overtaken(*arguments, **options):
        monkeypatch.undo()
        algo(workspace, "data", "import", "b.csv", "--id", RAW, "--replace", apart=True)
        return original(*arguments, **options)

    monkeypatch.setattr(equities, "adjust_bars", overtaken)
    before = files(workspace)
    told = algo(workspace, "data", "adjust", RAW, "--actions", "c.csv", code=None)
    assert "was changed meanwhile" in told.stderr
    assert not [name for name in files(workspace).keys() - before.keys() if "actions" in name or "total" in name]
    assert algo(workspace, "data", "adjust", RAW, "--actions", "c.csv").returncode == 0
    assert DeltaStore(workspace / ".algo" / "store").read(ID).bars.height == 40


@pytest.mark.parametrize("symbol", ["../../store/x", "..", "a/b", "_hidden", ".hidden", "x\0y", "x" * 300])
def test_a_symbol_of_an_actions_file_names_no_other_place(tmp_path, symbol):
    workspace = workspace_of(tmp_path)
    algo(workspace, "data", "import", "a.csv", "--id", RAW)
    pl.DataFrame({"symbol": [symbol], "date": ["2021-12-10"], "kind": ["dividend"], "value": [0.5]}).write_csv(
        workspace / "bad.csv"
    )
    before = files(workspace)
    refused = algo(workspace, "data", "adjust", RAW, "--actions", "bad.csv", code=None)
    assert refused.returncode == 2, refused
    assert files(workspace) == before


@pytest.mark.parametrize(
    "id", ["_delta_log/x/1h", "a/_delta_log/1h", "../x/1h", "a/../1h", ".a/b/1h", f"{'a' * 300}/b/1h"]
)
def test_an_id_that_a_reader_of_tables_would_not_see_is_refused(tmp_path, id):
    workspace = workspace_of(tmp_path)
    assert "is no dataset id" in algo(workspace, "data", "import", "a.csv", "--id", id, code=2).stderr
    with pytest.raises(AlgoError):
        DeltaStore(workspace / ".algo" / "store").read(id)
