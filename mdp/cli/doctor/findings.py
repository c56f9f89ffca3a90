"""What one look at a place says.

Not here: the looks (``machine``, ``services``, ``exchanges``).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from mdp.config.settings import Settings


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(NamedTuple):
    """What a look found.

    Attributes:
        name: What was looked at.
        verdict: How it is.
        seen: What was seen, no secret in it.
        advice: What to do; empty where it is well.
    """

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""


Look = Callable[[Settings], list[Finding]]
"""Looks at one thing; may raise, which is a finding too."""


def well(name: str, seen: str) -> Finding:
    """Return a finding that asks nothing of anybody."""
    return Finding(name, Verdict.OK, seen)


def odd(name: str, seen: str, advice: str) -> Finding:
    """Return a finding that a person should know of."""
    return Finding(name, Verdict.WARNING, seen, advice)


def ill(name: str, seen: str, advice: str) -> Finding:
    """Return a finding with which something does not work."""
    return Finding(name, Verdict.FAILED, seen, advice)
