"""Our stores beside ArcticDB, in one run: minute bars written, read, resampled and corrected. Medians; the peers take
turns.

ArcticDB cannot live in our environment (it brings its own pandas), so it answers from a second one, which is made
when there is none:

    python benchmarks/stores.py [--arcticdb-python PATH] [--postgres] [--rounds 5] [--rows 1000000]

What differs: ours keeps two columns more (symbol, known_at), checks every bar, compresses harder, waits until the
disk has it, and keeps every version; ArcticDB's files are mapped into memory and are not synchronised. "cold": a new
store object, the operating system's cache is warm; for ArcticDB there is no such difference but the opening of its
library. "hot": the same was read before.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

SYMBOLS, START, MINUTE = 10, datetime(2020, 1, 1, tzinfo=UTC), timedelta(minutes=1)
COLUMNS = ("open", "high", "low", "close", "volume")


def prices(rows: int, seed: int) -> dict[str, np.ndarray]:
    "A random walk on a grid of cents, as prices are."
    rng = np.random.default_rng(seed)
    close = np.round(30_000 * np.exp(rng.normal(0, 2e-4, rows).cumsum()), 2)
    open_ = np.append(close[:1], close[:-1])
    spread = np.round(rng.exponential(5, (2, rows)), 2)
    high, low = np.maximum(open_, close) + spread[0], np.minimum(open_, close) - spread[1]
    return dict(zip(COLUMNS, (open_, high, low, close, np.round(rng.exponential(3, rows), 5)), strict=True))


class Timed:
    "A store's work by name: `do` returns the seconds it took."

    def do(self, work: str, *arguments) -> float:
        call = getattr(self, work)
        prepared = self.prepare(work, *arguments)
        os.sync()  # what another one left to be written is not in this one's time
        start = time.perf_counter()
        call(*prepared)
        return time.perf_counter() - start

    def prepare(self, work, *arguments):
        return arguments


class Ours(Timed):
    "Delta tables in a folder, or PostgreSQL."

    def __init__(self, url: str, rows: int, cache: str | None):
        self.url, self.rows, self.cache = url, rows, cache
        self.store = self.open()
        self.versions = 0.0

    def open(self):
        from algo_research.data.stores.base import open_store

        return open_store(self.url, cache=self.cache)

    def dataset(self, name: str, seeds, first=0, rows=None, shift=0.0):
        import polars as pl

        from algo_research.data.market.bars import Dataset, DatasetId, make_bars
        from algo_research.data.market.instruments import Instrument

        rows = rows or self.rows - first
        ts = pl.datetime_range(
            START + first * MINUTE, START + (first + rows - 1) * MINUTE, MINUTE, time_unit="us", eager=True
        )
        frames = []
        for seed in seeds:
            columns = {
                k: v[first : first + rows] + (shift if k == "volume" else 0) for k, v in prices(self.rows, seed).items()
            }
            frames.append(pl.DataFrame({"symbol": f"S{seed}", "ts": ts, **columns}))
        return Dataset(
            DatasetId("bench", name, "1m"), make_bars(pl.concat(frames), MINUTE), Instrument("S", "bench", "spot")
        )

    def prepare(self, work, *arguments):
        if work.startswith("cold"):
            self.fresh = self.open()
        if work == "write":
            return [self.dataset(f"S{seed}", [seed]) for seed in arguments]
        if work == "write_all":
            return [self.dataset("all", range(SYMBOLS))]
        if work == "upsert":
            return [self.dataset("S0", [0], *self.corrected(50_000))]
        if work == "upsert_all":
            return [self.dataset("all", range(SYMBOLS), *self.corrected(50_000 // SYMBOLS))]
        return arguments

    def corrected(self, rows):
        self.versions += 1
        return self.rows // 2, rows, self.versions

    def write(self, *datasets):
        for dataset in datasets:
            self.store.write(dataset)

    write_all = upsert = upsert_all = write

    def span(self):
        first = START + self.rows // 2 * MINUTE
        return {"start": first, "end": first + timedelta(days=30)}

    def read(self):
        assert self.store.read("bench/S3/1m").bars.height == self.rows

    def cold_read(self):
        assert self.fresh.read("bench/S3/1m").bars.height == self.rows

    def month(self):
        assert self.store.read("bench/S3/1m", **self.span()).bars.height == 43_200

    def cold_month(self):
        assert self.fresh.read("bench/S3/1m", **self.span()).bars.height == 43_200

    def month_of_all(self):
        assert self.store.read("bench/all/1m", ["S3"], **self.span()).bars.height == 43_200

    def hourly(self):
        assert self.store.resample("bench/S3/1m", "1h").bars.height == self.rows // 60


class ArcticDB(Timed):
    "Runs in the second environment."

    def __init__(self, folder: str, rows: int):
        import arcticdb
        import pandas as pd

        self.pd, self.arcticdb, self.folder, self.rows, self.versions = pd, arcticdb, folder, rows, 0.0
        self.library = arcticdb.Arctic(f"lmdb://{folder}?map_size=30GB").get_library("bench", create_if_missing=True)

    def frame(self, seed, first=0, rows=None, shift=0.0):
        rows = rows or self.rows - first
        index = self.pd.date_range(START.replace(tzinfo=None) + first * MINUTE, periods=rows, freq="1min")
        columns = {
            k: v[first : first + rows] + (shift if k == "volume" else 0) for k, v in prices(self.rows, seed).items()
        }
        return self.pd.DataFrame(columns, index=index)

    def prepare(self, work, *arguments):
        if work == "write":
            return [(f"S{seed}", self.frame(seed)) for seed in arguments]
        if work.startswith("upsert"):
            self.versions += 1
            seeds = range(SYMBOLS) if work == "upsert_all" else [0]
            return [
                (f"S{seed}", self.frame(seed, self.rows // 2, 50_000 // len(seeds), self.versions)) for seed in seeds
            ]
        return arguments

    def write(self, *frames):
        for name, frame in frames:
            self.library.write(name, frame)

    def upsert(self, *frames):
        for name, frame in frames:
            self.library.update(name, frame)

    upsert_all = upsert

    def read(self):
        assert len(self.library.read("S3").data) == self.rows

    cold_read = read

    def month(self):
        first = self.pd.Timestamp(START.replace(tzinfo=None)) + self.rows // 2 * MINUTE
        assert len(self.library.read("S3", date_range=(first, first + timedelta(days=30) - MINUTE)).data) == 43_200

    cold_month = month

    def hourly(self):
        aggregates = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        self.library.read("S3", query_builder=self.arcticdb.QueryBuilder().resample("1h").agg(aggregates))


class Elsewhere:
    "ArcticDB behind a pipe: it times itself, and the pipe is not in its time."

    def __init__(self, python: Path, folder: Path, rows: int):
        command = [python, __file__, "--serve-arcticdb", folder, "--rows", str(rows)]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, work: str, *arguments) -> float:
        if not hasattr(ArcticDB, work):
            raise NotImplementedError
        self.process.stdin.write(json.dumps([work, *arguments]) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(folder: str, rows: int) -> None:
    store = ArcticDB(folder, rows)
    for line in sys.stdin:
        print(store.do(*json.loads(line)), flush=True)


def make_environment(folder: Path) -> Path:
    print("making an environment with ArcticDB (some minutes) ...")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "arcticdb"], check=True)
    return folder / "bin/python"


def start_postgres(folder: Path, stack: ExitStack) -> str | None:
    "A server of its own, as it comes; it refuses to run as root."
    import socket

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    binary = shutil.which("postgres") or (found[-1] if found else None)
    if not binary:
        return None
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    folder.mkdir()
    folder.parent.chmod(0o711)
    if user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    subprocess.run(
        [
            Path(binary).with_name("initdb"),
            "--pgdata",
            folder / "data",
            "--username",
            "algo",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        **user,
    )
    server = subprocess.Popen(
        [
            binary,
            "-D",
            folder / "data",
            "-p",
            str(port),
            "-k",
            folder,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "shared_buffers=1GB",
            "-c",
            "max_wal_size=8GB",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **user,
    )

    def stop():
        server.terminate()
        server.wait()

    stack.callback(stop)
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.1)
    time.sleep(1)
    return f"postgresql://algo@127.0.0.1:{port}/postgres"


WORKS = {  # name: what is written about it, and times it is done
    "write": "bulk write, M rows/s",
    "write_all": "bulk write, ten symbols in one dataset, M rows/s",
    "cold_read": "one symbol, cold, ms",
    "read": "one symbol, hot, ms",
    "cold_month": "30 days, cold, ms",
    "month": "30 days, hot, ms",
    "month_of_all": "30 days of one of ten symbols in a dataset, hot, ms",
    "hourly": "hourly from minutes, hot, ms",
    "upsert": "upsert of 50,000 rows, one symbol, ms",
    "upsert_all": "upsert of 50,000 rows, ten symbols, ms",
}


def measure(stores: dict, rounds: int) -> dict[str, dict[str, list[float]]]:
    seconds = {work: {name: [] for name in stores} for work in WORKS}
    for work in WORKS:
        times = {"write": rounds, "write_all": 1}.get(work, rounds if work.startswith("upsert") else 3 * rounds)
        for i in range(times):
            seeds = [seed for seed in range(SYMBOLS) if seed % rounds == i] if work == "write" else []
            for name, store in stores.items():
                try:
                    if i == 0 and work not in ("write", "write_all"):
                        store.do(work)  # the first time warms up
                    seconds[work][name].append(store.do(work, *seeds))
                except NotImplementedError:
                    pass
    return seconds


def show(seconds, stores, rows: int, rounds: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("work", *stores, *(f"{name} / {list(stores)[-1]}" for name in list(stores)[:-1]))
    for work, title in WORKS.items():
        medians = {name: statistics.median(s) if s else None for name, s in seconds[work].items()}
        amount = rows * {"write": SYMBOLS / rounds, "write_all": SYMBOLS}.get(work, 0)
        values = {name: s and (amount / s / 1e6 if amount else s * 1e3) for name, s in medians.items()}
        peer = list(values.values())[-1]
        ratios = [f"{v / peer:.2f}" if v and peer else "-" for v in list(values.values())[:-1]]
        table.add_row(title, *(f"{v:.2f}" if v else "-" for v in values.values()), *ratios)
    Console(width=160).print(table)
    print(
        f"{SYMBOLS} x {rows:,} minute bars; medians of {rounds} (reads {3 * rounds}); rates: more is better, times: "
        "less."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--arcticdb-python", type=Path, help="an interpreter with arcticdb; by default an environment is made"
    )
    parser.add_argument("--postgres", action="store_true", help="measure PostgreSQL, too (minutes)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--serve-arcticdb", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve_arcticdb:
        return serve(told.serve_arcticdb, told.rows)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        stores = {
            "delta": Ours(f"delta://{folder}/plain", told.rows, None),
            "delta + cache": Ours(f"delta://{folder}/cached", told.rows, "memory://2GB"),
        }
        if told.postgres and (url := start_postgres(folder / "postgres", stack)):
            stores["postgresql"] = Ours(url, told.rows, None)
        stores["arcticdb"] = Elsewhere(
            told.arcticdb_python or make_environment(folder / "venv"), folder / "arcticdb", told.rows
        )
        stack.callback(stores["arcticdb"].close)
        show(measure(stores, told.rounds), stores, told.rows, told.rounds)


if __name__ == "__main__":
    main()
