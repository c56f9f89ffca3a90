"""Whether somebody with a key is let in: the key, its scopes, how much it asked already.

A wrong, an unknown, an expired and a revoked key get the same answer; the log tells them apart. Not here: where a key
stands in a request (``gate``), the keys (``keys``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope as Connection

from mdp.api.addresses import throttled_as
from mdp.api.callers import Caller, Scope
from mdp.api.key_file import KEY, Key
from mdp.api.keys import KeyRing
from mdp.api.limits import WINDOW_S, Limits, Use
from mdp.api.problems import Problem, unavailable
from mdp.config.settings import Settings
from mdp.errors import ConfigError

TRIES_A_MINUTE = 30
"""Wrong keys from one address that are answered with 401; more get 429. A right key passes whatever else came."""

_MOST_ADDRESSES = 10_000
_MOST_KEYS = 100_000
_log = logging.getLogger("mdp.api")

Header = tuple[bytes, bytes]


class Admission(NamedTuple):
    """Somebody whose key is good.

    Attributes:
        caller: Who it is.
        headers: What the answer says of the limit.
        key: The key.
    """

    caller: Caller
    headers: list[Header]
    key: Key


class Doorkeeper:
    """Knows keys and what was asked with each.

    Args:
        settings: Of the environment.
        clock: Seconds, monotonic.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys = KeyRing(settings.keys_file)
        self._usual = settings.api.requests_per_minute
        self._used = Limits(_MOST_KEYS, clock)
        self._tries = Limits(_MOST_ADDRESSES, clock)

    def admit(self, text: str, address: str) -> Admission:
        """Let somebody in, or not.

        Raises:
            Problem: 401, the key is not valid; 429, it asked too much, or too many wrong keys came from the address;
                503, keys cannot be checked now.
        """
        key = self._valid(text, address)
        limit = key.requests_per_minute or self._usual
        use = self._used.take(key.id, limit)
        headers = _headers(use, limit)
        if not use.is_within:
            raise _too_many(f"this key may ask {limit} times a minute", use.reset_s, headers)
        return Admission(Caller(key.id, frozenset(key.scopes), key.id), headers, key)

    def admit_quickly(self, text: str) -> Admission | None:
        """Let somebody in whose key is good for reading; None: ask :meth:`admit`, which says what is wrong."""
        try:
            key, _ = self.keys.check(text)
        except ConfigError:
            return None
        if key is None or Scope.READ not in key.scopes:
            return None
        limit = key.requests_per_minute or self._usual
        use = self._used.take(key.id, limit)
        if not use.is_within:  # what is refused is not counted, so that asking again costs nothing
            return None
        return Admission(Caller(key.id, frozenset(key.scopes), key.id), _headers(use, limit), key)

    def _valid(self, text: str, address: str) -> Key:
        try:
            key, why = self.keys.check(text)
        except ConfigError as error:
            raise unavailable(
                "keys cannot be checked now: the log of the service says why", retry_after_s=30
            ) from error
        if key is not None:
            return key
        tries = self._tries.take(throttled_as(address), TRIES_A_MINUTE)
        if not tries.is_within:
            raise _too_many("too many wrong keys came from this address", tries.reset_s, [])
        named = KEY.fullmatch(text)
        _log.warning("key %s from %s: %s", named[1] if named else "-", address, why)
        raise unauthorized("this key is not valid; `mdp keys list` shows those that are")


def still_allowed(scope: Connection) -> Callable[[], bool]:
    """Return what tells whether the key of a request that lasts is still good; without a key it was never needed."""
    caller: Caller | None = scope.get("mdp.caller")
    key_id = None if caller is None else caller.key_id
    if key_id is None:
        return lambda: True
    keys: KeyRing = scope["app"].state.doorkeeper.keys
    return lambda: keys.is_valid(key_id)


def unauthorized(detail: str) -> Problem:
    """Return the problem of a request that needs a key and has no valid one: 401."""
    headers = {"www-authenticate": 'Bearer realm="mdp"'}
    return Problem(401, "unauthorized", "A valid key is needed", detail, headers=headers)


def _too_many(detail: str, retry_after_s: int, headers: list[Header]) -> Problem:
    said = {name.decode(): value.decode() for name, value in headers}
    said["retry-after"] = str(max(1, retry_after_s))
    detail = f"{detail}; again in {max(1, retry_after_s)} s"
    return Problem(429, "too-many-requests", "Too many requests", detail, headers=said, retryable=True)


def _headers(use: Use, limit: int) -> list[Header]:
    """What the draft of the IETF calls them (draft-ietf-httpapi-ratelimit-headers-07, read in 2026)."""
    return [
        (b"ratelimit-limit", b"%d" % limit),
        (b"ratelimit-remaining", b"%d" % use.remaining),
        (b"ratelimit-reset", b"%d" % use.reset_s),
        (b"ratelimit-policy", b"%d;w=%d" % (limit, WINDOW_S)),
    ]
