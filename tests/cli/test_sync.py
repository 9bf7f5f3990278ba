"""`algo data sync` against the sandbox, as a user types it."""

import json
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import timedelta

import pytest
from support.command import algo, files

from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.faults import Faults
from algo_research.sandbox.market import symbols_of


@pytest.fixture(scope="module")
def exchange():
    market = make_market("garch", seed=1, bars=1500, timeframe="1m", volatility=0.001)
    with running(
        Exchange(symbols_of([market]), MarketTime(market.bars["ts"][-1] + timedelta(seconds=30), speed=0))
    ) as served:
        yield served


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").write_text("")
    return tmp_path


@pytest.mark.process
def test_a_preview_a_sync_and_nothing_left_to_do(workspace, exchange):
    wanted = ["data", "sync", "GARCH1/USDT", "--exchange", "sandbox", "--url", exchange.url, "--timeframe", "5m"]
    preview = algo(workspace, *wanted, "--since", "2015-01-01", "--dry-run")
    assert "299 bars to ask for" in preview.stdout and not list(workspace.rglob("*.parquet"))
    assert "299 new bars" in algo(workspace, *wanted, "--since", "2015-01-01").stdout
    assert ": 0 new bars" in algo(workspace, *wanted, apart=True).stdout
    assert "299 bars, 2015-01-01 to 2015-01-02" in " ".join(algo(workspace, "data", "list").stdout.split())
    assert "299 bars" in " ".join(algo(workspace, "data", "show", "sandbox/GARCH1-USDT/5m").stdout.split())


BAD = {
    "unknown exchange": (["BTC/USDT", "--exchange", "binanse"], 2, "Did you mean 'binance'"),
    "unknown symbol": (["GARCH2/USDT"], 2, "Did you mean 'GARCH1-USDT'"),
    "no timeframe": (["GARCH1/USDT", "--timeframe", "1n"], 2, "'1n' is no timeframe"),
    "timeframe it does not have": (["GARCH1/USDT", "--timeframe", "7m"], 2, "Unknown timeframe of sandbox '7m'"),
    "nothing stored and no beginning": (["GARCH1/USDT"], 2, "--since 2024-01-01"),
    "no address": (["GARCH1/USDT", "--exchange", "sandbox"], 2, "algo sandbox"),
    "an address for another": (["GARCH1/USDT", "--exchange", "kraken"], 2, "Leave it out"),
    "nobody there": (["GARCH1/USDT", "--since", "2015-01-01"], 3, "cannot be reached"),
}


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_says_what_to_do_and_stores_nothing(case, workspace, exchange):
    arguments, code, message = BAD[case]
    url = "http://127.0.0.1:9" if case == "nobody there" else exchange.url
    where = [] if case in ("unknown exchange", "no address") else ["--url", url]
    before = files(workspace)
    done = algo(
        workspace,
        "data",
        "sync",
        *arguments,
        *(() if "--exchange" in arguments else ("--exchange", "sandbox")),
        *where,
        code=None,
    )
    assert done.returncode == code and message in done.stderr, done.stderr
    assert files(workspace) == before


@pytest.mark.server
def test_a_table_of_somebody_else_is_left_alone(workspace, exchange):
    import polars as pl

    (workspace / "settings.ini").write_text("[store]\nurl = delta://data\n")
    folder = workspace / "data" / "bars" / "sandbox" / "GARCH1-USDT" / "1m"
    folder.mkdir(parents=True)
    pl.DataFrame({"symbol": ["x"], "ts": [1]}).write_delta(str(folder))
    before = files(folder)
    store = open_store("delta://data", workspace)
    assert [str(d) for d in store.datasets()] == ["sandbox/GARCH1-USDT/1m"]
    done = algo(
        workspace,
        "data",
        "sync",
        "GARCH1/USDT",
        "--exchange",
        "sandbox",
        "--url",
        exchange.url,
        "--timeframe",
        "1m",
        "--since",
        "2015-01-01",
        code=2,
    )
    assert "not written by this store" in done.stderr
    assert files(folder) == before
    assert "sandbox/GARCH1-USDT/1m store cannot be read: The table at" in " ".join(
        algo(workspace, "data", "list").stdout.split()
    )


@pytest.mark.server
def test_limits_are_kept_and_a_ban_is_earned_by_ignoring_them():
    market = make_market("garch", seed=1, bars=1500, timeframe="1m", volatility=0.001)
    with running(
        Exchange(
            symbols_of([market]), MarketTime(market.bars["ts"][-1], speed=0), Faults({"rate_limit": 1.0}, retry_after=7)
        )
    ) as served:
        statuses = []
        for _ in range(3):
            try:
                urllib.request.urlopen(f"{served.url}/api/v3/ping", timeout=10)
            except urllib.error.HTTPError as refused:
                statuses.append((refused.code, refused.headers["Retry-After"], json.load(refused)["code"]))
        assert statuses == [(429, "7", -1003), (418, "120", -1003), (418, "120", -1003)]
        served.faults.rates = {}
        served.time.advance(121)
        urllib.request.urlopen(f"{served.url}/api/v3/ping", timeout=10).close()
        served.limit = 4
        with pytest.raises(urllib.error.HTTPError, match="429"):
            for _ in range(3):
                urllib.request.urlopen(f"{served.url}/api/v3/klines?symbol=GARCH1USDT&interval=1m", timeout=10).close()


@pytest.mark.server
def test_bars_of_a_perpetual(workspace, exchange):
    """The same command; the store keeps them apart from the spot market's."""
    for symbol in ("GARCH1/USDT", "GARCH1/USDT:USDT"):
        assert (
            "299 new bars"
            in algo(
                workspace,
                "data",
                "sync",
                symbol,
                "--exchange",
                "sandbox",
                "--url",
                exchange.url,
                "--timeframe",
                "5m",
                "--since",
                "2015-01-01",
            ).stdout
        )
    store = open_store("delta://.algo/store", workspace)
    spot, perpetual = (store.read(f"sandbox/GARCH1-USDT{settled}/5m") for settled in ("", ":USDT"))
    assert (spot.instrument.kind, perpetual.instrument.kind) == ("spot", "perpetual") and perpetual.bars["ts"].equals(
        spot.bars["ts"]
    )


@pytest.mark.server
def test_what_a_repair_took_out_stays_out(workspace):
    """The exchange still tells the wrong bar, and goes on."""
    import polars as pl

    market = make_market("garch", seed=2, bars=1500, timeframe="1m", volatility=0.001)
    wrong = pl.int_range(pl.len()) == 700
    market = replace(
        market,
        bars=market.bars.with_columns(
            pl.when(wrong).then(pl.col(c) * 3).otherwise(c) for c in ("open", "high", "low", "close")
        ),
    )
    (workspace / "settings.ini").write_text("[store]\nurl = delta://data\n")
    time, id = MarketTime(market.bars["ts"][1000], speed=0), "sandbox/GARCH2-USDT/1m"
    store = open_store("delta://data", workspace)
    with running(Exchange(symbols_of([market]), time)) as served:
        wanted = ["data", "sync", "GARCH2/USDT", "--exchange", "sandbox", "--url", served.url, "--timeframe", "1m"]
        assert "400 new bars" in algo(workspace, *wanted, "--since", "2015-01-01 10:00").stdout
        assert "price spike" in algo(workspace, "data", "check", id, "--repair", "--yes").stdout
        assert store.read(id).bars.height == 399
        assert "1 bars to ask for" in algo(workspace, *wanted, "--dry-run").stdout  # the newest, as always
        assert ": 0 new bars, 1 left out since a repair" in algo(workspace, *wanted).stdout
        assert (
            "600 new bars, 1 left out since a repair" in algo(workspace, *wanted, "--since", "2015-01-01").stdout
        )  # asked for together with the newest, and so with the wrong one
        time.advance(100 * 60)
        assert "100 new bars, 1 left out since a repair" in algo(workspace, *wanted).stdout
    kept = store.read(id)
    assert kept.bars.height == 1099 and market.bars["ts"][700] not in kept.bars["ts"]
    assert kept.removed == (("GARCH2-USDT", market.bars["ts"][700], market.bars["ts"][700]),)
    assert store.read(id, version=0).removed == ()
