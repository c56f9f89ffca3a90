"""Pages of a long answer: a cursor that holds where the last page ended, and belongs to one question.

Not here: reading a page (``reading.pages``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.requests import Request

from mdp.api.problems import wrong_parameter
from mdp.domain.interval import Interval
from mdp.domain.timeframe import EPOCH

_FORM = struct.Struct(">qq12s")
_EXPECTED = "the next_cursor of the page before, with the same question: market, timeframe, start, end, snapshot, as_of"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page begins and all end.

    Attributes:
        after: Open time of the last row that was given.
        end: Of the window: of a question that named none, the time at which its first page was asked for.
    """

    after: datetime
    end: datetime

    def spell(self, question: str) -> str:
        """Return it as an opaque text.

        Args:
            question: All that a page depends on; the text is of no use for any other.
        """
        after, end = ((moment - EPOCH) // datetime.resolution for moment in (self.after, self.end))
        packed = _FORM.pack(after, end, _seal(question, after, end))
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(text: str, question: str, window: Interval) -> Cursor:
    """Return what a cursor holds.

    Args:
        text: As it came.
        question: As for :meth:`Cursor.spell`.
        window: Of the question; a cursor never leads out of it.

    Raises:
        Problem: 400, it is none, or of another question.
    """
    try:
        if not text.isascii() or len(text) != 4 * _FORM.size // 3 + 1:
            raise ValueError("another length")
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        after, end, seal = _FORM.unpack(packed)
        is_ours = seal == _seal(question, after, end) and base64.urlsafe_b64encode(packed).decode().rstrip("=") == text
        if not is_ours:
            raise ValueError("of another question")
        cursor = Cursor(*(EPOCH + timedelta(microseconds=us) for us in (after, end)))
        if not window.start <= cursor.after < cursor.end <= window.end:
            raise ValueError("outside the window")
        return cursor
    except (ValueError, binascii.Error, struct.error, OverflowError):
        raise wrong_parameter("cursor", text, _EXPECTED) from None


def next_link(request: Request, cursor: str) -> str:
    """Return the ``Link`` to the next page: the same request with another cursor; a path, as proxies rename hosts."""
    url = request.url.include_query_params(cursor=cursor)
    return f'<{url.path}?{url.query}>; rel="next"'


def _seal(question: str, after: int, end: int) -> bytes:
    """No secret: nothing can be had by a forged cursor that its question would not give; it finds mistakes."""
    said = f"{question}\n{after}\n{end}".encode()
    return hashlib.blake2b(said, digest_size=12, person=b"mdp-page").digest()
