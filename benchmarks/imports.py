"""What reading a file of two million rows costs beside a bare read, and a check of its bars.

    python benchmarks/imports.py [--check]

Timed is `import_file` with the store's write, in a process of its own, beside what cannot be left out: polars reads the
CSV with its dates, the bars are validated, and the same store writes them. A file in the way of a German bank
(semicolons, decimal commas) is timed, too, beside the same bare read. Memory is the process's peak. With --check the
exit code is 1 when the plain file takes over 1.5 times the bare read, either needs 1.5 GB, or the check takes 30 s.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

ROWS, REPEATS = 2_000_000, 3


def make(folder: Path) -> None:
    random = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(random.normal(0, 1e-4, ROWS)))
    begin = datetime(2020, 1, 1)
    minutes = pl.datetime_range(begin, begin + timedelta(minutes=ROWS - 1), "1m", time_unit="us", eager=True)
    prices = {"open": np.append(100.0, close[:-1]), "close": close}
    frame = pl.DataFrame({"time": minutes, **prices, "volume": random.integers(1, 1000, ROWS)}).select(
        "time",
        pl.col("open").round(5),
        high=(pl.max_horizontal("open", "close") * 1.0001).round(5),
        low=(pl.min_horizontal("open", "close") * 0.9999).round(5),
        close=pl.col("close").round(5),
        volume="volume",
    )
    frame.with_columns(pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(folder / "plain.csv")
    german = frame.select(pl.col("time").dt.strftime("%d.%m.%Y %H:%M"), pl.exclude("time"))
    german.write_csv(folder / "german.csv", separator=";", decimal_comma=True)


def bare(path: Path, store) -> dict[str, float]:
    from algo_research.data.market.bars import Dataset, DatasetId, validate_bars
    from algo_research.data.market.instruments import Instrument

    begun = time.perf_counter()
    frame = pl.read_csv(path, try_parse_dates=True)
    bars = frame.select(
        pl.lit("X").alias("symbol"),
        pl.col("time").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("ts"),
        "open", "high", "low", "close",
        pl.col("volume").cast(pl.Float64),
    ).with_columns(known_at=pl.col("ts") + timedelta(minutes=1))  # fmt: skip
    store.write(Dataset(DatasetId("x", "X", "1m"), validate_bars(bars), Instrument("X", "x", "spot")))
    return {"seconds": time.perf_counter() - begun}


def ours(path: Path, store) -> dict[str, float]:
    from algo_research.data.intake.importing import import_file
    from algo_research.data.quality.rules import check_bars

    begun = time.perf_counter()
    dataset = import_file(path, "x/X/1m").dataset
    store.write(dataset)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begun = time.perf_counter()
    check_bars(dataset)
    return {"seconds": seconds, "peak": peak, "check": time.perf_counter() - begun}


def measured(what: str, path: Path) -> dict[str, float]:
    """Medians over processes of their own."""
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run([sys.executable, __file__, what, str(path)], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> int:
    if len(sys.argv) > 2:
        from algo_research.data.stores.delta import DeltaStore

        with tempfile.TemporaryDirectory() as folder:
            call = {"bare": bare, "ours": ours}[sys.argv[1]]
            print(json.dumps(call(Path(sys.argv[2]), DeltaStore(Path(folder)))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        floor = measured("bare", folder / "plain.csv")["seconds"]
        title = (
            f"{ROWS:,} rows of minutes, {datetime.now(UTC):%Y-%m-%d}: read, validated and written (median of {REPEATS})"
        )
        rows = Table("file", "seconds", "ratio", "peak MB", "check, s", title=title)
        rows.add_row("bare polars, plain", f"{floor:.2f}", "1.00", "", "")
        wrong = False
        for kind in ("plain", "german"):
            found = measured("ours", folder / f"{kind}.csv")
            ratio = found["seconds"] / floor
            seconds, peak, check = found["seconds"], found["peak"], found["check"]
            rows.add_row(kind, f"{seconds:.2f}", f"{ratio:.2f}", f"{peak:,.0f}", f"{check:.1f}")
            wrong |= (kind == "plain" and ratio > 1.5) or peak > 1500 or check > 30
    Console().print(rows)
    return int("--check" in sys.argv and wrong)


if __name__ == "__main__":
    sys.exit(main())
