"""Captured streams replay to the venue's own tops, every break of the sequence is seen, random updates match a dict."""

import dataclasses
import gzip
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algo_research.core.errors import DataError, InputError
from algo_research.data.market.book import (
    BookTicker,
    DepthSnapshot,
    DepthUpdate,
    MarketTrade,
    OrderBook,
    book_tops,
    decode_message,
    replay_capture,
    stored_events,
    tickers_frame,
    trades_frame,
    updates_frame,
)
from algo_research.data.market.trades import time_bars, volume_bars

TOP = ["bid", "bid_amount", "ask", "ask_amount"]
# file, rules, ids that both depth and ticker end at, applied updates, trades
CAPTURES = {
    "spot": ("binance_spot_btcusdt_l2_20240808.gz", 564, 3449, 9757),
    "futures": ("binance_usdm_btcusdt_l2_20240808.gz", 629, 6546, 21313),
}


@pytest.fixture(scope="module", params=CAPTURES)
def captured(request, shared_data):
    name, *counts = CAPTURES[request.param]
    return request.param, list(replay_capture(shared_data / name)), counts


def test_a_capture_replays_to_the_announced_tops(captured):
    rules, events, (common, applied, trades) = captured
    book = OrderBook("BTCUSDT", rules, strict=True)
    tops, tickers = book_tops(events, book), tickers_frame(events)
    assert book.valid and book.gaps == 0 and tops["id"].is_unique().all()
    both = tops.join(tickers, on="id", suffix="_venue")
    assert both.height == common
    assert all((both[name] == both[f"{name}_venue"]).all() for name in TOP)

    # A ticker comes with each change of the top, so the last one at or before an id is the top there: thousands more.
    standing = tops.sort("id").join_asof(tickers.sort("id"), on="id", suffix="_venue").drop_nulls("bid_venue")
    assert standing.height == tops.height and tops.height >= applied
    assert all((standing[name] == standing[f"{name}_venue"]).all() for name in TOP)

    tape = trades_frame(events)
    assert tape.height == trades
    assert time_bars(tape, "1m").bars.height >= 5 and volume_bars(tape, 10).bars.height > 10


def test_a_stored_capture_replays_to_the_same_book(captured):
    rules, events, _ = captured
    events = [e for e in events if isinstance(e, DepthSnapshot | DepthUpdate)][:1500]
    frame = updates_frame(events)
    assert frame.height == sum(len(e.bids) + len(e.asks) for e in events)
    assert (
        list(stored_events(frame))
        == events
        == list(stored_events(frame.sort("event", descending=True, maintain_order=True)))
    )
    first, second = OrderBook("BTCUSDT", rules), OrderBook("BTCUSDT", rules)
    assert book_tops(events, first).equals(book_tops(stored_events(frame), second))
    assert first.levels(10_000).equals(second.levels(10_000)) and first.levels(10_000).height > 1000


def test_a_removed_update_of_a_capture_is_seen(captured):
    rules, events, _ = captured
    whole = book_tops(events, OrderBook("BTCUSDT", rules))
    updates = [e for e in events if isinstance(e, DepthUpdate)]
    for lost in updates[50], updates[len(updates) // 2], updates[-2]:
        book = OrderBook("BTCUSDT", rules)
        tops = book_tops((e for e in events if e is not lost), book)
        assert not book.valid and book.gaps == 1 and book.best_bid is None and book.levels().is_empty()
        assert tops.equals(whole.filter(pl.col("id") < lost.last_id))
        with pytest.raises(DataError, match="lost: after id"):
            book_tops((e for e in events if e is not lost), OrderBook("BTCUSDT", rules, strict=True))


def test_the_update_before_the_snapshot_is_needed(captured):
    rules, events, _ = captured
    start = next(i for i, e in enumerate(events) if isinstance(e, DepthSnapshot))
    book = OrderBook("BTCUSDT", rules)
    assert book_tops(events[start : start + 200], book).height == 1  # the snapshot alone
    assert not book.valid and book.gaps == 1


# --- the rules, one by one


def update(first, last, previous=None, bids=(), asks=(), symbol="X"):
    return DepthUpdate(0, symbol, 0, first, last, tuple(bids), tuple(asks), previous)


def snapshot(last, bids=((9.0, 1.0), (8.0, 1.0)), asks=((11.0, 1.0), (12.0, 1.0))):
    return DepthSnapshot(0, last, tuple(bids), tuple(asks))


@pytest.mark.parametrize(
    ("rules", "ids", "status"),
    [
        # first update after a snapshot of 100
        ("spot", [(90, 99)], "dropped"),
        ("spot", [(90, 100)], "dropped"),
        ("spot", [(90, 101)], "applied"),
        ("spot", [(101, 101)], "applied"),
        ("spot", [(101, 105)], "applied"),
        ("spot", [(102, 105)], "gap"),
        ("futures", [(90, 99, 80)], "dropped"),
        ("futures", [(90, 100, 80)], "applied"),
        ("futures", [(100, 110, 80)], "applied"),
        ("futures", [(101, 110, 100)], "applied"),
        ("futures", [(101, 110, 99)], "gap"),
        # later ones
        ("spot", [(95, 105), (106, 106)], "applied"),
        ("spot", [(95, 105), (107, 107)], "gap"),
        ("spot", [(95, 105), (105, 106)], "gap"),
        ("spot", [(95, 105), (100, 105)], "dropped"),
        ("spot", [(95, 105), (101, 104)], "dropped"),
        ("futures", [(95, 105, 90), (120, 130, 105)], "applied"),
        ("futures", [(95, 105, 90), (106, 130, 104)], "gap"),
        ("futures", [(95, 105, 90), (100, 130, 90)], "gap"),
        ("futures", [(95, 105, 90), (95, 105, 90)], "dropped"),
        ("futures", [(95, 100, 90), (95, 100, 90)], "dropped"),
        ("futures", [(95, 105, 90), (106, 130, None)], "gap"),
    ],
)
def test_rules(rules, ids, status):
    book = OrderBook("X", rules)
    assert book.apply_snapshot(snapshot(100)) == "applied"
    *before, last = ids
    assert [book.apply_update(update(*i)) for i in before] == ["applied"] * len(before)
    kept = book.levels(), book.last_id
    assert book.apply_update(update(*last, bids=((9.5, 1.0),))) == status
    assert book.valid == (status != "gap") and book.gaps == (status == "gap")
    assert book.last_id == (last[1] if status == "applied" else kept[1])
    assert book.best_bid == {"applied": (9.5, 1.0), "dropped": (9.0, 1.0), "gap": None}[status]
    # the same updates before the snapshot
    late = OrderBook("X", rules)
    assert {late.apply_update(update(*i)) for i in before} | {late.apply_update(update(*last, bids=((9.5, 1.0),)))} == {
        "buffered"
    }
    assert not late.valid and late.best_bid is None
    late.apply_snapshot(snapshot(100))
    assert (late.valid, late.best_bid) == (book.valid, book.best_bid)


def test_after_a_gap_nothing_is_applied_until_a_snapshot():
    book = OrderBook("X")
    book.apply_snapshot(snapshot(100))
    statuses = [book.apply_update(update(i, i, bids=((9.0, float(i)),))) for i in (101, 103, 104, 102, 105)]
    assert statuses == ["applied", "gap", "buffered", "buffered", "buffered"] and book.last_id == 101
    assert book.apply_snapshot(snapshot(100)) == "gap" and not book.valid  # 101 was applied and does not wait
    assert book.apply_snapshot(snapshot(101)) == "applied" and book.last_id == 105 and book.gaps == 2
    assert book.best_bid == (9.0, 105.0)


def test_waiting_updates_are_bounded():
    book = OrderBook("X", waiting=3)
    for i in range(101, 106):
        book.apply_update(update(i, i))
    assert book.apply_snapshot(snapshot(101)) == "gap"
    assert book.apply_snapshot(snapshot(102)) == "applied" and book.last_id == 105


def test_snapshots():
    book = OrderBook("X", "futures")
    book.apply_snapshot(snapshot(100))
    assert book.apply_snapshot(snapshot(99)) == "dropped" and book.last_id == 100
    assert book.apply_snapshot(snapshot(120, bids=((7.0, 2.0),))) == "applied" and book.best_bid == (7.0, 2.0)
    assert book.apply_snapshot(snapshot(121, bids=((11.0, 2.0),))) == "crossed" and not book.valid and book.gaps == 0
    assert book.apply_snapshot(snapshot(90)) == "applied"  # better than none
    with pytest.raises(InputError, match="not of Y"):
        book.apply_snapshot(dataclasses.replace(snapshot(130), symbol="Y"))


@pytest.mark.parametrize("bid", [11.0, 11.5])
def test_a_crossed_book_is_invalid(bid):
    book, strict = OrderBook("X"), OrderBook("X", strict=True)
    for b in (book, strict):
        b.apply_snapshot(snapshot(100))
    crossing = update(101, 101, bids=((bid, 1.0),))
    assert book.apply_update(crossing) == "crossed" and not book.valid and book.mid is None
    with pytest.raises(DataError, match=f"best bid {bid} is not below the best ask 11.0 at id 101"):
        strict.apply_update(crossing)
    assert not strict.valid
    assert book.apply_snapshot(snapshot(101)) == "applied"
    # not crossed: within one update bids may pass the old ask, as long as that goes, too
    assert (
        book.apply_update(update(102, 102, bids=((bid, 1.0),), asks=((11.0, 0.0),))) == "applied"
        and book.best_bid[0] == bid
    )


# --- against a plain dict

change = st.tuples(st.integers(1, 12), st.sampled_from([0.0, 0.0, 1.0, 2.5]))
numbers = st.lists(st.tuples(st.lists(change, max_size=5), st.lists(change, max_size=5)), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(numbers, st.data())
def test_random_updates_match_a_dict(changes, data):
    """Updates in any order within a window, some twice, the snapshot anywhere: the book is as a dict, or invalid."""
    updates, states, bids, asks = [], [({}, {})], {}, {}
    for i, (b, a) in enumerate(changes, 1):
        b, a = [(100.0 - p, q) for p, q in b], [(100.0 + p, q) for p, q in a]
        updates.append(update(i, i, i - 1, b, a))
        for side, levels in ((bids, b), (asks, a)):
            for price, amount in levels:
                side.pop(price, None)
                if amount:
                    side[price] = amount
        states.append((dict(bids), dict(asks)))
    at = data.draw(st.integers(0, len(updates)))
    twice = data.draw(st.lists(st.sampled_from(updates), max_size=4))
    waiting = data.draw(st.permutations(updates[: data.draw(st.integers(0, len(updates)))] + twice))
    live = [u for u in updates if u not in waiting]
    rules = data.draw(st.sampled_from(["spot", "futures"]))
    book = OrderBook("X", rules)
    for u in waiting:
        assert book.apply_update(u) == "buffered"
    ready = max([0, *(u.last_id for u in waiting)])
    book.apply_snapshot(DepthSnapshot(0, at, tuple(states[at][0].items()), tuple(states[at][1].items())))
    seen = set(waiting)
    known = at
    while known + 1 <= len(updates) and updates[known] in seen:
        known += 1
    assert book.valid == (known >= ready)
    for u in live:
        book.apply_update(u)
        if book.valid:
            check_book(book, *states[book.last_id])
    if book.valid:
        check_book(book, *states[book.last_id])
        assert book.last_id == max(len(updates), at)


def check_book(book, bids, asks):
    best_bids, best_asks = sorted(bids.items(), reverse=True), sorted(asks.items())
    frame = book.levels(50)
    assert [r for r in frame.select("bid", "bid_amount").rows() if r[0]] == best_bids
    assert [r for r in frame.select("ask", "ask_amount").rows() if r[0]] == best_asks
    assert book.best_bid == (best_bids[0] if bids else None) and book.best_ask == (best_asks[0] if asks else None)
    assert book.mid == ((best_bids[0][0] + best_asks[0][0]) / 2 if bids and asks else None)
    b, a = (sum(q for _, q in side[:3]) for side in (best_bids, best_asks))
    assert book.imbalance(3) == ((b - a) / (b + a) if a + b else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.lists(change, max_size=3), st.lists(change, max_size=3)), max_size=12))
def test_stored_events_come_back(rows):
    events = [
        dataclasses.replace(snapshot(i, b, a), ts=None if i % 2 else i, symbol=None if i % 3 else "X")
        if kind == 0
        else update(i, i + kind, None if kind % 2 else i, b, a)
        for i, (kind, b, a) in enumerate(rows)
    ]
    events += events[:2]  # a repetition stays one
    assert list(stored_events(updates_frame(events))) == events


# --- reading


def test_messages_of_both_venues_are_read():
    spot = decode_message(
        '{"stream":"x@bookTicker","data":{"u":5,"s":"X","b":"9.10","B":"1.0","a":"9.20","A":"2.0"}}', 7
    )
    assert spot == BookTicker(7, "X", 5, 9.1, 1.0, 9.2, 2.0, None)
    usdm = decode_message('{"e":"bookTicker","u":5,"s":"X","b":"9.10","B":"1.0","a":"9.20","A":"2.0","T":3,"E":4}', 7)
    assert usdm == dataclasses.replace(spot, ts=3000)
    depth = {"e": "depthUpdate", "E": 4, "T": 3, "s": "X", "U": 1, "u": 2, "pu": 0, "b": [["9.1", "0"]], "a": []}
    assert decode_message(json.dumps(depth), 7) == DepthUpdate(7, "X", 3000, 1, 2, ((9.1, 0.0),), (), 0)
    trade = {"e": "trade", "E": 9, "T": 1723161255342, "s": "X", "t": 6, "p": "9.1", "q": "2", "m": True}
    assert decode_message(json.dumps(trade), 7) == MarketTrade(7, "X", 1723161255342000, 6, 9.1, 2.0, "sell")
    micros = trade | {"T": 1723161255342123, "m": False, "X": "MARKET"}
    assert decode_message(json.dumps(micros), 7) == MarketTrade(7, "X", 1723161255342123, 6, 9.1, 2.0, "buy")
    assert decode_message(json.dumps(trade | {"X": "INSURANCE_FUND"}), 7) is None
    partial = '{"stream":"x@depth5","data":{"lastUpdateId":3,"bids":[],"asks":[]}}'  # five levels are no snapshot
    assert decode_message(partial, 7) is None
    assert decode_message('{"e":"24hrTicker","s":"X","b":"1","B":"1","a":"2","A":"1"}', 7) is None
    assert decode_message("[1]", 7) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("12 {", "line 2"),
        ("{}", "line 2"),
        ('12 {"e":"depthUpdate","s":"X"}', "line 2"),
        ('12 {"lastUpdateId":1,"bids":[["1.0","nan"]],"asks":[]}', "0 or more"),
        ('12 {"lastUpdateId":1,"bids":[["1234567890.1234567","1"]],"asks":[]}', "15 significant digits"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    for name, opener in (("x.txt", open), ("x.gz", gzip.open)):
        with opener(tmp_path / name, "wt") as file:
            file.write('1 {"result":null,"id":1}\n' + line + "\n")
        with pytest.raises(DataError, match=says):
            list(replay_capture(tmp_path / name))


def test_reading_is_lazy_and_says_where_a_file_breaks_off(tmp_path):
    good = '1 {"lastUpdateId":1,"bids":[],"asks":[]}\n'
    (tmp_path / "torn.txt").write_text(good + "2 {")
    reader = replay_capture(tmp_path / "torn.txt")
    assert next(reader).last_id == 1
    with pytest.raises(DataError, match="line 2"):
        next(reader)
    whole = gzip.compress(
        "".join(f'{i} {{"lastUpdateId":{i * 7919 % 9973},"bids":[],"asks":[]}}\n' for i in range(20_000)).encode()
    )
    (tmp_path / "torn.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bent.gz").write_bytes(whole[:5000] + b"\0" * 64 + whole[5064:])
    for name in ("torn.gz", "bent.gz"):
        with pytest.raises(DataError, match=r"breaks off after line|no captured message"):
            list(replay_capture(tmp_path / name))
    with pytest.raises(InputError, match="no capture"):
        next(replay_capture(tmp_path / "none.gz"))
