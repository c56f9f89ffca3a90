"""Lists of what a client would take, with how much it likes each: ``text/csv, */*;q=0.1``.

Not here: what we have (``formats``, ``compression``).
"""

from __future__ import annotations

import re

_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MOST = 64
"""A list is read so far; no browser names half as many."""


def weights(header: str) -> dict[str, float]:
    """Read a list as ``Accept`` and ``Accept-Encoding`` have it: name, in lower case, to weight from 0 to 1.

    Parameters other than ``q`` are left out. A weight that is none counts as 1, as if it were not there. Of a name
    that comes twice, the first counts.

    Source: RFC 9110, section 12.4.2.

    Examples:
        >>> weights("gzip;q=0.5, zstd")
        {'gzip': 0.5, 'zstd': 1.0}
    """
    found: dict[str, float] = {}
    for part in header.split(",", _MOST)[:_MOST]:
        name, *parameters = (piece.strip() for piece in part.lower().split(";"))
        if name:
            found.setdefault(name, _weight(parameters))
    return found


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q" and _WEIGHT.fullmatch(value.strip()):
            return float(value)
    return 1.0
