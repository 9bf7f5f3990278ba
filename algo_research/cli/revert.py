"""`algo data revert`: an earlier version of a dataset is the newest again, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, console, line, open_workspace, table
from .data import DatasetArgument, print_versions, stored_versions

if TYPE_CHECKING:
    import polars as pl

    from algo_research.data.market.bars import Dataset

EXAMPLE = "Example: algo data revert binance/AAVE-USDT/1d --to 3"


def revert(
    dataset: DatasetArgument,
    to: Annotated[
        int | None,
        typer.Option(metavar="VERSION", help="The version to go back to; all are shown without.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do what was shown.")] = False,
    env: Env = None,
    root: Root = None,
) -> None:
    """Go back to an earlier version, after an import, a rename or a repair that was wrong.

    Shows first what that version holds. It is stored as a new version: those in between stay readable.
    """
    from algo_research.core.errors import InputError

    out = console()
    with open_workspace(root, env) as workspace:
        versions = stored_versions(workspace, dataset)
        if to is None:
            if yes:
                raise InputError("--yes says to go back, and not where to. Give --to VERSION; without --yes all show.")
            print_versions(versions)
            out.print(f"Choose one: algo data revert {dataset} --to VERSION shows what it holds, and stores nothing.")
            return
        now = workspace.store.read(dataset)
        if to == now.version:
            out.print(f"Version {to} is the newest of {now.id}: there is nothing to do.")
            return
        then = workspace.store.read(dataset, version=to)
        out.print(f"{then.id}, version {to} of {said_of(versions, to)}; now version {now.version} is the newest.")
        if then.metadata() == now.metadata() and then.bars.equals(now.bars):
            out.print(f"It holds what version {now.version} holds: there is nothing to do.")
            return
        show_difference(then, now)
        if not yes:
            out.print(f"Nothing was stored. Do it: algo data revert {then.id} --to {to} --yes")
            return
        version = workspace.store.write(then, reason=f"back to version {to}", replace=True, after=now.version)
    out.print(
        f"{then.id}, version {version}: {then.bars.height:,} bars, as in version {to}; version {now.version} stays "
        f"readable. All versions: algo data history {then.id}"
    )


def said_of(versions: pl.DataFrame, number: int) -> str:
    """When a version was written, and why."""
    row = versions.row(versions["version"].to_list().index(number), named=True)
    return f"{row['at']:%Y-%m-%d %H:%M} UTC" + f" ({row['reason']})" * bool(row["reason"])


def facts(dataset: Dataset) -> dict[str, str]:
    """What a version is, in words."""
    bars, instrument, names = dataset.bars, dataset.instrument, dataset.symbols
    times = bars["ts"].sort()
    return {
        "bars": f"{bars.height:,}",
        "span": f"{times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M}",
        "symbols": ", ".join(names[:5]) + f" and {len(names) - 5} more" * (len(names) > 5),
        "kind": f"{instrument.kind}, quoted in {instrument.quote}",
        "calendar": instrument.calendar,
        "prices": dataset.adjustment + ", only closes" * dataset.close_only,
        "formerly": "; ".join(map(str, instrument.history)) or "-",
        "taken out": f"{len(dataset.removed)} range(s) of bars" if dataset.removed else "-",
    }


def show_difference(then: Dataset, now: Dataset) -> None:
    """Both versions side by side, the bars and notes that come and those that go."""
    out, known = console(), facts(now)
    rows = table("", f"version {then.version}", f"now, version {now.version}", numbers=0)
    for name, value in facts(then).items():
        rows.add_row(name, value, known[name])
    out.print(rows)
    keys = ["symbol", "ts"]
    both = then.bars.join(now.bars, on=keys, how="semi").height
    same = then.bars.join(now.bars, on=then.bars.columns, how="semi", nulls_equal=True).height
    out.print(
        f"{then.bars.height - both:,} bars come, {now.bars.height - both:,} go, {both - same:,} change, "
        f"{same:,} stay as they are."
    )
    for word, ours, theirs in (("comes", then, now), ("goes", now, then)):
        for note in ours.notes:
            if note not in theirs.notes:
                out.print(line((f"Note that {word}:", "yellow"), f" {note}"))
