"""Where the service is and who asks: the address and the key, checked before anything is sent.

A key is in no representation and no message. Not here: asking (``transport``).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mdp.errors import InputError

_KEY = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Address:
    """A service, and the key it is asked with.

    Attributes:
        base_url: ``http`` or ``https``, host, port, and a path where a proxy puts the service below one.
    """

    base_url: str
    _key: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, key: str | None) -> Address:
        """Check an address and a key.

        Raises:
            InputError: one of them cannot be right.
        """
        if key is not None and _KEY.fullmatch(key) is None:
            raise InputError("key", got="(not shown)", expected="what `mdp keys create` printed, on one line")
        try:
            parts = urlsplit(url)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_good = False
        if not is_good:
            raise InputError("url", got=url.rpartition("@")[2], expected="an address such as http://127.0.0.1:8000")
        if parts.username is not None or parts.password is not None:
            raise InputError("url", got=f"user@{parts.hostname}", expected="an address without user and password")
        if parts.query or parts.fragment:
            raise InputError("url", got=parts.path, expected="an address without ? and #")
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", key)

    @property
    def key_headers(self) -> dict[str, str]:
        """What a request carries to say who asks."""
        return {} if self._key is None else {"authorization": f"Bearer {self._key}"}

    @property
    def stream_url(self) -> str:
        """Where the WebSocket is."""
        return f"ws{self.base_url.removeprefix('http')}/api/v1/stream"

    @property
    def is_loopback(self) -> bool:
        """Tell whether the service is on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"
