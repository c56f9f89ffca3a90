"""``mdp``: the one source of crypto candles for live trading and backtests.

What a notebook needs is here: :func:`read`. Everything else is in the packages, each with a charter of its own.
"""

from __future__ import annotations
