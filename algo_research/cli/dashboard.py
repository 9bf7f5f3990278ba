"""`algo dashboard`: serve a dashboard notebook with Voila."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from .common import Env, Root, Set, console, open_workspace

EXAMPLE = "Example: algo dashboard performance --port 8900 --no-browser\n\nOr: algo dashboard data_quality"


def list_dashboards() -> dict[str, Path]:
    """Notebooks by name."""
    from algo_research.runs.parameters import shipped

    pages = shipped("pages")  # type: ignore[arg-type]
    return {p.stem: p for p in sorted(pages.glob("*.ipynb"))}


def free_port(wanted: int | None) -> int:
    """The port that was asked for, or the first free one from 8866 on."""
    import socket

    from algo_research.core.errors import InputError

    for port in [wanted] if wanted is not None else range(8866, 8966):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    if wanted is None:
        raise InputError("All ports from 8866 to 8965 are in use. Name a free one: --port 9000.")
    raise InputError(f"Port {wanted} is in use. Name another one, or leave --port out to take the next free one.")


def lay_out_assets(folder: Path) -> None:
    """Voila's template with its scripts and styles, all of them local."""
    import shutil

    import plotly

    from algo_research.runs.parameters import shipped

    assets = shipped("pages") / "_assets"  # type: ignore[arg-type]
    shutil.copytree(assets / "voila", folder / "voila", dirs_exist_ok=True)
    static = folder / "voila" / "templates" / "algo" / "static"
    static.mkdir()
    shutil.copy(assets / "dashboard.css", static)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)


def voila_settings(warm: int, idle: int) -> dict[str, dict[str, object]]:
    """What Voila is told, and all that it is told: no configuration of the user's or of the folder's is read."""
    return {
        "Voila": {
            "ip": "127.0.0.1",
            "port_retries": 0,
            "log_level": "WARN",
            "tornado_settings": {
                "allow_remote_access": False,  # a page of another host whose name leads here is refused
                # no page gets the cookie, so a leaving page could not say goodbye; another origin is still refused
                "disable_check_xsrf": True,
            },
        },
        "VoilaConfiguration": {
            "template": "algo",
            "preheat_kernel": warm > 0,
            "default_pool_size": warm,
            "multi_kernel_manager_class": "algo_research.cli.kernels.DashboardKernelManager",
            "extension_allowlist": [
                "@jupyter-widgets/jupyterlab-manager",
                "@voila-dashboards/widgets-manager8",
                "anywidget",
            ],  # others only cost time
        },
        "VoilaKernelManager": {"fill_delay": 2.0},  # the page that was just opened needs the machine first
        "MappingKernelManager": {
            "cull_idle_timeout": idle,
            "cull_interval": max(1, idle // 3),
            "cull_connected": False,
        },
    }


def dashboard(
    name: Annotated[
        str, typer.Argument(help="Which one: performance (of runs) or data_quality (of datasets).")
    ] = "performance",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="By default the next free one from 8866 on.", show_default=False),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    warm: Annotated[
        int, typer.Option(min=0, help="Kernels that wait with the dashboard computed; each takes about 100 MB.")
    ] = 2,
    idle: Annotated[
        int, typer.Option(min=1, help="Seconds after which the kernel of a page that went away is shut down.")
    ] = 60,
    fork: Annotated[
        bool, typer.Option(help="Fork kernels from one process that has imported everything: quick, and small.")
    ] = True,
    set_: Set = None,
    env: Env = None,
    root: Root = None,
) -> None:
    """Serve a dashboard on this machine until Ctrl-C;
    runs and datasets that are made meanwhile appear by themselves.
    """
    import json
    import os
    import signal
    import tempfile

    from algo_research.core.errors import unknown_name

    known = list_dashboards()
    if name not in known:
        raise unknown_name("dashboard", name, known)
    with open_workspace(root, env, set_) as workspace:
        settings = workspace.settings
    port = free_port(port)
    with tempfile.TemporaryDirectory(prefix="algo-dashboard-") as folder:
        lay_out_assets(Path(folder))
        (Path(folder) / "voila.json").write_text(json.dumps(voila_settings(warm, idle)))
        paths = [folder, *filter(None, [os.environ.get("JUPYTER_PATH")])]
        environment = {
            **os.environ,
            "JUPYTER_PATH": os.pathsep.join(paths),
            "ALGO_DASHBOARD_WORKSPACE": str(settings.root),
            "ALGO_DASHBOARD_PARENT": str(os.getpid()),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        if env:
            environment["ALGO_ENV"] = env
        environment |= {
            "ALGO_WORKSPACE__REPORTS": str(settings.workspace.reports),
            "ALGO_STORE__URL": settings.store.url,
        }
        servers = []
        if fork:
            environment["ALGO_KERNEL_FORKS"] = f"{folder}/forks"
            environment["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "algo-forked"
            preload = [sys.executable, "-m", "algo_research.cli.forks", f"{folder}/forks"]
            preload += [f"algo_research.dashboards.{name}", str(os.getpid())]
            servers.append(subprocess.Popen(preload, env=environment))
            begun = time.monotonic()
        console(stderr=True).print(
            f"[bold]{name}[/bold] of {settings.root} at [link]http://127.0.0.1:{port}/[/link]  (Ctrl-C stops it)"
        )
        command = [
            sys.executable,
            "-m",
            "voila",
            str(known[name]),
            f"--port={port}",
            f"--Voila.config_file_paths={folder}",
            *(() if browser else ("--no-browser",)),
        ]
        servers.append(server := subprocess.Popen(command, env=environment))
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # polars has put a handler of its own there that lets waiting go on
            signal.signal(number, signal.default_int_handler)
        try:
            while (code := wait(server)) is None:
                if fork and servers[0].poll() is not None:
                    lived = time.monotonic() - begun
                    fork = lived > 5  # one that cannot start is not tried for ever
                    remedy = "another one is started" if fork else "from now on each page starts a kernel of its own"
                    console(stderr=True).print(f"What forks kernels has ended after {lived:.0f} s; {remedy}.")
                    if fork:
                        Path(folder, "forks").unlink(missing_ok=True)
                        servers[0], begun = subprocess.Popen(preload, env=environment), time.monotonic()
        except KeyboardInterrupt:
            code = 0
        finally:
            for started in servers:
                stop(started.pid)
    raise typer.Exit(code)


def wait(server: subprocess.Popen) -> int | None:
    """How it ended; None if it has not within a second."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return server.wait(1)
    return None


def stop(pid: int) -> None:
    """End a server and its kernels, also those that do not listen."""
    import psutil

    try:
        everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(everyone, timeout=3)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=3)
