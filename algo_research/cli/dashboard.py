"""`algo dashboard`: serve a dashboard notebook with Voila."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .common import Env, Root, Set, console, line, open_workspace

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
    for name in ("dashboard.css", "page.js"):
        shutil.copy(assets / name, static)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", static)


def choose_token() -> tuple[str, bool]:
    """What a browser must bring, as Jupyter has it: of JUPYTER_TOKEN, of the file JUPYTER_TOKEN_FILE, or a new random
    one; and whether it is new. There is no option for it: other users see the words of a command.
    """
    from jupyter_server.auth.identity import IdentityProvider

    from algo_research.core.errors import InputError

    provider = IdentityProvider()
    try:
        token = provider.token.strip()
    except OSError as error:
        raise InputError(f"JUPYTER_TOKEN_FILE cannot be read: {error}. Name a file, or unset it.") from None
    if not token:
        raise InputError(
            "JUPYTER_TOKEN, or the file JUPYTER_TOKEN_FILE, is empty, and a dashboard is not served without a token. "
            "Unset it: a random one is made."
        )
    return token, provider.token_generated


def default_kernels() -> int:
    """Half of the memory at 250 MB a kernel, and not more than eight a core; between 4 and 64."""
    import os

    import psutil

    memory = psutil.virtual_memory().total // (2 * 250_000_000)
    return int(max(4, min(memory, 8 * (os.cpu_count() or 1), 64)))


def write_private(path: Path, text: str) -> Path:
    """A file that nobody else can read."""
    path.touch(0o600)
    path.write_text(text)
    return path


def open_browser(page: Path, port: int) -> None:
    """Open a page in a browser, by a file that leads there once somebody listens: a token in the browser's command line
    could be seen.
    """
    import socket
    import threading
    import webbrowser

    def wait_and_open() -> None:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    webbrowser.open(page.as_uri())
                    return
            time.sleep(0.1)

    threading.Thread(target=wait_and_open, daemon=True).start()


def voila_settings(warm: int, idle: int, kernels: int, token: str) -> dict[str, dict[str, object]]:
    """What Voila is told, and all that it is told: no configuration of the user's or of the folder's is read."""
    import tempfile

    # Sockets in a folder that is ours alone: to ports anybody on the machine could listen. Their paths may not be long.
    transport = "ipc" if len(tempfile.gettempdir()) < 38 else "tcp"
    return {
        "Voila": {
            "token": token,
            "identity_provider_class": "voila.voila_identity_provider.VoilaIdentityProvider",  # no passwords
            "ip": "127.0.0.1",
            "port_retries": 0,
            "log_level": "WARN",
            "tornado_settings": {
                "allow_remote_access": False,  # a page of another host whose name leads here is refused
                # no page gets the cookie, so a leaving page could not say goodbye; another origin is still refused
                "disable_check_xsrf": True,
            },
        },
        "IdentityProvider": {"cookie_options": {"samesite": "Strict"}},
        "DashboardKernelManager": {"limit": kernels},
        "VoilaConfiguration": {
            "template": "algo",
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "preheat_kernel": warm > 0,
            "default_pool_size": warm,
            "multi_kernel_manager_class": "algo_research.cli.kernels.DashboardKernelManager",
            "extension_allowlist": [
                "@jupyter-widgets/jupyterlab-manager",
                "@voila-dashboards/widgets-manager8",
                "anywidget",
            ],  # others only cost time
        },
        "KernelManager": {"transport": transport},
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
    kernels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many kernels, one a page, those that wait included; a page that comes when all are taken "
            "waits. By default what half of the memory holds, at 250 MB each, and at most eight a core (4 to 64).",
            show_default=False,
        ),
    ] = None,
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
    """Serve a dashboard on this machine until Ctrl-C, to who has the token in the address that is printed;
    runs and datasets that are made meanwhile appear by themselves.
    """
    import json
    import os
    import signal
    import tempfile
    from urllib.parse import quote

    from algo_research.core.errors import unknown_name

    known = list_dashboards()
    if name not in known:
        raise unknown_name("dashboard", name, known)
    with open_workspace(root, env, set_) as workspace:
        settings = workspace.settings
    port = free_port(port)
    token, new = choose_token()
    kernels = default_kernels() if kernels is None else kernels
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory(prefix="algo-dashboard-") as folder:
        lay_out_assets(Path(folder))
        told = json.dumps(voila_settings(min(warm, kernels), idle, kernels, token))
        write_private(Path(folder) / "voila.json", told)
        paths = [folder, *filter(None, [os.environ.get("JUPYTER_PATH")])]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTER_TOKEN")},
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
        servers: list[subprocess.Popen] = []
        # in groups of their own: Ctrl-C is ours, and we end them
        start = partial(subprocess.Popen, env=environment, process_group=0, preexec_fn=ends_with(os.getpid()))
        if fork:
            environment["ALGO_KERNEL_FORKS"] = f"{folder}/forks"
            environment["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "algo-forked"
            preload = [sys.executable, "-m", "algo_research.cli.forks", f"{folder}/forks"]
            preload += [f"algo_research.dashboards.{name}", str(os.getpid())]
            servers.append(start(preload))
            begun = time.monotonic()
        console(stderr=True).print(
            line((name, "bold"), f" of {settings.root} at {address}?token={token if new else '...'}  (Ctrl-C stops it)")
        )
        command = [
            sys.executable,
            "-m",
            "algo_research.cli.doors",
            str(known[name]),
            f"--port={port}",
            f"--Voila.config_file_paths={folder}",
            "--no-browser",
        ]
        servers.append(server := start(command))
        if browser:
            leads = f'<meta http-equiv="refresh" content="0;url={address}?token={quote(token, safe="")}">'
            open_browser(write_private(Path(folder) / "open.html", leads), port)
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
                        servers[0], begun = start(preload), time.monotonic()
        except KeyboardInterrupt:
            code = 0
        finally:
            for started in servers:
                stop(started.pid)
    raise typer.Exit(code)


def ends_with(parent: int) -> Callable[[], None] | None:
    """What a child does first, where the system can: have itself ended when its parent ends, whatever it is doing."""
    import ctypes
    import os
    import signal

    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def first() -> None:
        prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it was quicker
            os._exit(1)

    return first


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
