"""`algo research`, another name for `algo run research`, and `algo trials`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, Set, console, line, open_workspace, table
from .runs import Memory, Timeout, run

if TYPE_CHECKING:
    from algo_research.workspace.bootstrap import Workspace

EXAMPLE = "Example: algo research arch/NASDAQ/1d --strategy moving_average --fees 0.001 --seed 3"
TRIALS_EXAMPLE = "Example: algo trials arch/SP500/1d"
DatasetHelp = "Ids separated by commas, or a pattern; `algo data list` shows all. Default: [research] dataset."


def research(
    dataset: Annotated[str | None, typer.Argument(help=DatasetHelp, show_default=False)] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="Whose edge is judged: a name, name(parameter=value), or module:Class.", show_default=False),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Strategies tried beside it, each a trial; '' for none.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Fitted where the strategy wants predictions.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the model.", show_default=False)] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars the predicted return spans.", show_default=False)] = None,
    folds: Annotated[int | None, typer.Option(help="Walk-forward windows.", show_default=False)] = None,
    fees: Annotated[
        float | None, typer.Option(help="Percentage fee: 0.001 is 10 basis points.", show_default=False)
    ] = None,
    slippage: Annotated[
        float | None, typer.Option(help="Slippage as a fraction of the price.", show_default=False)
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Who keeps the accounts: vectorbt or kernel.", show_default=False)
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="A plan's file; none of the options above beside it.", show_default=False),
    ] = None,
    open_reserved: Annotated[
        bool, typer.Option("--open-reserved", help="Judge on the reserved final period: once.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the reserved period is opened.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run although the same run is there.")] = False,
    timeout: Timeout = None,
    memory: Memory = None,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Another name for `algo run research`: the whole road, from bars to a verdict, as a run that can be reproduced."""
    told = {
        "strategy": strategy,
        "compare": compare,
        "model": model,
        "seed": seed,
        "horizon": horizon,
        "folds": folds,
        "fees": fees,
    }
    told |= {"slippage": slippage, "engine": engine}
    parameters = [f"{name}={value}" for name, value in told.items() if value is not None]
    parameters += [f"dataset={dataset}"] if dataset is not None else []
    run("research", parameters, force, False, False, plan, open_reserved, yes, timeout, memory, set_, env, root)


def _in_words(choice: object) -> str:
    """A model or a cost model as the ledger holds it: ours have a name and parameters."""
    if not isinstance(choice, dict) or "name" not in choice:
        return str(choice)
    return f"{choice['name']}({', '.join(f'{k}={v}' for k, v in (choice.get('params') or {}).items())})"


def trials(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="venue/symbol/timeframe; several separated by commas are one panel. Default: [research] dataset.",
            show_default=False,
        ),
    ] = None,
    accept_loss: Annotated[
        str | None,
        typer.Option(
            "--accept-loss",
            metavar="REASON",
            help="Go on with a ledger that was lost, where there is no backup; every verdict says so from then on.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the loss is entered.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """List every configuration that was tried on a dataset: the verdict counts them."""
    import json

    from algo_research.core.errors import InputError
    from algo_research.runs.record import lost_entries

    if accept_loss is not None and dataset is not None:
        raise InputError(
            f"--accept-loss concerns the whole trial ledger, not {dataset!r} alone. Leave one of them out."
        )
    with open_workspace(root, env) as workspace:
        if accept_loss is not None:
            return _accept_loss(workspace, accept_loss, yes)
        loaded = workspace.load(dataset or workspace.settings.research.dataset)
        snapshot, ledger = loaded.snapshot(), workspace.ledger
        name = snapshot.dataset
        ledger.meet(loaded)
        tried, opened = ledger.trials(name, snapshot.content), ledger.openings(name, snapshot.content)
        count, independent = ledger.count(name, snapshot.content), ledger.effective(name, snapshot.content)
        elsewhere, planned = ledger.known_as(name, snapshot.content), ledger.planned(name, snapshot.content)
        losses = ledger.losses()
        lost = lost_entries(ledger, workspace.settings.path(workspace.settings.workspace.reports))
    rows = table("configuration", "dataset", "strategy", "parameters", "bars", "recorded", numbers=0)
    for row in tried.iter_rows(named=True):
        config = json.loads(row["config"])
        own = config.get("research", {})
        chosen = {**config.get("params", {}), **{k: own[k] for k in ("horizon", "seed") if k in own}}
        for part in ("model", "costs"):
            if part in config:
                chosen[part] = _in_words(config[part])
        shown = " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items())
        rows.add_row(
            row["config_hash"][:12],
            row["dataset"],
            config.get("strategy", ""),
            shown,
            f"{row['bars']:,}",
            row["recorded"][:16],
        )
    out = console()
    if tried.height:
        out.print(rows)
    also = "".join(f", {trials} as {other}" for other, trials in elsewhere.items())
    only = f", {len(planned)} of them planned and not yet judged" if planned else ""
    out.print(f"{count} trial{'s' * (count != 1)} on {name}{also}{only}, {independent:.1f} of them independent.")
    if lost:
        out.print(line(("Note:", "yellow"), f" {lost}. `algo doctor` says what to do."))
    for loss in losses:
        out.print(line(("Note:", "yellow"), f" {loss}."))
    for row in opened.iter_rows(named=True):
        out.print(
            f"Reserved period from {row['start'][:10]} opened at {row['opened'][:16]} by {row['config_hash'][:12]}."
        )


def _accept_loss(workspace: Workspace, reason: str, yes: bool) -> None:
    """Show what the trial ledger lost, ask, and enter it."""
    from algo_research.core.errors import InputError
    from algo_research.runs.record import lost_heads

    if not reason.strip():
        raise InputError("Say why the ledger is lost, e.g. --accept-loss 'disk broken, no backup'.")
    ledger, settings = workspace.ledger, workspace.settings
    held, _ = ledger.verify()
    lost = lost_heads(ledger, settings.path(settings.workspace.reports))
    if not lost:
        raise InputError(f"{ledger.path} has every entry that a run knew: there is no loss to accept.")
    rows = table("run", "knew entries", "the last of them", numbers=1)
    for knew, (seq, last) in lost.items():
        rows.add_row(knew, str(seq), last[:12])
    out = console()
    out.print(rows)
    out.print(f"{ledger.path} has {held} entries, and not these. What was tried in them counts no more.")
    if not yes:
        typer.confirm("Enter the loss for good, and let every verdict say so?", abort=True, err=True)
    ledger.accept_loss(lost, reason)
    out.print(f"Entered: {ledger.losses()[-1]}.")
