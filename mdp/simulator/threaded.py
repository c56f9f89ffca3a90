"""The simulator in a thread of a program that tests against it: its address, its faults, its log, its clock.

Not here: the fixtures (``pytest``), the simulator as a process (``server``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from mdp.domain.interval import parse_time
from mdp.domain.market import Exchange
from mdp.errors import InputError
from mdp.simulator.alterations import Alterations
from mdp.simulator.app import create_app
from mdp.simulator.clock import SimulatedClock
from mdp.simulator.encoded_pages import PageCache
from mdp.simulator.lines import Line, Lines
from mdp.simulator.request_log import LoggedRequest, RequestLog
from mdp.simulator.scenarios import load_scenario
from mdp.simulator.script import FaultScript
from mdp.simulator.server import HOST, Server, bind
from mdp.simulator.simulation import DEFAULT_STREAM_RATE, Quotas, Simulation, build_simulation, require_simulated
from mdp.simulator.stream_log import StreamLog

_PATIENCE_S = 10.0


class ExchangeSimulator:
    """A running simulator.

    Attributes:
        url: Scheme, host and port, such as ``http://127.0.0.1:43210``.
        simulation: The world it serves.
    """

    def __init__(self, url: str, simulation: Simulation) -> None:
        self.url = url
        self.simulation = simulation

    @property
    def faults(self) -> FaultScript:
        """The script of what goes wrong: ``.add(kind=…, exchange=…, …)``, ``.remove(number)``, ``.clear()``."""
        return self.simulation.faults

    def url_of(self, exchange: str) -> str:
        """Return what stands in front of an exchange's own paths, such as ``/api/v3/klines``.

        Raises:
            InputError: not one of the exchanges.
        """
        return f"{self.url}/{_known(exchange).value}"

    def archive_url_of(self, exchange: str) -> str:
        """Return what stands in front of the paths of an exchange's bulk files."""
        return f"{self.url_of(exchange)}-archive"

    def ccxt_urls(self, exchange: str) -> dict[str, object]:
        """Return the configuration with which CCXT asks it: ``ccxt.binance(simulator.ccxt_urls("binance"))``.

        The same for its synchronous, asynchronous and streaming classes. Only spot markets are loaded.
        """
        http = self.url_of(exchange)
        stream = http.replace("http", "ws", 1)
        urls: Mapping[Exchange, dict[str, object]] = {
            Exchange.BINANCE: {
                "public": f"{http}/api/v3", "sapi": f"{http}/sapi/v1", "ws": {"spot": f"{stream}/stream/ws"},
            },
            Exchange.BYBIT: {"public": http, "ws": {"public": {"spot": f"{stream}/v5/public/spot"}}},
            Exchange.OKX: {"rest": http, "ws": f"{stream}/ws/v5"},
            Exchange.DERIBIT: {"rest": http, "ws": f"{stream}/ws/api/v2"},
        }  # fmt: skip
        config: dict[str, object] = {"urls": {"api": urls[_known(exchange)]}}
        if exchange != Exchange.DERIBIT:
            config["options"] = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", "fetchMargins": False}
        return config

    def requests(self, exchange: str | None = None, since: int = 0) -> list[LoggedRequest]:
        """Return what was asked, oldest first: of one exchange or of all, after the request of a number."""
        return self.simulation.requests.since(since, None if exchange is None else _known(exchange))

    def quotas(self) -> dict[str, object]:
        """Return the use of every quota: now, the highest in any window, and how often it was refused."""
        return self.simulation.quotas.describe()

    def stream_url_of(self, exchange: str) -> str:
        """Return what stands in front of the paths of an exchange's streams, such as ``/v5/public/spot``."""
        return self.url_of(exchange).replace("http", "ws", 1)

    def set_now(self, moment: datetime | str | None = None, speed: float | None = None) -> None:
        """Set the simulated clock, or its speed; it goes on from there.

        Args:
            moment: UTC time, or text such as ``2025-01-08T00:00Z``; None: what it shows.
            speed: Simulated seconds in a real one, from 0.01 to 1000; None: as before.

        Raises:
            InputError: not a simulated time, or not such a speed.
        """
        self.simulation.set_now(None if moment is None else _moment(moment), speed)

    def streams(self) -> dict[str, object]:
        """Return who is connected to the streams, ``open``, and who was, ``ended``."""
        return self.simulation.streams.describe()

    def set_line(self, exchange: str | None = None, **fields: float) -> None:
        """Set latency and bandwidth of one exchange or of all.

        Args:
            exchange: None: all of them.
            fields: ``latency_ms``, ``jitter_ms``, ``bandwidth_mbit``.
        """
        for name in list(Exchange) if exchange is None else [_known(exchange)]:
            self.simulation.lines.set(name, Line(**fields))


@contextmanager
def running_in_thread(
    world: Simulation | None = None,
    *,
    now: datetime | str = "2025-01-08T00:00Z",
    scenario: str | None = None,
    speed: float = 1.0,
    stream_rate: float = DEFAULT_STREAM_RATE,
) -> Iterator[ExchangeSimulator]:
    """Serve on a free port of the loopback address until the block ends.

    Args:
        world: Whose candles are served; None: those that come with the package. Its clock, quotas, faults and log are
            not used: every server has its own.
        now: Where its simulated clock starts.
        scenario: What goes wrong: a scenario file, or the name of a carried one.
        speed: Simulated seconds in a real one, from 0.01 to 1000.
        stream_rate: Messages a real second that one market's stream has at most.

    Raises:
        InputError: ``now``, ``scenario`` or ``speed`` cannot be used.
    """
    clock, faults = SimulatedClock(require_simulated(_moment(now), "now"), speed), FaultScript()
    shared = world or build_simulation(clock=clock)
    simulation = replace(
        shared,
        clock=clock,
        quotas=Quotas.real(),
        faults=faults,
        alterations=Alterations(faults, shared.history, clock),
        requests=RequestLog(),
        lines=Lines(),
        pages=PageCache(),
        streams=StreamLog(),
        stream_rate=stream_rate,
    )
    if scenario is not None:
        load_scenario(scenario).begin(simulation)
    with bind(0) as listener:
        server = Server(create_app(simulation), announces=False)
        thread = threading.Thread(target=server.run, args=([listener],), name="exchange-simulator", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield ExchangeSimulator(f"http://{HOST}:{listener.getsockname()[1]}", simulation)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE_S)


def _wait_until_started(server: Server, thread: threading.Thread) -> None:
    until_s = time.monotonic() + _PATIENCE_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until_s:
            raise RuntimeError("the simulator did not start")
        time.sleep(0.001)


def _known(exchange: str) -> Exchange:
    if exchange not in list(Exchange):
        raise InputError("exchange", got=exchange, expected=f"one of {', '.join(Exchange)}")
    return Exchange(exchange)


def _moment(moment: datetime | str) -> datetime:
    if isinstance(moment, datetime):
        return moment
    try:
        return parse_time(moment)
    except ValueError as error:
        raise InputError("now", got=moment, expected=str(error).removeprefix("expected ")) from None
