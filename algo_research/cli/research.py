"""`algo research` and `algo trials`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, Set, Steps, console, open_workspace, table

if TYPE_CHECKING:
    from algo_research.execution.costs import PercentageCosts
    from algo_research.research.road import Research

EXAMPLE = "Example: algo research arch/NASDAQ/1d --strategy moving_average --fees 0.001 --seed 3"
TRIALS_EXAMPLE = "Example: algo trials arch/SP500/1d"


def research(
    dataset: Annotated[str | None, typer.Argument(help="venue/symbol/timeframe; `algo data list` shows all. Default: [research] dataset.", show_default=False)] = None,
    strategy: Annotated[str | None, typer.Option(help="Whose edge is judged: model or moving_average.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the model and the bootstrap.", show_default=False)] = None,
    horizon: Annotated[int | None, typer.Option(help="Bars the predicted return spans.", show_default=False)] = None,
    folds: Annotated[int | None, typer.Option(help="Walk-forward windows.", show_default=False)] = None,
    fees: Annotated[float | None, typer.Option(help="Percentage fee as a fraction: 0.001 is 10 basis points.", show_default=False)] = None,
    slippage: Annotated[float | None, typer.Option(help="Slippage as a fraction of the price.", show_default=False)] = None,
    engine: Annotated[str | None, typer.Option(help="Who keeps the accounts: vectorbt or kernel.", show_default=False)] = None,
    open_reserved: Annotated[bool, typer.Option("--open-reserved", help="Judge on the reserved final period. It can be opened once.")] = False,
    compare: Annotated[bool, typer.Option(help="Evaluate the other strategy, too; each one is a trial.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the reserved period is opened.")] = False,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Walk the whole road: bars, features, walk-forward model, targets, backtest with costs, verdict."""
    chosen = {"dataset": dataset, "strategy": strategy, "seed": seed, "horizon": horizon, "folds": folds, "engine": engine}
    with open_workspace(root, env, set_, research=chosen, costs={"fees": fees, "slippage": slippage}) as workspace:
        settings = workspace.settings
        if open_reserved and not yes:
            typer.confirm(f"The reserved period of {settings.research.dataset} can be opened once, for this configuration. Open it?", abort=True, err=True)
        with Steps() as tell:
            tell("start", f"workspace {settings.root}")
            from algo_research.data.catalog import load_dataset
            from algo_research.research.road import research as walk

            tell("bars", f"loading {settings.research.dataset}")
            data = load_dataset(settings.research.dataset, workspace.store)
            found = walk(data, settings, workspace.ledger, workspace.tracker, compare=compare, open_reserved=open_reserved, tell=tell)
        show(found, settings.research.strategy, settings.research.folds, settings.costs)


def show(found: Research, strategy: str, folds: int, costs: PercentageCosts) -> None:
    """The short table and the sentence."""
    from rich.markup import escape

    from algo_research.stats.metrics import performance

    out = console()
    v, r, years = found.verdict, found.result, len(found.result.returns) / found.result.periods_per_year
    first, last = r.equity["ts"][0], r.equity["ts"][-1]
    part = "the reserved period" if found.reserved_opened else "out of sample"
    out.print()
    facts = table("", "", numbers=0)
    facts.show_header = False
    rows = {
        "dataset": f"{found.dataset}  ({found.snapshot.adjustment} prices, content {found.snapshot.content[:12]})",
        "period": f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, {part}: {r.equity.height:,} bars, {years:.2f} years, {folds} folds",
        "reserved": f"from {found.reserved_from:%Y-%m-%d}" + (" (opened)" if found.reserved_opened else " (closed)") if found.reserved_from else "nothing",
        "start": f"{r.initial_cash:,.0f}, fees {100 * costs.fees:.4g}%" + (f" + {costs.fixed_fees:g} a fill" if costs.fixed_fees else "") + f", slippage {100 * costs.slippage:.4g}%",
        "trials": f"{v.n_trials} on this dataset, {v.n_effective:.1f} of them independent",
    }
    for name, text in rows.items():
        facts.add_row(name, escape(text))
    out.print(facts)

    columns = {strategy.replace("_", " "): r, **{n.replace("_", " "): x for n, x in found.others.items()}}
    figures = table("", *columns, "matched hold")
    hold = performance(v.hold.returns.clip(min=-1), r.periods_per_year)
    everyone = [*(x.performance for x in columns.values()), hold]
    figures.add_row("return", *(f"{p.total_return:+.1%}" for p in everyone))
    if years >= 1:
        figures.add_row("return a year", *(f"{p.annual_return:+.1%}" for p in everyone))
    figures.add_row("Sharpe ± se", *(f"{p.sharpe:.2f} ± {p.sharpe_se:.2f}" for p in everyone))
    figures.add_row("max drawdown", *(f"{p.max_drawdown:.1%}" for p in everyone))
    figures.add_row("average exposure", *(f"{x.positions.group_by('symbol').agg(e=_mean()).get_column('e').sum():+.2f}" for x in columns.values()), f"{sum(v.hold.exposure.values()):+.2f}")
    figures.add_row("trades (fills)", *(f"{x.fills.height:,}" for x in columns.values()), "-")
    figures.add_row("turnover a year", *(f"{x.turnover:.1f} x" for x in columns.values()), "-")
    figures.add_row("costs paid", *(f"{x.costs_paid:,.0f}" for x in columns.values()), "-")
    out.print(figures)

    beside = table("return beyond that hold", "mean", "Sharpe ± se", "confidence", "bootstrap p")
    for name, e in (("as it is", v.evidence), ("costs x 2", v.costs_doubled), ("orders one bar late", v.one_bar_late)):
        if e:
            beside.add_row(name, e.pace.removeprefix("mean "), f"{e.sharpe:.2f} ± {e.sharpe_se:.2f}", f"{e.confidence:.1%}", f"{e.pvalue:.4f}")
    out.print(beside)
    out.print("[dim]matched hold: a constant holding with the strategy's average exposure, free of costs; se: standard error; mean: arithmetic, while the returns above are compounded[/dim]")
    for note in found.notes:
        out.print(f"[yellow]Note:[/yellow] {escape(note)}")
    if r.bankrupt_at:
        out.print(f"[red]Bankrupt at {r.bankrupt_at}.[/red]")
    out.print(f"\n[bold]{escape(v.sentence)}[/bold]\n")
    out.print("[dim]" + "  ".join(f"{name} {h[:16]}" for name, h in found.hashes.items()) + (f"  run {found.run_id}" if found.run_id else "") + "[/dim]")


def _mean():
    import polars as pl

    return pl.col("exposure").mean()


def trials(
    dataset: Annotated[str, typer.Argument(help="venue/symbol/timeframe")],
    env: Env = None,
    root: Root = None,
) -> None:
    """List every configuration that was tried on a dataset: the verdict counts them."""
    import json

    from algo_research.data.catalog import load_dataset

    with open_workspace(root, env) as workspace:
        content = load_dataset(dataset, workspace.store).snapshot().content
        tried, opened = workspace.ledger.trials(dataset, content), workspace.ledger.openings(dataset)
        count, independent = workspace.ledger.count(dataset, content), workspace.ledger.effective(dataset, content)
    rows = table("configuration", "dataset", "strategy", "parameters", "bars", "recorded", numbers=0)
    for row in tried.iter_rows(named=True):
        config = json.loads(row["config"])
        chosen = {**config.get("params", {}), **{k: config.get("research", {}).get(k) for k in ("horizon", "seed") if k in config.get("research", {})}}
        rows.add_row(row["config_hash"][:12], row["dataset"], config.get("strategy", ""), " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in chosen.items()), f"{row['bars']:,}", row["recorded"][:16])
    out = console()
    if tried.height:
        out.print(rows)
    out.print(f"{count} trials on {dataset}, {independent:.1f} of them independent.")
    for row in opened.iter_rows(named=True):
        out.print(f"Reserved period from {row['start'][:10]} opened at {row['opened'][:16]} by {row['config_hash'][:12]}.")
