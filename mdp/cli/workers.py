"""The worker processes of a backfill: start them, order runs, hear of each durable partition, end them.

Also the worker without orders, which settles the runs of dead processes.
Not here: what a worker does with an order (``worker``), what is ordered and shown (``backfill``).
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from mdp.cli.processes import ServiceDied, dagster_environment, last_line, start, stop
from mdp.config.settings import Settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market

WORKER = (sys.executable, "-m", "mdp.cli.worker")
NO_DAEMON = "--no-daemon"
"""Tells a worker that no daemon of this instance is running, so that what one launched and did not end is dead."""

_LEAST_ROOM_BYTES = 2_000_000
_AWAKE_S = 0.2

Messages = queue.Queue[tuple[int, dict[str, object] | None]]
"""Which worker said what; None when it will say no more."""


@dataclass(frozen=True, slots=True)
class Work:
    """One Dagster run: some whole days of one market.

    ``resumes``: what was collected within a day is not asked again where nothing speaks against it.
    """

    market: Market
    window: Interval
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class Durable:
    """One partition of one asset has been stored."""

    work: Work
    asset: str
    partition: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended.

    Attributes:
        work: Which one.
        error: Empty exactly when it succeeded.
        retried: Why its requests were repeated, and how often.
    """

    work: Work
    error: str
    retried: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    orders: IO[bytes]
    listener: threading.Thread
    log: Path
    work: Work | None = None


def run_workers(
    settings: Settings, work: Sequence[Work], *, command: Sequence[str] = WORKER
) -> Iterator[Durable | Ended]:
    """Execute all work on as many processes as settings, cores and work allow; yield what happens, as it happens.

    A worker that dies fails its run, not the others. All workers, and whatever else asks an exchange from this machine,
    share its quota. When the caller stops listening, or is interrupted, all workers are interrupted, which ends their
    runs as failed.

    Args:
        settings: Of the parent; the workers read their own from the same environment.
        work: The runs, in the order in which they are given out.
        command: What a worker is; a test has one of its own.
    """
    messages = Messages()
    count = min(settings.workers, os.cpu_count() or 1, len(work))
    environment = dagster_environment(settings)
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_start(settings, number, command, environment, messages))
        yield from _work_off(deque(work), workers, messages)
    except (KeyboardInterrupt, GeneratorExit):
        sys.stderr.write("interrupted: runs under way end as failed; what they stored stays, --missing does the rest\n")
        raise
    finally:
        _end(workers)


def _work_off(waiting: deque[Work], workers: Sequence[_Worker], messages: Messages) -> Iterator[Durable | Ended]:
    alive = len(workers)
    while alive:
        number, message = _next(messages)
        worker = workers[number]
        if message is None:
            alive -= 1
            if worker.work is not None:
                yield Ended(worker.work, f"its process died: {_why_dead(worker)}")
                worker.work = None
        elif message["kind"] == "durable" and worker.work is not None:
            yield Durable(worker.work, str(message["asset"]), str(message["partition"]))
        else:
            if message["kind"] == "ended" and worker.work is not None:
                done, worker.work = worker.work, None
                error = "" if message["succeeded"] else str(message["error"]) or "it gave no reason"
                yield Ended(done, error, msgspec.convert(message.get("retried", {}), dict[str, int]))
            _order(worker, waiting)
    for left in waiting:
        yield Ended(left, f"no worker was left to run it: {last_line(workers[0].log)}")


def _next(messages: Messages) -> tuple[int, dict[str, object] | None]:
    """Wait for the next message, awake often enough for Ctrl-C.

    A signal that the kernel gives to another thread of ours does not wake the one that waits.
    """
    while True:
        with suppress(queue.Empty):
            return messages.get(timeout=_AWAKE_S)


def _why_dead(worker: _Worker) -> str:
    """A full disk cuts off the log that would tell of it."""
    free = shutil.disk_usage(worker.log.parent).free
    if free < _LEAST_ROOM_BYTES:
        return f"the disk of {worker.log.parent.parent} is full ({free:,} bytes free); make room, then --missing"
    return last_line(worker.log)


def settle_dead_runs(settings: Settings) -> None:
    """Mark the runs as failed whose process died; without one this costs nothing.

    Every worker does so as well when it starts, so only a command that has no work for one needs to call this.

    Raises:
        ServiceDied: the process that should have done it failed.
    """
    if any(_is_free(path) for path in (settings.run_dir / "runs").glob("*.lock")):
        work_without_orders(settings)


def work_without_orders(settings: Settings, *arguments: str, command: Sequence[str] = WORKER) -> None:
    """Let a worker do what it does before its first order: create Dagster's storage, fail the runs of the dead.

    Raises:
        ServiceDied: it failed.
    """
    log = settings.data_dir / "log" / "storage.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        worker = start(
            [*command, *arguments], environment=dagster_environment(settings), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        worker.wait()
    finally:
        stop(worker)
    if worker.returncode:
        raise ServiceDied(f"Dagster's storage: a worker ended with code {worker.returncode}; {last_line(log)}")


def _is_free(lock: Path) -> bool:
    with suppress(OSError), lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _start(
    settings: Settings, number: int, command: Sequence[str], environment: Mapping[str, str], messages: Messages
) -> _Worker:
    log = settings.data_dir / "log" / f"backfill-{os.getpid()}-{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = start(command, environment=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 both are pipes
    listener = threading.Thread(target=_listen, args=(number, process.stdout, messages), daemon=True)
    listener.start()
    return _Worker(process, process.stdin, listener, log)


def _end(workers: Sequence[_Worker]) -> None:
    """Interrupt all workers at once; with their orders closed, none waits for another one after its run ended."""
    for worker in workers:
        _close(worker)
    # An exception raised while the garbage collector calls back is ignored, and with it the interrupt it stood for: a
    # worker that is still there soon after is signalled again.
    stop(*(worker.process for worker in workers), patience_s=2.5, grace_s=6)
    for worker in workers:
        worker.listener.join()


def _close(worker: _Worker) -> None:
    with suppress(OSError):  # an order that a dead worker did not take is still in the buffer
        worker.orders.close()


def _listen(number: int, output: IO[bytes], messages: Messages) -> None:
    try:
        with output:
            for line in output:
                messages.put((number, msgspec.json.decode(line)))
    finally:
        messages.put((number, None))


def _order(worker: _Worker, waiting: deque[Work]) -> None:
    """Send the next run; close the worker's stdin, which ends it, when there is none or it takes none."""
    if not waiting:
        _close(worker)
        return
    one = waiting[0]
    order = {
        "run_id": str(uuid.uuid4()),
        "market": str(one.market),
        "first": one.window.start.date().isoformat(),
        "last": max(day.start.date() for day in one.window.days()).isoformat(),
        "resumes": one.resumes,
    }
    try:
        worker.orders.write(msgspec.json.encode(order) + b"\n")
        worker.orders.flush()
    except BrokenPipeError:  # it died while it had nothing to do; the run stays with those that wait
        _close(worker)
        return
    worker.work = waiting.popleft()
