"""Kernels of the dashboard: what Voila is told to manage them with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager


class DashboardKernelManager(AsyncMappingKernelManager):
    """Idle time begins when a kernel leaves the pool.

    A kernel that waited warm has been idle for long when somebody's page takes it, and has no connection until the page's scripts have loaded: Voila would shut it down just then.
    Voila asks `cull_kernel_if_idle`, every `cull_interval`, only for kernels outside its pool: the first question after a pause says that a kernel was just taken.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._asked: dict[str, tuple[Any, Any]] = {}  # kernel id -> (taken at, asked last)
        super().__init__(**kwargs)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Shut a kernel down when it has been idle, and out of the pool, for long enough."""
        now = utcnow()
        taken, last = self._asked.get(kernel_id, (now, now))
        if now - last > timedelta(seconds=1.5 * self.cull_interval):
            taken = now
        self._asked = {known: times for known, times in self._asked.items() if known in self} | {kernel_id: (taken, now)}
        if now - taken >= timedelta(seconds=self.cull_idle_timeout):
            await super().cull_kernel_if_idle(kernel_id)
