"""No label reaches into a test, and every row is tested once: for any bars, gaps and symbols."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo_research.core.errors import DataError, InputError
from algo_research.stats.labels import forward_return
from algo_research.stats.splits import purged_kfold, walk_forward

HOUR = timedelta(hours=1)


@st.composite
def labelled_bars(draw):
    "Labels of up to three symbols with gaps of their own, in (symbol, ts) order."
    n, horizon = draw(st.integers(80, 120)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    start = datetime(2024, 1, 1, tzinfo=UTC)
    parts = []
    for symbol in "ABC"[: draw(st.integers(1, 3))]:
        kept = np.flatnonzero(rng.random(n) < draw(st.sampled_from([1.0, 0.8])))
        ts = pl.Series([start + int(i) * HOUR for i in kept], dtype=pl.Datetime("us", "UTC"))
        price = np.exp(rng.normal(0, 0.1, len(kept)))
        parts.append(pl.DataFrame({"symbol": [symbol] * len(kept), "ts": ts, "open": price}))
    bars = pl.concat(parts)
    return bars, horizon, forward_return(bars, horizon).with_columns(known_at=pl.col("ts") + HOUR)


@given(labelled_bars())
def test_labels_are_the_trade(case):
    bars, horizon, labels = case
    assert labels.select("symbol", "ts").equals(bars.select("symbol", "ts"))
    for (_,), group in bars.group_by("symbol", maintain_order=True):
        mine = labels.filter(pl.col("symbol") == group["symbol"][0])
        ts, price = group["ts"].to_list(), group["open"].to_list()
        for t in range(len(ts)):
            row = mine.row(t, named=True)
            if t + 1 + horizon < len(ts):
                assert np.isclose(row["label"], price[t + 1 + horizon] / price[t + 1] - 1)
                assert row["label_end"] == ts[t + 1 + horizon]
            else:
                assert row["label"] is None and row["label_end"] is None


@settings(deadline=None)
@given(
    labelled_bars(),
    st.integers(1, 5),
    st.integers(0, 5),
    st.sampled_from(["expanding", "rolling"]),
    st.sampled_from([0.4, 0.6]),
)
def test_walk_forward_never_looks_ahead(case, folds, embargo, window, min_train):
    rows = case[2]
    known, end = rows["known_at"].to_numpy(), rows["label_end"].to_numpy()
    times = np.unique(known)
    result = walk_forward(rows["known_at"], rows["label_end"], folds, min_train, window, embargo)
    assert [f.number for f in result] == list(range(folds))
    for f in result:
        begin = np.searchsorted(times, f.test_start)
        assert not np.isnat(end[f.train]).any()
        assert end[f.train].max() <= times[begin - embargo] <= f.test_start
        assert known[f.train].max() < f.test_start == known[f.test].min() and known[f.test].max() == f.test_end
        if window == "expanding":  # nothing that may be trained on is left out
            assert len(f.train) == ((end <= times[begin - embargo]) & (known < f.test_start)).sum()
    tested = np.concatenate([f.test for f in result])
    assert sorted(tested) == np.flatnonzero(known >= result[0].test_start).tolist()
    assert all(a.test_end < b.test_start for a, b in pairwise(result))
    assert np.searchsorted(times, result[0].test_start) == int(min_train * len(times) + 1e-9)
    sizes = [len(np.unique(known[f.test])) for f in result]
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(labelled_bars(), st.integers(2, 5), st.integers(0, 3))
def test_purged_kfold_never_overlaps(case, folds, embargo):
    rows = case[2]
    known, end = rows["known_at"].to_numpy(), rows["label_end"].to_numpy()
    result = purged_kfold(rows["known_at"], rows["label_end"], folds, embargo)
    assert sorted(np.concatenate([f.test for f in result])) == list(range(len(rows)))
    times = np.unique(known)
    for f in result:
        last = np.nanmax(np.append(end[f.test], f.test_end))
        left, right = f.train[known[f.train] < f.test_start], f.train[known[f.train] > f.test_end]
        assert len(left) + len(right) == len(f.train) and not np.isnat(end[f.train]).any()
        if len(left):
            assert end[left].max() <= times[np.searchsorted(times, f.test_start) - embargo]
        if len(right):
            assert known[right].min() >= last
            assert np.searchsorted(times, known[right].min()) >= np.searchsorted(times, last) + embargo


@pytest.mark.slow
@settings(deadline=None)
@given(labelled_bars(), st.integers(1, 8), st.integers(0, 20))
def test_the_number_of_times_asked_for_is_exact(case, folds, embargo):
    rows = case[2].filter(pl.col("symbol") == "A").sort("ts")
    outcome = []
    for n in range(8, len(rows)):
        part = rows[:n]
        try:
            walk_forward(part["known_at"], part["label_end"], folds, embargo=embargo)
            outcome.append((n, None))
        except DataError as error:
            outcome.append((n, int(str(error).split("at least ")[1].split()[0])))
    for n, needed in outcome:
        assert needed is None or needed > n
        if needed is not None and needed < len(rows):
            assert (needed, None) in outcome


def test_zones_units_and_arrays_agree():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    ts = pl.Series([start + i * HOUR for i in range(50)], dtype=pl.Datetime("us", "UTC"))
    end = ts.dt.offset_by("3h")
    folds = [
        walk_forward(ts, end),
        walk_forward(ts.to_numpy(), end.to_numpy().astype("datetime64[ns]")),
        walk_forward(ts.dt.convert_time_zone("America/New_York"), end.dt.cast_time_unit("ms")),
    ]
    for f in folds[1:]:
        pairs = zip(folds[0], f, strict=True)
        assert all((a.train == b.train).all() and a.test_start == b.test_start for a, b in pairs)


@pytest.mark.parametrize(
    "options", [{"folds": 0}, {"folds": 2.5}, {"embargo": -1}, {"min_train": 1.0}, {"window": "sliding"}]
)
def test_nonsense_is_refused(options):
    times = np.datetime64("2024-01-01", "us") + np.arange(50) * np.timedelta64(1, "h")
    with pytest.raises(InputError):
        walk_forward(times, times + np.timedelta64(2, "h"), **options)
