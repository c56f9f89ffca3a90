"""How often one address may ask Bybit, and what its answers say about it. Pure.

Not here: counting (``ports.Budget``), what a refusal means (``client``).
"""

from __future__ import annotations

from collections.abc import Mapping

from mdp.domain.quota import Quota, Usage
from mdp.exchanges.verdicts import Answer, read_count

REQUESTS = Quota("requests", amount=600, window_s=5)
"""All requests of an address together. Source: docs/v5/rate-limit, 2026-07."""

QUOTAS: tuple[Quota, ...] = (REQUESTS,)

_LIMIT, _LEFT, _RESET = "x-bapi-limit", "x-bapi-limit-status", "x-bapi-limit-reset-timestamp"
_COST = {REQUESTS.name: 1}


def costs(endpoint: str) -> Mapping[str, float]:  # noqa: ARG001 all requests count alike
    """Return what a request to an endpoint costs: name of a quota to an amount of it."""
    return _COST


def read_usage(answer: Answer) -> Usage | None:
    """Read how many requests are left; None where it is not told, or told of another limit.

    The same headers report an account's own limit of one endpoint where there is an account. Only a limit as large
    as the address's own is taken for it. The reset time is that of the answer as long as nothing is used up, which
    does not mean that the quota is whole then.

    Source: docs/v5/rate-limit, 2026-07.
    """
    left = read_count(answer, _LEFT)
    if left is None or read_count(answer, _LIMIT) != REQUESTS.amount:
        return None
    reset_ms = read_count(answer, _RESET)
    until_reset_s = None if reset_ms is None else reset_ms / 1_000 - answer.received_at.timestamp()
    is_used_up = left == 0 and until_reset_s is not None and 0 < until_reset_s <= REQUESTS.window_s
    return Usage(REQUESTS.name, left=left, resets_in_s=until_reset_s if is_used_up else None)
