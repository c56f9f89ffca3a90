"""Answers with a page of candles: cut, spoiled where that is scripted, printed, compressed, and kept where it lasts.

Not here: an exchange's own parameters and shapes (``binance``, ``bybit``, ``okx``), which candles (``pages``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mdp.simulator import pages
from mdp.simulator.answers import JSON, ORIGIN_HEADER
from mdp.simulator.encoded_pages import EncodedPage, encode_page
from mdp.simulator.faults import DuplicateRows, EmptyPage, MissingRows, OffGrid, PageFault, RestLag, WrongOrder
from mdp.simulator.history import Encoder
from mdp.simulator.markets import SimulatedMarket
from mdp.simulator.script import Asked, Entry
from mdp.simulator.simulation import Simulation
from mdp.simulator.spoiled_pages import as_of, is_late, spoil_rows

PAGE_FAULTS: tuple[type[PageFault], ...] = (EmptyPage, WrongOrder, DuplicateRows, OffGrid, MissingRows, RestLag)


@dataclass(frozen=True, slots=True)
class Layout:
    """How an exchange writes a page.

    Attributes:
        encode: Prints finished candles.
        encode_open: Prints the open one; None: the same way.
        newest_first: Whether the newest row stands first.
    """

    encode: Encoder
    encode_open: Encoder | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What stands around the rows of a page: ``head`` is the same in every answer about a market, ``tail`` not."""

    head: str
    tail: str


def answer_page(
    simulation: Simulation,
    request: Request,
    wanted: pages.Request,
    now_ms: int,
    *,
    layout: Layout,
    body: Body,
    with_open: bool = True,
) -> Response:
    """Return the answer with the candles that a request selects.

    Args:
        simulation: The world.
        request: For the faults that spoil it, and whether it accepts gzip.
        wanted: What it selects.
        now_ms: Simulated time.
        layout: How rows are printed.
        body: What stands around them.
        with_open: Whether the candle still open belongs to the answer.
    """
    faults = page_faults(simulation, request, wanted.timeframe.milliseconds, now_ms)
    as_gzip = accepts_gzip(request.scope)
    key = (layout, wanted, with_open, as_gzip, simulation.alterations.version)
    page = None if faults else simulation.pages.get(key)
    if page is None:
        cut = pages.read_page(
            simulation.alterations.view(now_ms),
            wanted,
            as_of(faults, now_ms, wanted.timeframe.milliseconds),
            with_open=with_open,
        )
        rows = cut.texts(layout.encode, layout.encode_open)
        rows = spoil_rows(rows[::-1] if layout.newest_first else rows, faults)
        page = encode_page(f"{body.head}{','.join(rows)}".encode(), cut.origin, as_gzip=as_gzip)
        if not faults and _lasts(simulation, wanted, cut, now_ms):
            simulation.pages.put(key, page)
    return _respond(page, body.tail)


def page_faults(simulation: Simulation, request: Request, length_ms: int, now_ms: int) -> tuple[PageFault, ...]:
    """Return the faults that spoil the rows of an answer, and leave a note of them for the log.

    Args:
        simulation: The world.
        request: What is asked.
        length_ms: Length of the candles.
        now_ms: Simulated time; a lag that is over by then spoils nothing and is not counted.
    """
    asked: Asked | None = request.scope.get("asked")
    if asked is None or not simulation.faults.entries:
        return ()
    entries: list[Entry] = []
    for entry in simulation.faults.choose_all(asked, PAGE_FAULTS):
        if isinstance(entry.fault, RestLag) and not is_late(entry.fault, now_ms, length_ms):
            simulation.faults.give_back(entry)
        else:
            entries.append(entry)
    request.scope["faults"] = [*request.scope.get("faults", ()), *entries]
    return tuple(entry.fault for entry in entries if isinstance(entry.fault, PageFault))


def accepts_gzip(scope: Any) -> bool:
    """Tell whether a request accepts compressed answers."""
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])


def bounded(wanted: pages.Request, earliest_ms: int) -> pages.Request:
    """Return a request that reaches back no further than ``earliest_ms``."""
    return wanted if wanted.first_ms >= earliest_ms else replace(wanted, first_ms=earliest_ms)


def _respond(page: EncodedPage, tail: str) -> Response:
    headers = {ORIGIN_HEADER: page.origin}
    if page.is_gzip:
        headers["Content-Encoding"] = "gzip"
    return Response(page.with_tail(tail.encode()), headers=headers, media_type=JSON)


def _lasts(simulation: Simulation, wanted: pages.Request, cut: pages.Page, now_ms: int) -> bool:
    """Tell whether the same request gets the same page for ever, unless something is scripted."""
    if simulation.faults.has_revisions or len(cut.open_candle):
        return False
    market: SimulatedMarket = wanted.market
    count = sum(stop - start for _, start, stop in cut.parts)
    is_full = wanted.keep is pages.Keep.OLDEST and count == wanted.limit
    return is_full or max(wanted.last_ms, market.first_candle_ms) <= now_ms - wanted.timeframe.milliseconds
