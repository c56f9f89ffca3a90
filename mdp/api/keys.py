"""Keys as the service holds them: read again when their file changes, looked up for each request.

Not here: the file (``key_file``), what is answered to a wrong key (``doorkeeper``).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from mdp.api.key_file import KEY, Key, read_keys, utc_now
from mdp.errors import ConfigError

_LOOK_EVERY_S = 0.5
"""So often the file is looked at, at most: a revoked key is refused within a second."""

_NO_SECRET = hashlib.sha256(b"").hexdigest()
_log = logging.getLogger("mdp.api")


class Checked(NamedTuple):
    """What was found out about a key that came along.

    Attributes:
        key: A valid one; None: it is not.
        why: ``valid``, or what is wrong with it: for the log, never for who sent it.
    """

    key: Key | None
    why: str


class KeyRing:
    """All keys of a file.

    Args:
        path: The file; there need be none.
        now: Tells the time.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = utc_now) -> None:
        self._path, self._now = path, now
        self._keys: dict[str, Key] = {}
        self._seen: object = None
        self._look_at = 0.0
        self._broken: ConfigError | None = None

    def check(self, text: str) -> Checked:
        """Find out about a key that came along.

        Raises:
            ConfigError: the file of keys is damaged or too open: nobody can be told from anybody else.
        """
        self.refresh()
        if self._broken is not None:
            raise self._broken
        parts = KEY.fullmatch(text)
        if parts is None:
            return Checked(None, "not a key")
        key = self._keys.get(parts[1])
        # compared even where no key has that id, so that time does not tell which ids there are
        is_right = hmac.compare_digest(
            hashlib.sha256(parts[2].encode()).hexdigest(), _NO_SECRET if key is None else key.sha256
        )
        if key is None or not is_right:
            return Checked(None, "unknown id" if key is None else "wrong secret")
        state = key.state(self._now())
        return Checked(key if state == "valid" else None, state)

    def is_valid(self, key_id: str) -> bool:
        """Tell whether a key that was good is so still; none is while the file is damaged or too open."""
        self.refresh()
        key = self._keys.get(key_id)
        return self._broken is None and key is not None and key.state(self._now()) == "valid"

    def refresh(self) -> None:
        """Read the file if it changed since it was last looked at; a broken one closes everything that needs a key."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        seen = self._stamp()
        if seen == self._seen:
            return
        try:
            self._keys = {key.id: key for key in read_keys(self._path)}
            self._broken = None
        except ConfigError as error:
            if str(error) != str(self._broken):
                _log.error("no key is accepted: %s", error)
            self._keys, self._broken = {}, error
            seen = None  # looked at again: what kept it from being read may pass without the file changing
        self._seen = seen

    def _stamp(self) -> object:
        try:
            found = self._path.stat()
        except OSError as error:
            return error.errno
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
