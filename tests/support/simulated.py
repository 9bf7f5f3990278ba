"""Simulated time for asyncio: seconds that nobody uses do not pass.

The clock of this loop stands while something is ready to run, and jumps to the next timer when nothing is. While a
thread works (`asyncio.to_thread`), time passes as it does outside, for nobody knows how long the thread will take;
that is why it is not `looptime`, whose clock jumps over threads too, so that every timeout around one strikes.
For code without real sockets: what comes from a socket comes in real time.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any

PATIENCE = 60.0  # real seconds to wait for a thread when no timer is set: then nothing will ever happen


class _Selector(selectors.DefaultSelector):
    """Does not wait when only time could end the waiting."""

    loop: "SimulatedLoop"

    def select(self, timeout: float | None = None) -> list:
        if timeout is not None and timeout > 0 and not self.loop.threads:
            found = super().select(0)
            if not found:
                self.loop.now += timeout
            return found
        began = time.monotonic()
        found = super().select(PATIENCE if timeout is None else timeout)
        if timeout is None and not found:
            raise TimeoutError("no timer is set and no thread reports: what is awaited will never come")
        if timeout != 0:
            self.loop.now += min(time.monotonic() - began, PATIENCE if timeout is None else timeout)
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on simulated time, which begins at zero."""

    def __init__(self) -> None:
        self.now, self.threads = 0.0, 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor, func, *args):  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future) -> None:
        self.threads -= 1


def run_simulated(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, on simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(coroutine)


async def pass_time(seconds: float) -> None:
    """Let simulated time pass."""
    if not isinstance(asyncio.get_running_loop(), SimulatedLoop):
        raise RuntimeError("Time passes at once in a simulated loop only; wait for a condition (support.waiting).")
    await asyncio.sleep(seconds)
