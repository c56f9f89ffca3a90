"""The job that keeps buffers alive and stores what closes: one op, for about an hour, then the next run follows.

Not here: what the run does (``live_run``), who launches it (``live_sensor``), the asset it reports on
(``assets.live``).
"""

import asyncio
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from mdp.config.reference import Reference
from mdp.config.settings import Settings
from mdp.defs.failures import as_failure
from mdp.defs.queue import LIVE, PLACE_TAG
from mdp.defs.run_workers import watched_in_process_executor
from mdp.errors import ConfigError
from mdp.ports import CandleStore

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

TAGS = {
    PLACE_TAG: LIVE,
    "dagster/max_runtime": str(24 * 3_600 + 600),
    "dagster/max_retries": "0",  # the sensor launches the next one, and sooner
    "dagster/priority": "100",
}


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Hold the lease `live`, keep one feed of each exchange running, store every minute that closed, and "
    "report each flush as a materialization of `live_buffers`. Ends by itself after MDP_LIVE__RUN_MINUTES.",
)
async def keep_live_buffers(
    context: dg.OpExecutionContext,
    store: dg.ResourceParam[CandleStore],
    reference: dg.ResourceParam[Reference],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Work until the time is over, the sensor is turned off, or the run is terminated."""
    # when needed: no other run, and nobody who only loads the definitions, talks to the bus
    from mdp.bus import open_live_bus
    from mdp.defs.live_log import RunLog
    from mdp.defs.live_run import Ending, LiveRun
    from mdp.defs.live_surroundings import InDagster, keeper_of
    from mdp.live.starting import feed_starter
    from mdp.live.supervising import Supervisor
    from mdp.sources import market_clock

    with as_failure(), RunLog(context) as log:
        if settings.mode != "live":
            raise ConfigError("MDP_MODE", got=settings.mode, expected="live, for a live run to do anything")
        live = settings.live
        clock = market_clock(settings)
        async with open_live_bus(settings) as bus:
            around = InDagster(context, bus, settings, log, lags=deque(maxlen=30))
            start = feed_starter(settings) if live.start_feeds else None
            supervisor = Supervisor(bus, around.exchanges, start, lease_s=live.lease_s, linger_s=live.linger_s, log=log)
            keep = keeper_of(bus, store, reference, clock, settings)
            run = LiveRun(bus, context.run.run_id, supervisor, keep, around, live, log)
            with _told_of_interrupts(partial(run.end, Ending.INTERRUPTED)):
                ending = await run.work()
    if ending is Ending.INTERRUPTED:
        raise DagsterExecutionInterruptedError
    if ending is Ending.REPLACED:
        raise dg.Failure("another live run holds the lease: this one ended", allow_retries=False)


@contextmanager
def _told_of_interrupts(tell: partial[None]) -> Iterator[None]:
    """Call ``tell`` inside the event loop where Dagster would raise in the middle of whatever is at work."""
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in _INTERRUPTS}
    with suppress(ValueError, RuntimeError):  # not in the main thread: nobody interrupts it there
        for number in _INTERRUPTS:
            loop.add_signal_handler(number, tell)
    try:
        yield
    finally:
        with suppress(ValueError, RuntimeError):
            for number, handler in handlers.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)


@dg.job(
    name="live_job",
    executor_def=watched_in_process_executor,
    tags=TAGS,
    description="Keep the buffers of live trading and store what closes. Turn `live_sensor` on, do not launch it: the "
    "sensor launches the next run when one ends, and frees one whose process died.",
)
def live_job() -> None:
    """One step, as long as the run."""
    keep_live_buffers()
