"""What is true of a bucket only; what every store must do stands in the conformance suite."""

import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from algo_research.core.errors import AlgoError, InputError, RetryableError
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store
from algo_research.data.stores.cache import MemoryCache
from algo_research.data.stores.places import S3Place
from algo_research.workspace.settings import load_settings

MARKET = make_market("noise", 4, bars=60_000, timeframe="1m")


@pytest.fixture
def store(s3_url):
    return open_store(s3_url)


APPENDER = """
import sys
from dataclasses import replace
from algo_research.data.market.bars import DatasetId
from algo_research.data.stores.base import open_store
from algo_research.data.samples.synthetic import make_market
market, store, mine = make_market("noise", 4, bars=3_000, timeframe="1m"), open_store(sys.argv[1]), int(sys.argv[2])
market.snapshot()
print("ready", flush=True)
sys.stdin.readline()
for i in range(1, 13):
    if i % 2 == mine: store.append(replace(market, bars=market.bars[i * 200:(i + 1) * 200]))
"""


@pytest.mark.process
@pytest.mark.slow
def test_two_processes_append_at_once(s3_url, store):
    """Every other piece each, from the same bell on: nothing is lost, every piece is one version."""
    market = replace(MARKET, bars=MARKET.bars[:3_000])
    store.write(replace(market, bars=market.bars[:200]))
    writers = [
        subprocess.Popen([sys.executable, "-c", APPENDER, s3_url, mine], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for mine in "01"
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert (
        store.read(market.id)
        .bars.drop("close", "open", "high", "low", "volume")
        .equals(MARKET.bars[:2_600].drop("close", "open", "high", "low", "volume"))
    )
    assert store.versions(market.id) == list(range(13)) and store.verify(market.id) == []


def test_hot_reads_ask_one_question(s3_url, s3_server, monkeypatch):
    """With its files in the cache, a read of the newest version is one request."""
    asked, ask = [], S3Place._ask
    monkeypatch.setattr(
        S3Place,
        "_ask",
        lambda place, *arguments, **options: (asked.append(arguments), ask(place, *arguments, **options))[1],
    )
    store = open_store(s3_url, cache=MemoryCache(100_000_000))
    store.write(MARKET)
    for _ in range(2):
        asked.clear()
        assert store.read(MARKET.id).bars.equals(MARKET.bars)
    assert [a[0] for a in asked] == ["list"]


def test_the_same_content_as_in_a_folder(store, tmp_path):
    local = open_store(f"delta://{tmp_path}")
    for place in (store, local):
        place.write(MARKET)
    assert store.snapshot(MARKET.id) == local.snapshot(MARKET.id)
    assert store.resample(MARKET.id, "1h").bars.equals(local.resample(MARKET.id, "1h").bars)


@contextmanager
def answering(status: int, code: str):
    """A service that gives everybody the same answer, and quotes the request."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            if length := int(self.headers.get("Content-Length", 0)):
                self.rfile.read(length)
            sent = self.headers.get("Authorization")
            quoted = f"<AWSAccessKeyId>quoted-key</AWSAccessKeyId><Sent>{sent}</Sent>"
            body = f"<Error><Code>{code}</Code><Message>no</Message>{quoted}</Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = answer

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refused(store, expected: type[AlgoError], *parts: str):
    """Every call says the same kind of thing, and tells no secret."""
    for call in (
        store.ping,
        store.datasets,
        lambda: store.read(MARKET.id),
        lambda: store.write(replace(MARKET, bars=MARKET.bars[:10])),
        lambda: store.versions(MARKET.id),
    ):
        with pytest.raises(expected) as error:
            call()
        text = str(error.value)
        assert all(part in text for part in parts), text
        assert not any(secret in text for secret in ("test-key", "test-secret", "quoted-key", "Signature=")), text
        assert error.value.__suppress_context__ or not error.value.__context__


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_refused_credentials(s3_url, monkeypatch, code):
    with answering(403, code) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        refused(open_store(s3_url), InputError, "refuses the credentials", "'test-bucket'", "AWS_SECRET_ACCESS_KEY")


def test_a_bucket_that_is_not_there(s3_url):
    refused(open_store("s3://other-bucket/bars"), InputError, "no bucket 'other-bucket'", "Make it")


def test_nobody_there(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    refused(open_store(s3_url), RetryableError, "does not answer", "AWS_ENDPOINT_URL")


def test_a_service_that_fails_in_the_middle(s3_url, s3_server, store, monkeypatch):
    """The endpoint goes away after the store was opened: the write fails, and what was there is there."""
    store.write(replace(MARKET, bars=MARKET.bars[:100]))
    before = store.snapshot(MARKET.id)
    original, calls = S3Place.write, []

    def failing(place, path, data):
        calls.append(path)
        if len(calls) > 1:
            monkeypatch.setattr(place, "_files", S3Place("nowhere-bucket")._files)
        return original(place, path, data)

    with monkeypatch.context() as middle:
        middle.setattr(S3Place, "write", failing)
        with pytest.raises(InputError, match="no bucket"):
            open_store(s3_url).write(MARKET)
    assert len(calls) > 1 and open_store(s3_url).snapshot(MARKET.id) == before
    assert open_store(s3_url).write(MARKET) == 1


@pytest.mark.parametrize("gone", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_no_credentials(s3_url, monkeypatch, gone):
    monkeypatch.delenv(gone)
    with pytest.raises(InputError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store(s3_url)


def test_an_unencrypted_endpoint_must_be_wanted(s3_url, monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(InputError, match="not encrypted"):
        open_store(s3_url)


def test_damage_is_found(s3_url, store):
    store.write(MARKET)
    path = next(f.path for f in store._version(MARKET.id).files)
    store.place.write(f"{store._path(MARKET.id)}/{path}", b"not parquet")
    assert store.verify(MARKET.id) == [path]
    with pytest.raises(InputError, match="does not hold what was written"):
        open_store(s3_url).read(MARKET.id)


def test_addresses(s3_url):
    with pytest.raises(InputError, match="Did you mean 's3'"):
        open_store("s33://bucket/x")
    for wrong in ("s3://", "s3:///x", f"s3://key:{'secret'}@bucket/x", "s3://Bucket/x"):
        with pytest.raises(InputError) as error:
            open_store(wrong)
        assert "secret" not in str(error.value)


def test_settings_take_an_address(s3_url, tmp_path):
    from algo_research.workspace.bootstrap import open_workspace

    (tmp_path / "settings.ini").write_text(f"[store]\nurl = {s3_url}\ncache = memory://64MB\n")
    with open_workspace(tmp_path) as workspace:
        workspace.store.write(replace(MARKET, bars=MARKET.bars[:100]))
        assert workspace.store.datasets() == [MARKET.id] and isinstance(workspace.store.cache, MemoryCache)
    with pytest.raises(InputError, match="postgresql://"):
        load_settings(tmp_path, environ={}, store={"url": "mysql://x"})
