"""Recording trades and books: nothing twice, nothing missing, whatever breaks; by the command, too."""

import re
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from support.waiting import let_pass, until

from algo_research.data.intake.recording import RecordingStore
from algo_research.data.market.book import OrderBook, book_tops, stored_events
from algo_research.data.samples.synthetic import make_market
from algo_research.sandbox.exchange import Exchange, running
from algo_research.sandbox.faults import Faults
from algo_research.sandbox.market import symbols_of
from algo_research.sandbox.time import MarketTime

ALGO = [sys.executable, "-m", "algo_research.cli.main"]
NAMES = {"GARCH1/USDT": "GARCH1-USDT", "GARCH2/USDT": "GARCH2-USDT"}


def exchange(rates=None):
    markets = [make_market("garch", seed=seed, bars=600, timeframe="1m", volatility=0.001) for seed in (1, 2)]
    return Exchange(
        symbols_of(markets), MarketTime(markets[0].bars["ts"][0] + timedelta(hours=1), 20), Faults(rates or {}, seed=2)
    )


def command(workspace, served, *options):
    return [
        *ALGO,
        "data",
        "record",
        *NAMES,
        "--exchange",
        "sandbox",
        "--url",
        served.url,
        "--every",
        "0.5",
        "-w",
        str(workspace),
        *options,
    ]


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").touch()
    return tmp_path


def written(workspace):
    """Commits of the recordings, one for every write."""
    return list((workspace / ".algo" / "recordings").rglob("_delta_log/*.json"))


def heights(workspace):
    """How many trades there are of each market."""
    store = RecordingStore(workspace / ".algo" / "recordings")
    known = store.recorded()
    return [
        store.trades("sandbox", name).height if ("trades", "sandbox", name) in known else 0 for name in NAMES.values()
    ]


def agrees(workspace, served):
    """Every trade from the first kept to the last, and every top of the replayed book, as the exchange has them;
    how many there are of each.
    """
    store, counts = RecordingStore(workspace / ".algo" / "recordings"), []
    for name in NAMES.values():
        tape, trades = served.symbols[name.replace("-", "")].tape, store.trades("sandbox", name)
        first, last = trades["id"].min(), trades["id"].max()
        truth = tape.trades(tape.moment(first) - 1, tape.moment(last))
        assert trades["id"].to_list() == list(range(first, last + 1))
        assert (
            trades["price"].to_list() == truth.prices.tolist() and trades["amount"].to_list() == truth.amounts.tolist()
        )
        tops = book_tops(stored_events(store.depth("sandbox", name)), OrderBook(name.replace("-", "")))
        there = [tape.book(tape.moment(id)) for id in tops["id"]]
        assert tops["bid"].to_list() == [next(iter(b.bids)) for b in there] and tops["ask"].to_list() == [
            next(iter(b.asks)) for b in there
        ]
        counts += [trades.height, tops.height]
    return counts


@pytest.mark.process
@pytest.mark.slow
def test_recorders_that_are_killed_leave_no_hole(workspace):
    """Three are killed while they write, at different moments; the last one ends by itself.
    Updates are lost and swapped, and connections break, all the while.
    """
    with running(exchange({"lost": 0.05, "swapped": 0.05, "disconnect": 0.004})) as served:
        for seconds in (0.1, 0.4, 0.8):
            begun = len(written(workspace))
            recorder = subprocess.Popen(
                command(workspace, served), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            until(lambda begun=begun: len(written(workspace)) > begun)
            let_pass(seconds)
            recorder.send_signal(signal.SIGKILL)
            recorder.wait()
        done = subprocess.run(command(workspace, served, "--stop-after", "3"), capture_output=True, text=True)
        assert done.returncode == 0 and ", 0 lost" in done.stdout, done
        assert min(agrees(workspace, served)) > 20


@pytest.mark.process
@pytest.mark.slow
def test_a_recorder_fills_what_it_missed_while_nobody_listened(workspace):
    with running(exchange()) as served:
        for wanted in (1, 3600):
            recorder = subprocess.Popen(
                command(workspace, served), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            until(lambda wanted=wanted: min(heights(workspace)) >= wanted)
            recorder.send_signal(signal.SIGINT)
            told, failures = recorder.communicate(timeout=60)
            assert recorder.returncode == 0, failures
            served.time.advance(3600)  # sixty trades a minute: more than one page of past trades
        filled = int(re.search(r"\(([\d,]+) of them asked for, 0 lost\)", told)[1].replace(",", ""))
        assert filled >= 7200, told  # 3,600 of each of two markets
        assert agrees(workspace, served)[0] > 3600


@pytest.mark.process
def test_bad_input_is_refused_and_nothing_is_left(workspace):
    with running(exchange()) as served:
        for options, words in ((["--what", "dept"], "depth"), (["--exchange", "kraken"], "binance")):
            done = subprocess.run([*command(workspace, served), *options], capture_output=True, text=True)
            assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
        unknown = [
            *ALGO,
            "data",
            "record",
            "GARCH3/USDT",
            "--exchange",
            "sandbox",
            "--url",
            served.url,
            "-w",
            str(workspace),
        ]
        done = subprocess.run(unknown, capture_output=True, text=True)
        assert done.returncode == 2 and "GARCH1" in done.stderr, done.stderr
    assert not list((workspace / ".algo" / "recordings").rglob("*"))
