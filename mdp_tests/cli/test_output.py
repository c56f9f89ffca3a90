"""Rows come out as they are in every format, whatever is in them; what a format cannot hold is one clear line."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest

from mdp.cli.app import main
from mdp.cli.output import write_rows
from mdp.cli.values import as_json, as_text
from mdp.errors import InputError
from mdp.storage.sql import to_polars

FORMATS = ["table", "csv", "json", "parquet", "arrow"]


def ask(sql):
    """What ``mdp sql`` gets from DuckDB."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return to_polars(connection.sql(sql))


def written(rows, format_, tmp_path):
    write_rows(rows, format_, tmp_path / "out")
    return (tmp_path / "out").read_bytes()


VALUES = [
    # what DuckDB is asked, as text, as JSON
    ("'[red]x[/red]'", "[red]x[/red]", "[red]x[/red]"),
    ("'[/x]'", "[/x]", "[/x]"),
    ("':smile:'", ":smile:", ":smile:"),
    ("true", "true", True),
    ("42", "42", 42),
    ("18446744073709551615::UBIGINT", "18446744073709551615", 18446744073709551615),
    ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727",
     170141183460469231731687303715884105727),
    ("1.500::DECIMAL(18, 3)", "1.500", 1.5),
    ("0.1::DOUBLE", "0.1", 0.1),
    ("'a'::ENUM('a', 'b')", "a", "a"),
    ("'0b6c0a2e-6a1f-4c0e-8b57-3a1b1b2f4a10'::UUID",) + ("0b6c0a2e-6a1f-4c0e-8b57-3a1b1b2f4a10",) * 2,
    ("TIMESTAMPTZ '2024-12-30 01:00:00+01'",) + ("2024-12-30T00:00:00Z",) * 2,
    ("TIMESTAMPTZ '2024-12-30 00:00:00.25+00'",) + ("2024-12-30T00:00:00.250Z",) * 2,
    ("TIMESTAMP '2024-12-30 00:00:00'",) + ("2024-12-30T00:00:00",) * 2,
    ("TIMESTAMP '2024-12-30 00:00:00.000001'",) + ("2024-12-30T00:00:00.000001",) * 2,
    ("TIMESTAMP_NS '2024-12-30 00:00:00.123456789'",) + ("2024-12-30T00:00:00.123456789",) * 2,
    ("TIMESTAMP_S '2024-12-30 00:00:00'",) + ("2024-12-30T00:00:00",) * 2,
    ("DATE '2024-12-30'",) + ("2024-12-30",) * 2,
    ("DATE '0001-01-01'",) + ("0001-01-01",) * 2,
    ("DATE '9999-12-31'",) + ("9999-12-31",) * 2,
    ("TIMESTAMP '9999-12-31 23:59:59'",) + ("9999-12-31T23:59:59",) * 2,
    ("TIME '01:02:03'",) + ("01:02:03",) * 2,
    ("'ab\\x00\\xFF'::BLOB",) + ("616200ff",) * 2,
    ("[1, NULL]", "[1,null]", [1, None]),
    ("['x', 'y z']", '["x","y z"]', ["x", "y z"]),
    ("[]::INTEGER[]", "[]", []),
    ("array_value(1, 2)::INTEGER[2]", "[1,2]", [1, 2]),
    ("{'a': 1, 'b': [TIMESTAMP '2024-12-30 00:00:00']}", '{"a":1,"b":["2024-12-30T00:00:00"]}',
     {"a": 1, "b": ["2024-12-30T00:00:00"]}),
    ("[TIMESTAMPTZ '2024-12-30 00:00:00+00']", '["2024-12-30T00:00:00Z"]', ["2024-12-30T00:00:00Z"]),
    ("[TIMESTAMP_NS '2024-12-30 00:00:00.123456789']", '["2024-12-30T00:00:00.123456789"]',
     ["2024-12-30T00:00:00.123456789"]),
    ("[[DATE '2024-12-30']]", '[["2024-12-30"]]', [["2024-12-30"]]),
    ("['\\xFF'::BLOB]", '["ff"]', ["ff"]),
    ("['nan'::DOUBLE, 1.5]", "[null,1.5]", [None, 1.5]),
    ("MAP {'k': 1.5}", '{"k":1.5}', {"k": 1.5}),
    ("MAP {DATE '2024-12-30': 1}", '{"2024-12-30":1}', {"2024-12-30": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text", "as_json_value"), VALUES)
def test_every_value_is_the_same_in_all_formats_of_text(tmp_path, value, text, as_json_value):
    rows = ask(f"SELECT {value} AS a")
    assert written(rows, "table", tmp_path).decode().splitlines()[1].rstrip() == text
    assert pl.read_csv(io.BytesIO(written(rows, "csv", tmp_path)), infer_schema=False).rows() == [(text,)]
    assert json.loads(written(rows, "json", tmp_path)) == [{"a": as_json_value}]
    assert pl.read_parquet(io.BytesIO(written(rows, "parquet", tmp_path))).height == 1
    assert pl.read_ipc(io.BytesIO(written(rows, "arrow", tmp_path))).equals(rows)


@pytest.mark.parametrize(("value", "as_csv"), [("'nan'", "NaN"), ("'inf'", "inf"), ("'-inf'", "-inf")])
def test_a_float_that_is_no_number_is_null_in_json_and_named_in_csv(tmp_path, value, as_csv):
    rows = ask(f"SELECT {value}::DOUBLE AS a, {value}::FLOAT AS b")
    assert written(rows, "csv", tmp_path).decode().splitlines()[1] == f"{as_csv},{as_csv}"
    assert json.loads(written(rows, "json", tmp_path), parse_constant=pytest.fail) == [{"a": None, "b": None}]


@pytest.mark.parametrize(
    "type_", ["INTEGER", "VARCHAR", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "DECIMAL(9, 2)", "BLOB", "INTEGER[]", "BOOLEAN",
              "STRUCT(a INTEGER)", "MAP(VARCHAR, INTEGER)", "TIME"]
)  # fmt: skip
def test_what_is_absent_is_empty_text_and_null(tmp_path, type_):
    rows = ask(f"SELECT 1 AS n, NULL::{type_} AS a")
    assert written(rows, "csv", tmp_path) == b"n,a\n1,\n"
    assert written(rows, "table", tmp_path).split() == [b"n", b"a", b"1"]
    assert json.loads(written(rows, "json", tmp_path)) == [{"n": 1, "a": None}]


def test_no_rows_are_a_header_and_an_empty_array(tmp_path):
    rows = ask("SELECT 1 AS n, [1] AS l, TIMESTAMP '2024-12-30' AS t WHERE false")
    assert written(rows, "csv", tmp_path) == b"n,l,t\n"
    assert written(rows, "json", tmp_path) == b"[]\n"


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
@pytest.mark.parametrize(
    "value", ["TIMESTAMP 'infinity'", "TIMESTAMPTZ '-infinity'", "DATE 'infinity'", "DATE '10000-01-01'",
              "[DATE 'infinity']", "[TIMESTAMP 'infinity']", "MAP {[1]: 2}", "12::VARINT"]
)  # fmt: skip
def test_what_text_cannot_hold_is_an_error_that_names_the_column(tmp_path, format_, value):
    rows = ask(f"SELECT 1 AS n, {value} AS odd")
    with pytest.raises(InputError, match="column odd: expected what text can hold; cast it") as error:
        write_rows(rows, format_, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_duration_is_iso_8601():
    rows = pl.DataFrame({"a": [timedelta(days=1, seconds=1)]})
    assert as_text(rows).rows() == [("P1DT1S",)]
    assert as_json(rows) == b'[{"a":"P1DT1S"}]'


def test_an_instant_of_another_zone_is_written_in_utc():
    rows = pl.DataFrame({"a": [datetime(2024, 12, 30, tzinfo=UTC)]})
    assert as_text(rows.with_columns(pl.col("a").dt.convert_time_zone("Asia/Tokyo"))).rows() == [
        ("2024-12-30T00:00:00Z",)
    ]


def test_names_of_columns_are_no_markup_either(tmp_path):
    rows = pl.DataFrame({"[red]a[/red]": [1], "[/x]": [2]})
    assert written(rows, "table", tmp_path).split() == [b"[red]a[/red]", b"[/x]", b"1", b"2"]


def test_a_control_character_does_not_reach_the_terminal(tmp_path):
    text = written(pl.DataFrame({"a": ["\x1b[31mred\x07", "line\nline"]}), "table", tmp_path)
    assert b"\x1b" not in text
    assert b"\x07" not in text
    assert text.split() == [rb"a", rb"\x1b[31mred\x07", b"line", b"line"]


def test_a_long_value_is_not_cut(tmp_path):
    assert ("x" * 5_000).encode() in written(pl.DataFrame({"a": ["x" * 5_000]}), "table", tmp_path)


def test_a_long_table_shows_its_ends(tmp_path):
    lines = written(pl.DataFrame({"a": range(1_000)}), "table", tmp_path).decode().split()
    assert lines == ["a", *map(str, range(30)), "…", *map(str, range(970, 1_000))]


@pytest.mark.parametrize(("width", "no_color"), [("60", ""), ("200", "1")])
def test_a_table_in_a_pipe_is_plain_text_of_one_line_a_row(monkeypatch, tmp_path, capfd, width, no_color):
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("MDP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["mdp", "sql", f"SELECT '{'x' * 50}' AS a, '{'y' * 50}' AS b"])
    with pytest.raises(SystemExit) as exited:
        main()
    out, err = capfd.readouterr()
    assert (exited.value.code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [["a", "b"], ["x" * 50, "y" * 50], ["1", "row"]]
    assert "\x1b" not in out
