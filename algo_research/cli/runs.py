"""`algo run`, `algo runs`, `algo show`, `algo reproduce`, `algo batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Env, Root, Set, Steps, console, line, open_workspace, table

if TYPE_CHECKING:
    from rich.text import Text

    from algo_research.runs.batch import Batch, Planned
    from algo_research.runs.parameters import Template
    from algo_research.runs.record import Run
    from algo_research.runs.runner import Difference
    from algo_research.workspace.bootstrap import Workspace

RUN_EXAMPLE = "Example: algo run research -p dataset=arch/NASDAQ/1d -p horizon=10 --timeout 600"
RUNS_EXAMPLE = "Example: algo runs --template research --metric sharpe --metric confidence"
SHOW_EXAMPLE = "Example: algo show last --log"
REPRODUCE_EXAMPLE = "Example: algo reproduce ../colleague/reports/research/20261121-040512-3f2a9c1b"
BATCH_EXAMPLE = "Example: algo batch grid.yaml --dry-run"

Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="A parameter of the template, e.g. -p horizon=10. May be repeated.",
        show_default=False,
    ),
]
RunArgument = Annotated[str, typer.Argument(help="A run's id or a part of it, `last`, or the path of its folder.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds a run may take; 0: no limit. Default: [runs] timeout.", show_default=False),
]
Memory = Annotated[
    float | None,
    typer.Option(min=0, help="GiB a run may use; 0: no limit. Default: [runs] memory.", show_default=False),
]
COLOURS = {"succeeded": "green", "done before": "green", "running": "cyan", "running elsewhere": "cyan", "to do": "dim"}


def _folders(workspace: Workspace) -> tuple[Path, Path]:
    """Where runs are written, and where the workspace's own templates are."""
    settings = workspace.settings
    return settings.path(settings.workspace.reports), settings.path(settings.workspace.templates)


def _given(parameters: list[str] | None) -> dict[str, str]:
    from algo_research.core.errors import InputError

    given: dict[str, str] = {}
    for text in parameters or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"-p {text!r} cannot be read. Write -p name=value, e.g. -p horizon=10.")
        if name in given:
            raise InputError(
                f"-p says {name} twice: {given[name]!r}, then {value!r}. Leave one out; several values of a list are "
                "separated by commas, and several runs are a batch (`algo batch --help`)."
            )
        given[name] = value
    return given


def _status(status: str) -> Text:
    return line((status, COLOURS.get(status, "red")))


def run(
    template: Annotated[
        str | None,
        typer.Argument(
            help="Name of a template, or a path to a notebook. Without it: what there is.", show_default=False
        ),
    ] = None,
    parameter: Parameters = None,
    force: Annotated[bool, typer.Option("--force", help="Run although the same run is there.")] = False,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="List the template's parameters and run nothing.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Also show what the cells print.")] = False,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Research: a plan's file, YAML or JSON.", show_default=False)
    ] = None,
    open_reserved: Annotated[
        bool, typer.Option("--open-reserved", help="Research: judge on the reserved final period: once.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the reserved period is opened.")] = False,
    timeout: Timeout = None,
    memory: Memory = None,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Run a template notebook: checked parameters, a folder with notebook, report, metrics and manifest."""
    from algo_research.runs.parameters import find_template, resolve_parameters

    limits, looks = {"timeout": timeout, "memory": memory}, template is None or parameters
    with open_workspace(root, env, set_, looks, runs=limits) as workspace:
        reports, own = _folders(workspace)
        if template is None:
            return _list_templates(own)
        found = find_template(template, own)
        if parameters:
            return _list_parameters(found)
        values = resolve_parameters(found, _given(parameter), text=True)
        _check_choices(found, values, workspace, plan, open_reserved, yes)
        from algo_research.runs.runner import done_before, gather_inputs, recover, run_template

        with Steps() as tell:
            tell("inputs", "code, data, dependencies")
            _say_recovered(recover(workspace))
            inputs = gather_inputs(found, values, workspace)
            before = None if force else done_before(found, inputs, reports, workspace.settings.root)
            if before:
                tell("inputs", f"the same as those of {before.id}: nothing to run")
            else:
                told = _print_line if log else lambda line: None
                made = run_template(found, values, workspace, tell, told, inputs, alone=True)
                if made.status != "succeeded":
                    tell.failed = True
        result = before or made
        show_run(result)
        if before:
            console(stderr=True).print(line(("Done before; --force runs it again.", "dim")))
        if result.status != "succeeded":
            raise typer.Exit(130 if result.status == "cancelled" else 1)


def _check_choices(
    template: Template, values: dict[str, Any], workspace: Workspace, plan: Path | None, opening: bool, yes: bool
) -> None:
    """Put a plan's file and the opening among the parameters, and refuse what cannot be made before anything starts."""
    from algo_research.core.errors import InputError
    from algo_research.research.plan import read_plan

    for option, told, name in (("--plan", plan is not None, "plan"), ("--open-reserved", opening, "open_reserved")):
        if told and name not in template.parameters:
            raise InputError(
                f"{option} is for templates with a parameter {name!r}, and {template.name} has none. Leave it out."
            )
    if plan is not None:
        values["plan"] = read_plan(plan).model_dump(mode="json")
    if opening:
        values["open_reserved"] = True
    if values.get("open_reserved"):
        _ask_before_opening(values, workspace, yes)


def _ask_before_opening(values: dict[str, Any], workspace: Workspace, yes: bool) -> None:
    """Whether the reserved period may be opened, and then whether it shall be."""
    from algo_research.core.text import visible
    from algo_research.research.plan import make_plan, plan_from_settings
    from algo_research.research.road import ask_reserved
    from algo_research.workspace.settings import with_dotted

    own = ("dataset", "strategy", "compare", "model", "costs", "horizon", "folds", "engine", "seed")
    told = {"research": {n: values.get(n) for n in own}, "costs": {n: values.get(n) for n in ("fees", "slippage")}}
    settings = workspace.told(**with_dotted(values.get("settings") or {}, told))
    given = values.get("plan")
    wanted = workspace.match(given["datasets"] if given else settings.research.dataset)
    plan = make_plan({**given, "datasets": wanted}) if given else plan_from_settings(settings, wanted)
    begins = ask_reserved(workspace.load(wanted), plan, workspace.ledger, workspace.settings.root)
    if not yes:
        what = f"The reserved period of {', '.join(plan.datasets)} from {begins:%Y-%m-%d} can be opened once"
        typer.confirm(visible(f"{what}, for this plan ({plan.content[:12]}). Open it?"), abort=True, err=True)


def _print_line(text: str) -> None:
    console(stderr=True).print(line((f"  {text}", "dim")))


def _say_recovered(runs: list[Run]) -> None:
    for found in runs:
        console(stderr=True).print(
            line(
                ("Note:", "yellow"),
                f" the run {found.id} of {found.template} was abandoned: its process died. It is kept, with that "
                "status.",
            )
        )


def _list_templates(own: Path) -> None:
    from algo_research.core.errors import AlgoError
    from algo_research.runs.parameters import find_template, list_templates

    rows = table("template", "what it does", "parameters", numbers=0)
    for name in list_templates(own):
        try:
            found = find_template(name, own)
            rows.add_row(name, found.promise, " ".join(found.parameters))
        except AlgoError as error:
            rows.add_row(name, line((str(error), "red")), "")
    console().print(rows)


def _list_parameters(template: Template) -> None:
    rows = table("parameter", "type", "default", "meaning", numbers=0, title=f"{template.title}: {template.promise}")
    for p in template.parameters.values():
        rows.add_row(p.name, p.type, "must be given" if p.default is ... else repr(p.default), p.meaning)
    console().print(rows)


def show_run(run: Run) -> None:
    """What one wants to know of a run at a glance."""
    out, manifest = console(), run.manifest
    out.print(
        line("\n", (run.template, "bold"), f" {run.id}  ")
        + _status(run.status)
        + line(f"  {manifest['record'].get('seconds') or 0:.1f} s")
    )
    if not run.is_identified():
        out.print(line(("Changed:", "red"), " what run.json says went in is not what its identity was made of."))
    if error := manifest.get("error"):
        where = f"step {error['step']}, " if error.get("step") else ""
        cell = f"cell {error['cell']}: " if error.get("cell") is not None else ""
        out.print(line((f"{where}{cell}{error['type']}", "red"), f" {error['message']}"))
    verdict = _verdict(run)
    if run.metrics:
        from algo_research.stats.metrics import in_units

        rows = table("metric", "value", "unit", numbers=1)
        for name, value in run.metrics.items():
            number, unit = in_units(name, value, verdict.get("currency") or "")
            rows.add_row(name, number, unit)
        out.print(rows)
    if verdict:
        out.print(line((str(verdict.get("sentence", "")), "bold")))
        for note in verdict.get("notes", ()):
            out.print(line(("Note:", "yellow"), f" {note}"))
        hashes = "  ".join(f"{name} {value[:16]}" for name, value in (verdict.get("hashes") or {}).items())
        out.print(line((hashes, "dim")))
    if cut := manifest["record"].get("output_cut"):
        out.print(line(("Note:", "yellow"), f" {cut}"))
    view = run.folder / "report.html"
    out.print(line((str(view if view.is_file() else run.folder), "dim")))


def _verdict(run: Run) -> dict[str, Any]:
    """What was judged; empty where nothing was."""
    there = (run.folder / "artifacts" / "verdict.json").is_file() and run.status == "succeeded"
    return run.artifact("verdict") if there else {}


def runs(
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="Only runs of this template.", show_default=False)
    ] = None,
    status: Annotated[
        str | None, typer.Option(help="Only runs with this status, e.g. failed.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Show this metric. May be repeated.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 30,
    clean: Annotated[bool, typer.Option("--clean", help="Delete runs that did not succeed, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """List runs: what they were told, how they went, what they found."""
    from algo_research.core.errors import DataError, unknown_name
    from algo_research.runs.parameters import list_templates
    from algo_research.runs.record import STATUSES, list_runs
    from algo_research.runs.runner import recover
    from algo_research.stats.metrics import UNITS, in_units

    if status is not None and status not in (known := (*STATUSES, "damaged")):
        raise unknown_name("status", status, known, f"Known: {', '.join(known)}.")
    with open_workspace(root, env) as workspace:
        reports, own = _folders(workspace)
        if template is not None and template not in (
            names := {*list_templates(own), *(r.template for r in list_runs(reports))}
        ):
            raise unknown_name("template", template, names, "`algo run` lists them.")
        if reports.is_dir():
            _say_recovered(recover(workspace))
    found = [r for r in list_runs(reports, template) if status is None or r.status == status]
    if clean:
        return _clean([r for r in found if r.status not in ("succeeded", "running")], yes)
    if not found:
        asked = "".join([f" of {template}" if template else "", f" with status {status}" if status else ""])
        console().print(f"No runs{asked} in {reports}. Example: algo run research")
        return
    _check_metrics(metric or [], found)
    heads = [f"{name} ({UNITS[name]})" if name in UNITS else name for name in metric or []]
    rows = table("run", "template", "status", "seconds", *heads, "told (else as by default)", numbers=3 + len(heads))
    for r in found[-limit:]:
        try:
            m = r.manifest
            seconds = f"{m['record'].get('seconds') or 0:.1f}"
            numbers = [in_units(name, r.metrics[name])[0] if name in r.metrics else "-" for name in metric or []]
            rows.add_row(
                r.id,
                r.template,
                _status(r.status),
                seconds,
                *numbers,
                " ".join(f"{k}={_in_short(v)}" for k, v in r.told.items()),
            )
        except DataError as error:
            rows.add_row(r.id, r.template, line(("damaged", "red")), "", *("-" for _ in metric or []), str(error))
    console().print(rows)
    if len(found) > limit:
        console().print(line((f"{len(found) - limit} older ones; --limit shows more.", "dim")))


def _in_short(value: Any) -> str:
    """A value in a list; of a plan its hash and its strategy."""
    if not isinstance(value, dict) or "datasets" not in value:
        return str(value)
    from algo_research.core.errors import InputError
    from algo_research.research.plan import make_plan

    try:
        plan = make_plan(value)
    except InputError:  # it only looks like a plan, or is one of another version
        return str(value)
    return f"{plan.content[:12]}({', '.join(plan.datasets)}: {plan.strategy})"


def _check_metrics(asked: list[str], found: list[Run]) -> None:
    """Refuse a metric that none of these runs has, where they have any."""
    from contextlib import suppress

    from algo_research.core.errors import DataError, unknown_name

    there: set[str] = set()
    for r in found if asked else []:
        with suppress(DataError):  # the list names what is damaged
            there |= r.metrics.keys()
    for name in asked:
        if there and name not in there:
            raise unknown_name("metric", name, there)


def _clean(doomed: list[Run], yes: bool) -> None:
    import shutil

    if not doomed:
        console().print("Every run succeeded or is running: nothing to delete.")
        return
    for r in doomed:
        console().print(line(f"{r.folder}  ") + _status(r.status))
    if not yes:
        typer.confirm(f"Delete these {len(doomed)} folders?", abort=True, err=True)
    for r in doomed:
        shutil.rmtree(r.folder)
    console().print(f"{len(doomed)} deleted.")


def show(
    run: RunArgument,
    log: Annotated[bool, typer.Option("--log", help="Also print the run's log.")] = False,
    inputs: Annotated[bool, typer.Option("--inputs", help="Also print what it depended on.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Show one run: status, metrics, verdict, where its report is."""
    from algo_research.core.hashing import canonical_json
    from algo_research.runs.record import find_run

    with open_workspace(root, env) as workspace:
        found = find_run(_folders(workspace)[0], run)
    show_run(found)
    out, m = console(), found.manifest
    steps = table("step", "status", "seconds", numbers=2)
    for s in m["steps"]:
        steps.add_row(s["name"], _status(s["status"]), f"{s['seconds']:.2f}")
    if m["steps"]:
        out.print(steps)
    if m["inputs"].get("parameters"):
        out.print("parameters  " + " ".join(f"{k}={v!r}" for k, v in m["inputs"]["parameters"].items()))
    if inputs:
        for kind in ("template", "data", "settings", "runs", "files", "seed", "ledger", "dependencies"):
            if m["inputs"].get(kind):
                out.print(f"{kind}  {canonical_json(m['inputs'][kind])}")
    if log and (path := found.folder / "log.txt").is_file():
        out.print(path.read_text(errors="replace"))


def reproduce(
    run: RunArgument,
    parameter: Parameters = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Run although inputs differ, and see which outputs do.")
    ] = False,
    template: Annotated[
        str,
        typer.Option(
            "--template",
            metavar="PATH",
            help="The notebook, where the run was made from one by its path.",
            show_default=False,
        ),
    ] = "",
    trust: Annotated[
        bool, typer.Option("--trust", help="Import the modules that a stranger's run names; look at them first.")
    ] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Run it again here and compare hash by hash; name every input that is not as it was.

    A notebook that the record names by a path is not run by itself, and code that a run of somebody else names is not
    imported.
    """
    from algo_research.runs.parameters import resolve_parameters
    from algo_research.runs.record import find_run
    from algo_research.runs.runner import reproduce as repeat
    from algo_research.runs.runner import template_of

    with open_workspace(root, env) as workspace:
        reports, _ = _folders(workspace)
        original = find_run(reports, run)
        given = {}
        if parameter:
            told, notebook = _given(parameter), template_of(original, template, workspace.settings)
            resolved = resolve_parameters(notebook, told, text=True)
            given = {name: resolved[name] for name in told}
        with Steps() as tell:
            found = repeat(original, workspace, given, anyway, tell, template, trust, alone=True)
            tell.failed = not found.reproduced
    out = console()
    _differences("What went in differs", found.inputs)
    if found.run is None:
        out.print("Not run: with other inputs other outputs are no surprise. --anyway runs it and compares.")
    elif found.run.status != "succeeded":
        show_run(found.run)
    else:
        _differences("What came out differs", found.outputs)
        out.print(f"{found.equal} of {len(original.manifest['outputs'])} output hashes are equal.")
        for name, value in original.manifest["outputs"].items() if found.reproduced else ():
            out.print(line(("=", "green"), f" {name}  {value[:16]}"))
    end = ("Reproduced.", "bold green") if found.reproduced else ("Not reproduced.", "bold red")
    out.print(line(end))
    if not found.reproduced:
        raise typer.Exit(1)


def _differences(title: str, found: list[Difference]) -> None:
    if not found:
        return
    rows = table(title, "was", "is", numbers=0)
    for d in found:
        rows.add_row(d.name, d.was, d.now)
    console().print(rows)


def batch(
    file: Annotated[
        Path, typer.Argument(help="A YAML file: template, parameters, grid, runs, parallel, timeout, memory.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is done and what would be run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also run what is done.")] = False,
    parallel: Annotated[
        int | None, typer.Option(min=0, help="Runs at the same time; 0: one a core.", show_default=False)
    ] = None,
    timeout: Timeout = None,
    memory: Memory = None,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Run every combination of a grid in parallel; started again, it runs what is missing."""
    from algo_research.runs.batch import plan_batch, read_batch, run_batch

    with open_workspace(root, env, set_) as workspace:
        read = read_batch(file, _folders(workspace)[1])
        read.limits.update(
            {k: v for k, v in {"parallel": parallel, "timeout": timeout, "memory": memory}.items() if v is not None}
        )
        planned = plan_batch(read, workspace, force)
        if any(p.key and not p.inputs["data"] for p in planned):
            console().print(
                line(
                    ("Note:", "yellow"),
                    f" {read.template.name} names no dataset by the type of a parameter: its trials are counted one "
                    "by one, and not planned.",
                )
            )
        if not dry_run:
            with BatchView(read, planned) as view:
                run_batch(read, planned, workspace, view)
    _show_batch(read, planned)
    missing = [p for p in planned if not p.finished]
    if missing and not dry_run:
        console().print(
            line((f"{len(missing)} of {len(planned)} are missing;", "yellow"), " the same command runs them again.")
        )
        raise typer.Exit(1)


def _show_batch(batch: Batch, planned: list[Planned]) -> None:
    from algo_research.stats.metrics import UNITS, in_units

    names = [
        n
        for n in ("sharpe", "active_sharpe", "confidence", "trials", "edge")
        if any(n in p.run.metrics for p in planned if p.run)
    ]
    names = names or sorted({n for p in planned if p.run for n in p.run.metrics})[:4]
    heads = [f"{name} ({UNITS[name]})" if name in UNITS else name for name in names]
    rows = table("#", *batch.varied, "state", *heads, "run", numbers=0)
    for i, p in enumerate(planned):
        numbers = [in_units(n, p.run.metrics[n])[0] if p.run and n in p.run.metrics else "-" for n in names]
        why = p.error or (
            str((p.run.manifest.get("error") or {}).get("message", "")) if p.run and not p.finished else ""
        )
        why = why if len(why) <= 80 else why[:79] + "…"
        rows.add_row(
            str(i + 1),
            *(str(p.values[v]) for v in batch.varied),
            _status(p.state),
            *numbers,
            (p.run.id if p.run else "") + (f"  {why}" if why else ""),
        )
    console().print(rows)


class BatchView:
    """One line for each run that is going on, and one for all of them; without a terminal, a line for each end."""

    def __init__(self, batch: Batch, planned: list[Planned]) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.batch, self.planned, self.console = batch, planned, console(stderr=True)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        self.tasks: dict[int, Any] = {}
        self.all = self.progress.add_task("all", total=len(planned), completed=sum(p.finished for p in planned))

    def __enter__(self) -> BatchView:
        done = sum(p.finished for p in self.planned)
        self.console.print(f"{len(self.planned)} runs of {self.batch.template.name}, {done} of them done before")
        self.progress.start()
        return self

    def __exit__(self, *_) -> None:
        self.progress.stop()

    def __call__(self, index: int, step: str, text: str) -> None:
        """Tell how run `index` is going."""
        from algo_research.core.text import visible

        p = self.planned[index]
        name = visible(f"{index + 1} " + " ".join(f"{v}={p.values[v]}" for v in self.batch.varied))
        steps = [*self.batch.template.steps, "record"]
        if p.state == "running":
            if index not in self.tasks:
                self.tasks[index] = self.progress.add_task(name, total=len(steps))
            self.progress.update(
                self.tasks[index],
                description=f"{name}  {visible(step)} {visible(text)}",
                completed=steps.index(step) if step in steps else None,
            )
            return
        if index in self.tasks:
            self.progress.remove_task(self.tasks.pop(index))
        self.console.print(_status(p.state) + line(f"  {name}"))
        self.progress.update(self.all, advance=1)
