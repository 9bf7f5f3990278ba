"""`algo research`, another name for `algo run research`, and `algo trials`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Env, Root, Set, console, open_workspace, table
from .runs import Memory, Timeout, run

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
        Path | None, typer.Option("--plan", help="A plan's file; it wins over the options above.", show_default=False)
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


def trials(
    dataset: Annotated[str, typer.Argument(help="venue/symbol/timeframe; several separated by commas are one panel")],
    env: Env = None,
    root: Root = None,
) -> None:
    """List every configuration that was tried on a dataset: the verdict counts them."""
    import json

    with open_workspace(root, env) as workspace:
        snapshot = workspace.load(dataset).snapshot()
        ledger, name = workspace.ledger, snapshot.dataset
        tried, opened = ledger.trials(name, snapshot.content), ledger.openings(name)
        count, independent = ledger.count(name, snapshot.content), ledger.effective(name, snapshot.content)
    rows = table("configuration", "dataset", "strategy", "parameters", "bars", "recorded", numbers=0)
    for row in tried.iter_rows(named=True):
        config = json.loads(row["config"])
        own = config.get("research", {})
        chosen = {**config.get("params", {}), **{k: own[k] for k in ("horizon", "seed") if k in own}}
        for part in ("model", "costs"):
            if part in config:
                values = ", ".join(f"{k}={v}" for k, v in config[part].get("params", {}).items())
                chosen[part] = f"{config[part]['name']}({values})"
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
    out.print(f"{count} trials on {name}, {independent:.1f} of them independent.")
    for row in opened.iter_rows(named=True):
        out.print(
            f"Reserved period from {row['start'][:10]} opened at {row['opened'][:16]} by {row['config_hash'][:12]}."
        )
