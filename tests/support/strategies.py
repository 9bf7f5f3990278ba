"""A strategy as a user writes it, in one file beside settings.ini."""

RULES = """
from dataclasses import dataclass
import polars as pl
from algo_research.strategies.protocol import Strategy
from algo_research.strategies.rules import target_changes

@dataclass(frozen=True)
class Dip(Strategy):
    "Long when RSI is low, flat when it is high again."
    low: float = -0.2   # RSI scaled to [-1, 1]
    high: float = 0.1

    def features(self): return ("momentum.talib.rsi_14",)

    def targets(self, frame, state=None):
        rsi = pl.col("momentum.talib.rsi_14")
        wish = pl.when(rsi < self.low).then(1.0).when(rsi > self.high).then(0.0)
        return target_changes(frame.select("symbol", "ts", "known_at", wish=wish), state)
"""
