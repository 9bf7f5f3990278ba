"""Annual figures of buy and hold, beside what plain arithmetic on prices, dates and opening hours gives."""

import random
import statistics
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from math import prod, sqrt
from zoneinfo import ZoneInfo

import exchange_calendars
import polars as pl
import pytest
from support.files import walk

from algo_research.backtest.engine import backtest
from algo_research.backtest.ledger import TrialLedger
from algo_research.core.errors import DataError
from algo_research.data.market.bars import Dataset, DatasetId, bars_per_year, make_bars, require_calendar
from algo_research.data.market.instruments import Instrument
from algo_research.data.market.panel import make_panel
from algo_research.data.quality.score import QualitySettings
from algo_research.execution.costs import PercentageCosts
from algo_research.research.plan import make_plan
from algo_research.research.road import research
from algo_research.strategies.rules import BuyAndHold

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FREE = PercentageCosts(fees=0, slippage=0)
Stretch = tuple[datetime, datetime, int]  # trading begins, ends, and the year it counts to


def exchange_hours(name: str, first: int, last: int) -> list[Stretch]:
    calendar = exchange_calendars.get_calendar(name, start=f"{first}-01-01", end=f"{last}-12-31")
    times = [
        (row.open.to_pydatetime(), row.close.to_pydatetime(), day.year) for day, row in calendar.schedule.iterrows()
    ]
    return [(a.astimezone(UTC), b.astimezone(UTC), year) for a, b, year in times]


def currency_hours(first: int, last: int) -> list[Stretch]:
    def five_o_clock(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, 17, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)

    days = [date(first, 1, 1) + n * DAY for n in range((date(last, 12, 31) - date(first, 1, 1)).days + 1)]
    return [(five_o_clock(d - DAY), five_o_clock(d), d.year) for d in days if d.weekday() < 5]


def all_hours(first: int, last: int) -> list[Stretch]:
    return [(datetime(y, 1, 1, tzinfo=UTC), datetime(y + 1, 1, 1, tzinfo=UTC), y) for y in range(first, last + 1)]


def years_between(hours: list[Stretch], begin: datetime, end: datetime) -> float:
    total, seen = dict.fromkeys((y for *_, y in hours), timedelta(0)), 0.0
    for a, b, y in hours:
        total[y] += b - a
    for a, b, y in hours:
        seen += max(min(b, end) - max(a, begin), timedelta(0)) / total[y]
    return seen


@dataclass(frozen=True)
class Case:
    calendar: str
    timeframe: str
    hours: list[Stretch]
    opens: list[datetime]
    ends: list[datetime]


def cut(hours: list[Stretch], step: timedelta) -> tuple[list[datetime], list[datetime]]:
    bars = [(t, min(t + step, b)) for a, b, _ in hours for t in (a + n * step for n in range(-((a - b) // step)))]
    return [a for a, _ in bars], [b for _, b in bars]


def without(case: Case, share: float, seed: int) -> Case:
    rng = random.Random(seed)
    kept = [n for n in range(len(case.opens)) if rng.random() >= share]
    return Case(case.calendar, case.timeframe, case.hours, [case.opens[n] for n in kept], [case.ends[n] for n in kept])


def within(case: Case, first: datetime, last: datetime) -> Case:
    kept = [n for n, t in enumerate(case.opens) if first <= t <= last]
    return Case(case.calendar, case.timeframe, case.hours, [case.opens[n] for n in kept], [case.ends[n] for n in kept])


def days(calendar: str, hours: list[Stretch], sessions: list[Stretch]) -> Case:
    return Case(calendar, "1d", hours, [a for a, *_ in sessions], [b for _, b, _ in sessions])


def cases() -> dict[str, Case]:
    york, tokyo = exchange_hours("XNYS", 2020, 2022), exchange_hours("XTKS", 2020, 2022)
    week, always = currency_hours(2023, 2024), all_hours(2019, 2021)
    some, other = datetime(2020, 7, 7, tzinfo=UTC), datetime(2022, 3, 9, 18, tzinfo=UTC)
    early = Case("XNYS", "1h", york, *cut(york, HOUR))  # the last bar of a session has half an hour, or less
    crypto = Case("24/7", "1h", always, *cut(always, HOUR))
    currencies = Case("24/5", "15m", week, *cut(week, HOUR / 4))
    noon, winter = timedelta(hours=2.5), datetime(2023, 11, 9, 5, tzinfo=UTC)
    tokyo_noon = [part for a, b, y in tokyo for part in ((a, a + noon, y), (a + noon + HOUR, b, y))]
    return {
        "hourly shares, early closes": within(early, some, other),
        "hourly shares, a third is missing": without(within(early, some, other), 0.3, 1),
        "quarters of currencies": within(currencies, winter, winter + 84 * DAY),
        "days with holidays": days("XNYS", york, york[130:600]),
        "days of Tokyo, with its noon": days("XTKS", sorted(tokyo_noon), tokyo[9:500]),
        "crypto": within(crypto, some - 200 * DAY, some + 300 * DAY),
        "crypto, a tenth is missing": without(within(crypto, some - 200 * DAY, some + 300 * DAY), 0.1, 2),
        "crypto, half is missing": without(within(crypto, some - 200 * DAY, some + 300 * DAY), 0.5, 3),
    }  # fmt: skip


CASES = cases()


def stored(case: Case, seed: int = 5) -> Dataset:
    bars = walk(len(case.opens), seed)
    columns = dict(zip(("open", "high", "low", "close", "volume"), map(list, zip(*bars, strict=True)), strict=True))
    frame = pl.DataFrame({"symbol": "X", "ts": case.opens, **columns, "known_at": case.ends})
    kind = Instrument("X", "test", "spot", calendar=case.calendar)
    return Dataset(DatasetId("test", "X", case.timeframe), make_bars(frame, HOUR), kind)


def from_the_second(opens: list[float], closes: list[float]) -> list[float]:
    """Returns of what is bought at the second open: the first bar decides."""
    return [0.0, closes[1] / opens[1] - 1, *(b / a - 1 for a, b in pairwise(closes[1:]))]


def plain(case: Case, held: list[float]) -> dict[str, float]:
    """From returns, dates and opening hours, without a line of the package."""
    years = years_between(case.hours, case.opens[0], case.ends[-1])
    spread, rate = statistics.stdev(held), len(held) / years
    growth = prod(1 + r for r in held)
    return {
        "annual_return": growth ** (1 / years) - 1,
        "annual_volatility": spread * sqrt(rate),
        "sharpe": statistics.fmean(held) / spread * sqrt(rate),
    }


@pytest.mark.parametrize("engine", ["kernel", "vectorbt"])
@pytest.mark.parametrize("name", CASES)
def test_buy_and_hold_equals_plain_arithmetic(name, engine):
    dataset = stored(CASES[name])
    opens, closes = dataset.bars["open"].to_list(), dataset.bars["close"].to_list()
    held = from_the_second(opens, closes)
    targets = BuyAndHold().targets(dataset.bars)[0]
    found = backtest(dataset.bars, targets, FREE, dataset.periods_per_year, engine=engine).performance
    for metric, wanted in plain(CASES[name], held).items():
        assert getattr(found, metric) == pytest.approx(wanted, rel=1e-9, abs=1e-12), metric


@pytest.mark.parametrize("name", ["hourly shares, early closes", "crypto, half is missing"])
def test_a_run_of_research_has_the_years_of_what_it_tested(name):
    case = CASES[name]
    dataset = stored(case)
    free = "percentage(fees=0, slippage=0)"
    chosen = {"datasets": ["test/X/1h"], "strategy": "buy_and_hold", "compare": [], "reserve": 0, "engine": "kernel"}
    plan = make_plan(chosen | {"costs": free})
    found = research(dataset, plan, TrialLedger(), quality=QualitySettings(force=True), limits=None)
    first = dataset.bars["ts"].to_list().index(found.result.equity["ts"][0])
    assert first > 0  # some bars come before the test
    tested = within(case, case.opens[first], case.opens[-1])
    opens, closes = dataset.bars["open"].to_list()[first:], dataset.bars["close"].to_list()[first:]
    held = from_the_second(opens, closes)
    for metric, wanted in plain(tested, held).items():
        assert getattr(found.result.performance, metric) == pytest.approx(wanted, rel=1e-9), metric
    years = years_between(case.hours, tested.opens[0], tested.ends[-1])
    assert found.verdict.evidence.years == pytest.approx(years, rel=1e-9)


@pytest.mark.parametrize("calendar", ["24/7", "24/5", "XNYS", "XTKS"])
def test_missing_bars_change_no_year(calendar):
    case = next(case for case in CASES.values() if case.calendar == calendar)
    dataset, rng = stored(case), random.Random(9)
    inner = [n == 0 or n == len(case.opens) - 1 or rng.random() < 0.5 for n in range(len(case.opens))]
    fewer = dataset.bars.filter(pl.Series(inner))
    rate = Dataset(dataset.id, fewer, dataset.instrument).periods_per_year
    assert fewer.height / rate == pytest.approx(dataset.bars.height / dataset.periods_per_year, rel=1e-9)


@pytest.mark.parametrize(("calendar", "timeframe"), [("XNYS", "1h"), ("XNYS", "1d"), ("24/5", "1h"), ("XTKS", "15m")])
def test_annual_figures_are_refused_where_bars_and_calendar_disagree(calendar, timeframe):
    step = {"1h": HOUR, "1d": DAY, "15m": HOUR / 4}[timeframe]
    opens = [datetime(2023, 3, 1, tzinfo=UTC) + n * step for n in range(900)]
    always = Case("24/7", timeframe, [], opens, [t + step for t in opens])
    dataset = stored(always)
    assert dataset.periods_per_year > 0
    wrong = Dataset(dataset.id, dataset.bars, Instrument("X", "test", "spot", calendar=calendar))
    with pytest.raises(DataError, match=f"lie where {calendar} is closed.*no annual figure.*--calendar"):
        _ = wrong.periods_per_year


def test_shares_that_were_stored_around_the_clock_have_the_years_they_took():
    case = CASES["hourly shares, early closes"]
    right, wrong = stored(case), stored(Case("24/7", "1h", [], case.opens, case.ends))
    assert right.periods_per_year == pytest.approx(wrong.periods_per_year, rel=0.005)  # not 8,766


def test_years_by_the_clock_where_a_calendar_begins_within_them():
    case = Case("XTKS", "1d", [], *zip(*((datetime(y, m, 3, tzinfo=UTC), datetime(y, m, 3, 6, tzinfo=UTC))
                                         for y in range(1950, 1960) for m in range(1, 13)), strict=True))  # fmt: skip
    span = case.opens[-1] + DAY - case.opens[0]
    assert stored(case).periods_per_year == pytest.approx(120 / (span / timedelta(days=365.25)), rel=1e-3)


def test_markets_of_a_panel_keep_their_own_calendars():
    """Bars that are outside of one exchange's sessions are inside of another's."""
    parts = []
    for name, calendar in (("Y", "XNYS"), ("S", "XASX")):
        sessions = exchange_hours(calendar, 2021, 2022)
        one = stored(days(calendar, sessions, sessions))
        kind = Instrument(name, "test", "equity", calendar=calendar)
        bars = one.bars.with_columns(symbol=pl.lit(name))
        parts.append(Dataset(DatasetId("test", name, "1d"), bars, kind))
    panel = make_panel(parts)
    assert panel.bars["ts"].n_unique() / panel.periods_per_year == pytest.approx(2, rel=0.005)


def test_a_few_bars_beside_the_sessions_stop_no_run_and_no_page():
    """Fewer than 2% of all bars, though more of those that are tested, or shown."""
    case = CASES["hourly shares, early closes"]
    last = [b + 2 * HOUR for _, b, _ in case.hours if b < case.ends[-1]][-40:]
    opens, ends = zip(
        *sorted(zip([*case.opens, *last], [*case.ends, *(t + HOUR for t in last)], strict=True)), strict=True
    )
    dataset = stored(Case(case.calendar, "1h", case.hours, list(opens), list(ends)))
    assert dataset.periods_per_year > 0
    shown = dataset.bars["ts"][-200:]
    assert bars_per_year(shown, "XNYS", "1h") > 0
    with pytest.raises(DataError, match="XNYS is closed"):
        require_calendar(shown, "XNYS", "1h")
    plan = make_plan(
        {"datasets": ["test/X/1h"], "strategy": "buy_and_hold", "compare": [], "reserve": 0, "engine": "kernel"}
    )
    found = research(dataset, plan, TrialLedger(), quality=QualitySettings(force=True), limits=None)
    assert found.result.periods_per_year > 0


def test_years_do_not_jump_where_a_calendar_ends():
    """Exchanges whose sessions are known to the end of a year, and not beyond it."""
    hours = exchange_hours("XSHG", 2025, 2025)
    rates = [
        stored(days("XSHG", hours, hours[:n])).periods_per_year for n in (len(hours) - 2, len(hours) - 1, len(hours))
    ]
    assert rates == pytest.approx([len(hours)] * 3, rel=1e-9)
