"""What is inside a file is read as a whole, or refused with the place that is wrong."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from datetime import UTC, datetime

import pytest

from mdp.domain.market import Exchange, Market
from mdp.errors import PayloadError
from mdp.exchanges.archive_content import read_csv, unpack
from mdp.exchanges.binance.archive import LAYOUT, list_files, parse_checksum, parse_file
from mdp.simulator.archive_shelf import pack
from mdp_tests.support.builders import window

PATH = "data/a.zip"
LINE = b"1735689600000000,1.5,2.5,0.5,1.0,10.0,1735689659999999,77.7,7,1.0,1.0,0\n"
BTC = Market.parse("binance:BTC-USDT")


def refused(text):
    with pytest.raises(PayloadError) as caught:
        read_csv(text, LAYOUT, PATH)
    assert PATH in str(caught.value)
    return str(caught.value)


def zip_of(*members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINE + LINE.replace(b"2.5", b"abc"), "line 2, field high: expected a number, got 'abc'"),
        (LINE + LINE.replace(b"2.5", b""), "line 2, field high: expected a number, got ''"),
        (LINE + LINE.replace(b",7,", b",7.5,"), "line 2, field trades: expected a whole number, got '7.5'"),
        (LINE + b"x" + LINE, "line 2, field open_time: expected a whole number, got 'x1735689600000000'"),
        (LINE + LINE.replace(b",0\n", b"\n"), "line 2: expected 12 columns, got 11"),
        (LINE + LINE.replace(b",0\n", b",0,0\n"), "line 2: expected 12 columns, got 13"),
        (LINE[:-3] + b"\n", "line 1: expected 12 columns"),
        (b"<html>\n<body>\n", "line 1: expected 12 columns"),
        (LINE + b"\n" + LINE, "line 2: expected 12 columns, got 1"),
        (LINE.replace(b"2.5", b"nan"), "row 0, field high: expected a finite number, got nan"),
        (LINE + LINE.replace(b"77.7", b"inf"), "row 1, field quote_volume: expected a finite number, got inf"),
        (LINE.replace(b"2.5", b"abc"), "line 1, field high: expected a number, got 'abc'"),
        (b"999999999999999999999" + LINE, "line 1, field open_time: expected a whole number"),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(text, said):
    assert said in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        LINE.rstrip(),
        LINE.replace(b"\n", b"\r\n"),
        b",".join(b"abcdefghijkl"[i : i + 1] for i in range(12)) + b"\n" + LINE,
    ],
)
def test_one_line_is_one_row(text):
    assert read_csv(text, LAYOUT, PATH).rows() == [(1735689600000000, 1.5, 2.5, 0.5, 1.0, 10.0, 77.7, 7)]


@pytest.mark.parametrize("text", [b"", b"a,b,c,d,e,f,g,h,i,j,k,l\n", b"a,b,c,d,e,f,g,h,i,j,k,l"])
def test_no_line_is_no_row(text):
    assert read_csv(text, LAYOUT, PATH).shape == (0, 8)


def test_numbers_are_the_nearest_doubles():
    numbers = ["0.1", "98663.58000000", "0.00000001", "123456789.12345678", "4.35", "2.675", "9007199254740993"]
    text = b"".join(LINE.replace(b"2.5,0.5", f"{number},0.5".encode(), 1) for number in numbers)
    assert read_csv(text, LAYOUT, PATH)["high"].to_list() == [float(number) for number in numbers]


def test_milliseconds_and_microseconds_are_told_apart_in_each_row():
    text = LINE.replace(b"1735689600000000", b"1735689599999") + LINE
    rows = parse_file(text, BTC, PATH, datetime(2025, 2, 1, tzinfo=UTC))
    assert rows["open_time"].to_list() == [
        datetime(2024, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
    ]
    assert rows["closed"].all()


def test_a_hundred_million_million_is_the_first_time_in_microseconds():
    text = b"".join(LINE.replace(b"1735689600000000", moment) for moment in (b"99999999999999", b"100000000000000"))
    rows = parse_file(text, BTC, PATH, datetime(2025, 2, 1, tzinfo=UTC))
    assert [moment.year for moment in rows["open_time"]] == [5138, 1973]


@pytest.mark.parametrize("moment", [b"-5", b"17356896000000000000"[:18]])
def test_a_time_that_can_be_neither_is_refused(moment):
    with pytest.raises(PayloadError, match=r"row 1, field open_time: expected a time, got"):
        parse_file(LINE + LINE.replace(b"1735689600000000", moment), BTC, PATH, datetime(2025, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected a zip"),
        (b"<html>", "<html>"),
        (zip_of(("a.csv", LINE))[:-30], "expected a zip"),
        (zip_of(("a.csv", LINE), ("b.csv", LINE)), "expected a zip with one member, got 2 (a.csv, b.csv)"),
        (zip_of(), "got 0"),
        (zip_of(("a.csv", LINE), compression=zipfile.ZIP_BZIP2), "expected a member that is deflated"),
    ],
)
def test_what_is_not_a_zip_with_one_file_is_refused(content, said):
    with pytest.raises(PayloadError) as caught:
        unpack(content, Exchange.BINANCE, PATH)
    assert said in str(caught.value)


def test_a_flipped_bit_is_noticed():
    content = bytearray(zip_of(("a.csv", LINE * 50), compression=zipfile.ZIP_STORED))
    content[60] ^= 1
    with pytest.raises(PayloadError, match="of CRC"):
        unpack(bytes(content), Exchange.BINANCE, PATH)
    content = bytearray(zip_of(("a.csv", LINE * 50)))
    content[45] ^= 0xFF
    with pytest.raises(PayloadError, match=r"CRC|inflated"):
        unpack(bytes(content), Exchange.BINANCE, PATH)


def test_what_is_too_large_is_refused_before_it_is_inflated():
    assert unpack(zip_of(("a.csv", b"0" * 1_000)), Exchange.BINANCE, PATH, most_bytes=1_000) == b"0" * 1_000
    with pytest.raises(PayloadError, match="expected at most 1000 bytes inside, got 1001"):
        unpack(zip_of(("a.csv", b"0" * 1_001)), Exchange.BINANCE, PATH, most_bytes=1_000)


def test_what_is_larger_than_it_says_is_inflated_no_further():
    content = zip_of(("a.csv", b"0" * 5_000_000))
    lying = content.replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little"))
    assert lying != content
    tracemalloc.start()
    with pytest.raises(PayloadError, match="expected 500 bytes"):
        unpack(lying, Exchange.BINANCE, PATH)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_deterministic_zip_of_the_simulator_is_read_back():
    assert unpack(pack("a.csv", LINE), Exchange.BINANCE, PATH) == LINE
    assert pack("a.csv", LINE) == pack("a.csv", LINE)


@pytest.mark.parametrize("text", [b"", b"0" * 63 + b"  a.zip", b"0" * 64 + b"  b.zip", b"<html>", b"0" * 64])
def test_a_checksum_that_is_none_or_of_another_file_is_refused(text):
    with pytest.raises(PayloadError, match=r"expected a SHA-256 of a\.zip"):
        parse_checksum(text, PATH)


@pytest.mark.parametrize("text", [b"AB" * 32 + b"  a.zip\n", b"ab" * 32 + b" *a.zip", b"ab" * 32 + b"\ta.zip\r\n"])
def test_a_checksum_is_read_in_every_form_sha256sum_writes(text):
    assert parse_checksum(text, PATH) == "ab" * 32


def test_a_month_is_asked_as_one_from_its_first_monday_on_and_by_its_days_before():
    month = window("2025-01-01", "2025-02-01")
    monday = datetime(2025, 2, 3, tzinfo=UTC)
    assert [file.path[-11:-4] for file in list_files(BTC, month, monday)] == ["2025-01"]
    assert len(list_files(BTC, month, datetime(2025, 2, 2, 23, 59, tzinfo=UTC))) == 31
    # a month that ends on a Sunday is there the day after
    assert len(list_files(BTC, window("2025-08-01", "2025-09-01"), datetime(2025, 9, 1, tzinfo=UTC))) == 1


def test_parts_of_months_are_asked_by_their_days():
    files = list_files(BTC, window("2024-12-30", "2025-02-02"), datetime(2025, 3, 9, tzinfo=UTC))
    assert [file.path.rpartition("1m-")[2] for file in files] == [
        "2024-12-30.zip",
        "2024-12-31.zip",
        "2025-01.zip",
        "2025-02-01.zip",
    ]
    assert all(file.wanted == file.window for file in files)
    assert files[2].checksum_path == "data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2025-01.zip.CHECKSUM"


def test_a_day_that_is_not_over_is_not_asked():
    days = window("2025-01-01", "2025-01-03")
    assert len(list_files(BTC, days, datetime(2025, 1, 2, 23, 59, 59, tzinfo=UTC))) == 1
    assert len(list_files(BTC, days, datetime(2025, 1, 3, tzinfo=UTC))) == 2
