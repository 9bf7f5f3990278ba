"""Files that are small and unpack to more than the machine has, that never end, or that are no files."""

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from algo_research.core.errors import DataError, InputError
from algo_research.core.files import open_regular, read_regular, read_yaml
from algo_research.core.unpacking import TooMuch, UnpackingSettings, check_table, unpack_text, unpacked_lines
from algo_research.data.intake.importing import import_file
from algo_research.data.intake.tables import read_table
from algo_research.data.market.book import replay_capture
from algo_research.runs.parameters import read_template
from algo_research.runs.record import Run, read_manifest


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def pipe(tmp_path) -> Path:
    os.mkfifo(tmp_path / "pipe.csv.gz")
    return tmp_path / "pipe.csv.gz"


class TestNoFiles:
    @pytest.mark.parametrize("read", [open_regular, read_regular, read_yaml])
    def test_are_refused_at_once(self, pipe, tmp_path, read):
        for path, said in ((pipe, "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device"), ("\0", "null byte")):
            with pytest.raises(InputError, match=said):
                read(path)
        with pytest.raises(InputError, match="no file"):
            read(tmp_path / "none")

    def test_what_a_link_leads_to_is_read(self, tmp_path):
        (tmp_path / "link").symlink_to(written(tmp_path / "note", "content"))
        assert read_regular(tmp_path / "link") == b"content"


LISTS = [
    "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]",
    *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
]
MERGES = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], x{n}: 1}}" for n in range(1, 9))]
YAML = {
    "lists": "\n".join(LISTS),
    "merges": "\n".join(MERGES),
    "holds itself": "a: &a [*a]",
    "deep": "[" * 100_000,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(1200)),
    "long": "a: " + "x" * 2**21,
    "no such day": "a: 2024-99-99",
    "a long number": "a: " + "1" * 5000,
}


class TestYaml:
    @pytest.mark.parametrize("name", YAML)
    def test_a_bomb_is_refused_before_it_is_unpacked(self, name, tmp_path):
        with pytest.raises(InputError):
            read_yaml(written(tmp_path / "plan.yaml", YAML[name]))

    def test_many_keys_take_no_time_squared(self, tmp_path):
        """Quadratic, it would look at a key of 40,000 eight hundred million times: 20 s."""
        told = read_yaml(written(tmp_path / "grid.yaml", "".join(f"k{n}: 1\n" for n in range(40_000))))
        assert len(told) == 40_000

    def test_a_plan_with_a_few_aliases_is_read(self, tmp_path):
        told = read_yaml(written(tmp_path / "plan.yaml", "a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\n"))
        assert told == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3}}


ROW = b"2024-01-01 00:00:00,1.0,1.0,1.0,1.0,1.0\n"
HEAD = b"date,open,high,low,close,volume\n"
ZEROS = {"symbol": ["X"], "ts": [0], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0], "volume": [1.0]}


def repeated(open_: Callable, path: Path, piece: bytes, mib: int) -> Path:
    """A packed file of a piece, again and again."""
    block = piece * (2**20 // len(piece))
    with open_(path, "wb") as file:
        for _ in range(mib):
            file.write(block)
    return path


def many_rows(path: Path, rows: int, groups: int = 1) -> Path:
    """A table of as many rows in each group, all alike: a few megabytes, if that."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pa.table({"ts": pa.chunked_array([pa.array([0] * 100_000)] * (rows // 100_000)).combine_chunks()})
    for name in ("open", "high", "low", "close", "volume"):
        whole = whole.append_column(name, whole["ts"])
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, whole.schema, compression="zstd") as writer:
            for _ in range(groups):
                writer.write_table(whole, row_group_size=rows)
    else:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(path, whole.schema, options=options) as writer:
            for _ in range(groups):
                writer.write_table(whole)
    return path


def zstd(path: Path, mode: str):
    import pyarrow as pa

    return pa.CompressedOutputStream(str(path), "zstd")


def one_line(path: Path) -> Path:
    with gzip.open(path, "wb", 1) as file:
        file.write(HEAD)
        for _ in range(60):
            file.write(os.urandom(2**18).hex().encode())
    return path


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bars.csv.gz": (lambda p: repeated(gzip.open, p, ROW, 120), "100 times are allowed"),
    "bars.csv.bz2": (lambda p: repeated(bz2.open, p, b"\n", 70), "100 times are allowed"),
    "bars.csv.xz": (lambda p: repeated(lzma.open, p, b"\n", 70), "100 times are allowed"),
    "bars.csv.zst": (lambda p: repeated(zstd, p, ROW, 120), "100 times are allowed"),
    "line.csv.gz": (one_line, "a line of more than 8 MiB"),
    "line.csv": (lambda p: repeated(open, p, b"1", 10), "a line of more than 8 MiB"),
    "wide.csv": (
        lambda p: written(p, ",".join(f"c{n}" for n in range(100_000)) + "\n" + "1," * 99_999 + "1\n"),
        "100,000 columns",
    ),
    "rows.parquet": (lambda p: many_rows(p, 1_000_000, groups=11), "11,000,000 rows, and 10,000,000 are allowed"),
    "cells.parquet": (lambda p: many_rows(p, 1_000_000, groups=9), "unpacks to 412 MiB, and 102 are allowed"),
    "rows.feather": (lambda p: many_rows(p, 1_000_000, groups=11), "11,000,000 rows, and 10,000,000 are allowed"),
    "text.feather": (
        lambda p: (pl.DataFrame({"a": ["x" * 2**27]}).write_ipc(p, compression="zstd"), p)[1],
        "unpacks to 128 MiB, and 102 are allowed",
    ),
}
LITTLE = UnpackingSettings(gib=0.1)
ALLOWED = {"rows.parquet": UnpackingSettings(rows=10_000_000), "rows.feather": UnpackingSettings(rows=10_000_000)}


class TestTables:
    @pytest.mark.parametrize("name", BOMBS)
    def test_a_bomb_is_refused_with_what_was_found_and_how_to_allow_it(self, name, tmp_path):
        write, said = BOMBS[name]
        bomb = write(tmp_path / name)
        with pytest.raises(TooMuch, match=r"allow more: \[unpacking\] \w+ in settings.ini, or ALGO_UNPACKING__") as e:
            read_table(bomb, ALLOWED.get(name, LITTLE if name in ("cells.parquet", "text.feather") else None))
        assert said in str(e.value) and name in str(e.value)

    def test_what_is_allowed_is_read(self, tmp_path):
        for pack in (gzip.open, bz2.open, lzma.open, zstd, open):
            bars = repeated(pack, tmp_path / "bars.csv", HEAD + ROW, 1)
            assert read_table(bars).cells.height > 10_000
        repeated(gzip.open, tmp_path / "bars.csv.gz", HEAD + ROW, 80)
        assert read_table(tmp_path / "bars.csv.gz", UnpackingSettings(ratio=2000)).cells.height > 1_000_000

    def test_a_torn_or_false_file_is_an_error_of_ours(self, tmp_path):
        whole = {
            "a.csv.gz": gzip.compress((HEAD + ROW) * 5000),
            "a.csv.xz": lzma.compress((HEAD + ROW) * 5000),
            "a.feather": many_rows(tmp_path / "x.feather", 100_000).read_bytes(),
            "a.parquet": many_rows(tmp_path / "y.parquet", 100_000).read_bytes(),
        }
        for name, content in whole.items():
            for cut in (9, len(content) // 2, len(content) - 5):
                with pytest.raises(DataError):
                    read_table(written(tmp_path / name, content[:cut]))
            bent = bytearray(content)
            bent[-20:-12] = b"\xff" * 8
            with suppress(DataError):
                read_table(written(tmp_path / name, bytes(bent)))

    def test_how_far_it_is_is_told(self, tmp_path):
        told: list[str] = []
        repeated(gzip.open, tmp_path / "bars.csv.gz", ROW, 130)
        unpack_text(tmp_path / "bars.csv.gz", UnpackingSettings(ratio=2000), told.append).close()
        assert [text.partition(" MiB")[0] for text in told] == ["bars.csv.gz: 64", "bars.csv.gz: 128"]

    def test_real_files_are_read_as_before(self, shared_data):
        rows = {
            path.name: read_table(path).cells.height for path in sorted(shared_data.glob("*")) if "l2" not in path.name
        }
        assert len(rows) == 7 and min(rows.values()) > 1000
        captured = [sum(1 for _ in unpacked_lines(path)) for path in sorted(shared_data.glob("*l2*"))]
        assert min(captured) > 1000

    @pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz", "bars.parquet", "bars.feather"])
    def test_what_is_no_file_is_refused_at_once(self, name, tmp_path):
        os.mkfifo(tmp_path / name)
        for read in (
            read_table,
            import_file,
            check_table,
            read_manifest,
            read_template,
            lambda p: next(replay_capture(p)),
        ):
            with pytest.raises(InputError, match="a pipe"):
                read(tmp_path / name)


class TestForeignRuns:
    """What came with somebody else's run."""

    def test_a_deep_or_endless_document_is_an_error_of_ours(self, tmp_path):
        for text in ("[" * 200_000, "{" + '"a":{' * 100_000, " " * 2**26 + "{}"):
            with pytest.raises(DataError):
                read_manifest(written(tmp_path / "run.json", text))
            (tmp_path / "metrics.json").write_text(text)
            with pytest.raises(DataError):
                _ = Run(tmp_path).metrics
        with pytest.raises(InputError):
            read_template(written(tmp_path / "deep.ipynb", "[" * 200_000))

    def test_a_table_of_too_many_rows_is_not_opened(self, tmp_path):
        (tmp_path / "artifacts").mkdir()
        many_rows(tmp_path / "artifacts" / "result.parquet", 5_000_000, groups=21)
        with pytest.raises(DataError, match="105,000,000 rows"):
            Run(tmp_path).artifact("result")

    def test_a_capture_of_one_line_is_refused(self, tmp_path):
        repeated(gzip.open, tmp_path / "capture.gz", b'1 {"e": ', 10)
        with pytest.raises(TooMuch, match="a line of more than 8 MiB"):
            list(replay_capture(tmp_path / "capture.gz"))


PEAK = """
import re, sys
from pathlib import Path
from algo_research.core.errors import InputError
from algo_research.data.intake.importing import import_file
from algo_research.core.unpacking import UnpackingSettings
try: import_file(sys.argv[1], limits=UnpackingSettings(rows=int(sys.argv[2])))
except InputError as e: print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024, e)
"""


def peak(path: Path, rows: int = 10_000_000) -> int:
    """MiB that the process which refuses a file had at most."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(rows)], capture_output=True, text=True, check=True
    )
    number, _, said = done.stdout.partition(" ")
    assert "allow more" in said, done.stdout
    return int(number)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bars.csv.gz", "line.csv.gz", "wide.csv", "rows.parquet", "rows.feather"])
def test_whoever_refuses_needs_little_memory(name, tmp_path):
    found = peak(BOMBS[name][0](tmp_path / name))
    assert found < 400, found


@pytest.mark.process
@pytest.mark.long
def test_whoever_refuses_the_largest_needs_little_memory(tmp_path):
    """A GiB of text of 7 MB, and of one line; a billion rows of Parquet and of Feather in a few megabytes."""
    bombs = {
        "text": repeated(gzip.open, tmp_path / "bars.csv.gz", HEAD + ROW, 1024),
        "line": repeated(gzip.open, tmp_path / "line.csv.gz", b"1,", 500),
        "parquet": many_rows(tmp_path / "rows.parquet", 10_000_000, groups=100),
        "feather": many_rows(tmp_path / "rows.feather", 10_000_000, groups=100),
    }
    peaks = {name: (path.stat().st_size >> 10, peak(path, 100_000_000)) for name, path in bombs.items()}
    print("KiB of the file, MiB of the process that refused it:", peaks)
    assert max(found for _, found in peaks.values()) < 600, peaks
