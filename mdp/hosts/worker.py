"""A worker: a process of Celery whose children execute runs, one each at a time.

Not here: what a child does with a task (``execution``), what people type (``cli.hosts``).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import closing, suppress
from typing import Any

from celery import Celery, signals  # type: ignore[import-untyped]  # ships no types
from celery.worker.state import active_requests  # type: ignore[import-untyped]  # ships no types
from dagster import DagsterInstance
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.make_app import make_app
from redis.exceptions import RedisError

from mdp.bus.counted import bring_counts
from mdp.config.settings import Settings, load_settings
from mdp.defs.relaunching import storage_failures
from mdp.errors import ConfigError
from mdp.hosts.execution import execute_task
from mdp.hosts.queueing import OPTIONS, celery_address
from mdp.hosts.signs import Signs
from mdp.hosts.vigil import Patience

STORAGE_S = 5.0
"""Between two questions to a storage of Dagster that is away."""

_BARE_MB = 700
"""What a child may hold beside a market's candles before it is replaced by a new one: 410 MB were measured."""

_log = logging.getLogger(__name__)


def worker_app(settings: Settings) -> Celery:
    """Return Celery's app of a worker: the one task there is, and what a child does first.

    Raises:
        ConfigError: the settings name no queue or no server for Dagster's storage.
    """
    address = celery_address(_broker(settings))
    memory_kb = (_BARE_MB + settings.memory_mb_per_market) * 1_024
    options = {**OPTIONS, "worker_max_memory_per_child": memory_kb}
    app = make_app({"broker": address, "config_source": options})  # type: ignore[no-untyped-call]  # has no types
    app.task(bind=True, name=TASK_EXECUTE_JOB_NAME)(_execute_job)
    signals.setup_logging.connect(_leave_logs_alone, weak=False)
    signals.setup_logging.connect(_leave_logs, weak=False)
    signals.worker_process_init.connect(_load_code, weak=False)
    signals.task_failure.connect(_mourn, weak=False)
    signals.worker_shutting_down.connect(_leave, weak=False)
    return app


def arguments(*, queue: str, name: str, places: int) -> list[str]:
    """Return Celery's arguments of a worker.

    Args:
        queue: Whose tasks it takes.
        name: Before its host's, unlike that of any other worker there.
        places: Runs at a time.
    """
    return [
        "worker", "--queues", queue, "--hostname", f"{name}@%h", "--concurrency", str(places), "--pool", "prefork",
        "--loglevel", "WARNING", "--without-gossip", "--without-mingle",
    ]  # fmt: skip


def _broker(settings: Settings) -> str:
    own = settings.dagster
    if own.instance != "celery":
        raise ConfigError("MDP_DAGSTER__INSTANCE", got=own.instance, expected="celery, for there to be a queue")
    for name, given in (("POSTGRES_URL", own.postgres_url), ("BROKER_URL", own.broker_url)):
        if given is None:
            raise ConfigError(f"MDP_DAGSTER__{name}", got=None, expected="the address of a server, which workers need")
    return str(own.broker_url)


def _leave_logs_alone(**_: Any) -> None:
    """Take the place of Celery's own configuration of logs: there is one already."""


def _leave_logs(**_: Any) -> None:
    """Say by being connected that logs are configured already; Celery would configure them otherwise."""


def _load_code(**_: Any) -> None:
    """Load the definitions in each child before its first run, and not before it is forked.

    A library that has threads of its own, as polars has, does not survive being forked after it began.
    """
    import mdp.definitions

    mdp.definitions.defs()
    bring_counts(load_settings())


def _mourn(task_id: str, **_: Any) -> None:
    """Say that a child died, or could not say how its run ended: that is noticed at once instead of by its silence."""
    signs = Signs(str(load_settings().dagster.broker_url))
    with closing(signs), suppress(RedisError):
        signs.mourn(task_id)


def _leave(**_: Any) -> None:
    """Kill the runs at work when the worker is told to end, and say so: Dagster launches them anew elsewhere.

    Celery would wait for their end, which may be hours, and then be killed itself. An interrupt would fail their steps,
    and failed steps are not tried again. A run that is killed leaves nothing half done.
    """
    for request in list(active_requests):
        if request.worker_pid is not None:
            with suppress(ProcessLookupError):
                os.kill(request.worker_pid, signal.SIGKILL)
            _mourn(request.id)


def _execute_job(task: Any, execute_job_args_packed: Any) -> str:
    """The library's task by its name and its arguments, and the promises of ``execution``."""
    given = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    settings = load_settings()
    who = f"{task.request.hostname} ({os.getpid()})"
    with closing(Signs(str(settings.dagster.broker_url))) as signs, open_instance(given.run_id) as instance:
        patience = Patience(settings.dagster.lost_after_s)
        return execute_task(
            instance, run_id=given.run_id, task_id=task.request.id, who=who, signs=signs, patience=patience
        )


def open_instance(run_id: str) -> DagsterInstance:
    """Open Dagster's instance, however long its storage is away: a task that was taken does not come again.

    Args:
        run_id: What is asked for, to see whether the storage answers.
    """
    while True:
        try:
            instance = DagsterInstance.get()
            instance.get_run_by_id(run_id)
        except storage_failures() as error:
            _log.warning("run %s waits: Dagster's storage does not answer (%s)", run_id, type(error).__name__)
            time.sleep(STORAGE_S)
        else:
            return instance
