"""A real server for the tests of one session, and the script as a caller with a clock of its own sees it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from mdp.bus.address import socket_path
from mdp.bus.messages import Answered, Ask, Hello, QuotaTerms, Reply, Told, Want
from mdp.bus.script import SCRIPT
from mdp.bus.server import start_server

TIMEOUT_S = 3.0
RUN = "the server of this test"


@pytest.fixture(scope="session")
def bus_dir() -> Iterator[Path]:
    """A data directory whose server runs; every test uses an exchange or an address of its own."""
    with tempfile.TemporaryDirectory(prefix="mdp-bus-") as folder:
        data_dir = Path(folder)
        (data_dir / "bus").mkdir()
        lock = os.open(data_dir / "bus" / "keeper.lock", os.O_RDWR | os.O_CREAT)
        server = start_server(data_dir, lock)
        yield data_dir
        server.end()
        os.close(lock)


@pytest.fixture(scope="session")
def redis(bus_dir: Path) -> Iterator[Redis]:
    client = Redis(unix_socket_path=str(socket_path(bus_dir)))
    yield client
    client.close()


class Caller:
    """One process, as the script sees it, on a clock that the test moves."""

    names = itertools.count()

    def __init__(self, redis: Redis, name: str, *quotas: QuotaTerms, **says) -> None:
        self.redis, self.name = redis, name
        self.number = next(Caller.names)
        said = {"machine": "one", "env": "local-dev", "timeout": TIMEOUT_S, "horizon": 0.0, "mono": 0.0, **says}
        self.words = Ask(name=name, client=f"c{self.number}", quotas=list(quotas), **said)
        self.minutes = [0] * len(quotas)
        self.request = 0

    def say(self, now: float, **says) -> Reply:
        script = self.redis.register_script(SCRIPT)
        words = msgspec.structs.replace(self.words, mono=now, **says)
        key = f"mdp:budget:{{{self.name}}}"
        reply = msgspec.msgpack.decode(script(keys=[key], args=[msgspec.msgpack.encode(words)]), type=Reply)
        ahead = reply.now - now
        if reply.epoch != self.words.epoch or self.words.ahead is None or ahead > self.words.ahead:
            self.words.ahead = ahead
        self.words.epoch, self.words.waiting_at, self.minutes = reply.epoch, reply.waiting_at, reply.minutes
        return reply

    def hello(self, now: float, *, run: str = RUN, uptime: float = 0.0, is_new: bool = True, **says) -> Reply:
        return self.say(now, hello=Hello(run, uptime, f"epoch{self.number}", is_new), **says)

    def want(self, cost: float = 1, symbol: str = "", symbol_limit: float = 0) -> Want:
        self.request += 1
        costs = [(number, cost) for number in range(len(self.words.quotas))]
        return Want(f"{self.words.client}.{self.request}", symbol, costs, [symbol_limit] * len(costs) if symbol else [])

    def ask(self, now: float, *wants: Want, **says) -> list[float]:
        return self.say(now, wants=list(wants or (self.want(),)), **says).waits

    def end(self, want: Want, age: float = 0.0, told: list[Told] | None = None) -> Answered:
        return Answered(want.id, want.symbol, want.costs, age, self.minutes, told or [])


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Name of an exchange at an address that no other test uses."""
    return f"{request.node.name}{next(Caller.names)}:binance"


@pytest.fixture
def caller(redis: Redis, name: str):
    """Make a process that has said hello at 1000 s of its clock."""

    def make(*quotas: QuotaTerms, at: float = 1_000.0, **says) -> Caller:
        made = Caller(redis, name, *quotas, **says)
        made.hello(at)
        return made

    return make


def per_window(amount: float, window: float = 10.0, share: float | None = None, **more) -> QuotaTerms:
    """Return a quota called ``weight``, all of it ours unless said otherwise."""
    terms = {"name": "weight", "calendar": False, **more}
    return QuotaTerms(amount=amount, window=window, share=amount if share is None else share, **terms)
