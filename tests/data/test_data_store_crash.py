"""A process may be killed at any instant: what is found is what was before or what came after, never a part."""

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from types import SimpleNamespace

import deltalake
import numpy as np
import polars as pl
import pytest

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.hashing import hash_arrays
from algo_research.data.market.bars import Dataset
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores import places
from algo_research.data.stores.delta import DeltaStore

pytestmark = [pytest.mark.slow, pytest.mark.process]

# A child costs a tenth of a second when it is forked from a server that has imported what it needs and run nothing.
children = multiprocessing.get_context("forkserver")
children.set_forkserver_preload(["pandera.polars", "scipy.signal", "test_data_store_crash"])


def step(i: int) -> Dataset:
    """The i-th of a series of overlapping upserts; each touches the same two years."""
    market = make_market("noise", 1, bars=900, timeframe="1d")
    rows = market.bars.filter(pl.int_range(pl.len()) % 50 < 10 * (i + 1)).slice(30 * i, 120 + 30 * i)
    return replace(market, bars=rows.with_columns(volume=pl.lit(float(i))), notes=(f"step {i}",))


STEPS = 6


@pytest.fixture(scope="module")
def states() -> list[tuple[str, tuple[str, ...]]]:
    """Content and notes after each step, computed without a store."""
    rows, found = {}, []
    for i in range(STEPS):
        dataset = step(i)
        rows |= {(row[0], row[1]): row for row in dataset.bars.iter_rows()}
        bars = pl.DataFrame([rows[k] for k in sorted(rows)], schema=dataset.bars.schema, orient="row")
        found.append((replace(dataset, bars=bars).snapshot().content, dataset.notes))
    assert len(set(found)) == STEPS
    return found


def state(folder, states) -> int:
    """Which step the store stands at: -1 before the first."""
    store, id = DeltaStore(folder), step(0).id
    if id not in store.datasets():
        return -1
    dataset = store.read(id)
    return states.index((dataset.snapshot().content, dataset.notes))


def upsert(folder, pipe, first=0, last=STEPS, stage=None):
    """Write step by step and report each; the last one is killed at a stage."""
    store, datasets = DeltaStore(folder), [step(i) for i in range(last)]
    pipe.send("ready")
    for i in range(first, last):
        if stage and i == last - 1:
            STAGES[stage](datasets[i], folder)
        store.write(datasets[i])
        pipe.send(i)


def run(target, *arguments, kill_after=None):
    """Run a child, perhaps kill it after so many seconds: what it reported, how it ended, how long it worked."""
    ours, theirs = children.Pipe()
    child = children.Process(target=target, args=(arguments[0], theirs, *arguments[1:]))
    child.start()
    theirs.close()
    assert ours.recv() == "ready"
    began = time.perf_counter()
    if kill_after is not None:
        time.sleep(kill_after)
        child.kill()
    child.join(60)
    worked = time.perf_counter() - began
    reported = []
    while ours.poll():
        try:
            reported.append(ours.recv())
        except EOFError:
            break
    return reported, child.exitcode, worked


# The instants of a write at which a child dies; each function arms one.

KILLED = 77


def die(*_, **__):
    os._exit(KILLED)


def at_a_write(act):
    """From now on `act(file, data)` is what writes into data files."""
    original = places.atomic_write

    @contextmanager
    def atomic_write(path):
        with original(path) as file:
            yield SimpleNamespace(write=lambda data: act(file, data))

    places.atomic_write = atomic_write


def write_half(file, data):
    file.write(data[: len(data) // 2])
    file.flush()


def at_a_file(call: int, half: bool):
    calls = count()

    def write(file, data):
        if next(calls) < call:
            return file.write(data)
        if half:
            write_half(file, data)
        die()

    at_a_write(write)


def at_commit(after: bool):
    def wrap(original):
        def commit(*arguments, **options):
            if after:
                original(*arguments, **options)
            die()

        return commit

    deltalake.DeltaTable.create_write_transaction = wrap(deltalake.DeltaTable.create_write_transaction)
    deltalake.transaction.create_table_with_add_actions = wrap(deltalake.transaction.create_table_with_add_actions)


def behind_a_faster_process(dataset, folder):
    """Another process stores the same bars, under the same names, while this one still writes them."""
    calls = count()

    def write(file, data):
        if next(calls):  # the other one's
            return file.write(data)
        DeltaStore(folder).write(dataset)
        write_half(file, data)
        die()

    at_a_write(write)


STAGES = {
    "before a file": lambda *_: at_a_file(0, half=False),
    "half a file": lambda *_: at_a_file(0, half=True),
    "between files": lambda *_: at_a_file(1, half=False),
    "half the second file": lambda *_: at_a_file(1, half=True),
    "before a file has its name": lambda *_: setattr(os, "replace", die),
    "before the commit": lambda *_: at_commit(after=False),
    "after the commit": lambda *_: at_commit(after=True),
    "behind a faster process": behind_a_faster_process,
}
COMMITTED = ("after the commit", "behind a faster process")


@pytest.mark.parametrize("last", [0, 3], ids=["first write", "upsert"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_every_stage(tmp_path, states, stage, last):
    reported, code, _ = run(upsert, tmp_path, 0, last + 1, stage)
    assert code == KILLED and reported == list(range(last))
    assert state(tmp_path, states) == (last if stage in COMMITTED else last - 1)
    assert run(upsert, tmp_path, last)[0] == list(range(last, STEPS))
    assert state(tmp_path, states) == STEPS - 1


@pytest.mark.parametrize("kills", [4, pytest.param(15, marks=pytest.mark.long)])
def test_a_kill_at_any_time(tmp_path, states, kills):
    reported, _, duration = run(upsert, tmp_path / "whole")
    assert reported == list(range(STEPS)) and state(tmp_path / "whole", states) == STEPS - 1
    delays, killed, attempts = random.Random(20), 0, count()
    while killed < kills:
        folder, first = tmp_path / str(next(attempts)), 0
        while first < STEPS:  # kill, look, go on from there; until a child gets through
            reported, code, _ = run(upsert, folder, first, kill_after=delays.uniform(0, duration))
            found = state(folder, states)
            assert found - (reported or [first - 1])[-1] in (0, 1), (
                "what was reported as written is written, and at most one step more"
            )
            killed += code == -signal.SIGKILL
            first = found + 1
        assert state(folder, states) == STEPS - 1


def record(path, pipe, die_inside=None):
    """Count trial after trial; the given one dies in its transaction."""
    ledger = TrialLedger(path)
    ts = pl.datetime_range(
        pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 1) + timedelta(hours=19_999), "1h", time_zone="UTC", eager=True
    )
    pipe.send("ready")
    for i in range(40):
        if i == die_inside:
            transaction = ledger._transaction

            @contextmanager
            def killed(transaction=transaction):
                with transaction() as db:
                    yield db
                    die()

            ledger._transaction = killed
        ledger.record("test/BTC/1h", {"trial": i}, ts, np.random.default_rng(i).normal(size=20_000))
        pipe.send(i)


def whole_trials(path) -> int:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT ts, returns, digest FROM trials").fetchall()
    db.close()
    for ts, returns, digest in rows:
        assert hash_arrays([np.frombuffer(ts, "<i8"), np.frombuffer(returns, "<f8")]) == digest
    return len(rows)


@pytest.mark.parametrize("trial", [0, 7])
def test_a_kill_inside_a_ledger_transaction(tmp_path, trial):
    reported, code, _ = run(record, tmp_path / "trials.db", trial)
    assert code == KILLED and reported == list(range(trial)) and whole_trials(tmp_path / "trials.db") == trial


@pytest.mark.parametrize("kills", [2, pytest.param(6, marks=pytest.mark.long)])
def test_a_kill_at_any_time_leaves_a_whole_ledger(tmp_path, kills):
    duration, delays, killed = run(record, tmp_path / "whole.db")[2], random.Random(21), 0
    for attempt in count():
        path = tmp_path / f"{attempt}.db"
        reported, code, _ = run(record, path, kill_after=delays.uniform(0, duration))
        killed += code == -signal.SIGKILL
        assert whole_trials(path) - len(reported) in (0, 1)
        assert run(record, path)[0] == list(range(40)) and whole_trials(path) == 40
        if killed == kills:
            break
