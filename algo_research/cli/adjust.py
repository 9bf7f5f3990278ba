"""`algo data adjust`: raw bars of a stock as its holder sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Env, Root, console, open_workspace, table

if TYPE_CHECKING:
    import polars as pl

    from algo_research.core.unpacking import UnpackingSettings
    from algo_research.data.market.bars import Dataset, DatasetId
    from algo_research.workspace.bootstrap import Workspace

EXAMPLE = "Example: algo data adjust alpaca/AAPL/1d --to total"
COLUMNS = "symbol, date (or ex, a moment), kind (split, dividend or redenomination) and value"
ASKED = ("alpaca", "twelvedata")  # providers that tell splits and dividends

File = Annotated[
    Path | None,
    typer.Option(
        help="A CSV file of actions (symbol, date, kind, value); by default the provider of the bars is asked, or what "
        "was given before is used.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--id", help="The id of the adjusted dataset.", show_default="the same with -split or -total after the symbol"
    ),
]
Url = Annotated[str | None, typer.Option(help="The address of a server that speaks like the provider.")]
To = Annotated[
    str | None,
    typer.Option(
        help="split: for splits; total: for splits and dividends.", show_default="total; split with --from-finding"
    ),
]
Finding = Annotated[
    bool,
    typer.Option(
        "--from-finding",
        help="Take the splits and redenominations that `algo data check` is sure of; shows what would be done.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="With --from-finding: do it.")]


def actions_of_file(path: Path, raw: Dataset, limits: UnpackingSettings | None = None) -> pl.DataFrame:
    """The corporate actions in a CSV file, some of them of the dataset's symbols."""
    import polars as pl

    from algo_research.core.errors import InputError
    from algo_research.core.unpacking import unpack_text
    from algo_research.data.market.equities import make_actions

    try:
        with unpack_text(path, limits) as text:
            table = pl.read_csv(text, try_parse_dates=True)
        moment = pl.col("ex" if "ex" in table.columns else "date")
        if table[moment.meta.output_name()].dtype == pl.String:
            moment = moment.str.to_datetime(time_unit="us", time_zone="UTC")
        columns = ("symbol", moment, "kind", pl.col("value").cast(pl.Float64))
        given = make_actions(table.select(*columns), raw.instrument.calendar)
    except (OSError, pl.exceptions.PolarsError) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"{path} cannot be read as actions: {reason} Its columns must be {COLUMNS}.") from e
    symbols = given["symbol"].unique().sort().to_list()
    if not set(symbols) & set(raw.symbols):
        found, wanted = ", ".join(symbols[:5]) or "nothing", ", ".join(raw.symbols[:5])
        raise InputError(f"{path} has actions of {found}, and none of {wanted}. Its symbols must be those of {raw.id}.")
    return given


def actions_of_provider(raw: Dataset, url: str | None, workspace: Workspace) -> pl.DataFrame:
    """What the provider of the bars tells of splits and dividends since the first of them."""
    import polars as pl

    from algo_research.data.market.equities import make_actions
    from algo_research.data.venues.providers import open_source

    secrets = workspace.settings.path(workspace.settings.workspace.secrets)
    source = open_source(raw.id.venue, url, secrets)
    first = raw.bars["ts"].min()
    told = [source.actions(symbol, first) for symbol in raw.symbols]
    return make_actions(pl.concat(told), raw.instrument.calendar)


def new_actions(
    raw: Dataset, actions: Path | None, url: str | None, workspace: Workspace
) -> tuple[pl.DataFrame, list[str]]:
    """Actions that are given or asked for now, and the symbols that they replace the known ones of."""
    from algo_research.data.market.equities import load_actions

    if actions:
        given = actions_of_file(actions, raw, workspace.settings.unpacking)
        return given, given["symbol"].unique().sort().to_list()
    if raw.id.venue in ASKED:
        return actions_of_provider(raw, url, workspace), raw.symbols
    return load_actions(workspace.actions, raw.id.venue, []), []


def found_actions(raw: Dataset, folder: Path) -> tuple[pl.DataFrame, list[str]]:
    """The breaks that are sure, with what was known of their symbols before; and those symbols."""
    import polars as pl

    from algo_research.core.errors import InputError
    from algo_research.data.market.equities import load_actions
    from algo_research.data.quality.levels import break_actions, level_breaks

    found = break_actions(level_breaks(raw))
    if not found.height:
        raise InputError(
            f"No split or redenomination in {raw.id} is sure. `algo data check {raw.id}` says what was found; what you "
            f"know goes into a file: --actions FILE.csv, with the columns {COLUMNS}."
        )
    symbols = found["symbol"].unique().sort().to_list()
    if raw.adjustment != "raw":  # what is known of them is in the prices already
        return found, symbols
    kept = load_actions(folder, raw.id.venue, symbols)
    splits = kept.filter(pl.col("kind") != "dividend").sort("ex").select("symbol", "ex", at="ex")
    near = found.sort("ex").join_asof(
        splits, on="ex", by="symbol", strategy="nearest", tolerance="4d", check_sortedness=False
    )
    new = near.filter(pl.col("at").is_null()).select(found.columns)  # the others are known, perhaps by another hour
    return pl.concat([kept, new]).sort("symbol", "ex"), symbols


def known_actions(raw: Dataset, given: pl.DataFrame, replaced: list[str], folder: Path) -> pl.DataFrame:
    """The new actions of the dataset's symbols with those that were kept of the others."""
    import polars as pl

    from algo_research.core.errors import InputError
    from algo_research.data.market.equities import load_actions

    kept = load_actions(folder, raw.id.venue, sorted(set(raw.symbols) - set(replaced)))
    known = pl.concat([kept, given.filter(pl.col("symbol").is_in(raw.symbols))]).sort("symbol", "ex")
    if not known.height and not replaced:
        raise InputError(
            f"Nothing is known of splits and dividends of {raw.id}. Give them: --actions FILE.csv, with the columns "
            f"{COLUMNS}."
        )
    return known


def adjusted_id(raw: Dataset, to: str, wanted: str | None, workspace: Workspace) -> DatasetId:
    """The id of the adjusted dataset; an error when something else is stored there."""
    from algo_research.core.errors import InputError
    from algo_research.data.catalog import reserved_venues
    from algo_research.data.market.bars import DatasetId

    suffix = to if raw.adjustment == "raw" else "mended"
    usual = f"{raw.id.venue}/{raw.id.symbol}-{suffix}/{raw.id.timeframe}"
    target = DatasetId.parse(wanted or usual)
    if target.timeframe != raw.id.timeframe or target.venue in reserved_venues(workspace.settings.root):
        raise InputError(f"{target} cannot be the id of bars of {raw.id.timeframe} from the store. Write e.g. {usual}.")
    if target == raw.id or (target in workspace.store.datasets() and workspace.store.read(target).adjustment != to):
        raise InputError(
            f"{target} is stored and is not adjusted so; it would be replaced. Choose another id, e.g. {usual}."
        )
    return target


def mended_bars(raw: Dataset, known: pl.DataFrame, to: str) -> Dataset:
    """The bars adjusted for what was found in them, with a note that says so."""
    from dataclasses import replace

    import polars as pl

    from algo_research.data.market.equities import adjust_bars

    adjusted = adjust_bars(replace(raw, adjustment="raw"), known, "split")
    splits = known.filter(pl.col("kind") != "dividend").iter_rows(named=True)
    found = ", ".join(f"{row['symbol']} {row['value']:g} on {row['ex']:%Y-%m-%d}" for row in splits)
    notes = (*adjusted.notes[:-1], f"{adjusted.notes[-1]}, as found in the bars: {found}")
    return replace(adjusted, notes=notes, adjustment=to)  # type: ignore[arg-type]


def chosen_way(to: str | None, from_finding: bool, actions: Path | None, yes: bool) -> str:
    """What is adjusted for; an error where the options do not go together."""
    from algo_research.core.errors import InputError

    if yes and not from_finding:
        raise InputError("--yes says to do what --from-finding has shown, and that is not given. Leave --yes out.")
    if from_finding and actions:
        raise InputError("--from-finding and --actions both say which splits there were. Leave one of them out.")
    if from_finding and to == "total":
        raise InputError("A finding tells of no dividends, so the prices cannot be adjusted for them. Use --to split.")
    return to or ("split" if from_finding else "total")


def show_actions(known: pl.DataFrame) -> None:
    """The last ten actions."""
    shown = table("action", "symbol", "value")
    for row in known.tail(10).iter_rows(named=True):
        shown.add_row(f"{row['ex']:%Y-%m-%d} {row['kind']}", row["symbol"], f"{row['value']:g}")
    console().print(shown)


def preview(raw: Dataset, adjusted: Dataset, known: pl.DataFrame) -> None:
    """The closes and opens on both sides of each action, as they are and as they would be."""
    import polars as pl

    out = console()
    for row in known.filter(pl.col("kind") != "dividend").tail(10).iter_rows(named=True):
        sides = []
        for bars in (raw.bars, adjusted.bars):
            own = bars.filter(pl.col("symbol") == row["symbol"])
            last, first = own.filter(pl.col("ts") < row["ex"]).tail(1), own.filter(pl.col("ts") >= row["ex"]).head(1)
            if last.height and first.height:
                sides.append(f"close {last['close'][0]:g}, open {first['open'][0]:g}")
        if len(sides) == 2:
            out.print(f"  {row['symbol']} {row['ex']:%Y-%m-%d}: {sides[0]}  ->  {sides[1]}")


def adjust(
    dataset: Annotated[str, typer.Argument(help="A dataset of raw bars in the store.")],
    to: To = None,
    actions: File = None,
    from_finding: Finding = False,
    yes: Yes = False,
    id: Target = None,
    url: Url = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Store bars adjusted for splits and dividends beside the raw ones, which stay as they are.

    The splits are those of the provider, of a file, or with --from-finding those that are still in the prices. The same
    command again takes up new bars and actions.
    """
    from dataclasses import replace

    from algo_research.data.market.equities import adjust_bars, save_actions
    from algo_research.data.stores.base import newest_version, require_newest

    way, out = chosen_way(to, from_finding, actions, yes), console()
    with open_workspace(root, env) as workspace:
        raw = workspace.store.read(dataset)
        traded = raw.adjustment == "raw"
        if from_finding:
            given, replaced = found_actions(raw, workspace.actions)
            way = way if traded else raw.adjustment
        else:
            given, replaced = new_actions(raw, actions, url, workspace)
        known = known_actions(raw, given, replaced, workspace.actions) if traded else given
        target = adjusted_id(raw, way, id, workspace)
        before = newest_version(workspace.store, target)
        mend = mended_bars if from_finding else adjust_bars
        adjusted = mend(raw, known, way)  # type: ignore[arg-type]
        show_actions(known)
        if from_finding and not yes:
            preview(raw, adjusted, known)
            chosen = f" --id {id}" if id else ""
            out.print(f"Nothing was stored. Do it: algo data adjust {raw.id} --from-finding{chosen} --yes")
            return
        reason = adjusted.notes[-1]
        require_newest(raw.id, newest_version(workspace.store, raw.id), raw.version)
        version = workspace.store.write(replace(adjusted, id=target), reason=reason, replace=True, after=before)
        if traded:
            save_actions(workspace.actions, raw.id.venue, given, replaced)
    stay = "The raw ones" if traded else "Those of before"
    out.print(
        f"{target}, version {version}: {adjusted.bars.height:,} bars, {reason}. {stay} stay as they are.\n"
        f"Next: algo run research -p dataset={target}"
    )
