"""Waiting for what happens outside of a test; a test itself never sleeps for a fixed time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.02) -> Any:
    """What the condition answers as soon as that is true; an error when it takes longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {seconds:g} seconds: {getattr(condition, '__name__', condition)}")
        time.sleep(pause)
    return found


async def eventually(condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.02) -> Any:
    """The same on the clock of the event loop, real or simulated."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(pause)
    return found


def let_pass(seconds: float) -> None:
    """Let time pass for a process whose moment of death is drawn by chance: there is nothing to wait for."""
    time.sleep(seconds)


async def forever() -> None:
    """As a connection over which nothing comes any more."""
    await asyncio.Event().wait()
