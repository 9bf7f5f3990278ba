"""What a stranger's notebook or run says is read; nothing of it is executed before it was looked at."""

import json
import shutil

import pytest
from support.command import algo
from support.journey import dice_workspace, write_template
from support.strategies import RULES

from algo_research.core.errors import InputError
from algo_research.core.hashing import hash_params
from algo_research.runs.parameters import read_parameters

# Each would leave a file, were it evaluated.
MARK = "open('evaluated','w')"
ANNOTATIONS = {
    "call": f"{MARK}",
    "text": f'"{MARK}"',
    "text in a list": f'list["{MARK}"]',
    "text in a dict": f'dict[str, "{MARK}"]',
    "text beside a bar": f'int | "{MARK}"',
    "text in Annotated": f'Annotated["{MARK}", Field(ge=1)]',
    "text in Optional": f'Optional["{MARK}"]',
    "factory": f"Annotated[int, Field(default_factory=lambda: {MARK})]",
    "bound": f"Annotated[int, Field(ge={MARK})]",
    "mark": f"Annotated[int, Setting({MARK})]",
    "literal": f"Literal[{MARK}]",
    "walrus": f"(x := {MARK})",
    "lambda": f"(lambda: {MARK})()",
    "comprehension": f"[{MARK} for x in [1]][0]",
    "attribute": "int.__class__.__base__.__subclasses__()",
    "attribute of a mark": "Field.__globals__['__builtins__']['open']",
    "format": "Annotated[int, Field(pattern=f'{open}')]",
    "conditional": f"int if {MARK} else str",
    "await": f"list[*{MARK}]",
    "slice": f"dict[{MARK}:{MARK}]",
}


@pytest.mark.parametrize("annotation", ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_an_annotation_is_read_and_not_evaluated(annotation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"is no type|Unknown type|is not Python"):
        read_parameters(f"x: {annotation} = 1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "source",
    ["x = " + "(" * 5000, "x = " + "[" * 5000 + "]" * 5000, "x = 1\0", "x = " + "9" * 10_000, "x = " + "-" * 9000 + "1",
     "x: " + "list[" * 3000 + "int" + "]" * 3000 + " = []", "x = {[]: 1}", "x = 1" + "+1j" * 9000],
    ids=["open", "nested", "zero byte", "digits", "signs", "nested type", "unhashable", "sums"],
)  # fmt: skip
def test_a_cell_made_to_break_its_reader_is_refused(source):
    with pytest.raises(InputError):
        read_parameters(source)


@pytest.mark.slow
@pytest.mark.process
def test_no_command_that_only_looks_evaluates_a_template(tmp_path):
    workspace = dice_workspace(tmp_path)
    for number, annotation in enumerate(ANNOTATIONS.values()):
        write_template(workspace, f"bad{number}", ("parameters", f"x: {annotation} = 1"), ("step:a", "1"))
        (workspace / "grid.yaml").write_text(f"template: bad{number}\ngrid: {{x: [1, 2]}}\n")
        algo(workspace, "run", f"bad{number}", "--parameters", code=2)
        algo(workspace, "batch", "grid.yaml", "--dry-run", code=2)
        algo(workspace, "run", f"bad{number}", code=2)
    algo(workspace, "run", code=None)
    algo(workspace, "components", "templates", code=None)
    assert not list(workspace.rglob("evaluated"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "rules.py").write_text(RULES)
    algo(theirs, "run", "backtest", "-p", "dataset=synthetic/noise:0/1h", "-p", "strategy=rules:Dip")
    (run,) = theirs.glob("reports/backtest/*")
    return run


@pytest.fixture
def original(made, tmp_path):
    return shutil.copytree(made, tmp_path / "theirs" / made.name)


@pytest.fixture
def mine(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "rules.py").write_text(f"{MARK}\n{RULES}")
    return mine


@pytest.mark.slow
@pytest.mark.process
def test_code_that_a_strangers_run_names_is_not_imported(original, mine):
    refused = algo(mine, "reproduce", str(original), code=2).stderr
    assert "rules:Dip" in refused and "--trust" in refused and not (mine / "evaluated").exists()


@pytest.mark.slow
@pytest.mark.process
def test_not_even_when_the_run_lies_among_the_workspaces_own(original, mine):
    algo(mine, "run", "backtest", "-p", "dataset=synthetic/noise:0/1h")  # one of ours, which may be in many hands
    (ours,) = [json.loads(path.read_text())["record"] for path in mine.glob("reports/backtest/*/run.json")]
    shutil.copytree(original, mine / "reports" / "backtest" / original.name)
    assert "--trust" in algo(mine, "reproduce", original.name, code=2).stderr and not (mine / "evaluated").exists()
    manifest = mine / "reports" / "backtest" / original.name / "run.json"
    told = json.loads(manifest.read_text())
    for record in ({"seal": ""}, {"seal": None}, {"seal": ours["seal"], "ledger_head": ours["ledger_head"]}):
        told["record"] |= record
        manifest.write_text(json.dumps(told))
        assert "--trust" in algo(mine, "reproduce", original.name, code=2).stderr
        assert not (mine / "evaluated").exists()
    (mine / ".algo" / "seal.key").write_bytes(b"")
    assert "is damaged" in algo(mine, "reproduce", original.name, code=2).stderr


NAMED = {
    "in a letter beyond ASCII": lambda inputs: inputs["parameters"].update(strategy="rules:Évil"),
    "in the settings": lambda inputs: [inputs["parameters"].update(strategy=None),
                                       inputs["settings"].update({"research.strategy": "rules:Dip"})],
    "beside another": lambda inputs: inputs["parameters"].update(compare="buy_and_hold;rules:Dip(days=2)"),
    "by a name that only we have": lambda inputs: inputs["parameters"].update(strategy="dip(days=3)"),
    "as a key of a plan": lambda inputs: inputs["parameters"].update(plan={"strategy": {"name": "rules:Dip"}}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("where", NAMED)
def test_code_that_is_named_anywhere_is_not_imported(mine, tmp_path, where):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "rules.py").write_text(RULES)
    made = theirs / "reports" / "research" / "20260101-000000-abc"
    algo(theirs, "run", "backtest", "-p", "dataset=synthetic/noise:0/1h")
    (run,) = theirs.glob("reports/backtest/*")
    told = json.loads((run / "run.json").read_text())
    parameters = {"dataset": ["synthetic/noise:0/1h"], "strategy": None, "compare": None, "plan": None}
    told["inputs"]["parameters"] = parameters
    NAMED[where](told["inputs"])
    told |= {"template": "research", "identity": hash_params(told["inputs"]), "run_id": made.name}
    shutil.copytree(run, made)
    (made / "run.json").write_text(json.dumps(told))
    refused = algo(mine, "reproduce", str(made), code=2).stderr
    assert "--trust" in refused and "rules:" in refused and not (mine / "evaluated").exists(), refused


@pytest.mark.slow
@pytest.mark.process
def test_a_trusted_run_is_compared_first(original, mine):
    done = algo(mine, "reproduce", str(original), "--trust", code=1).stdout
    assert "code ./rules.py" in done and "Not run" in done


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("where", ["template", "record"])
def test_a_notebook_that_a_strangers_run_names_is_not_run(original, mine, where):
    write_template(mine, "evil", ("parameters", "dataset: str = ''"), ("step:a", MARK))
    told = json.loads((original / "run.json").read_text())
    path = str(mine / "templates" / "evil.ipynb")
    if where == "template":
        told["template"] = path
    else:
        told["record"]["template_path"] = path
    (original / "run.json").write_text(json.dumps(told))
    for more in ([], ["--anyway"], ["--trust"], ["--anyway", "--trust", "-p", "dataset=a/b/1h"]):
        refused = algo(mine, "reproduce", str(original), *more, code=2).stderr
        assert "--template" in refused or "no parameter" in refused.lower()
    assert not (mine / "evaluated").exists()
