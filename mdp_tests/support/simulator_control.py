"""What a test asks of a running simulator through ``/control``: its request log, its script, its clock.

Not here: starting one (``simulator_process``).
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Control:
    """The control endpoints of the simulator at ``url``."""

    url: str

    def requests(self, exchange: str = "", since: int = 0) -> list[dict[str, Any]]:
        """The requests to an exchange, or to all, after a number of the log."""
        chosen = f"&exchange={exchange}" if exchange else ""
        return self._ask("GET", f"requests?since={since}{chosen}")["requests"]

    def last(self) -> int:
        """The number of the newest request."""
        return self._ask("GET", "requests")["last"]

    def faults(self) -> list[dict[str, Any]]:
        """The script: each fault, the requests that fitted it, the answers it spoiled."""
        return self._ask("GET", "faults")["faults"]

    def script(self, *faults: dict[str, Any]) -> None:
        """Add faults to the script."""
        self._ask("POST", "faults", list(faults))

    def clear_faults(self) -> None:
        """Take every fault out of the script."""
        self._ask("DELETE", "faults")

    def set_now(self, now: str) -> None:
        """Set the simulated clock."""
        self._ask("POST", "settings", {"now": now})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/control/{path}", content, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def outcomes(requests: list[dict[str, Any]]) -> dict[str, int]:
    """Count requests by exchange, channel and status, for a person to read."""
    counts = Counter(f"{one['path'].split('/')[1]} {one['status'] or 'no answer'}" for one in requests)
    return dict(sorted(counts.items()))


def archive_urls(url: str) -> dict[str, str]:
    """The settings with which commands find the simulator's bulk files."""
    return {f"MDP_EXCHANGES__{name}__ARCHIVE_URL": f"{url}/{name.lower()}-archive" for name in ("BINANCE", "OKX")}
