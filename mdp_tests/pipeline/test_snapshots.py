"""Snapshots: what is in them, what they say of themselves, and that they notice when it is not so."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import msgspec
import polars as pl
import pytest

from mdp.domain.candles import CANDLE_SCHEMA, DVOL_SCHEMA, GAP_SCHEMA
from mdp.domain.digests import digest
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.errors import InputError, OutdatedStore, SnapshotExists, SnapshotMissing, StoreCorrupt
from mdp.pipeline.arrow_digest import arrow_sha256
from mdp.pipeline.manifests import decode, encode, identity
from mdp.pipeline.snapshots import (
    create_snapshot,
    delete_snapshot,
    manifest_of,
    manifests,
    read_snapshot,
    verify,
    verify_snapshot,
)
from mdp.ports import DVOL, FETCHES, GAPS, OHLCV, Slice
from mdp.storage.memory import MemoryStore
from mdp_tests.support.builders import DVOL as INDEX
from mdp_tests.support.builders import MARKET, NOW, at, candle, candles, every_minute, frame, window

DAY = window("2024-12-30", "2024-12-31")
M1, H1 = Timeframe.M1, Timeframe.H1
OTHER = Market.parse("okx:SOL-USDT")
KEY = {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m"}


def gap(start, end, cause="exchange_outage"):
    row = dict.fromkeys(GAP_SCHEMA) | KEY | {"start": at(start), "end": at(end), "cause": cause, "source": "rest"}
    return row | {"slots": (at(end) - at(start)) // timedelta(minutes=1), "seen_at": NOW}


def index_minute(moment):
    who = {"exchange": "deribit", "symbol": "BTC-DVOL", "timeframe": "1m"}
    return dict.fromkeys(DVOL_SCHEMA) | who | {"open_time": at(moment), "dvol": 50.0, "source": "rest"}


@cache
def stored_candles():
    minutes = every_minute("2024-12-30T00:00", "2024-12-30T05:00", source="archive")
    minutes += every_minute("2024-12-30T06:00", "2024-12-31T00:00")
    return candles(*minutes, candle("2024-12-30T07:00", timeframe="1h", source="resampled"))


@pytest.fixture
def store():
    """A day of minutes less an hour, of which 49 minutes are explained; an hour; one minute of the index."""
    made = MemoryStore()
    made.replace(OHLCV, Slice(MARKET, (M1, H1), DAY), stored_candles())
    made.replace(GAPS, Slice(MARKET, (M1,), DAY), frame([gap("2024-12-30T05:10", "2024-12-30T05:59")], GAP_SCHEMA))
    made.replace(DVOL, Slice(INDEX, (M1,), DAY), frame([index_minute("2024-12-30T03:00")], DVOL_SCHEMA))
    return made


def create(store, name="one", markets=(MARKET,), timeframes=(H1, M1), within=DAY, **more):
    return create_snapshot(store, name, markets, timeframes, within, lambda: NOW, **more)


def test_a_snapshot_holds_candles_and_gaps_and_says_what_they_are(store):
    made = create(store, note="for the paper")
    assert manifests(store) == {"one": made}
    assert manifest_of(store, "one") == made
    assert [(part.table, part.timeframe) for part in made.parts] == [("gaps", M1), ("ohlcv", M1), ("ohlcv", H1)]
    gaps, minutes, hours = made.parts
    assert (made.name, made.note, made.created_at, made.window) == ("one", "for the paper", NOW, DAY)
    assert set(made.versions) == {"gaps", "ohlcv"}
    assert (minutes.rows, minutes.expected) == (1380, 1440)
    assert (minutes.first, minutes.last) == (at("2024-12-30T00:00"), at("2024-12-30T23:59"))
    assert minutes.sources == {"archive": 300, "rest": 1080}
    assert minutes.missing == {"exchange_outage": 49, "unfetched": 11}
    assert (hours.rows, hours.expected, hours.sources, hours.missing) == (1, 24, {"resampled": 1}, {})
    assert (gaps.rows, gaps.expected, gaps.first) == (1, None, at("2024-12-30T05:10"))
    rows = read_snapshot(store, "one", OHLCV, Slice(MARKET, (M1,), DAY))
    assert rows.equals(store.read(OHLCV, Slice(MARKET, (M1,), DAY)))
    assert (minutes.digest, minutes.sha256) == (digest(rows), arrow_sha256(rows))


def test_an_index_is_held_at_a_minute_whatever_timeframes_are_asked(store):
    made = create(store, markets=[INDEX], timeframes=[H1])
    assert [(str(part), part.rows) for part in made.parts] == [
        ("gaps deribit:BTC-DVOL 1m", 0), ("dvol deribit:BTC-DVOL 1m", 1),
    ]  # fmt: skip


def test_what_is_stored_later_is_not_in_it_and_it_still_verifies(store):
    made = create(store)
    asked = Slice(MARKET, (M1,), DAY)
    before = read_snapshot(store, "one", OHLCV, asked)
    store.replace(OHLCV, asked, candles(candle("2024-12-30T00:00", close=1.0)))
    store.replace(GAPS, asked, frame([], GAP_SCHEMA))
    assert arrow_sha256(read_snapshot(store, "one", OHLCV, asked)) == arrow_sha256(before)
    seen = []
    assert verify_snapshot(store, "one", advance=lambda *of: seen.append(of)).differences == ()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    again = create(store, "two")
    assert again.id != made.id


def test_the_same_rows_have_the_same_identity_under_any_name(store):
    one, two = create(store, "one"), create(store, "two", note="the same")
    assert one.id == two.id == identity(DAY, one.parts)
    assert create(store, "three", timeframes=[M1]).id != one.id
    assert create(store, "four", within=window("2024-12-30", "2024-12-30T23:00")).id != one.id


def test_only_the_window_is_held_and_the_gaps_of_its_whole_days(store):
    within = window("2024-12-30T05:30:30", "2024-12-30T06:30:30")
    made = create(store, timeframes=[M1], within=within)
    gaps, minutes = made.parts
    assert gaps.rows == 1, "a gap that begins before the window reaches into it"
    assert (minutes.rows, minutes.expected, minutes.missing) == (31, 60, {"exchange_outage": 28, "unfetched": 1})
    assert len(read_snapshot(store, "one", GAPS, Slice(MARKET, (M1,), DAY))) == 1


NOT_HELD = [
    (FETCHES, Slice(MARKET, (M1,), DAY), "table", "gaps, ohlcv"),
    (DVOL, Slice(INDEX, (M1,), DAY), "table", "gaps, ohlcv"),
    (OHLCV, Slice(OTHER, (M1,), DAY), "market", "binance:BTC-USDT"),
    (OHLCV, Slice(MARKET, (M1, Timeframe.D1), DAY), "timeframe", "1m, 1h"),
    (OHLCV, Slice(MARKET, (M1,), window("2024-12-29T23:59", "2024-12-31")), "start", "2024-12-30T00:00:00Z"),
    (OHLCV, Slice(MARKET, (M1,), window("2024-12-30", "2024-12-31T00:01")), "end", "2024-12-31T00:00:00Z"),
    (OHLCV, Slice(MARKET, (M1,), window("2025-01-30", "2025-01-31")), "start", "2024-12-30T00:00:00Z"),
    (GAPS, Slice(MARKET, (M1,), window("2024-12-30", "2025-01-01")), "end", "2024-12-31T00:00:00Z"),
]


def test_what_a_snapshot_does_not_hold_is_an_error_and_not_absent(store):
    create(store)
    for table, part, field, named in NOT_HELD:
        with pytest.raises(InputError) as raised:
            read_snapshot(store, "one", table, part)
        assert raised.value.field == field
        assert named in str(raised.value)
        assert not raised.value.retryable


def test_a_snapshot_that_is_not_there_is_named_and_those_that_are(store):
    create(store)
    for ask in (
        lambda: read_snapshot(store, "two", OHLCV, Slice(MARKET, (M1,), DAY)),
        lambda: verify_snapshot(store, "two"),
    ):
        with pytest.raises(SnapshotMissing, match="'two': expected one of: one"):
            ask()


def test_a_wrong_argument_is_named_and_nothing_is_made(store):
    for wrong, field in (
        ({"markets": []}, "markets"),
        ({"timeframes": []}, "timeframes"),
        ({"within": window("2024-12-30", "2024-12-30")}, "start"),
        ({"within": window("2024-12-30", "2026-01-02T03:04:06")}, "end"),
        ({"within": window("2024-11-30", "2024-12-01")}, "window"),
    ):
        with pytest.raises(InputError) as raised:
            create(store, **wrong)
        assert raised.value.field == field
        assert manifests(store) == {}


def test_an_empty_snapshot_is_made_only_on_demand_and_says_that_nothing_was_fetched(store):
    made = create(store, timeframes=[M1], within=window("2024-11-30", "2024-12-01"), allows_empty=True)
    assert made.rows == 0
    assert made.parts[1].missing == {"unfetched": 1440}
    assert verify_snapshot(store, "one").differences == ()


def test_a_name_is_given_once_until_it_is_given_up(store):
    made = create(store)
    with pytest.raises(SnapshotExists):
        create(store)
    assert delete_snapshot(store, "one") == made
    with pytest.raises(SnapshotMissing):
        delete_snapshot(store, "one")
    assert create(store).id == made.id


def test_every_part_that_is_not_as_the_manifest_says_is_named(store):
    made = create(store)
    store.replace(OHLCV, Slice(MARKET, (M1,), window("2024-12-30", "2024-12-30T00:01")), candles())
    found = verify(made, store.read).differences
    assert {(one.where, one.what) for one in found} == {
        ("ohlcv binance:BTC-USDT 1m", what) for what in ("rows", "first", "digest", "sha256", "sources", "missing")
    }
    rows = next(one for one in found if one.what == "rows")
    assert (rows.expected, rows.found) == ("1380", "1379")


def test_a_part_that_cannot_be_read_is_a_difference_and_the_others_are_read(store):
    made = create(store)

    def read(table, part):
        if table is OHLCV and part.timeframes == (M1,):
            raise StoreCorrupt("lake/a.parquet: damaged")
        return store.read(table, part)

    (one,) = verify(made, read).differences
    assert one.where == "ohlcv binance:BTC-USDT 1m"
    assert "a.parquet" in one.found


def test_a_column_that_tables_gained_since_is_no_difference_and_one_unknown_is_refused(store):
    made = create(store)

    def younger(table, part):
        rows = store.read(table, part)
        return rows.with_columns(news=None) if table is OHLCV else rows

    assert verify(made, younger).differences == ()
    later = msgspec.structs.replace(made, columns={**made.columns, "ohlcv": (*made.columns["ohlcv"], "news")})
    with pytest.raises(OutdatedStore, match="ohlcv has columns unknown here: news"):
        verify(later, younger)


def test_a_changed_manifest_is_a_difference(store):
    made = create(store)
    part = msgspec.structs.replace(made.parts[1], rows=7)
    forged = msgspec.structs.replace(made, parts=(made.parts[0], part, made.parts[2]))
    assert {(one.where, one.what) for one in verify(forged, store.read).differences} == {
        ("manifest", "id"), ("ohlcv binance:BTC-USDT 1m", "rows"),
    }  # fmt: skip


def test_bytes_are_compared_only_with_the_polars_that_wrote_them_and_digests_always(store):
    made = create(store)
    older = msgspec.structs.replace(made, polars_version="1.0.0")
    other = [msgspec.structs.replace(part, sha256="0" * 64) for part in made.parts]
    older = msgspec.structs.replace(older, parts=tuple(other), id=identity(DAY, other))
    assert verify(made, store.read).compares_bytes
    assert verify(older, store.read).differences == ()
    assert not verify(older, store.read).compares_bytes


def test_a_manifest_survives_being_written_and_one_of_a_later_format_is_refused(store):
    made = create(store)
    assert decode(encode(made), "it") == made
    with pytest.raises(OutdatedStore, match="format 2"):
        decode(encode(msgspec.structs.replace(made, format=2)), "it")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b'{"format": "one"}', b'{"format": 1, "name": 3}']
)
def test_a_manifest_that_is_none_is_refused_by_name(body):
    with pytest.raises(StoreCorrupt, match="it: no manifest of ours"):
        decode(body, "it")


def test_a_manifest_with_a_wrong_value_is_refused(store):
    body = encode(create(store))
    for field, value in (
        ("start", "2024-12-30T00:00:00+01:00"), ("start", "2025-12-30T00:00:00Z"), ("market", "kraken:BTC-USD"),
        ("market", "binance:BTC/USDT"), ("table", "fetches"), ("timeframe", "2m"),
    ):  # fmt: skip
        said = msgspec.json.decode(body)
        (said if field == "start" else said["parts"][0])[field] = value
        with pytest.raises(StoreCorrupt, match=field):
            decode(msgspec.json.encode(said), "it")


def test_what_memory_holds_below_a_null_does_not_change_the_bytes():
    mask = pl.Series([True, False, True])
    values = pl.DataFrame({"a": [1.0, 7.0, 3.0], "s": ["x", "garbage", "z"], "n": [1, 2, 3]})
    dirty = values.select(pl.when(mask).then(pl.all()).otherwise(None))
    clean = pl.DataFrame({"a": [1.0, None, 3.0], "s": ["x", None, "z"], "n": [1, None, 3]})
    cut = pl.concat([clean, clean]).slice(3, 3)
    whole = values.drop("s")
    in_pieces = pl.concat([whole.head(1), whole.tail(2)], rechunk=False)
    assert in_pieces.n_chunks() == 2
    assert arrow_sha256(in_pieces) == arrow_sha256(whole)
    assert arrow_sha256(dirty) == arrow_sha256(clean) == arrow_sha256(cut)
    assert arrow_sha256(clean.with_columns(pl.col("n").fill_null(0))) != arrow_sha256(clean)
    assert arrow_sha256(clean.rename({"a": "b"})) != arrow_sha256(clean)
    assert arrow_sha256(CANDLE_SCHEMA.to_frame()) != arrow_sha256(GAP_SCHEMA.to_frame())
