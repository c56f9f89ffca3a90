"""What every answer bears so that a browser makes nothing of it but what it is.

Not here: who adds them (``front``; ``buffer_bodies`` for what is answered before anything else sees it).
"""

from __future__ import annotations

SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
]
"""Borne by every answer, once, whatever a route says itself."""
