"""Binance's ``exchangeInfo``: the markets that are collected, in the shape that clients build their markets from.

Source: binance-spot-api-docs, rest-api.md "Exchange information" (2026-07). Not here: the steps (``instruments``).
"""

from __future__ import annotations

from typing import Any

import msgspec

from mdp.api.compat.binance_parameters import SYMBOL_PATTERN, Parameters, known
from mdp.api.compat.instruments import Instrument, instruments
from mdp.api.compat.weights import LIMIT
from mdp.api.compat.wording import Refused
from mdp.config.settings import Settings
from mdp.domain.market import Exchange

_KNOWN = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")


def exchange_info(settings: Settings, sent: Parameters, now: int) -> bytes:
    """Return the answer.

    Args:
        settings: Whose markets.
        sent: Parameters.
        now: Server time, in the unit that is wanted.

    Raises:
        Refused: a parameter is wrong.
    """
    sent.require_all_known(_KNOWN)
    body = {
        "timezone": "UTC",
        "serverTime": now,
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": LIMIT},
        ],
        "exchangeFilters": [],
        "symbols": [_describe(one) for one in _wanted(settings, sent)],
    }
    return msgspec.json.encode(body)


def _wanted(settings: Settings, sent: Parameters) -> list[Instrument]:
    if "symbol" in sent and "symbols" in sent:
        raise Refused(400, -1128, "Combination of optional parameters invalid.")
    if "symbols" in sent:
        return [known(settings, name) for name in _listed(sent.mandatory("symbols"))]
    if "symbol" in sent:
        return [known(settings, sent.mandatory("symbol", SYMBOL_PATTERN))]
    return list(instruments(settings, Exchange.BINANCE).values())


def _listed(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        message = "Illegal characters found in parameter 'symbols'; legal range is a JSON array of symbols."
        raise Refused(400, -1100, message) from None


def _describe(one: Instrument) -> dict[str, Any]:
    price, amount = f"{one.steps.price:0<10}", f"{one.steps.amount:0<10}"
    return {
        "symbol": one.market_id,
        "status": "TRADING",
        "baseAsset": one.market.base,
        "baseAssetPrecision": 8,
        "quoteAsset": one.market.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": price, "maxPrice": "1000000.00000000", "tickSize": price},
            {"filterType": "LOT_SIZE", "minQty": amount, "maxQty": "9000.00000000", "stepSize": amount},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }
