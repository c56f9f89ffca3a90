"""What healing came to, for machines: what the command line prints and Dagster keeps with the run.

Not here: tables for people (``cli.heal``, ``defs.healing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdp.domain.gaps import Coverage
from mdp.domain.interval import Interval, format_time
from mdp.domain.market import Market
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
        "set_aside": list(healed.set_aside),
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


def looked_at_json(market: Market, windows: Sequence[Interval], unasked: Sequence[Interval]) -> dict[str, Any]:
    """Return from when to when a market was looked at, and the days between of which nothing is known."""
    whole = Interval(windows[0].start, windows[-1].end) if windows else None
    return {
        "market": str(market),
        **(_bounds(whole) if whole else {"start": None, "end": None}),
        "never_asked": [{**_bounds(between), "days": len([*between.days()])} for between in unasked],
    }


def _market(one: MarketHealed) -> dict[str, Any]:
    return {
        **looked_at_json(one.market, one.windows, one.unasked),
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
