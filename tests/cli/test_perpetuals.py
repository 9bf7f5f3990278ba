"""`algo data perpetuals` and `algo data aggregate`, as a user types them."""

from datetime import timedelta

import pytest
from support.command import algo, files

from algo_research.data.intake.perpetuals import PerpetualStore
from algo_research.data.samples.synthetic import make_market
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.market import symbols_of


@pytest.fixture(scope="module")
def exchange():
    market = make_market("garch", seed=1, bars=1500, timeframe="1h", volatility=0.01)
    with running(
        Exchange(symbols_of([market]), MarketTime(market.bars["known_at"][-1] + timedelta(seconds=30), speed=0))
    ) as served:
        yield served


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").write_text("")
    return tmp_path


@pytest.mark.parametrize("command", ["perpetuals", "aggregate"])
def test_help_has_an_example(command, workspace):
    assert f"Example: algo data {command}" in " ".join(algo(workspace, "data", command, "--help").stdout.split())


@pytest.mark.server
def test_a_sync_and_nothing_left_to_do(workspace, exchange):
    wanted = ["data", "perpetuals", "GARCH1/USDT:USDT", "--exchange", "sandbox", "--url", exchange.url]
    done = algo(workspace, *wanted, "--since", "2015-01-01").stdout
    assert "188 new rows of funding" in done and "new rows of interest, nothing is told from before" in done
    assert "0 new rows of funding" in algo(workspace, *wanted, "--what", "funding").stdout
    [folder] = {p.parents[3] for p in workspace.rglob("_delta_log")}
    store = PerpetualStore(folder)
    assert store.kept() == [("funding", "sandbox", "GARCH1-USDT:USDT"), ("interest", "sandbox", "GARCH1-USDT:USDT")]
    assert store.read("funding", "sandbox", "GARCH1-USDT:USDT").height == 188


BAD = {
    "no perpetual": (["GARCH1/USDT"], 2, "Did you mean 'GARCH1-USDT:USDT'"),
    "unknown kind": (["GARCH1/USDT:USDT", "--what", "fundings"], 2, "Did you mean 'funding'"),
    "no period": (["GARCH1/USDT:USDT", "--period", "1n"], 2, "'1n' is no timeframe"),
    "nothing stored and no beginning": (["GARCH1/USDT:USDT"], 2, "--since 2024-01-01"),
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_says_what_to_do_and_stores_nothing(case, workspace, exchange):
    arguments, code, message = BAD[case]
    done = algo(
        workspace,
        "data",
        "perpetuals",
        *([] if "--what" in arguments else ["--what", "funding"]),
        *arguments,
        "--exchange",
        "sandbox",
        "--url",
        exchange.url,
        code=None,
    )
    assert done.returncode == code and message in done.stderr, done.stderr
    assert not list(workspace.rglob("*.parquet"))


def test_two_venues_become_one_symbol(workspace):
    import polars as pl

    bars = make_market("noise", seed=1, bars=300).bars.drop("symbol", "known_at")
    for venue, factor in (("binance", 1.0), ("coinbase", 1.001), ("kraken", 0.999)):
        moved = bars.with_columns(pl.col("open", "high", "low", "close") * factor)
        if venue == "kraken":
            moved = moved.with_columns(
                high=pl.when(pl.int_range(pl.len()) == 100).then(pl.col("high") * 2).otherwise("high")
            )
        moved.with_columns(pl.col("ts").dt.replace_time_zone(None)).write_csv(workspace / f"{venue}.csv")
        algo(workspace, "data", "import", f"{venue}.csv", "--id", f"{venue}/BTC-USD/1h", "--label", "open")
    sources = [f"{venue}/BTC-USD/1h" for venue in ("binance", "coinbase", "kraken")]
    before = files(workspace)
    preview = algo(workspace, "data", "aggregate", *sources, "--id", "composite/BTC-USD/1h", "--dry-run").stdout
    assert "kraken/BTC-USD/1h was left out of 1 bar(s), as it deviates" in preview and files(workspace) == before
    assert (
        "Stored as composite/BTC-USD/1h, version 0"
        in algo(workspace, "data", "aggregate", *sources, "--id", "composite/BTC-USD/1h").stdout
    )
    assert "300 bars" in algo(workspace, "data", "show", "composite/BTC-USD/1h").stdout
    refused = algo(workspace, "data", "aggregate", *sources[:2], "--id", "kraken/BTC-USD/1h", code=2)
    assert "no composite" in refused.stderr
