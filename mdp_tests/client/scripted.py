"""A service that says what a test tells it: answers over HTTP, and a stream over a real WebSocket.

Not here: the real service (``test_real_service``).
"""

from __future__ import annotations

import io
import json
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import httpx
from websockets.asyncio.server import serve

from mdp.client import AsyncClient, Client, Retrying
from mdp.client.messages import COLUMNS
from mdp.client.questions import ARROW
from mdp.domain.interval import format_time
from mdp_tests.support.builders import at, candle, candles

URL = "http://127.0.0.1:8000"
QUICK = Retrying(attempts=3, first_pause_s=0.001, longest_pause_s=0.01)
TOPIC = "candles.binance.BTC-USDT.1m"


def asking(answer, **options):
    """A client whose service is ``answer``: a function of a request, or answers one after the other."""
    asked = []

    def handle(request):
        asked.append(request)
        found = answer(request) if callable(answer) else answer[min(len(asked), len(answer)) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    client = Client(URL, **{"retrying": QUICK, **options}, transport=httpx.MockTransport(handle))
    return client, asked


def asking_async(answer, **options):
    async def handle(request):
        return answer(request)

    return AsyncClient(URL, **{"retrying": QUICK, **options}, transport=httpx.MockTransport(handle))


def arrow(frame, link=None, status=200, cut=0, **headers):
    """An answer that holds a table."""
    body = io.BytesIO()
    frame.write_ipc_stream(body)
    said = {"content-type": ARROW, **({"link": link} if link else {}), **headers}
    return httpx.Response(status, content=body.getvalue()[: -cut or None], headers=said)


def problem(status, kind="wrong-parameter", detail="timeframe: expected one of 1m, got '2m'", headers=None, **fields):
    body = {"type": f"urn:mdp:problem:{kind}", "title": "T", "status": status, "detail": detail, **fields}
    said = {"content-type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, content=json.dumps(body).encode(), headers=said)


def row(opened, close=100.0, state="closed", minutes=1, source="stream"):
    """A row of a buffer; ``opened`` a time, or minutes since 10:00."""
    moment = opened if isinstance(opened, datetime) else at("2024-12-30T10:00") + timedelta(minutes=opened)
    received = moment + timedelta(seconds=59 if state == "forming" else 61)
    return [format_time(moment), close, close, close, close, 2.0, 200.0, 7, minutes, state, source,
            format_time(received)]  # fmt: skip


def buffer(*rows, seq=1, size=500, is_stale=False, columns=COLUMNS, **fields):
    """The body of a buffer."""
    return {"exchange": "binance", "symbol": "BTC-USDT", "timeframe": "1m", "size": size, "seq": seq,
            "written_at": "2024-12-30T10:15:00Z", "is_stale": is_stale, "columns": list(columns), "rows": list(rows),
            **fields}  # fmt: skip


def snapshot(*rows, seq=1, **fields):
    """The message that holds a whole buffer."""
    return json.dumps({"type": "snapshot", "topic": TOPIC, **buffer(*rows, seq=seq), **fields})


def told(seq, one, skipped=0):
    """The message of one candle."""
    values = dict(zip(COLUMNS, one, strict=True))
    said = {"type": "candle", "topic": TOPIC, "seq": seq, "exchange": "binance", "symbol": "BTC-USDT",
            "timeframe": "1m", **values, **({"skipped": skipped} if skipped else {})}  # fmt: skip
    return json.dumps(said)


def minutes(frame):
    """Open times as minutes since 10:00."""
    return ((frame["open_time"] - at("2024-12-30T10:00")).dt.total_minutes()).to_list()


def stored(first, last, **values):
    """Candles of the minutes ``[first, last)`` since 10:00."""
    start = at("2024-12-30T10:00")
    opened = [start + timedelta(minutes=one) for one in range(first, last)]

    return candles(*(candle(moment, **values) for moment in opened))


@asynccontextmanager
async def streaming(*conversations, port=0):
    """A service whose n-th connection is led by the n-th conversation; the last one leads all further ones."""
    count = 0

    async def lead(connection):
        nonlocal count
        conversation = conversations[min(count, len(conversations) - 1)]
        count += 1
        await conversation(connection)

    async with serve(lead, "127.0.0.1", port, compression=None) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
