"""Forty secrets in every disguise, in everything a run leaves: none is found by a search that opens archives."""

import base64
import bz2
import gzip
import json
import lzma
import os
import random
import zlib

import polars as pl
import pytest
from support import planted
from support.command import algo
from support.journey import dice_workspace, write_template

from algo_research.core import contents, secrets
from algo_research.core.contents import secret_inside
from algo_research.core.secrets import redact

VALUES = planted.values(40)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(secrets, "_seen", set())
    for value in VALUES:
        secrets.remember_secret(value)


@pytest.mark.usefixtures("known")
class TestEveryDisguise:
    @pytest.mark.parametrize("name", planted.ENCODINGS)
    def test_is_masked_in_text_and_nothing_else_is(self, name):
        for value in VALUES:
            text = f"before {planted.ENCODINGS[name](value)} after"
            masked = redact(text)
            assert planted.found_in(masked.encode(), [value]) == [], text
            assert masked.startswith("before ") and masked.endswith(" after"), masked
            assert redact(masked) == masked

    @pytest.mark.parametrize("kind", planted.CONTAINERS)
    def test_is_found_in_what_it_is_packed_in(self, kind):
        """Each value in one disguise, each disguise twice."""
        for number, value in enumerate(VALUES):
            name = list(planted.ENCODINGS)[number % len(planted.ENCODINGS)]
            packed = planted.CONTAINERS[kind](f"before {planted.ENCODINGS[name](value)} after")
            assert secret_inside(packed) == "it holds a secret", name

    @pytest.mark.long
    @pytest.mark.parametrize("kind", planted.CONTAINERS)
    def test_every_value_in_every_disguise_is_found_in_what_it_is_packed_in(self, kind):
        for value in VALUES:
            for name, encode in planted.ENCODINGS.items():
                packed = planted.CONTAINERS[kind](f"before {encode(value)} after")
                assert secret_inside(packed) == "it holds a secret", name

    @pytest.mark.parametrize("kind", planted.CONTAINERS)
    def test_is_not_seen_where_there_is_none(self, kind):
        chance = random.Random(1)
        for _ in range(20):
            text = base64.b64encode(chance.randbytes(3000)).decode() + chance.randbytes(300).hex() + " 100%, a+b & c\\n"
            assert secret_inside(planted.CONTAINERS[kind](text)) == ""
            assert redact(text) == text


def by_zstd(content: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(content, "zstd", asbytes=True)


@pytest.mark.usefixtures("known")
class TestLimits:
    def test_what_is_packed_too_deep_or_too_much_or_encrypted_stays(self):
        packed = b"nothing"
        for depth in range(6):
            assert bool(secret_inside(packed)) == (depth > 4)
            packed = gzip.compress(packed)
        assert "more than 4 deep" in secret_inside(packed)
        huge = gzip.compress(bytes(2**26), 1) * 17  # 1,088 MiB
        assert "more than 1024 MiB" in secret_inside(huge)
        closed = bytearray(planted.CONTAINERS["zip"]("nothing"))
        closed[6] |= 1
        closed[closed.index(b"PK\1\2") + 8] |= 1
        assert "encrypted" in secret_inside(bytes(closed))

    @pytest.mark.parametrize("kind", planted.CONTAINERS)
    def test_what_is_torn_is_looked_at_as_far_as_it_goes(self, kind):
        whole = planted.CONTAINERS[kind]("nothing of note " * 50)
        for end in range(0, len(whole), max(1, len(whole) // 20)):
            assert not secret_inside(whole[:end]).startswith("it holds")

    def test_numbers_however_many_are_no_secret(self, tmp_path, monkeypatch):
        """A large result would be more than is looked at."""
        monkeypatch.setattr(contents, "ROOM", 2**20)
        table = pl.DataFrame({"ts": pl.int_range(2**18, eager=True), "equity": pl.zeros(2**18, eager=True)})
        table.write_parquet(tmp_path / "result.parquet")
        table.write_ipc(tmp_path / "result.feather", compression="zstd")
        assert [secret_inside(path) for path in tmp_path.iterdir()] == ["", ""]

    def test_a_secret_in_a_torn_stream_is_found(self):
        packed = gzip.compress((VALUES[3] + " and then more").encode() + os.urandom(10_000))
        assert secret_inside(packed[:-4000]) == "it holds a secret"

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress, by_zstd])
    def test_what_others_could_unpack_of_what_is_torn_is_looked_at(self, pack):
        packed = pack(VALUES[3].encode() + random.Random(0).randbytes(300))
        for torn in (packed + b"junk", packed[:-4], packed[:-8], packed[:-1] + b"x"):
            assert secret_inside(torn) == "it holds a secret"

    def test_a_member_of_an_archive_that_is_torn_cannot_be_looked_into(self):
        archive = bytearray(planted.CONTAINERS["zip"](VALUES[3]))
        archive[archive.index(b"PK\1\2") + 16] ^= 1  # its sum
        assert "torn" in secret_inside(bytes(archive))

    @pytest.mark.parametrize("line", ["-" * 60 + " do not share", "A" * 4000 + "b", "ab" * 4000 + "c"])
    def test_a_line_of_one_character_takes_no_time(self, line, tmp_path):
        (tmp_path / "README").write_text(line + "\n")
        secrets.remember_all_secrets(tmp_path, {"A_TOKEN": line})


PHRASE = "correct horse battery staple over seven wide rivers without a bridge"
SHOWN = {
    "colours": "\x1b[1mS3cr3t-\x1b[0m\x1b[1;31mPa(55)\x1b[0m/w0rd=True+x9",
    "tags": '<b>S3cr3t-</b><span style="color: red">Pa(55)</span>/w0rd=True+x9',
    "lines that are quoted": "> S3cr3t-Pa(55)\n> /w0rd=True+x9",
    "a string over two lines": "('correct horse battery staple over seven wide rivers '\n 'without a bridge')",
    "a phrase over two lines": "correct horse battery staple over\n  seven wide rivers without a\n  bridge",
    "base32": base64.b32encode(b"ab S3cr3t-Pa(55)/w0rd=True+x9 and more").decode(),
    "base85": base64.b85encode(b"S3cr3t-Pa(55)/w0rd=True+x9").decode(),
    "ascii85": base64.a85encode(b"S3cr3t-Pa(55)/w0rd=True+x9").decode(),
    "digits with colons": b"S3cr3t-Pa(55)/w0rd=True+x9".hex(":"),
    "digits with dashes": b"S3cr3t-Pa(55)/w0rd=True+x9".hex("-").upper(),
}


@pytest.mark.parametrize("between", ["\n> ", "'\n\n'", "<b>", "\x1b[0m", "\n12:00:00 ", "\\n", "\n\n "])
def test_text_that_almost_holds_a_secret_takes_no_time(between, monkeypatch):
    monkeypatch.setattr(secrets, "_seen", set())
    secrets.remember_secret("S3cr3t-Pa(55)/w0rd=True+x9")
    almost = "S" + between * 3000 + "!"
    assert redact(f"{almost}\nS3cr3t-Pa(55)\n/w0rd=True+x9") == f"{almost}\n**********"


@pytest.mark.parametrize("way", SHOWN)
def test_a_secret_is_known_however_a_library_shows_it(way, monkeypatch):
    monkeypatch.setattr(secrets, "_seen", set())
    for value in ("S3cr3t-Pa(55)/w0rd=True+x9", PHRASE):
        secrets.remember_secret(value)
    assert redact(f"it is {SHOWN[way]} so") != f"it is {SHOWN[way]} so"
    assert not secrets.gives_away(redact(f"it is {SHOWN[way]} so").encode())
    assert secret_inside(f"it is {SHOWN[way]} so".encode()) == "it holds a secret"
    plain = "<p>a = b + c</p> \x1b[1mbold\x1b[0m\n> quoted 'text' \n 'more'"
    assert redact(plain) == plain


@pytest.mark.slow
@pytest.mark.process
def test_what_rich_prints_of_a_secret_is_masked(tmp_path):
    source = "import os\nfrom pprint import pprint\nfrom rich.console import Console\n"
    source += "s = os.environ['ALGO_SECRET_KEY']\n"
    source += "Console(force_terminal=True).print(s)\nimport rich\nrich.print(s)\npprint([s + ' ' + s])"
    write_template(tmp_path, "prints", ("parameters", "n: int = 1"), ("step:a", source))
    algo(tmp_path, "run", "prints", ALGO_SECRET_KEY="S3cr3t-Pa(55)/w0rd=True+x9")
    (run,) = tmp_path.glob("reports/prints/*")
    for path in run.rglob("*"):
        text = path.read_text(errors="replace") if path.is_file() else ""
        assert "w0rd" not in text, path


class TestWhichValues:
    ASKED = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "SLACK_BOT_TOKEN")
    MORE = ("db_password", "MY_API_KEY", "APIKEY", "SSH_PRIVATE_KEY", "AZURE_CREDENTIALS", "SMTP_PASSWD", "REDIS_PASS")

    @pytest.fixture(autouse=True)
    def nothing_known(self, monkeypatch):
        monkeypatch.setattr(secrets, "_seen", set())

    @pytest.mark.parametrize("name", (*ASKED, *MORE))
    def test_a_variable_is_known_by_its_name(self, name, tmp_path):
        assert secrets.remember_all_secrets(tmp_path, {name: VALUES[0], "HOME": "/home/of-somebody"}) == [name]
        assert redact(f"{VALUES[0]} /home/of-somebody") == "********** /home/of-somebody"

    @pytest.mark.parametrize(
        "address",
        ["postgresql://u:{}@h/db", "redis://:{}@h:6379/0", "https://bob:{}@h/?a=b", "https://h/x?api_key={}&b=1"],
    )
    def test_a_password_in_an_address_is_known(self, address, tmp_path):
        from urllib.parse import quote

        secrets.remember_all_secrets(tmp_path, {"WHERE": address.format(quote(VALUES[3], safe=""))})
        assert redact(f"so {VALUES[3]}") == "so **********"

    def test_what_a_store_or_a_cache_asks_for_is_known(self, monkeypatch):
        """Also where no workspace was opened."""
        from algo_research.data.stores.cache import RedisCache
        from algo_research.data.stores.database import parse_address
        from algo_research.data.stores.places import S3Place

        pytest.importorskip("redis")
        pytest.importorskip("obstore")
        for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"), VALUES, strict=False):
            monkeypatch.setenv(name, value)
        S3Place("a-bucket/prefix")
        parse_address("postgresql://u@h/db", "nowhere")
        RedisCache("redis://:hunter2pass@127.0.0.1:1/0")
        assert redact(f"{VALUES[0]} {VALUES[1]} {VALUES[2]} hunter2pass") == " ".join(["**********"] * 4)

    def test_ordinary_text_is_not_masked(self, tmp_path):
        common = {
            "PGPASSWORD": "postgres",
            "A_TOKEN": "true",
            "B_SECRET": "production",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
            "CREDENTIALS_FILE": "/etc/hostname.key",
            "D_TOKEN": str(tmp_path),
            "E_PASSWORD": "2024-01-01",
            "F_PASSWORD": "000000",
        }
        secrets.remember_all_secrets(tmp_path, common)
        text = " ".join(common.values())
        assert redact(text) == text
        told = secrets.unmasked_secrets(tmp_path, common)
        assert set(told) == {"PGPASSWORD", "A_TOKEN", "B_SECRET", "E_PASSWORD", "F_PASSWORD"}

    def test_a_file_of_several_secrets_is_known_by_each(self, tmp_path):
        (tmp_path / "service.json").write_text(json.dumps({"private_key": VALUES[20], "project": "mine"}, indent=1))
        (tmp_path / ".env.ignored").write_text(VALUES[21])
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "env").write_text(f"export ONE='{VALUES[22]}'\nTWO={VALUES[25]}\n")
        secrets.remember_all_secrets(tmp_path, {})
        shown = redact(f"{VALUES[22]} {VALUES[25]} {json.dumps(VALUES[20])[1:-1]} {VALUES[21]} mine")
        assert shown == f"********** ********** ********** {VALUES[21]} mine"


LEAK = """
import base64, json, os, pickle, sys
from pathlib import Path
sys.path.insert(0, os.environ["TESTS"])
from support import planted
from algo_research.runs.record import current_run
run = current_run()
values = json.loads(Path(os.environ["OUTSIDE"]).read_text())
texts = [f"before {encode(value)} after" for value in values for encode in planted.ENCODINGS.values()]
"""
SHOW = """
from IPython.display import HTML, JSON, display
print("\\n".join(texts))
print("\\n".join(texts), file=sys.stderr)
display(HTML("".join(f"<p>{text}</p>" for text in texts)), JSON({"nested": [{"texts": texts}]}))
display({"image/png": base64.b64encode(planted.CONTAINERS["packed.png"](texts[5])).decode()}, raw=True)
print(values[4][:5], end="", flush=True); print(values[4][5:])
"""
KEEP = """
run.metrics({texts[n]: 1.0 for n in range(0, len(texts), 37)})
run.save("notes", texts)
run.save("table.csv", "\\n".join(texts).encode())
chosen = texts[::13]
for number, (kind, pack) in enumerate(planted.CONTAINERS.items()):
    run.save(f"packed.{kind}", pack(chosen[number % len(chosen)]))
"""
TRACK = """
import mlflow
with mlflow.start_run():
    mlflow.log_params({f"p{n}": text[:400] for n, text in enumerate(texts[:80])})
    mlflow.set_tags({f"t{n}": text[:400] for n, text in enumerate(texts[80:160])})
    mlflow.log_text("\\n".join(texts), "notes.txt")
    Path("model.pkl").write_bytes(planted.CONTAINERS["pickle"](texts[9]))
    mlflow.log_artifact("model.pkl"); Path("model.pkl").unlink()
"""


@pytest.mark.process
@pytest.mark.slow
def test_no_secret_is_in_anything_a_run_leaves(tmp_path, tmp_path_factory):
    """Those of the environment and of the secrets folder; the template has them from elsewhere, and fails."""
    workspace = dice_workspace(tmp_path)
    (workspace / "secrets").mkdir()
    names = [*TestWhichValues.ASKED, *TestWhichValues.MORE, *(f"ALGO_SECRET_N{n}" for n in range(12))]
    told = dict(zip(names, VALUES, strict=False))
    for number, value in enumerate(VALUES[len(told) :]):
        (workspace / "secrets" / f"key_{number}").write_text(value + "\n")
    outside = tmp_path_factory.mktemp("outside") / "values.json"
    outside.write_text(json.dumps(VALUES))
    end = ("step:end", "raise ValueError({'told': texts[::7]})")
    steps = [("step:leak", LEAK), ("step:show", SHOW), ("step:keep", KEEP), ("step:track", TRACK)]
    write_template(workspace, "leaky", ("parameters", "x: int = 0"), *steps, end)
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = algo(workspace, "run", "leaky", "--log", code=1, TESTS=tests, OUTSIDE=str(outside), **told)
    assert planted.search(workspace, VALUES) == []
    assert planted.found_in((done.stdout + done.stderr).encode(), VALUES) == []
    (run,) = (workspace / "reports" / "leaky").iterdir()
    manifest = json.loads((run / "run.json").read_text())
    assert len([why for why in manifest["record"]["removed"].values() if "it holds" in why]) >= len(planted.CONTAINERS)
    assert {"notebook.ipynb", "report.html", "log.txt", "run.json", "metrics.json"} <= {p.name for p in run.iterdir()}
    notes = (run / "artifacts" / "table.csv").read_text().splitlines()
    assert len([line for line in notes if "**********" in line]) >= len(VALUES) * len(planted.ENCODINGS)


@pytest.mark.process
@pytest.mark.slow
class TestDoctor:
    """`algo doctor` says what is not masked and who else can read; neither is an error."""

    def test_names_what_cannot_be_masked(self, tmp_path):
        done = algo(
            tmp_path, "doctor", code=None, PGPASSWORD="postgres", ALGO_SECRET_PIN="123", ALGO_SECRET_KEY=VALUES[1]
        )
        told = " ".join(done.stdout.split())
        assert "secrets not masked" in told and "PGPASSWORD: an ordinary word" in told
        assert "pin: shorter than 6 characters" in told and "Set longer ones" in told
        assert VALUES[1] not in done.stdout and "secrets readable" not in told

    def test_says_how_to_close_what_others_can_read(self, tmp_path):
        (tmp_path / "secrets").mkdir(mode=0o755)
        (tmp_path / "secrets" / "venue_key").write_text(VALUES[0])
        (tmp_path / "secrets" / "venue_key").chmod(0o640)
        told = "".join(algo(tmp_path, "doctor", code=None).stdout.split())
        assert "othersreadsecrets,venue_key" in told.replace("can", "")
        assert f"chmod-Rgo-rwx{tmp_path}/secrets" in told
        (tmp_path / "secrets").chmod(0o700)
        (tmp_path / "secrets" / "venue_key").chmod(0o600)
        assert "masked and yours alone" in " ".join(algo(tmp_path, "doctor", code=None).stdout.split())
