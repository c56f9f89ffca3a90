"""The server's side of all streams: who may connect, who is connected, what is due for them each second.

Not here: one connection (``connection``), what is pushed (``pump``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable

from websockets.http11 import Request

from mdp.domain.market import Exchange
from mdp.simulator.clock import SimulatedClock
from mdp.simulator.markets import MARKETS_BY_ID, SIMULATED_INDICES
from mdp.simulator.script import Asked, Entry
from mdp.simulator.simulation import Simulation
from mdp.simulator.stream_faults import StreamRefused, StreamRejected
from mdp.simulator.streams.binance import BinanceSpeech
from mdp.simulator.streams.bybit import BybitSpeech
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.deribit import DeribitSpeech
from mdp.simulator.streams.okx import OkxSpeech
from mdp.simulator.streams.pump import Pump
from mdp.simulator.streams.speech import Speech
from mdp.simulator.streams.updates import MinuteTeller, Teller, TickTeller

_BEAT_S = 1.0


class Hub:
    """All streams of one simulated world.

    Attributes:
        clock: The world's.
        pump: Pushes what is due.
    """

    def __init__(self, simulation: Simulation, clock: SimulatedClock) -> None:
        self._simulation = simulation
        self.clock = clock
        self.pump = Pump(simulation, clock, self._teller)
        self._speeches: dict[str, Speech] = {
            speech.exchange.value: speech
            for speech in (BinanceSpeech(self), BybitSpeech(self), OkxSpeech(self), DeribitSpeech(self))
        }
        self._connections: dict[Connection, None] = {}
        self._beating: asyncio.TimerHandle | None = None

    def greet(self, connection: Connection, request: Request) -> None:
        """Finish a handshake, or refuse it."""
        at_s = time.time()
        prefix, _, rest = request.path.removeprefix("/").partition("/")
        path, _, query = f"/{rest}".partition("?")
        speech = self._speeches.get(prefix)
        if speech is None:
            connection.refuse(404, "Not Found")
            return
        connection.path, connection.query, connection.client = path, query, _client_of(connection, request)
        entry = self._refusal(speech.exchange, path)
        refusal = speech.refusal(path, connection.client)
        status = 101
        if entry is not None and isinstance(entry.fault, StreamRefused):
            status = entry.fault.status
            connection.refuse(status, "Refused", entry.fault.retry_after_s)
        elif refusal is not None:
            status = refusal[0]
            connection.refuse(*refusal)
        elif connection.accept(request):
            self._begin(connection, speech)
        else:
            status = 400
        self._simulation.requests.add(
            at_s=at_s, exchange=speech.exchange, status=status, client=connection.client, method="GET",
            path=f"/{prefix}{path}", query=query, size=0, quota_left=None,
            faults=() if entry is None else (f"{entry.number}:stream_refused",),
        )  # fmt: skip

    def leave(self, connection: Connection) -> None:
        """Forget a connection that ended."""
        if connection not in self._connections or connection.speech is None:
            return
        del self._connections[connection]
        for symbol in set(connection.topics.values()):
            self.pump.part(connection.speech, symbol, connection)
        connection.speech.closed(connection)
        self._simulation.streams.remove(connection)

    def count(self, exchange: Exchange, client: str) -> int:
        """Return how many connections an address has to an exchange."""
        return sum(
            one.client == client and one.speech is not None and one.speech.exchange is exchange
            for one in self._connections
        )

    def rejection(self, connection: Connection, symbol: str | None) -> StreamRejected | None:
        """Return the scripted fault that refuses a subscription; None: there is none."""
        if connection.speech is None or not self._simulation.faults.entries:
            return None
        asked = Asked(connection.speech.exchange, "stream", connection.path, symbol, self.clock())
        entry = self._simulation.faults.choose(asked, (StreamRejected,))
        return entry.fault if entry is not None and isinstance(entry.fault, StreamRejected) else None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in so many real seconds."""
        asyncio.get_running_loop().call_later(seconds, action)

    def _refusal(self, exchange: Exchange, path: str) -> Entry | None:
        if not self._simulation.faults.entries:
            return None
        return self._simulation.faults.choose(Asked(exchange, "stream", path, None, self.clock()), (StreamRefused,))

    def _begin(self, connection: Connection, speech: Speech) -> None:
        connection.speech = speech
        connection.opened_ms, connection.opened_s = self.clock(), time.monotonic()
        connection.number = self._simulation.streams.add(connection)
        self._connections[connection] = None
        speech.opened(connection)
        if self._beating is None:
            self._beating = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)

    def _beat(self) -> None:
        now_s = time.monotonic()
        for connection in tuple(self._connections):
            if connection.is_frozen:
                connection.drop_if_gone()
            elif connection.is_open and connection.speech is not None:
                connection.speech.beat(connection, now_s)
        self._beating = asyncio.get_running_loop().call_later(_BEAT_S, self._beat) if self._connections else None

    def _teller(self, speech: Speech, market_id: str) -> tuple[Teller, float]:
        """What knows a market's minutes, and its share of a period by which it comes after its neighbours."""
        place = list(speech.market_ids).index(market_id) / len(speech.market_ids)
        if speech.exchange is Exchange.DERIBIT:
            return TickTeller(self._simulation, SIMULATED_INDICES[market_id]), 0.0
        return MinuteTeller(self._simulation, MARKETS_BY_ID[speech.exchange][market_id]), place


def _client_of(connection: Connection, request: Request) -> str:
    """The address a client comes from; who asks from this machine may say another, as for REST."""
    peer = connection.transport.get_extra_info("peername")
    address = str(peer[0]) if peer else "unknown"
    try:
        forwarded = request.headers.get("X-Forwarded-For", "").partition(",")[0].strip()
        if forwarded and ipaddress.ip_address(address).is_loopback:
            return str(ipaddress.ip_address(forwarded))
    except ValueError:
        pass
    return address
