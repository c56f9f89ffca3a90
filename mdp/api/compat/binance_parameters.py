"""Binance's parameters: what is read, and how each that is wrong is refused.

Source: binance-spot-api-docs, rest-api.md "Kline/Candlestick data" and errors.md (2026-07). Not here: answers
(``binance``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from starlette.requests import Request

from mdp.api.compat.candles import NEVER_US, Asked, Keep
from mdp.api.compat.instruments import Instrument, instruments
from mdp.api.compat.lengths import HOUR_US, MINUTE_US, Length, minutes, months, weeks
from mdp.api.compat.wording import Refused
from mdp.config.settings import Settings
from mdp.domain.market import Exchange

_MINUTES: Mapping[str, int] = {
    "1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480, "12h": 720,
    "1d": 1_440,
}  # fmt: skip
INTERVALS: tuple[str, ...] = (*_MINUTES, "1w", "1M")
"""All of the exchange's but ``1s``, for which minutes are too long, and ``3d``, whose grid nobody has written down."""

SYMBOL_PATTERN = "^[A-Z0-9-_.]{1,20}$"
_NUMBER_PATTERN = "^[0-9]{1,20}$"
_QUARTER_US = 15 * MINUTE_US
_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?")
_FIRST_MICROSECONDS = 100_000_000_000_000
_DEFAULT_LIMIT, _MAX_LIMIT = 500, 1_000
_KLINES = ("symbol", "interval", "startTime", "endTime", "limit", "timeZone")


def in_microseconds(request: Request) -> bool:
    """Tell whether the answer's times are wanted in microseconds."""
    return request.headers.get("x-mbx-time-unit", "").upper() == "MICROSECOND"


class Parameters:
    """The parameters of one request.

    Raises:
        Refused: -1101, one was sent twice.
    """

    def __init__(self, request: Request) -> None:
        sent = request.query_params.multi_items()
        self._sent = dict(sent)
        if len(self._sent) < len(sent):
            raise Refused(400, -1101, "Duplicate values for a parameter detected.")

    def __contains__(self, name: str) -> bool:
        return name in self._sent

    def klines(self, settings: Settings) -> Asked:
        """Read the question for klines.

        Raises:
            Refused: it is wrong.
        """
        market = self.instrument(settings).market
        interval = self.mandatory("interval")
        if interval not in INTERVALS:
            raise Refused(400, -1120, "Invalid interval.")
        start_us, end_us = self._moment("startTime"), self._moment("endTime")
        limit = self._number("limit")
        if limit == 0:
            raise _not_valid("limit")
        length = _length(interval, self._zone_us())
        self.require_all_known(_KLINES)
        return Asked(
            market=market,
            length=length,
            first_us=0 if start_us is None else start_us,
            last_us=NEVER_US if end_us is None else end_us,
            limit=min(limit or _DEFAULT_LIMIT, _MAX_LIMIT),
            keep=Keep.NEWEST if start_us is None else Keep.OLDEST,
        )

    def instrument(self, settings: Settings) -> Instrument:
        """Read ``symbol``.

        Raises:
            Refused: absent, or none of ours.
        """
        return known(settings, self.mandatory("symbol", SYMBOL_PATTERN))

    def mandatory(self, name: str, pattern: str = ".*") -> str:
        """Read a parameter that must be there.

        Raises:
            Refused: it is not, or is empty, or holds characters that it may not.
        """
        if name not in self._sent:
            raise Refused(400, -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return self._matching(name, pattern)

    def require_all_known(self, names: Sequence[str]) -> None:
        """Refuse what nobody reads.

        Raises:
            Refused: -1104.
        """
        read = sum(name in names for name in self._sent)
        if read < len(self._sent):
            message = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(self._sent)}'."
            raise Refused(400, -1104, message)

    def _matching(self, name: str, pattern: str) -> str:
        value = self._sent[name]
        if not value:
            raise Refused(400, -1105, f"Parameter '{name}' was empty.")
        if not re.fullmatch(pattern, value, re.DOTALL):
            message = f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'."
            raise Refused(400, -1100, message)
        return value

    def _number(self, name: str) -> int | None:
        return int(self._matching(name, _NUMBER_PATTERN)) if name in self._sent else None

    def _moment(self, name: str) -> int | None:
        """A time that was sent in milliseconds or microseconds, in microseconds."""
        value = self._number(name)
        if value is None:
            return None
        return min(value if value >= _FIRST_MICROSECONDS else value * 1_000, NEVER_US)

    def _zone_us(self) -> int:
        if "timeZone" not in self._sent:
            return 0
        found = _ZONE.fullmatch(self._matching("timeZone", ".*"))
        if found is None or int(found[3] or 0) > 59:
            raise _not_valid("timeZone")
        zone_us = int(found[2]) * HOUR_US + int(found[3] or 0) * MINUTE_US
        zone_us = -zone_us if found[1] == "-" else zone_us
        # no place on earth is off the quarter of an hour, and a year of such days is made of half a million minutes
        if not -12 * HOUR_US <= zone_us <= 14 * HOUR_US or zone_us % _QUARTER_US:
            raise _not_valid("timeZone")
        return zone_us


def known(settings: Settings, name: str) -> Instrument:
    """Return a market by the exchange's spelling.

    Raises:
        Refused: -1121.
    """
    found = instruments(settings, Exchange.BINANCE).get(name)
    if found is None:
        raise Refused(400, -1121, "Invalid symbol.")
    return found


def _length(interval: str, zone_us: int) -> Length:
    if interval == "1w":
        return weeks(zone_us=zone_us)
    return months(zone_us=zone_us) if interval == "1M" else minutes(_MINUTES[interval], zone_us=zone_us)


def _not_valid(name: str) -> Refused:
    return Refused(400, -1130, f"Data sent for parameter '{name}' is not valid.")
