"""Funding rates and open interest from a faulty exchange: what is stored is what it has, and no bar sees the future."""

import json
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from algo_research.core.clock import SimulatedClock
from algo_research.core.errors import FatalError, InputError, RetryableError
from algo_research.data.intake.perpetuals import (
    PerpetualExchange,
    PerpetualStore,
    make_rows,
    missing_rows,
    sync_perpetual,
    with_funding,
    with_interest,
)
from algo_research.data.market.bars import make_bars
from algo_research.data.samples.synthetic import make_market
from algo_research.sandbox import futures
from algo_research.sandbox.exchange import Exchange, MarketTime, running
from algo_research.sandbox.faults import Faults
from algo_research.sandbox.market import symbols_of

BEGIN = datetime(2015, 1, 1, tzinfo=UTC)
NAME = "GARCH1-USDT:USDT"


def served(bars=12_000, timeframe="1h", faults=None):
    market = make_market("garch", seed=1, bars=bars, timeframe=timeframe, volatility=0.01)
    return Exchange(
        symbols_of([market]),
        MarketTime(market.bars["known_at"][-1] + timedelta(seconds=30), speed=0),
        faults or Faults(),
    )


def keep(exchange, folder, kind, clock=None, **options):
    return sync_perpetual(
        PerpetualExchange("sandbox", exchange.url),
        PerpetualStore(folder),
        NAME,
        kind,
        clock or SimulatedClock(datetime(2030, 1, 1, tzinfo=UTC)),
        **options,
    )


def truth(exchange):
    times, rates, _ = futures.funding(exchange.symbols["GARCH1USDT"], exchange.time.now())
    return list(zip(times.tolist(), rates.tolist(), strict=True))


def stored(folder, kind="funding"):
    rows = PerpetualStore(folder).read(kind, "sandbox", NAME)
    return list(rows.select(pl.col("ts").dt.epoch("ms"), "rate" if kind == "funding" else "contracts").iter_rows())


FAULTS = {
    "missing": 0.2,
    "late": 0.1,
    "duplicate": 0.1,
    "shuffled": 0.1,
    "server_error": 0.1,
    "garbled": 0.05,
    "drop": 0.05,
    "skew": 0.0,
}


@pytest.mark.server
@pytest.mark.parametrize("seed", range(5))
def test_a_storm_leaves_the_exchanges_own_rates(seed, tmp_path):
    exchange = served(faults=Faults(FAULTS, seed))
    with running(exchange):
        symbol, end = exchange.symbols["GARCH1USDT"], exchange.time.now()
        assert keep(exchange, tmp_path, "funding", since=BEGIN).holes == ()
        for _ in range(3):  # the newest may be late
            done = keep(exchange, tmp_path, "funding")
        assert sum(exchange.faults.counts.values()) > 3
        assert done.holes == () and stored(tmp_path) == truth(exchange)
        exchange.faults.rates = {}
        assert keep(exchange, tmp_path, "funding").new == 0
        exchange.time.advance(24 * 3600)
        later, _, _ = futures.funding(symbol, exchange.time.now())
        assert keep(exchange, tmp_path, "funding").new == sum(t > end for t in later.tolist()) == 3
        assert stored(tmp_path) == truth(exchange)


@pytest.mark.server
@pytest.mark.parametrize("period", ["5m", "1h"])
def test_open_interest_is_whole_as_far_back_as_it_is_told(period, tmp_path):
    exchange = served(12_000, "5m")
    with running(exchange):
        step = timedelta(minutes=5 if period == "5m" else 60)
        since = datetime.fromtimestamp(exchange.time.now() // 3_600_000 * 3600, UTC) - timedelta(
            days=25
        )  # on the grid: the row a page ends at is one too many
        done = keep(exchange, tmp_path, "interest", since=since, period=period)
        assert not done.cut and done.new == len(stored(tmp_path, "interest")) and done.holes == ()
        times = PerpetualStore(tmp_path).read("interest", "sandbox", NAME)["ts"]
        assert (
            times[0] == since
            and (times.diff().drop_nulls() == step).all()
            and times[-1] > times[0] + timedelta(days=24, hours=23)
        )
        older = keep(exchange, tmp_path, "interest", since=BEGIN, period=period)
        assert older.cut and older.new > 0 and "nothing is told from before" in str(older)
        begin = exchange.time.now() - 31 * 86_400_000
        url = f"{exchange.url}/futures/data/openInterestHist?symbol=GARCH1USDT&period=1h&startTime={begin}"
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            urllib.request.urlopen(url, timeout=10)
        assert json.load(refused.value)["code"] == -1130


@pytest.mark.server
def test_interrupted_anywhere_the_next_sync_makes_it_whole(tmp_path):
    exchange = served(faults=Faults({"server_error": 0.0}, 0))
    with running(exchange):
        source, store, clock = (
            PerpetualExchange("sandbox", exchange.url),
            PerpetualStore(tmp_path),
            SimulatedClock(datetime(2030, 1, 1, tzinfo=UTC)),
        )
        ask, asked = source.rows, []

        def broken(*arguments):
            asked.append(arguments)
            if len(asked) == 2:
                raise FatalError("the line is cut")
            return ask(*arguments)

        source.rows = broken
        with pytest.raises(FatalError):
            sync_perpetual(source, store, NAME, "funding", clock, since=BEGIN)
        assert store.kept() == []
        assert sync_perpetual(source, store, NAME, "funding", clock, since=BEGIN).new == len(truth(exchange))
        kept = store.read("funding", "sandbox", NAME)
        for cut in (slice(0, 1), slice(400, 410), slice(0, 700)):  # what is not there is fetched, where ever it is
            other = PerpetualStore(tmp_path / f"{cut.start}-{cut.stop}")
            other.write("funding", "sandbox", NAME, pl.concat([kept[: cut.start], kept[cut.stop :]]))
            assert sync_perpetual(source, other, NAME, "funding", clock, since=BEGIN).new == cut.stop - cut.start
            assert other.read("funding", "sandbox", NAME).equals(kept)


@pytest.mark.server
def test_two_values_for_one_time_are_asked_for_again_and_nothing_of_the_future_is_stored(tmp_path):
    exchange = served(200)
    with running(exchange):
        source, store = PerpetualExchange("sandbox", exchange.url), PerpetualStore(tmp_path)
        ask, asked = source.rows, []

        def doubtful(*arguments):
            page = ask(*arguments)
            asked.append(page)
            return pl.concat([page, page[:1].with_columns(rate=0.5)]) if len(asked) == 1 else page

        source.rows = doubtful
        clock = SimulatedClock(BEGIN + timedelta(days=3, hours=1))  # ours is behind
        done = sync_perpetual(source, store, NAME, "funding", clock, since=BEGIN)
        rows = store.read("funding", "sandbox", NAME)
        assert done.new == 10 and rows["ts"][-1] <= clock.now() and (rows["rate"] < 0.5).all()
        source.rows = lambda *a: pl.concat([ask(*a), ask(*a)[:1].with_columns(rate=0.5)])
        with pytest.raises(RetryableError, match="Two different values"):
            sync_perpetual(source, PerpetualStore(tmp_path / "new"), NAME, "funding", clock, since=BEGIN)


@pytest.mark.server
def test_a_corrected_newest_row_is_revised(tmp_path):
    exchange = served(200)
    with running(exchange):
        keep(exchange, tmp_path, "funding", since=BEGIN)
        store = PerpetualStore(tmp_path)
        rows = store.read("funding", "sandbox", NAME)
        store.write("funding", "sandbox", NAME, rows[-1:].with_columns(rate=0.0123))
        done = keep(exchange, tmp_path, "funding")
        assert (done.new, done.revised) == (0, 1) and store.read("funding", "sandbox", NAME).equals(rows)


@pytest.mark.server
def test_only_perpetuals_of_an_exchange_that_tells(tmp_path):
    exchange = served(200)
    with running(exchange):
        with pytest.raises(InputError, match="Did you mean 'GARCH1-USDT:USDT'"):
            PerpetualExchange("sandbox", exchange.url).name("GARCH1-USDT", "funding")
        with pytest.raises(InputError, match="not stored yet"):
            keep(exchange, tmp_path, "funding")
        with pytest.raises(InputError, match="Begin earlier"):
            keep(exchange, tmp_path, "funding", since=datetime(2029, 1, 1, tzinfo=UTC))
    with pytest.raises(InputError, match="algo sandbox"):
        PerpetualExchange("sandbox")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_bars_of_a_perpetual_are_those_of_its_market():
    exchange = served(200)
    with running(exchange):
        source = PerpetualExchange("sandbox", exchange.url).bars
        assert source.instrument("GARCH1/USDT:USDT").kind == "perpetual"
        page = source.bars(NAME, "1h", BEGIN, 50)
    assert (
        page["close"].to_list() == make_market("garch", seed=1, bars=200, volatility=0.01).bars["close"][:50].to_list()
    )


def hours(h):
    return BEGIN + timedelta(hours=h)


moments = st.lists(st.integers(0, 60 * 200), min_size=1, max_size=40, unique=True).map(sorted)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(moments, st.lists(st.integers(0, 600), min_size=40, max_size=40), st.integers(1, 200))
@example(
    [*range(4), *range(113, 119), 234, *range(241, 251)], [0, 0, 0, 0, 121, *[0] * 35], 1
)  # two known at the same minute
def test_no_future_rate_ever_shows(minutes, delays, cut):
    """Against a plain loop; and bars up to a moment do not change when later rows are taken away or forged."""
    rows = pl.DataFrame(
        {
            "symbol": "P",
            "ts": [BEGIN + timedelta(minutes=m) for m in minutes],
            "rate": [(i % 7 - 3) / 1000 for i in range(len(minutes))],
        }
    )
    rows = rows.with_columns(known_at=pl.col("ts") + pl.Series([timedelta(minutes=d) for d in delays[: len(minutes)]]))
    funding = make_rows("funding", rows)
    price = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    bars = make_bars(
        pl.DataFrame({"symbol": "P", "ts": [hours(h) for h in range(200)]}).with_columns(
            **{k: pl.lit(v) for k, v in price.items()}
        ),
        timedelta(hours=1),
    )
    full = with_funding(bars, funding, oldest=timedelta(hours=30))
    known = funding.sort("known_at", "ts").rows(named=True)
    before = bars["ts"][0]
    for bar in full.iter_rows(named=True):
        last = [r for r in known if r["known_at"] <= bar["known_at"]]
        fresh = last and bar["known_at"] - last[-1]["known_at"] <= timedelta(hours=30)
        assert bar["funding_rate"] == (last[-1]["rate"] if fresh else None)
        paid = sum(r["rate"] for r in last if r["known_at"] > before)
        assert (bar["funding_paid"] is None and not last) or abs(bar["funding_paid"] - paid) < 1e-12
        before = bar["known_at"]
    now = bars["known_at"][cut - 1]
    forged = funding.with_columns(rate=pl.when(pl.col("known_at") > now).then(0.9).otherwise("rate"))
    assert with_funding(bars, forged, oldest=timedelta(hours=30))[:cut].equals(full[:cut])


def test_open_interest_is_known_when_it_was_counted():
    interest = make_rows(
        "interest",
        pl.DataFrame(
            {"symbol": "P", "ts": [hours(1), hours(3)], "contracts": [5.0, 7.0], "value": [None, 700.0]},
            schema_overrides={"value": pl.Float64},
        ),
    )
    bars = make_bars(
        pl.DataFrame({"symbol": "P", "ts": [hours(h) for h in range(30)]}).with_columns(
            **{k: pl.lit(1.0) for k in ("open", "high", "low", "close")}
        ),
        timedelta(hours=1),
    )
    joined = with_interest(bars, interest)
    assert joined["open_interest"].to_list() == [5.0, 5.0, *[7.0] * 25, None, None, None]
    assert joined["open_interest_value"].to_list()[:3] == [None, None, 700.0]
    assert joined.drop("open_interest", "open_interest_value").equals(bars)
    with pytest.raises(InputError, match="no rows for P"):
        with_interest(bars, interest.with_columns(symbol=pl.lit("Q")))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 4, 8]), st.sampled_from([1, 4, 8]), st.integers(9, 20), st.integers(9, 20), st.data())
def test_a_changed_interval_is_no_hole_and_a_missing_row_is(first, then, n, m, data):
    """Where the interval has just changed, or history begins, the median of five cannot know."""
    steps = [first] * n + [then] * m
    times = pl.Series([hours(sum(steps[:i])) + timedelta(milliseconds=i % 9) for i in range(len(steps) + 1)])
    assert missing_rows(times) == []
    gone = data.draw(st.one_of(st.integers(4, n - 4), st.integers(n + 4, n + m - 4)))
    assert [a for a, _ in missing_rows(times.filter(pl.Series([i != gone for i in range(len(times))])))] == [
        times[gone - 1]
    ]


def test_the_sandbox_never_tells_the_future_nor_takes_back_what_it_told():
    symbol = served(2000).symbols["GARCH1USDT"]
    hour, last = 3_600_000, int(symbol.times[-1]) + symbol.step
    begin, every = int(symbol.times[0]), futures.funding(symbol, last)
    for now in [begin + 30 * 24 * hour + offset for offset in (-1, 0, 3, 8, hour)]:
        part = futures.funding(symbol, now)
        assert part[0][-1] <= now and all((a == b[: len(a)]).all() for a, b in zip(part, every, strict=True))
        past = symbol.times + symbol.step <= now
        cut = type(symbol)(**{**vars(symbol), "times": symbol.times[past], "values": symbol.values[past]})
        assert (futures.funding(cut, now)[1] == part[1]).all()  # made of bars that were over
        moments = part[0][3:]
        assert all(
            (a == b).all()
            for a, b in zip(futures.interest(cut, moments), futures.interest(symbol, moments), strict=True)
        )


def test_two_who_revise_at_once_and_a_full_disk(tmp_path):
    """Neither loses what the other wrote; what cannot be written is an error of ours."""
    store, times = PerpetualStore(tmp_path), [BEGIN + timedelta(hours=8 * i) for i in range(200)]
    rows = make_rows("funding", pl.DataFrame({"symbol": NAME, "ts": times, "rate": 0.0001}))
    store.write("funding", "x", NAME, rows)

    def revise(part):
        for i in range(part, 200, 50):
            store.write("funding", "x", NAME, rows[i : i + 1].with_columns(rate=pl.lit(0.0002)))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(revise, (0, 25)))
    kept = store.read("funding", "x", NAME)
    assert kept.height == 200 and (kept["rate"] == 0.0002).sum() == 8
    shutil.rmtree(tmp_path / "funding" / "x" / NAME / "_delta_log")
    (tmp_path / "funding" / "x" / NAME / "_delta_log").write_text("in the way")
    with pytest.raises(FatalError, match="written before is whole"):
        store.write("funding", "x", NAME, rows)
