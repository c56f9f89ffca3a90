"""What is pushed when: each market's minute as it forms, the instant it closes, by the simulated clock.

One timer serves all markets. A message is made once, however many subscribed. Not here: the words (the exchanges'
modules), what faults do to a message (``spoiling``).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from mdp.simulator.candles import MINUTE_MS
from mdp.simulator.clock import SimulatedClock
from mdp.simulator.simulation import Simulation
from mdp.simulator.streams.connection import Connection
from mdp.simulator.streams.frames import text_frame
from mdp.simulator.streams.speech import Speech
from mdp.simulator.streams.spoiling import Spoiling, suffer
from mdp.simulator.streams.updates import Teller, Update

_SOONEST_S = 0.0005
"""Below this the loop turns instead of sleeping: its timers know whole milliseconds."""

_TURNING_S = 0.0025
"""The same for the end of a minute, which is told in its instant; a loop with much to do may be a little late."""

_AHEAD_S = 0.02
"""So long before a minute ends its last message is made, so that all markets' go out in the instant itself."""


@dataclass(eq=False, slots=True)
class Source:
    """One market whose messages somebody wants.

    Attributes:
        speech: The exchange's words.
        market_id: The exchange's own spelling.
        symbol: Ours.
        teller: Knows what there is to say.
        phase: Share of a period by which its messages come after those of others.
        subscribers: Who wants them.
        next_close_ms: When the open minute ends.
        next_tick_ms: When the next message about it is due.
        said: What was said last, for exchanges that repeat nothing, and when.
        held: A message that is to come after the next one.
        ready_ms: No message before this: an earlier one is still under way.
        prepared: The end of the open minute, and what will be said then.
    """

    speech: Speech
    market_id: str
    symbol: str
    teller: Teller
    phase: float
    subscribers: dict[Connection, None] = field(default_factory=dict)
    next_close_ms: int = 0
    next_tick_ms: int = 0
    said: tuple[Update, int] | None = None
    held: bytes | None = None
    ready_ms: int = 0
    prepared: tuple[int, Update | None, bytes] | None = None

    def prepare(self) -> None:
        """Make what is said when the open minute ends, once."""
        if self.prepared is None or self.prepared[0] != self.next_close_ms:
            update = self.teller.closed(self.next_close_ms)
            text = self.speech.say(self.market_id, update, self.next_close_ms) if update is not None else b""
            self.prepared = (self.next_close_ms, update, text)

    def plan(self, now_ms: int, step_ms: float) -> None:
        """Set when the next messages are due, after ``now_ms``: none is made up for."""
        opened_ms = now_ms - now_ms % MINUTE_MS
        self.next_close_ms = opened_ms + MINUTE_MS
        since_ms = now_ms - opened_ms - self.phase * step_ms
        steps = int(since_ms // step_ms) + 1
        self.next_tick_ms = opened_ms + round((self.phase + steps) * step_ms)

    @property
    def due_ms(self) -> int:
        """When there is something to say."""
        return min(self.next_close_ms, self.next_tick_ms)


class Pump:
    """Pushes what is due. Belongs to one event loop, from the first subscription on."""

    def __init__(
        self, simulation: Simulation, clock: SimulatedClock, tellers: Callable[[Speech, str], tuple[Teller, float]]
    ) -> None:
        self._simulation = simulation
        self._clock = clock
        self._tellers = tellers
        self._sources: dict[tuple[Speech, str], Source] = {}
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._spoiling = Spoiling(simulation.faults)
        clock.listen(self._clock_was_set)

    def join(self, speech: Speech, market_id: str, symbol: str, connection: Connection) -> None:
        """Push a market's messages to a connection, from the next one on."""
        self._loop = asyncio.get_running_loop()
        source = self._sources.get((speech, symbol))
        if source is None:
            teller, phase = self._tellers(speech, market_id)
            source = self._sources[speech, symbol] = Source(speech, market_id, symbol, teller, phase)
            source.plan(self._clock(), self._step_ms(source))
        source.subscribers[connection] = None
        self._schedule()

    def part(self, speech: Speech, symbol: str, connection: Connection) -> None:
        """Push a market's messages to a connection no more."""
        source = self._sources.get((speech, symbol))
        if source is not None:
            source.subscribers.pop(connection, None)
            if not source.subscribers:
                del self._sources[speech, symbol]

    def _step_ms(self, source: Source) -> float:
        """Simulated time between two messages: the exchange's, or longer where the clock is fast."""
        return max(source.speech.period_ms, 1_000 * self._clock.speed / self._simulation.stream_rate)

    def _clock_was_set(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._replan)

    def _replan(self) -> None:
        now_ms = self._clock()
        for source in self._sources.values():
            source.plan(now_ms, self._step_ms(source))
            source.said, source.ready_ms, source.prepared = None, 0, None
        self._waiting = [(min(due_ms, now_ms), number, action) for due_ms, number, action in self._waiting]
        heapq.heapify(self._waiting)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dues = [source.due_ms for source in self._sources.values()]
        if self._waiting:
            dues.append(self._waiting[0][0])
        if not dues or self._loop is None:
            return
        in_s = self._clock.seconds_until(min(dues))
        close_in_s = min((self._clock.seconds_until(one.next_close_ms) for one in self._sources.values()), default=in_s)
        if close_in_s > _AHEAD_S:
            in_s = min(in_s, close_in_s - _AHEAD_S)
        elif close_in_s > _TURNING_S:
            in_s = min(in_s, close_in_s - _TURNING_S)
        if in_s < _SOONEST_S or close_in_s <= _TURNING_S:
            self._timer = self._loop.call_soon(self._fire)
        else:
            self._timer = self._loop.call_later(in_s, self._fire)

    def _fire(self) -> None:
        """Say what is due: first all minutes that closed, then what was held back, then the open minutes."""
        now_ms = self._clock()
        due = [source for source in self._sources.values() if source.due_ms <= now_ms]
        ended = [source for source in due if source.next_close_ms <= now_ms]
        for source in ended:
            self._say_closed(source, now_ms)
        while self._waiting and self._waiting[0][0] <= now_ms:
            heapq.heappop(self._waiting)[2]()
        for source in due:
            if source in ended:  # of the next minute is told at its first tick: nothing has traded yet
                source.plan(now_ms, self._step_ms(source))
            else:
                self._say_forming(source)
        for source in self._sources.values():
            if self._clock.seconds_until(source.next_close_ms) <= _AHEAD_S:
                source.prepare()
        self._schedule()

    def _say_closed(self, source: Source, now_ms: int) -> None:
        while source.next_close_ms <= now_ms:
            source.prepare()
            _, closed, text = source.prepared or (0, None, b"")
            source.next_close_ms += MINUTE_MS
            source.said = None
            if closed is not None:
                self._say(source, closed, text, now_ms)

    def _say_forming(self, source: Source) -> None:
        now_ms = self._clock()
        source_step = self._step_ms(source)
        update = source.teller.forming(now_ms)
        next_close_ms = source.next_close_ms
        source.plan(now_ms, source_step)
        # a minute that ended meanwhile is not skipped: it is closed first
        source.next_close_ms = min(next_close_ms, source.next_close_ms)
        if update is None or next_close_ms <= now_ms:
            return
        if source.said is not None and source.said[0] == update and now_ms - source.said[1] < source.speech.repeats_ms:
            return
        source.said = (update, now_ms)
        self._say(source, update, source.speech.say(source.market_id, update, now_ms), now_ms)

    def _say(self, source: Source, update: Update, message: bytes, now_ms: int) -> None:
        faults = self._spoiling.of_message(source, update, now_ms)
        if not faults and source.held is None and source.ready_ms <= now_ms:
            self._deliver(source, message)
            return
        for text, due_ms in self._spoiling.apply(faults, source, message, now_ms):
            if due_ms <= now_ms:
                self._deliver(source, text)
            else:
                action: Callable[[], None] = partial(self._deliver, source, text)
                heapq.heappush(self._waiting, (due_ms, next(self._numbers), action))

    def _deliver(self, source: Source, message: bytes) -> None:
        now_ms = self._clock()
        frame = text_frame(message)
        delay_s = self._simulation.lines.settings[source.speech.exchange].latency_ms / 2_000
        for connection in tuple(source.subscribers):
            fault = self._spoiling.of_connection(source, connection, now_ms)
            if fault is not None:
                suffer(connection, fault, now_ms)
            if connection.is_silent(source.symbol, now_ms):
                continue
            own = frame if not connection.is_wrapped else text_frame(source.speech.wrap(source.market_id, message))
            if delay_s and self._loop is not None:
                self._loop.call_later(delay_s, connection.write, own)
            else:
                connection.write(own)
