"""`algo sandbox`: a process of its own, which nothing else imports."""

from __future__ import annotations

import typer


def sandbox(context: typer.Context) -> None:
    """A local exchange that speaks Binance spot's public API, for ccxt and whatever else."""
    import os
    import sys

    os.execv(sys.executable, [sys.executable, "-m", "algo_research.sandbox", *context.args])
