"""Kernels that are forked, not started: what a page imports is imported once for all.

One process imports what a dashboard needs and waits at a socket. For each kernel it forks: the child inherits the
imported modules, in the same memory until it writes to them. Nothing is computed before the fork, for threads would
not be inherited. Where there is no such process, kernels are started as everywhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.provisioning import LocalProvisioner

SOCKET = "ALGO_KERNEL_FORKS"  # where the process waits: a socket in a folder that is ours alone
LAUNCHER = ["-m", "ipykernel_launcher"]


class ForkedKernel:
    """A kernel's process, which is no child of ours; what `LocalProvisioner` asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:  # it has ended already
            self._process = None

    def poll(self) -> int | None:
        """None while it runs. How it ended is known to its parent only: 0."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._process is not None and self._process.is_running():
                return 0 if self._process.status() == psutil.STATUS_ZOMBIE else None
        return 0

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.wait(timeout)
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is still the same process."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):  # it was quicker
                self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class ForkingProvisioner(LocalProvisioner):
    """Asks for a fork where a kernel of this Python is wanted; else, and where nobody answers, starts one."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """The kernel's connection."""
        place = os.environ.get(SOCKET)
        if not place or not self._is_ours(cmd):
            return await super().launch_kernel(cmd, **kwargs)
        asked = {"arguments": cmd[cmd.index(LAUNCHER[1]) + 1 :], "env": kwargs.get("env") or dict(os.environ)}
        try:
            pid = await asyncio.to_thread(ask_for_fork, place, asked | {"cwd": str(kwargs.get("cwd") or Path.cwd())})
        except (OSError, ValueError):
            return await super().launch_kernel(cmd, **kwargs)
        self.process = ForkedKernel(pid)  # type: ignore[assignment]
        self.pid = self.pgid = pid  # it leads a group of its own
        return self.connection_info

    @staticmethod
    def _is_ours(cmd: list[str]) -> bool:
        """Whether this is an ordinary kernel of this very Python."""
        if LAUNCHER[1] not in cmd or not Path(cmd[0]).exists():
            return False
        return Path(cmd[0]).parent.resolve() == Path(sys.executable).parent.resolve()


def ask_for_fork(place: str, asked: dict[str, Any], seconds: float = 10.0) -> int:
    """The process number of a new kernel."""
    with socket.socket(socket.AF_UNIX) as there:
        there.settimeout(seconds)
        there.connect(place)
        there.sendall(json.dumps(asked).encode() + b"\n")
        return int(there.makefile().readline())


def serve(place: str, module: str, parent: int) -> None:
    """Import a dashboard's module, then fork a kernel for whoever asks, as long as our parent lives.

    The parent is told, for it may have ended before this line is reached.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a kernel ended
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(place)
        waiting.listen(64)  # whoever comes while we import waits
        importlib.import_module("ipykernel.kernelapp")
        importlib.import_module(module)
        gc.collect()
        gc.freeze()  # a collection would write to every object, and so copy the memory
        waiting.settimeout(2.0)
        while os.getppid() == parent:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # who asked has gone, or made no sense
                _fork_for(waiting)


def _fork_for(waiting: socket.socket) -> None:
    """Wait for somebody who asks, and fork."""
    connection, _ = waiting.accept()
    with connection, connection.makefile() as lines:
        connection.settimeout(2.0)
        asked = json.loads(lines.readline())
        arguments, env, cwd = asked["arguments"], asked["env"], asked["cwd"]
        pid = os.fork()
        if not pid:
            waiting.close()
            lines.close()  # it holds the connection open, too
            connection.close()
            _become_kernel(arguments, env, cwd)
        try:
            connection.sendall(f"{pid}\n".encode())
        except OSError:  # who asked has given up, and started a kernel of its own on the same ports
            os.kill(pid, signal.SIGKILL)


def _become_kernel(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """What a forked process does for the rest of its life."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        sys.argv = ["ipykernel_launcher", *arguments]
        from ipykernel.kernelapp import launch_new_instance

        # the process that forked us is our parent: a kernel ends when that does
        launch_new_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
