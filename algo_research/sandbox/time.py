"""The exchange's time: real, accelerated, or standing still until it is moved."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class MarketTime:
    """Milliseconds since 1970 at the exchange: `start` now, and `speed` of its seconds in each of ours;
    0 stands still.
    """

    def __init__(self, start: datetime | None = None, speed: float = 1.0) -> None:
        self.speed, self._moved = speed, 0.0
        self._start = (start or datetime.now(UTC)).timestamp()
        self._begun = time.monotonic()

    def now(self) -> int:
        return int((self._start + self._moved + (time.monotonic() - self._begun) * self.speed) * 1000)

    def advance(self, seconds: float) -> None:
        """Let time pass at once."""
        self._moved += seconds

    def real(self, milliseconds: float) -> float:
        """Our seconds until so much of its time has passed."""
        return milliseconds / 1000 / self.speed if self.speed else float("inf")
