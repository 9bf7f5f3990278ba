"""Algorithmic trading research in notebooks, with numbers one can believe

Modules:

- `algo_research.sandbox.futures`: The same markets as perpetuals: the public REST API of USD-M futures.
- `algo_research.sandbox.tape`: What happens within a bar: trades, best prices and an order book."""

__version__ = "0.1.0"
