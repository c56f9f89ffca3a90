"""What is booked for an answer, and that what came is what counts, however it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from aiohttp import web

from mdp.counts import COUNTS
from mdp.domain.market import Exchange
from mdp.errors import ExchangeUnavailable, PayloadError, RequestRejected
from mdp.exchanges import archive_downloads
from mdp.exchanges.archive_downloads import Downloads
from mdp.exchanges.receiving import Receiving, size_of
from mdp.exchanges.verdicts import Answer

WINDOW = 1_000


class Ledger:
    """A bandwidth that keeps nobody waiting and writes down what is booked."""

    window = WINDOW

    def __init__(self):
        self.booked, self.most, self.reservations = 0, 0, []

    async def reserve(self, size):
        assert size > 0
        self.reservations.append(size)
        self.charge(size)
        return 0.5

    def charge(self, size):
        self.booked += size
        self.most = max(self.most, self.booked)


def receive(ledger, parts, *, size=None, ahead=None, error=None):
    """Receive an answer in parts; return what was booked before each part came, and before the end."""

    async def one():
        received = 0
        async with Receiving(ledger, ahead) as receiving:
            receiving.expect(size)
            for part in parts:
                received += part
                assert received <= ledger.booked, "nothing comes that was not booked before"
                await receiving.took(part)
            if error:
                raise error
        return receiving

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("parts", "size"),
    [([], None), ([], 0), ([300], 300), ([1_000], 1_000), ([700] * 10, 7_000), ([700] * 10, None), ([999, 1], None)],
)
def test_what_is_booked_in_the_end_is_what_came(parts, size):
    ledger = Ledger()
    receive(ledger, parts, size=size)
    assert ledger.booked == sum(parts)


def test_of_an_answer_that_says_its_size_no_more_than_that_is_booked():
    ledger = Ledger()
    receive(ledger, [700] * 10, size=7_000)
    assert ledger.most == 7_000


def test_what_is_booked_ahead_is_the_window():
    ledger = Ledger()
    receive(ledger, [100, 100, 100])
    assert ledger.reservations == [WINDOW, 100, 100, 100]


@pytest.mark.parametrize("parts", [[], [400, 400]])
def test_an_answer_that_breaks_off_counts_with_what_came(parts):
    ledger = Ledger()
    with pytest.raises(ExchangeUnavailable):
        receive(ledger, parts, size=9_000, error=ExchangeUnavailable("okx", "gone"))
    assert ledger.booked == sum(parts)


def test_an_answer_larger_than_expected_counts_in_full():
    async def one(ledger):
        async with Receiving(ledger, 100) as receiving:
            receiving.count(5_000)

    asyncio.run(one(ledger := Ledger()))
    assert ledger.booked == 5_000


def test_how_long_it_waited_is_added_up():
    assert receive(Ledger(), [400, 400], size=2_000).waited_s == 3 * 0.5, "the window, and twice what came"


def test_without_a_limit_nothing_is_booked():
    assert receive_unlimited([400, 400]) == 0.0


def receive_unlimited(parts):
    async def one():
        async with Receiving(None) as receiving:
            for part in parts:
                await receiving.took(part)
        return receiving.waited_s

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("headers", "size"), [({"content-length": "120"}, 120), ({}, 4), ({"content-length": "many"}, 4)]
)
def test_an_answer_is_as_large_as_its_header_says(headers, size):
    assert size_of(Answer(200, headers, "body", datetime.now(UTC))) == size


BODIES = {"/file": b"x" * 50_000, "/empty": b""}


async def _answer(request: web.Request) -> web.StreamResponse:
    if request.path in BODIES:
        return web.Response(body=BODIES[request.path])
    if request.path == "/chunks":
        streamed = web.StreamResponse()
        await streamed.prepare(request)
        for _ in range(5):
            await streamed.write(b"y" * 3_000)
        return streamed
    return web.Response(status=404 if request.path == "/nowhere" else 403, body=b"z" * 300)


def get(ledger, path):
    """Ask a server of files."""

    async def one():
        runner = web.AppRunner(application(), access_log=None)
        await runner.setup()
        try:
            await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
            port = site._server.sockets[0].getsockname()[1]
            async with Downloads(Exchange.BINANCE, 5.0, bandwidth=ledger) as downloads:
                return await downloads.get_once(f"http://127.0.0.1:{port}{path}")
        finally:
            await runner.cleanup()

    return asyncio.run(one())


def application():
    made = web.Application()
    made.router.add_get("/{any:.*}", _answer)
    return made


@pytest.mark.parametrize(("path", "size"), [("/file", 50_000), ("/chunks", 15_000), ("/empty", 0)])
def test_a_file_is_counted_byte_by_byte(path, size):
    assert len(get(ledger := Ledger(), path)) == size
    assert ledger.booked == size


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("/chunks", {("mdp_archive_bytes", "binance"): 15_000, ("mdp_archive_requests", "binance", "answered"): 1}),
        ("/nowhere", {("mdp_archive_requests", "binance", "absent"): 1}),
        ("/refused", {("mdp_archive_requests", "binance", "RequestRejected"): 1}),
    ],
)
def test_what_came_of_a_file_is_told_to_those_who_watch(path, counted):
    COUNTS.take()
    with suppress(RequestRejected):
        get(None, path)
    told = COUNTS.take().counters
    assert told.pop(("mdp_archive_seconds", "binance")) > 0
    assert told == counted


def test_a_file_that_is_not_there_counts_nothing():
    assert get(ledger := Ledger(), "/nowhere") is None
    assert ledger.booked == 0


def test_a_refused_file_counts_nothing():
    with pytest.raises(RequestRejected):
        get(ledger := Ledger(), "/refused")
    assert ledger.booked == 0


def test_a_file_that_is_too_large_counts_with_what_came(monkeypatch):
    monkeypatch.setattr(archive_downloads, "MOST_BYTES", 4_000)
    with pytest.raises(PayloadError):
        get(ledger := Ledger(), "/chunks")
    assert ledger.booked <= 15_000
