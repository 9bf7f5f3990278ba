"""What goes wrong on purpose: seeded, counted, and at most one thing a request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from algo_research.core.errors import InputError, unknown_name

KINDS = {
    "rate_limit": "429 with Retry-After; whoever asks again before is banned (418)",
    "server_error": "500, 502 or 503",
    "timeout": "the request is accepted, and the answer comes too late",
    "drop": "the connection ends in the middle of the answer",
    "garbled": "200, and a page of HTML instead of JSON",
    "skew": "the exchange's time is an hour ahead or behind",
    "missing": "candles are missing in the middle of a page or at its beginning",
    "duplicate": "candles come twice",
    "late": "the newest closed candles are not there yet",
    "shuffled": "candles are out of order",
    "disconnect": "a stream's connection ends (per message)",
    "lost": "an update of the order book never comes (per update)",
    "swapped": "an update of the order book comes after the next one (per update)",
}
STREAM = ("disconnect", "lost", "swapped")
CANDLES = ("missing", "duplicate", "late", "shuffled")


@dataclass
class Faults:
    """How often each kind strikes, as a share of the requests (of the messages for a stream's)."""

    rates: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    retry_after: int = 5  # seconds of the exchange
    stall: float = 60.0  # our seconds that an answer comes too late
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for kind, rate in self.rates.items():
            if kind not in KINDS:
                raise unknown_name("fault", kind, KINDS)
            if not 0 <= rate <= 1:
                raise InputError(f"{kind} = {rate}: a rate is a share of the requests, from 0 to 1.")
        if sum(rate for kind, rate in self.rates.items() if kind not in STREAM) > 1:
            raise InputError("The rates of a request's faults add up to more than 1; at most one strikes a request.")
        self.rng = np.random.default_rng(self.seed)

    def draw(self, candidates: tuple[str, ...]) -> str | None:
        """The fault that strikes a request for which these are possible; it is counted."""
        u = self.rng.random()
        for kind in candidates:
            u -= self.rates.get(kind, 0.0)
            if u < 0:
                self.counts[kind] += 1
                return kind
        return None

    def spoil(self, kind: str, rows: list[list[Any]]) -> list[list[Any]]:
        """A page of candles with something wrong; a page that is too short for it stays as it is,
        and does not count.
        """
        if len(rows) < 8:
            self.counts[kind] -= 1
            return rows
        i, n = int(self.rng.integers(0, len(rows) - 6)), int(self.rng.integers(1, 6))
        if kind == "missing":
            return rows[:i] + rows[i + n :]
        if kind == "duplicate":
            return rows[: i + n] + rows[i:]
        if kind == "late":
            return rows[: -n - 1]
        return [rows[j] for j in self.rng.permutation(len(rows))]
