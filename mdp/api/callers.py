"""Who asks, and what they may do.

Not here: finding out who it is (``gate``, ``doorkeeper``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from mdp.api.problems import Problem


class Scope(StrEnum):
    """What a key may be good for."""

    READ = "read"
    GENERATE = "generate"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; a request has it as ``scope["mdp.caller"]``.

    Attributes:
        key_id: Of the key that came along; None: there was none.
        scopes: What is allowed. Empty: only what is open to everybody.
        name: As the log has it: the id of the key, ``loopback`` or ``-``.
    """

    key_id: str | None
    scopes: frozenset[Scope]
    name: str


LOOPBACK = Caller(None, frozenset(Scope), "loopback")
"""This machine itself, without a key."""

LOOPBACK_FROM_ELSEWHERE = Caller(None, frozenset({Scope.READ}), "loopback")
"""A browser on this machine, sent here by somebody else's page: it may look, and begin nothing."""

NOBODY = Caller(None, frozenset(), "-")
"""Somebody without a key, who may have only what is open to everybody."""


def require(caller: Caller | None, scope: str) -> None:
    """Refuse a caller who lacks a scope; no caller at all lacks every one.

    Raises:
        Problem: 403, naming what is needed and what there is.
    """
    if caller is not None and scope in caller.scopes:
        return
    given = ", ".join(sorted(caller.scopes)) if caller is not None and caller.scopes else "none"
    detail = f"this needs the scope {scope}; there is: {given}. `mdp keys create NAME --scope {scope}` makes a key"
    raise Problem(HTTPStatus.FORBIDDEN, "not-allowed", "The key is not good for this", detail)
