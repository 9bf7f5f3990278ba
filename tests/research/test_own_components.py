"""Ways round the verdict with components of one's own. Each of them once worked."""

import importlib
from pathlib import Path

import polars as pl
import pytest
from support.plans import bare_research as research
from support.plans import kernel_plan

from algo_research.backtest.ledger import TrialLedger
from algo_research.core.components import explained, import_from, make_component, parse_choice
from algo_research.core.errors import DataError, InputError
from algo_research.data.market.panel import make_panel
from algo_research.data.samples.bundled import load_stocks
from algo_research.data.samples.synthetic import make_market
from algo_research.features.contract import Feature, compute_features
from algo_research.features.gates import LeakError
from algo_research.models.contract import MODELS
from algo_research.strategies.protocol import STRATEGIES
from algo_research.strategies.rules import FollowPredictions

NOISE = make_market("noise", 1, bars=3000)
RULE = """
from dataclasses import dataclass
import polars as pl
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes
{imports}

@dataclass(frozen=True)
class Dip(Strategy):
    bars: int = 1
    def targets(self, frame, state=None):
        wish = pl.when(pl.col("close") % {k} < {k} / 2).then(1.0).otherwise(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), state)
"""


def write_rule(folder: Path, k: int, name: str = "my_rules", imports: str = "") -> None:
    (folder / f"{name}.py").write_text(RULE.format(k=k, imports=imports))


@pytest.mark.slow
def test_a_rewritten_rule_is_another_trial(tmp_path):
    ledger = TrialLedger()
    for k in (3, 5, 7):
        write_rule(tmp_path, k)
        found = research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path)
    assert found.verdict.n_trials == 3
    assert research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path).verdict.n_trials == 3


@pytest.mark.slow
def test_a_rule_whose_helper_was_rewritten_is_another_trial(tmp_path):
    ledger = TrialLedger()
    for k in (3, 5):
        (tmp_path / "helper.py").write_text(f"K = {k}\n")
        (tmp_path / "my_rules.py").write_text(RULE.format(k=4, imports="from helper import K").replace("4", "K"))
        research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path)
    assert ledger.count(str(NOISE.id)) == 2


@pytest.mark.slow
def test_two_rules_of_one_name_are_two_trials(tmp_path):
    write_rule(tmp_path, 3, "one")
    write_rule(tmp_path, 5, "two")
    found = research(NOISE, kernel_plan("one:Dip", ("two:Dip",)), TrialLedger(), folder=tmp_path)
    assert found.verdict.n_trials == 2


@pytest.mark.slow
def test_the_reserved_period_does_not_open_again_for_a_rewritten_rule(tmp_path):
    ledger = TrialLedger()
    write_rule(tmp_path, 3)
    first = research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path, open_reserved=True)
    again = research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path, open_reserved=True)
    assert first.hashes == again.hashes
    write_rule(tmp_path, 5)
    with pytest.raises(InputError, match="can be opened once"):
        research(NOISE, kernel_plan("my_rules:Dip"), ledger, folder=tmp_path, open_reserved=True)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [{"seed": 1}, {"model": "linear"}, {"folds": 3}, {"engine": "vectorbt"}])
def test_what_cannot_change_a_rule_is_no_other_configuration(choice):
    ledger = TrialLedger()
    research(NOISE, kernel_plan(), ledger, open_reserved=True)
    research(NOISE, kernel_plan(**choice), ledger, open_reserved=True)
    with pytest.raises(InputError, match="can be opened once"):
        research(NOISE, kernel_plan("moving_average(fast=10)"), ledger, open_reserved=True)


@pytest.mark.slow
def test_a_panel_and_its_members_share_trials_and_the_reserved_period():
    one, two, three = (make_market("garch", seed, bars=3000) for seed in (1, 2, 3))
    names = [str(d.id) for d in (one, two, three)]
    pair, other = make_panel([one, two]), make_panel([one, three])
    ledger = TrialLedger()
    research(pair, kernel_plan(datasets=names[:2]), ledger)
    assert ledger.count(names[0]) == 1
    found = research(other, kernel_plan("moving_average(fast=10)", datasets=[names[0], names[2]]), ledger)
    assert found.verdict.n_trials == 2
    assert research(one, kernel_plan(datasets=names[:1]), ledger).verdict.n_trials == 3
    ledger = TrialLedger()
    research(one, kernel_plan(datasets=names[:1]), ledger, open_reserved=True)
    with pytest.raises(InputError, match="can be opened once"):
        research(pair, kernel_plan(datasets=names[:2]), ledger, open_reserved=True)
    ledger = TrialLedger()
    research(pair, kernel_plan(datasets=names[:2]), ledger, open_reserved=True)
    with pytest.raises(InputError, match="can be opened once"):
        research(one, kernel_plan(datasets=names[:1]), ledger, open_reserved=True)
    ledger = TrialLedger()
    research(pair, kernel_plan(datasets=names[:2], reserve=0), ledger)
    with pytest.raises(InputError, match="is not unseen"):
        research(two, kernel_plan(datasets=names[1:2]), ledger, open_reserved=True)


@pytest.mark.parametrize("strategy", ["buy_and_hold(weight=0.5)", "held:MatchedHold"])
@pytest.mark.parametrize("compare", [(), ("moving_average",)])
def test_a_strategy_named_like_a_hold_keeps_its_own_numbers(strategy, compare, tmp_path):
    from algo_research.research.artifacts import research_artifacts

    lines = (
        "from algo_research.strategies.rules import BuyAndHold",
        "class MatchedHold(BuyAndHold):",
        "    name = 'matched_hold'",
    )
    (tmp_path / "held.py").write_text("\n".join(lines))
    found = research(NOISE, kernel_plan(strategy, compare), TrialLedger(), folder=tmp_path)
    kept = research_artifacts(found)
    weight = 0.5 if "0.5" in strategy else 1.0
    assert found.result.positions["exposure"].mean() == pytest.approx(weight, abs=0.05)
    judged = kept["equity"].filter(pl.col("name") == kept["verdict"]["strategy"])
    assert judged.height == found.result.equity.height
    assert (judged["equity"] == found.result.equity["equity"]).all()


FITTED = """
import numpy as np
from algo_research.features.contract import FittedFeature
def fit(columns): return {{}}
def ahead(columns, learned): return np.append(columns["momentum.talib.roc_1"][1:], np.nan)
def whole(columns, learned): return columns["momentum.talib.roc_1"] - np.nanmean(columns["momentum.talib.roc_1"])
def honest(columns, learned): return columns["momentum.talib.roc_1"] * 2
peek = FittedFeature("leak.fitted.peek", fit, {function}, ("momentum.talib.roc_1",))
"""


@pytest.mark.parametrize("function", ["ahead", "whole", "honest"])
def test_a_fitted_feature_sees_one_row_at_a_time(function, tmp_path):
    (tmp_path / "mine.py").write_text(FITTED.format(function=function))
    plan = kernel_plan("model", features=["momentum.talib.roc_1", "mine:peek"], folds=3)
    if function == "honest":
        assert not research(NOISE, plan, TrialLedger(), folder=tmp_path).verdict.edge
        return
    with pytest.raises(LeakError, match=r"leak\.fitted\.peek"):
        research(NOISE, plan, TrialLedger(), folder=tmp_path)


def test_what_a_fitted_feature_learned_is_part_of_the_models_identity():
    names = ["momentum.talib.roc_1", "volatility.fitted.level_20"]
    both = kernel_plan("model", features=names, folds=2, model="linear")
    found = research(NOISE, both, TrialLedger())
    bare = [m.identity for m in found.predicted.walked.models]
    assert set(found.predictions["model"]).isdisjoint(bare)


MODEL = """
import numpy as np
from algo_research.models.contract import Model, Predictor
class Odd(Model):
    name = "odd"
    def fit(self, features, label, seed): return OddOf()
class OddOf(Predictor):
    def predict(self, features): return np.full(len(features), {value})
    def to_bytes(self): return b"odd"
    @classmethod
    def from_bytes(cls, content): return cls()
"""


def test_a_prediction_that_is_not_a_number_is_none(tmp_path):
    (tmp_path / "odd.py").write_text(MODEL.format(value="np.nan"))
    found = research(NOISE, kernel_plan("model", model="odd:Odd", folds=2), TrialLedger(), folder=tmp_path)
    assert found.predictions["value"].null_count() == found.predictions.height
    assert found.result.fills.height == 0
    (tmp_path / "odd.py").write_text(MODEL.format(value="np.inf"))
    with pytest.raises(DataError, match="infinite"):
        research(NOISE, kernel_plan("model", model="odd:Odd", folds=2), TrialLedger(), folder=tmp_path)


def test_nan_is_no_opinion_to_a_rule_that_follows():
    frame = NOISE.bars.head(2).with_columns(prediction=pl.Series([-0.1, float("nan")]))
    assert FollowPredictions(band=0.0).targets(frame)[0]["target"].to_list() == [-1.0, None]


RANGE = """
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import BuyAndHold
class Ranged(BuyAndHold):
    def features(self): return ("volatility.talib.natr_14",)
"""


def test_a_rule_that_wants_ranges_is_refused_on_closes(tmp_path):
    (tmp_path / "ranged.py").write_text(RANGE)
    stocks = load_stocks()
    with pytest.raises(InputError, match=r"ranged wants volatility\.talib\.natr_14"):
        research(stocks, kernel_plan("ranged:Ranged"), TrialLedger(), folder=tmp_path)


SUMMED = """
import numpy as np
from algo_research.features.contract import Feature
from algo_research.strategies.rules import BuyAndHold
def total(c): return np.cumsum(c["close"])
summed = Feature("trend.mine.total", total, 2)
class Summed(BuyAndHold):
    def features(self): return (summed,)
"""


def test_a_feature_that_remembers_more_than_it_says_is_refused(tmp_path):
    (tmp_path / "summed.py").write_text(SUMMED)
    with pytest.raises(DataError, match=r"trend\.mine\.total remembers more than the 2 rows"):
        research(NOISE, kernel_plan("summed:Summed"), TrialLedger(), folder=tmp_path)
    with pytest.raises(DataError, match=r"trend\.mine\.total remembers more than the 2 rows"):
        plan = kernel_plan("model", features=["momentum.talib.roc_1", "summed:summed"])
        research(NOISE, plan, TrialLedger(), folder=tmp_path)


@pytest.mark.slow
def test_a_workspaces_modules_are_as_their_files_are_now(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    for k in (1, 2):
        (tmp_path / "helper.py").write_text(f"K = {k}\n")
        (tmp_path / "user.py").write_text("from helper import K\n")
        (tmp_path / "deep/er/rules.py").write_text(f"K = {k}\n")
        assert k == import_from(tmp_path, "user").K
        assert k == import_from(tmp_path, "deep.er.rules").K


@pytest.mark.parametrize(
    ("kind", "choice", "message"),
    [
        (STRATEGIES, "half:Half", "does not define targets"),
        (MODELS, "linear(alpha=(1,))", "is not allowed"),
    ],
)
def test_what_cannot_be_made_says_why(kind, choice, message, tmp_path):
    text = "from algo_research.strategies.protocol import Strategy\nclass Half(Strategy):\n    x = 1\n"
    (tmp_path / "half.py").write_text(text)
    with pytest.raises(InputError, match=message):
        make_component(kind, choice, tmp_path)


def test_choices_survive_a_document(tmp_path):
    """A tuple is a list in JSON, and the plan that was stored must be the plan that ran."""
    text = RULE.format(k=3, imports="").replace("bars: int = 1", "bars: tuple[int, ...] = (1,)")
    (tmp_path / "my_rules.py").write_text(text)
    from algo_research.research.plan import make_plan, resolve_plan

    plan = kernel_plan("my_rules:Dip(bars=(3, 4))")
    stored = make_plan(plan.model_dump(mode="json"))
    first, second = (resolve_plan(p, folder=tmp_path).candidates["dip"] for p in (plan, stored))
    assert first.bars == second.bars == (3, 4)


def test_a_plan_is_the_same_in_whatever_order_its_datasets_are_named():
    one, other = (kernel_plan(datasets=names) for names in (["a/B/1h", "a/A/1h"], ["a/A/1h", "a/B/1h", "a/A/1h"]))
    assert one.content == other.content and one.datasets == ("a/A/1h", "a/B/1h")


def test_only_a_weight_that_may_be_a_fraction_becomes_an_equal_share():
    from dataclasses import dataclass
    from typing import ClassVar

    from algo_research.execution.costs import PercentageCosts
    from algo_research.strategies.protocol import Strategy

    class Flat(Strategy):
        def targets(self, frame, state=None):
            raise NotImplementedError

    @dataclass(frozen=True)
    class Shares(Flat):
        weight: float | None = None

    @dataclass(frozen=True)
    class Loads(Flat):
        weight: dict | None = None

    @dataclass(frozen=True)
    class Fixed(Flat):
        weight: ClassVar[None] = None

    bound = [rule().bind(4, PercentageCosts()).weight for rule in (Shares, Loads, Fixed)]
    assert bound == [0.25, None, None]


def test_a_component_that_runs_out_of_memory_is_not_told_to_correct_a_line():
    with pytest.raises(MemoryError), explained("The model mine cannot be fitted"):
        raise MemoryError


def test_a_line_of_ours_is_not_to_be_corrected(tmp_path):
    (tmp_path / "words.py").write_text("import ast\ndef read(): return ast.literal_eval('1 +')\n")
    read = import_from(tmp_path, "words").read
    with pytest.raises(InputError, match=r"words\.py, line 2\)\. Correct it there"), explained("The rule fails"):
        read()
    words = Feature("own.words.one", lambda columns: ["one"] * len(columns["close"]), 1)
    with pytest.raises(InputError, match=r"contract\.py, line \d+\)\. What it was given, or what came of it"):
        compute_features(NOISE.bars, [words])


@pytest.mark.parametrize("text", ["x(a=1)(b=2)", "x(a=1).y(b=2)", "x(**{'a': 1})", "x(a=1)[0]"])
def test_nothing_of_a_choice_is_lost(text):
    with pytest.raises(InputError, match="names no component"):
        parse_choice(text)


def test_a_parameter_that_no_plan_decides_may_stand_beside_one(tmp_path):
    from support.journey import write_template

    from algo_research.runs.parameters import read_template, refuse_beside_plan, resolve_parameters

    imports = ("", "from algo_research.runs.parameters import PlanDocument")
    told = ("parameters", "plan: PlanDocument | None = None\ntitle: str = ''\nhorizon: int = 5")
    template = read_template(write_template(tmp_path, "mine", imports, told))
    plan = kernel_plan().model_dump(mode="json")
    refuse_beside_plan(template, resolve_parameters(template, {"plan": plan, "title": "Hello"}))
    with pytest.raises(InputError, match="horizon is told beside it"):
        refuse_beside_plan(template, resolve_parameters(template, {"plan": plan, "horizon": 3}))


def test_a_module_that_was_imported_before_its_file_changed_is_imported_again(tmp_path, monkeypatch):
    """In a notebook by `import`, or by an import that failed half-way: what is judged is what stands in the file."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plain_rule.py").write_text("K = 1\n")
    importlib.invalidate_caches()
    importlib.import_module("plain_rule")
    (tmp_path / "plain_rule.py").write_text("K = 2222\n")
    assert import_from(tmp_path, "plain_rule").K == 2222
    (tmp_path / "helped.py").write_text("K = 1\n")
    (tmp_path / "halfway.py").write_text("import helped\nraise ValueError\n")
    with pytest.raises(ValueError):
        import_from(tmp_path, "halfway")
    (tmp_path / "helped.py").write_text("K = 3333\n")
    (tmp_path / "halfway.py").write_text("from helped import K\n")
    assert import_from(tmp_path, "halfway").K == 3333


COSTS_OF_OWN = """
from dataclasses import dataclass
import numpy as np
from algo_research.execution.costs import CostModel, CostRates

@dataclass(frozen=True)
class Own(CostModel):
    name = "own"
    times: float = 1.0
    def rates(self, price, volume, instruments):
        known = np.nan_to_num(volume, nan=1e6)
        return CostRates(self.times * 1e-4, {fixed}, self.times * np.minimum(1e-4 * (1e6 / known) ** 0.5, 0.01))
    @property
    def share(self): return 2e-4
    def doubled(self): return {doubled}
"""
TWICE = "Own(2 * self.times)"
FORESIGHT = {
    "always": "self.times * np.where(np.vstack([price[1:], price[-1:]]) > price, 0.0, 1e12)",
    "mean of all": "self.times * (price > np.nanmean(price))",
    "rarely": "self.times * np.where(np.arange(len(price))[:, None] % 50 == 3, np.roll(price, -1, axis=0) < price, 0)",
}


@pytest.mark.parametrize("how", FORESIGHT)
def test_a_cost_model_that_knows_later_prices_is_refused(how, tmp_path):
    (tmp_path / "mine.py").write_text(COSTS_OF_OWN.format(fixed=FORESIGHT[how], doubled=TWICE))
    with pytest.raises(LeakError, match="The cost model own looks ahead"):
        research(make_market("noise", 1, bars=900), kernel_plan(costs="mine:Own"), TrialLedger(), folder=tmp_path)


def test_costs_that_are_doubled_are_twice_as_high(tmp_path):
    for doubled, fails in (("self", True), ("Own(1.9 * self.times)", True), (TWICE, False)):
        (tmp_path / "mine.py").write_text(COSTS_OF_OWN.format(fixed="self.times * 0.01", doubled=doubled))
        if fails:
            with pytest.raises(InputError, match="does not cost twice as much"):
                research(
                    make_market("noise", 1, bars=900), kernel_plan(costs="mine:Own"), TrialLedger(), folder=tmp_path
                )
        else:
            assert research(
                make_market("noise", 1, bars=900), kernel_plan(costs="mine:Own"), TrialLedger(), folder=tmp_path
            ).verdict
