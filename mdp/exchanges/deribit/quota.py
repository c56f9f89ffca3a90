"""How often one address may ask Deribit. Pure.

Not here: counting (``ports.Budget``), what a refusal means (``client``).
"""

from __future__ import annotations

from collections.abc import Mapping

from mdp.domain.quota import Quota, Usage
from mdp.exchanges.verdicts import Answer

CREDITS = Quota("credits", amount=50_000, window_s=5)
"""A bucket of 50,000 credits that 10,000 a second refill: who never takes more than 50,000 in any 5 seconds does not
empty it. Source: docs.deribit.com/articles/rate-limits, 2026-07."""

QUOTAS: tuple[Quota, ...] = (CREDITS,)

_COST = {CREDITS.name: 500}


def costs(endpoint: str) -> Mapping[str, float]:  # noqa: ARG001 all we ask costs the same
    """Return what a request to an endpoint costs: name of a quota to an amount of it."""
    return _COST


def read_usage(answer: Answer) -> Usage | None:  # noqa: ARG001 Deribit reports nothing
    """Return None: no answer without an account tells what is used."""
    return None
