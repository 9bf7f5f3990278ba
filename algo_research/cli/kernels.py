"""Kernels of the dashboard: what Voila is told to manage them with."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Int

PAUSE = 0.05  # seconds between two looks whether there is room
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

    There are never more than `limit`. Whoever wants one, a page or the pool, waits in line until one has ended.
    """

    limit = Int(64, min=1, config=True, help="At most so many kernels, those that wait warm included.")

    def __init__(self, **kwargs: Any) -> None:
        self._asked: dict[str, tuple[Any, Any, bool]] = {}  # kernel id -> (taken at, asked last, was connected)
        self._starting = self._admitted = 0
        self._line, self._pages = asyncio.Lock(), deque[object]()
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

    async def start_kernel(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
        """Its id, once there is room for it; who asked first gets it first."""
        async with self._line:
            while len(self.list_kernel_ids()) + self._starting >= self.limit:
                await asyncio.sleep(PAUSE)
            self._starting += 1
        try:
            return await super().start_kernel(*args, **kwargs)
        finally:
            self._starting -= 1

    def with_pages(self) -> int:
        """How many kernels belong to pages, or are promised to one."""
        pooled = [task for pool in getattr(self, "_pools", {}).values() for task in pool]
        ready = [task for task in pooled if task.done() and not task.cancelled() and task.exception() is None]
        warm = {task.result()["kernel_id"] for task in ready}
        return len(set(self.list_kernel_ids()) - warm) + self._admitted

    @asynccontextmanager
    async def place(self, seconds: float, gone: Callable[[], bool]) -> AsyncIterator[bool]:
        """Wait in line for a page's kernel; whether one is promised, for as long as it takes to get it."""
        ticket, until = object(), time.monotonic() + seconds
        self._pages.append(ticket)
        try:
            while not (mine := self._pages[0] is ticket and self.with_pages() < self.limit):
                if gone() or time.monotonic() > until:
                    break
                await asyncio.sleep(PAUSE)
        finally:
            self._pages.remove(ticket)
        self._admitted += mine
        try:
            yield mine
        finally:
            self._admitted -= mine

    async def shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """A page says goodbye, and Voila's script may say it once more: what is gone already is no error."""
        if kernel_id in self:
            await super().shutdown_kernel(kernel_id, *args, **kwargs)
