"""How often one address may ask Binance spot, and what its answers say about it. Pure.

Not here: counting (``ports.Budget``), what a refusal means (``client``).
"""

from __future__ import annotations

from collections.abc import Mapping

from mdp.domain.quota import Quota, Usage
from mdp.errors import InputError
from mdp.exchanges.verdicts import Answer, read_count

WEIGHT = Quota("weight", amount=6_000, window_s=60, is_calendar=True)
"""Source: rest-api.md "Limits" (``REQUEST_WEIGHT``), 2026-07."""

RAW_REQUESTS = Quota("raw_requests", amount=300_000, window_s=300)
"""Source: CHANGELOG.md 2026-04-02 (``RAW_REQUESTS``, 61,000 before)."""

QUOTAS: tuple[Quota, ...] = (WEIGHT, RAW_REQUESTS)

_USED_WEIGHT = "x-mbx-used-weight-1m"

# By CCXT's name of the method. Source: rest-api.md, "Weight" of each endpoint, 2026-07; klines: whatever the limit.
_WEIGHTS = {"publicGetKlines": 2, "publicGetTime": 1, "publicGetExchangeInfo": 20}
_COSTS = {name: {WEIGHT.name: weight, RAW_REQUESTS.name: 1} for name, weight in _WEIGHTS.items()}


def costs(endpoint: str) -> Mapping[str, float]:
    """Return what a request to an endpoint costs: name of a quota to an amount of it.

    Raises:
        InputError: an endpoint whose cost we do not know.
    """
    if endpoint not in _COSTS:
        raise InputError("endpoint", got=endpoint, expected=f"one of {', '.join(_COSTS)}")
    return _COSTS[endpoint]


def read_usage(answer: Answer) -> Usage | None:
    """Read the weight that this address has used in the current minute, whoever asked; None where it is not told.

    Source: rest-api.md "Limits", ``X-MBX-USED-WEIGHT-(intervalNum)(intervalLetter)``, 2026-07.
    """
    used = read_count(answer, _USED_WEIGHT)
    return None if used is None else Usage(WEIGHT.name, used=used)
