"""WebSocket frames as a server writes them: whole, unmasked, uncompressed, so that one frame serves every client.

Not here: reading frames and shaking hands (``connection``).

Source: RFC 6455, section 5.2.
"""

from __future__ import annotations

_TEXT, _PING = b"\x81", b"\x89"


def text_frame(text: bytes) -> bytes:
    """Return the frame of one text message."""
    return _frame(_TEXT, text)


def ping_frame(payload: bytes) -> bytes:
    """Return a PING; its payload has at most 125 bytes."""
    return _frame(_PING, payload)


def _frame(head: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 65_536:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload
