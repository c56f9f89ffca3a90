"""What healing came to, for machines: what the command line prints and Dagster keeps with the run.

Not here: tables for people (``cli.heal``, ``defs.healing``).
"""

from __future__ import annotations

from typing import Any

from mdp.domain.gaps import Coverage
from mdp.domain.interval import Interval, format_time
from mdp.pipeline.healing.ailments import Ailment
from mdp.pipeline.healing.prognosis import Healed, MarketHealed


def healed_json(healed: Healed) -> dict[str, Any]:
    """Return all of it: coverage in minutes before and after, what was wrong, what is left and when to ask again."""
    return {
        "whole": healed.is_whole,
        "at": format_time(healed.at),
        "markets": [_market(one) for one in healed.markets],
        "found": [ailment_json(one) for one in healed.found],
        "left": [ailment_json(one) for one in healed.left],
        "no_second_opinion": {str(market): why for market, why in healed.silent.items()},
    }


def ailment_json(one: Ailment) -> dict[str, Any]:
    """Return something that is wrong; ``end`` is not part of it."""
    return {
        "market": str(one.market),
        **_bounds(one.interval),
        "reason": one.reason.value,
        "count": one.count,
        "detail": one.detail,
        "ask_from": format_time(one.ask_from) if one.ask_from else None,
        "explained": one.is_explained,
    }


def _market(one: MarketHealed) -> dict[str, Any]:
    return {
        "market": str(one.market),
        **(_bounds(one.window) if one.window else {"start": None, "end": None}),
        "expected": one.after.expected,
        "before": _coverage(one.before),
        "after": _coverage(one.after),
        "revised": one.revised,
    }


def _coverage(one: Coverage) -> dict[str, Any]:
    return {
        "present": one.present,
        "missing": {cause.value: slots for cause, slots in one.missing.items()},
        "permanent": one.permanent,
    }


def _bounds(interval: Interval) -> dict[str, str]:
    return {"start": format_time(interval.start), "end": format_time(interval.end)}
