"""`algo data sync` from data providers of stocks: sessions, credentials, limits, interruptions."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from algo_research.data.instruments import session_schedule
from algo_research.data.store import open_store
from algo_research.data.synthetic import make_market
from algo_research.sandbox.providers import Provider, served, stock_minutes

ALGO = [sys.executable, "-m", "algo_research.cli.main"]
KEYS = {"ALGO_SECRET_TWELVEDATA_KEY": "local-key", "ALGO_SECRET_ALPACA_KEY": "local-key", "ALGO_SECRET_ALPACA_SECRET": "local-key-secret"}
FIRST, LAST = date(2024, 6, 3), date(2024, 7, 5)


@pytest.fixture(scope="module")
def bars():
    made = make_market("garch", seed=1, bars=20_000, timeframe="1m", volatility=0.0005).bars
    made = made.with_columns(pl.col("open", "high", "low", "close").round(2), pl.col("volume").round(0))
    return {"AAPL": stock_minutes(made, FIRST, LAST)}


def sync(workspace, provider, exchange, *options, keys=KEYS):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ALGO_")} | keys
    command = [*ALGO, "data", "sync", "AAPL", "--exchange", exchange, "--url", provider.url, "--since", "2024-06-01", "-w", str(workspace), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").touch()
    return tmp_path


@pytest.mark.parametrize(("exchange", "timeframe", "minutes"), [("alpaca", "1m", 1), ("twelvedata", "1m", 1), ("alpaca", "30m", 30), ("twelvedata", "1h", 60), ("alpaca", "1d", 1440), ("twelvedata", "1d", 1440)])
def test_bars_of_sessions_are_all_there(workspace, bars, exchange, timeframe, minutes):
    """Every bar of every session up to the last that closed, none of before and after hours; a day is known at its session's close; a second sync finds nothing to do."""
    with served(Provider(bars, now=datetime.now(UTC))) as provider:
        done = sync(workspace, provider, exchange, "--timeframe", timeframe, "--until", "2024-07-05T18:00:00")
        assert done.returncode == 0, done.stderr
        again = sync(workspace, provider, exchange, "--timeframe", timeframe, "--until", "2024-07-05T18:00:00")
        assert ": 0 new bars" in again.stdout and "hole" not in again.stdout, again.stdout
    kept = open_store(f"delta://{workspace}/.algo/store").read(f"{exchange}/AAPL/{timeframe}").bars
    due = session_schedule("XNYS", FIRST, LAST, timedelta(minutes=minutes))
    last = datetime(2024, 7, 5, 18, tzinfo=UTC)
    closes = pl.col("known_at") if minutes == 1440 else pl.min_horizontal(pl.col("ts") + timedelta(minutes=minutes), "known_at")
    due = due.with_columns(known_at=closes).filter(pl.col("known_at") <= last)
    assert kept.select("ts", "known_at").equals(due.select("ts", "known_at"))
    day = bars["AAPL"].filter(pl.col("ts").dt.date() == date(2024, 7, 3))
    assert kept.filter(pl.col("ts").dt.date() == date(2024, 7, 3))["close"][-1] in day["close"].to_list()


def test_credentials_are_needed_and_never_shown(workspace, bars):
    with served(Provider(bars)) as provider:
        missing = sync(workspace, provider, "alpaca", "--timeframe", "1d", keys={})
        assert missing.returncode == 2 and "ALGO_SECRET_ALPACA_KEY" in missing.stderr
        wrong = sync(workspace, provider, "twelvedata", "--timeframe", "1d", keys={"ALGO_SECRET_TWELVEDATA_KEY": "a-wrong-key-77"})
        assert wrong.returncode == 2 and "does not accept the credentials" in wrong.stderr
        assert "a-wrong-key-77" not in wrong.stderr + wrong.stdout
    assert not (workspace / ".algo" / "store" / "bars").exists()


def test_wrong_names_are_named(workspace, bars):
    with served(Provider(bars)) as provider:
        for options, words in ((("--timeframe", "1h"), "'1m'"), (("--timeframe", "7m"), "'1m'")):
            done = sync(workspace, provider, "alpaca", *options)
            assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = sync(workspace, Provider({}, url="http://127.0.0.1:9"), "alpaca", "--timeframe", "1d")
    assert done.returncode == 3 and "cannot be reached" in done.stderr, done.stderr


@pytest.mark.parametrize("exchange", ["alpaca", "twelvedata"])
def test_splits_and_dividends_come_with_the_bars(workspace, bars, exchange):
    """One source of raw bars and actions gives all three; the raw ones stay, and a second time nothing changes."""
    actions = (("AAPL", "2024-06-10", "split", 4.0), ("AAPL", "2024-06-20", "dividend", 0.5), ("AAPL", "2024-06-27", "split", 0.5))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ALGO_")} | KEYS
    with served(Provider(bars, actions=actions)) as provider:
        sync(workspace, provider, exchange, "--timeframe", "1d")

        def adjust(to):
            command = [*ALGO, "data", "adjust", f"{exchange}/AAPL/1d", "--to", to, "--url", provider.url, "-w", str(workspace)]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

        for to in ("split", "total", "total"):
            done = adjust(to)
            assert done.returncode == 0 and "2 splits" in done.stdout, done.stderr + done.stdout
        assert adjust("totl").returncode == 2
    store = open_store(f"delta://{workspace}/.algo/store")
    assert store.versions(f"{exchange}/AAPL-total/1d") == [0]
    raw, split, total = (store.read(f"{exchange}/AAPL{name}/1d") for name in ("", "-split", "-total"))
    assert (raw.adjustment, split.adjustment, total.adjustment) == ("raw", "split", "total")
    close = raw.bars.select(day=pl.col("ts").dt.date(), raw="close").with_columns(split=split.bars["close"], total=total.bars["close"])
    before = close.filter(pl.col("day") < date(2024, 6, 10))
    assert (before["raw"] / before["split"]).to_list() == pytest.approx([4.0 * 0.5] * before.height)
    last = close.filter(pl.col("day") < date(2024, 6, 20))["raw"][-1]
    assert (before["split"] * (1 - 0.5 / last)).to_list() == pytest.approx(before["total"].to_list())
    assert close.filter(pl.col("day") >= date(2024, 6, 27)).select("raw").to_series().to_list() == close.filter(pl.col("day") >= date(2024, 6, 27))["total"].to_list()


def test_adjusting_without_actions_or_with_wrong_ones_is_refused(workspace):
    store = open_store(f"delta://{workspace}/.algo/store")
    store.write(make_market("noise", 0, bars=50, timeframe="1d"))
    command = [*ALGO, "data", "adjust", "synthetic/noise:0/1d", "-w", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--actions FILE.csv" in done.stderr, done.stderr
    (workspace / "wrong.csv").write_text("symbol,date\nX,2020-01-01\n")
    done = subprocess.run([*command, "--actions", str(workspace / "wrong.csv")], capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be read as actions" in done.stderr, done.stderr
    assert [str(i) for i in store.datasets()] == ["synthetic/noise:0/1d"]
