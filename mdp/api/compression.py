"""Bodies made smaller for whoever takes it: zstd, gzip.

Not here: which bodies gain nothing (``row_answers``).
"""

from __future__ import annotations

from enum import StrEnum

from pyarrow import Codec  # type: ignore[attr-defined]  # pyarrow has no types

from mdp.api.quality_values import weights

LEAST_BYTES = 1_024
"""A smaller body fits into one packet anyway."""


class Encoding(StrEnum):
    """How a body is packed, the best first: zstd is as small as gzip in a tenth of the time."""

    ZSTD = "zstd"
    GZIP = "gzip"
    IDENTITY = "identity"


_CODECS = {Encoding.ZSTD: ("zstd", 1), Encoding.GZIP: ("gzip", 3)}


def choose_encoding(accepted: str | None) -> Encoding:
    """Return how a body may be packed for who sent this ``Accept-Encoding``; as it is where nothing is said.

    Who refuses even ``identity`` and takes nothing we have gets the body as it is, which RFC 9110 (12.5.3) allows.
    """
    if not accepted:
        return Encoding.IDENTITY
    liked = weights(accepted)
    other = liked.get("*", 0.0)
    # Who names packings wants one; how much it likes none counts only where it says so.
    scores = {encoding: liked.get(encoding, other) for encoding in (Encoding.ZSTD, Encoding.GZIP)}
    best = max(scores, key=lambda encoding: scores[encoding])
    return best if scores[best] > 0 and scores[best] >= liked.get("identity", 0.0) else Encoding.IDENTITY


def compress(body: bytes, encoding: Encoding) -> bytes:
    """Return a body packed."""
    if encoding is Encoding.IDENTITY:
        return body
    name, level = _CODECS[encoding]
    packed: bytes = Codec(name, compression_level=level).compress(body, asbytes=True)
    return packed
