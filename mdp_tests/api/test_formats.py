"""Which form a request gets, and that each gives back the very values that are stored."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, date, datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from mdp.api.compression import Encoding, choose_encoding, compress
from mdp.api.conditional import digest_of_rows, matches
from mdp.api.formats import Format, accepted_format
from mdp.api.problems import Problem
from mdp.api.row_bodies import as_arrow, as_csv, as_json, as_parquet
from mdp.domain.candles import TIME
from mdp.domain.interval import format_time

HARD = pl.DataFrame(
    {
        "at": [datetime(2024, 12, 30, 10, 15, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), None],
        "on": [date(2024, 2, 29), None, date(1970, 1, 1)],
        "x": [0.1 + 0.2, 5e-324, 1.7976931348623157e308],
        "y": [-0.0, None, 1e-7],
        "n": [2**53 + 1, None, -(2**63)],
        "text": ['a "quoted", text\nand \\ more', None, ""],
        "is_so": [True, None, False],
    },
    schema={
        "at": TIME, "on": pl.Date, "x": pl.Float64, "y": pl.Float64, "n": pl.Int64, "text": pl.String,
        "is_so": pl.Boolean,
    },
)  # fmt: skip


def told(rows):
    return json.loads(as_json(rows, {}))["rows"]


def test_json_gives_back_every_value():
    rows = told(HARD)
    assert [row[2:] for row in rows] == [list(row[2:]) for row in HARD.rows()]
    assert [row[0] for row in rows] == ["2024-12-30T10:15:00Z", "1969-12-31T23:59:59.000001Z", None]
    assert [row[1] for row in rows] == ["2024-02-29", None, "1970-01-01"]
    assert math.copysign(1, rows[0][3]) == -1


def test_what_is_the_same_in_all_rows_stands_before_them():
    found = json.loads(as_json(HARD.head(0), {"market": "binance:BTC-USDT"}))
    assert found == {"market": "binance:BTC-USDT", "columns": HARD.columns, "rows": []}


def test_json_knows_no_number_that_is_none():
    rows = pl.DataFrame({"x": [math.nan, math.inf, -math.inf, 1.0]})
    assert told(rows) == [[None], [None], [None], [1.0]]


@pytest.mark.slow
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@effort(max_examples=40)
def test_every_float_comes_back_in_text_as_it_was(values):
    rows = pl.DataFrame({"x": values}, schema={"x": pl.Float64})
    assert [repr(row[0]) for row in told(rows)] == [repr(value) for value in values]
    assert [repr(float(line)) for line in as_csv(rows).decode().splitlines()[1:]] == [repr(value) for value in values]


@pytest.mark.slow
@given(st.lists(st.datetimes(), min_size=1, max_size=5), st.booleans())
@effort(max_examples=40)
def test_every_time_is_spelled_as_everywhere_else(moments, are_whole):
    moments = [moment.replace(microsecond=0 if are_whole else moment.microsecond, tzinfo=UTC) for moment in moments]
    spelled = [datetime.fromisoformat(row[0]) for row in told(pl.DataFrame({"at": moments}, schema={"at": TIME}))]
    assert spelled == moments
    if are_whole:
        texts = told(pl.DataFrame({"at": moments}, schema={"at": TIME}))
        assert [row[0] for row in texts] == list(map(format_time, moments))


@pytest.mark.slow
@given(st.lists(st.text() | st.none(), min_size=1, max_size=6))
@effort(max_examples=40)
def test_every_text_comes_back(texts):
    rows = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    assert told(rows) == [[text] for text in texts]


@pytest.mark.slow
def test_binary_forms_keep_types_and_values():
    arrow = pa.ipc.open_stream(as_arrow(HARD)).read_all()
    assert arrow.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert arrow.schema.field("text").type == pa.large_string()
    assert pl.from_arrow(arrow).equals(HARD, null_equal=True)
    assert pl.read_parquet(io.BytesIO(as_parquet(HARD))).equals(HARD, null_equal=True)
    assert pq.read_table(io.BytesIO(as_parquet(HARD))).num_rows == 3


def test_csv_tells_no_text_from_an_empty_one():
    lines = as_csv(pl.DataFrame({"text": ["", None, "a,b"], "n": [1, 2, 3]})).decode().splitlines()
    assert lines == ["text,n", '"",1', ",2", '"a,b",3']


@pytest.mark.parametrize(
    ("accepted", "form"),
    [
        ("*/*", Format.JSON),
        ("text/csv", Format.CSV),
        ("text/html, */*;q=0.1", Format.JSON),
        ("application/json;q=0.5, text/csv;q=0.9", Format.CSV),
        ("application/*", Format.JSON),
        ("application/json;q=0, application/*", Format.ARROW),
        ("Application/VND.apache.parquet", Format.PARQUET),
        ("text/csv;q=zero", Format.CSV),
    ],
)
def test_the_form_that_is_liked_best_is_chosen(accepted, form):
    assert accepted_format(accepted) is form


def test_who_takes_none_of_the_forms_is_told_which_there_are():
    with pytest.raises(Problem) as refused:
        accepted_format("text/html, application/json;q=0")
    assert refused.value.status == 406
    assert "application/vnd.apache.parquet" in str(refused.value)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        (None, "identity"), ("", "identity"), ("gzip", "gzip"), ("gzip, zstd", "zstd"), ("zstd;q=0.5, gzip", "gzip"),
        ("*", "zstd"), ("zstd;q=0, *;q=0.1", "gzip"), ("br", "identity"), ("gzip;q=0", "identity"),
        ("gzip;q=0.5, identity", "identity"), ("identity;q=0", "identity"),
    ],
)  # fmt: skip
def test_the_packing_that_is_liked_best_is_chosen(accepted, encoding):
    assert choose_encoding(accepted) == encoding


@pytest.mark.parametrize("encoding", Encoding)
def test_a_packed_body_can_be_unpacked(encoding):
    body = b"candles " * 1_000
    packed = compress(body, encoding)
    whole = packed if encoding is Encoding.IDENTITY else pa.Codec(encoding.value).decompress(packed, len(body))
    assert bytes(whole) == body


@pytest.mark.parametrize(
    ("sent", "has_it"),
    [
        ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ('"b",W/"a"', True), ("*", True), (" * ", True),
        ('"b"', False), ("a", False), ("", False), (None, False), ('"a', False), ('"xa"', False), ('W/"b"', False),
    ],
)  # fmt: skip
def test_a_version_is_known_by_any_tag_that_is_sent(sent, has_it):
    assert matches(sent, '"a"') is has_it


def test_rows_that_differ_anywhere_have_another_version():
    others = [
        HARD.reverse(), HARD.head(2), HARD.rename({"x": "z"}), HARD.with_columns(pl.col("y").fill_null(0.0)),
        HARD.select(*reversed(HARD.columns)), HARD.with_columns(pl.col("text").fill_null("")),
    ]  # fmt: skip
    digests = {digest_of_rows(rows) for rows in [HARD, *others]}
    assert len(digests) == 1 + len(others)
    assert digest_of_rows(HARD.clone()) == digest_of_rows(HARD)
