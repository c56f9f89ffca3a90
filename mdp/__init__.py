"""``mdp``: the one source of crypto candles for live trading and backtests.

What a notebook needs is here: :func:`read`. Everything else is in the packages, each with a charter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdp.reading import read

__all__ = ["read"]


def __getattr__(name: str) -> Any:
    # Late, so that `import mdp.domain` loads neither settings nor storage.
    if name == "read":
        from mdp.reading import read

        return read
    raise AttributeError(f"module 'mdp' has no attribute {name!r}")
