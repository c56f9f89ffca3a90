"""``mdp``: the one source of crypto candles for live trading and backtests.

What a notebook and a strategy need is here. Of storage: :func:`read`, :func:`read_aligned`, :func:`explain`,
:func:`backtest`. Of live trading: :func:`buffer`, :func:`follow`. Everything else is in the packages, each with a
charter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdp.reading import backtest, explain, read, read_aligned
    from mdp.reading.buffers import buffer, follow

__all__ = ["backtest", "buffer", "explain", "follow", "read", "read_aligned"]

_OF_THE_BUS = ("buffer", "follow")


def __getattr__(name: str) -> Any:
    # Late, so that `import mdp.domain` loads neither settings nor storage, and reading storage does not load the bus.
    if name in _OF_THE_BUS:
        from mdp.reading import buffers

        return getattr(buffers, name)
    if name in __all__:
        from mdp import reading

        return getattr(reading, name)
    raise AttributeError(f"module 'mdp' has no attribute {name!r}")
