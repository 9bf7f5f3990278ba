"""Algorithmic trading research in notebooks, with numbers one can believe

Modules:

- `algo_research.cli.doors`: The dashboard's server: Voila, with a keeper at each of its doors.
- `algo_research.cli.forks`: Kernels that are forked, not started: what a page imports is imported once for all.
- `algo_research.cli.plain`: A terminal that shows texts as they are, and obeys none of them.
- `algo_research.sandbox.futures`: The same markets as perpetuals: the public REST API of USD-M futures.
- `algo_research.sandbox.tape`: What happens within a bar: trades, best prices and an order book."""

__version__ = "0.1.0"
