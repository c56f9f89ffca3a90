"""The worker processes of a backfill: start them, order runs, hear of each durable partition, end them.

Not here: what a worker does with an order (``worker``), what is ordered and shown (``backfill``).
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from mdp.cli.processes import dagster_environment, start, stop
from mdp.config.settings import Settings
from mdp.domain.interval import Interval
from mdp.domain.market import Market


@dataclass(frozen=True, slots=True)
class Work:
    """One Dagster run: some whole days of one market."""

    market: Market
    window: Interval


@dataclass(frozen=True, slots=True)
class Durable:
    """One partition of one asset has been stored."""

    work: Work
    asset: str
    partition: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended; ``error`` is empty when it succeeded."""

    work: Work
    error: str


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    orders: IO[bytes]
    log: Path
    work: Work | None = None


def run_workers(settings: Settings, work: Sequence[Work]) -> Iterator[Durable | Ended]:
    """Execute all work on as many processes as settings, cores and work allow; yield what happens, as it happens.

    A worker that dies fails its run, not the others. When the caller stops listening all workers are interrupted.
    """
    waiting, messages = deque(work), queue.Queue[tuple[int, dict[str, object] | None]]()
    count = min(settings.workers, os.cpu_count() or 1, len(work))
    workers = [_start(settings, number, messages) for number in range(count)]
    alive = set(range(count))
    try:
        while alive:
            number, message = messages.get()
            worker = workers[number]
            if message is None:
                alive.discard(number)
                if worker.work is not None:
                    yield Ended(worker.work, f"its process died: {_last_line(worker.log)}")
                    worker.work = None
                continue
            if message["kind"] == "durable" and worker.work is not None:
                yield Durable(worker.work, str(message["asset"]), str(message["partition"]))
                continue
            if message["kind"] == "ended" and worker.work is not None:
                yield Ended(worker.work, "" if message["succeeded"] else str(message["error"]))
            worker.work = waiting.popleft() if waiting else None
            _order(worker)
        for left in waiting:
            yield Ended(left, f"no worker was left to run it: {_last_line(workers[0].log)}")
    finally:
        for worker in workers:
            stop(worker.process)


def _start(settings: Settings, number: int, messages: queue.Queue[tuple[int, dict[str, object] | None]]) -> _Worker:
    log = settings.data_dir / "log" / f"backfill-{os.getpid()}-{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = start(
            [sys.executable, "-m", "mdp.cli.worker"],
            environment=dagster_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 both are pipes
    listener = threading.Thread(target=_listen, args=(number, process.stdout, messages), daemon=True)
    listener.start()
    return _Worker(process, process.stdin, log)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'without a word'} ({log})"


def _listen(number: int, output: IO[bytes], messages: queue.Queue[tuple[int, dict[str, object] | None]]) -> None:
    for line in output:
        messages.put((number, msgspec.json.decode(line)))
    messages.put((number, None))


def _order(worker: _Worker) -> None:
    """Send the next run; close the worker's stdin, which ends it, when there is none."""
    if worker.work is None:
        worker.orders.close()
        return
    last = max(day.start.date() for day in worker.work.window.days())
    order = {
        "run_id": str(uuid.uuid4()),
        "market": str(worker.work.market),
        "first": worker.work.window.start.date().isoformat(),
        "last": last.isoformat(),
    }
    worker.orders.write(msgspec.json.encode(order) + b"\n")
    worker.orders.flush()
