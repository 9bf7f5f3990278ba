"""`algo data sync` from data providers of stocks: sessions, credentials, limits, interruptions."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

import polars as pl
import pytest
from support.command import algo

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import InputError, RetryableError
from algo_research.data.intake.ingest import fetch_range
from algo_research.data.market.bars import DatasetId
from algo_research.data.market.instruments import session_schedule
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store
from algo_research.data.venues.exchanges import RateLimited
from algo_research.data.venues.providers import AlpacaSource, open_source
from algo_research.sandbox.providers import Provider, served, stock_minutes

KEYS = {
    "ALGO_SECRET_TWELVEDATA_KEY": "local-key",
    "ALGO_SECRET_ALPACA_KEY": "local-key",
    "ALGO_SECRET_ALPACA_SECRET": "local-key-secret",
}
FIRST, LAST = date(2024, 6, 3), date(2024, 7, 5)


@pytest.fixture(scope="module")
def bars():
    made = make_market("garch", seed=1, bars=20_000, timeframe="1m", volatility=0.0005).bars
    made = made.with_columns(pl.col("open", "high", "low", "close").round(2), pl.col("volume").round(0))
    return {"AAPL": stock_minutes(made, FIRST, LAST)}


def sync(workspace, provider, exchange, *options, keys=KEYS, symbol="AAPL"):
    return algo(
        workspace,
        "data",
        "sync",
        symbol,
        "--exchange",
        exchange,
        "--url",
        provider.url,
        "--since",
        "2024-06-01",
        *options,
        code=None,
        **keys,
    )


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").touch()
    return tmp_path


@pytest.mark.server
@pytest.mark.parametrize(
    ("exchange", "timeframe", "minutes"),
    [
        ("alpaca", "1m", 1),
        ("twelvedata", "1m", 1),
        ("alpaca", "30m", 30),
        ("twelvedata", "1h", 60),
        ("alpaca", "1d", 1440),
        ("twelvedata", "1d", 1440),
    ],
)
def test_bars_of_sessions_are_all_there(workspace, bars, exchange, timeframe, minutes):
    """Every bar of every session up to the last that closed, none of before and after hours;
    a day is known at its session's close; a second sync finds nothing to do.
    """
    with served(Provider(bars, now=datetime.now(UTC))) as provider:
        done = sync(workspace, provider, exchange, "--timeframe", timeframe, "--until", "2024-07-05T18:00:00")
        assert done.returncode == 0, done.stderr
        again = sync(workspace, provider, exchange, "--timeframe", timeframe, "--until", "2024-07-05T18:00:00")
        assert ": 0 new bars" in again.stdout and "hole" not in again.stdout, again.stdout
    kept = open_store(f"delta://{workspace}/.algo/store").read(f"{exchange}/AAPL/{timeframe}").bars
    due = session_schedule("XNYS", FIRST, LAST, timedelta(minutes=minutes))
    last = datetime(2024, 7, 5, 18, tzinfo=UTC)
    closes = (
        pl.col("known_at")
        if minutes == 1440
        else pl.min_horizontal(pl.col("ts") + timedelta(minutes=minutes), "known_at")
    )
    due = due.with_columns(known_at=closes).filter(pl.col("known_at") <= last)
    assert kept.select("ts", "known_at").equals(due.select("ts", "known_at"))
    values = (
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    )
    traded = (
        bars["AAPL"]
        .join_asof(due.select(bar="ts", over="known_at"), left_on="ts", right_on="bar")
        .filter(pl.col("ts") < pl.col("over"))
    )
    assert kept.drop("symbol", "known_at").equals(
        traded.group_by("bar", maintain_order=True).agg(*values).rename({"bar": "ts"})
    )


@pytest.mark.server
def test_currencies_have_no_volume(workspace, bars):
    begin = datetime(2024, 6, 3, tzinfo=UTC)
    euro = (
        bars["AAPL"]
        .head(7200)
        .with_columns(ts=pl.datetime_range(begin, begin + timedelta(minutes=7199), "1m", time_unit="us", eager=True))
    )
    with served(Provider({"EUR/USD": euro})) as provider:
        done = sync(
            workspace, provider, "twelvedata", "--timeframe", "1h", "--until", "2024-06-08T00:00:00", symbol="EUR/USD"
        )
        assert done.returncode == 0, done.stderr
    found = open_store(f"delta://{workspace}/.algo/store").read("twelvedata/EUR-USD/1h")
    assert found.instrument.quote == "USD" and found.bars["volume"].is_null().all()
    # the week of currencies ends on Friday at 17:00 in New York, three hours before midnight in UTC
    assert found.bars["close"].to_list() == euro["close"].gather_every(60, 59).to_list()[:-3]


@pytest.fixture
def keys(monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def asked(source):
    """What one may ask, by what an error should name."""
    begin = datetime(2024, 6, 3, tzinfo=UTC)
    return {
        "the symbol AAPL": lambda: source.instrument("AAPL"),
        "bars of AAPL": lambda: source.bars("AAPL", "1m", begin, 10),
        "of AAPL": lambda: source.actions("AAPL", begin),
    }


@pytest.mark.server
@pytest.mark.parametrize("exchange", ["alpaca", "twelvedata"])
def test_how_long_to_wait(bars, keys, exchange):
    """Seconds or a date; a minute where nothing sensible is said."""
    later, past = (format_datetime(datetime.now(UTC) + timedelta(seconds=s), usegmt=True) for s in (90, -90))
    for told, low, high in (
        ("7", 7, 7),
        (later, 80, 91),
        (past, 1, 1),
        ("soon", 60, 60),
        ("", 60, 60),
        ("nan", 60, 60),
        ("-5", 1, 1),
        ("1e18", 60, 3600),
    ):
        with served(Provider(bars, limit=0, retry_after=told)) as provider, pytest.raises(RateLimited) as raised:
            open_source(exchange, provider.url).instrument("AAPL")
        assert low <= raised.value.wait <= high, told


@pytest.mark.parametrize(("told", "wait"), [("1717372805", 5), ("1717372000", 1), ("soon", 7), ("nan", 60)])
def test_when_alpaca_s_limit_is_lifted(keys, told, wait):
    source = AlpacaSource()
    source.now = lambda: datetime(2024, 6, 3, tzinfo=UTC)
    assert source._wait({"x-ratelimit-reset": told, "retry-after": "7"}) == wait


BROKEN = [
    {},
    {"status": "ok"},
    {"message": "maintenance"},
    [],
    None,
    "well",
    {"status": "error", "code": "later"},
    {
        "data": [{}],
        "values": [{}],
        "bars": [{}],
        "splits": [{}],
        "dividends": [{}],
        "corporate_actions": {"cash_dividends": [{}]},
    },
    {"data": 5, "class": "us_equity", "values": 5, "bars": 5, "splits": 5, "dividends": 5, "corporate_actions": 5},
    {
        "data": None,
        "values": [{"datetime": "today", "open": "x"}],
        "bars": [{"t": "today", "o": "x"}],
        "splits": [{"date": "x", "from_factor": 1, "to_factor": 0}],
        "dividends": [],
        "corporate_actions": None,
    },
]


@pytest.mark.server
@pytest.mark.parametrize("body", BROKEN, ids=lambda b: json.dumps(b)[:30])
@pytest.mark.parametrize("exchange", ["alpaca", "twelvedata"])
def test_an_answer_that_lacks_what_was_asked_for(bars, keys, exchange, body):
    class Confused(Provider):
        confused = False

        def twelve(self, *question):
            return (200, body) if self.confused else super().twelve(*question)

        def alpaca(self, *question):
            return (200, body) if self.confused else super().alpaca(*question)

    with served(Confused(bars)) as provider:
        source = open_source(exchange, provider.url)
        source.instrument("AAPL")
        provider.confused = True
        for what, ask in asked(source).items():
            with pytest.raises(RetryableError, match=what):
                ask()


@pytest.mark.server
def test_a_window_a_call(bars, keys):
    """An empty one costs a request, however long nothing was traded;
    who asks goes on from there, and a refusal loses nothing.
    """

    class Refusing(Provider):
        def twelve(self, path, *question):
            refused = path == "/time_series" and self.requests[path] > 1 and self.requests[path] % 3 == 0
            return (
                (429, {"code": 429, "message": "out of credits", "status": "error"})
                if refused
                else super().twelve(path, *question)
            )

    with served(Refusing(bars)) as provider:
        source = open_source("twelvedata", provider.url)
        assert source.bars("AAPL", "1m", datetime(2024, 4, 1, tzinfo=UTC), 5000).is_empty()
        assert provider.requests["/time_series"] == 1
        fetched = pl.concat(
            fetch_range(
                source,
                "AAPL",
                "1m",
                datetime(2024, 5, 1, tzinfo=UTC),
                datetime(2024, 6, 4, tzinfo=UTC),
                SimulatedClock(provider.now),
                calendar="XNYS",
            )
        )
        assert (
            provider.requests["/time_series"] < 70
        )  # ten windows, each confirmed three times, and every third request twice
    assert fetched["ts"][0] == datetime(2024, 6, 3, 13, 30, tzinfo=UTC) and fetched.height == 390


@pytest.mark.server
def test_credentials_are_needed_and_never_shown(workspace, bars):
    with served(Provider(bars)) as provider:
        missing = sync(workspace, provider, "alpaca", "--timeframe", "1d", keys={})
        assert missing.returncode == 2 and "ALGO_SECRET_ALPACA_KEY" in missing.stderr
        wrong = sync(
            workspace,
            provider,
            "twelvedata",
            "--timeframe",
            "1d",
            keys={"ALGO_SECRET_TWELVEDATA_KEY": "a-wrong-key-77"},
        )
        assert wrong.returncode == 2 and "does not accept the credentials" in wrong.stderr
        assert "a-wrong-key-77" not in wrong.stderr + wrong.stdout
    assert not (workspace / ".algo" / "store" / "bars").exists()


@pytest.mark.server
def test_wrong_names_are_named(workspace, bars):
    with served(Provider(bars)) as provider:
        for options, words in ((("--timeframe", "1h"), "'1m'"), (("--timeframe", "7m"), "'1m'")):
            done = sync(workspace, provider, "alpaca", *options)
            assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    done = sync(workspace, Provider({}, url="http://127.0.0.1:9"), "alpaca", "--timeframe", "1d")
    assert done.returncode == 3 and "cannot be reached" in done.stderr, done.stderr


@pytest.mark.server
@pytest.mark.parametrize("exchange", ["alpaca", "twelvedata"])
def test_splits_and_dividends_come_with_the_bars(workspace, bars, exchange):
    """One source of raw bars and actions gives all three; the raw ones stay, and a second time nothing changes."""
    actions = (
        ("AAPL", "2024-06-10", "split", 4.0),
        ("AAPL", "2024-06-20", "dividend", 0.5),
        ("AAPL", "2024-06-27", "split", 0.5),
    )
    shares = (
        pl.when(pl.col("ts").dt.date() < date(2024, 6, 10))
        .then(1.0)
        .when(pl.col("ts").dt.date() < date(2024, 6, 27))
        .then(4.0)
        .otherwise(2.0)
    )
    traded = {"AAPL": bars["AAPL"].with_columns(pl.col("open", "high", "low", "close") / shares)}
    with served(Provider(traded, actions=actions)) as provider:
        sync(workspace, provider, exchange, "--timeframe", "1d")

        def adjust(to):
            return algo(
                workspace, "data", "adjust", f"{exchange}/AAPL/1d", "--to", to, "--url", provider.url, code=None, **KEYS
            )

        for to in ("split", "total", "total"):
            done = adjust(to)
            assert done.returncode == 0 and "2 splits" in done.stdout, done.stderr + done.stdout
        assert adjust("totl").returncode == 2
        store = open_store(f"delta://{workspace}/.algo/store")
        store.write(replace(store.read(f"{exchange}/AAPL/1d"), id=DatasetId(exchange, "OTHER", "1d")))
        for id, words in (
            (f"{exchange}/OTHER/1d", "would be replaced"),
            (f"{exchange}/AAPL-total/1h", "cannot be the id"),
            ("arch/SP500/1d", "cannot be the id"),
        ):
            refused = algo(
                workspace,
                "data",
                "adjust",
                f"{exchange}/AAPL/1d",
                "--to",
                "total",
                "--url",
                provider.url,
                "--id",
                id,
                code=2,
                **KEYS,
            )
            assert words in refused.stderr
        (workspace / "others.csv").write_text("symbol,date,kind,value\naapl,2024-06-10,split,4\n")
        assert (
            "none of AAPL"
            in algo(workspace, "data", "adjust", f"{exchange}/AAPL/1d", "--actions", "others.csv", code=2).stderr
        )
    store.write(replace(store.read(f"{exchange}/AAPL/1d"), id=DatasetId("file", "AAPL", "1d")))
    (workspace / "twice.csv").write_text(
        "symbol,date,kind,value\nAAPL,2024-06-20,dividend,0.5\nAAPL,2024-06-20,dividend,0.5\n"
    )
    for options in (
        ["--actions", "twice.csv"],
        [],
    ):  # an ordinary and a special dividend of one day; the second time from what is kept
        assert "2 dividends" in algo(workspace, "data", "adjust", "file/AAPL/1d", *options).stdout
    store = open_store(f"delta://{workspace}/.algo/store")
    assert store.versions(f"{exchange}/AAPL-total/1d") == [0]
    raw, split, total = (store.read(f"{exchange}/AAPL{name}/1d") for name in ("", "-split", "-total"))
    assert (raw.adjustment, split.adjustment, total.adjustment) == ("raw", "split", "total")
    close = raw.bars.select(day=pl.col("ts").dt.date(), raw="close").with_columns(
        split=split.bars["close"], total=total.bars["close"]
    )
    before = close.filter(pl.col("day") < date(2024, 6, 10))
    assert (before["raw"] / before["split"]).to_list() == pytest.approx([4.0 * 0.5] * before.height)
    last = close.filter(pl.col("day") < date(2024, 6, 20))["raw"][-1]
    assert (before["split"] * (1 - 0.5 / last)).to_list() == pytest.approx(before["total"].to_list())
    assert (
        close.filter(pl.col("day") >= date(2024, 6, 27)).select("raw").to_series().to_list()
        == close.filter(pl.col("day") >= date(2024, 6, 27))["total"].to_list()
    )


def test_adjusting_without_actions_or_with_wrong_ones_is_refused(workspace):
    store = open_store(f"delta://{workspace}/.algo/store")
    store.write(make_market("noise", 0, bars=50, timeframe="1d"))
    command = ["data", "adjust", "synthetic/noise:0/1d"]
    done = algo(workspace, *command, code=2)
    assert "--actions FILE.csv" in done.stderr, done.stderr
    (workspace / "wrong.csv").write_text("symbol,date\nX,2020-01-01\n")
    done = algo(workspace, *command, "--actions", str(workspace / "wrong.csv"), code=2)
    assert "cannot be read as actions" in done.stderr, done.stderr
    assert [str(i) for i in store.datasets()] == ["synthetic/noise:0/1d"]


@pytest.mark.server
def test_one_listing_of_several(bars, keys):
    """Bars and actions are asked for at the exchange that the instrument is of; another one can be named."""
    asked = []

    class Listed(Provider):
        def twelve(self, path, question, *rest):
            if path == "/symbol_search":
                home = self._described("AAPL")
                return 200, {"data": [home, {**home, "mic_code": "XLON", "currency": "GBP"}], "status": "ok"}
            asked.append((path, question["symbol"], question["mic_code"]))
            return super().twelve(path, question, *rest)

    with served(Listed(bars, actions=(("AAPL", "2024-06-10", "split", 4.0),))) as provider:
        source = open_source("twelvedata", provider.url)
        names = ("aapl", "AAPL:XNGS", "aapl:xlon")  # named with the exchange that is meant anyway, it is the same share
        assert [(i.symbol, i.quote, i.calendar) for i in map(source.instrument, names)] == [
            ("AAPL", "USD", "XNYS"),
            ("AAPL", "USD", "XNYS"),
            ("AAPL:XLON", "GBP", "XLON"),
        ]
        for symbol in ("AAPL", "AAPL:XLON"):
            source.bars(symbol, "30m", datetime(2024, 6, 3, tzinfo=UTC), 10)
            assert source.actions(symbol, datetime(2024, 6, 1, tzinfo=UTC))["symbol"].to_list() == [symbol]
        assert asked == [
            (path, "AAPL", mic) for mic in ("XNGS", "XLON") for path in ("/time_series", "/splits", "/dividends")
        ]
        with pytest.raises(InputError, match="'AAPL:XLON'"):
            source.instrument("AAPL:XLOM")


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (429, RateLimited, "refuses requests"),
        (401, InputError, "ALGO_SECRET"),
        (503, RetryableError, "cannot answer now"),
        (200, RetryableError, "cannot be understood"),
    ],
)
@pytest.mark.parametrize("exchange", ["alpaca", "twelvedata"])
def test_a_page_instead_of_json(keys, exchange, status, error, told):
    """Of a proxy or a load balancer: what it means stands in its status."""
    import httpx

    source = open_source(exchange, "http://127.0.0.1:9")
    source._client = httpx.Client(
        base_url="http://127.0.0.1:9",
        transport=httpx.MockTransport(
            lambda request: httpx.Response(status, html="<html>", headers={"Retry-After": "77"})
        ),
    )
    with pytest.raises(error, match=told) as raised:
        source.instrument("AAPL")
    assert status != 429 or raised.value.wait == 77
