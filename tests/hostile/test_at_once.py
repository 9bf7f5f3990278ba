"""Of two commands that change the same dataset at once one wins; the other is told, and can be repeated."""

import itertools
import threading

import polars as pl
import pytest
from support.command import algo, files
from support.datasets import make_dataset

from algo_research.core.errors import AlgoError
from algo_research.data.market import equities
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


STORED = {
    "import": ["data", "import", "b.csv", "--id", RAW, "--replace"],
    "aggregate": CHANGES["aggregate"],
    "adjust": ["data", "adjust", RAW, "--actions", "c.csv"],
    "repair": ["data", "check", RAW, "--repair", "--yes"],
}
PAIRS = [
    (base, one, other)
    for base in ("import", "aggregate")
    for one, other in itertools.product((base, "adjust", "repair"), repeat=2)
]


def spiky(path, factor: float = 1.0) -> None:
    """Bars of which one is ten times its neighbours: a repair drops it."""
    bars = make_dataset("1d", 200).bars.with_row_index()
    times = pl.when(pl.col("index") == 120).then(10 * factor).otherwise(factor)
    bars = bars.with_columns(pl.col("open", "high", "low", "close") * times)
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(path)


# each day half of them
@pytest.mark.parametrize(
    ("base", "one", "other"), [pytest.param(*p, marks=[pytest.mark.long] if n % 2 else []) for n, p in enumerate(PAIRS)]
)
def test_of_two_that_change_what_is_stored_one_wins_and_the_other_is_told(tmp_path, monkeypatch, base, one, other):
    workspace = workspace_of(tmp_path)
    spiky(workspace / "a.csv")
    for id in ("other/coins/1d", "third/coins/1d", *([RAW] if base == "import" else [])):
        algo(workspace, "data", "import", "a.csv", "--id", id)
    if base == "aggregate":
        algo(workspace, *STORED["aggregate"])
    spiky(workspace / "a.csv", 3.0)  # what will be brought anew
    for id in ("other/coins/1d", "third/coins/1d"):
        algo(workspace, "data", "import", "a.csv", "--id", id, "--replace")
    place, name = (equities, "adjust_bars") if one == "adjust" else (delta._DeltaTables, "_change")
    original = getattr(place, name)

    def overtaken(*arguments, **options):
        monkeypatch.undo()
        command = [argument.replace("c.csv", "d.csv") for argument in STORED[other]]
        won.append(algo(workspace, *command, apart=True, code=None))
        return original(*arguments, **options)

    won: list = []
    monkeypatch.setattr(place, name, overtaken)
    before = files(workspace)
    lost = algo(workspace, *STORED[one], code=None)
    assert won[0].returncode == 0, won
    if one == other or other != "adjust":
        assert lost.returncode == 3 and "was changed meanwhile" in lost.stderr, lost  # it can be repeated
        if one == "adjust" and other != "adjust":
            assert not [new for new in files(workspace).keys() - before.keys() if "actions" in new or "total" in new]
    else:  # that one changes another dataset
        assert lost.returncode == 0, lost
    again = algo(workspace, *STORED[one], code=None)
    assert again.returncode == 0 or "is stored and is not adjusted so" in again.stderr, again
    assert DeltaStore(workspace / ".algo" / "store").read(RAW).bars.height in (199, 200)


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
