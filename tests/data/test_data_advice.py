"""What a page advises is possible, and leaves a better dataset; no two pages say different things."""

import re
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache

import numpy as np
import polars as pl
import pytest
from support.command import algo
from support.genuine import NATURES, Nature, make_genuine
from support.genuine import genuine_corpus as made_corpus
from support.levels import scaled

from algo_research.core.errors import DataError
from algo_research.dashboards.data_quality import assess, quality_view
from algo_research.data.market.bars import PRICES, Dataset, DatasetId, resample_bars
from algo_research.data.quality.levels import level_breaks
from algo_research.data.quality.repairs import REPAIRS, apply_repairs, propose_repairs
from algo_research.data.quality.rules import REPAIR, RULES, check_bars
from algo_research.data.quality.score import QualitySettings, quality_remedies, quality_score, require_quality
from algo_research.data.samples.synthetic import make_market
from algo_research.data.stores.base import open_store

N = pl.int_range(pl.len())
genuine_corpus = lru_cache(made_corpus)
TYPICAL = (pl.col("high") + pl.col("low") + pl.col("close")) / 3
ID = DatasetId("mine", "AAA", "1d")


def inside(first: int, count: int, **columns: pl.Expr) -> list[pl.Expr]:
    here = N.is_between(first, first + count - 1)
    return [pl.when(here).then(edited).otherwise(name).alias(name) for name, edited in columns.items()]


DAMAGES = {
    "price spike": lambda b: b.with_columns(inside(300, 2, **{p: pl.col(p) * 2 for p in PRICES})),
    "price columns swapped": lambda b: b.with_columns(inside(300, 40, open=pl.col("close"), close=pl.col("open"))),
    "base and quote volume swapped": lambda b: b.with_columns(inside(300, 99, volume=pl.col("volume") * TYPICAL)),
    "time shifted": lambda b: b.with_columns(
        inside(300, 40, ts=pl.col("ts") + timedelta(hours=5), known_at=pl.col("known_at") + timedelta(hours=5))
    ),
    "split not adjusted": lambda b: split(b, 4.0),
    "split or crash": lambda b: split(b, 5.0, shares=1.0),
    "bars missing before": lambda b: b.filter(~N.is_between(300, 310)),
    "price not positive": lambda b: b.with_columns(inside(300, 1, low=pl.lit(0.0))),
    "high or low inconsistent": lambda b: b.with_columns(inside(300, 1, high=pl.col("low") * 0.99)),
    "volume missing": lambda b: b.with_columns(inside(300, 50, volume=pl.lit(None, pl.Float64))),
}


def split(bars: pl.DataFrame, ratio: float, shares: float | None = None) -> pl.DataFrame:
    factor = pl.when(N >= 500).then(ratio).otherwise(1.0)
    volume = pl.col("volume") * pl.when(N >= 500).then(ratio if shares is None else shares).otherwise(1.0)
    return bars.with_columns(*(pl.col(p) / factor for p in PRICES), volume=volume)


def market(seed: int = 3) -> Dataset:
    return replace(make_market("noise", seed, bars=1000, timeframe="1d"), id=ID, notes=())


def stored(folder, dataset: Dataset) -> Dataset:
    """The dataset in the store of a workspace."""
    store = open_store(f"delta://{folder}/.algo/store")
    store.write(dataset)
    return store.read(dataset.id)


def strayed(bars: pl.DataFrame, truth: pl.DataFrame) -> float:
    """How far returns are from the true ones, in all; a bar that is not there at all strays by a tenth."""
    returns = [frame.select("ts", r=(pl.col("close") / pl.col("close").shift()).log()) for frame in (bars, truth)]
    both = returns[0].join(returns[1], on="ts", suffix="_true").drop_nulls()
    return float((both["r"] - both["r_true"]).abs().sum()) + 0.1 * (truth.height - both.height)


def file_of(dataset: Dataset, path) -> None:
    """The actions that the finding is about, as somebody would write them down who knows of them."""
    found = level_breaks(dataset).row(0, named=True)
    symbol, day = found["symbol"], found["ts"]
    path.write_text(f"symbol,date,kind,value\n{symbol},{day:%Y-%m-%d},redenomination,{found['ratio']:g}\n")


@pytest.mark.parametrize("rule", DAMAGES)
def test_what_a_check_advises_leaves_a_better_dataset(rule, tmp_path):
    """The command is taken from the page as it stands; where nothing is advised, nothing can be done. The page, the
    dashboard, the proposals and research say the same of it."""
    true = market()
    damaged = stored(tmp_path, replace(true, bars=DAMAGES[rule](true.bars).sort("ts")))
    page = algo(tmp_path, "data", "check", str(ID)).stdout
    assert f"{rule}: " in page
    agree(damaged, page)
    advised = re.findall(r"^What to do: .*?: algo (.*)$", page, re.M)
    assert bool(advised) == ("algo" in RULES[rule].remedy)
    for command in advised:
        if "FILE" in command:
            file_of(damaged, tmp_path / "FILE")
        done = algo(tmp_path, *command.split(), *(["--yes"] if "FILE" not in command else [])).stdout
        target = ID if "--repair" in command else replace(true, id=ID._replace(symbol=f"AAA-{suffix(done)}")).id
        after = open_store(f"delta://{tmp_path}/.algo/store").read(target)
        findings = check_bars(after)
        assert rule not in findings["finding"].to_list()
        assert quality_score(findings, after.bars) >= quality_score(check_bars(damaged), damaged.bars)
        assert strayed(after.bars, true.bars) <= strayed(damaged.bars, true.bars) + 1e-9
        require_quality(after, QualitySettings())
        assert after.notes and any(word in after.notes[-1] for word in ("repaired", "adjusted"))


def suffix(printed: str) -> str:
    return re.search(r"mine/AAA-(\w+)/1d, version", printed)[1]


def agree(dataset: Dataset, page: str = "") -> None:
    """Every place that speaks of the dataset says the same."""
    findings = check_bars(dataset)
    proposals, remedies = propose_repairs(dataset), quality_remedies(findings, dataset)
    assert set(proposals["rule"]) == set(findings["finding"]) & set(REPAIRS)
    assert (REPAIR.format(id=dataset.id) in remedies) == (proposals.height > 0)
    fit = quality_score(findings, dataset.bars) >= 0.8
    try:
        require_quality(dataset, QualitySettings())
        assert fit
    except DataError as refused:
        assert not fit
        assert all(remedy in str(refused) for remedy in remedies) or "price of zero" in str(refused)
        assert ("--repair" in str(refused)) == (proposals.height > 0 and "price of zero" not in str(refused))
    cards = quality_view(assess(dataset))["cards"]
    assert ("may be researched on" in cards) == fit and ("esearch refuses it" in cards) == (not fit)
    assert fit or ("--repair" in cards) == (proposals.height > 0)
    if page:
        assert ("fit for research" in page) == fit and ("in quarantine" in page) == (not fit)
        assert all(f"What to do: {remedy}" in page for remedy in remedies)


@pytest.mark.parametrize("seed", range(8))
def test_pages_agree_on_several_damages_at_once(seed):
    rng = np.random.default_rng(seed)
    true = replace(make_market("garch", seed, bars=1000, timeframe="1d"), version=0)
    chosen = rng.choice([name for name in DAMAGES if name != "bars missing before"], 3, replace=False)
    bars = true.bars
    for name in chosen:
        bars = DAMAGES[name](bars)
    agree(replace(true, bars=bars.sort("ts")))


SOME = ("coins by the month", "shares by the hour, their sessions unknown", "closes alone", "two shares")


@pytest.mark.parametrize("names", [SOME, pytest.param(tuple(genuine_corpus(4)), marks=pytest.mark.long)])
def test_pages_agree_on_genuine_markets(names):
    for name in names:
        agree(replace(genuine_corpus(4)[name], version=0))


def test_every_rule_that_can_be_repaired_says_so_and_no_other():
    assert {name for name, rule in RULES.items() if rule.remedy == REPAIR} == set(REPAIRS)


@pytest.mark.parametrize("seed", range(4))
def test_a_repair_never_lowers_the_score_or_strays_further(seed):
    """Of everything that is proposed, alone and together, among genuine bars."""
    good = make_genuine(seed, NATURES["shares by the hour"])
    bars = good.bars.with_columns(inside(400, 60, open=pl.col("close"), close=pl.col("open")))
    bars = bars.with_columns(inside(800, 1, **{p: pl.col(p) * 0.4 for p in PRICES}))
    damaged = replace(good, bars=bars)
    proposals = propose_repairs(damaged)
    before = quality_score(check_bars(damaged), damaged.bars)
    for part in (proposals, *(proposals[i : i + 1] for i in range(proposals.height))):
        mended = apply_repairs(damaged, part)
        assert quality_score(check_bars(mended), mended.bars) >= before - 1 / good.bars.height
        both = good.bars.join(mended.bars, on="ts", suffix="_now")
        was = good.bars.join(damaged.bars, on="ts", suffix="_now")
        wrong = [(b["close"] / b["close_now"]).log().abs().sum() for b in (both, was)]
        assert wrong[0] < wrong[1]


def test_nothing_is_advised_that_a_dataset_outside_the_store_cannot_have(tmp_path):
    """A provider's bars can be neither repaired nor adjusted where they are."""
    broken = replace(market(), bars=split(market().bars, 4.0))
    assert quality_remedies(check_bars(broken), broken) == []
    with pytest.raises(DataError) as refused:
        require_quality(broken, QualitySettings())
    assert "data adjust" not in str(refused.value) and "--repair" not in str(refused.value)
    page = algo(tmp_path, "data", "check", "skfolio/SP500-20/1d").stdout
    assert "What to do" not in page and "adjusted, split or crash" in page


# Advice in errors.


def test_a_ratio_that_is_not_certain_is_asked_for_with_the_line_to_write(tmp_path):
    """1:8 and 1:9 both fit a day of +9%; the line in the message, with the right number, does it."""
    good = make_genuine(5, Nature("1d", "XNYS", bars=600, volatility=0.6, news=0, halts=0))
    jumped = good.bars.with_columns(pl.col(p) * pl.when(N >= 300).then(1.09).otherwise(1.0) for p in PRICES)
    vague = replace(scaled(replace(good, bars=jumped), N >= 300, 1 / 8, 1 / 8), id=ID, notes=())
    dataset = stored(tmp_path, vague)
    assert level_breaks(dataset).select("verdict", "alone").rows() == [("sure", False)]
    refused = algo(tmp_path, "data", "adjust", str(ID), "--from-finding", code=None)
    told = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode and "another ratio fits as well" in told
    line = re.search(r"the line (\S+),RATIO below the line (\S+)\.", told)
    (tmp_path / "known.csv").write_text(f"{line[2]}\n{line[1]},0.125\n")
    algo(tmp_path, "data", "adjust", str(ID), "--actions", "known.csv", "--to", "split")
    after = open_store(f"delta://{tmp_path}/.algo/store").read("mine/AAA-split/1d")
    np.testing.assert_allclose(after.bars["close"], jumped["close"] * 8, rtol=1e-3)
    assert level_breaks(after).height == 0


def test_weeks_are_mended_by_way_of_the_days(tmp_path):
    """The message says: adjust the bars of days, and resample the result."""
    true = market()
    days = stored(tmp_path, replace(true, bars=split(true.bars, 4.0)))
    weeks = replace(days, id=ID._replace(timeframe="1w"), bars=resample_bars(days.bars, "1d", "1w"))
    stored(tmp_path, weeks)
    action = level_breaks(days).row(0, named=True)
    (tmp_path / "a.csv").write_text(f"symbol,date,kind,value\n{action['symbol']},{action['ts']:%Y-%m-%d},split,4\n")
    refused = algo(tmp_path, "data", "adjust", "mine/AAA/1w", "--actions", "a.csv", "--to", "split", code=2).stderr
    assert "Adjust the bars of days, and resample the result" in " ".join(refused.split())
    algo(tmp_path, "data", "adjust", str(ID), "--actions", "a.csv", "--to", "split")
    mended = open_store(f"delta://{tmp_path}/.algo/store").read("mine/AAA-split/1d")
    joined = resample_bars(mended.bars, "1d", "1w")
    np.testing.assert_allclose(joined["close"], resample_bars(true.bars, "1d", "1w")["close"] / 4, rtol=1e-9)
