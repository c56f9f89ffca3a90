"""``mdp``: the one source of crypto candles for live trading and backtests.

What a notebook needs is here: :func:`read`, :func:`read_aligned`, :func:`explain`. Everything else is in the packages,
each with a charter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdp.reading import explain, read, read_aligned

__all__ = ["explain", "read", "read_aligned"]


def __getattr__(name: str) -> Any:
    # Late, so that `import mdp.domain` loads neither settings nor storage.
    if name in __all__:
        from mdp import reading

        return getattr(reading, name)
    raise AttributeError(f"module 'mdp' has no attribute {name!r}")
