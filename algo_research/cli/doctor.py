"""`algo doctor` and `algo settings`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer

from .common import Env, Root, Set, console, line, open_workspace, table

EXAMPLE = "Example: algo doctor"
SETTINGS_EXAMPLE = "Example: algo settings --set costs.fees=0.001"


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    good: bool
    found: str
    remedy: str = ""
    warns: bool = False  # it is good, and the remedy is worth a thought all the same


def check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "Python", sys.version_info >= (3, 11), version, "Install Python 3.11 or newer and run `make setup` again."
    )


def check_packages() -> Iterator[Check]:
    """Each requirement of this package against what is installed."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong, count = [], 0
    for text in requires("algo-research") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    yield Check(
        "packages",
        not wrong,
        "; ".join(wrong) or f"{count} requirements are met",
        "Run `make setup`, or pip install -c constraints.txt -e '.[dev,lab]'.",
    )


def check_libraries() -> Check:
    """TA-Lib and LightGBM bring compiled code: call it."""
    try:
        import lightgbm
        import numpy as np
        import talib

        value = talib.SMA(np.arange(5.0), timeperiod=5)[-1]
        return Check(
            "compiled libraries",
            value == 2.0,
            f"TA-Lib {talib.__version__}, LightGBM {lightgbm.__version__}",
            "Reinstall TA-Lib from its wheel.",
        )
    except Exception as error:
        return Check(
            "compiled libraries",
            False,
            f"{type(error).__name__}: {error}",
            "Reinstall them: `make clean setup`. LightGBM needs libgomp1 on Linux.",
        )


def check_disk(folder) -> Check:
    import shutil

    free = shutil.disk_usage(folder).free / 2**30
    return Check("free disk", free > 1, f"{free:.1f} GiB", "Free at least 1 GiB, or move [workspace] state.")


def check_cache(url: str) -> Check:
    from algo_research.core.errors import AlgoError
    from algo_research.data.stores.cache import open_cache

    try:
        cache = open_cache(url)
        if cache:
            cache.ping()
    except AlgoError as error:
        return Check("cache", False, str(error), "Start the server [store] cache names, or leave it empty for none.")
    return Check("cache", True, getattr(cache, "name", url) if cache else "none")


SECONDS = 10.0  # at most, for looking at the data files of the store


def check_datasets(store) -> Check:
    """Every dataset's log, and as many of the data files as can be held against their hashes in a few seconds."""
    from algo_research.core.errors import AlgoError

    begun, wrong, looked = time.monotonic(), [], 0
    try:
        datasets = store.datasets()
        for id in datasets:
            try:
                store.extent(id)
                if time.monotonic() - begun < SECONDS:
                    looked += 1
                    wrong += [f"{id}: {name} does not hold what was written" for name in store.verify(id)]
            except AlgoError as error:
                wrong.append(str(error))
    except AlgoError as error:
        wrong = [str(error)]
        datasets = []
    named = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    found = f"{len(datasets)} in the store; the data files of {looked} of them are what was written"
    return Check("datasets", not wrong, named or found, "`algo data check ID --repair` offers the last good version.")


def check_ledger(workspace) -> Check:
    """The chain of the ledger's entries, and what the runs knew of it."""
    from algo_research.core.errors import AlgoError
    from algo_research.runs.record import lost_entries

    settings = workspace.settings
    remedy = (
        "Restore the trial ledger from a backup; without one, `algo trials --accept-loss REASON` lets you go on. "
        "Runs of another workspace belong out of its folder."
    )
    try:
        ledger = workspace.ledger
        lost = lost_entries(ledger, settings.path(settings.workspace.reports))
        seq, _ = ledger.verify()
        known = "".join(f"; {loss}" for loss in ledger.losses())
    except AlgoError as error:
        return Check("trial ledger", False, str(error), remedy)
    return Check("trial ledger", not lost, lost or f"{seq} entries, each of them as it was written{known}", remedy)


def check_secrets(folder) -> Iterator[Check]:
    """What is not masked where it is shown, and what others than its owner can read."""
    from shlex import quote

    from algo_research.core.secrets import open_secrets, unmasked_secrets

    weak = unmasked_secrets(folder)
    if weak:
        yield Check(
            "secrets not masked",
            True,
            "; ".join(f"{name}: {why}" for name, why in sorted(weak.items())),
            "Set longer ones: a value that stands in ordinary text cannot be masked where a template prints it.",
            warns=True,
        )
    bare = open_secrets(folder)
    if bare:
        inside = [path for path in bare if path != folder]
        commands = [f"chmod 700 {quote(str(folder))}"] * (folder in bare)
        commands += [f"chmod -R go-rwx {quote(str(folder))}"] * bool(inside)
        names = ", ".join(path.name for path in bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")
        found = f"others can read {names}"
        yield Check("secrets readable", True, found, f"Make them yours alone: {'; '.join(commands)}", warns=True)
    if not weak and not bare:
        yield Check("secrets", True, "all that are set are masked and yours alone")


def examine(root, env) -> Iterator[Check]:
    """Every check, one after the other; a broken part does not hide the next one."""
    from algo_research.core.errors import AlgoError
    from algo_research.core.settings import SETTINGS, find_root

    yield check_python()
    yield from check_packages()
    yield check_libraries()
    if root is None and not os.path.lexists(find_root() / SETTINGS):
        found = f"none: no {SETTINGS} in {find_root()} or above; store, tracking and ledger were not looked at"
        yield Check("workspace", True, found)
        return
    try:
        workspace = open_workspace(root, env)
    except AlgoError as error:
        yield Check("settings", False, str(error), "Correct the setting named above.")
        return
    with workspace:
        known = workspace.settings.root / "settings.ini"
        yield Check(
            "settings",
            True,
            str(known) if known.is_file() else f"defaults (no settings.ini in {workspace.settings.root})",
        )
        yield check_disk(workspace.settings.root)
        yield from check_secrets(workspace.settings.path(workspace.settings.workspace.secrets))
        addresses = {
            "Store": workspace.settings.store.url,
            "Tracker": workspace.settings.tracking.url,
            "TrialLedger": str(workspace.settings.workspace.state / "ledger.db"),
        }
        for health in workspace.health():
            yield Check(
                f"service {health.service}",
                health.healthy,
                health.detail or addresses.get(health.service, ""),
                "Correct its address in settings.ini, or start the server it names.",
            )
        yield check_datasets(workspace.store)
        yield check_ledger(workspace)
        yield check_cache(workspace.settings.store.cache)


def doctor(env: Env = None, root: Root = None) -> None:
    """Look at the environment, the versions and the services, and say what to do.
    Exit code 1 when something is wrong.
    """
    rows, wrong, warned, following = table("", "check", "found", numbers=0), [], [], "algo run research"
    for check in examine(root, env):
        if check.name == "workspace":
            following = "algo init my_research"
        mark = ("!", "yellow") if check.warns else ("✓", "green") if check.good else ("x", "red")
        rows.add_row(line(mark), check.name, check.found)
        if check.warns:
            warned.append(check)
        elif not check.good:
            wrong.append(check)
    out = console()
    out.print(rows)
    for check in warned:
        out.print(line((f"{check.name}:", "yellow"), f" {check.remedy}"))
    for check in wrong:
        out.print(line((f"{check.name}:", "red"), f" {check.remedy}"))
    if wrong:
        raise typer.Exit(1)
    out.print(f"All is well. Next: {following}")


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not defaults.")] = False,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Show every setting, its value and which layer it came from."""
    from algo_research.core.secrets import redact

    with open_workspace(root, env, set_, anywhere=True) as workspace:
        rows = table("setting", "value", "from", numbers=0)
        for name, value, origin in workspace.settings.table():
            if not changed or origin != "default":
                rows.add_row(name, redact(value), origin)
    console().print(rows)
