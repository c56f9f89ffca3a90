"""Keep one feed of each exchange running: adopt the one that runs, start one where none does, again when it dies.

A feed outlives whoever started it. That two never run is settled by its lease; what happens here is only how soon a
dead one is replaced. Not here: the feed, starting its process (``starting``), whether a holder lives (``holding``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from mdp.domain.market import Exchange
from mdp.errors import BusUnavailable, MdpError
from mdp.live.holding import Holder
from mdp.ports.live import LiveBus

LOOK_S = 0.1
"""How often each feed is looked at: a death is noticed within twice that."""

START_S = 40.0
"""So long a process may take until it holds its lease: it loads what it needs, on a machine that may be busy."""

STEADY_S = 30.0
"""A feed that ran so long did not die of its start: the next one follows at once."""

WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Before a start, by how many in a row died young."""


class Process(Protocol):
    """A feed that was started here."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def last_words(self) -> str:
        """Return the last line it wrote."""
        ...


class Log(Protocol):
    """Where people read what happened."""

    def info(self, message: str) -> None:
        """Say what is good to know."""
        ...

    def warning(self, message: str) -> None:
        """Say what a person must know."""
        ...


StartFeed = Callable[[Exchange], Process]


def lease_of(exchange: Exchange) -> str:
    """Return the name of the lease that the feed of an exchange holds."""
    return f"feed/{exchange.value}"


class FeedKeeper:
    """Keeps the feed of one exchange running; without ``start`` it only says who does."""

    def __init__(self, bus: LiveBus, exchange: Exchange, start: StartFeed | None, *, lease_s: float, log: Log) -> None:
        self.exchange = exchange
        self.starts = 0
        self._bus, self._start, self._lease_s, self._log = bus, start, lease_s, log
        self._process: Process | None = None
        self._started = self._held = self._not_before = 0.0
        self._died_young = 0
        self._holder: str | None = None
        self._gone: int | None = None
        self._seen = False
        self._looked = False
        self._blind_until = 0.0
        self._epoch = ""

    async def look(self) -> None:
        """Look once: free what a dead feed held, adopt what runs, start what does not, kill what hangs.

        Raises:
            BusUnavailable: nobody can tell who runs; a feed that died in the meantime is remembered.
        """
        self._gone = self._reap() or self._gone
        try:
            holder = await self._bus.holder_of(lease_of(self.exchange))
        except BusUnavailable:
            self._blind_until = time.monotonic()  # nobody could show a sign of life meanwhile
            raise
        if self._bus.epoch != self._epoch:  # another start of the server, which may know no lease
            self._epoch, self._blind_until = self._bus.epoch, time.monotonic()
        if holder is not None and self._is_dead(holder):
            await self._bus.revoke(lease_of(self.exchange), holder)
            self._holder = holder = None
        self._gone = None
        self._notice(holder)
        now = time.monotonic()
        if self._process is not None:
            self._kill_if_it_hangs(now)
        elif holder is None and self._start is not None and now >= self._not_before:
            await self._begin(self._start, now)

    @property
    def is_running(self) -> bool:
        """Tell whether anybody holds the lease, or a process that was started here is on its way."""
        return self._holder is not None or (self._process is not None and self._process.poll() is None)

    @property
    def process(self) -> Process | None:
        """The feed that was started here, if it was and has not died."""
        return self._process

    def _reap(self) -> int | None:
        """Return the number of our process where it ended since the last look."""
        process = self._process
        code = None if process is None else process.poll()
        if process is None or code is None:
            return None
        self._process = None
        lived = time.monotonic() - self._started
        self._died_young = 0 if lived >= STEADY_S else self._died_young + 1
        wait_s = WAITS_S[min(max(0, self._died_young - 1), len(WAITS_S) - 1)]
        self._not_before = time.monotonic() + wait_s
        again = f"in {wait_s:g} s" if wait_s else "at once"
        self._log.warning(
            f"feed {self.exchange.value} ended with code {code} after {lived:.1f} s, the next one starts {again}; "
            f"it said: {process.last_words()}"
        )
        return process.pid

    def _is_dead(self, holder: str) -> bool:
        """Tell whether a holder is known to be dead: our process that just ended, or one here that was seen before."""
        who = Holder.parse(holder)
        if who is None or not who.is_here:
            return False
        if self._gone == who.pid:
            return True
        was_seen, self._seen = self._seen and holder == self._holder, who.is_seen(self.exchange)
        is_ours = self._process is not None and self._process.pid == who.pid
        if was_seen and not self._seen and not is_ours:
            self._log.warning(f"feed {self.exchange.value} ({holder}) died; the next one starts at once")
            return True
        return False

    def _notice(self, holder: str | None) -> None:
        """Remember who holds the lease, and say when that is somebody else."""
        if holder is not None:
            self._held = time.monotonic()
        if holder == self._holder and self._looked:
            return
        who = None if holder is None else Holder.parse(holder)
        is_ours = who is not None and self._process is not None and self._process.pid == who.pid
        if holder is not None and not is_ours:
            self._log.info(f"feed {self.exchange.value} runs already ({holder}): adopted")
        elif holder is not None:
            took = time.monotonic() - self._started
            self._log.info(f"feed {self.exchange.value} runs ({holder}), {took:.1f} s after its start")
        elif self._looked and self._process is None:
            next_one = "one is started" if self._start is not None else "it is a service, which others start again"
            self._log.warning(f"nobody holds the lease of feed {self.exchange.value} any more; {next_one}")
        self._holder, self._looked = holder, True

    def _kill_if_it_hangs(self, now: float) -> None:
        process = self._process
        was_there = self._held > self._started
        if process is None or self._holder is not None:
            return
        if now - max(self._held, self._started, self._blind_until) > (3 * self._lease_s if was_there else START_S):
            why = "shows no sign of life" if was_there else f"did not come up within {START_S:g} s"
            self._log.warning(f"feed {self.exchange.value} ({process.pid}) {why}; it is killed")
            process.kill()

    async def _begin(self, start: StartFeed, now: float) -> None:
        try:
            self._process = await asyncio.to_thread(start, self.exchange)
        except OSError as error:
            self._died_young += 1
            self._not_before = now + WAITS_S[min(self._died_young, len(WAITS_S) - 1)]
            self._log.warning(f"feed {self.exchange.value} could not be started: {error}")
            return
        self.starts += 1
        self._started = time.monotonic()
        self._log.info(f"feed {self.exchange.value} started (process {self._process.pid})")


class Supervisor:
    """Keeps the feeds of some exchanges running, and says that they are wanted, until told otherwise.

    Without ``start`` feeds are services of their own: they are neither started nor ended, only looked at.
    """

    def __init__(
        self,
        bus: LiveBus,
        exchanges: Iterable[Exchange],
        start: StartFeed | None,
        *,
        lease_s: float,
        linger_s: float,
        log: Log,
    ) -> None:
        self.starts_feeds = start is not None
        self.keepers = [FeedKeeper(bus, exchange, start, lease_s=lease_s, log=log) for exchange in exchanges]
        self._bus, self._linger_s, self._log = bus, linger_s, log
        self._is_away = False

    async def run(self) -> None:
        """Work until cancelled. A bus that is away stops nothing but the starting of feeds."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._want())
            for keeper in self.keepers:
                tasks.create_task(self._keep(keeper))

    async def dismiss(self, *, within_s: float) -> Sequence[Exchange]:
        """Say that no feed is wanted any more and wait for their end. Only once :meth:`run` was cancelled.

        Args:
            within_s: How long to wait.

        Returns:
            Those that are still there.
        """
        if not self.starts_feeds:
            return ()
        deadline = time.monotonic() + within_s
        left, problem = list(self.keepers), ""
        while left and time.monotonic() < deadline:
            try:
                for keeper in left:
                    await self._bus.tell(f"wanted/{keeper.exchange.value}", b"", for_s=0.001)
                    await self._bus.tell(f"unwanted/{keeper.exchange.value}", b"", for_s=within_s + 1)
                await asyncio.sleep(LOOK_S)
                left = [keeper for keeper in left if await self._is_there(keeper)]
            except BusUnavailable as error:  # it may be back in a moment, and feeds must not be left running
                problem = str(error)
                await asyncio.sleep(LOOK_S)
        if left and problem:
            self._log.warning(f"feeds could not be told to end: {problem}; they end by themselves, being unwanted")
        with suppress(BusUnavailable):
            await self._take_back()
        return [keeper.exchange for keeper in left]

    async def _is_there(self, keeper: FeedKeeper) -> bool:
        process = keeper.process
        if process is not None and process.poll() is None:
            return True
        return await self._bus.holder_of(lease_of(keeper.exchange)) is not None

    async def _take_back(self) -> None:
        """Forget that a feed was unwanted, so that the next one does not hear it."""
        for keeper in self.keepers:
            await self._bus.tell(f"unwanted/{keeper.exchange.value}", b"", for_s=0.001)

    async def _want(self) -> None:
        is_first = True
        while True:
            try:
                if is_first:
                    await self._take_back()
                for keeper in self.keepers:
                    await self._bus.tell(f"wanted/{keeper.exchange.value}", b"", for_s=self._linger_s)
                is_first = False
            except BusUnavailable as error:
                self._away(error)
            await asyncio.sleep(1)

    async def _keep(self, keeper: FeedKeeper) -> None:
        while True:
            try:
                await keeper.look()
                self._back()
            except BusUnavailable as error:
                self._away(error)
            await asyncio.sleep(LOOK_S)

    def _away(self, error: MdpError) -> None:
        if not self._is_away:
            self._is_away = True
            self._log.warning(f"the bus is away: {error}; feeds keep what they know and hand it on when it is back")

    def _back(self) -> None:
        if self._is_away:
            self._is_away = False
            self._log.info("the bus is back")
