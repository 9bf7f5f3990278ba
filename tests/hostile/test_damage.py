"""Bars that are not what was written are neither shown, nor used, nor written over as if they were good."""

import json
import os
import random
import shutil
from dataclasses import replace

import polars as pl
import pytest
from support.command import algo, files
from support.datasets import make_dataset

from algo_research.core.errors import AlgoError, FatalError, RetryableError
from algo_research.data.market.bars import DatasetId
from algo_research.data.stores import delta
from algo_research.data.stores.delta import DeltaStore
from algo_research.data.stores.places import LocalPlace

ID = "test/coins/1h"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with a few versions, some of them appended, and what each of them holds."""
    folder = tmp_path_factory.mktemp("store")
    market, store = make_dataset("1h", 12_000), DeltaStore(folder)
    bars = market.bars
    for first, last in ((0, 9_000), (9_000, 9_500), (9_500, 10_500), (10_000, 12_000)):
        part = market.__class__(**{**vars(market), "bars": bars[first:last]})
        store.write(part) if first in (0, 10_000) else store.append(part)
    return folder, [store.read(ID, version=v).bars for v in range(4)]


def damaged(path, how: str, rng: random.Random) -> None:
    content = path.read_bytes()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(content[: rng.randrange(len(content))])
    elif how == "deleted":
        path.unlink()
    elif how == "of another":
        path.write_bytes(b"{}\n" if path.suffix == ".json" else b"PAR1PAR1")
    else:
        at = rng.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :])


def kinds(folder) -> dict[str, list]:
    table = folder / "bars" / "test" / "coins" / "1h"
    logs = {"log": sorted(table.glob("_delta_log/*")), "mark": [table / "_newest"]}
    return {"data": sorted(table.rglob("part=*/*.parquet")), **logs}


HOW = ("emptied", "truncated", "deleted", "of another", *(f"flipped {n}" for n in range(6)))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", ["data", "log", "mark"])
def test_a_read_is_right_or_refused_and_a_write_never_builds_on_damage(whole, tmp_path, kind, how):
    folder, versions = whole
    rng = random.Random(f"{kind} {how}")
    for number in range(len(kinds(folder)[kind])):
        store_folder = tmp_path / str(number)
        shutil.copytree(folder, store_folder)
        path = kinds(store_folder)[kind][number]
        damaged(path, how, rng)
        before, refused = files(store_folder), False
        for version in (None, 0, 1, 2, 3):
            try:
                bars = DeltaStore(store_folder).read(ID, version=version).bars
            except AlgoError as error:
                refused = True
                assert ID in str(error) or "version" in str(error)
                continue
            expected = versions[-1] if version is None else versions[version]
            assert bars.equals(expected), (path, version)
        assert files(store_folder) == before
        try:
            DeltaStore(store_folder).write(make_dataset("1h", 10))
        except AlgoError:
            assert files(store_folder) == before
        assert refused or kind != "data"
        assert [str(id) for id in DeltaStore(store_folder).datasets()] == [ID]


@pytest.mark.parametrize("kind", ["data", "log"])
def test_the_last_good_version_is_offered_and_taken_back(whole, tmp_path, kind):
    folder, versions = whole
    workspace = tmp_path / "workspace"
    shutil.copytree(folder, workspace / ".algo" / "store")
    newest = kinds(workspace / ".algo" / "store")[kind][-1]
    newest.write_bytes(newest.read_bytes()[:100])
    shown = algo(workspace, "data", "show", ID, code=None)
    assert shown.returncode == 2 and f"algo data check {ID} --repair" in shown.stderr
    listed = " ".join(algo(workspace, "data", "list").stdout.split())
    assert "test/coins/1h store 12,000 bars" in listed if kind == "data" else "cannot be read" in listed
    before = files(workspace / ".algo")
    offered = algo(workspace, "data", "check", ID, "--repair", code=1).stdout
    assert "The last version that is whole is 2" in offered and "--repair --yes" in offered
    assert files(workspace / ".algo") == before
    assert "version 2 is the newest" in algo(workspace, "data", "check", ID, "--repair", "--yes").stdout
    store = DeltaStore(workspace / ".algo" / "store")
    assert store.read(ID).bars.equals(versions[2]) and store.verify(ID) == []
    store.write(make_dataset("1h", 12_000))
    assert store.read(ID).bars.equals(versions[3])


def test_a_damaged_dataset_hides_no_other_and_can_be_replaced(whole, tmp_path):
    folder, _ = whole
    workspace = tmp_path / "workspace"
    shutil.copytree(folder, workspace / ".algo" / "store")
    sound = make_dataset("1h", 12_000)
    DeltaStore(workspace / ".algo" / "store").write(replace(sound, id=DatasetId.parse("test/sound/1h")))
    first = kinds(workspace / ".algo" / "store")["data"][0]
    first.write_bytes(first.read_bytes()[:-1])
    listed = algo(workspace, "data", "list").stdout
    assert "test/sound/1h" in listed and "12,000 bars" in listed
    assert "No version" in algo(workspace, "data", "check", ID, code=2).stderr
    store = DeltaStore(workspace / ".algo" / "store")
    store.write(make_dataset("1h", 50), replace=True)
    assert store.read(ID).bars.equals(make_dataset("1h", 50).bars)


def test_a_sum_is_that_of_the_files_as_the_log_says_them(whole):
    """Written and read, it is the same number for every version: that is what the check rests on."""
    folder, versions = whole
    log = folder / "bars" / "test" / "coins" / "1h" / "_delta_log"
    told = [json.loads(line) for path in sorted(log.glob("*.json")) for line in path.read_text().splitlines()]
    sums = [line["commitInfo"]["algo_sum"] for line in told if "commitInfo" in line]
    assert len(set(sums)) == len(sums) == len(versions)
    assert pl.concat(versions[:1]).height == 9_000


@pytest.mark.parametrize("fault", ["a loop", "a pipe", "a folder"])
def test_an_entry_that_is_no_file_is_gone_back_behind(whole, tmp_path, fault):
    folder, versions = whole
    workspace = tmp_path / "workspace"
    shutil.copytree(folder, workspace / ".algo" / "store")
    newest = kinds(workspace / ".algo" / "store")["log"][-1]
    newest.unlink()
    {"a loop": lambda: newest.symlink_to(newest.name), "a pipe": lambda: os.mkfifo(newest), "a folder": newest.mkdir}[
        fault
    ]()
    assert "is no file" in algo(workspace, "data", "show", ID, code=2).stderr
    if fault == "a loop":  # Delta's own listing stops at it: the message says to move it away
        assert "move it away" in algo(workspace, "data", "check", ID, "--repair", "--yes", code=2).stdout
        newest.unlink()
    assert "version 2 is the newest" in algo(workspace, "data", "check", ID, "--repair", "--yes").stdout
    assert DeltaStore(workspace / ".algo" / "store").read(ID).bars.equals(versions[2])


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_log_that_lost_its_end_is_not_read_as_if_that_were_all(whole, tmp_path, lost):
    folder, versions = whole
    workspace = tmp_path / "workspace"
    shutil.copytree(folder, workspace / ".algo" / "store")
    open_store = DeltaStore(workspace / ".algo" / "store")
    assert open_store.read(ID).bars.equals(versions[3])
    for entry in kinds(workspace / ".algo" / "store")["log"][-lost:]:
        entry.unlink()
    for store in (open_store, DeltaStore(workspace / ".algo" / "store")):
        with pytest.raises(AlgoError, match="lost its end"):
            store.read(ID)
        with pytest.raises(AlgoError, match="lost its end"):
            store.write(make_dataset("1h", 10))
    repaired = algo(workspace, "data", "check", ID, "--repair", "--yes").stdout
    assert f"version {3 - lost} is the newest. The log has nothing after it" in " ".join(repaired.split())
    assert "Nothing was changed" not in repaired
    assert DeltaStore(workspace / ".algo" / "store").read(ID).bars.equals(versions[3 - lost])
    assert open_store.write(make_dataset("1h", 12_000)) == 4 - lost
    assert DeltaStore(workspace / ".algo" / "store").read(ID).bars.height == 12_000


def test_a_reader_beside_a_writer_is_told_of_no_damage(whole, tmp_path):
    """Another process commits between any two steps of a read."""
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "store")
    market, tried = make_dataset("1h", 12_300), 0
    original = DeltaStore._table

    def overtaken(store, id, version=None):
        nonlocal tried
        table = original(store, id, version)
        tried += 1
        part = market.__class__(**{**vars(market), "bars": market.bars[12_000 + 10 * tried : 12_010 + 10 * tried]})
        DeltaStore._table = original
        writer.append(part)
        DeltaStore._table = overtaken
        return table

    writer = DeltaStore(tmp_path / "store")
    try:
        DeltaStore._table = overtaken
        for _ in range(5):
            assert DeltaStore(tmp_path / "store").extent(ID)[0] >= 12_000
    finally:
        DeltaStore._table = original
    assert tried >= 5 and writer.extent(ID)[0] == 12_000 + 10 * tried


def test_an_entry_of_another_version_or_dataset_is_not_read_as_its_own(whole, tmp_path):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "store")
    log = kinds(tmp_path / "store")["log"]
    shutil.copy(log[2], log[3])
    with pytest.raises(AlgoError, match="belongs to another version"):
        DeltaStore(tmp_path / "store").read(ID)
    assert DeltaStore(tmp_path / "store").sound_version(ID) == 2
    bars = tmp_path / "store" / "bars" / "test"
    shutil.copytree(folder / "bars" / "test" / "coins", bars / "others")
    with pytest.raises(AlgoError, match="to another dataset"):
        DeltaStore(tmp_path / "store").read("test/others/1h")


def test_a_store_whose_log_is_gone_is_no_place_for_another(whole, tmp_path):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "store")
    for entry in kinds(tmp_path / "store")["log"]:
        entry.unlink()
    store = DeltaStore(tmp_path / "store")
    assert [str(id) for id in store.datasets()] == [ID] and store.sound_version(ID) is None
    before = files(tmp_path)
    for change in (store.read, lambda id: store.write(make_dataset("1h", 10))):
        with pytest.raises(AlgoError, match="cannot be read"):
            change(ID)
    assert files(tmp_path) == before


def test_what_does_not_answer_or_is_forbidden_is_not_called_damaged(whole, tmp_path, monkeypatch):
    """A good version is not gone back behind because of it."""
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "store")
    store = DeltaStore(tmp_path / "store")
    for wrong in (RetryableError("the bucket does not answer"), PermissionError(13, "Permission denied", "x.parquet")):

        def fails(path, wrong=wrong):
            raise wrong

        with monkeypatch.context() as patch:
            for name in ("read", "source"):
                patch.setattr(store.place, name, fails)
            for ask in (store.sound_version, store.read):
                with pytest.raises((RetryableError, FatalError, PermissionError)) as told:
                    store._newest.clear()
                    ask(ID)
                assert "--repair" not in str(told.value)


def test_no_flipped_bit_ends_in_a_panic(whole, tmp_path):
    folder, _ = whole
    data = kinds(folder)["data"][0].read_bytes()
    for number in range(300):
        rng = random.Random(number)
        at = rng.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        assert not delta._has_hash(flipped, "0123456789abcdef")


def test_a_mark_that_cannot_be_written_is_no_failure(whole, tmp_path, monkeypatch):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "store")
    store, write = DeltaStore(tmp_path / "store"), LocalPlace.write

    def full(place, path, data):
        if path.endswith("_newest"):
            raise FatalError("the disk is full")
        write(place, path, data)

    monkeypatch.setattr(LocalPlace, "write", full)
    assert store.write(make_dataset("1h", 12_100)) == 4
    assert DeltaStore(tmp_path / "store").extent(ID)[0] == 12_100


def test_an_import_takes_the_place_of_what_cannot_be_read(whole, tmp_path):
    folder, _ = whole
    workspace = tmp_path / "workspace"
    shutil.copytree(folder, workspace / ".algo" / "store")
    first = kinds(workspace / ".algo" / "store")["data"][0]
    first.write_bytes(first.read_bytes()[:-1])
    bars = make_dataset("1h", 50).bars
    bars.select("ts", "open", "high", "low", "close", "volume").write_csv(workspace / "bars.csv")
    assert "--replace" in algo(workspace, "data", "check", ID, code=2).stderr
    told = algo(workspace, "data", "import", "bars.csv", "--id", ID, code=2).stderr
    assert "does not hold what was written" in told
    done = algo(workspace, "data", "import", "bars.csv", "--id", ID, "--replace").stdout
    assert "take the place" in done
    assert DeltaStore(workspace / ".algo" / "store").read(ID).bars.height == 50
