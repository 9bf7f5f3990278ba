"""What is true of Delta tables in a folder, beyond what every store must do."""

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from deltalake import DeltaTable, transaction, write_deltalake
from support.datasets import HERE, make_dataset
from support.waiting import let_pass

from algo_research.core.errors import DataError, FatalError, InputError
from algo_research.data.stores import delta as store_module
from algo_research.data.stores import pieces
from algo_research.data.stores.delta import DeltaStore


@pytest.mark.parametrize("before", [0, 10], ids=["first write", "new month"])
def test_a_writer_overtaken_just_before_its_commit(tmp_path, monkeypatch, before):
    """What the faster one wrote into the same month is kept."""
    slow, fast, dataset = DeltaStore(tmp_path), DeltaStore(tmp_path), make_dataset("1m", 100, every=timedelta(hours=10))
    if before:
        slow.write(make_dataset("1m", before, every=timedelta(minutes=1)))

    def overtaken(original):
        def commit(*arguments, **options):
            monkeypatch.undo()
            fast.write(replace(dataset, bars=dataset.bars[10:60]))
            return original(*arguments, **options)

        return commit

    monkeypatch.setattr(DeltaTable, "create_write_transaction", overtaken(DeltaTable.create_write_transaction))
    monkeypatch.setattr(
        transaction, "create_table_with_add_actions", overtaken(transaction.create_table_with_add_actions)
    )
    slow.write(replace(dataset, bars=dataset.bars[40:]))
    assert slow.read(dataset.id, start=dataset.bars["ts"][10]).bars.equals(dataset.bars[10:])


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/algo"])
def test_an_unwritable_folder(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    store = DeltaStore(tmp_path / name)
    for call in (store.ping, lambda: store.write(make_dataset())):
        with pytest.raises(InputError, match="Choose another folder"):
            call()
    assert store.datasets() == []
    with pytest.raises(InputError, match="Unknown dataset"):
        store.read("test/coins/1h")


def test_something_in_the_way(tmp_path):
    store = DeltaStore(tmp_path)
    store.write(make_dataset(n=30))
    before = store.snapshot("test/coins/1h")
    (tmp_path / "bars/test/coins/1h/part=2022").write_text("in the way")
    with pytest.raises(InputError, match="Choose another folder"):
        store.write(make_dataset(n=1000))
    assert store.read("test/coins/1h").snapshot() == before


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, sys.argv[1])
import pytest
from algo_research.data.stores.delta import DeltaStore
from support.datasets import make_dataset
store = DeltaStore(sys.argv[2])
store.write(make_dataset(n=30))
before = store.snapshot("test/coins/1h")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from algo_research.core.errors import FatalError
with pytest.raises(FatalError, match="holds what it held before"): store.write(make_dataset(n=700))
assert store.read("test/coins/1h").snapshot() == before
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_full_disk_changes_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, HERE, str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["with space", "50%", "a#b", "a?b", "größe"])
def test_any_folder_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    dataset = make_dataset()
    for folder in (tmp_path / name, f"relative {name}"):
        store = DeltaStore(folder)
        assert store.write(dataset) == store.write(dataset) == 0
        assert store.snapshot(dataset.id).content == dataset.snapshot().content
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"relative {name}"])


def test_a_folder_name_that_means_another(tmp_path):
    with pytest.raises(InputError, match="Choose another folder"):
        DeltaStore(tmp_path / "a%20b")


def test_versions_outlive_the_log_retention(tmp_path, monkeypatch):
    """Delta forgets log entries older than 30 days at its next checkpoint, here every third entry."""
    monkeypatch.setattr(
        store_module, "_CONFIGURATION", {**store_module._CONFIGURATION, "delta.checkpointInterval": "3"}
    )
    store, dataset = DeltaStore(tmp_path), make_dataset()
    old = time.time() - 90 * 86400
    for n in range(1, 9):
        store.write(replace(dataset, bars=dataset.bars[:n]))
        for entry in tmp_path.rglob("_delta_log/*.json"):
            os.utime(entry, (old, old))
    assert list(tmp_path.rglob("_delta_log/*.checkpoint.parquet"))
    assert [store.read(dataset.id, version=v).bars.height for v in store.versions(dataset.id)] == list(range(1, 9))


def test_a_table_of_another_program_is_refused(tmp_path):
    write_deltalake(tmp_path / "bars/test/coins/1h", make_dataset().bars)
    for call in (DeltaStore(tmp_path).read, lambda _: DeltaStore(tmp_path).write(make_dataset())):
        with pytest.raises(DataError, match="not written by this store"):
            call("test/coins/1h")


def test_files_obey_the_umask(tmp_path):
    """A store that a colleague shall read is readable by the group, if the umask says so."""
    before = os.umask(0o027)
    try:
        DeltaStore(tmp_path).write(make_dataset())
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*.parquet")} == {0o640}


def test_what_a_change_returned_is_on_the_disk(tmp_path, monkeypatch):
    """Every data file, every log entry, and the folder of the log."""
    synced, sync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.add(os.fstat(number).st_ino), sync(number))[1])
    store, dataset = DeltaStore(tmp_path), make_dataset("1m", 60, every=timedelta(hours=30))
    store.write(replace(dataset, bars=dataset.bars[:30]))
    for i in range(30, 60):  # a checkpoint among them
        store.append(replace(dataset, bars=dataset.bars[i : i + 1]))
    table = tmp_path / "bars" / "test" / "coins" / "1m"
    files = [
        *table.rglob("*.parquet"),
        *table.rglob("*.json"),
        table / "_delta_log",
        table / "_delta_log" / "_last_checkpoint",
    ]
    assert any("checkpoint" in f.name for f in files) and [f.name for f in files if f.stat().st_ino not in synced] == []


@pytest.mark.parametrize("call", ["open", "fsync"])
@pytest.mark.parametrize("error", [errno.EIO, errno.EINVAL])
@pytest.mark.parametrize("what", ["entry", "folder"])
def test_a_disk_that_does_not_confirm(tmp_path, monkeypatch, call, error, what):
    """The change is there, and the message does not say otherwise. Some file systems know no synchronised folders."""
    store, dataset, original = DeltaStore(tmp_path), make_dataset(), getattr(os, call)
    log = tmp_path / "bars/test/coins/1h/_delta_log"
    log = log if what == "folder" else log / f"{0:020}.json"

    def failing(place, *more):
        if log.exists() and (place == log if call == "open" else os.fstat(place).st_ino == log.stat().st_ino):
            raise OSError(error, os.strerror(error))
        return original(place, *more)

    monkeypatch.setattr(os, call, failing)
    if what == "folder" and error == errno.EINVAL:
        assert store.write(dataset) == 0
    else:
        with pytest.raises(
            FatalError, match=rf"The change is written, but the disk does not confirm.*{os.strerror(error)}"
        ):
            store.write(dataset)
    monkeypatch.undo()
    assert store.read(dataset.id).bars.equals(dataset.bars)


def test_what_is_made_and_not_passed_on_is_bounded():
    made, passed, most = [], [], 0

    def make(item):
        nonlocal most
        made.append(item)
        most = max(most, len(made) - len(passed))
        return item

    def pass_on(item):
        let_pass(0.002)  # a slow disk
        passed.append(item)
        return item

    assert pieces.map_pipelined(make, pass_on, range(200)) == list(range(200)) and most <= 2 * pieces.SIDE_BY_SIDE


def test_datasets_are_changed_side_by_side(tmp_path):
    """The write of one waits until the other's has ended."""
    store, ended = DeltaStore(tmp_path), threading.Event()
    write, one = store.place.write, make_dataset()
    other = replace(one, id=one.id._replace(symbol="other"))

    def waiting(path, data):
        assert "other" in path or ended.wait(20)
        write(path, data)

    store.place.write = waiting
    with ThreadPoolExecutor() as pool:
        first = pool.submit(store.write, one)
        pool.submit(store.write, other).result(10)
        ended.set()
        assert first.result(20) == 0
    assert store.read(one.id).bars.equals(store.read(other.id).bars)
