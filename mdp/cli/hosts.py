"""``mdp worker``: a process of Celery, with the environment in which Dagster finds this project.

Not here: what it does with a run (``hosts``).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import NoReturn

from mdp.cli.processes import dagster_environment
from mdp.config.settings import PROJECT_ROOT, load_settings
from mdp.defs.cores import yield_to_others
from mdp.errors import InputError
from mdp.logs import configure_logs


def run_worker(*, is_live: bool, name: str | None) -> NoReturn:
    """Become a worker, until it is told to end.

    Args:
        is_live: Take the live run, and nothing else.
        name: Unlike that of any other worker of this host; None: ``work`` or ``live``.

    Raises:
        ConfigError: the settings name no queue or no server for Dagster's storage.
        InputError: ``name`` is no name.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise InputError("name", got=name, expected="letters, digits, dots, _ and -, 64 at most")
    settings = load_settings()
    os.environ.update(dagster_environment(settings))
    configure_logs(settings)
    os.chdir(PROJECT_ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background ignores it

    if not is_live:
        yield_to_others(settings.cpu_share)  # now, so that its children and their libraries count these cores alone
    from mdp.hosts.launcher import LIVE_QUEUE, WORK_QUEUE
    from mdp.hosts.worker import arguments, worker_app

    app = worker_app(settings)
    queue, places, usual = (LIVE_QUEUE, 1, "live") if is_live else (WORK_QUEUE, settings.workers, "work")
    sys.stdout.write(f"worker: {places} at a time, of queue {queue}\n")
    sys.stdout.flush()
    app.worker_main(arguments(queue=queue, name=name or usual, places=places))
    sys.exit(0)
