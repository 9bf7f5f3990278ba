"""Planted secrets: values, their disguises, what they are packed in, and a search that opens all of it.

Nothing here asks the package how it recognises a secret: what it overlooks is found all the same.
"""

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import pickle
import random
import re
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus

import numpy as np
import polars as pl

_ALPHABETS = [
    "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789",
    "abcdefghijkmnpqrstuvwxyz23456789-_",
    "ABCDEFGHJKLMNPQRSTUVWXYZabcdef0123456789+/",
    "abcdefghkmnp !#$%&'()*+,-./:;<=>?@[]^_{|}~\"\\",
    "abcdefghkmnpäöüßéñçøλжя",
]


def values(count: int = 40) -> list[str]:
    """Secrets as services give them out, and as people make them up; of one line, six characters and more."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        letters = _ALPHABETS[number % len(_ALPHABETS)]
        length = 9 + number
        made.append("q7" + "".join(chance.choice(letters) for _ in range(length)).strip() + "Z4")
    return made


def _shifted(before: bytes) -> Callable[[str], str]:
    def encoded(value: str) -> str:
        return base64.b64encode(before + value.encode() + b"; more of it").decode()

    return encoded


def _percents(value: str) -> str:
    return "".join(f"%{byte:02x}" for byte in value.encode())


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 urlsafe, unpadded": lambda v: base64.urlsafe_b64encode(v.encode()).decode().rstrip("="),
    "base64, after one byte": _shifted(b":"),
    "base64, after two bytes": _shifted(b"u:"),
    "base64 in lines": lambda v: base64.encodebytes(b"Authorization: a user and a colon: " + v.encode() * 2).decode(),
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
    "address": lambda v: quote(v, safe=""),
    "address, + for space": quote_plus,
    "address, lower case": lambda v: re.sub("%..", lambda code: code[0].lower(), quote(v, safe="")),
    "address, twice": lambda v: quote(quote(v, safe=""), safe=""),
    "address, every character": _percents,
    "JSON": lambda v: json.dumps(v)[1:-1],
    "JSON in JSON": lambda v: json.dumps(json.dumps(v))[3:-3],
    "HTML": html.escape,
    "HTML numbers": lambda v: "".join(f"&#{ord(c)};" for c in v),
    "Python": lambda v: repr(v.encode())[2:-1],
}


def png(chunk: bytes, content: bytes) -> bytes:
    """A picture of one pixel with a text."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = part(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + part(chunk, content)
        + part(b"IDAT", zlib.compress(b"\0\0"))
        + part(b"IEND", b"")
    )


def _zip(text: bytes, name: str = "note.txt") -> bytes:
    with zipfile.ZipFile(made := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return made.getvalue()


def _tar(text: bytes, mode: str) -> bytes:
    with tarfile.open(fileobj=(made := io.BytesIO()), mode=mode) as archive:
        about = tarfile.TarInfo("deep/note.txt")
        about.size = len(text)
        archive.addfile(about, io.BytesIO(text))
    return made.getvalue()


def _saved(save: Callable[[io.BytesIO], None]) -> bytes:
    save(made := io.BytesIO())
    return made.getvalue()


def _parquet(values: list, **options) -> bytes:
    return _saved(lambda file: pl.DataFrame({"told": values}).write_parquet(file, statistics=False, **options))


def _about_parquet(text: str) -> bytes:
    return _saved(lambda file: pl.DataFrame({"a": [1]}).write_parquet(file, metadata={"note": text}))


def _amid(text: str) -> list[str]:
    return [*(f"a text {n} like any other" for n in range(300)), text, *(f"more of it, {n}" for n in range(300))]


def _feather(text: str) -> bytes:
    return _saved(lambda file: pl.DataFrame({"told": _amid(text)}).write_ipc(file, compression="zstd"))


def _sqlite(text: str) -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE notes (text TEXT)")
        database.execute("INSERT INTO notes VALUES (?)", (text,))
    return database.serialize()


CONTAINERS: dict[str, Callable[[str], bytes]] = {
    "bin": lambda t: b"\xff\x00\xfe" + t.encode(),
    "gz": lambda t: gzip.compress(t.encode()),
    "bz2": lambda t: bz2.compress(t.encode()),
    "xz": lambda t: lzma.compress(t.encode()),
    "zlib": lambda t: zlib.compress(t.encode()),
    "zip": lambda t: _zip(t.encode()),
    "tar": lambda t: _tar(t.encode(), "w"),
    "tar.gz": lambda t: _tar(t.encode(), "w:gz"),
    "zip.gz.xz": lambda t: lzma.compress(gzip.compress(_zip(t.encode()))),
    "pickle": lambda t: pickle.dumps({"model": [1.5, {"key": t}]}),
    "npy": lambda t: _saved(lambda file: np.save(file, np.array(["a", t]))),
    "npz": lambda t: _saved(lambda file: np.savez_compressed(file, keys=np.array(["a", t]))),
    "text.png": lambda t: png(b"tEXt", b"Comment\0" + t.encode()),
    "packed.png": lambda t: png(b"zTXt", b"Comment\0\0" + zlib.compress(t.encode())),
    "parquet": lambda t: _parquet(_amid(t)),
    "bytes.parquet": lambda t: _parquet([text.encode() for text in _amid(t)]),
    "nested.parquet": lambda t: _parquet([{"names": [text]} for text in _amid(t)]),
    "category.parquet": lambda t: _saved(
        lambda file: pl.DataFrame({"told": pl.Series(_amid(t) * 2, dtype=pl.Categorical)}).write_parquet(file)
    ),
    "about.parquet": _about_parquet,
    "feather": _feather,
    "db": _sqlite,
}


def opened(content: bytes, depth: int = 5) -> Iterator[bytes]:
    """A content, and everything that can be unpacked from it."""
    yield content
    if not depth:
        return
    for unpacked in (
        *_streams(content),
        *_archives(content),
        *_pictures(content),
        *_tables(content),
        *_embedded(content),
    ):
        yield from opened(unpacked, depth - 1)


def _streams(content: bytes) -> Iterator[bytes]:
    openers = {
        b"\x1f\x8b": gzip.decompress,
        b"BZh": bz2.decompress,
        b"\xfd7zXZ": lzma.decompress,
        b"x": zlib.decompress,
    }
    for magic, unpack in openers.items():
        if content.startswith(magic):
            with suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
                yield unpack(content)


def _archives(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if content[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            yield from (archive.extractfile(member).read() for member in archive if member.isreg())


def _pictures(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"\x89PNG"):
        for found in re.finditer(rb"zTXt[^\0]*\0\0", content):
            yield zlib.decompressobj().decompress(content[found.end() :])


def _tables(content: bytes) -> Iterator[bytes]:
    table = None
    if content.startswith(b"PAR1"):
        table = pl.read_parquet(io.BytesIO(content))
    if content.startswith(b"ARROW1"):
        table = pl.read_ipc(io.BytesIO(content))
    if table is not None:
        yield repr(table.to_dict(as_series=False)).encode()
        for column in table.iter_columns():
            if column.dtype == pl.Binary:
                yield from set(column)
            elif column.dtype == pl.String:
                yield "\n".join(column).encode()
            else:
                yield json.dumps(column.to_list(), ensure_ascii=False, default=str).encode()


def _embedded(content: bytes) -> Iterator[bytes]:
    for found in re.finditer(rb"(?:H4sI|iVBORw0KGgo|UEsD)[A-Za-z0-9+/]{20,}", content):
        yield base64.b64decode(found[0][: len(found[0]) // 4 * 4])


@cache
def disguised(value: str) -> set[bytes]:
    """What a search for a value looks for; of base64 the middle, which no neighbour changes."""
    forms = {encode(value).strip().encode() for name, encode in ENCODINGS.items() if "base64" not in name}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + value.encode()).decode()
        middle = whole[4:-4]
        forms |= {middle.encode(), middle.replace("+", "-").replace("/", "_").encode()}
    return forms | {value.encode("utf-16-le"), value.encode("utf-32-le")}


def found_in(content: bytes, secrets: list[str]) -> list[str]:
    """The secrets that a content, or what is packed in it, gives away."""
    parts = list(opened(content))
    parts += [re.sub(rb"\s|\\n", b"", part) for part in parts]
    return [secret for secret in secrets if any(form in part for part in parts for form in disguised(secret))]


def search(folder: Path, secrets: list[str], besides: str = "secrets") -> list[str]:
    """What gives secrets away below a folder, as path: secret."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and besides not in p.relative_to(folder).parts]
    return [f"{p.relative_to(folder)}: {secret}" for p in files for secret in found_in(p.read_bytes(), secrets)]
