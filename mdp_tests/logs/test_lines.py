"""A line says what it is about, cannot be forged, shows no secret, and is written whole."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import sys
import threading
from datetime import datetime

import pytest
import structlog

from mdp.logs import bound
from mdp.logs.lines import LONGEST_BYTES
from mdp.logs.secrets import hiding
from mdp.logs.writing import WholeLines

log = logging.getLogger("mdp.of_a_test")
EVIL = ['a\n{"level": "error"}', "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b", "a\x00b", "a\u202eb", "\ud800"]
KEY = "mdp_0123456789ab_" + "s" * 43


def test_a_line_says_when_how_grave_what_who_and_what_it_is_about(log_to):
    said = log_to(about={"feed": "binance"})
    with bound(market="binance:BTC-USDT", run_id="r1"):
        log.warning("late by %d s", 7)
    (line,) = said.lines
    at = line.pop("timestamp")
    assert at.endswith("Z")
    assert abs(datetime.fromisoformat(at).timestamp() - datetime.now().astimezone().timestamp()) < 600
    assert line == {
        "level": "warning", "event": "late by 7 s", "logger": "mdp.of_a_test", "feed": "binance",
        "market": "binance:BTC-USDT", "run_id": "r1",
    }  # fmt: skip


def test_text_says_the_same_for_people(log_to):
    said = log_to("text")
    with bound(market="okx:ETH-USDT"):
        log.info("begins")
    when, rest = said.text.split(" ", 1)
    assert datetime.fromisoformat(when).utcoffset().total_seconds() == 0
    assert rest == "INFO    mdp.of_a_test: begins market=okx:ETH-USDT\n"


def test_what_is_bound_ends_with_its_block_and_what_was_bound_before_is_back(log_to):
    said = log_to()
    with bound(market="a", run_id="r"):
        with bound(market="b"):
            log.info("inner")
        log.info("outer")
    log.info("after")
    assert [(one.get("market"), one.get("run_id")) for one in said.lines] == [("b", "r"), ("a", "r"), (None, None)]


def test_tasks_side_by_side_do_not_take_each_others_market(log_to):
    said = log_to()

    async def one(market):
        with bound(market=market):
            await asyncio.sleep(0)
            log.info(market)

    async def all_of_them():
        await asyncio.gather(*(one(f"m{number}") for number in range(20)))

    asyncio.run(all_of_them())
    assert all(line["market"] == line["event"] for line in said.lines)
    assert len(said.lines) == 20


def keep_from_pytest():
    """Its report, which holds what was logged, cannot be sent to another process with half a character in it."""
    root = logging.getLogger()
    for one in [one for one in root.handlers if type(one).__module__.startswith("_pytest")]:
        root.removeHandler(one)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_no_value_ends_a_line_or_is_unseen(log_to, form, evil):
    said = log_to(form)
    keep_from_pytest()
    with bound(market=evil):
        log.info("%s", evil)
        structlog.get_logger("structured").info("x", value=evil, other=[evil])
    written = said.path.read_bytes()
    assert written.count(b"\n") == 2
    assert written.replace(b"\n", b"").decode("ascii").isprintable()


def test_the_lines_of_a_stack_cannot_be_taken_for_lines_of_the_log(log_to):
    said = log_to("text")
    try:
        raise ValueError("bad\n2026-01-01T00:00:00.000000Z INFO    mdp: forged")
    except ValueError:
        log.exception("failed")
    first, *stack = said.text.splitlines()
    assert "ERROR" in first
    assert len(stack) > 3
    assert all(line.startswith("    ") for line in stack)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_is_shown_nowhere_also_not_in_an_exception(log_to, form):
    hook = "https://hooks.example.org/services/T00/B00/letters"
    said = log_to(form, bus={"url": "redis://me:p%40ssw0rd-x@bus:6379/0"}, alerts={"webhook_url": hook})
    texts = ["redis://me:p%40ssw0rd-x@bus:6379/0", "AUTH p@ssw0rd-x failed", f"POST {hook} 500", KEY, "a?password=p@ss",
             "Authorization: Bearer abcdefghijk", "postgresql+psycopg2://u:other-one@db/dagster"]  # fmt: skip
    for text in texts:
        log.info("%s", text)
        structlog.get_logger("structured").info("x", given={"deep": [text]})
    try:
        raise ValueError(" ".join(texts))
    except ValueError:
        log.exception("failed")
    for secret in ("ssw0rd", "letters", "sssss", "p@ss", "abcdefghijk", "other-one"):
        assert secret not in said.text
    assert "bus:6379" in said.text


@pytest.mark.parametrize(
    "text",
    [
        "MDP_EXCHANGES__BINANCE__API_KEY=hush-hush", "POSTGRES_PASSWORD=hush-hush", "PGPASSWORD=hush-hush",
        '{"access_token": "hush-hush"}', "client_secret: hush-hush", "secret_key=hush-hush", "secretKey='hush-hush'",
        "aws_secret_access_key=hush-hush", '"private_key": "hush-hush"', "X-MBX-APIKEY: hush-hush",
        "accessToken=hush-hush",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_the_end_of_its_name(text):
    assert "hush" not in hiding()(text)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_field_that_is_named_as_a_secret_is_not_shown(log_to, form):
    said = log_to(form)
    with bound(bus_password="hush-hush", api_key="hush-hush", key="shown"):
        log.info("x")
    structlog.get_logger("structured").info("x", token="hush-hush", tokens=3)
    assert "hush" not in said.text
    assert "shown" in said.text
    assert "3" in said.text.split("\n")[1]


def test_a_number_that_json_does_not_have_is_no_broken_line(log_to):
    said = log_to()
    structlog.get_logger("structured").info("x", lag=float("nan"), left=float("inf"), fine=0.5)

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(said.text, parse_constant=refuse)
    assert (found["lag"], found["left"], found["fine"]) == ("nan", "inf", 0.5)


def test_what_is_no_secret_stays():
    for text in (
        "a https://api.binance.com/api/v3/klines?symbol=BTCUSDT b",
        "me@example.org",
        "mdp_bus_up 0",
        "3 tokens",
        "tokens=3, secretary: Ann, key=market, next_token_at 12:00",
    ):
        assert hiding()(text) == text


def test_other_libraries_lines_take_the_same_way_once(log_to):
    said = log_to()
    console = logging.getLogger("dagster")
    console.addHandler(logging.StreamHandler())
    log_to()
    made = logging.getLoggerClass()("dagster", level="DEBUG")  # as Dagster makes the console of a run
    made.addHandler(logging.StreamHandler())
    for logger in (console, made, logging.getLogger("uvicorn"), logging.getLogger("new.library")):
        logger.warning("hello")
    assert [line["event"] for line in said.lines] == ["hello"] * 4


def test_a_line_of_dagster_says_its_run_and_step(log_to):
    said = log_to()
    meta = {"run_id": "r-1", "job_name": "daily", "step_key": "ohlcv", "orig_message": "stored"}
    logging.getLogger("dagster").info("daily - r-1 - ohlcv - stored", extra={"dagster_meta": meta})
    assert {"run_id": "r-1", "job": "daily", "step": "ohlcv", "event": "stored"}.items() <= said.lines[0].items()


def test_less_than_the_level_of_the_settings_is_not_said_and_requests_of_libraries_never(log_to):
    said = log_to(level="warning")
    log.info("quiet")
    log.warning("heard")
    made = logging.getLoggerClass()("dagster", level="DEBUG")
    made.addHandler(logging.StreamHandler())
    made.info("quiet")
    log_to(level="info")
    logging.getLogger("httpx").info("GET")
    assert [line["event"] for line in said.lines] == ["heard"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_line_fits_into_what_a_pipe_takes_in_one_piece(log_to, form):
    said = log_to(form)
    try:
        raise ValueError("ü" * 20_000)
    except ValueError:
        with bound(**{f"n{number}": "\u2028" * 400 for number in range(10)}):
            log.exception("\x00" * 9_000)
    log.info("after")
    lines = said.path.read_bytes().split(b"\n")
    assert max(map(len, lines)) < LONGEST_BYTES
    if form == "json":
        assert said.lines[0]["shortened"] is True
        assert "ValueError" in said.lines[0]["exception"]


def _write_many(target, name):
    writing = WholeLines(target)
    for number in range(300):
        writing.write(json.dumps({"who": name, "number": number, "rest": name * 500}).encode() + b"\n")


def test_several_writers_do_not_tear_each_others_lines():
    reading, target = os.pipe()
    text = bytearray()
    reader = threading.Thread(
        target=lambda: [text.extend(part) for part in iter(lambda: os.read(reading, 65_536), b"")]
    )
    reader.start()
    forked = multiprocessing.get_context("fork")
    writers = [forked.Process(target=_write_many, args=(target, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    os.close(target)
    reader.join(10)
    os.close(reading)
    lines = [json.loads(line) for line in text.splitlines()]
    assert sorted((one["who"], one["number"]) for one in lines) == [(who, n) for who in "ab" for n in range(300)]


@pytest.mark.parametrize("where", ["none", "closed"])
def test_a_process_without_stderr_goes_on(monkeypatch, tmp_path, where):
    closed = (tmp_path / "gone").open("w")
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if where == "none" else closed)
    WholeLines().write(b"x\n")


def test_a_log_that_nobody_reads_stops_nobody():
    reading, target = os.pipe()
    os.close(reading)
    WholeLines(target).write(b"x\n")
    os.close(target)
