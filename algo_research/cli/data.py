"""`algo data`: list, import, show, check, history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Env, Root, console, line, open_workspace, table

if TYPE_CHECKING:
    import polars as pl

    from algo_research.data.market.bars import Dataset, DatasetId
    from algo_research.data.stores.base import Store
    from algo_research.workspace.bootstrap import Workspace

app = typer.Typer(
    help="Datasets: what there is, what is in it, what is wrong with it.\n\nExample: algo data list",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DatasetArgument = Annotated[str, typer.Argument(help="venue/symbol/timeframe; `algo data list` shows all")]


@app.command("list", epilog="Example: algo data list")
def list_(env: Env = None, root: Root = None) -> None:
    """Every dataset that can be asked for."""
    from algo_research.data.catalog import list_datasets

    with open_workspace(root, env) as workspace:
        found = list_datasets(workspace.store, workspace.settings.root)
    rows = table("dataset", "source", "description", numbers=0)
    for row in found.iter_rows():
        rows.add_row(*row)
    console().print(rows)


@app.command("import", epilog="Example: algo data import btc_1h.csv.gz --id coinbase/BTC-USD/1h --dry-run")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help=".csv or .txt (also .gz), .parquet or .feather, as downloaded; several become one dataset"),
    ],
    id: Annotated[
        str | None,
        typer.Option(
            "--id", help="venue/symbol/timeframe; of one file by default file/NAME/TIMEFRAME.", show_default=False
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="What a time labels: auto, open or close.")] = "auto",
    timeframe: Annotated[
        str | None, typer.Option(help="By default the most frequent step.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS",
            help="Name a column, e.g. --column volume='Volume BTC'. May be repeated.",
            show_default=False,
        ),
    ] = None,
    calendar: Annotated[
        str, typer.Option(help="24/7, 24/5 (currencies), or an exchange's, e.g. XNYS; auto: the one the bars keep.")
    ] = "auto",
    tz: Annotated[
        str | None,
        typer.Option("--tz", help="Where the clock of the times hangs, e.g. America/New_York.", show_default=False),
    ] = None,
    dates: Annotated[str, typer.Option(help="How to read 01/02/2024: auto, day-first or month-first.")] = "auto",
    decimal: Annotated[
        str | None, typer.Option(metavar="POINT", help="What separates decimals: . or ,", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="The source by name, e.g. binance, histdata, metatrader4.", show_default=False),
    ] = None,
    kind: Annotated[str, typer.Option(help="spot, perpetual, future, equity or index.")] = "spot",
    adjustment: Annotated[
        str, typer.Option(help="Of the prices: raw, split or total; auto: the known source's, or raw.")
    ] = "auto",
    sort: Annotated[bool, typer.Option("--sort", help="Accept rows in any order.")] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Keep the last of rows with the same time.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Change bars that are already stored.")] = False,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Let the file take the place of all that is stored (versions stay).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen and store nothing.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Read files of bars, say what was understood, and store them: all or nothing."""
    from algo_research.core.errors import DataError, InputError
    from algo_research.data.catalog import reserved_venues
    from algo_research.data.intake.importing import import_file, import_files, stored_changes
    from algo_research.data.stores.base import ABSENT, newest_version

    columns = {}
    for text in column or []:
        ours, equals, theirs = text.partition("=")
        if not equals:
            raise InputError(f"--column {text!r} cannot be read. Write --column OURS=THEIRS, e.g. --column ts=date.")
        columns[ours] = theirs
    with open_workspace(root, env) as workspace:
        given: dict[str, Any] = {
            "limits": workspace.settings.unpacking,
            "tell": console(stderr=True).print,
            "clock": workspace.clock,
            "timeframe": timeframe,
            "label": label,
            "columns": columns,
            "calendar": calendar,
            "kind": kind,
            "adjustment": adjustment,
            "sort": sort,
            "drop_duplicates": drop_duplicates,
            "tz": tz,
            "dates": dates,
            "decimal": decimal,
            "preset": preset,
        }
        if len(files) > 1 and not id:
            raise InputError(f"{len(files)} files become one dataset: name it, e.g. --id mine/GROUP/1d.")
        imported = import_file(files[0], id, **given) if len(files) == 1 else import_files(files, id or "", **given)
        dataset = imported.dataset
        if dataset.id.venue in reserved_venues(workspace.settings.root):
            raise InputError(
                f"The venue {dataset.id.venue!r} is not for imports: its datasets come with the package. Choose "
                f"another, e.g. --id file/{dataset.id.symbol}/{dataset.id.timeframe}."
            )
        before = newest_version(workspace.store, dataset.id)
        out, damage = console(), None
        afresh = afresh and before != ABSENT
        try:
            new, changed, same = (dataset.bars.height, 0, 0) if afresh else stored_changes(dataset, workspace.store)
        except DataError as error:
            if not replace:
                raise
            damage = error
        out.print(f"{dataset!r}")
        for decision in imported.decisions:
            out.print(f"  {decision}")
        if afresh:
            out.print(f"  {whole_change(dataset, workspace.store)}")
        elif damage is None:
            out.print(f"  {new:,} new bars, {changed:,} changed, {same:,} already stored")
        else:
            new, changed, same = dataset.bars.height, 0, 0
            out.print(f"  {new:,} bars take the place of what is stored and cannot be read: {damage}")
        if dry_run:
            out.print("Nothing was stored (--dry-run).")
            return
        if changed and not replace:
            raise InputError(
                f"{changed:,} bars of {dataset.id} are stored with other values. Look with --dry-run; pass --replace "
                "to change them (earlier versions stay readable)."
            )
        reason = "imported afresh" if afresh else ""
        version = workspace.store.write(dataset, reason, after=before, replace=afresh or damage is not None)
        snapshot = workspace.store.snapshot(dataset.id, version)
    out.print(f"Stored as {snapshot.dataset}, version {snapshot.version}, content {snapshot.content[:16]}.")
    out.print(f"Next: algo data check {snapshot.dataset}; algo run research -p dataset={snapshot.dataset}")


@app.command("show", epilog="Example: algo data show arch/SP500/1d")
def show(dataset: DatasetArgument, env: Env = None, root: Root = None) -> None:
    """What a dataset holds: span, symbols, first and last bars, warnings."""
    from algo_research.core.errors import DataError
    from algo_research.data.catalog import load_dataset
    from algo_research.data.market.bars import timeframe_duration
    from algo_research.data.quality.rules import check_bars
    from algo_research.data.quality.score import NOTED, quality_notes

    with open_workspace(root, env) as workspace:
        found = load_dataset(dataset, workspace.store, workspace.settings.root)
        versions = workspace.store.versions(found.id) if found.id in workspace.store.datasets() else []
    out, b, i = console(), found.bars, found.instrument
    out.print(f"{found!r}")
    try:
        there = f"{found.periods_per_year:,.6g} bars a year are there: annual figures are taken from these"
    except DataError as e:
        there = str(e)
    due = i.due_per_year(timeframe_duration(found.id.timeframe))
    out.print(
        f"  {i.kind}, quoted in {i.quote}, calendar {i.calendar}, which has {due:,.6g} bars a year (2020 to 2023)"
    )
    out.print(f"  {there}")
    out.print(f"  content {found.snapshot().content[:16]}")
    if versions:
        out.print(f"  version {found.version}; readable versions {', '.join(map(str, versions))}")
    for change in i.history:
        out.print(f"  formerly {change}")
    for note in (*found.notes, *quality_notes(check_bars(found, rules=NOTED))):
        out.print(line("  ", ("Note:", "yellow"), f" {note}"))
    for symbol in found.symbols[:20]:
        part = b.filter(symbol=symbol)
        out.print(
            f"  {symbol:<12} {part.height:>9,} bars  {part['ts'][0]:%Y-%m-%d} to {part['ts'][-1]:%Y-%m-%d}  "
            f"{sparkline(part['close'].to_numpy())}  {part['close'][0]:g} to {part['close'][-1]:g}"
        )
    rows = table("open time (UTC)", *(c for c in b.columns if c not in ("symbol", "ts")))
    ends = [*b.head(3).iter_rows(named=True), *b.tail(3).iter_rows(named=True)]
    for row in ends:
        rows.add_row(
            f"{row['ts']:%Y-%m-%d %H:%M}",
            *(f"{row[c]:,.6g}" if row[c] is not None else "-" for c in ("open", "high", "low", "close", "volume")),
            f"{row['known_at']:%Y-%m-%d %H:%M}",
        )
    out.print(rows)


def whole_change(dataset: Dataset, store: Store) -> str:
    """What goes when a dataset takes the place of all that is stored."""
    from algo_research.core.errors import DataError

    kept = "; it stays readable as the version before: algo data history"
    try:
        stored = store.read(dataset.id)
    except DataError as error:
        return f"{dataset.bars.height:,} bars take the place of what is stored and cannot be read: {error}"
    gone = sorted({*stored.symbols} - {*dataset.symbols})
    without = f", without {', '.join(gone[:9])}{' and others' * (len(gone) > 9)}" if gone else ""
    was = (
        f"{stored.instrument.calendar}, {stored.bars['ts'][0]:%Y-%m-%d %H:%M} to {stored.bars['ts'][-1]:%Y-%m-%d %H:%M}"
    )
    return f"{dataset.bars.height:,} bars take the place of {stored.bars.height:,} ({was} UTC){without}{kept}"


def sparkline(values, width: int = 40) -> str:
    """A line of blocks: the shape of a series."""
    import numpy as np

    picked = np.asarray(values, float)[np.linspace(0, len(values) - 1, min(width, len(values))).astype(int)]
    low, high = picked.min(), picked.max()
    levels = np.zeros(len(picked), int) if high == low else ((picked - low) / (high - low) * 7).round().astype(int)
    return "".join("▁▂▃▄▅▆▇█"[level] for level in levels)


@app.command("check", epilog="Example: algo data check arch/NASDAQ/1d; algo data check coinbase/BTC-USD/1h --repair")
def check(
    dataset: DatasetArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Show what can be repaired without inventing data, before and after.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --repair: do it. The version before stays readable.")
    ] = False,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="FINDING",
            help="With --repair: only repairs of this finding. May be repeated.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every finding and every repair, not only the costliest.")
    ] = False,
    current: Annotated[bool, typer.Option("--current", help="Also ask whether bars are overdue by now.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """What is wrong with the bars, by which evidence; the quality score, and what can be repaired.
    Changes nothing without --yes.
    """
    import polars as pl

    from algo_research.core.errors import InputError, unknown_name
    from algo_research.data.catalog import load_dataset
    from algo_research.data.market.bars import DatasetId
    from algo_research.data.quality.repairs import REPAIRS, apply_repairs, propose_repairs, repair_notes
    from algo_research.data.quality.rules import check_bars
    from algo_research.data.quality.score import quality_reasons, quality_remedies, quality_score

    if (yes or rule) and not repair:
        raise InputError("--yes and --rule say how to repair, and --repair is not given. Add --repair.")
    for name in rule or []:
        if name not in REPAIRS:
            raise unknown_name("repairable finding", name, REPAIRS)
    with open_workspace(root, env) as workspace:
        out, minimum = console(), workspace.settings.quality.minimum
        if damage := find_damage(workspace.store, DatasetId.parse(dataset)):
            for text in damage:
                out.print(line(("Damaged:", "red"), f" {text}"))
            go_back(workspace.store, DatasetId.parse(dataset), repair, yes)
            raise typer.Exit(0 if repair and yes else 1)
        found = load_dataset(dataset, workspace.store, workspace.settings.root)
        stored = found.id in workspace.store.datasets()
        out.print(f"{found!r}")
        findings = check_bars(found, workspace.clock.now() if current else None)
        score = quality_score(findings, found.bars)
        said = f"Quality {score:.4f}, "
        asked = (("in quarantine", "red"), f": research asks for {minimum:g}.")
        out.print(line(said, "fit for research.") if score >= minimum else line(said, *asked))
        most = None if every else MOST
        print_findings(findings, quality_reasons(findings, found.bars), most)
        remedies = quality_remedies(findings, found)
        for remedy in remedies if not repair else [r for r in remedies if "--repair" not in r]:
            out.print(f"What to do: {remedy}")
        if not repair:
            return
        proposals = propose_repairs(found)
        if rule:
            proposals = proposals.filter(pl.col("rule").is_in(rule))
        if not proposals.height:
            out.print("Nothing can be repaired without inventing data.")
            return
        print_proposals(proposals, most)
        if not stored:
            raise InputError(f"{found.id} is not in the store, and only what is there can be repaired.")
        if not yes:
            chosen = "".join(f" --rule '{name}'" for name in rule or [])
            out.print(f"Nothing was changed. Do it: algo data check {found.id} --repair{chosen} --yes")
            return
        mended = apply_repairs(found, proposals)
        version = workspace.store.write(
            mended, reason="; ".join(repair_notes(proposals)), replace=True, after=found.version
        )
        score = quality_score(check_bars(mended), mended.bars)
    out.print(
        f"Repaired: version {version} of {found.id}, quality {score:.4f}; version {found.version} stays readable. "
        f"All versions: algo data history {found.id}"
    )


def find_damage(store: Store, dataset: DatasetId) -> list[str]:
    """What of a stored dataset is not what was written."""
    from algo_research.core.errors import DataError

    if dataset not in store.datasets():
        return []
    try:
        return [f"{name} does not hold what was written into it." for name in store.verify(dataset)]
    except DataError as error:
        return [str(error).partition(" Nothing was changed.")[0]]  # what can be done is said below it


def go_back(store: Store, dataset: DatasetId, repair: bool, yes: bool) -> None:
    """Offer the last version that is whole, and with --repair --yes make it the newest."""
    import polars as pl

    from algo_research.core.errors import InputError

    good, out = store.sound_version(dataset), console()
    if good is None:
        raise InputError(
            f"No version of {dataset} is whole. Restore a backup of the store; without one import the data again with "
            "--replace, or, where that is refused because the log is damaged, under another --id."
        )
    bars = store.read(dataset, version=good).bars
    last = bars.select(pl.col("ts").max().dt.to_string("%Y-%m-%d %H:%M")).item()
    out.print(f"The last version that is whole is {good}: {bars.height:,} bars up to {last} UTC.")
    if repair and yes:
        kept = store.restore(dataset, good)
        after = f"What the log said after it is kept in {kept}." if kept else "The log has nothing after it."
        out.print(f"Repaired: version {good} is the newest. {after}")
    else:
        out.print(f"Nothing was changed. Go back to it: algo data check {dataset} --repair --yes")


def span(row: dict[str, Any]) -> str:
    """Where a finding or a repair lies: symbol, bars, first and last time."""
    times = f"{row['first']:%Y-%m-%d %H:%M}" + (
        f" to {row['last']:%Y-%m-%d %H:%M}" if row["last"] > row["first"] else ""
    )
    return f"{row['symbol']}, {row['bars']:,} bar{'s' * (row['bars'] != 1)}, {times}"


MOST = 20  # findings and repairs that are shown unless all are asked for


def print_findings(findings: pl.DataFrame, reasons: pl.DataFrame, most: int | None = MOST) -> None:
    """Findings, the costliest first: what each takes off the score, where it is, its evidence."""
    out = console()
    if not findings.height:
        out.print("No findings.")
    worth = {row["rule"]: row["deduction"] / row["bars"] for row in reasons.iter_rows(named=True)}
    ranked = sorted(findings.iter_rows(named=True), key=lambda r: -worth[r["finding"]] * r["bars"])
    for row in ranked[:most]:
        out.print(
            line(
                f"  -{worth[row['finding']] * row['bars']:.4f}  ",
                (row["finding"], "bold"),
                f": {span(row)}\n           {row['evidence']}",
            )
        )
    print_rest([row["finding"] for row in ranked[most:]] if most else [])


def print_proposals(proposals: pl.DataFrame, most: int | None = MOST) -> None:
    """What can be repaired: range, action, and its first bar (time, open, high, low, close,
    volume) before and after.
    """
    out = console()
    out.print("Repairs:")
    for row in proposals.head(most or proposals.height).iter_rows(named=True):
        out.print(
            line(
                "  ",
                (row["rule"], "bold"),
                f": {span(row)}: {row['action']}\n    before  {row['before']}\n    after   {row['after']}",
            )
        )
    print_rest(proposals["rule"][most:].to_list() if most else [])


def print_rest(names: list[str]) -> None:
    """What is not shown, by kind."""
    from collections import Counter

    if names:
        console().print(
            f"  ... and {len(names):,} more "
            f"({', '.join(f'{name} {n:,}' for name, n in Counter(names).most_common())}); --all shows them"
        )


@app.command("history", epilog="Example: algo data history coinbase/BTC-USD/1h")
def history(dataset: DatasetArgument, env: Env = None, root: Root = None) -> None:
    """The versions of a stored dataset: when, why, how many bars were added, changed, removed."""
    with open_workspace(root, env) as workspace:
        versions = stored_versions(workspace, dataset)
    print_versions(versions)


def stored_versions(workspace: Workspace, dataset: str) -> pl.DataFrame:
    """The history of a stored dataset; those that come with the package have none."""
    from algo_research.core.errors import InputError
    from algo_research.data.catalog import reserved_venues
    from algo_research.data.market.bars import DatasetId

    if DatasetId.parse(dataset).venue in reserved_venues(workspace.settings.root):
        raise InputError(
            f"{dataset} comes with the package and has one version only. `algo data list` shows what is in the store."
        )
    return workspace.store.history(dataset)


def print_versions(versions: pl.DataFrame) -> None:
    """A row a version: when it was written, what it did, and why."""
    rows = table("version", "written (UTC)", "added", "changed", "removed", "reason", numbers=0)
    for row in versions.iter_rows(named=True):
        rows.add_row(
            str(row["version"]),
            f"{row['at']:%Y-%m-%d %H:%M}",
            *(f"{row[c]:,}" for c in ("added", "changed", "removed")),
            row["reason"] or "-",
        )
    console().print(rows)
