"""Tests that run on every store: all cases on all stores in the whole suite, each case on one store in the fast lane.

The cases are dealt out, so that every store gets its share and every case is seen; the rest is marked `slow`.
"""

from collections import defaultdict

import pytest

STORES = ("url", "cache")  # parameters that stand for the same interface in several implementations


def dealt(stores: int, cases: int) -> set[tuple[int, int]]:
    """Which store gets which case: every store one at least, and every case one store at least."""
    turns = min(stores, cases)
    return {(store, case) for store in range(stores) for case in range(cases) if store % turns == case % turns}


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = defaultdict(list)
    for item in items:
        call = getattr(item, "callspec", None)
        name = next((name for name in STORES if call and name in call.params), None)
        if name and len(call.params) > 1:
            store, case = call.params[name], item.callspec.id.replace(str(call.params[name]), "", 1)
            tests[item.nodeid.partition("[")[0]].append((item, store, case))
    for found in tests.values():
        stores, cases = (list(dict.fromkeys(row[column] for row in found)) for column in (1, 2))
        kept = dealt(len(stores), len(cases))
        for item, store, case in found:
            if (stores.index(store), cases.index(case)) not in kept:
                item.add_marker("slow")
