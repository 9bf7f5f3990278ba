"""`algo` as the tests call it."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

from algo_research.cli.main import run
from algo_research.core import secrets

ALGO = [sys.executable, "-m", "algo_research.cli.main"]
# Our own kernel keeps the accounts, for each new process would take seconds to import vectorbt, and a sample is
# replayed: tests/research/test_replay.py replays everything.
SETTINGS = "[research]\nengine = kernel\nreplay = 150\n"


def environment(**more: str) -> dict[str, str]:
    """This process's, without settings of the framework."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("ALGO_")}, **more}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def algo(
    workspace: Path, *arguments: str, code: int | None = 0, apart: bool = False, bare: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    """The command in a workspace: what it printed, and its exit code, which must be `code` if that is given.

    It runs in this process, which has imported already what each new one would have to; `apart`, or with another
    environment for Python, in one of its own. A folder is made a workspace first, with `SETTINGS`, unless it shall
    stay `bare`.
    """
    if not bare and arguments[:1] != ("init",) and not (workspace / "settings.ini").exists():
        (workspace / "settings.ini").write_text(SETTINGS)
    if apart or any(name.startswith("PYTHON") for name in more):
        done = subprocess.run(
            [*ALGO, *arguments],
            cwd=workspace,
            env=environment(**more),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    else:
        done = _here(workspace, list(arguments), environment(**more))
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, (done.stdout, done.stderr)
    return done


def _here(workspace: Path, arguments: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Everything a process would have of its own is put back afterwards; an unexpected error is the test's."""
    out, err, before, argv, seen = io.StringIO(), io.StringIO(), dict(os.environ), sys.argv, set(secrets._seen)
    with (
        open(os.devnull) as nothing,
        contextlib.chdir(workspace),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.resetwarnings()
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)
        stdin, sys.stdin, sys.argv = sys.stdin, nothing, ["algo", *arguments]
        os.environ.clear()
        os.environ.update(environ)
        try:
            run()
            code: int | str | None = 0
        except SystemExit as end:
            code = end.code
        finally:
            sys.stdin, sys.argv = stdin, argv
            os.environ.clear()
            os.environ.update(before)
            secrets._seen.clear()
            secrets._seen.update(seen)
    return subprocess.CompletedProcess(
        ["algo", *arguments], code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue()
    )
