"""Kernels of the dashboard: what Voila is told to manage them with."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

PARENT = "ALGO_DASHBOARD_PARENT"  # the process that started the server


def end_with(parent: int) -> None:
    """End this server when the process that started it has ended, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


class DashboardKernelManager(AsyncMappingKernelManager):
    """Idle time begins when a kernel leaves the pool.

    A kernel that waited warm has been idle for long when somebody's page takes it, and has no connection until the
    page's scripts have loaded: Voila would shut it down just then. A kernel whose page has not connected yet gets
    three times as long: on a busy machine scripts take their time. Voila asks `cull_kernel_if_idle`, every
    `cull_interval`, only for kernels outside its pool: the first question after a pause says that a kernel was just
    taken.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._asked: dict[str, tuple[Any, Any, bool]] = {}  # kernel id -> (taken at, asked last, was connected)
        super().__init__(**kwargs)
        if parent := int(os.environ.get(PARENT, 0)):
            threading.Thread(target=end_with, args=(parent,), daemon=True).start()

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Shut a kernel down when it has been idle, and out of the pool, for long enough."""
        now = datetime.now(UTC)
        taken, last, connected = self._asked.get(kernel_id, (now, now, False))
        if now - last > timedelta(seconds=1.5 * self.cull_interval):
            taken = now
        connected = connected or self._kernel_connections.get(kernel_id, 0) > 0
        self._asked = {known: told for known, told in self._asked.items() if known in self} | {
            kernel_id: (taken, now, connected)
        }
        if now - taken >= timedelta(seconds=self.cull_idle_timeout * (1 if connected else 3)):
            await super().cull_kernel_if_idle(kernel_id)

    async def shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """A page says goodbye, and Voila's script may say it once more: what is gone already is no error."""
        if kernel_id in self:
            await super().shutdown_kernel(kernel_id, *args, **kwargs)
