"""Splits and redenominations that are still in the prices are found, and crashes of the same size are left alone."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from support.genuine import Nature, make_genuine, months_of
from support.levels import QUIET, Planted, plant_break, plant_crash, scaled
from support.plans import bare_research, kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.errors import AlgoError, DataError
from algo_research.data.intake.importing import import_file
from algo_research.data.market.bars import PRICES, resample_bars
from algo_research.data.market.equities import adjust_bars
from algo_research.data.quality.levels import RATIOS, break_actions, break_evidence, level_breaks
from algo_research.data.quality.repairs import propose_repairs
from algo_research.data.quality.rules import check_bars
from algo_research.data.quality.score import QualitySettings, forced_note, quality_score, require_quality
from algo_research.data.samples.bundled import load_index, load_stocks
from algo_research.data.samples.synthetic import make_market

N = pl.int_range(pl.len())
LEVELS = ("split not adjusted", "adjusted prices break", "split or crash", "adjusted, split or crash")


def planted(seed: int) -> Planted:
    """A break, then a crash, in turns."""
    return plant_crash(seed // 2) if seed % 2 else plant_break(seed // 2)


def outcome(market: Planted) -> tuple[str, bool]:
    """What is said of it (sure, doubtful, nothing), and whether that is wrong."""
    breaks = level_breaks(market.dataset)
    here = breaks.filter(pl.col("ts") == market.ts)
    said = here["verdict"][0] if here.height else "nothing"
    if not market.broken:
        return said, bool((breaks["verdict"] == "sure").any())
    ratios = here.filter(pl.col("alone"))["ratio"]
    sure_elsewhere = breaks.filter(pl.col("ts") != market.ts, pl.col("verdict") == "sure").height > 0
    return said, said == "nothing" or sure_elsewhere or bool(((ratios / market.ratio).log().abs() > 1e-6).any())


def confusion(seeds: range) -> tuple[Counter, list]:
    """What is planted by what is said; the seeds that went wrong."""
    table, wrong = Counter(), []
    for seed in seeds:
        market = planted(seed)
        said, bad = outcome(market)
        table[market.what, "volume" if market.known else "no volume", said] += 1
        wrong += [(seed, market.what, market.ratio, said)] if bad else []
    return table, wrong


def show(table: Counter) -> None:
    for (what, known, said), count in sorted(table.items()):
        print(f"{what:16} {known:10} {said:9} {count:4}")


def test_planted_breaks_are_found_and_crashes_left_alone():
    """In bars of days, hours and five minutes, of 10% to 150% a year, with and without volume and sessions."""
    table, wrong = confusion(range(200))
    show(table)
    assert len(wrong) <= 2, wrong
    sure = sum(
        n for (what, _, said), n in table.items() if what in ("split", "redenomination", "quote") and said == "sure"
    )
    assert sure >= 90  # of 100; the rest are said to be doubtful
    assert all(said == "sure" for (what, _, said) in table if what in ("redenomination", "quote"))


@pytest.mark.long
def test_planted_breaks_in_a_thousand_markets():
    table, wrong = confusion(range(200, 1200))
    show(table)
    assert len(wrong) <= 20, wrong


def test_a_gap_with_nothing_to_it_is_not_called_sure_where_volume_tells():
    """No more volume, and no fewer shares, at a ratio of four and more: nobody knows; without volume it is a split."""
    said = Counter()
    for seed in range(40):
        market = plant_crash(seed, QUIET)
        if market.known and max(market.ratio, 1 / market.ratio) >= 4:
            said[outcome(market)[0]] += 1
    assert said["sure"] <= 0.1 * said.total() and said.total() >= 10, said


def test_what_is_clean_has_no_break():
    for kind in ("noise", "drift", "garch", "planted"):
        for seed in range(6):
            for timeframe in ("1h", "1d"):
                assert level_breaks(make_market(kind, seed, bars=2000, timeframe=timeframe)).height == 0
    for dataset in (load_index("SP500"), load_index("NASDAQ")):
        assert level_breaks(dataset).height == 0
    doubtful = level_breaks(load_stocks())  # Apple halved on 2000-09-29, on a warning: in truth no split
    assert set(doubtful["verdict"]) == {"doubtful"} and doubtful.height <= 3


def test_real_files_have_no_break(shared_data):
    for file, options in (
        ("dj30_1d_valid.csv.gz", {"calendar": "XNYS", "kind": "equity"}),
        ("btc_usd_1h_2018_2022.csv.gz", {}),
        ("eth_btc_5m.feather", {}),
    ):
        assert level_breaks(import_file(shared_data / file, **options).dataset).height == 0


# What is said of it, and what research does.


def split_market(ratio: float = 4.0, at: int = 900, bars: int = 1500, **more):
    market = make_market("garch", 3, bars=bars, **more)
    return replace(scaled(market, at <= N, ratio, ratio), version=0)


def test_the_finding_names_symbol_date_and_ratio():
    market = split_market()
    finding = check_bars(market).filter(pl.col("finding").is_in(LEVELS)).row(0, named=True)
    assert finding["finding"] == "split not adjusted" and finding["symbol"] == "garch:3" and finding["bars"] == 1
    assert finding["first"] == market.bars["ts"][900] and finding["evidence"].startswith("4:1 split; close ")
    assert "volumes 3." in finding["evidence"] or "volumes 4" in finding["evidence"]


def test_research_refuses_and_says_the_command_unless_forced():
    market = split_market()
    for minimum in (0.8, 0.01):  # one is enough, whatever share of good bars is asked for
        with pytest.raises(DataError, match=r"4:1 split.*algo data adjust synthetic/garch:3/1h --from-finding") as told:
            require_quality(market, QualitySettings(minimum=minimum))
        assert str(market.bars["ts"][900].date()) in str(told.value)
    findings = require_quality(market, QualitySettings(force=True))
    assert "in quarantine" in forced_note(findings, market.bars, QualitySettings(force=True))


def test_adjusted_prices_that_break_are_told_in_other_words():
    market = replace(split_market(), adjustment="split")
    findings = check_bars(market)
    assert findings["finding"].to_list() == ["adjusted prices break"]
    assert findings["evidence"][0].endswith("the prices are said to be adjusted")
    assert quality_score(findings, market.bars) == 0.0


def test_what_is_doubtful_costs_nothing_and_is_told():
    market = make_market("noise", 3, bars=1500)
    quiet = scaled(market, N >= 900, 2.0, 1.0)
    findings = check_bars(quiet)
    assert findings["finding"].to_list() == ["split or crash"] and quality_score(findings, quiet.bars) == 1.0
    assert findings["evidence"][0].startswith("2:1 split, or a fall of 50%: look; close ")
    require_quality(quiet, QualitySettings(minimum=0.99))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_break_at_the_end_is_doubtful(after):
    """It may be taken back tomorrow, as a bad tick is."""
    young = split_market(at=1500 - after)
    assert level_breaks(young)["verdict"].to_list() == ["doubtful"]
    assert level_breaks(split_market(at=1496))["verdict"].to_list() == ["sure"]


@pytest.mark.parametrize("bars", [1, 2, 3])
def test_what_comes_back_is_none(bars):
    market = make_market("garch", 3, bars=1500)
    back = replace(
        market,
        bars=market.bars.with_columns(
            pl.col(p) / pl.when(N.is_between(900, 899 + bars)).then(4.0).otherwise(1.0) for p in PRICES
        ),
    )
    assert level_breaks(back).height == 0
    assert check_bars(back).filter(finding="price spike")["bars"].sum() == bars


def test_a_unit_that_changes_for_a_while_breaks_twice():
    """Pence for pounds, for two hundred bars."""
    market = make_market("garch", 3, bars=1500)
    pence = replace(
        market,
        bars=market.bars.with_columns(
            pl.col(p) * pl.when(N.is_between(700, 899)).then(100.0).otherwise(1.0) for p in PRICES
        ),
    )
    found = level_breaks(pence)
    assert found.select("name", "kind", "verdict").rows() == [
        ("1:100", "redenomination", "sure"),
        ("100:1", "redenomination", "sure"),
    ]
    mended = adjust_bars(pence, break_actions(found), "split")
    np.testing.assert_allclose(mended.bars["close"], market.bars["close"], rtol=1e-9)
    assert mended.bars["volume"].equals(market.bars["volume"])


def test_all_symbols_at_once_are_the_currency():
    """Ten old ones for a new one: alone it would be doubtful, for no shares were multiplied."""
    market = make_market("noise", 3, bars=1500)
    one, other = (scaled(make_market("noise", seed, bars=1500), N >= 900, 10.0, 1.0).bars for seed in (3, 4))
    both = replace(market, bars=pl.concat([one, other]).sort("symbol", "ts"))
    assert level_breaks(both).select("kind", "verdict", "together").rows() == [("redenomination", "sure", True)] * 2
    alone = replace(market, bars=pl.concat([one, make_market("noise", 4, bars=1500).bars]).sort("symbol", "ts"))
    assert level_breaks(alone).select("symbol", "verdict").rows() == [("noise:3", "doubtful")]


def test_a_break_proposes_no_repair_of_something_else():
    """A token of 0.05 that is worth 50 afterwards has a thousandth of the volume, which is no swap of columns."""
    for seed in range(15):
        market = plant_break(seed)
        assert propose_repairs(market.dataset).height == 0, (seed, market.what)
    dear = split_market(1e-3)
    assert set(check_bars(dear)["finding"]) == {"split not adjusted"}


def test_it_can_be_taken_out():
    for seed in range(20):
        market = plant_break(seed)
        found = level_breaks(market.dataset)
        if not (found["verdict"] == "sure").any() or not found["alone"].all():
            continue
        mended = adjust_bars(market.dataset, break_actions(found), "split")
        assert not (level_breaks(mended)["verdict"] == "sure").any(), seed
        moves = mended.bars.select((pl.col("open") / pl.col("close").shift()).log().abs().over("symbol").max()).item()
        assert moves < 0.7, (seed, market.what, moves)


def test_weeks_are_adjusted_where_a_week_begins_with_it():
    market = split_market(bars=3000, at=24 * 7 * 10 + 4 * 24, timeframe="1h")  # 2015-01-01 is a Thursday
    weeks = replace(market, id=market.id._replace(timeframe="1w"), bars=resample_bars(market.bars, "1h", "1w"))
    action = break_actions(level_breaks(market))
    assert action["ex"][0].weekday() == 0
    assert adjust_bars(weeks, action, "split").adjustment == "split"
    with pytest.raises(AlgoError, match="Adjust the bars of days, and resample"):
        adjust_bars(weeks, action.with_columns(pl.col("ex") + timedelta(hours=5)), "split")


@pytest.mark.parametrize("timeframe", ["1w", "31d"])
def test_a_split_within_a_week_or_a_month_is_doubtful_and_a_redenomination_sure(timeframe):
    """A week's own move hides the ratio; three zeros it does not hide. Neither can be taken out of these bars."""
    days = make_genuine(4, Nature("1d", bars=1500, volatility=0.2, news=0, halts=0))
    for ratio, shares, verdict in ((4.0, 4.0, "doubtful"), (1000.0, 1.0, "sure")):
        market = scaled(days, N >= 802, ratio, shares)
        bars = resample_bars(market.bars, "1d", "1w") if timeframe == "1w" else months_of(market.bars)
        coarse = replace(market, id=market.id._replace(timeframe=timeframe), bars=bars)
        assert level_breaks(replace(coarse, bars=months_of(days.bars))).height == 0
        found = level_breaks(coarse).row(0, named=True)
        assert (found["verdict"], found["within"]) == (verdict, True)
        assert abs(np.log(found["ratio"] / ratio)) < 0.4 and "of one bar" in break_evidence(found)
        assert bars.filter(ts=found["ts"])["known_at"][0] > market.bars["ts"][802] > found["ts"]
        if verdict == "sure":
            with pytest.raises(AlgoError, match="Adjust the bars of days, and resample the result"):
                break_actions(level_breaks(coarse))


def test_every_ratio_is_named_once_and_both_ways():
    names = set(RATIOS["name"])
    assert RATIOS["name"].n_unique() == RATIOS.height == RATIOS["log"].n_unique()
    for ratio in (*range(2, 21), 25, 50, 100, 1000, 10_000):
        assert {f"{ratio:,}:1", f"1:{ratio:,}"} <= names


# Opens that are none.


def sessions_of(seed: int):
    return make_genuine(seed, Nature("1d", "XNYS", bars=900, halts=0))


@pytest.mark.parametrize("seed", range(6))
def test_opens_that_repeat_the_close_are_found_with_share_and_dates(seed):
    market = sessions_of(seed)
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, 300))
    last = first + int(rng.integers(100, 500))
    lazy = pl.Series(rng.random(market.bars.height) < 0.97)
    opens = pl.when(lazy & N.is_between(max(first, 1), last)).then(pl.col("close").shift()).otherwise("open")
    bars = market.bars.with_columns(open=opens).with_columns(
        high=pl.max_horizontal("open", "high"), low=pl.min_horizontal("open", "low")
    )
    planted = replace(market, bars=bars)
    finding = check_bars(planted, rules=("open repeats the close",)).row(0, named=True)
    assert abs(finding["bars"] - 0.97 * (last - first)) < 0.05 * (last - first) + 3
    assert abs((finding["first"] - market.bars["ts"][max(first, 1)]).days) <= 6
    assert abs((finding["last"] - market.bars["ts"][last]).days) <= 6
    assert "repeat the close before: a fill at such an open is fiction" in finding["evidence"]
    assert quality_score(check_bars(planted), planted.bars) > 0.97


def test_opens_of_markets_that_never_close_and_of_real_sessions_are_opens():
    for seed in range(4):
        assert check_bars(sessions_of(seed), rules=("open repeats the close",)).height == 0
        assert check_bars(make_market("noise", seed, bars=2000), rules=("open repeats the close",)).height == 0
    said = check_bars(load_index("SP500"), rules=("open repeats the close",))
    assert said["evidence"][0].startswith("97% of the opens from 1999-01-05 to 2006-05-09 repeat the close before")
    assert quality_score(check_bars(load_index("SP500")), load_index("SP500").bars) > 0.99


# Where results say it.


def test_every_result_says_what_its_bars_are():
    """A split that was forced, and opens that are none; a clean market has no such note, and no score is lost."""
    split, clean = split_market(), make_market("garch", 3, bars=1500)
    plan, forced = kernel_plan(reserve=0), QualitySettings(force=True)
    with pytest.raises(DataError, match="--from-finding"):
        bare_research(split, plan, TrialLedger())
    said = bare_research(split, plan, TrialLedger(), quality=forced).notes
    assert any(note.startswith("split not adjusted: garch:3, 2015-02-07: 4:1 split; close ") for note in said)
    assert any("the bars are in quarantine" in note for note in said)
    assert not any("split" in note or "repeats" in note for note in bare_research(clean, plan, TrialLedger()).notes)
    index = bare_research(load_index("SP500"), plan, TrialLedger())
    assert any("97% of the opens from 1999-01-05 to 2006-05-09 repeat the close before" in n for n in index.notes)
