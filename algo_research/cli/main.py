"""Entry point of `algo`. Heavy imports happen inside the commands, so that help is instant."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Annotated

import typer

from . import (
    adjust,
    aggregate,
    components,
    dashboard,
    data,
    doctor,
    init,
    perpetuals,
    record,
    rename,
    research,
    revert,
    runs,
    sandbox,
    stream,
    sync,
)

# jsonschema compiles a grammar of addresses when it finds it, which takes a second; no command has addresses to check.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

EXIT_CODES = {"InputError": 2, "RetryableError": 3, "FatalError": 4}

app = typer.Typer(
    name="algo",
    help="From market data to a verdict one can believe.\n\nExample: algo research arch/SP500/1d --seed 1",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command("init", epilog=init.EXAMPLE)(init.init)
app.command("research", epilog=research.EXAMPLE)(research.research)
app.command("components", epilog=components.EXAMPLE)(components.components)
app.add_typer(components.strategies, name="strategies")
app.command("trials", epilog=research.TRIALS_EXAMPLE)(research.trials)
app.command("run", epilog=runs.RUN_EXAMPLE)(runs.run)
app.command("runs", epilog=runs.RUNS_EXAMPLE)(runs.runs)
app.command("show", epilog=runs.SHOW_EXAMPLE)(runs.show)
app.command("reproduce", epilog=runs.REPRODUCE_EXAMPLE)(runs.reproduce)
app.command("batch", epilog=runs.BATCH_EXAMPLE)(runs.batch)
data.app.command("sync", epilog=sync.EXAMPLE)(sync.sync)
data.app.command("stream", epilog=stream.EXAMPLE)(stream.stream)
data.app.command("adjust", epilog=adjust.EXAMPLE)(adjust.adjust)
data.app.command("rename", epilog=rename.EXAMPLE)(rename.rename)
data.app.command("revert", epilog=revert.EXAMPLE)(revert.revert)
data.app.command("record", epilog=record.EXAMPLE)(record.record)
data.app.command("perpetuals", epilog=perpetuals.EXAMPLE)(perpetuals.perpetuals)
data.app.command("aggregate", epilog=aggregate.EXAMPLE)(aggregate.aggregate)
app.command(
    "sandbox", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)(sandbox.sandbox)
app.command("dashboard", epilog=dashboard.EXAMPLE)(dashboard.dashboard)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("settings", epilog=doctor.SETTINGS_EXAMPLE)(doctor.settings)


def _version(value: bool) -> None:
    if value:
        from algo_research import __version__

        typer.echo(f"algo-research {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _show_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as Python prints it, with nothing in it that a terminal would obey."""
    import traceback

    from algo_research.core.text import visible

    print(visible("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr, end="")


def run(app: Callable[[], None] = app) -> None:
    """Run the command; an expected error is one message and an exit code, not a traceback."""
    try:
        app()
    except Exception as error:
        from algo_research.core.errors import AlgoError
        from algo_research.core.secrets import redact
        from algo_research.core.text import visible

        if not isinstance(error, AlgoError):
            sys.excepthook = _show_unexpected
            raise
        names = [cls.__name__ for cls in type(error).__mro__]
        typer.secho(f"Error: {visible(redact(str(error)))}", fg=typer.colors.RED, err=True)
        sys.exit(next((code for name, code in EXIT_CODES.items() if name in names), 1))


if __name__ == "__main__":
    run()
