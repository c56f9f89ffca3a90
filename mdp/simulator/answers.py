"""Pieces that every exchange's answers are made of: JSON bodies, the asking address, decimals as text.

Not here: any exchange's own shapes (``binance``, ``bybit``, ``okx``, ``deribit``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from mdp.simulator.candles import UNITS
from mdp.simulator.levels import END_DAY

ORIGIN_HEADER = "X-Simulator-Data"
"""Says of a page of candles whether they were ``recorded``, ``generated``, or ``mixed``; ``none`` without any."""

JSON = "application/json"

NEVER_MS = END_DAY * 86_400_000
"""Later than anything simulated: stands for a bound that was not given."""


def answer(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer; ``body`` is encoded unless it is text already."""
    content = body if isinstance(body, str) else msgspec.json.encode(body)
    return Response(content, status_code=status, headers=headers, media_type=JSON)


def client_of(request: Request) -> str:
    """Return the address a request came from: what quotas are counted by."""
    return request.client.host if request.client else "unknown"


def eight_decimals(name: str) -> pl.Expr:
    """Print a column of units with exactly eight decimals, as Binance does: ``98663.58000000``."""
    return pl.concat_str(_whole(name), pl.lit("."), _fraction(name))


def shortest_decimal(name: str) -> pl.Expr:
    """Print a column of units without trailing zeros, as Bybit and OKX do: ``98663.58``, ``17071``."""
    return eight_decimals(name).str.strip_chars_end("0").str.strip_chars_end(".")


def _whole(name: str) -> pl.Expr:
    return (pl.col(name) // UNITS).cast(pl.String)


def _fraction(name: str) -> pl.Expr:
    return (pl.col(name) % UNITS).cast(pl.String).str.zfill(8)
