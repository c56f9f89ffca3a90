"""Who is killed, when, and how long it takes until its work goes on.

Not here: what is started (``world``), what must hold in the end (``verdict``).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field

import dagster as dg
import redis

from mdp.bus import open_live_bus
from mdp.bus.address import bus_address
from mdp.domain.market import Exchange
from mdp.errors import BusUnavailable
from mdp.live.health import FeedHealth, read_health, told_under
from mdp.ports import LiveBus
from mdp_tests.soak.world import World

VICTIMS = ("feed", "run", "bus", "daemon")
PATIENCE_S = 120.0


@dataclass
class Chaos:
    """Kills, and keeps the times.

    Attributes:
        recovery_s: For each kind of victim, how long each recovery took; infinity where it did not come.
        memory_mb: For each exchange, samples of its feed's memory with the age of the process in seconds.
        notes: What a person must know.
    """

    world: World
    instance: dg.DagsterInstance
    seed: int
    recovery_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory_mb: dict[str, list[tuple[int, float, float]]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    async def rage(self, seconds: float, *, every_s: float, spared: frozenset[Exchange] = frozenset()) -> None:
        """Kill one after the other for some real seconds, each kind as often as the others.

        Args:
            seconds: For how long.
            every_s: From one kill to the next.
            spared: Exchanges whose feed is never killed, so that its memory can be watched.
        """
        dice = random.Random(self.seed)
        until = time.monotonic() + seconds
        async with open_live_bus(self.world.settings) as bus:
            sampling = asyncio.create_task(self._sample(bus))
            try:
                while time.monotonic() < until:
                    for victim in dice.sample(VICTIMS, len(VICTIMS)):
                        await asyncio.sleep(every_s * dice.uniform(0.7, 1.3))
                        if time.monotonic() > until:
                            break
                        exchange = dice.choice([one for one in Exchange if one not in spared])
                        await self._kill(victim, bus, exchange)
            finally:
                sampling.cancel()

    async def _kill(self, victim: str, bus: LiveBus, exchange: Exchange) -> None:
        name = f"feed {exchange.value}" if victim == "feed" else victim
        try:
            took_s = await {
                "feed": lambda: self._kill_feed(bus, exchange),
                "run": lambda: self._kill_run(bus),
                "bus": lambda: self._kill_bus(bus),
                "daemon": self._kill_daemon,
            }[victim]()
        except BusUnavailable as error:
            self.notes.append(f"{name}: not killed, for the bus was away: {error}")
            return
        if took_s is None:
            self.notes.append(f"{name}: was not there to be killed at {self.world.now():%H:%M}")
            return
        self.recovery_s[victim].append(took_s)
        print(f"  {self.world.now():%m-%d %H:%M} killed {name}: back in {took_s:.2f} s", flush=True)

    async def _kill_feed(self, bus: LiveBus, exchange: Exchange) -> float | None:
        """Until the first candle of the exchange is published again."""
        health = await self.health(bus, exchange)
        if health is None:
            return None
        pattern = f"candles.{exchange.value}.*.1m"
        await asyncio.wait_for(anext(bus.subscribe(pattern)), PATIENCE_S)
        os.kill(health.pid, signal.SIGKILL)
        at = time.monotonic()
        await asyncio.sleep(0.2)  # what was under way when it died does not count
        while time.monotonic() < at + PATIENCE_S:
            # it may have been the one that kept the server of the bus, which then goes with it and comes back
            with suppress(TimeoutError, BusUnavailable):
                await asyncio.wait_for(anext(bus.subscribe(pattern)), PATIENCE_S)
                return time.monotonic() - at
            await asyncio.sleep(0.02)
        return float("inf")

    async def _kill_run(self, bus: LiveBus) -> float | None:
        """Until another run holds the lease."""
        holder = await bus.holder_of("live")
        pid = self.world.run_worker(self.instance, holder) if holder else None
        if pid is None:
            return None
        os.kill(pid, signal.SIGKILL)
        at = time.monotonic()
        while time.monotonic() < at + PATIENCE_S:
            await asyncio.sleep(0.1)
            with suppress(BusUnavailable):
                if await bus.holder_of("live") not in (None, holder):
                    return time.monotonic() - at
        return float("inf")

    async def _kill_bus(self, bus: LiveBus) -> float | None:
        """Until the bus answers again."""
        client = redis.Redis.from_url(bus_address(self.world.settings).url)
        pid = client.info("server")["process_id"]
        client.close()
        os.kill(pid, signal.SIGKILL)
        at = time.monotonic()
        while time.monotonic() < at + PATIENCE_S:
            with suppress(BusUnavailable):
                await bus.backlog()
                return time.monotonic() - at
            await asyncio.sleep(0.02)
        return float("inf")

    async def _kill_daemon(self) -> float | None:
        """It is started again at once, as a service manager does; until it beats is Dagster's own matter."""
        process = self.world.processes["daemon"]
        process.kill()
        process.wait()
        at = time.monotonic()
        self.world.start("daemon")
        while time.monotonic() < at + PATIENCE_S:
            beats = [one.timestamp for one in self.instance.get_daemon_heartbeats().values()]
            if beats and max(beats) > time.time() - (time.monotonic() - at):
                return time.monotonic() - at
            await asyncio.sleep(0.3)
        return float("inf")

    async def health(self, bus: LiveBus, exchange: Exchange) -> FeedHealth | None:
        """Return what the feed of an exchange says of itself."""
        said = (await bus.told(told_under(exchange.value))).get(told_under(exchange.value))
        return read_health(said) if said else None

    async def _sample(self, bus: LiveBus) -> None:
        while True:
            for exchange in Exchange:
                with suppress(BusUnavailable):
                    if health := await self.health(bus, exchange):
                        age_s = time.time() - health.started_us / 1e6
                        self.memory_mb[exchange.value].append((health.pid, age_s, health.rss_mb))
            await asyncio.sleep(5)
