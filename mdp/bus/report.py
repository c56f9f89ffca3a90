"""What the bus knows of the budgets: use, waits, cool-downs, who asks. Looking changes nothing and starts nothing.

Not here: showing it (``cli.budget``), the same as metrics (``metrics``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from mdp.bus.address import CONNECT_S, bus_address, machine
from mdp.bus.messages import About
from mdp.bus.script import EXCHANGES, PREFIX
from mdp.config.masking import masked
from mdp.config.settings import Settings

PRESENT_S = 5.0
"""A process that said nothing for so long does not ask any more."""


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One quota, as one environment may use it.

    Attributes:
        quota: Its name.
        amount: The exchange's limit in a window.
        window_s: Its length.
        env: Environment.
        share: What the environment may use of it.
        used: What all environments at this address use now.
        used_by_env: What this one uses of it.
        used_by_symbol: What the symbols with a share of their own use of that.
        others: What somebody else at this address uses, by the exchange's own report.
        held_s: Seconds until it is whole again, after the exchange said that nothing is left.
    """

    quota: str
    amount: float
    window_s: float
    env: str
    share: float
    used: float
    used_by_env: float
    used_by_symbol: dict[str, float]
    others: float
    held_s: float


@dataclass(frozen=True, slots=True)
class ExchangeUse:
    """One exchange, asked from one address.

    Attributes:
        exchange: Its name.
        egress: Name of the address.
        requests: Given leave since the bus was set up.
        waits: How many of them had to wait.
        waited_s: Seconds they waited, added up.
        limited: How often the exchange refused and everybody was held.
        cool_down_s: Seconds that it must still be left alone.
        reason: Of that, or of the last time; empty: there was none.
        quotas: Their use.
        processes: Who asks now.
        host: Where it is asked, if that is on this machine or several are asked; empty: where it always is.
    """

    exchange: str
    egress: str
    requests: int
    waits: int
    waited_s: float
    limited: int
    cool_down_s: float
    reason: str
    quotas: list[QuotaUse]
    processes: list[About]
    host: str = ""

    def waiting(self, priority: str) -> int:
        """Return how many requests of a priority waited when their processes last said so."""
        return sum(process.waiting for process in self.processes if process.priority == priority)


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """What the bus knows.

    Attributes:
        bus: Where it is: ``embedded`` or an address without its password.
        is_running: Whether it answers. Where it does not, nobody asks, or everybody counts alone.
        problem: Why it does not answer, where that is not simply because nobody asks.
        exchanges: By name.
    """

    bus: str
    is_running: bool
    problem: str
    exchanges: list[ExchangeUse]


def read_report(settings: Settings) -> BudgetReport:
    """Read what the bus knows now.

    Raises:
        ConfigError: the folder for the bus's socket belongs to somebody else.
    """
    address = bus_address(settings)
    where = "embedded" if address.keeps else masked(address.url)
    client = Redis.from_url(
        address.url, socket_timeout=CONNECT_S, socket_connect_timeout=CONNECT_S, retry=Retry(NoBackoff(), 0)
    )
    with closing(client):
        try:
            names = sorted(name.decode() for name in _command(client, "SMEMBERS", EXCHANGES))
            return BudgetReport(where, True, "", _with_hosts([_exchange(client, name) for name in names]))
        except (RedisError, OSError) as error:
            is_idle = address.keeps is not None and _is_nobody_there(error)
            return BudgetReport(where, False, "" if is_idle else str(error), [])


def _is_nobody_there(error: Exception) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _command(client: Redis, *arguments: Any) -> Any:
    return cast("Any", client).execute_command(*arguments)  # the library leaves it untyped


def _with_hosts(uses: list[ExchangeUse]) -> list[ExchangeUse]:
    """Keep the host where it says something: a stand-in on this machine, or one exchange at several hosts."""
    known = Counter((use.egress, use.exchange) for use in uses)
    return [
        use if _is_loopback(use.host) or known[use.egress, use.exchange] > 1 else replace(use, host="") for use in uses
    ]


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _exchange(client: Redis, name: str) -> ExchangeUse:
    key = f"{PREFIX}{{{name}}}"
    egress, _, counted = name.partition(":")
    exchange, _, host = counted.partition("@")
    raw = _command(client, "HGETALL", f"{key}:state")
    state = {field.decode(): value.decode(errors="replace") for field, value in raw.items()}
    now = _now(state)
    return ExchangeUse(
        exchange=exchange,
        egress=egress,
        requests=int(_number(state, "asked")),
        waits=int(_number(state, "waits")),
        waited_s=_number(state, "waited_s"),
        limited=int(_number(state, "limited")),
        cool_down_s=max(0.0, _number(state, "cool") - now),
        reason=state.get("reason", ""),
        quotas=list(_quotas(client, key, state, now)),
        processes=sorted(_processes(client, key, now), key=lambda about: (about.host, about.pid)),
        host=host,
    )


def _now(state: dict[str, str]) -> float:
    """Return the count's clock as it is now, though nobody may have told it for a while."""
    ahead = state.get(f"ahead|{machine()}")
    if ahead is not None:
        return max(_number(state, "now"), time.monotonic() + float(ahead))
    return _number(state, "now") + max(0.0, time.time() - _number(state, "wall"))


def _quotas(client: Redis, key: str, state: dict[str, str], now: float) -> Iterator[QuotaUse]:
    known = {
        name.decode(): msgspec.msgpack.decode(packed)
        for name, packed in _command(client, "HGETALL", f"{key}:quotas").items()
    }
    shares = {name.decode(): float(share) for name, share in _command(client, "HGETALL", f"{key}:shares").items()}
    for label, share in sorted(shares.items()):
        quota, _, env = label.partition("|")
        amount, window_s, is_calendar = known[quota]
        used, ours, by_symbol = _used(client, f"{key}:asked:{quota}", env, now)
        is_current = is_calendar and _number(state, f"minute|{quota}") == time.time() // window_s
        yield QuotaUse(
            quota=quota,
            amount=amount,
            window_s=window_s,
            env=env,
            share=share,
            used=used,
            used_by_env=ours,
            used_by_symbol=by_symbol,
            others=_number(state, f"others|{quota}") if is_current else 0.0,
            held_s=max(0.0, _number(state, f"hold|{quota}") - now),
        )


def _used(client: Redis, key: str, env: str, now: float) -> tuple[float, float, dict[str, float]]:
    used = ours = 0.0
    by_symbol: dict[str, float] = {}
    for member in _command(client, "ZRANGEBYSCORE", key, f"({now!r}", "+inf"):
        _, cost, whose, symbol = member.decode().split("|", 3)
        used += float(cost)
        if whose == env:
            ours += float(cost)
            if symbol:
                by_symbol[symbol] = by_symbol.get(symbol, 0.0) + float(cost)
    return used, ours, by_symbol


def _processes(client: Redis, key: str, now: float) -> Iterator[About]:
    for packed in _command(client, "HVALS", f"{key}:clients"):
        said_at, about = msgspec.msgpack.decode(packed)
        if said_at > now - PRESENT_S:
            yield msgspec.json.decode(about, type=About)


def _number(state: dict[str, str], field: str) -> float:
    return float(state.get(field, 0.0))
