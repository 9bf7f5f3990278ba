"""A local exchange that ccxt's Binance clients can talk to:
a server of its own, for tests and for trying things out offline.
"""
