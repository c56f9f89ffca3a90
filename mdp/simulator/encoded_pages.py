"""Answered pages kept in memory, ready to be sent: plain or compressed, without what changes from answer to answer.

Not here: what a page holds (``pages``), what is wrong with it (``spoiled_pages``).
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_MOST_STORED = 65_535
_KEPT_BYTES = 160_000_000


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """The body of an answer up to its tail.

    Attributes:
        content: As it is, or the deflated bytes of it up to a byte boundary.
        origin: Where its candles come from.
        is_gzip: Which of the two.
        checksum: CRC-32 of the plain bytes; 0 where they are sent as they are.
        plain_size: Number of the plain bytes.
    """

    content: bytes
    origin: str
    is_gzip: bool
    checksum: int
    plain_size: int

    def with_tail(self, tail: bytes) -> bytes:
        """Return the whole body; a compressed one gets its tail as a stored block, so that nothing is deflated again.

        Args:
            tail: At most 65,535 bytes.
        """
        if not self.is_gzip:
            return self.content + tail
        size = len(tail)
        block = struct.pack("<BHH", 1, size, size ^ _MOST_STORED) + tail
        ends = struct.pack("<II", zlib.crc32(tail, self.checksum), (self.plain_size + size) & 0xFFFFFFFF)
        return _GZIP_HEADER + self.content + block + ends


def encode_page(plain: bytes, origin: str, *, as_gzip: bool) -> EncodedPage:
    """Return a page ready to be sent.

    Args:
        plain: The body up to its tail.
        origin: Where its candles come from.
        as_gzip: Whether to compress it: at level 1, for a cold page should not cost more than making it.
    """
    if not as_gzip:
        return EncodedPage(plain, origin, is_gzip=False, checksum=0, plain_size=len(plain))
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = deflate.compress(plain) + deflate.flush(zlib.Z_FULL_FLUSH)
    return EncodedPage(content, origin, is_gzip=True, checksum=zlib.crc32(plain), plain_size=len(plain))


class PageCache:
    """The pages used last, up to a number of bytes; only pages that no passing of time changes."""

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._pages: OrderedDict[Hashable, EncodedPage] = OrderedDict()
        self._size = 0
        self._most = most_bytes

    def get(self, key: Hashable) -> EncodedPage | None:
        """Return a kept page."""
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: Hashable, page: EncodedPage) -> None:
        """Keep a page; those not used for longest go."""
        self._pages[key] = page
        self._size += len(page.content)
        while self._size > self._most and len(self._pages) > 1:
            _, oldest = self._pages.popitem(last=False)
            self._size -= len(oldest.content)

    def clear(self) -> None:
        """Forget all pages, for the clock was turned back."""
        self._pages.clear()
        self._size = 0
