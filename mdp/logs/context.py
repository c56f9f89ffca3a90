"""What a line is about, said once where the work begins: market, partition, run, exchange, request.

Not here: how a line is spelled (``lines``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from structlog.contextvars import bind_contextvars, get_contextvars, unbind_contextvars


@contextmanager
def bound(**about: str) -> Iterator[None]:
    """Have every line inside say this too, whoever writes it; tasks that begin inside say it as well.

    The values of before are put back by name and not by token: a generator may be closed in another context.

    Args:
        about: Such as ``market="binance:BTC-USDT"``; in an inner ``bound`` a name gets the inner value.
    """
    before = get_contextvars()
    bind_contextvars(**about)
    try:
        yield
    finally:
        unbind_contextvars(*(name for name in about if name not in before))
        bind_contextvars(**{name: before[name] for name in about if name in before})
