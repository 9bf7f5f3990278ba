"""The command as a user meets it: real processes in a workspace of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support.command import SETTINGS, algo, files

from algo_research.cli.main import app


def _commands(group: typer.core.TyperGroup, *path: str) -> list[list[str]]:
    """Every command there is, with the groups it is in."""
    nested = [(c, [*path, name]) for name, c in group.commands.items()]
    inner = [found for c, at in nested if isinstance(c, typer.core.TyperGroup) for found in _commands(c, *at)]
    return [*(at for c, at in nested if not isinstance(c, typer.core.TyperGroup)), *inner]


COMMANDS = _commands(typer.main.get_command(app))  # type: ignore[arg-type]


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "settings.ini").write_text(SETTINGS)
    return tmp_path


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Bars of a planted market as somebody's download: newest first, other names, text dates."""
    import polars as pl

    from algo_research.data.samples.synthetic import make_market

    bars = make_market("planted", seed=4, bars=3000, strength=0.3).bars
    frame = bars.select(
        Date=pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S"),
        Open="open",
        High="high",
        Low="low",
        Close="close",
        Volume="volume",
        Trades=pl.lit(7),
    )
    path = tmp_path_factory.mktemp("downloads") / "market_1h.csv"
    frame[::-1].write_csv(path)
    return path


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command, tmp_path):
    done = algo(tmp_path, *command, "--help", apart=command == ["sandbox"], bare=True)  # which becomes another program
    assert "Example: algo " + " ".join(command) in " ".join(done.stdout.split())
    assert files(tmp_path) == {}


@pytest.mark.process
def test_help_imports_nothing_heavy():
    """What makes `algo --help` quick; the time itself is measured in benchmarks/help.py."""
    code = "import sys, algo_research.cli.main; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'typer'" in loaded
    for heavy in ("numpy", "polars", "pandas", "numba", "rich", "pydantic", "mlflow", "vectorbt", "lightgbm", "scipy"):
        assert f"'{heavy}'" not in loaded, heavy


@pytest.mark.process
@pytest.mark.slow
def test_a_planted_market_from_a_file_to_an_edge_and_the_same_hashes_elsewhere(workspace, csv, tmp_path_factory):
    done = algo(workspace, "data", "import", str(csv), "--id", "test/PLANTED/1h")
    assert (
        "newest first: turned round" in done.stdout
        and "columns not used: Trades" in done.stdout
        and "3,000 new bars" in done.stdout
    )
    first = algo(workspace, "research", "test/PLANTED/1h", "--fees", "0.0001", "--set", "research.reserve=0")
    assert re.search(r"^Edge: ", first.stdout, re.M), first.stdout
    assert "2 trials" in first.stdout

    other = tmp_path_factory.mktemp("elsewhere")
    algo(other, "data", "import", str(csv), "--id", "test/PLANTED/1h")
    second = algo(
        other,
        "research",
        "test/PLANTED/1h",
        "--fees",
        "0.0001",
        "--set",
        "research.reserve=0",
        "--engine",
        "kernel",
        PYTHONHASHSEED="7",
    )
    hashes = [re.search(r"predictions \w+  targets \w+  result \w+", done.stdout)[0] for done in (first, second)]
    assert hashes[0] == hashes[1]

    again = algo(workspace, "research", "test/PLANTED/1h", "--fees", "0.0001", "--set", "research.reserve=0")
    assert hashes[0] in again.stdout and "nothing to run" in again.stderr
    reseeded = algo(
        workspace, "research", "test/PLANTED/1h", "--fees", "0.0001", "--set", "research.reserve=0", "--seed", "1"
    )
    assert hashes[0] not in reseeded.stdout and "3 trials" in reseeded.stdout
    listed = algo(workspace, "trials", "test/PLANTED/1h").stdout
    assert "3 trials on test/PLANTED/1h" in listed


@pytest.mark.process
@pytest.mark.slow
def test_import_preview_replace_and_versions(workspace, csv):
    algo(workspace, "data", "import", str(csv), "--id", "test/M/1h", apart=True)
    before = files(workspace)
    assert "3,000 already stored" in algo(workspace, "data", "import", str(csv), "--id", "test/M/1h").stdout
    changed = workspace.parent / f"{workspace.name}.csv"
    lines = csv.read_text().splitlines()
    cells = lines[1].split(",")
    changed.write_text(
        "\n".join([lines[0], ",".join([*cells[:5], "1.0", cells[6]])]) + "\n" + "\n".join(lines[2:4]) + "\n"
    )
    assert (
        "0 new bars, 1 changed, 2 already"
        in algo(workspace, "data", "import", str(changed), "--id", "test/M/1h", "--dry-run").stdout
    )
    refused = algo(workspace, "data", "import", str(changed), "--id", "test/M/1h", code=2)
    assert "--replace" in refused.stderr
    assert files(workspace) == before
    assert "version 1" in algo(workspace, "data", "import", str(changed), "--id", "test/M/1h", "--replace").stdout
    assert "readable versions 0, 1" in algo(workspace, "data", "show", "test/M/1h").stdout
    told = ("data", "import", str(csv), "--id", "test/M/1h", "--tz", "Asia/Tokyo", "--label", "close")
    other = algo(workspace, *told, "--replace", code=2)
    assert "stored at other times" in other.stderr and "--afresh" in other.stderr
    afresh = algo(workspace, *told, "--afresh", "--dry-run").stdout
    assert "3,000 bars take the place of 3,000 (24/7, " in afresh and "Nothing was stored" in afresh
    assert "version 2" in algo(workspace, *told, "--afresh").stdout
    assert "imported afresh" in algo(workspace, "data", "history", "test/M/1h").stdout
    assert "3,000 already stored" in algo(workspace, *told).stdout


BAD = {
    "unknown dataset": (["research", "arch/SP50/1d"], "Did you mean 'arch/SP500/1d'"),
    "no dataset id": (["research", "SP500"], "venue/symbol/timeframe"),
    "unknown synthetic market": (["research", "synthetic/nois:0/1h"], "Did you mean 'noise'"),
    "no seed": (["data", "show", "synthetic/noise/1h"], "synthetic/noise:0/1h"),
    "unknown option": (["research", "--sed", "1"], "--seed"),
    "ill-typed option": (["research", "--folds", "ten"], "valid integer"),
    "value out of range": (["research", "--fees", "-1"], "Parameter fees = -1.0 is not allowed"),
    "unknown strategy": (["research", "--strategy", "magic"], "Known: buy_and_hold, model, moving_average"),
    "unknown setting": (["research", "--set", "model.leaves=3"], "Did you mean 'num_leaves'"),
    "unreadable --set": (["research", "--set", "fees"], "section.key=value"),
    "unknown environment": (["settings", "--env", "prod"], "settings.prod.ini does not exist"),
    "no file": (["data", "import", "nothing.csv"], "There is no file 'nothing.csv'"),
    "reserved venue": (["data", "import", "{csv}", "--id", "arch/MINE/1h"], "--id file/MINE/1h"),
    "wrong timeframe": (["data", "import", "{csv}", "--id", "test/M/1d"], "The id says 1d and the bars span 1h"),
    "unknown label": (["data", "import", "{csv}", "--label", "clse"], "Did you mean 'close'"),
    "unknown calendar": (["data", "import", "{csv}", "--calendar", "XNYX"], "Did you mean 'XNYS'"),
    "escape from the store": (["data", "import", "{csv}", "--id", "../x/1h"], "venue/symbol/timeframe"),
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_input_says_what_to_do_and_writes_nothing(case, workspace, csv):
    arguments, expected = BAD[case]
    before = files(workspace)
    done = algo(workspace, *(a.format(csv=csv) for a in arguments), code=2)
    assert expected in " ".join(done.stderr.split())
    services = (".algo/ledger.db", ".algo/mlflow.db")  # opened, and still empty
    assert {k: v for k, v in files(workspace).items() if not k.startswith(services)} == before
    if (workspace / ".algo/ledger.db").exists():
        assert algo(workspace, "trials", "synthetic/noise:0/1h").stdout.startswith("0 trials")


def test_a_bad_settings_file_names_file_key_value_and_remedy(workspace):
    (workspace / "settings.ini").write_text("[costs]\nfees = lots\n")
    done = algo(workspace, "research", code=2)
    for part in ("settings.ini", "[costs] fees = 'lots'", "ALGO_COSTS__FEES"):
        assert part in done.stderr
    assert "is not allowed" in algo(workspace, "doctor", code=1).stdout


@pytest.mark.process
@pytest.mark.slow
def test_an_unwritable_folder_is_an_error_before_any_work(workspace):
    done = algo(workspace, "data", "import", "x.csv", ALGO_WORKSPACE__STATE="/proc/nowhere", code=2)
    done = algo(workspace, "research", ALGO_WORKSPACE__STATE="/proc/nowhere", code=2)
    assert "Choose another folder" in done.stderr
    assert not re.search("model", done.stderr)


def test_the_environment_wins_over_the_file_and_the_call_over_both(workspace):
    (workspace / "settings.ini").write_text("[costs]\nfees = 0.001\n")
    shown = algo(workspace, "settings", "--changed", ALGO_COSTS__FEES="0.002").stdout
    assert re.search(r"costs:fees\s+0.002\s+the environment", shown)
    shown = algo(workspace, "settings", "--changed", "--set", "costs.fees=0.003", ALGO_COSTS__FEES="0.002").stdout
    assert re.search(r"costs:fees\s+0.003\s+the call", shown)


@pytest.mark.process
@pytest.mark.slow
def test_doctor_is_content_here_and_says_what_is_wrong_elsewhere(workspace):
    done = algo(workspace, "doctor", code=0)
    assert "All is well" in done.stdout
    assert "memory://512MB" in done.stdout
    (workspace / "settings.away.ini").write_text("[store]\ncache = redis://127.0.0.1:9/0\n")
    away = " ".join(algo(workspace, "doctor", "--env", "away", code=1).stdout.split())
    assert "does not answer" in away and "leave it empty for none" in away
    broken = algo(workspace, "doctor", ALGO_STORE__URL="delta:///proc/nowhere", code=1)
    assert "service Store" in broken.stdout and "Correct its address" in broken.stdout


@pytest.mark.process
@pytest.mark.slow
def test_too_little_data_for_the_folds_is_a_failed_run_that_says_so(workspace):
    done = algo(workspace, "research", "synthetic/noise:0/1h", "--folds", "4000", code=1)
    assert "step road" in done.stdout and "fewer folds" in done.stdout


@pytest.mark.process
@pytest.mark.slow
def test_the_reserved_period_opens_once(workspace):
    base = ["research", "synthetic/noise:1/1h"]
    asked = algo(workspace, *base, "--open-reserved", code=1)
    assert "Open it?" in asked.stderr
    opened = algo(workspace, *base, "--open-reserved", "--yes").stdout
    assert "1,200 unseen bars" in opened and "1 trial" in opened
    again = algo(workspace, *base, "--open-reserved", "--yes")
    assert "nothing to run" in again.stderr and again.stdout == opened
    refused = algo(workspace, *base, "--seed", "1", "--open-reserved", "--yes", code=2)
    assert (
        "It can be opened once" in refused.stderr and "folds trained" not in refused.stdout + refused.stderr
    )  # before anything is trained


@pytest.fixture(scope="module")
def damaged_csv(csv, tmp_path_factory):
    """The same download with quote volumes in its middle, and one bad tick."""
    import polars as pl

    frame, n = pl.read_csv(csv), pl.int_range(pl.len())
    volume = (
        pl.when(n.is_between(200, 2700))
        .then(pl.col("Volume") * (pl.col("High") + pl.col("Low")) / 2)
        .otherwise("Volume")
    )
    frame = frame.with_columns(
        Volume=volume,
        **{c: pl.when(n == 100).then(pl.col(c) * 3).otherwise(c) for c in ("Open", "High", "Low", "Close")},
    )
    path = tmp_path_factory.mktemp("damaged") / "market_1h.csv"
    frame.write_csv(path)
    return path


@pytest.mark.process
@pytest.mark.slow
def test_quarantine_and_repair(workspace, damaged_csv):
    id = "test/PLANTED/1h"
    algo(workspace, "data", "import", str(damaged_csv), "--id", id)
    shown = algo(workspace, "data", "check", id, apart=True).stdout
    assert (
        "Quality 0.58" in shown
        and "in quarantine: research asks for 0.8" in shown
        and "this is volume times price" in shown
        and "price spike: PLANTED, 1 bar, " in shown
    )
    refused = algo(workspace, "research", id, code=1).stdout
    assert "is in quarantine: its quality score is 0.58" in refused and "--set quality.force=true" in refused
    assert "fit for research" in algo(workspace, "data", "check", id, ALGO_QUALITY__MINIMUM="0.5").stdout
    assert "--yes and --rule say how" in algo(workspace, "data", "check", id, "--yes", code=2).stderr
    assert (
        "Did you mean 'price spike'"
        in algo(workspace, "data", "check", id, "--repair", "--rule", "spike", code=2).stderr
    )
    before = files(workspace)
    preview = algo(workspace, "data", "check", id, "--repair").stdout
    assert (
        "divide the volume by the typical price" in preview
        and "drop the bar" in preview
        and f"algo data check {id} --repair --yes" in preview
    )
    assert files(workspace) == before, "a preview changes nothing"
    only = algo(workspace, "data", "check", id, "--repair", "--rule", "base and quote volume swapped", "--yes").stdout
    assert "version 1 of" in only and "version 0 stays readable" in only
    assert "version 2 of" in algo(workspace, "data", "check", id, "--repair", "--yes").stdout
    assert "Nothing can be repaired" in algo(workspace, "data", "check", id, "--repair", "--yes").stdout
    versions = [
        line.split()
        for line in algo(workspace, "data", "history", id).stdout.splitlines()
        if re.match(r"\s*\d+ ", line)
    ]
    assert [(v[0], *v[3:6]) for v in versions] == [
        ("0", "3,000", "0", "0"),
        ("1", "0", "2,501", "0"),
        ("2", "0", "0", "1"),
    ]
    shown = algo(workspace, "data", "show", id).stdout
    assert "2,999 bars" in shown and shown.count("Note: repaired, ") == 2


@pytest.mark.process
@pytest.mark.slow
def test_forced_research_on_quarantined_data(workspace, damaged_csv):
    algo(workspace, "data", "import", str(damaged_csv), "--id", "test/PLANTED/1h")
    forced = algo(
        workspace, "research", "test/PLANTED/1h", "--strategy", "moving_average", "--set", "quality.force=true"
    )
    assert re.search(r"^(No edge|Edge): ", forced.stdout, re.M)


@pytest.mark.process
@pytest.mark.slow
def test_what_comes_with_the_package_is_not_repaired(workspace):
    done = algo(workspace, "data", "check", "arch/NASDAQ/1d", "--repair", "--yes")
    assert "Nothing can be repaired" in done.stdout and "fit for research" in done.stdout
    assert "more were due" in algo(workspace, "data", "check", "arch/NASDAQ/1d", "--current").stdout
    assert "has one version only" in algo(workspace, "data", "history", "arch/NASDAQ/1d", code=2).stderr


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "id", "options", "decision"),
    [
        ("btc_usd_1h_2018_2022.csv.gz", "bitstamp/BTC-USD/1h", [], "newest first"),
        pytest.param(
            "btc_perp_1m_2022_01.csv.gz",
            "perp/BTC-USD/1m",
            ["--kind", "perpetual", "--label", "close"],
            "times label the close of a bar (as told)",
            marks=pytest.mark.long,
        ),
        ("dj30_1d_valid.csv.gz", "yahoo/DJ30/1d", ["--calendar", "XNYS", "--kind", "equity"], "daily sessions of XNYS"),
    ],
)
def test_real_files_as_they_are(file, id, options, decision, workspace, shared_data):
    done = algo(workspace, "data", "import", str(shared_data / file), "--id", id, *options)
    assert decision in done.stdout
    folds = ["--folds", "2", "--set", "research.min_train=0.5", "--set", "research.reserve=0"] if "DJ30" in id else []
    if "DJ30" in id:  # 253 sessions are fewer than the longest memory: refused, and said why
        short = algo(workspace, "research", id, *folds, code=1)
        assert "has 253 bars, which is shorter than their memory" in short.stdout
        folds += ["--set", "research.features=momentum.talib.roc_20, trend.talib.sma_20, reversion.talib.bollinger_20"]
    if "bitstamp" in id:  # most of its volumes are quote volumes: refused, until they are repaired
        assert "base and quote volume swapped (20,147 bars" in algo(workspace, "research", id, code=1).stdout
        algo(workspace, "data", "check", id, "--repair", "--rule", "base and quote volume swapped", "--yes")
    found = algo(workspace, "research", id, *folds).stdout
    assert re.search(r"^(No edge|Edge): ", found, re.M)


@pytest.mark.process
@pytest.mark.slow
def test_the_readme_s_planted_market_has_an_edge(tmp_path):
    assert "synthetic/planted:0/1h" in (Path(__file__).parents[2] / "README.md").read_text()
    assert re.search(r"^Edge: ", algo(tmp_path, "research", "synthetic/planted:0/1h").stdout, re.M)


def test_a_workspace_that_is_not_there_and_a_dataset_nobody_has(tmp_path):
    assert "There is no folder" in algo(tmp_path, "data", "list", "-w", str(tmp_path / "nowhere"), code=2).stderr
    assert "Did you mean 'arch/SP500/1d'" in algo(tmp_path, "trials", "arch/SP50/1d", code=2).stderr


WRITES = [
    ("run", "research"),
    ("research",),
    ("batch", "grid.yaml"),
    ("trials", "arch/SP500/1d"),
    ("runs",),
    ("show", "last"),
    ("data", "list"),
    ("data", "import", "bars.csv"),
    ("data", "sync", "BTC/USDT"),
    ("strategies", "new", "dip"),
    ("dashboard", "--no-browser"),
]
LOOKS = [("components", "costs"), ("settings",), ("doctor",), ("run",), ("run", "research", "--parameters")]


@pytest.mark.process
@pytest.mark.parametrize("arguments", [*WRITES, *LOOKS], ids=" ".join)
def test_outside_a_workspace_a_command_says_so_and_begins_no_ledger(arguments, tmp_path):
    done = algo(tmp_path, *arguments, code=2 if arguments in WRITES else 0, bare=True)
    said = " ".join((done.stdout + done.stderr).split())
    assert "no settings.ini in" in said or f"neither {tmp_path} nor a folder above it holds settings" in said
    assert "algo init" in said
    assert not list(tmp_path.iterdir())


def test_an_id_can_be_copied_from_a_narrow_table():
    from rich.console import Console

    from algo_research.cli.common import table

    rows, out = table("state", "confidence (%)", "error", "run"), Console(width=60)
    rows.add_row("failed", "99.5", "something long happened to it and is told at length", "20261129-112823-7abdcf5e")
    with out.capture() as printed:
        out.print(rows)
    assert "20261129-112823-7abdcf5e" in printed.get()


@pytest.mark.process
@pytest.mark.slow
def test_the_demo(tmp_path):
    """The README's sentence is what the demo says today."""
    root = Path(__file__).parents[2]
    (tmp_path / "settings.ini").write_text((root / "settings.ini").read_text())
    sentence = next(
        line for line in algo(tmp_path, "research").stdout.splitlines() if line.startswith(("No edge", "Edge"))
    )
    assert " ".join(sentence.split()) in " ".join((root / "README.md").read_text().split())


@pytest.mark.slow
def test_a_long_list_of_findings_is_cut_and_can_be_had_whole(workspace):
    import polars as pl

    from algo_research.data.market.bars import Dataset, DatasetId
    from algo_research.data.market.instruments import Instrument
    from algo_research.data.samples.synthetic import make_market
    from algo_research.data.stores.base import open_store

    (workspace / "settings.ini").write_text("[store]\nurl = delta://data\n")
    holed = [
        make_market("noise", n, bars=300)
        .bars.filter(pl.int_range(pl.len()) != 100)
        .with_columns(symbol=pl.lit(f"C{n:02}"))
        for n in range(22)
    ]
    open_store("delta://data", workspace).write(
        Dataset(DatasetId("test", "MANY", "1h"), pl.concat(holed), Instrument("MANY", "test", "spot"))
    )
    short, whole = (algo(workspace, "data", "check", "test/MANY/1h", *more).stdout for more in ([], ["--all"]))
    assert (
        short.count("bars missing before: C") == 20
        and "... and 2 more (bars missing before 2); --all shows them" in short
    )
    assert whole.count("bars missing before: C") == 22 and "--all" not in whole


def test_a_plan_overrules_nothing_that_is_told_beside_it(workspace):
    (workspace / "plan.yaml").write_text("datasets: [arch/NASDAQ/1d]\nstrategy: moving_average\n")
    plan = ("run", "research", "--plan", "plan.yaml")
    for told, named in (
        (("-p", "horizon=3"), "horizon"),
        (("-p", 'settings={"costs.fees": 0.1}'), "costs.fees"),
        (("--set", "costs.fees=0.05"), "costs.fees"),
        (("-p", "dataset=arch/SP500/1d"), "dataset"),
    ):
        said = algo(workspace, *plan, *told, code=2).stderr
        assert f"{named} is told beside it" in " ".join(said.split())
    assert not (workspace / "reports").exists()


def test_other_symbols_are_not_laid_beside_those_that_are_stored(workspace):
    rows = "".join(f"2026-01-0{day},1,2,1,2,5\n" for day in range(1, 8))
    (workspace / "one.csv").write_text("date,open,high,low,close,volume\n" + rows)
    named = "".join(f"BTC/USD,{row}\n" for row in rows.split())
    (workspace / "two.csv").write_text("symbol,date,open,high,low,close,volume\n" + named)
    said = algo(workspace, "data", "import", "two.csv", "--id", "mine/ONE/1d").stdout
    assert "the file calls it BTC-USD, and the id ONE: it is ONE here" in said
    assert "7 already stored" in algo(workspace, "data", "import", "one.csv", "--id", "mine/ONE/1d").stdout
    pair = "".join(f"BTC/USD,{row}\nETH/USD,{row}\n" for row in rows.split())
    (workspace / "pair.csv").write_text("symbol,date,open,high,low,close,volume\n" + pair)
    refused = algo(workspace, "data", "import", "pair.csv", "--id", "mine/ONE/1d", code=2).stderr
    assert "mine/ONE/1d holds ONE, and the file BTC-USD, ETH-USD" in " ".join(refused.split())


def test_trials_that_somebody_counted_by_hand_are_listed(workspace):
    import numpy as np

    from algo_research.workspace.bootstrap import open_workspace

    (workspace / "settings.ini").touch()
    with open_workspace(workspace) as opened:
        data = opened.load("arch/SP500/1d")
        config = {"strategy": "mine", "model": "ridge", "costs": 0.001}
        returns = np.random.default_rng(0).normal(0, 0.01, data.bars.height)
        opened.ledger.record(str(data.id), config, data.bars["ts"], returns, data.snapshot().content)
    said = algo(workspace, "trials", "arch/SP500/1d").stdout
    assert "mine" in said and "model=ridge costs=0.001" in " ".join(said.split())


@pytest.mark.parametrize(
    "told", [("-p", "seed=1", "-p", "seed=2"), ("--set", "research.folds=2", "--set", "research.folds=3")], ids=str
)
def test_what_is_told_twice_is_refused(workspace, told):
    assert "twice" in algo(workspace, "run", "research", *told, code=2).stderr


def test_a_told_value_that_only_looks_like_a_plan_is_listed():
    from algo_research.cli.runs import _in_short

    assert _in_short({"datasets": ["a/B/1d"], "weights": [1]}) == "{'datasets': ['a/B/1d'], 'weights': [1]}"


@pytest.mark.parametrize("name", ["polars", "json", "class", "tests", "time", "sys", "os", "builtins"])
def test_a_strategy_takes_no_name_that_belongs_to_others(workspace, name):
    assert "belongs to Python" in algo(workspace, "strategies", "new", name, code=2).stderr


def test_a_parameter_told_twice_is_refused(workspace):
    said = algo(workspace, "run", "research", "-p", "strategy=moving_average(fast=5,fast=9)", code=2).stderr
    assert "says fast twice" in said
