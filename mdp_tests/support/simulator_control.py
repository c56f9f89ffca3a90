"""What a test asks of a running simulator through ``/control``: its logs, its script, its clock, the truth.

Not here: starting one (``simulator_process``).
"""

from __future__ import annotations

import json
import time
import urllib.parse
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

    def set_clock(self, **fields: Any) -> dict[str, Any]:
        """Set ``now``, ``speed`` or both; what the clock shows then."""
        return self._ask("POST", "clock", fields)

    def clock(self) -> dict[str, Any]:
        """``now_ms``, ``monotonic_ns``, ``speed``."""
        return self._ask("GET", "clock")

    def now_ms(self) -> float:
        """The simulated time."""
        shown = self.clock()
        return shown["now_ms"] + (time.monotonic_ns() - shown["monotonic_ns"]) * shown["speed"] / 1e6

    def streams(self) -> dict[str, list[dict[str, Any]]]:
        """Who is connected to the streams, ``open``, and who was, ``ended``."""
        return self._ask("GET", "streams")

    def truth(self, market: str, start: str, end: str) -> list[list[Any]]:
        """A market's closed minutes of a window: open_ms, open, high, low, close, volume, quote_volume, trades."""
        query = urllib.parse.urlencode({"market": market, "start": start, "end": end})
        return self._ask("GET", f"truth?{query}")["rows"]

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


def exchange_urls(url: str) -> dict[str, str]:
    """The settings with which commands find the simulator's REST interfaces and streams."""
    stream = url.replace("http", "ws", 1)
    names = ("BINANCE", "BYBIT", "OKX", "DERIBIT")
    rest = {f"MDP_EXCHANGES__{name}__REST_URL": f"{url}/{name.lower()}" for name in names}
    # CCXT knows Binance's spot market by the word that follows
    ends = {"BINANCE": "binance/stream"}
    return rest | {f"MDP_EXCHANGES__{name}__WS_URL": f"{stream}/{ends.get(name, name.lower())}" for name in names}
